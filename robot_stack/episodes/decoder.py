"""A log -> rows at the ticks, one for each action that was sent.

Rows are built by ``core.stream_buffer.RobotStreams``, the very code that builds live observations. Nothing but the small
streams is held in memory: pictures are read as the rows go by.

What a row says: at tick t_k the robot showed ``observation``, the target ``tick.commanded`` was in force (deltas are counted
from it), ``tick.wanted`` was asked for and ``tick.sent`` was sent. In lock-step all stamps are exact. In real time every stream
is read as it was last known at the tick (sample and hold, as in the live loop), and its age is told.
"""

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from robot_stack.core.camera import CameraModel
from robot_stack.core.errors import ProphRLError
from robot_stack.core.stream_buffer import RobotStreams
from robot_stack.core.types import ImageArray, Observation
from robot_stack.episodes.log_reader import EpisodeLog, LoggedMessage
from robot_stack.episodes.messages import BadMessageError, image_array
from robot_stack.episodes.ticks import JOINTS, Tick, deserialise, read_small_streams, relative, ticks_of

LOWEST_RATE = 0.95  # of the nominal rate, below which an episode is flagged
HIGHEST_SKEW = 0.5  # of a period; an episode whose 99th percentile exceeds it is flagged

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A tick and what the robot showed then.

    Attributes:
        tick: the action.
        observation: pictures and state as last known at the tick.
        ages_s: camera -> age of its picture at the tick [s].
        skew_s: time between the oldest and the youngest stream [s].
    """

    tick: Tick
    observation: Observation
    ages_s: Mapping[str, float]
    skew_s: float


class EpisodeDecoder:
    """Reads the small streams of a log at once and its pictures row by row.

    Args:
        log: a log; a cut one gives the rows that were saved.

    Raises:
        BadFileError: the log is damaged, or no action was sent in it.
    """

    cameras: dict[str, CameraModel]  # those of which lens and place are known

    def __init__(self, log: EpisodeLog) -> None:
        self.log = log
        self.spec = log.meta.spec
        streams = read_small_streams(log, self.spec)
        self.instruction = log.meta.instruction or streams.instruction
        self.ticks = ticks_of(streams, self.spec, log)
        self.cameras = _cameras(log)
        self._states = streams.states
        sent = sorted(streams.sent)
        actions = (len(sent) - 1) / self.spec.commands_per_action
        self.achieved_rate_hz = actions * 1e9 / (sent[-1] - sent[0]) if len(sent) > 1 else self.spec.rate_hz

    def rows(self) -> Iterator[Row]:
        """The ticks in order; those before every stream has delivered are left out.

        Raises:
            BadFileError: the log is damaged.
        """
        streams = RobotStreams(self.spec, lock_step=True)
        states, pictures = deque(self._states), _Pictures(self.log, self.spec.camera_names)
        for tick in self.ticks:
            while states and states[0][0] <= tick.stamp_ns:
                stamp_ns, name, value = states.popleft()
                (streams.push_joints if name == JOINTS else streams.poses[name].push)(stamp_ns, stamp_ns, value)
            for camera, stamp_ns, picture in pictures.until(tick.stamp_ns):
                streams.cameras[camera].push(stamp_ns, stamp_ns, picture)
            observation = streams.observe(tick.stamp_ns, tick.commanded, self.instruction)
            skew_ns = streams.skew_ns()
            if observation is None or skew_ns is None:
                continue
            stamps = {name: stream.latest.stamp_ns for name, stream in streams.cameras.items() if stream.latest}
            ages = {name: (tick.stamp_ns - stamp_ns) / 1e9 for name, stamp_ns in stamps.items()}
            yield Row(tick, observation, ages, skew_ns / 1e9)


def _cameras(log: EpisodeLog) -> dict[str, CameraModel]:
    """The cameras of which lens and place are known, for pictures of the robot file's size."""
    models = {}
    for name, facts in log.camera_facts().items():
        camera = log.meta.spec.camera(name)
        try:
            model = facts.model(camera.width, camera.height)
        except ProphRLError as error:
            _log.warning("%s: camera %s is left out of the calibrated ones: %s", log.path.name, name, error)
            continue
        if model is not None:
            models[name] = model
    return models


class EpisodeSummary:
    """What the rows of an episode say together; ``add`` them as they go by."""

    def __init__(self, decoder: EpisodeDecoder) -> None:
        self._decoder = decoder
        self._skews: list[float] = []
        self._stale: dict[str, int] = {}
        self.first_success: int | None = None

    def __len__(self) -> int:
        return len(self._skews)

    def add(self, row: Row) -> None:
        if row.tick.success and self.first_success is None:
            self.first_success = len(self)
        self._skews.append(row.skew_s)
        for camera, age in row.ages_s.items():
            if age * 1e9 > self._decoder.spec.camera(camera).max_age_ns:
                self._stale[camera] = self._stale.get(camera, 0) + 1

    @property
    def highest_skew_s(self) -> float:
        """99th percentile of the skew [s]."""
        return float(np.percentile(self._skews, 99)) if self._skews else 0.0

    @property
    def flags(self) -> tuple[str, ...]:
        """What is wrong with the timing, in words; empty where all is well."""
        spec, found = self._decoder.spec, []
        if self._decoder.achieved_rate_hz < LOWEST_RATE * spec.rate_hz:
            found.append(f"slow: {self._decoder.achieved_rate_hz:.1f} of {spec.rate_hz:g} Hz")
        if self.highest_skew_s * spec.rate_hz > HIGHEST_SKEW:
            found.append(f"streams apart: {1e3 * self.highest_skew_s:.0f} ms at the 99th percentile")
        found += [f"{camera}: {count} stale pictures" for camera, count in self._stale.items()]
        missing = len(self._decoder.ticks) - len(self)
        if missing:
            found.append(f"{missing} ticks before the first observation")
        return tuple(found)


class _Pictures:
    """The pictures of a log, each camera's in the order of its stamps; only those that are looked at are unpacked."""

    def __init__(self, log: EpisodeLog, cameras: tuple[str, ...]) -> None:
        self._camera_of = {f"camera/{name}/image_raw{kind}": name for name in cameras for kind in ("", "/compressed")}
        self._names = tuple(self._camera_of)
        self._messages = log.messages(lambda topic: relative(topic, self._names) is not None)
        self._waiting: dict[str, deque[LoggedMessage]] = {name: deque() for name in cameras}
        self._exhausted = False

    def until(self, stamp_ns: int) -> Iterator[tuple[str, int, ImageArray]]:
        """(camera, stamp, picture) of each camera's youngest picture up to ``stamp_ns``, where it is a new one."""
        while not self._exhausted and any(not queue or queue[-1].stamp_ns <= stamp_ns for queue in self._waiting.values()):
            message = next(self._messages, None)
            if message is None:
                self._exhausted = True
            else:
                name = relative(message.topic, self._names)
                assert name is not None
                self._waiting[self._camera_of[name]].append(message)
        for camera, queue in self._waiting.items():
            passed = []
            while queue and queue[0].stamp_ns <= stamp_ns:
                passed.append(queue.popleft())
            for message in sorted(passed, key=lambda entry: entry.stamp_ns, reverse=True):
                try:
                    picture = image_array(deserialise(message), message.topic)
                except BadMessageError as error:
                    _log.warning("picture dropped: %s", error)
                    continue
                yield camera, message.stamp_ns, picture
                break
