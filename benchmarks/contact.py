"""Whether imagination tells a grasp from a miss: `python -m benchmarks.contact`, which writes ``docs/results/contact.md``.

On tasks of contact, for each remedy: where a probe sees the object in imagined video once it has been touched, and how well a
judge tells success from failure on imagined video, beside true video of the same actions. A row of
``docs/results/contact.csv`` is made once; the same command continues.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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

TASKS = ("push-v3", "coffee-pull-v3", "soccer-v3")
FEW_MISSES = {"expert": 180, "wild": 170, "random": 10}
NEAR_MISSES = {"expert": 60, "near": 70, "miss": 80, "careless": 90, "wild": 50, "random": 10}
BLIND = {"expert": 30, "near": 25, "miss": 30, "careless": 45, "wild": 20, "random": 10, "blind": 200}
MORE_BLIND = {**BLIND, "blind": 600}
SEEING = {"expert": 10, "near": 25, "miss": 25, "careless": 30, "wild": 10}
TESTED = {"seeing": SEEING, "blind": {"blind": 100}}
COARSE = (
    "world_model.autoencoder.patch=8",
    "world_model.transformer.context_offsets=[-5,-1,0]",
    "world_model.transformer.history.frames=0",
    "world_model.transformer.origin=false",
    "world_model.transformer.transport=0",
)
NOTHING = ("world_model.weights=none",)
PRETRAINED = ("world_model.weights=shipped",)
KEYS = ("task", "remedy", "seed")
UPDATES = 600
WANTED_AUC = 0.85


@dataclass(frozen=True)
class Remedy:
    """How the world model is made.

    Attributes:
        settings: of ``prophrl adapt``.
        counts: episodes that it learns from, by kind.
        camera: where the simulator's camera stands.
        updates: of the transformer's training, as a multiple of the others'.
    """

    settings: tuple[str, ...]
    counts: Mapping[str, int]
    camera: str = "front"
    updates: float = 1.0

    @property
    def tokenizer(self) -> str:
        """What its training depends on: remedies that share it share the tokenizer."""
        begin = [value.split("=")[1] for value in self.settings if "weights" in value or "autoencoder" in value]
        return "-".join([*begin, self.camera, *(f"{kind}{count}" for kind, count in self.counts.items())])


REMEDIES = {
    "before": Remedy((*NOTHING, *COARSE), FEW_MISSES),
    "near misses in the data": Remedy((*NOTHING, *COARSE), NEAR_MISSES),
    "finer latents, history": Remedy(NOTHING, NEAR_MISSES),
    "pretrained": Remedy(PRETRAINED, NEAR_MISSES),
    "blind replays": Remedy(PRETRAINED, BLIND),
    "blind replays, weight on what changes": Remedy((*PRETRAINED, "world_model.denoiser.change_weight=8"), BLIND),
    "blind replays, a closer camera": Remedy(PRETRAINED, BLIND, camera="close"),
    "blind replays, a closer camera, action frames by patches": Remedy(
        (*PRETRAINED, "world_model.transformer.action_patches=true"), BLIND, camera="close"
    ),
    "blind replays, a closer camera, twice as long": Remedy(PRETRAINED, BLIND, camera="close", updates=2.0),
    "three times as many blind replays, a closer camera, twice as long": Remedy(
        PRETRAINED, MORE_BLIND, camera="close", updates=2.0
    ),
}
MEASURES = {
    "psnr_25": "PSNR 25",
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
    run_study(options, KEYS, cells, make, lambda rows: page(rows, options.updates))
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
        f"world_model.adapt.autoencoder.steps={updates}",
        "world_model.adapt.lora.rank=0",
        "world_model.validation_every=0",
        "reward.validation_every=0",  # no threshold is needed
        *remedy.settings,
    ]
    _, _, config = settings_of(settings)
    place = work / f"{task}-{name}-{seed}".replace(",", "").replace(" ", "-")
    trained = train_cell(
        settings, taught, seed, place, keep=True, shared_tokenizer=work / f"{task}-tokenizer-{remedy.tokenizer}-{seed}"
    )
    teaching, _ = _episodes(task, Remedy((), BLIND, remedy.camera), work)
    probe = taught_probe(trained.prophet, teaching, work / f"{task}-probe")
    judge = train_judge(
        trained.prophet, teaching, build(config.reward), trained.settings.sampler, run=seed, progress=False
    ).judge
    figures: Figures = {}
    for kind, episodes in tested.items():
        found = video_figures(trained.prophet, episodes, trained.settings.sampler)
        found |= contact_figures(trained, judge, episodes, probe, seed)
        figures |= {f"{kind}_{name}": value for name, value in found.items()}
    return figures


def page(rows: Sequence[Row], updates: int) -> Iterable[str]:
    """The lines of the results page."""
    yield "# Contact"
    yield ""
    yield f"Written by `python -m benchmarks.contact` on {made_on(rows)}."
    yield f"{updates} updates each of all weights, on {sum(BLIND.values())} episodes of each task; where the remedy"
    yield f"says so, twice as many, and on {sum(MORE_BLIND.values())}; measured on"
    yield f"{len(TESTED)} times {sum(SEEING.values())} others. `seeing`: whoever acts sees what happens, and his actions"
    yield "betray the outcome: after a missed grasp the hand goes back. `blind`: a rehearsed motion, repeated beside its place;"
    yield "whether the object came along has to be read from the picture. `object`: mean error of the position that a probe"
    yield "reads from imagined frames once the object has been moved by 1 cm (in brackets: from true frames). `AUC`: how well a"
    yield "judge, taught on true and imagined video, tells success from failure on imagined and on true video of the same"
    yield f"actions; {WANTED_AUC} is wanted on imagined video. Judge and probe learn from the same episodes for every remedy."
    for task in dict.fromkeys(row["task"] for row in rows):
        alike = [row for row in rows if row["task"] == task]
        for kind, counts in TESTED.items():
            successes = ", ".join(sorted({row[f"{kind}_successes"] for row in alike}))
            yield ""
            yield f"## {task}, {kind}"
            yield ""
            yield f"{successes} of {sum(counts.values())} test episodes succeed."
            yield ""
            yield from table(["", *MEASURES.values()], _lines(alike, kind))


def _lines(rows: Sequence[Row], kind: str) -> Iterable[list[str]]:
    for remedy in REMEDIES:
        alike = [row for row in rows if row["remedy"] == remedy]
        if alike:
            yield [remedy, *(mean_and_range([figure(row, f"{kind}_{name}") for row in alike]) for name in MEASURES)]


def _episodes(task: str, remedy: Remedy, work: Path) -> tuple[list[Episode], dict[str, list[Episode]]]:
    """Taught episodes and tested ones by kind, seen by the remedy's camera."""
    _, spec, _ = settings_of([])
    cameras = (remedy.camera,)
    taught = study_episodes(spec, task, remedy.counts, TEACHING, work / "taught", cameras=cameras)
    tested = {
        kind: study_episodes(spec, task, counts, TESTING, work / "tested", cameras=cameras) for kind, counts in TESTED.items()
    }
    return taught, tested


if __name__ == "__main__":
    sys.exit(main())
