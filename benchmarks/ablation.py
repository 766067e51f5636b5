"""What each part of Prophet is worth: `python -m benchmarks.ablation`, which writes ``docs/results/ablation.md``.

History, action frames and self-forcing are switched on and off in trainings from nothing on several tasks that the shipped
weights have never seen, together; pretraining by adapting the shipped weights instead. A row of ``docs/results/ablation.csv``
is made once; the same command continues.
"""

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.cells import Cell, Row, figure, made_on, run_study, study_options, threads
from benchmarks.measuring import table
from benchmarks.prophet_cell import Figures, mean_and_range, settings_of, train_cell, video_figures
from benchmarks.study_data import TEACHING, TESTING, study_episodes
from learning.episode import Episode

TASKS = ("push-v3", "coffee-pull-v3", "door-lock-v3")
TAUGHT = {"expert": 15, "near": 15, "miss": 10, "wild": 10}  # of each task
TESTED = {"expert": 4, "near": 4, "miss": 4, "wild": 4}
NOTHING = "world_model.weights=none"
VARIANTS = {
    "as shipped, from nothing": [NOTHING],
    "without history": [NOTHING, "world_model.transformer.history.frames=0"],
    "history by time": [NOTHING, "world_model.transformer.history.chosen_by=time"],
    "without the oldest frame": [NOTHING, "world_model.transformer.origin=false"],
    "without carrying": [NOTHING, "world_model.transformer.transport=0"],
    "without self-forcing": [NOTHING, "world_model.denoiser.self_forcing=0"],
    "with the paper's action frames": [NOTHING, "world_model.transformer.action_frames=true"],
    "with action frames by patches": [NOTHING, "world_model.transformer.action_patches=true"],
    "without the paper's scalar stream": [NOTHING, "world_model.transformer.chunk_stream=false"],
    "without each frame's own actions": [
        NOTHING,
        "world_model.transformer.frame_stream=false",
        "world_model.transformer.pose_condition=false",
    ],
    "without commanded poses": [NOTHING, "world_model.transformer.pose_condition=false"],
    "pretrained": ["world_model.weights=shipped"],
}
KEYS = ("variant", "seed")
STEPS = 600
MEASURES = {
    "psnr_8": "PSNR 8",
    "psnr_25": "PSNR 25",
    "epe_moving_8": "EPE 8",
    "epe_moving_25": "EPE 25",
    "cos_8": "cos 8",
    "cos_25": "cos 25",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = study_options("ablation", __doc__, seeds=2, updates=STEPS)
    options = parser.parse_args(argv)
    _episodes(options.work)  # before the processes begin, for they share them
    cells: list[Cell] = [{"variant": variant, "seed": seed} for seed in range(options.seeds) for variant in VARIANTS]
    make = partial(run, options.updates, threads(options.jobs), options.work)
    run_study(options, KEYS, cells, make, lambda rows: page(rows, options.updates))
    return 0


def run(steps: int, cores: int, work: Path, cell: Cell) -> Figures:
    """Figures of one training."""
    variant, seed = str(cell["variant"]), int(cell["seed"])
    taught, tested = _episodes(work)
    settings = [
        f"threads={cores}",
        f"world_model.adapt.prophet.steps={steps}",
        f"world_model.adapt.autoencoder.steps={steps}",
        "world_model.adapt.lora.rank=0",
        "world_model.validation_every=0",
        *VARIANTS[variant],
    ]
    name = f"{variant}-{seed}".replace("'", "").replace(" ", "-")
    trained = train_cell(settings, taught, seed, work / name, shared_tokenizer=work / f"tokenizer-{seed}")
    return video_figures(trained.prophet, tested, trained.settings.sampler)


def page(rows: Sequence[Row], steps: int) -> Iterable[str]:
    """The lines of the results page."""
    yield "# What each part is worth"
    yield ""
    yield f"Written by `python -m benchmarks.ablation` on {made_on(rows)}. {steps} updates on {sum(TAUGHT.values())} episodes"
    yield f"of each of {', '.join(TASKS)} together, measured on {sum(TESTED.values())} others of each. Means of the seeds,"
    yield "and their range. EPE [px a frame] and cos of the optical flow on moving pixels, of videos imagined from the first"
    yield "frame on, up to 8 and 25 frames; PSNR [dB] of frame 8 and 25."
    yield ""
    yield from table(["", *MEASURES.values()], _lines(rows))


def _lines(rows: Sequence[Row]) -> Iterable[list[str]]:
    for variant in VARIANTS:
        alike = [row for row in rows if row["variant"] == variant]
        if alike:
            yield [variant, *(mean_and_range([figure(row, name) for row in alike]) for name in MEASURES)]


def _episodes(work: Path) -> tuple[list[Episode], list[Episode]]:
    _, spec, _ = settings_of([])
    taught, tested = (
        [e for task in TASKS for e in study_episodes(spec, task, counts, first, work / place)]
        for counts, first, place in ((TAUGHT, TEACHING, "taught"), (TESTED, TESTING, "tested"))
    )
    return taught, tested


if __name__ == "__main__":
    sys.exit(main())
