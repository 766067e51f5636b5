"""Moves a tool by small steps along the axes of the base frame, whatever an arm is commanded by.

Shapes: A = numbers in one action.
"""

from typing import Protocol

import numpy as np

from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.inverse_kinematics import InverseKinematics
from robot_stack.paths import config_dir

TOOL_SPEED = 0.25  # m/s of a tool that is driven through its joints: the reduced speed of ISO 10218-1 for manual operation


class ToolJog(Protocol):
    """A way to move the tool."""

    def moved(self, reference: FloatArray, direction: FloatArray, speed: float) -> FloatArray:
        """The target [A] of the next action from ``reference`` [A], along ``direction`` [3] at a part of the largest speed.

        Raises:
            ProphRLError: the arm cannot go there.
        """
        ...


class PositionJog:
    """For arms that are commanded by the position of their tool."""

    def __init__(self, spec: RobotSpec) -> None:
        self._position = np.array([kind is ActionKind.POSITION for kind in spec.action_kinds])
        self._step = spec.max_step[self._position]

    def moved(self, reference: FloatArray, direction: FloatArray, speed: float) -> FloatArray:
        target = reference.copy()
        target[self._position] += direction * speed * self._step
        return target


class JointJog:
    """For arms that are commanded by their joints, through their inverse kinematics; the tool keeps its orientation.

    Raises:
        MissingDependencyError, UnknownNameError: see ``InverseKinematics``.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._joints = np.array([kind is ActionKind.JOINT for kind in spec.action_kinds])
        names = [action.name for action in spec.actions if action.kind is ActionKind.JOINT]
        lower, upper = spec.lower[self._joints], spec.upper[self._joints]
        model = config_dir() / "model" / f"{spec.model}.xml"
        self._kinematics = InverseKinematics(model, names, spec.tools[0].frame, lower, upper)
        self._step_m = TOOL_SPEED / spec.rate_hz

    def moved(self, reference: FloatArray, direction: FloatArray, speed: float) -> FloatArray:
        target = reference.copy()
        if direction.any():
            position, turn = self._kinematics.pose(reference[self._joints])
            goal = position + direction * speed * self._step_m
            target[self._joints] = self._kinematics.solve(reference[self._joints], goal, turn)
        return target


def make_jog(spec: RobotSpec) -> ToolJog:
    """The way to move the tool of a robot.

    Raises:
        ProphRLError: there is none.
    """
    kinds = set(spec.action_kinds)
    if ActionKind.POSITION in kinds:
        return PositionJog(spec)
    if ActionKind.JOINT in kinds and spec.model:
        return JointJog(spec)
    raise ProphRLError(
        f"the tool of robot {spec.name} cannot be driven: its file names neither positions nor a model of the arm"
    )
