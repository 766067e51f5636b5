"""Imagination beside the true simulator: `python -m benchmarks.imagination`, which writes ``docs/results/imagination.md``.

Speed of both with all cores, by environments, by sampling steps and by part; training steps; memory of training and of
imagination, and over one long rollout. What is finished is kept; the same command continues. Let the machine do nothing else:
the page says how much of it others used. `--quick` shows within minutes that everything works; its page is written beside it.
"""

import argparse
import dataclasses
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.imagination_memory import imagining, long_rollout, training
from benchmarks.imagination_page import Found, page
from benchmarks.imagination_speed import sampling, shares, turn
from benchmarks.imagined_world import Subject, World, described, make_world
from benchmarks.measuring import Repetition, Repetitions, code, machine, write_page
from robot_stack.core.errors import ProphRLError

PAGE = "imagination.md"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        repetitions: of everything but the long rollout.
        chunks: environments -> chunks of each way of counting in a turn.
        sampled: environments -> chunks of each number of sampling steps in a turn.
        steps: numbers of sampling steps.
        windows: an update of the training.
        updates: of each kind, in a repetition.
        rolled: environments of the long rollout.
        rollout: its actions; memory is looked at every tenth of them.
    """

    repetitions: int
    chunks: dict[int, int]
    sampled: dict[int, int]
    steps: tuple[int, ...] = (1, 2, 4)
    windows: int = 16
    updates: int = 10
    rolled: int = 16
    rollout: int = 1000


WHOLE = Plan(5, {1: 48, 16: 12, 64: 6}, {16: 12, 64: 6})
QUICK = Plan(1, {1: 2, 3: 2}, {3: 1}, steps=(1, 2), windows=2, updates=1, rolled=2, rollout=100)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imagination", description=__doc__)
    parser.add_argument("--world-model", help='folder of weights, or "shipped" (default: an untrained Prophet of tiny.yaml)')
    parser.add_argument("--task", default="push-v3", help="one that random motion does not solve (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=WHOLE.repetitions, help="(default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="the least that shows that everything works")
    parser.add_argument(
        "--work", type=Path, help="folder of the figures (default: runs/imagination, quick: runs/imagination-quick)"
    )
    parser.add_argument("--out", type=Path, help=f"the page (default: docs/results/{PAGE}; quick: in the work folder)")
    options = parser.parse_args(argv)
    plan = QUICK if options.quick else dataclasses.replace(WHOLE, repetitions=options.repetitions)
    work = options.work or Path("runs/imagination-quick" if options.quick else "runs/imagination")
    out = options.out or (work / PAGE if options.quick else Path("docs/results") / PAGE)
    subject = Subject.made(options.world_model, options.task, work)
    world = make_world(subject)
    told = _one_subject(work, f"{described(world, subject)}; task {options.task}")
    _measure_speed(world, subject, plan)
    _measure_memory(subject, plan)
    found = collect(work, plan)
    figures = {"machine": machine(), "code": code(), "subject": told, **dataclasses.asdict(found)}
    write_page(out, page(work, told, world.settings.denoiser, found), figures, work / "imagination.json")
    return 0


def _measure_speed(world: World, subject: Subject, plan: Plan) -> None:
    """What runs in this process: once it is needed, the simulator stays up beside it, idle while imagination is measured."""
    with ExitStack() as stack:
        simulator = cache(lambda: stack.enter_context(world.simulator(subject.task, max(plan.chunks))))
        for number in tqdm(range(plan.repetitions), desc="speed", unit="repetition"):
            for batch, chunks in plan.chunks.items():
                _once_more(subject, _turns(batch), number, partial(turn, world, simulator, batch, chunks, number))
                _once_more(subject, _parts(batch), number, partial(shares, world, batch, chunks, number))
            for batch, chunks in plan.sampled.items():
                _once_more(subject, _steps(batch), number, partial(sampling, world, batch, plan.steps, chunks, number))


def _measure_memory(subject: Subject, plan: Plan) -> None:
    """What each needs a process of its own."""
    most = max(plan.chunks)
    for number in tqdm(range(plan.repetitions), desc="memory", unit="repetition"):
        _once_more(subject, "training", number, partial(_apart, training, subject, plan.windows, plan.updates))
        _once_more(subject, "imagining", number, partial(_apart, imagining, subject, most, plan.chunks[most]))
    _once_more(subject, "rollout", 0, partial(_apart, long_rollout, subject, plan.rolled, plan.rollout, plan.rollout // 10))


def _once_more(subject: Subject, case: str, number: int, measure: Callable[[], Repetition]) -> None:
    """Keep repetition ``number``, unless there is one."""
    kept = Repetitions(subject.work, case)
    if len(kept.read()) <= number:
        kept.add(measure())


def _apart(measure: Callable[..., Repetition], *arguments: Any) -> Repetition:
    """In a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def collect(work: Path, plan: Plan) -> Found:
    """What was measured."""
    return Found(
        turns={batch: Repetitions(work, _turns(batch)).read() for batch in plan.chunks},
        parts={batch: Repetitions(work, _parts(batch)).read() for batch in plan.chunks},
        sampling={batch: Repetitions(work, _steps(batch)).read() for batch in plan.sampled},
        training=Repetitions(work, "training").read(),
        imagining=Repetitions(work, "imagining").read(),
        rollout=Repetitions(work, "rollout").read(),
        windows=plan.windows,
        rolled=plan.rolled,
    )


def _turns(batch: int) -> str:
    return f"turns {batch}"


def _parts(batch: int) -> str:
    return f"parts {batch}"


def _steps(batch: int) -> str:
    return f"steps {batch}"


def _one_subject(work: Path, told: str) -> str:
    """``told``, kept in ``work``.

    Raises:
        ProphRLError: the folder holds the figures of something else.
    """
    note = work / "subject.txt"
    if note.exists() and (known := note.read_text(encoding="utf-8")) != told:
        raise ProphRLError(f"{work} holds figures of {known}, not of {told}: give another --work, or remove it")
    note.write_text(told, encoding="utf-8")
    return told


if __name__ == "__main__":
    sys.exit(main())
