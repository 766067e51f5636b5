"""What every measurement needs: repetitions that are kept, a description of the machine, tables.

A repetition is one JSON object in ``<folder>/<case>.jsonl``, with the code that made it; it is not made again.
"""

import functools
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from robot_stack.core.statistics import wilson_interval
from robot_stack.stages import code_version

Repetition = dict[str, Any]


class Repetitions:
    """The finished repetitions of one case, on disk.

    Args:
        folder: of the run; made where missing.
        case: its name.
    """

    def __init__(self, folder: Path, case: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{case.replace(' ', '-')}.jsonl"

    def read(self) -> list[Repetition]:
        """Those that are whole; a line that a kill has cut is left out."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text(encoding="utf-8").split("\n"):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def add(self, repetition: Repetition) -> None:
        """Keep one more."""
        whole = "".join(f"{json.dumps(entry)}\n" for entry in [*self.read(), repetition | {"code": code()}])
        unfinished = self._path.with_suffix(".tmp")
        unfinished.write_text(whole, encoding="utf-8")
        unfinished.replace(self._path)


@functools.cache
def code() -> str:
    """Version of the code that runs, for people."""
    return ", ".join(f"{name} {version}" for name, version in code_version().items())


def made_with(folder: Path) -> str:
    """The code that made the repetitions in ``folder``; where it changed meanwhile, how many it made each time."""
    repetitions = [entry for path in sorted(folder.glob("*.jsonl")) for entry in Repetitions(folder, path.stem).read()]
    counts = Counter(entry["code"] for entry in repetitions)
    return next(iter(counts)) if len(counts) == 1 else "; ".join(f"{name}: {count}" for name, count in counts.most_common())


def machine() -> str:
    """Cores, processor, memory and the GPU that torch sees, for people."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = f"{len(os.sched_getaffinity(0))} cores ({_processor()}), {memory:.0f} GiB"
    return ", ".join([cores, *_gpu(), f"Python {platform.python_version()}"])


def load() -> float:
    """Average number of processes that wanted to run in the last minute."""
    return os.getloadavg()[0]


class OtherWork:
    """Share of this machine's cores that processes other than this one and its children have used since it was made."""

    def __init__(self) -> None:
        self._before = _times()

    def share(self) -> float:
        """0 to 1, as far as the system counts it; children that have ended meanwhile count as others."""
        seconds, busy, own = (now - before for now, before in zip(_times(), self._before, strict=True))
        return max(0.0, busy - own) / ((psutil.cpu_count() or 1) * seconds)


def quantile(values: Sequence[float], q: float) -> float:
    """The value that a part ``q`` of ``values`` do not exceed: one that was really measured, never an interpolated one."""
    return float(np.quantile(np.asarray(values, dtype=np.float64), q, method="inverted_cdf"))


def rate(successes: int, count: int) -> str:
    """Successes of a number of trials, with Wilson's 95 % interval of their rate in %."""
    return f"{successes} of {count}, {wilson_interval(successes, count)} %" if count else "none"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """Lines of a table in Markdown."""
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(header)}: {list(row)}")
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def write_page(path: Path, lines: Iterable[str], figures: Mapping[str, Any], beside: Path) -> None:
    """The page, and its figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    beside.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(path)


def _times() -> tuple[float, float, float]:
    """Seconds of the clock, of work on all cores, and of work of this process and its children."""
    cpu, this = psutil.cpu_times(), psutil.Process()
    family = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return time.monotonic(), cpu.user + cpu.nice + cpu.system, sum(times.user + times.system for times in family)


def _gpu() -> list[str]:
    torch = sys.modules.get("torch")  # who did not import it does not use it
    return [torch.cuda.get_device_name()] if torch is not None and torch.cuda.is_available() else []


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    names = [line for line in file.read_text().splitlines() if line.startswith("model name")] if file.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.machine()
