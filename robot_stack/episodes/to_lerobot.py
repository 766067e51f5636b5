"""`prophrl convert`: episode logs -> LeRobot dataset v3. Needs the ``train`` extra, as LeRobot does.

Incremental and idempotent: the dataset itself says which logs it holds. What a frame holds: ``lerobot_writer``.
"""

import argparse
import hashlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from robot_stack.core.errors import BadFileError, MissingDependencyError
from robot_stack.episodes.log_reader import EpisodeLog, find_logs
from robot_stack.episodes.meta import Label

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """What a conversion did; names of episodes.

    Attributes:
        added: newly converted.
        known: were in the dataset.
        relabelled: were in the dataset with another label.
        skipped: name -> why.
    """

    added: tuple[str, ...]
    known: tuple[str, ...]
    relabelled: tuple[str, ...]
    skipped: Mapping[str, str]


def convert(sources: Sequence[Path], root: Path) -> Conversion:
    """Add every finished log in ``sources`` that the dataset does not hold yet; broken ones are named and skipped.

    Raises:
        SpecMismatchError: logs of different robots, or a dataset of another robot.
        BadFileError: no such folder, or ``root`` holds something else.
        MissingDependencyError: LeRobot is not installed.
    """
    _need_lerobot()
    from robot_stack.episodes.lerobot_folder import DatasetFolder
    from robot_stack.episodes.lerobot_writer import DatasetWriter

    paths = [path for source in sources for path in (find_logs(source) if source.is_dir() else [source])]
    folder = DatasetFolder(root)
    added, known, relabelled, skipped = [], [], [], {}
    folder.check_ours()
    with folder.locked():
        writer = DatasetWriter(folder)
        contained = {episode.log_hash: episode for episode in folder.contained()}
        names = {episode.name for episode in contained.values()}
        for path in tqdm(paths, desc="convert", unit="episode", file=sys.stderr):
            try:
                log = EpisodeLog.open_finished(path)
                log_hash = _hash_of(path)
                if log_hash in contained:
                    known.append(contained[log_hash].name)
                    if contained[log_hash].label != log.label.value:
                        folder.relabel(contained[log_hash], log.label.value)
                        relabelled.append(contained[log_hash].name)
                    continue
                if log.label is Label.DISCARD:
                    raise BadFileError(path, "labelled discard")
                folder.claim_for(log.meta.spec, log.meta.robot_file)
                name = log.name if log.name not in names else f"{log.name}@{log_hash[:8]}"
                writer.add(log, name, log_hash)
            except BadFileError as error:
                skipped[path.name] = str(error)
                _log.warning("skipped: %s", error)
                continue
            names.add(name)
            added.append(name)
    return Conversion(tuple(added), tuple(known), tuple(relabelled), skipped)


def main(argv: Sequence[str]) -> int:
    """`prophrl convert EPISODES... --out DATASET`; 0 when the dataset holds at least one episode afterwards."""
    parser = argparse.ArgumentParser(prog="prophrl convert", description="Turn recorded episodes into a LeRobot dataset v3.")
    parser.add_argument("episodes", nargs="+", type=Path, help="folders with episode logs, or single logs")
    parser.add_argument("--out", required=True, type=Path, help="folder of the dataset; made where missing, else added to")
    arguments = parser.parse_args(argv)
    done = convert(arguments.episodes, arguments.out)
    print(
        f"{arguments.out}: {len(done.added)} episodes added, {len(done.known)} were there"
        f" ({len(done.relabelled)} relabelled), {len(done.skipped)} skipped"
    )
    for name, reason in done.skipped.items():
        print(f"  skipped {name}: {reason}")
    return 0 if done.added or done.known else 1


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _need_lerobot() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is local; without this LeRobot asks the hub first
    try:
        import datasets
        import lerobot.datasets.lerobot_dataset  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "lerobot", "the conversion to LeRobot datasets", "pip install 'robot_stack[train]'"
        ) from error
    datasets.disable_progress_bars()
    logging.getLogger("lerobot").setLevel(logging.WARNING)  # it tells which codecs it found
