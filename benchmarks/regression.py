"""Diffusion or regression: `python -m benchmarks.regression`, which writes ``docs/results/regression.md``.

The same network for the same number of updates: once as a regression (it only ever sees pure noise, draws in one step, and aims
at the likeliest), once as a diffusion model that draws in 1, 2 or 4 steps and, as its sampler wants it, aims at the mean,
predicting clean frames or the velocity; on tasks of smooth motion and on tasks of contact. A row of
``docs/results/regression.csv`` is made once; the same command continues.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.cells import Cell, Row, figure, made_on, run_study, study_options, threads
from benchmarks.measuring import table
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
from world_model.judge_train import train_judge

SMOOTH, CONTACT = ("window-open-v3", "drawer-close-v3"), ("push-v3", "coffee-pull-v3")
TAUGHT = {"expert": 30, "near": 30, "miss": 30, "wild": 10, "blind": 60}
TESTED = {"expert": 10, "near": 15, "miss": 15, "blind": 40}
STEPS = (1, 2, 4)
DIFFUSION = ("world_model.denoiser.pure_noise=0.2", "world_model.denoiser.error_power=2")
FAMILIES = {
    "regression": ["world_model.denoiser.pure_noise=1.0"],
    "diffusion, clean": [*DIFFUSION, "world_model.transformer.spread=0.1"],  # most of a picture stays as it is
    "diffusion, velocity": [
        *DIFFUSION,
        "world_model.transformer.prediction=velocity",
        "world_model.transformer.anchor=false",
        "world_model.transformer.spread=0",
        "world_model.transformer.transport=0",
    ],
}
KEYS = ("task", "family", "steps", "seed")
UPDATES = 600
MEASURES = {
    "psnr_25": "PSNR 25",
    "epe_moving_25": "EPE 25",
    "cos_25": "cos 25",
    "object_imagined_contact_cm": "object [cm]",
    "object_true_contact_cm": "(probe itself)",
    "auc_imagined": "AUC imagined",
    "auc_true": "AUC true",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = study_options("regression", __doc__, seeds=1, updates=UPDATES)
    options = parser.parse_args(argv)
    for task in (*SMOOTH, *CONTACT):  # before the processes begin, for they share them
        _episodes(task, options.work)
    cells: list[Cell] = [
        {"task": task, "family": family, "steps": steps, "seed": seed}
        for seed in range(options.seeds)
        for steps in STEPS  # outside: rows that share a training would wait for each other
        for task in (*SMOOTH, *CONTACT)
        for family in FAMILIES
        if family != "regression" or steps == 1
    ]
    make = partial(run, options.updates, threads(options.jobs), options.work)
    run_study(options, KEYS, cells, make, lambda rows: page(rows, options.updates))
    return 0


def run(updates: int, cores: int, work: Path, cell: Cell) -> Figures:
    """Figures of one family with one number of steps; the training of a family is made once."""
    task, family, steps, seed = str(cell["task"]), str(cell["family"]), int(cell["steps"]), int(cell["seed"])
    taught, tested = _episodes(task, work)
    settings = [
        f"threads={cores}",
        "world_model.weights=none",
        "world_model.adapt.lora.rank=0",
        f"world_model.adapt.prophet.steps={updates}",
        f"world_model.adapt.autoencoder.steps={updates}",
        "world_model.validation_every=0",
        "reward.validation_every=0",  # no threshold is needed
        *FAMILIES[family],
    ]
    name = f"{task}-{family}-{seed}".replace(",", "").replace(" ", "-")
    trained = train_cell(settings, taught, seed, work / name, shared_tokenizer=work / f"{task}-tokenizer-{seed}")
    trained = replace(trained, settings=replace(trained.settings, sampler=replace(trained.settings.sampler, steps=steps)))
    _, _, config = settings_of(settings)
    probe = taught_probe(trained.prophet, taught, work / f"{task}-probe")
    figures = video_figures(trained.prophet, tested, trained.settings.sampler)
    report = train_judge(trained.prophet, taught, build(config.reward), trained.settings.sampler, run=seed, progress=False)
    return figures | contact_figures(trained, report.judge, tested, probe, seed)


def page(rows: Sequence[Row], updates: int) -> Iterable[str]:
    """The lines of the results page."""
    yield "# Diffusion or regression"
    yield ""
    yield f"Written by `python -m benchmarks.regression` on {made_on(rows)}. {updates} updates each, the same network. Videos"
    yield "imagined from the first frame on; EPE [px a frame] and cos on moving pixels; where a probe sees the object after"
    yield "it was touched; and how well a judge tells success on imagined and on true video of the same actions."
    for kind, tasks in (("Smooth motion", SMOOTH), ("Contact", CONTACT)):
        yield ""
        yield f"## {kind}"
        yield ""
        yield from table(["task", "", "steps", *MEASURES.values()], _lines(rows, tasks))


def _lines(rows: Sequence[Row], tasks: Sequence[str]) -> Iterable[list[str]]:
    for task in tasks:
        for family in FAMILIES:
            for steps in STEPS:
                alike = [r for r in rows if (r["task"], r["family"], r["steps"]) == (task, family, str(steps))]
                if alike:
                    yield [task, family, str(steps), *(mean_and_range([figure(r, name) for r in alike]) for name in MEASURES)]


def _episodes(task: str, work: Path) -> tuple[list[Episode], list[Episode]]:
    _, spec, _ = settings_of([])
    return (
        study_episodes(spec, task, TAUGHT, TEACHING, work / "taught"),
        study_episodes(spec, task, TESTED, TESTING, work / "tested"),
    )


if __name__ == "__main__":
    sys.exit(main())
