"""The robot's loop: observe, act, guard, send.

It has no clock and knows no middleware: ``tick`` is called with the two times. Everything that can move the arm passes here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robot_stack.core.execution import ExecutionSettings
from robot_stack.core.path import ChunkPath
from robot_stack.core.ports import Robot
from robot_stack.core.robot_spec import RobotSpec, Violation
from robot_stack.core.safety import Guard, GuardReason, StreamAge, check_ages
from robot_stack.core.types import Command, FloatArray
from robot_stack.core.way import ChunkSteps, Way


@dataclass(frozen=True)
class Tick:
    """What one tick did.

    Attributes:
        stamp_ns: its time [ns].
        target: the target [A] that was sent.
        reasons: why it is not the one that was asked for.
        expired: inputs that were too old.
        starved: nothing was asked for, so the arm held.
        requested: the target [A] of policy or teleop that the arm has begun to go to in this tick, before the guard; None where
            it is still on its way to the one before.
    """

    stamp_ns: int
    target: FloatArray
    reasons: tuple[GuardReason, ...]
    expired: tuple[StreamAge, ...]
    starved: bool
    requested: FloatArray | None


class ControlLoop:
    """Executes chunks on an arm. ``start`` comes first.

    Args:
        spec: the robot file.
        robot: where commands go.
        ages: how old the inputs are now.
        lock_step: True where time stands still between two ticks, so that only header stamps age.
        execution: how chunks are executed.
        penetration: how deep the arm is where it must not be, see ``core.workspace``; None: everywhere is allowed.
    """

    def __init__(
        self,
        spec: RobotSpec,
        robot: Robot,
        ages: Callable[[], Iterable[StreamAge]],
        lock_step: bool = False,
        execution: ExecutionSettings | None = None,
        penetration: Callable[[FloatArray], FloatArray] | None = None,
    ) -> None:
        self._spec = spec
        self._robot = robot
        self._ages = ages
        self._lock_step = lock_step
        period_s = 1.0 / spec.command_rate_hz
        often = spec.commands_per_action > 1
        self._way: Way = ChunkPath(spec, period_s) if often else ChunkSteps(spec, judges_jumps=not lock_step)
        self.guard = Guard(spec, period_s, penetration)
        self._execution = execution or ExecutionSettings()
        self._fresh = True  # nothing has been executed since the start
        self.buffer = self._execution.make_buffer(spec)
        self.started = False

    def start(self, reference: FloatArray) -> None:
        """Begin at rest at ``reference`` [A], the target in force or the measured pose, with nothing waiting."""
        self.guard.start(reference)
        self._robot.start(reference)
        self.buffer = self._execution.make_buffer(self._spec)
        self._drop()
        self._fresh = self.started = True

    def stop(self) -> None:
        """Forget where the arm is: ``start`` is told anew."""
        self._drop()
        self.started = False

    @property
    def executes(self) -> bool:
        """Whether anything waits to be sent, or is on its way."""
        return bool(len(self.buffer)) or self._way.under_way

    @property
    def committed(self) -> FloatArray:
        """The target before those that this tick consumes or has consumed, these, and what waits [1 + P, A]."""
        return np.vstack([*self._way.committed(self.guard.in_force), self.buffer.upcoming])

    @property
    def asks(self) -> bool:
        """Whether a new chunk is wanted."""
        return self._execution.asks(len(self.buffer), self._way.under_way)

    def tick(self, now_ns: int, steady_ns: int) -> Tick:
        """Send one target of those that wait, or brake."""
        expired = check_ages([*self._ages(), *self._chunk_age()], now_ns, steady_ns)
        if expired or self.guard.e_stopped:
            self._drop()  # what was computed before the fault is not executed after it
        wanted = self._next(now_ns)
        reasons = [age.reason for age in expired]
        if self._way.jumps:
            reasons.append(GuardReason.JUMP)
            self._drop()
        return self._send(wanted, now_ns, reasons, expired)

    def brake(self, now_ns: int) -> Tick:
        """Drop what waits and brake by one tick; once ``guard.at_rest``, the arm stands still."""
        self._drop()
        return self._send(None, now_ns)

    def late(self, missed_ns: Sequence[int]) -> None:
        """Ticks were missed: follow the arm, which has braked by itself, and go on from there with what waits."""
        if self._robot.brakes_itself:
            for tick_ns in missed_ns:
                self._send(None, tick_ns)
        elif missed_ns:
            self.guard.start(self.guard.in_force)
        self._way.advance(0.0)

    def _next(self, now_ns: int) -> FloatArray | None:
        # Where the robot file says that violations hold, only the first chunk may begin away from where the arm is.
        approaches = self._fresh or self._spec.on_violation is Violation.SLOW_DOWN
        wanted = self._way.ask(self.guard.in_force, self.guard.velocity, self.buffer, now_ns, approaches)
        self._fresh &= not self._way.begun
        return wanted

    def _send(
        self,
        wanted: FloatArray | None,
        now_ns: int,
        reasons: Iterable[GuardReason] = (),
        expired: tuple[StreamAge, ...] = (),
    ) -> Tick:
        guard = self.guard
        verdict = guard.check(wanted, reasons, seam=self._way.judges_jumps)
        self._way.advance(verdict.scale)
        self._robot.send(Command(now_ns, self._spec.command_period_ns, verdict.target, guard.velocity, guard.tail))
        requested = self._way.begun[-1] if self._way.begun and wanted is not None else None
        return Tick(now_ns, verdict.target, verdict.reasons, expired, wanted is None, requested)

    def _drop(self) -> None:
        self.buffer.clear()
        self._way.clear()

    def _chunk_age(self) -> tuple[StreamAge, ...]:
        if not self.executes:
            return ()
        received_ns = None if self._lock_step else self.buffer.received_ns
        limit_ns = self._spec.max_chunk_age_ns
        return (StreamAge("action chunk", self.buffer.stamp_ns, received_ns, limit_ns, GuardReason.STALE_CHUNK),)
