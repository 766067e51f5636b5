"""``metrics.csv``: one row for each figure of a training (step, name, value); the report draws its curves from it."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from robot_stack.core.errors import BadFileError

HEADER = ["step", "name", "value"]


class MetricsLog:
    """Appends rows; each call is on disk when it returns.

    Args:
        path: the CSV file; its folder is made.
        resume_step: training continues after this step: rows of later steps, which a killed run wrote after its last
            saved state, are dropped. None begins anew.

    Raises:
        BadFileError: the file that is to be continued is not such a log.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        self.path = path
        kept = [] if resume_step is None or not path.is_file() else [row for row in read_metrics(path) if row[0] <= resume_step]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            writer.writerows(kept)
        partial.replace(path)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row for each of ``values``."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([step, name, f"{value:.8g}"] for name, value in values.items())


def read_metrics(path: Path) -> list[tuple[int, str, float]]:
    """Rows (step, name, value) of a log; a last row cut by a crash is left out.

    Raises:
        BadFileError: not such a log.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if not rows or rows[0] != HEADER:
        raise BadFileError(path, f"is not a metrics log: its first line must be {','.join(HEADER)}")
    metrics: list[tuple[int, str, float]] = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            step, name, value = row
            metrics.append((int(step), name, float(value)))
        except ValueError as error:
            if number == len(rows):
                break
            raise BadFileError(path, f"line {number} is not step,name,value: {','.join(row)!r}") from error
    return metrics


def write_figures(path: Path, figures: Mapping[str, object]) -> None:
    """Write ``figures.json``, the summary of a stage, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
