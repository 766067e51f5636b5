"""How large pictures and latents have to be: `python -m benchmarks.picture_size`, writes ``docs/results/picture-size.md``.

On tasks of contact, for cameras, sizes of the picture and widths of a latent cell: where a probe sees the object in true
pictures, and in the same pictures after an autoencoder. What is lost there no world model brings back. A row of
``docs/results/picture-size.csv`` is made once; the same command continues.
"""

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.cells import Cell, Row, figure, made_on, run_study, study_options, threads
from benchmarks.measuring import table
from benchmarks.prophet_cell import Figures, mean_and_range, settings_of, taught_probe, train_cell
from benchmarks.study_data import TEACHING, TESTING, study_episodes
from learning.episode import Episode
from world_model.measure import measure_autoencoder, true_video
from world_model.probe_figures import probe_figures

TASKS = ("push-v3", "coffee-pull-v3", "soccer-v3")
CAMERAS = ("front", "close")
GRIDS = ((64, 8), (64, 4), (96, 6), (96, 4))  # picture and latent cell [px]
TAUGHT = {"expert": 30, "near": 30, "miss": 30, "careless": 30, "wild": 20, "random": 10}
TESTED = {"expert": 10, "near": 10, "miss": 10, "careless": 20, "wild": 10}
KEYS = ("task", "camera", "picture", "cell", "seed")
UPDATES = 1500
MEASURES = {
    "psnr_moving": "PSNR, moving pixels [dB]",
    "object_true_last": "object, last frame [cm]",
    "object_rebuilt_last": "through the autoencoder",
    "object_true_contact": "after contact [cm]",
    "object_rebuilt_contact": "through the autoencoder",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = study_options("picture_size", __doc__, seeds=1, updates=UPDATES)
    options = parser.parse_args(argv)
    for task in TASKS:  # before the processes begin, for they share them
        for camera in CAMERAS:
            for picture in sorted({picture for picture, _ in GRIDS}):
                _episodes(task, camera, picture, options.work)
    cells: list[Cell] = [
        {"task": task, "camera": camera, "picture": picture, "cell": cell, "seed": seed}
        for seed in range(options.seeds)
        for task in TASKS
        for camera in CAMERAS
        for picture, cell in GRIDS
    ]
    make = partial(run, options.updates, threads(options.jobs), options.work)
    run_study(options, KEYS, cells, make, lambda rows: page(rows, options.updates))
    return 0


def run(updates: int, cores: int, work: Path, cell: Cell) -> Figures:
    """Figures of one autoencoder."""
    task, camera, seed = str(cell["task"]), str(cell["camera"]), int(cell["seed"])
    picture, width = int(cell["picture"]), int(cell["cell"])
    taught, tested = _episodes(task, camera, picture, work)
    settings = [
        f"threads={cores}",
        "world_model.weights=none",
        f"world_model.camera={camera}",
        f"world_model.autoencoder.image_size={picture}",
        f"world_model.autoencoder.patch={width}",
        f"world_model.adapt.autoencoder.steps={updates}",
        "world_model.adapt.prophet.steps=0",
        "world_model.validation_every=0",
    ]
    prophet = train_cell(settings, taught, seed, work / f"{task}-{camera}-{picture}-{width}-{seed}").prophet
    probe = taught_probe(prophet, taught, work / f"{task}-probe")
    true = [true_video(prophet, episode) for episode in tested]
    rebuilt = [prophet.decode(prophet.encode(video)) for video in true]
    read = probe_figures(probe, tested, true, (), rebuilt)
    figures: Figures = {f"{thing}_{name}": value for thing, values in read.items() for name, value in values.items()}
    return figures | {"psnr_moving": measure_autoencoder(prophet, tested)["psnr_moving"]}


def page(rows: Sequence[Row], updates: int) -> Iterable[str]:
    """The lines of the results page."""
    yield "# Size of pictures and latents"
    yield ""
    yield f"Written by `python -m benchmarks.picture_size` on {made_on(rows)}. Autoencoders from nothing, {updates} updates"
    yield f"each, on {sum(TAUGHT.values())} episodes of each task; measured on {sum(TESTED.values())} others. `object`: mean"
    yield "error of the position that a probe reads from true pictures, and from the same pictures after the autoencoder; at"
    yield "the last frame, and over all frames once the object has been moved by 1 cm. A probe is taught for each camera and"
    yield "size of pictures. `cells`: latents of a frame, each a token of Prophet's transformer: what a frame costs."
    for task in dict.fromkeys(row["task"] for row in rows):
        yield ""
        yield f"## {task}"
        yield ""
        yield from table(
            ["camera", "picture [px]", "cells", *MEASURES.values()], _lines([r for r in rows if r["task"] == task])
        )


def _lines(rows: Sequence[Row]) -> Iterable[list[str]]:
    for camera in CAMERAS:
        for picture, width in GRIDS:
            alike = [r for r in rows if (r["camera"], r["picture"], r["cell"]) == (camera, str(picture), str(width))]
            if alike:
                grid = picture // width
                figures = [mean_and_range([figure(row, name) for row in alike]) for name in MEASURES]
                yield [camera, str(picture), f"{grid} x {grid}", *figures]


def _episodes(task: str, camera: str, picture: int, work: Path) -> tuple[list[Episode], list[Episode]]:
    _, spec, _ = settings_of([])
    taught, tested = (
        study_episodes(spec, task, counts, first, work / place, cameras=(camera,), image_size=picture)
        for counts, first, place in ((TAUGHT, TEACHING, "taught"), (TESTED, TESTING, "tested"))
    )
    return taught, tested


if __name__ == "__main__":
    sys.exit(main())
