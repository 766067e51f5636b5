"""The robot's loop: observe, act, guard, send.

It has no clock and knows no middleware: ``tick`` is called with the two times. Everything that can move the arm passes here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from robot_stack.core.chunk_buffer import ChunkBuffer
from robot_stack.core.ports import Robot
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import Guard, GuardReason, StreamAge, check_ages
from robot_stack.core.types import FloatArray


@dataclass(frozen=True)
class Tick:
    """What one tick did.

    Attributes:
        stamp_ns: its time [ns].
        target: the target [A] that was sent.
        reasons: why it is not the one that was asked for.
        onsets: those of ``reasons`` that the tick before did not have.
        expired: inputs that were too old.
        starved: nothing was asked for, so the arm held.
    """

    stamp_ns: int
    target: FloatArray
    reasons: tuple[GuardReason, ...]
    onsets: tuple[GuardReason, ...]
    expired: tuple[StreamAge, ...]
    starved: bool


class ControlLoop:
    """Executes chunks on an arm.

    Args:
        spec: the robot file.
        robot: where commands go.
        ages: how old the inputs are now.
        lock_step: True where time stands still between two ticks, so that only header stamps age.
    """

    def __init__(self, spec: RobotSpec, robot: Robot, ages: Callable[[], Iterable[StreamAge]], lock_step: bool = False) -> None:
        self._spec = spec
        self._robot = robot
        self._ages = ages
        self._lock_step = lock_step
        self.guard = Guard(spec)
        self.buffer = ChunkBuffer(len(spec.actions))
        self.in_force: FloatArray | None = None

    def start(self, reference: FloatArray) -> None:
        """Begin from ``reference`` [A], the target in force or the measured pose, with nothing waiting."""
        self.in_force = np.array(reference, dtype=np.float64)
        self.buffer = ChunkBuffer(len(self._spec.actions))
        self.guard.reset()

    @property
    def committed(self) -> FloatArray:
        """The target in force, then what will be sent in any case [1 + P, A]."""
        return np.vstack([self._in_force, self.buffer.upcoming])

    def tick(self, now_ns: int, steady_ns: int) -> Tick:
        """Send one target, or hold."""
        expired = check_ages([*self._ages(), *self._chunk_age()], now_ns, steady_ns)
        if expired or self.guard.e_stopped:
            self.buffer.clear()  # what was computed before the fault is not executed after it
        wanted = self.buffer.pop(now_ns)
        starved = wanted is None
        verdict = self.guard.check(
            self._in_force, self._in_force if wanted is None else wanted, (age.reason for age in expired)
        )
        self._robot.send(verdict.target, now_ns)
        self.in_force = verdict.target
        return Tick(now_ns, verdict.target, verdict.reasons, self.guard.onsets, expired, starved)

    def halt(self, now_ns: int) -> None:
        """Drop what waits and hold; the last thing that is sent."""
        self.buffer.clear()
        if self.in_force is not None:
            self._robot.halt(now_ns)

    @property
    def _in_force(self) -> FloatArray:
        assert self.in_force is not None, "start() comes first"
        return self.in_force

    def _chunk_age(self) -> tuple[StreamAge, ...]:
        if not len(self.buffer):
            return ()
        received_ns = None if self._lock_step else self.buffer.received_ns
        limit_ns = self._spec.max_chunk_age_ns
        return (StreamAge("action chunk", self.buffer.stamp_ns, received_ns, limit_ns, GuardReason.STALE_CHUNK),)
