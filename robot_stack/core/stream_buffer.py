"""Stamped values in, the value at a tick out; knows how old and how far apart the streams are.

Times are integer nanoseconds: ``stamp_ns`` by the header in the robot's clock, ``received_ns`` by the steady clock at receipt.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot_stack.core.joint_states import JointStates
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import StreamAge
from robot_stack.core.types import FloatArray, ImageArray, Observation


@dataclass(frozen=True)
class Stamped[T]:
    """A value and its two times [ns]."""

    stamp_ns: int
    received_ns: int
    value: T


class StreamBuffer[T]:
    """The youngest values of one stream, in the order of their stamps.

    Args:
        name: for messages.
        depth: values kept.
    """

    def __init__(self, name: str, depth: int = 32) -> None:
        self.name = name
        self._values: deque[Stamped[T]] = deque(maxlen=depth)

    def push(self, stamp_ns: int, received_ns: int, value: T) -> bool:
        """Keep a value; False where it is not younger than what is there (a repeated or late message)."""
        if self._values and stamp_ns <= self._values[-1].stamp_ns:
            return False
        self._values.append(Stamped(stamp_ns, received_ns, value))
        return True

    @property
    def latest(self) -> Stamped[T] | None:
        """The youngest value, or None before the first."""
        return self._values[-1] if self._values else None

    def until(self, stamp_ns: int) -> Stamped[T] | None:
        """The youngest value that is not younger than ``stamp_ns``."""
        return next((value for value in reversed(self._values) if value.stamp_ns <= stamp_ns), None)

    def since(self, stamp_ns: int) -> Stamped[T] | None:
        """The oldest value that is not older than ``stamp_ns``."""
        return next((value for value in self._values if value.stamp_ns >= stamp_ns), None)

    def reaches(self, stamp_ns: int) -> bool:
        """Whether a value of ``stamp_ns`` or later has come."""
        return bool(self._values) and self._values[-1].stamp_ns >= stamp_ns

    def clear(self) -> None:
        self._values.clear()


class RobotStreams:
    """The observation streams of one robot.

    Args:
        spec: the robot file.
        lock_step: True where time stands still between two ticks, so that only header stamps age.
    """

    def __init__(self, spec: RobotSpec, lock_step: bool = False) -> None:
        self._spec = spec
        self._lock_step = lock_step
        self.cameras: dict[str, StreamBuffer[ImageArray | None]] = {name: StreamBuffer(name) for name in spec.camera_names}
        # By topic; [6]: position [m] and rotation vector [rad] of a tool in the base frame.
        self.poses: dict[str, StreamBuffer[FloatArray]] = {
            tool.pose_topic: StreamBuffer(tool.pose_topic) for tool in spec.tools
        }
        self.joints: StreamBuffer[Mapping[str, float]] = StreamBuffer("joint_states")
        self._joint_states = JointStates(spec)

    def push_joints(self, stamp_ns: int, received_ns: int, values: Mapping[str, float]) -> None:
        """Take one message's positions by name, see ``core.joint_states``."""
        merged = self._joint_states.merged(stamp_ns, values)
        if merged is not None:
            self.joints.push(merged[0], received_ns, merged[1])

    def complete(self, stamp_ns: int) -> bool:
        """Whether every stream has reached ``stamp_ns``."""
        return all(stream.reaches(stamp_ns) for stream in self._all)

    def state(self, stamp_ns: int) -> FloatArray | None:
        """State [S] at ``stamp_ns``; None where a number is missing."""
        return self.named(self._spec.state_names, stamp_ns)

    def named(self, names: Sequence[str], stamp_ns: int) -> FloatArray | None:
        """Numbers by name: those of tool poses, everything else from the joints; None where one is missing."""
        joints = self.joints.until(stamp_ns)
        if joints is None:
            return None
        known = dict(joints.value)
        for tool in self._spec.tools:
            pose = self.poses[tool.pose_topic].until(stamp_ns)
            if pose is None:
                return None
            known |= dict(zip(tool.pose_names, pose.value, strict=True))
        if any(name not in known for name in names):
            return None
        return np.array([known[name] for name in names])

    @property
    def arm_received_ns(self) -> int:
        """Since when all that the arm says about where it is has been here, steady clock [ns]; 0: something is missing."""
        streams: tuple[StreamBuffer, ...] = (*self.poses.values(), self.joints)
        return min(0 if stream.latest is None else stream.latest.received_ns for stream in streams)

    def observe(self, stamp_ns: int, commanded: FloatArray, instruction: str) -> Observation | None:
        """What was known at ``stamp_ns``, stamped with its youngest image; None while a stream has not delivered."""
        state = self.state(stamp_ns)
        images = {name: stream.until(stamp_ns) for name, stream in self.cameras.items()}
        found = {name: image for name, image in images.items() if image is not None and image.value is not None}
        if state is None or len(found) < len(images):
            return None
        youngest = max(image.stamp_ns for image in found.values())
        pictures = {name: image.value for name, image in found.items() if image.value is not None}
        return Observation(youngest, pictures, state, commanded, instruction)

    def ages(self) -> tuple[StreamAge, ...]:
        """Age of every stream, for ``safety.check_ages``."""
        limits = [self._spec.camera(name).max_age_ns for name in self.cameras]
        limits += [self._spec.max_state_age_ns] * (len(self._all) - len(limits))
        return tuple(self._age(stream, limit) for stream, limit in zip(self._all, limits, strict=True))

    def skew_ns(self) -> int | None:
        """Time between the oldest and the youngest of the streams' latest values; None while one is missing."""
        stamps = [stream.latest.stamp_ns for stream in self._all if stream.latest is not None]
        return max(stamps) - min(stamps) if len(stamps) == len(self._all) else None

    @property
    def _all(self) -> tuple[StreamBuffer, ...]:
        return (*self.cameras.values(), *self.poses.values(), self.joints)

    def _age(self, stream: StreamBuffer, limit_ns: int) -> StreamAge:
        latest = stream.latest
        if latest is None:
            return StreamAge(stream.name, None, None, limit_ns)
        return StreamAge(stream.name, latest.stamp_ns, None if self._lock_step else latest.received_ns, limit_ns)
