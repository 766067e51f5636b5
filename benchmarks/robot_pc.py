"""What a robot PC of two cores can do: `python -m benchmarks.robot_pc`, which writes ``docs/results/robot-pc.md``.

Recording at full rate beside the executor, and the time from an observation to a command, ours and LeRobot's. What is finished
is kept; the same command continues. `--minutes` shortens the recording; its page is then written beside it.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import reaction, recording
from benchmarks.measuring import machine, made_with, write_page

MINUTES, REPETITIONS, SECONDS = 10.0, 5, 30.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robot_pc", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of recording (default: %(default)g)")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="of the comparison (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="folder of the runs (default: runs/robot-pc, or runs/robot-pc-<minutes>)")
    parser.add_argument("--out", type=Path, help="the page (default: docs/results/robot-pc.md; shortened, in the work folder)")
    parser.add_argument("--table-only", action="store_true", help="of what is there; run nothing")
    options = parser.parse_args(argv)
    whole = options.minutes >= MINUTES and options.repetitions >= REPETITIONS
    work = options.work or Path("runs/robot-pc" if whole else f"runs/robot-pc-{options.minutes:g}")
    out = options.out or (Path("docs/results/robot-pc.md") if whole else work / "robot-pc.md")
    if not options.table_only:
        work.mkdir(parents=True, exist_ok=True)
        if not _recorded(work).exists():
            outcome = recording.measure(work / "cells" / "recording", options.minutes)
            _recorded(work).write_text(json.dumps(outcome, indent=2), encoding="utf-8")
        reaction.make(work, min(SECONDS, 60 * options.minutes), options.repetitions)
    found = json.loads(_recorded(work).read_text(encoding="utf-8")) if _recorded(work).exists() else None
    figures = {"machine": machine(), "recording": found, "reaction": reaction.figures(work)}
    write_page(out, page(work), figures, work / "robot-pc.json")
    return 0


def page(work: Path) -> Iterable[str]:
    """The lines of the results page."""
    yield "# The robot PC, measured"
    yield ""
    yield f"Written by `python -m benchmarks.robot_pc`. {machine()}."
    if made := made_with(work):
        yield f"Reactions made with {made}."
    if _recorded(work).exists():
        yield ""
        yield "## Recording beside the executor"
        yield ""
        yield from recording.page(json.loads(_recorded(work).read_text(encoding="utf-8")))
    yield ""
    yield "## From an observation to a command"
    yield ""
    yield from reaction.page(work)


def _recorded(work: Path) -> Path:
    return work / "recording.json"


if __name__ == "__main__":
    sys.exit(main())
