"""Studies of many trainings: a row of a CSV file for each, made once; whoever interrupts goes on with the same command.

A cell is what a row is about: names and numbers that tell it from the others. Figures and the code that made them stand beside.
"""

import argparse
import csv
import fcntl
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.measuring import code
from robot_stack.core.errors import BadFileError

CODE = "code"
DIGITS = 5  # of figures in the file
Cell = Mapping[str, str | int]
Row = dict[str, str]


class Rows:
    """The finished rows of a study.

    Args:
        path: of the CSV file; made with the first row.
        keys: columns that name a cell.
    """

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self._path, self._keys = path, tuple(keys)

    def read(self) -> list[Row]:
        """All rows.

        Raises:
            BadFileError: the file is of another study.
        """
        if not self._path.exists():
            return []
        with self._path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if missing := set(self._keys) - set(reader.fieldnames or ()):
                raise BadFileError(self._path, f"has no column {min(missing)!r}; expected {', '.join(self._keys)} and figures")
            return list(reader)

    def done(self, cell: Cell) -> bool:
        """Whether there is a row of ``cell``."""
        return any(all(row[key] == str(cell[key]) for key in self._keys) for row in self.read())

    def add(self, cell: Cell, figures: Mapping[str, float | str | None]) -> None:
        """Append a row, whole or not at all; columns that are new are added to the others, empty."""
        with self._locked():
            rows = self.read()
            row = {key: str(cell[key]) for key in self._keys}
            rows.append(row | {name: _text(value) for name, value in figures.items()} | {CODE: code()})
            columns = list(dict.fromkeys([*self._keys, *(name for r in rows for name in r if name != CODE), CODE]))
            unfinished = self._path.with_suffix(".tmp")
            with unfinished.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            unfinished.replace(self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        self._path.with_suffix(".lock").unlink(missing_ok=True)


def run_cells(
    cells: Sequence[Cell], rows: Rows, run: Callable[[Cell], Mapping[str, float | str | None]], jobs: int, title: str
) -> None:
    """Make the rows that are missing, ``jobs`` at a time, each in a process of its own with its share of the cores.

    Args:
        run: makes the figures of a cell; importable by name.

    Raises:
        BaseExceptionGroup: what went wrong with some of them, which each error names; the others were made.
    """
    errors = []
    missing = [cell for cell in cells if not rows.done(cell)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run, cell): cell for cell in missing}
        for future in tqdm(as_completed(futures), desc=title, unit="row", total=len(futures)):
            if error := future.exception():
                error.add_note(f"in the row of {dict(futures[future])}")
                errors.append(error)
            else:
                rows.add(futures[future], future.result())
    if errors:
        raise BaseExceptionGroup(f"{title}: {len(errors)} of {len(missing)} rows failed", errors)


def study_options(name: str, about: str | None, seeds: int, updates: int | None = None) -> argparse.ArgumentParser:
    """The command line that all studies share.

    Args:
        name: of the module in ``benchmarks``.
        about: what it is, for ``--help``.
        seeds, updates: defaults; None: the study has no updates to choose.
    """
    place = name.replace("_", "-")
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--seeds", type=int, default=seeds, help="(default: %(default)s)")
    if updates is not None:
        parser.add_argument("--updates", type=int, default=updates, help="of each training (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at the same time (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path(f"runs/{place}"), help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(f"docs/results/{place}.md"), help="(default: %(default)s)")
    return parser


def write_study(path: Path, lines: Iterable[str]) -> None:
    """The page of a study."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(path)


def threads(jobs: int) -> int:
    """Cores for each of ``jobs`` processes."""
    return max(1, len(os.sched_getaffinity(0)) // jobs)


def figure(row: Row, name: str) -> float:
    """A number of a row; NaN where it has none."""
    text = row.get(name, "")
    return float(text) if text not in ("", None) else float("nan")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)
