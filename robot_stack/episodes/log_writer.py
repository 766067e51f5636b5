"""One MCAP file per episode, in rosbag2's profile, that survives a crash but for its last moments.

While it is written a log is called ``<name>.mcap.active``; only a finished one is called ``<name>.mcap``. So what exists is
what is counted, and no counter can run ahead. Every ``LogSettings.flush_s`` the chunk in progress goes to the kernel (safe
from a killed process) and to the disk (safe from an e-stop that cuts the power).
"""

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mcap.writer import CompressionType, Writer
from rosbags.typesys import Stores, get_typestore

from robot_stack.core.errors import UnknownNameError
from robot_stack.episodes.errors import DiskFullError
from robot_stack.episodes.meta import ACTIVE_SUFFIX, FINISHED_SUFFIX, EpisodeMeta, Label, sync_folder

__all__ = ["EpisodeLogWriter", "EpisodeMeta", "Label", "LogSettings"]

PROFILE = "ros2"
META_RECORD = "episode"
LABEL_RECORD = "label"
CAMERAS_RECORD = "cameras"  # camera -> what is known of it, see ``core.camera_facts``
TYPESTORE = get_typestore(Stores.ROS2_JAZZY)


@dataclass(frozen=True)
class LogSettings:
    """How a log is written.

    Attributes:
        flush_s: longest time that a message stays in this process's memory [s].
        chunk_bytes: size at which a chunk is closed even earlier.
        min_free_bytes: what must be free on the disk before an episode begins.
    """

    flush_s: float = 0.5
    chunk_bytes: int = 8 << 20  # what is known of each chunk stays in memory until the end, so there are not many
    min_free_bytes: int = 200_000_000


class EpisodeLogWriter:
    """Writes the log of one episode. Safe to call from several threads.

    Args:
        folder: where the episodes are; created where missing.
        meta: facts about the episode. Where ``meta.name`` is taken, "-2", "-3", ... is appended: nothing is overwritten. A cut
            log of that name is set aside as ``<name>.cut-1``.
        settings: see ``LogSettings``.

    Raises:
        DiskFullError: too little room to begin.
    """

    def __init__(self, folder: Path, meta: EpisodeMeta, settings: LogSettings | None = None) -> None:
        self._settings = settings or LogSettings()
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if free < self._settings.min_free_bytes:
            raise DiskFullError(self._folder, free, self._settings.min_free_bytes)
        self.path = self._claim(meta.name)
        self._file = DirectFile(self.path)
        self._mcap = Writer(self._file, chunk_size=self._settings.chunk_bytes, compression=CompressionType.LZ4)
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._lock = threading.Lock()
        self._failure: OSError | None = None
        self._stop = threading.Event()
        with self._guarded():
            self._mcap.start(profile=PROFILE)
            self._mcap.add_metadata(META_RECORD, meta.to_record() | {"name": self.name})
        sync_folder(self._folder)
        self._flusher = threading.Thread(target=self._flush_regularly, name="episode log", daemon=True)
        self._flusher.start()

    @property
    def name(self) -> str:
        """Name of the episode."""
        return self.path.name.removesuffix(ACTIVE_SUFFIX).removesuffix(FINISHED_SUFFIX)

    def write(self, topic: str, msgtype: str, cdr_bytes: bytes, stamp_ns: int) -> None:
        """Log one serialised message.

        Args:
            topic: name of the topic; a leading slash is added where there is none.
            msgtype: e.g. "sensor_msgs/msg/Image".
            cdr_bytes: the message, serialised as on the wire.
            stamp_ns: time of the message [ns]: that of its header where it has one.

        Raises:
            DiskFullError: the disk is full; the log keeps what was flushed before.
            UnknownNameError: no such message type.
            OSError: the log cannot be written, for another reason.
        """
        topic = "/" + topic.lstrip("/")
        with self._guarded():
            channel = self._channels.get(topic)
            if channel is None:
                channel = self._channels[topic] = self._mcap.register_channel(topic, "cdr", self._schema(msgtype))
            self._mcap.add_message(channel, stamp_ns, cdr_bytes, stamp_ns)

    def describe_cameras(self, record: Mapping[str, str]) -> None:
        """Log what is known of the cameras, once.

        Args:
            record: see ``core.camera_facts.facts_to_record``.

        Raises:
            As ``write``.
        """
        with self._guarded():
            self._mcap.flush()
            self._mcap.add_metadata(CAMERAS_RECORD, dict(record))

    def close(self, label: Label | str = Label.UNLABELLED) -> Path:
        """Finish the log and give it its final name.

        Returns:
            The finished log.

        Raises:
            As ``write``; the log then stays ``.active``.
        """
        label = Label.parse(label)
        self._stop.set()
        self._flusher.join()
        finished = self._folder / f"{self.name}{FINISHED_SUFFIX}"
        try:
            with self._guarded():
                self._mcap.flush()
                self._mcap.add_metadata(LABEL_RECORD, {"label": label.value})
                self._mcap.finish()
                self._file.sync()
                self.path.rename(finished)
                self.path = finished
                sync_folder(self._folder)
        finally:
            self._file.close()
        return finished

    def abort(self) -> None:
        """Stop without finishing: what was logged stays in the ``.active`` file. Harmless after a failure."""
        self._stop.set()
        self._flusher.join()
        with contextlib.suppress(OSError, DiskFullError), self._guarded():
            self._mcap.flush()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._stop.is_set():
            self.abort()

    def _claim(self, name: str) -> Path:
        """Create the log under its name, or the first free one after it.

        The log that a killed recorder left under this name is set aside, so that an episode recorded again gets the name it
        is looked for under.
        """
        wanted = self._folder / f"{name}{ACTIVE_SUFFIX}"
        if wanted.exists() and not is_in_use(wanted):
            wanted.rename(self._free(f"{name}.cut-{number}" for number in itertools.count(1)))
        path = self._free(itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2))))
        path.touch(exist_ok=False)
        return path

    def _free(self, names: Iterable[str]) -> Path:
        """Path of a log in flight under the first of ``names`` that no log bears."""
        folder = self._folder
        free = (
            name for name in names if not any((folder / f"{name}{end}").exists() for end in (ACTIVE_SUFFIX, FINISHED_SUFFIX))
        )
        return folder / f"{next(free)}{ACTIVE_SUFFIX}"

    def _schema(self, msgtype: str) -> int:
        if msgtype not in self._schemas:
            if msgtype not in TYPESTORE.types:
                package = msgtype.split("/", maxsplit=1)[0] + "/"
                known = [name for name in TYPESTORE.types if name.startswith(package)] or list(TYPESTORE.types)
                raise UnknownNameError("message type", msgtype, known)
            text, _ = TYPESTORE.generate_msgdef(msgtype, ros_version=2)
            self._schemas[msgtype] = self._mcap.register_schema(msgtype, "ros2msg", text.encode())
        return self._schemas[msgtype]

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """One thread at a time; once a write has failed nothing more is appended behind the torn record."""
        with self._lock:
            if self._failure is None:
                try:
                    yield
                    return
                except OSError as error:
                    self._failure = error
            self._stop.set()
            if self._failure.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(self._folder, shutil.disk_usage(self._folder).free) from self._failure
            raise self._failure

    def _flush_regularly(self) -> None:
        while not self._stop.wait(self._settings.flush_s):
            with contextlib.suppress(OSError, DiskFullError):  # kept in _failure: the next write raises it
                with self._guarded():
                    self._mcap.flush()
                self._file.sync()


def is_in_use(path: Path) -> bool:
    """Whether a living process is writing this log."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class DirectFile:
    """An unbuffered, locked file: what the MCAP writer wrote is in the kernel, and nothing is left to a finaliser.

    The lock tells a log in flight from one that was cut; the kernel drops it when the process dies.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._size = 0

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:  # a write may be short, above all on a disk that is nearly full
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing is held back."""

    def sync(self) -> None:
        """Wait until it is on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
