"""Whether imagination tells a grasp from a miss: `python -m benchmarks.contact`, which writes ``docs/results/contact.md``.

On tasks of contact, for each remedy: where a probe sees the object in imagined video once it has been touched, and how well a
judge tells success from failure on imagined video, beside true video of the same actions. The remedies build on one another,
from the world model as it was before them. A row of ``docs/results/contact.csv`` is made once; the same command continues.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.cells import Cell, Row, Rows, figure, run_cells, study_options, threads, write_study
from benchmarks.measuring import machine, table
from benchmarks.prophet_cell import (
    Figures,
    contact_figures,
    mean_and_range,
    settings_of,
    taught_probe,
    train_cell,
    video_figures,
)
from benchmarks.study_data import TEACHING, TESTING, study_episodes
from learning.episode import Episode
from learning.hydra_entry import build

TASKS = ("push-v3", "coffee-pull-v3", "soccer-v3")
FEW_MISSES = {"expert": 120, "wild": 120, "random": 10}
NEAR_MISSES = {"expert": 30, "near": 60, "miss": 70, "far": 50, "wild": 30, "random": 10}
TESTED = {"expert": 12, "near": 32, "miss": 36, "far": 20, "wild": 10}
NOTHING = ("world_model.weights=none", "world_model.adapt.lora.rank=0")
COARSE = (
    "world_model.autoencoder.patch=8",
    "world_model.transformer.context_offsets=[-5,-1,0]",
    "world_model.transformer.history.frames=0",
)
FOUR_STEPS = ("world_model.denoiser.pure_noise=0.2", "world_model.sampler.steps=4")
KEYS = ("task", "remedy", "seed")
UPDATES = 1200
WANTED_AUC = 0.85


@dataclass(frozen=True)
class Remedy:
    """How the world model is made.

    Attributes:
        settings: of ``prophrl adapt``.
        counts: episodes that it learns from, by kind.
        camera: where the simulator's camera stands.
        updates: of the training, as a multiple of the others'.
    """

    settings: tuple[str, ...]
    counts: Mapping[str, int]
    camera: str = "front"
    updates: float = 1.0


REMEDIES = {
    "before": Remedy((*NOTHING, *COARSE), FEW_MISSES),
    "near misses in the data": Remedy((*NOTHING, *COARSE), NEAR_MISSES),
    "finer latents, history": Remedy(NOTHING, NEAR_MISSES),
    "weight on what changes": Remedy((*NOTHING, "world_model.denoiser.change_weight=8"), NEAR_MISSES),
    "four sampling steps": Remedy(
        (*NOTHING, "world_model.denoiser.pure_noise=0.2", "world_model.sampler.steps=4"), NEAR_MISSES
    ),
    "closer camera": Remedy(NOTHING, NEAR_MISSES, camera="close"),
    "twice as long": Remedy(NOTHING, NEAR_MISSES, updates=2.0),
    "pretrained": Remedy(("world_model.weights=shipped", "world_model.adapt.lora.rank=0"), NEAR_MISSES),
}
MEASURES = {
    "psnr_25": "PSNR 25",
    "psnr_copy_25": "(copy)",
    "object_imagined_contact_cm": "object [cm]",
    "object_true_contact_cm": "(probe itself)",
    "auc_imagined": "AUC imagined",
    "auc_true": "AUC true",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = study_options("contact", __doc__, seeds=1, updates=UPDATES)
    parser.add_argument("--only", nargs="*", choices=list(REMEDIES), help="remedies (default: all)")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), help="(default: %(default)s)")
    options = parser.parse_args(argv)
    rows = Rows(options.out.with_suffix(".csv"), KEYS)
    chosen = options.only or list(REMEDIES)
    for task in options.tasks:  # before the processes begin, for they share them
        for remedy in chosen:
            _episodes(task, REMEDIES[remedy], options.work)
    cells: list[Cell] = [
        {"task": task, "remedy": remedy, "seed": seed}
        for seed in range(options.seeds)
        for remedy in chosen
        for task in options.tasks
    ]
    make = partial(run, options.updates, threads(options.jobs), options.work)
    run_cells(cells, rows, make, options.jobs, "contact")
    write_study(options.out, page(rows.read(), options.updates))
    return 0


def run(updates: int, cores: int, work: Path, cell: Cell) -> Figures:
    """Figures of one remedy on one task."""
    task, name, seed = str(cell["task"]), str(cell["remedy"]), int(cell["seed"])
    remedy = REMEDIES[name]
    taught, tested = _episodes(task, remedy, work)
    steps = round(remedy.updates * updates)
    settings = [
        f"threads={cores}",
        f"world_model.camera={remedy.camera}",
        f"world_model.adapt.prophet.steps={steps}",
        f"world_model.adapt.autoencoder.steps={steps}",
        "world_model.validation_every=0",
        *remedy.settings,
    ]
    _, _, config = settings_of(settings)
    trained = train_cell(settings, taught, seed, work / f"{task}-{name}-{seed}".replace(",", "").replace(" ", "-"), keep=True)
    near, _ = _episodes(task, Remedy((), NEAR_MISSES, remedy.camera), work)
    probe = taught_probe(trained.prophet, near, work / f"{task}-probe")
    figures = video_figures(trained.prophet, tested, trained.settings.sampler)
    return figures | contact_figures(trained, near, tested, probe, build(config.reward), seed)


def page(rows: Sequence[Row], updates: int) -> Iterable[str]:
    """The lines of the results page."""
    yield "# Contact"
    yield ""
    yield f"Written by `python -m benchmarks.contact` on {machine()}."
    yield f"{updates} updates each, from nothing unless said, on {sum(NEAR_MISSES.values())} episodes of each task;"
    yield f"measured on {sum(TESTED.values())} others. `object`: mean error of the position that a probe reads from"
    yield "imagined frames once the object has been moved by 1 cm (in brackets: from true frames). `AUC`: how well a judge,"
    yield "taught on true and imagined video of the training episodes, tells success from failure on imagined and on true"
    yield f"video of the same actions; {WANTED_AUC} is wanted on imagined video. Judge and probe have the same data for"
    yield "every remedy."
    for task in dict.fromkeys(row["task"] for row in rows):
        alike = [row for row in rows if row["task"] == task]
        successes = {row["successes"] for row in alike}
        yield ""
        yield f"## {task}"
        yield ""
        yield f"{', '.join(sorted(successes))} of {sum(TESTED.values())} test episodes succeed."
        yield ""
        yield from table(["", *MEASURES.values()], _lines(alike))


def _lines(rows: Sequence[Row]) -> Iterable[list[str]]:
    for remedy in REMEDIES:
        alike = [row for row in rows if row["remedy"] == remedy]
        if alike:
            yield [remedy, *(mean_and_range([figure(row, name) for row in alike]) for name in MEASURES)]


def _episodes(task: str, remedy: Remedy, work: Path) -> tuple[list[Episode], list[Episode]]:
    """Taught and tested episodes, seen by the remedy's camera."""
    _, spec, _ = settings_of([])
    taught, tested = (
        study_episodes(spec, task, counts, first, work / place, cameras=(remedy.camera,))
        for counts, first, place in ((remedy.counts, TEACHING, "taught"), (TESTED, TESTING, "tested"))
    )
    return taught, tested


if __name__ == "__main__":
    sys.exit(main())
