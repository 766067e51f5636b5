"""Makes a whole log out of a cut or damaged one, with every message that can still be read."""

from dataclasses import dataclass
from pathlib import Path

from mcap.records import Channel, Message, Metadata, Schema
from mcap.writer import CompressionType, Writer

from robot_stack.core.errors import BadFileError
from robot_stack.episodes.errors import EpisodeInUseError
from robot_stack.episodes.log_reader import EpisodeLog, read_records
from robot_stack.episodes.log_writer import LABEL_RECORD, META_RECORD, PROFILE, DirectFile, is_in_use
from robot_stack.episodes.meta import ACTIVE_SUFFIX, FINISHED_SUFFIX, Label, episode_name, sync_folder

DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True)
class Repaired:
    """Outcome of a repair.

    Attributes:
        path: the whole log.
        messages: how many it holds.
        seconds: time between the first and the last of them [s].
    """

    path: Path
    messages: int
    seconds: float


def needs_repair(path: Path) -> bool:
    """Whether a log is cut (and nobody writes it) or damaged."""
    if path.name.endswith(ACTIVE_SUFFIX):
        return not is_in_use(path)
    try:
        EpisodeLog.open(path)
        for _ in read_records(path, tolerant=False):
            pass
    except BadFileError:
        return True
    return False


def repair(path: Path) -> Repaired:
    """Rewrite a log as ``<name>.mcap``. A cut original is removed once the new one is on the disk, a damaged one kept aside.

    Raises:
        EpisodeInUseError: the log is still being written.
        BadFileError: not even the facts about the episode can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise BadFileError(path, "no such log")
    if is_in_use(path):
        raise EpisodeInUseError(path)
    whole = path.with_name(episode_name(path) + FINISHED_SUFFIX)
    cut = path.name.endswith(ACTIVE_SUFFIX)
    if cut and whole.exists():  # an earlier repair was killed before its last step
        path.unlink()
        path = whole
    unfinished = path.with_name(f".{whole.name}.repair")
    unfinished.unlink(missing_ok=True)
    try:
        messages, seconds = _copy(path, unfinished)
    except BadFileError:
        unfinished.unlink(missing_ok=True)
        raise
    if not cut:
        path.rename(path.with_name(path.name + DAMAGED_SUFFIX))
    unfinished.rename(whole)
    sync_folder(whole.parent)
    if cut and path != whole:
        path.unlink()
    return Repaired(whole, messages, seconds)


def _copy(source: Path, target: Path) -> tuple[int, float]:
    """Copy all readable records; numbers of schemas and channels are given anew."""
    file = DirectFile(target)
    writer = Writer(file, compression=CompressionType.LZ4)
    schemas: dict[int, int] = {}
    channels: dict[int, int] = {}
    stamps: list[int] = []
    metadata: dict[str, dict[str, str]] = {}
    try:
        writer.start(profile=PROFILE)
        for record in read_records(source, tolerant=True):
            if isinstance(record, Metadata) and record.name not in metadata:
                metadata[record.name] = record.metadata
                writer.add_metadata(record.name, record.metadata)
            elif isinstance(record, Schema) and record.id not in schemas:
                schemas[record.id] = writer.register_schema(record.name, record.encoding, record.data)
            elif isinstance(record, Channel) and record.id not in channels:
                channels[record.id] = writer.register_channel(
                    record.topic, record.message_encoding, schemas[record.schema_id], record.metadata
                )
            elif isinstance(record, Message):
                stamps.append(record.log_time)
                writer.add_message(channels[record.channel_id], record.log_time, record.data, record.publish_time)
        if META_RECORD not in metadata:
            raise BadFileError(source, "nothing can be recovered: not even the description of the episode was written")
        if LABEL_RECORD not in metadata:
            writer.add_metadata(LABEL_RECORD, {"label": Label.UNLABELLED.value})
        writer.finish()
        file.sync()
    finally:
        file.close()
    return len(stamps), (max(stamps) - min(stamps)) / 1e9 if stamps else 0.0
