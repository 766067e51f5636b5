"""A LeRobot dataset v3 as a folder to which whole episodes are added, one after another. Needs the ``train`` extra (pyarrow).

LeRobot itself makes a dataset unreadable while it writes, and ``LeRobotDataset.resume`` reads the facts about every earlier
episode again (0.3 s for the first episodes, 1.5 s after forty: hours for a thousand). So each episode is written as a small
dataset of its own, with the numbers that come next, in ``.incoming``; its finished files are then moved in, ``meta/info.json``
last: the move that makes it part of the dataset. Killed at any moment, the folder loads, with every episode committed before.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robot_stack.core.camera import CameraModel, cameras_to_plain
from robot_stack.core.errors import BadFileError, ProphRLError, SpecMismatchError
from robot_stack.core.robot_spec import RobotSpec

FACT = "episode/"  # prefix of our columns in LeRobot's table of episodes
INFO, STATS, TASKS, ROBOT = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/robot.yaml"
CAMERAS = "meta/cameras.json"  # {"rigs": [cameras by name, ...], "episodes": {name of an episode: number of its rig}}
EPISODES, DATA, VIDEOS = "meta/episodes", "data", "videos"
INCOMING, PREVIOUS_STATS = ".incoming", "stats-before.json"


@dataclass(frozen=True)
class Contained:
    """An episode of the dataset.

    Attributes:
        name: unique within the dataset.
        log_hash: of the log that it was made from.
        label: see ``episodes.meta.Label``.
        file: parquet file that holds its facts.
    """

    name: str
    log_hash: str
    label: str
    file: Path


class DatasetFolder:
    """The folder, as far as adding to it goes.

    Args:
        root: may not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def exists(self) -> bool:
        """Whether at least one episode has been committed."""
        return (self.root / INFO).is_file()

    @property
    def incoming(self) -> Path:
        """Where the next episode is prepared."""
        return self.root / INCOMING

    @contextmanager
    def locked(self) -> Iterator[None]:
        """For as long as this process adds episodes.

        Raises:
            ProphRLError: another process does.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ProphRLError(f"{self.root} is being written by another `prophrl convert`; wait for it") from error
            yield

    def check_ours(self) -> None:
        """Raises: BadFileError: there is a dataset that was not made here; nothing in it is touched."""
        if self.exists and not (self.root / ROBOT).is_file():
            raise BadFileError(self.root, f"is a dataset without {ROBOT}: not made by `prophrl convert`; choose another folder")

    def claim_for(self, spec: RobotSpec, robot_file: str) -> None:
        """Make this the dataset of one robot, or check that it is.

        Raises:
            SpecMismatchError: it belongs to another robot.
        """
        path = self.root / ROBOT
        if path.is_file():
            ours = RobotSpec.load(path)
            if ours.fingerprint != spec.fingerprint:
                listed = [f"robot {ours.name} ({ours.fingerprint}) there, {spec.name} ({spec.fingerprint}) in the episode"]
                raise SpecMismatchError(
                    f"dataset {self.root}", "the episodes; convert them into a dataset of their own", listed
                )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".tmp")
            unfinished.write_text(robot_file, encoding="utf-8")
            unfinished.replace(path)

    def recover(self, total_episodes: int) -> None:
        """Remove what a killed conversion left: files of episodes that were never committed.

        Args:
            total_episodes: how many are, by ``meta/info.json``.
        """
        kept: set[Path] = set()
        orphans: set[Path] = set()
        for path in sorted((self.root / EPISODES).glob("*/*.parquet")):
            rows = _facts_of(path)
            if any(row["episode_index"] >= total_episodes for row in rows):
                orphans.add(path)
                continue
            kept.update(self.root / file for row in rows for file in _files_of(row))
        if orphans and (self.incoming / PREVIOUS_STATS).is_file():
            (self.incoming / PREVIOUS_STATS).replace(self.root / STATS)
        media = [*(self.root / DATA).glob("*/*.parquet"), *(self.root / VIDEOS).glob("*/*/*.mp4")]
        for path in [*(path for path in media if path not in kept), *orphans]:
            path.unlink()
        shutil.rmtree(self.incoming, ignore_errors=True)

    def contained(self) -> list[Contained]:
        """The episodes of the dataset, in no order."""
        return [
            Contained(row[f"{FACT}name"], row[f"{FACT}log_hash"], row[f"{FACT}label"], path)
            for path in (self.root / EPISODES).glob("*/*.parquet")
            for row in _facts_of(path)
        ]

    def last_row(self) -> dict[str, Any]:
        """LeRobot's facts about the episode committed last."""
        files = (self.root / EPISODES).glob("*/*.parquet")
        row: dict[str, Any] = pq.read_table(max(files)).to_pylist()[-1]  # LeRobot numbers the files
        return row

    def describe_cameras(self, episode: str, cameras: Mapping[str, CameraModel]) -> None:
        """Note the calibrated cameras of an episode that is about to be committed, whole or not at all.

        Raises:
            BadFileError: what was noted before cannot be read.
        """
        if not cameras:
            return
        path, plain = self.root / CAMERAS, cameras_to_plain(cameras)
        try:
            noted = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rigs": [], "episodes": {}}
            rigs, episodes = list(noted["rigs"]), dict(noted["episodes"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadFileError(
                path, f"not a list of cameras ({error!r}); remove it to go on without the earlier ones"
            ) from error
        if plain not in rigs:
            rigs.append(plain)
        episodes[episode] = rigs.index(plain)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps({"rigs": rigs, "episodes": episodes}, indent=1), encoding="utf-8")
        unfinished.replace(path)

    def commit(self) -> None:
        """Move the prepared episode in: media first, then facts, ``meta/info.json`` last."""
        if (self.root / STATS).is_file():
            shutil.copyfile(self.root / STATS, self.incoming / PREVIOUS_STATS)
        late = [path for path in (self.incoming / name for name in (TASKS, STATS, INFO)) if path.exists()]
        early = [
            path for part in (DATA, VIDEOS, EPISODES) for path in sorted((self.incoming / part).rglob("*")) if path.is_file()
        ]
        for path in [*early, *late]:
            target = self.root / path.relative_to(self.incoming)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        shutil.rmtree(self.incoming)

    def relabel(self, episode: Contained, label: str) -> None:
        """Give an episode another label, whole or not at all."""
        table = pq.read_table(episode.file)
        column = f"{FACT}label"
        here = pc.equal(table[f"{FACT}log_hash"], episode.log_hash)
        changed = pc.if_else(here, pa.scalar(label), table[column])
        unfinished = episode.file.with_suffix(".tmp")
        pq.write_table(table.set_column(table.column_names.index(column), column, changed), unfinished)
        unfinished.replace(episode.file)


def _facts_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a table of episodes, without the statistics that make up most of it."""
    file = pq.ParquetFile(path)
    rows: list[dict[str, Any]] = file.read(
        [name for name in file.schema_arrow.names if not name.startswith("stats/")]
    ).to_pylist()
    return rows


def _files_of(row: Mapping[str, Any]) -> Iterator[str]:
    """Relative paths of the media of one episode, as LeRobot lays them out."""
    yield f"{DATA}/chunk-{row['data/chunk_index']:03d}/file-{row['data/file_index']:03d}.parquet"
    for key in row:
        if key.startswith(f"{VIDEOS}/") and key.endswith("/file_index"):
            video = key.removesuffix("/file_index")
            yield f"{video}/chunk-{row[f'{video}/chunk_index']:03d}/file-{row[key]:03d}.mp4"
