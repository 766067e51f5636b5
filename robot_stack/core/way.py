"""From the targets that wait to the point to which the arm goes in one tick.

Shapes: A = numbers in one action. An arm that takes a command for each action gets the targets themselves (``ChunkSteps``), one
that is commanded more often a path through them (``core.path``).
"""

from typing import Protocol

import numpy as np

from robot_stack.core.actions import compose, decompose
from robot_stack.core.chunk_buffer import ChunkBuffer
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.safety import is_jump
from robot_stack.core.types import FloatArray


class Way(Protocol):
    """How the arm goes through the targets that wait.

    Attributes:
        begun: targets [A] that the last request took.
        judges_jumps: whether ``jumps`` tells of targets too far apart; else that is left to the guard.
    """

    begun: list[FloatArray]
    judges_jumps: bool

    @property
    def under_way(self) -> bool:
        """Whether a target has been taken that is not reached yet."""
        ...

    @property
    def jumps(self) -> bool:
        """Whether what waits next is too far away (``safety.is_jump``) and not to be executed."""
        ...

    def ask(
        self, in_force: FloatArray, velocity: FloatArray, waiting: ChunkBuffer, now_ns: int, approaches: bool
    ) -> FloatArray | None:
        """The next point [A], or None where there is none.

        Args:
            in_force: where the arm is [A], and
            velocity: how fast it moves [A], per second.
            waiting: the targets, of which those are taken that are needed now.
            now_ns: time of the tick [ns].
            approaches: whether a chunk may begin far from where the arm is: it is then approached slowly.
        """
        ...

    def advance(self, scale: float) -> None:
        """Take note that the arm went ``scale`` (0 to 1) of the way to the point that was asked for; 0: it braked instead."""
        ...

    def committed(self, in_force: FloatArray) -> list[FloatArray]:
        """The target [A] before those that this tick takes or has taken, and these that it has.

        Args:
            in_force: where the arm is [A], for when no target is under way.
        """
        ...

    def clear(self) -> None:
        """Forget the way: the next one begins where the arm is then."""
        ...


class ChunkSteps:
    """One target after another.

    Args:
        spec: the robot file.
        judges_jumps: see ``Way``; False in lock-step, where the guard alone judges, as it does in simulation without ROS.
    """

    def __init__(self, spec: RobotSpec, judges_jumps: bool) -> None:
        self._spec = spec
        self._path = np.array([kind is not ActionKind.GRIPPER for kind in spec.action_kinds])
        self._last: FloatArray | None = None  # target that was taken last
        self.judges_jumps = judges_jumps
        self.begun: list[FloatArray] = []
        self.under_way = False
        self.jumps = False
        self._approaching = False

    def ask(
        self, in_force: FloatArray, velocity: FloatArray, waiting: ChunkBuffer, now_ns: int, approaches: bool
    ) -> FloatArray | None:
        self.begun = []
        if not len(waiting):
            return None
        if self.judges_jumps:
            target = waiting.upcoming[0]
            origin = in_force if waiting.seam or self._last is None else self._last
            anew, far = origin is in_force, is_jump(origin, target, self._spec)
            if far and not (anew and approaches):
                self.jumps = True
                return None
            part = self._approach_part(in_force, target)
            self._approaching = anew and part < 1.0 and (far or self._approaching)
            if self._approaching:
                return self._between(in_force, target, part)
        taken = waiting.pop(now_ns)
        assert taken is not None
        self._last, self.begun = taken, [taken]
        return taken

    def advance(self, scale: float) -> None:
        """A target that was not reached is not asked for again: the next one follows on time."""

    def committed(self, in_force: FloatArray) -> list[FloatArray]:
        return [in_force]

    def clear(self) -> None:
        self._last, self.begun, self.jumps, self._approaching = None, [], False, False

    def _approach_part(self, in_force: FloatArray, target: FloatArray) -> float:
        """Part of the way to ``target`` that is done in one tick at approach speed; 1 and more: all of it."""
        step = decompose(in_force, target[None], self._spec.action_kinds)[0]
        actions_away = float(np.max((np.abs(step) / self._spec.max_step)[self._path], initial=0.0))
        return self._spec.approach_speed / actions_away if actions_away > 0.0 else 1.0

    def _between(self, in_force: FloatArray, target: FloatArray, part: float) -> FloatArray:
        """The point [A] after ``part`` of the straight way; grippers wait."""
        step = decompose(in_force, target[None], self._spec.action_kinds)[0]
        return np.where(self._path, compose(in_force, part * step[None], self._spec.action_kinds)[0], in_force)
