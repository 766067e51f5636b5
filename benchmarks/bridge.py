"""A real robot's clips, few of them: `python -m benchmarks.bridge FOLDER`, which writes ``docs/results/bridge.md``.

Cross-validated over the clips: each fold adapts Prophet to most of them, as ``prophrl adapt data=npz_clips`` does, and is
measured on the others. Beside the adapted weights: a video that repeats the first frame, the shipped weights without
adaptation, the same network from nothing, and low-rank changes alone. A row of ``docs/results/bridge.csv`` is made once; the
same command continues.
"""

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.cells import Cell, Row, figure, made_on, run_study, study_options, threads
from benchmarks.measuring import table
from benchmarks.prophet_cell import Figures, settings_of
from learning.data_sources import Dataset
from learning.hydra_entry import load_data
from learning.seeding import generator
from robot_stack.core.statistics import mean_interval
from world_model.acquaintance import acquainted
from world_model.checkpoint import save_prophet
from world_model.measure import clip_figures, imagined_videos, true_video
from world_model.pictures import write_pictures
from world_model.train import beginning, read_weights, train_prophet

ADAPTED, BEFORE, SCRATCH, LORA = "adapted", "not adapted", "from nothing", "adapted, LoRA"
STARTS = (ADAPTED, BEFORE, SCRATCH, LORA)
COPY = "copy"
KEYS = ("fold", "start", "seed", "clip")
MEASURES = {"psnr_last": "PSNR [dB]", "epe_last": "EPE, all pixels", "epe_moving_last": "EPE, moving", "cos_last": "cos"}
FOLDS = 5
RANK = 16


def main(argv: Sequence[str] | None = None) -> int:
    parser = study_options("bridge", __doc__, seeds=2)
    parser.add_argument("folder", type=Path, help="of .npz clips")
    parser.add_argument("--folds", type=int, default=FOLDS, help="(default: %(default)s)")
    options = parser.parse_args(argv)
    cells: list[Cell] = [
        {"fold": fold, "start": start, "seed": seed, "clip": "all"}
        for starts in (STARTS[:3], STARTS[3:])
        for seed in range(options.seeds)
        for fold in range(options.folds)
        for start in starts
    ]
    make = partial(run, options.folder, options.folds, threads(options.jobs), options.work)
    run_study(options, KEYS, cells, make, lambda rows: page(rows, options.folds))
    return 0


def run(folder: Path, folds: int, cores: int, work: Path, cell: Cell) -> Figures:
    """Figures of one fold: means over its held-back clips."""
    fold, start, seed = int(cell["fold"]), str(cell["start"]), int(cell["seed"])
    overrides = [f"data.path={folder}", f"threads={cores}", "data=npz_clips", *settings_for(start)]
    settings, _, config = settings_of(overrides)
    [clips] = load_data(config, settings.transformer.chunk_length + 1)
    taught, tested = divide(clips, folds, fold)
    out = work / f"{start}-{fold}-{seed}".replace(",", "").replace(" ", "-")
    if start == BEFORE:
        prophet, _ = acquainted(read_weights(settings.weights), [taught], settings.camera)
    else:
        nothing = start == SCRATCH
        begin = beginning(settings, [taught], seed, None if nothing else read_weights(settings.weights))
        prophet = train_prophet(
            begin, [taught], settings, settings.adapt, out, run=seed, note="study", from_nothing=nothing, progress=False
        )
        save_prophet(prophet, out)
    imagined = imagined_videos(prophet, tested.episodes, settings.sampler)
    true = [true_video(prophet, episode) for episode in tested.episodes]
    write_pictures(true, imagined, [episode.name for episode in tested.episodes], out / "pictures")
    figures = [clip_figures(t, i, ()) for t, i in zip(true, imagined, strict=True)]
    names = [*MEASURES, *(copy_of(name) for name in MEASURES)]
    means: Figures = {name: float(np.nanmean([clip[name] for clip in figures])) for name in names}
    return means | {"clips": len(figures)}


def settings_for(start: str) -> list[str]:
    """Settings of ``prophrl adapt`` for a kind of training."""
    held = ["world_model.validation_every=0"]
    if start == SCRATCH:
        return [*held, "world_model.weights=none"]
    return [*held, f"world_model.adapt.lora.rank={RANK}"] if start == LORA else held


def divide(clips: Dataset, folds: int, fold: int) -> tuple[Dataset, Dataset]:
    """Clips to adapt to, and those of ``fold`` to measure on; drawn once for all kinds of training."""
    order = generator("bridge folds").permutation(len(clips.episodes))
    held = {int(row) for row in order[fold::folds]}
    parts = [[e for i, e in enumerate(clips.episodes) if (i in held) == inside] for inside in (False, True)]
    taught, tested = (dataclasses.replace(clips, episodes=tuple(part)) for part in parts)
    return taught, tested


def copy_of(name: str) -> str:
    """Name of a figure for the video that repeats the first frame."""
    head, _, label = name.rpartition("_")
    return f"{head}_copy_{label}"


def page(rows: Sequence[Row], folds: int) -> Iterable[str]:
    """The lines of the results page."""
    yield "# A real robot: few clips of BridgeData V2"
    yield ""
    yield f"Written by `python -m benchmarks.bridge <folder>` on {made_on(rows)}. {folds} folds;"
    yield f"trainings of each fold: {len({row['seed'] for row in rows})}. Clips of 10 frames at 5 Hz, imagined from the first"
    yield "frame with their own actions. Means over the folds, with their 95 % interval (t). EPE: end-point error of the"
    yield "optical flow [px a frame]; cos: of both flows on moving pixels, 0 for a prediction without motion."
    yield ""
    yield from table(["", *MEASURES.values()], _lines(rows))
    yield ""
    yield from _verdict(rows)


def fold_means(rows: Sequence[Row], start: str, name: str) -> dict[str, float]:
    """A figure of each fold, the mean over its trainings: trainings on the same clips are not independent."""
    alike = [row for row in rows if row["start"] == (ADAPTED if start == COPY else start)]
    column = copy_of(name) if start == COPY else name
    folds = dict.fromkeys(row["fold"] for row in alike)
    return {fold: float(np.mean([figure(row, column) for row in alike if row["fold"] == fold])) for fold in folds}


def _lines(rows: Sequence[Row]) -> Iterable[list[str]]:
    for start in (COPY, BEFORE, SCRATCH, LORA, ADAPTED):
        yield [start, *(_with_interval(list(fold_means(rows, start, name).values())) for name in MEASURES)]


def _verdict(rows: Sequence[Row]) -> Iterable[str]:
    yield "Adapted, less the others, fold by fold (for EPE less is better):"
    yield ""
    for other in (COPY, BEFORE, SCRATCH):
        texts = []
        for name, title in MEASURES.items():
            ours, theirs = fold_means(rows, ADAPTED, name), fold_means(rows, other, name)
            less = [ours[fold] - theirs[fold] for fold in ours if fold in theirs]
            better = sum(value < 0 if name.startswith("epe") else value > 0 for value in less)
            texts.append(f"{title} {_with_interval(less)}, better in {better} of {len(less)}")
        yield f"- {other}: {'; '.join(texts)}"


def _with_interval(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "-"
    interval = mean_interval(values)
    return f"{interval.estimate:.4g} [{interval.lower:.4g}, {interval.upper:.4g}]"


if __name__ == "__main__":
    sys.exit(main())
