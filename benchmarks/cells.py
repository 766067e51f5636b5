"""Studies of many trainings: a row of a CSV file for each, made once; whoever interrupts goes on with the same command.

A cell is what a row is about: names and numbers that tell it from the others. Figures and the code that made them stand beside.
"""

import argparse
import csv
import fcntl
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.measuring import code, machine
from robot_stack.core.errors import BadFileError

MACHINE, CODE = "machine", "code"  # that made a row
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
            rows.append(row | {name: _text(value) for name, value in figures.items()} | {MACHINE: machine(), CODE: code()})
            last = (MACHINE, CODE)
            columns = list(dict.fromkeys([*self._keys, *(name for r in rows for name in r if name not in last), *last]))
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


def run_study(
    options: argparse.Namespace,
    keys: Sequence[str],
    cells: Sequence[Cell],
    run: Callable[[Cell], Mapping[str, float | str | None]],
    page: Callable[[Sequence[Row]], Iterable[str]],
) -> None:
    """Make the rows that are missing, ``options.jobs`` at a time, each in a process of its own with its share of the cores.

    The page is written anew with each row, and says how many are still to be made.

    Args:
        options: what ``study_options`` read.
        keys: columns that name a cell.
        run: makes the figures of a cell; importable by name.
        page: the lines of the results page.

    Raises:
        BaseExceptionGroup: what went wrong with some rows, which each error names; the others were made.
    """
    rows = Rows(options.out.with_suffix(".csv"), keys)
    missing = [cell for cell in cells if not rows.done(cell)]
    _write(options.out, page(rows.read()), len(missing), len(cells))  # what the page lacks shows before hours of work
    errors = []
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = {pool.submit(run, cell): cell for cell in missing}
        done = tqdm(as_completed(futures), desc=options.out.stem, unit="row", total=len(futures))
        try:
            for made, future in enumerate(done, 1):
                if error := future.exception():
                    error.add_note(f"in the row of {dict(futures[future])}")
                    errors.append(error)
                    continue
                rows.add(futures[future], future.result())
                _write(options.out, page(rows.read()), len(missing) - made + len(errors), len(cells))
        finally:
            pool.shutdown(cancel_futures=True)  # whoever interrupts does not wait for rows that nobody would write down
    _write(options.out, page(rows.read()), len(errors), len(cells))
    print(options.out)
    if errors:
        raise BaseExceptionGroup(f"{options.out.stem}: {len(errors)} of {len(missing)} rows failed", errors)


def _write(path: Path, lines: Iterable[str], missing: int, wanted: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    if missing:
        text += f"\n{missing} of {wanted} rows are still to be made.\n"
    path.write_text(text, encoding="utf-8")


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


def made_on(rows: Sequence[Row]) -> str:
    """The machines that made ``rows``, and how many each of them where there are several."""
    counts = Counter(row.get(MACHINE) or "unknown" for row in rows)
    return next(iter(counts), machine()) if len(counts) < 2 else "; ".join(f"{name}: {n} rows" for name, n in counts.items())


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
