"""Reads episode logs, finished or cut: what was flushed before a crash is all there."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.records import Channel, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import StreamReader

from robot_stack.core.camera_facts import CameraFacts, facts_from_record
from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.episodes.log_writer import CAMERAS_RECORD, LABEL_RECORD, META_RECORD
from robot_stack.episodes.meta import ACTIVE_SUFFIX, FINISHED_SUFFIX, EpisodeMeta, Label, episode_name, read_label

# What the mcap reader and the decompressors raise on damaged bytes; the last where a length exceeds all memory.
DAMAGE = (McapError, struct.error, ValueError, RuntimeError, EOFError, KeyError, UnicodeDecodeError, MemoryError)


@dataclass(frozen=True)
class LoggedMessage:
    """One message of a log.

    Attributes:
        topic: with its leading slash.
        msgtype: e.g. "sensor_msgs/msg/Image".
        stamp_ns: time of the message [ns].
        data: CDR, as on the wire.
    """

    topic: str
    msgtype: str
    stamp_ns: int
    data: bytes


@dataclass(frozen=True)
class EpisodeLog:
    """One log and what is known about it.

    Attributes:
        path: the file.
        meta: facts written when the episode began.
        label: the verdict; one given later wins over the one in the log.
        finished: False for a log in flight or cut by a crash.
    """

    path: Path
    meta: EpisodeMeta
    label: Label
    finished: bool

    @classmethod
    def open(cls, path: Path) -> "EpisodeLog":
        """Read the facts about a log.

        Raises:
            BadFileError: not a log of ours, or too little of it was written.
        """
        path = Path(path)
        finished = not path.name.endswith(ACTIVE_SUFFIX)
        records = _index_metadata(path) if finished else _first_metadata(path)
        if META_RECORD not in records:
            raise BadFileError(path, "does not say which episode it is; it was not written by this project, or cut at once")
        try:
            label = read_label(path) or Label.parse(records.get(LABEL_RECORD, {}).get("label", Label.UNLABELLED))
        except UnknownNameError as error:
            raise BadFileError(path, str(error)) from error
        return cls(path, EpisodeMeta.from_record(records[META_RECORD], path), label, finished)

    @classmethod
    def open_finished(cls, path: Path) -> "EpisodeLog":
        """``open``, for those who want whole episodes.

        Raises:
            BadFileError: also where the log is in flight, or was cut by a crash.
        """
        log = cls.open(path)
        if not log.finished:
            raise BadFileError(path, "is unfinished; if its recorder was killed, close it with: prophrl episodes repair")
        return log

    @property
    def name(self) -> str:
        """Name of the episode."""
        return episode_name(self.path)

    def camera_facts(self) -> dict[str, CameraFacts]:
        """What is known of each camera; nothing in logs of earlier versions.

        Raises:
            BadFileError: the log, or what it says of them, is damaged.
        """
        record = _index_metadata(self.path).get(CAMERAS_RECORD, {}) if self.finished else _cameras_of_cut(self.path)
        return facts_from_record(record, self.path)

    def messages(self, accept: Callable[[str], bool] | None = None) -> Iterator[LoggedMessage]:
        """Messages in the order in which they were logged; of a cut log those that were flushed.

        Args:
            accept: says of a topic whether it is wanted; by default all are.

        Raises:
            BadFileError: a finished log is damaged.
        """
        schemas: dict[int, str] = {}
        channels: dict[int, tuple[str, str]] = {}
        for record in read_records(self.path, tolerant=not self.finished):
            if isinstance(record, Schema):
                schemas[record.id] = record.name
            elif isinstance(record, Channel):
                channels[record.id] = (record.topic, schemas.get(record.schema_id, ""))
            elif isinstance(record, Message):
                topic, msgtype = channels[record.channel_id]
                if accept is None or accept(topic):
                    yield LoggedMessage(topic, msgtype, record.log_time, record.data)


def find_logs(folder: Path) -> list[Path]:
    """All logs in a folder, finished, in flight or cut, by name.

    Raises:
        BadFileError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadFileError(folder, "no such folder of episodes")
    return sorted(path for ending in (FINISHED_SUFFIX, ACTIVE_SUFFIX) for path in folder.glob(f"[!.]*{ending}"))


def read_records(path: Path, tolerant: bool) -> Iterator[McapRecord]:
    """The records of an MCAP file, chunks opened and their checksums verified.

    Args:
        path: the file.
        tolerant: end quietly at the first damage.

    Raises:
        BadFileError: the file cannot be opened, or is damaged while not ``tolerant``.
    """
    try:
        with path.open("rb") as file:
            yield from StreamReader(file, validate_crcs=True, record_size_limit=path.stat().st_size).records
    except OSError as error:
        raise BadFileError(path, f"cannot be read: {error}") from error
    except DAMAGE as error:
        if not tolerant:
            raise _damaged(path, error) from error


def _index_metadata(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open("rb") as file:
            return {record.name: record.metadata for record in make_reader(file).iter_metadata()}
    except OSError as error:
        raise BadFileError(path, f"cannot be read: {error}") from error
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _first_metadata(path: Path) -> dict[str, dict[str, str]]:
    for record in read_records(path, tolerant=True):
        if isinstance(record, Metadata):
            return {record.name: record.metadata}
    return {}


def _cameras_of_cut(path: Path) -> dict[str, str]:
    for record in read_records(path, tolerant=True):
        if isinstance(record, Metadata) and record.name == CAMERAS_RECORD:
            return record.metadata
    return {}


def _damaged(path: Path, error: Exception) -> BadFileError:
    what = str(error) or type(error).__name__
    return BadFileError(path, f"is damaged ({what}); recover what can be read with: prophrl episodes repair {path}")
