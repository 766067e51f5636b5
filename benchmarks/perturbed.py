"""Can imagination be trusted under other actions? `python -m benchmarks.perturbed`, which writes ``docs/results/perturbed.md``.

For each task the shipped world model is adapted and a judge taught, without and with episodes of perturbed actions among the
data, with these seen from closer, and with more of them for longer. Then actions of the expert from other starts are perturbed
and replayed, in the simulator and in imagination: whether the imagined video follows them, whether the judge sees success where
there was none, and whether Prophet knows where it is wrong.
The rows are in ``docs/results/perturbed.csv``; one that is there is not made again, so the same command continues a study.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
MORE = 20  # starts whose actions are perturbed for teaching
STARTS = 25  # tested ones
KEYS = ("task", "data", "seed")
CLOSER = ("closer_psnr", "closer_epe", "closer")
WANTED = 0.95  # of the clips closer to their own truth
UPDATES = 600


@dataclass(frozen=True)
class Data:
    """What the world model learns from.

    Attributes:
        starts: whose actions are perturbed for teaching.
        cameras: in the simulator; empty: the robot's own.
        updates: of the training, as a multiple of the others'.
    """

    starts: int = 0
    cameras: tuple[str, ...] = ()
    updates: float = 1.0


DATA = {
    "noisy experts": Data(),
    "and perturbed actions": Data(MORE),
    "and perturbed actions, a closer camera": Data(MORE, ("close",)),
    "three times as many, a closer camera, twice as long": Data(3 * MORE, ("close",), updates=2.0),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = study_options("perturbed", __doc__, seeds=1, updates=UPDATES)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), help="(default: %(default)s)")
    options = parser.parse_args(argv)
    for task in options.tasks:  # before the processes begin, for they share them
        for data in DATA.values():
            _episodes(task, data, options.work)
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
    data = DATA[name]
    taught, tested = _episodes(task, data, work)
    settings = [
        f"threads={cores}",
        f"world_model.camera={next(iter(data.cameras), 'null')}",
        f"world_model.adapt.prophet.steps={round(data.updates * updates)}",
        "world_model.adapt.lora.rank=0",
        "world_model.validation_every=0",
    ]
    _, _, config = settings_of(settings)
    place = work / "-".join([task, str(data.starts), *data.cameras, str(seed)])
    trained = train_cell(settings, taught, seed, place, keep=True)
    followed = measure_following(trained.prophet, tested, trained.settings.sampler)
    return {
        **flat({kind: following_cells(row) for kind, row in followed.items()}, "following_"),
        **_confusions(trained, taught, tested, build(config.reward), seed),
        **_uncertainty(trained, tested, seed),
    }


def page(rows: Sequence[Row], updates: int) -> Iterable[str]:
    """The lines of the results page."""
    rows = sorted(rows, key=lambda row: (row["task"], list(DATA).index(row["data"]), row["seed"]))
    more = MORE * len(PERTURBED)
    yield "# Perturbed actions"
    yield ""
    yield f"Written by `python -m benchmarks.perturbed` on {made_on(rows)}. The shipped world model, adapted with {updates}"
    yield f"updates of all weights to {sum(TAUGHT.values())} episodes of noisy and random experts; the same with {more}"
    yield f"episodes of perturbed actions more; these seen by a closer camera; and {3 * more} so, with {2 * updates} updates."
    yield f"Measured on {STARTS} other starts: the expert's actions, perturbed, replayed in the simulator and in imagination."
    yield ""
    yield "## Action following"
    yield ""
    yield "Mean PSNR [dB] and end-point error of the flow [px a frame] of the imagined video against the truth of its own"
    yield "actions, and (in brackets) against the truth of the unperturbed ones; `closer`: share of the clips [%] that are"
    yield f"closer to their own truth, with Wilson's 95 % interval; {WANTED:.0%} is wanted by both. Clips whose two truths look"
    yield "alike are left out."
    yield ""
    heads = ["task", "data", "actions", "clips", "PSNR", "EPE", "EPE moving", "closer by PSNR", "by EPE", "by both"]
    yield from table(heads, _following_lines(rows))
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
    shares = {name: _written(getattr(row, name)) for name in CLOSER}
    return figures | shares | {"closer_estimate": row.closer and row.closer.estimate}


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
                shares = [row[f"{start}_{name}"] for name in CLOSER]
                yield [row["task"], row["data"], kind, row[f"{start}_clips"], *pairs, *shares]


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


def _episodes(task: str, data: Data, work: Path) -> tuple[list[Episode], list[dict[str, Episode]]]:
    """Those that teach and those that are tested, made where they are missing."""
    _, spec, _ = settings_of([])
    taught = study_episodes(spec, task, TAUGHT, TEACHING, work / "taught", cameras=data.cameras)
    if data.starts:
        starts = range(TEACHING, TEACHING + data.starts)
        more = perturbed_episodes(spec, task, PERTURBED, starts, out=work / "taught-perturbed", cameras=data.cameras)
        taught += [episode for start in more for kind, episode in start.items() if kind != UNCHANGED]
    seeds = range(TESTING, TESTING + STARTS)
    return taught, perturbed_episodes(spec, task, PERTURBED, seeds, out=work / "tested", cameras=data.cameras)


if __name__ == "__main__":
    sys.exit(main())
