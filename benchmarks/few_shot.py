"""How many episodes Prophet needs of a new task: `python -m benchmarks.few_shot`, which writes ``docs/results/few-shot.md``.

On tasks that the shipped weights have never seen, from 5 to 50 episodes: the shipped weights adapted by low-rank changes
(LoRA), or by all weights, and the same network from nothing; measured on other episodes of the task. A row of
``docs/results/few-shot.csv`` is made once; the same command continues.
"""

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.cells import Cell, Row, figure, made_on, run_study, study_options, threads
from benchmarks.measuring import table
from benchmarks.prophet_cell import Figures, mean_and_range, settings_of, train_cell, video_figures
from benchmarks.study_data import TEACHING, TESTING, mixed, study_episodes
from learning.episode import Episode

TASKS = ("push-v3", "coffee-pull-v3", "door-lock-v3")
SIZES = (5, 10, 25, 50)
LORA, FULL, SCRATCH, LONG = "pretrained, LoRA", "pretrained, all weights", "from nothing", "from nothing, four times as long"
FULL_TASK = TASKS[0]  # all weights, and the long training, on this one only
KEYS = ("task", "episodes", "start", "seed")
TAUGHT = {"expert": 20, "near": 15, "miss": 10, "wild": 5}
TESTED = {"expert": 6, "near": 6, "miss": 4, "wild": 4}
STEPS = 400
MEASURES = {
    "epe_moving_8": "EPE 8",
    "epe_moving_25": "EPE 25",
    "cos_8": "cos 8",
    "cos_25": "cos 25",
    "psnr_8": "PSNR 8",
    "psnr_25": "PSNR 25",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = study_options("few_shot", __doc__, seeds=2, updates=STEPS)
    options = parser.parse_args(argv)
    for task in TASKS:  # before the processes begin, for they share them
        _episodes(task, options.work)
    make = partial(run, options.updates, threads(options.jobs), options.work)

    def publish(rows: Sequence[Row]) -> Iterable[str]:
        draw(rows, options.out.with_suffix(".png"))
        return page(rows, options.updates)

    run_study(options, KEYS, cells(options.seeds), make, publish)
    return 0


def cells(seeds: int) -> list[Cell]:
    """All trainings of the study."""
    chosen: list[Cell] = []
    for seed in range(seeds):
        for size in SIZES:
            starts = {task: [LORA, SCRATCH] for task in TASKS}
            starts[FULL_TASK] += [FULL, *([LONG] if size == max(SIZES) else [])]
            chosen += [
                {"task": task, "episodes": size, "start": start, "seed": seed} for task in TASKS for start in starts[task]
            ]
    return chosen


def run(steps: int, cores: int, work: Path, cell: Cell) -> Figures:
    """Figures of one training."""
    task, size, start, seed = str(cell["task"]), int(cell["episodes"]), str(cell["start"]), int(cell["seed"])
    taught, tested = _episodes(task, work)
    name = f"{task}-{size}-{start}-{seed}".replace(",", "").replace(" ", "-")
    trained = train_cell(overrides(start, steps, cores), mixed(taught, size, seed), seed, work / name)
    return video_figures(trained.prophet, tested, trained.settings.sampler)


def overrides(start: str, steps: int, cores: int) -> list[str]:
    """Settings of ``prophrl adapt`` for one kind of training."""
    length = 4 * steps if start == LONG else steps
    common = [f"threads={cores}", f"world_model.adapt.prophet.steps={length}", "world_model.validation_every=0"]
    if start in (SCRATCH, LONG):
        return [*common, "world_model.weights=none", f"world_model.adapt.autoencoder.steps={length}"]
    return [*common, f"world_model.adapt.lora.rank={16 if start == LORA else 0}"]


def page(rows: Sequence[Row], steps: int) -> Iterable[str]:
    """The lines of the results page."""
    yield "# Few episodes of a new task"
    yield ""
    yield f"Written by `python -m benchmarks.few_shot` on {made_on(rows)}."
    yield f'Each training has {steps} updates; "{LONG}" four times as many. Means of the seeds, and their range.'
    yield "EPE (end-point error of the optical flow, pixels a frame) and cos (cosine of both flows; 0 where nothing"
    yield "moves) on moving pixels, of videos imagined from the first frame on, up to 8 and 25 frames; PSNR [dB] of"
    yield "frame 8 and 25. `copy` repeats the first frame."
    yield ""
    yield "![EPE on moving pixels over the number of episodes](few-shot.png)"
    for task in dict.fromkeys(row["task"] for row in rows):
        yield ""
        yield f"## {task}"
        yield ""
        yield from table(["episodes", "start", *MEASURES.values()], _lines([row for row in rows if row["task"] == task]))
    yield ""
    yield from verdicts(rows)


def verdicts(rows: Sequence[Row]) -> Iterable[str]:
    """Whether ten episodes with pretraining beat fifty without."""
    yield f"Ten episodes with pretraining (LoRA) against fifty from nothing, {', '.join(MEASURES.values())}:"
    yield ""
    for task in dict.fromkeys(row["task"] for row in rows):
        few, many = (_mean(rows, task, size, start) for size, start in ((10, LORA), (50, SCRATCH)))
        if any(np.isnan(list(means.values())).any() for means in (few, many)):
            yield f"- {task}: not measured yet"
            continue
        better = [MEASURES[name] for name in MEASURES if _is_better(name, few[name], many[name])]
        worse = [MEASURES[name] for name in MEASURES if _is_better(name, many[name], few[name])]
        yield f"- {task}: better in {', '.join(better) or 'nothing'}; worse in {', '.join(worse) or 'nothing'}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """EPE on moving pixels at 25 frames over the number of episodes, a panel for each task."""
    import matplotlib  # only the extra "bench" brings it

    matplotlib.use("agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    canvas, panels = pyplot.subplots(1, max(1, len(tasks)), figsize=(4 * max(1, len(tasks)), 3.2), sharey=True, squeeze=False)
    for panel, task in zip(panels[0], tasks, strict=False):
        for start in (LORA, FULL, SCRATCH):
            points = [(size, _mean(rows, task, size, start)["epe_moving_25"]) for size in SIZES]
            panel.plot(*zip(*points, strict=True), marker="o", label=start)
        panel.set(title=task, xlabel="episodes", xscale="log", xticks=SIZES, xticklabels=SIZES)
    panels[0][0].set_ylabel("EPE, moving pixels, 25 frames [px]")
    if tasks:
        panels[0][0].legend()
    canvas.tight_layout()
    canvas.savefig(path, dpi=110)
    pyplot.close(canvas)


def _episodes(task: str, work: Path) -> tuple[list[Episode], list[Episode]]:
    _, spec, _ = settings_of([])
    return (
        study_episodes(spec, task, TAUGHT, TEACHING, work / "taught"),
        study_episodes(spec, task, TESTED, TESTING, work / "tested"),
    )


def _lines(rows: Sequence[Row]) -> Iterable[list[str]]:
    for size in SIZES:
        for start in (LORA, FULL, SCRATCH, LONG):
            alike = [row for row in rows if row["episodes"] == str(size) and row["start"] == start]
            if alike:
                yield [str(size), start, *(mean_and_range([figure(row, name) for row in alike]) for name in MEASURES)]
    if rows:
        copies = [f"{name.rsplit('_', 1)[0]}_copy_{name.rsplit('_', 1)[1]}" for name in MEASURES]
        yield ["-", "copy", *(mean_and_range([figure(rows[0], name)]) for name in copies)]


def _mean(rows: Sequence[Row], task: str, size: int, start: str) -> dict[str, float]:
    alike = [r for r in rows if (r["task"], r["episodes"], r["start"]) == (task, str(size), start)]
    return {name: sum(figure(row, name) for row in alike) / len(alike) if alike else float("nan") for name in MEASURES}


def _is_better(name: str, first: float, second: float) -> bool:
    return first < second if name.startswith("epe") else first > second


if __name__ == "__main__":
    sys.exit(main())
