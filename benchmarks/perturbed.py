"""Can imagination be trusted under other actions? `python -m benchmarks.perturbed`, which writes ``docs/results/perturbed.md``.

For each task the shipped world model is adapted and a judge taught, without and with episodes of perturbed actions among the
data. Then actions of the expert from other starts are perturbed and replayed, in the simulator and in imagination: whether the
imagined video follows them, whether the judge sees success where there was none, and whether Prophet knows where it is wrong.
The rows are in ``docs/results/perturbed.csv``; one that is there is not made again, so the same command continues a study.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell, Row, figure, made_on, run_study, study_options, threads
from benchmarks.measuring import table
from benchmarks.prophet_cell import Figures, Trained, flat, settings_of, train_cell
from benchmarks.study_data import TEACHING, TESTING, study_episodes
from learning.episode import Episode
from learning.hydra_entry import build
from robot_stack.core.statistics import Interval
from robot_stack.drivers.perturbations import KINDS, UNCHANGED, perturbed_episodes
from world_model.counterfactual import Verdicts, counterfactual_record, everything, judge_counterfactuals
from world_model.following import FollowingFigures, measure_following
from world_model.judge import JudgeSettings
from world_model.judge_train import train_judge
from world_model.measure import imagined_videos
from world_model.uncertainty import noise_disagreement, rollout_errors, uncertainty_figures

TASKS = ("button-press-topdown-v3", "push-v3", "coffee-pull-v3")
TAUGHT = {"expert": 30, "near": 45, "miss": 45, "far": 20, "wild": 20, "random": 10}
PERTURBED = tuple(kind for kind in KINDS if kind != "replayed")
DATA = {"noisy experts": 0, "and perturbed actions": 20}  # starts whose actions are perturbed for teaching
STARTS = 25  # tested ones
KEYS = ("task", "data", "seed")
WANTED = 0.95  # of the clips closer to their own truth
UPDATES = 600


def main(argv: Sequence[str] | None = None) -> int:
    parser = study_options("perturbed", __doc__, seeds=1, updates=UPDATES)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), help="(default: %(default)s)")
    options = parser.parse_args(argv)
    for task in options.tasks:  # before the processes begin, for they share them
        for starts in DATA.values():
            _taught(task, starts, options.work)
        _tested(task, options.work)
    cells: list[Cell] = [
        {"task": task, "data": name, "seed": seed} for seed in range(options.seeds) for task in options.tasks for name in DATA
    ]
    run_study(
        options,
        KEYS,
        cells,
        partial(run, options.updates, threads(options.jobs), options.work),
        lambda rows: page(rows, options.updates),
    )
    return 0


def run(updates: int, cores: int, work: Path, cell: Cell) -> Figures:
    """All figures of one adapted world model."""
    task, name, seed = str(cell["task"]), str(cell["data"]), int(cell["seed"])
    taught, tested = _taught(task, DATA[name], work), _tested(task, work)
    settings = [
        f"threads={cores}",
        f"world_model.adapt.prophet.steps={updates}",
        "world_model.adapt.lora.rank=0",
        "world_model.validation_every=0",
    ]
    _, _, config = settings_of(settings)
    trained = train_cell(settings, taught, seed, work / f"{task}-{DATA[name]}-{seed}", keep=True)
    followed = measure_following(trained.prophet, tested, trained.settings.sampler)
    return {
        **flat({kind: following_cells(row) for kind, row in followed.items()}, "following_"),
        **_confusions(trained, taught, tested, build(config.reward), seed),
        **_uncertainty(trained, tested, seed),
    }


def page(rows: Sequence[Row], updates: int) -> Iterable[str]:
    """The lines of the results page."""
    more = DATA["and perturbed actions"] * len(PERTURBED)
    yield "# Perturbed actions"
    yield ""
    yield f"Written by `python -m benchmarks.perturbed` on {made_on(rows)}. The shipped world model, adapted with {updates}"
    yield f"updates of all weights to {sum(TAUGHT.values())} episodes of noisy and random experts, and the same with {more}"
    yield f"episodes of perturbed actions more. Measured on {STARTS} other starts: the expert's actions, perturbed, replayed in"
    yield "the simulator and in imagination."
    yield ""
    yield "## Action following"
    yield ""
    yield "Mean PSNR [dB] and end-point error of the flow [px a frame] of the imagined video against the truth of its own"
    yield "actions, and (in brackets) against the truth of the unperturbed ones; `closer`: share of the clips that are closer"
    yield f"to their own truth by both, with Wilson's 95 % interval; {WANTED:.0%} is wanted. Clips whose two truths look alike"
    yield "are left out."
    yield ""
    yield from table(["task", "data", "actions", "clips", "PSNR", "EPE", "EPE moving", "closer [%]"], _following_lines(rows))
    yield ""
    yield "## Counterfactual test"
    yield ""
    yield "True outcomes of perturbed actions against the judge's verdict on the imagined video. `hallucinated`: share of the"
    yield "true failures that look like successes, with Wilson's interval; `control`: the same judge on true video."
    yield ""
    heads = [
        "task",
        "data",
        "actions",
        "success: seen",
        "missed",
        "failure: seen",
        "hallucinated",
        "hallucinated [%]",
        "control",
    ]
    yield from table(heads, _confusion_lines(rows))
    yield ""
    yield "AUC of the judge over all these actions:"
    yield ""
    yield from table(["task", "data", "imagined", "true"], _area_lines(rows))
    yield ""
    yield "## Uncertainty"
    yield ""
    yield "How well the disagreement of two noise draws tells frames with a large true error, over the perturbed and the"
    yield "original actions: AUROC over all frames, and among frames of the same age (errors and scores both grow with time,"
    yield "which alone makes an AUROC above 0.5); 95 % intervals by bootstrap over episodes."
    yield ""
    yield from table(["task", "data", "AUROC", "at the same age", "rank correlation"], _uncertainty_lines(rows))


def following_cells(row: FollowingFigures) -> dict[str, Any]:
    """What a row of the study keeps of one perturbation."""
    kept = ("clips", "psnr", "psnr_other", "epe", "epe_other", "epe_moving", "epe_moving_other")
    figures = {name: value for name, value in asdict(row).items() if name in kept}
    return figures | {"closer": _written(row.closer), "closer_estimate": row.closer and row.closer.estimate}


def _confusions(
    trained: Trained, taught: Sequence[Episode], tested: Sequence[Mapping[str, Episode]], judge: JudgeSettings, seed: int
) -> Figures:
    report = train_judge(trained.prophet, taught, judge, trained.settings.sampler, run=seed, progress=False)
    found = judge_counterfactuals(trained.prophet, report.judge, tested, trained.settings.sampler, run=seed)
    figures: Figures = {f"auc_{k}": v for k, v in next(iter(counterfactual_record({"": found})["auc"].values())).items()}
    for kind, verdicts in {**found, "all": everything({"": found})}.items():
        figures |= flat(confusion_figures(verdicts), f"judged_{kind}_")
    return figures


def confusion_figures(verdicts: Verdicts) -> dict[str, Any]:
    """What a row of the study keeps of the judge's verdicts."""
    return asdict(verdicts.confusion) | {
        "rate": _written(verdicts.confusion.hallucinated_success),
        "control": _written(verdicts.control.hallucinated_success),
    }


def _uncertainty(trained: Trained, tested: Sequence[Mapping[str, Episode]], seed: int) -> Figures:
    episodes = [episode for start in tested for kind, episode in start.items() if kind != "replayed"]
    imagined = imagined_videos(trained.prophet, episodes, trained.settings.sampler)
    scores = noise_disagreement(trained.prophet, episodes, trained.settings.sampler)
    found = uncertainty_figures(scores, rollout_errors(trained.prophet, episodes, imagined), run=seed)
    named = {"auroc": found.auroc, "auroc_within": found.auroc_within, "spearman": found.spearman}
    return {name: f"{value.estimate:.2f} [{value.lower:.2f} to {value.upper:.2f}]" for name, value in named.items()}


def _written(interval: Interval | None) -> str:
    return "-" if interval is None else str(interval)


def _following_lines(rows: Sequence[Row]) -> Iterable[list[str]]:
    for row in rows:
        for kind in PERTURBED:
            start = f"following_{kind}"
            if figure(row, f"{start}_clips") > 0:
                pairs = [
                    f"{figure(row, f'{start}_{name}'):.{digits}f} ({figure(row, f'{start}_{name}_other'):.{digits}f})"
                    for name, digits in (("psnr", 1), ("epe", 2), ("epe_moving", 2))
                ]
                yield [row["task"], row["data"], kind, row[f"{start}_clips"], *pairs, row[f"{start}_closer"]]


def _confusion_lines(rows: Sequence[Row]) -> Iterable[list[str]]:
    for row in rows:
        for kind in (UNCHANGED, *PERTURBED, "all"):
            cells = [row[f"judged_{kind}_{name}"] for name in ("hits", "missed", "failures", "hallucinated", "rate", "control")]
            yield [row["task"], row["data"], kind, *cells]


def _area_lines(rows: Sequence[Row]) -> Iterable[list[str]]:
    for row in rows:
        yield [row["task"], row["data"], f"{figure(row, 'auc_imagined'):.3f}", f"{figure(row, 'auc_true'):.3f}"]


def _uncertainty_lines(rows: Sequence[Row]) -> Iterable[list[str]]:
    for row in rows:
        yield [row["task"], row["data"], row["auroc"], row["auroc_within"], row["spearman"]]


def _taught(task: str, starts: int, work: Path) -> list[Episode]:
    _, spec, _ = settings_of([])
    episodes = study_episodes(spec, task, TAUGHT, TEACHING, work / "taught")
    more = _perturbed(task, range(TEACHING, TEACHING + starts), work / "taught-perturbed") if starts else []
    return episodes + [episode for start in more for kind, episode in start.items() if kind != UNCHANGED]


def _tested(task: str, work: Path) -> list[dict[str, Episode]]:
    return _perturbed(task, range(TESTING, TESTING + STARTS), work / "tested")


def _perturbed(task: str, starts: Sequence[int], folder: Path) -> list[dict[str, Episode]]:
    _, spec, _ = settings_of([])
    return perturbed_episodes(spec, task, PERTURBED, starts, out=folder)


if __name__ == "__main__":
    sys.exit(main())
