"""What becomes of the arm in faults: `python -m benchmarks.faults`, which writes ``docs/results/faults.md``.

Real processes, real signals, real time. Finished repetitions are kept; where it was interrupted, the same command continues.
`--quick` makes a few of each and writes its page beside them, as it settles nothing.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import recorder_kills, refusals, seams
from benchmarks.cell import Cell, running_cell
from benchmarks.cell_processes import REFILL, CellSetup
from benchmarks.fault_cases import CASES, Case, Wanted, repeat
from benchmarks.measuring import Repetition, Repetitions, machine, made_with, quantile, rate, table, write_page
from robot_stack.core.errors import ProphRLError

CELLS: Mapping[str, Callable[[Path], CellSetup]] = {
    "policy": CellSetup,
    "frozen film": lambda folder: CellSetup(folder, front="front-freezes"),
    "keyboard": lambda folder: CellSetup(folder, source="keyboard", execution={}, relays=False),
    "clock": lambda folder: CellSetup(folder, relays=False, sim_time=True),
}
QUICK, TRIES = 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} repetitions of each fault")
    parser.add_argument("--repetitions", type=int, help="of each fault, instead of its own number")
    parser.add_argument("--only", default="", help="faults whose name holds this text")
    parser.add_argument("--work", type=Path, help="folder of the repetitions (default: runs/faults, or runs/faults-quick)")
    parser.add_argument("--out", type=Path, help="the page (default: docs/results/faults.md; with --quick in the work folder)")
    parser.add_argument("--table-only", action="store_true", help="of the repetitions that are there; make none")
    options = parser.parse_args(argv)
    work = options.work or Path("runs/faults-quick" if options.quick else "runs/faults")
    out = options.out or (
        work / "faults.md" if options.quick or options.only or options.repetitions else Path("docs/results/faults.md")
    )
    if not options.table_only:
        make(work, options.quick, options.only, options.repetitions)
    write_page(out, page(work), figures(work), work / "faults.json")
    return 0


def make(work: Path, quick: bool, only: str, repetitions: int | None) -> None:
    """Make the repetitions that are missing; ``repetitions`` of each fault, or its own number (None)."""
    cases = [case for case in CASES if only in case.name]
    wanted = {case.name: repetitions or (QUICK if quick else case.repetitions) for case in cases}
    missing = {case.name: max(0, wanted[case.name] - len(Repetitions(work, case.name).read())) for case in cases}
    with tqdm(total=sum(missing.values()), desc="faults", unit="fault", file=sys.stderr) as progress:
        for kind in CELLS:
            todo = [case for case in cases if case.cell == kind and missing[case.name]]
            make_in_cell(CELLS[kind](work / "cells" / kind.replace(" ", "-")), work, todo, wanted, progress)
    for part in (seams, recorder_kills, refusals):
        if only in part.NAME:
            part.make(work, quick)


def make_in_cell(setup: CellSetup, work: Path, cases: Sequence[Case], wanted: Mapping[str, int], progress: Any) -> None:
    """Make what is missing of some cases on one cell; one that does not recover is started anew, which the repetition tells."""
    todo = [(case, n) for case in cases for n in range(len(Repetitions(work, case.name).read()), wanted[case.name])]
    while todo:
        with running_cell(setup) as cell:
            while todo:
                case, number = todo[0]
                progress.set_description(case.name)
                found, alive = tried(case, cell, number)
                Repetitions(work, case.name).add(found)
                todo.pop(0)
                progress.update()
                if not alive:
                    break


def tried(case: Case, cell: Cell, number: int) -> tuple[Repetition, bool]:
    """One repetition, and whether the cell can be used for another."""
    try:
        return repeat(case, cell, number), True
    except ProphRLError as error:
        return {"number": number, "failed": str(error)}, False


def page(work: Path) -> Iterable[str]:
    """The lines of the results page."""
    yield "# Faults, measured"
    yield ""
    yield f"Written by `python -m benchmarks.faults`. {machine()}. Made with {made_with(work)}."
    yield ""
    yield "Robot `sim_arm`: 100 commands a second, joint trajectories, two cameras; every part a process of its own, every"
    yield "fault a real signal or a real message, at a random moment of a motion at about half the velocity limit. The time"
    yield "runs from the fault to the last command on the wire that does not brake (by the publisher's clock); the time until"
    yield "the arm is then told to stand is apart. Rates in % with Wilson 95 % intervals."
    yield ""
    yield "## The arm holds"
    yield ""
    yield from table(
        ("fault", "wanted within, ms", "held in time", "median, ms", "99 %, ms", "longest, ms", "then braking, ms"),
        (hold_row(case, found) for case, found in _found(work, Wanted.HOLD)),
    )
    yield ""
    yield "Policies: what is committed when one dies is the action on its way (50 ms) and the lead of the trajectories (30 ms);"
    yield "100 ms more are allowed. One that infers may do so for as long as the actions last that are executed meanwhile"
    yield f"(refill: {REFILL} actions of 50 ms), and nothing else tells that it hangs. A camera that repeats one picture is"
    yield "judged by its node, which waits as long as a picture may age, and then its last picture ages. A terminal does not"
    yield "say that a key was let go: the deadman's time is added."
    yield ""
    yield "Processes meet over UDP, not in the middleware's shared memory (Fast DDS 2.14): its mutexes outlive a process that"
    yield "was killed while it held one, and each publisher to it then stands still for a second or two. The simulated arm did"
    yield "now and then when the executor was killed, and ended its brake late."
    yield ""
    yield "## Motion goes on, or makes no step"
    yield ""
    yield from table(
        ("fault", "wanted", "as wanted", "largest step, in ticks at full speed"),
        (other_row(case, found) for wanted in (Wanted.MOTION, Wanted.NO_STEP) for case, found in _found(work, wanted)),
    )
    yield ""
    along = [e["along_rad"] for _, found in _found(work, Wanted.NO_STEP) for e in found if "along_rad" in e]
    yield "The step is that of the arm's set point where a trajectory takes over from the one before. A leap of the clock takes"
    yield "the arm's controller along: one ahead brings it to the end of its brake at once, where the executor begins anew."
    if along:
        yield f"It takes the set point along its own trajectory by at most {max(along):.3f} rad: slew clocks, never set them."
    yield ""
    everything = [entry for wanted in Wanted for _, found in _found(work, wanted) for entry in found if "failed" not in entry]
    if everything:
        yield from laws(everything)
    stood = [e["off_rad"] for _, found in _found(work, Wanted.HOLD) for e in found if "off_rad" in e]
    if stood:
        yield f"- Executor killed: the arm stands at most {max(stood):.4f} rad from the end of the brake that was sent last."
    failed = [
        f"{case.name}: {e['failed'].splitlines()[0]}"
        for w in Wanted
        for case, found in _found(work, w)
        for e in found
        if "failed" in e
    ]
    yield f"- Repetitions after which the robot had to be brought up anew: {len(failed)}."
    yield from (f"  - {line}" for line in failed)
    yield ""
    for part in (seams, recorder_kills, refusals):
        yield from part.page(work)


def laws(entries: Sequence[Repetition]) -> Iterable[str]:
    """What has to hold for every command of every repetition."""
    commands = sum(entry["commands"] for entry in entries)
    blind = sum(entry["blind"] for entry in entries)
    fastest, hardest = (max(entry[key] for entry in entries) for key in ("velocity", "acceleration"))
    yield f"In all {len(entries)} repetitions, {commands} commands:"
    yield ""
    yield f"- Commands that moved the arm while an observation had expired: {blind}. Wanted: 0."
    yield f"- Largest velocity of the commanded curve: {100 * fastest:.1f} % of its limit; acceleration: {100 * hardest:.1f} %."


def hold_row(case: Case, found: Sequence[Repetition]) -> tuple[str, ...]:
    times = [entry["hold_ms"] for entry in found if entry.get("rested")]
    braking = [entry["stop_ms"] for entry in found if entry.get("stop_ms") is not None]
    middle, most, longest = (f"{quantile(times, q):.0f}" if times else "never" for q in (0.5, 0.99, 1.0))
    brake = f"{quantile(braking, 0.5):.0f} to {max(braking):.0f}" if braking else ""
    return (case.name, f"{case.wanted_ms:.0f}", rate(sum(map(case.passed, found)), len(found)), middle, most, longest, brake)


def other_row(case: Case, found: Sequence[Repetition]) -> tuple[str, ...]:
    steps = [entry["step"] for entry in found if "step" in entry]
    return (case.name, case.wanted.value, rate(sum(map(case.passed, found)), len(found)), f"{max(steps):.2f}" if steps else "")


def figures(work: Path) -> dict[str, Any]:
    """Everything that was measured."""
    own = {case.name: found for wanted in Wanted for case, found in _found(work, wanted)}
    return {"machine": machine(), "cases": own} | {part.NAME: part.figures(work) for part in (seams, recorder_kills, refusals)}


def _found(work: Path, wanted: Wanted) -> Iterable[tuple[Case, list[Repetition]]]:
    for case in CASES:
        found = Repetitions(work, case.name).read()
        if case.wanted is wanted and found:
            yield case, found


if __name__ == "__main__":
    sys.exit(main())
