"""Where a run keeps its files: ``runs/<name>/round-NN/<stage>/``; the one place that knows."""

import re
from pathlib import Path

from robot_stack.core.errors import ProphRLError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def run_dir(name: str, root: Path | str = "runs") -> Path:
    """Folder of the run called ``name``.

    Raises:
        ProphRLError: the name would not make a plain folder name.
    """
    if not _NAME.fullmatch(name):
        raise ProphRLError(f"run name {name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit")
    return Path(root) / name


def round_dir(run: Path | str, round_index: int) -> Path:
    """Folder of one round of collect-and-refresh, e.g. ``runs/demo/round-00``."""
    return Path(run) / f"round-{round_index:02d}"


def stage_dir(run: Path | str, round_index: int, stage: str) -> Path:
    """Folder in which ``stage`` of that round keeps everything it writes."""
    return round_dir(run, round_index) / stage
