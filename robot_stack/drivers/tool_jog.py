"""Moves a tool by small steps along the axes of the base frame and turns it about them, whatever an arm is commanded by.

Shapes: A = numbers in one action. A motion [6] is three numbers along and three about x, y, z, each from -1 to 1.
"""

from typing import Protocol

from robot_stack.core import se3
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_parts import ToolSpec
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.arm_model import model_file
from robot_stack.drivers.inverse_kinematics import InverseKinematics

TOOL_SPEED = 0.25  # m/s of a tool that is driven through its joints: the reduced speed of ISO 10218-1 for manual operation
TURN_SPEED = 0.5  # rad/s: points half a metre from the tool's then move as fast as that


class ToolJog(Protocol):
    """A way to move the tool."""

    def moved(self, reference: FloatArray, motion: FloatArray, speed: float) -> FloatArray:
        """The target [A] of the next action from ``reference`` [A], by ``motion`` [6] at a part of the largest speed.

        Raises:
            ProphRLError: the arm cannot go there.
        """
        ...


class PositionJog:
    """For arms that are commanded by the position of their tool, and perhaps its rotation; others are not turned."""

    def __init__(self, spec: RobotSpec, tool: ToolSpec) -> None:
        names = spec.action_names
        pose = [names.index(name) for name in tool.pose_names if name in names]
        self._position, self._rotation = pose[:3], pose[3:]
        self._step, self._turn = spec.max_step[self._position], spec.max_step[self._rotation]

    def moved(self, reference: FloatArray, motion: FloatArray, speed: float) -> FloatArray:
        target = reference.copy()
        target[self._position] += motion[:3] * speed * self._step
        if self._rotation and motion[3:].any():
            target[self._rotation] = se3.turned(motion[3:] * speed * self._turn, reference[self._rotation])
        return target


class JointJog:
    """For arms that are commanded by their joints, through their inverse kinematics.

    Raises:
        MissingDependencyError, UnknownNameError: see ``InverseKinematics``.
    """

    def __init__(self, spec: RobotSpec, tool: ToolSpec) -> None:
        names = tool.joints or [action.name for action in spec.actions if action.kind is ActionKind.JOINT]
        self._joints = [spec.action_names.index(name) for name in names]
        lower, upper = spec.lower[self._joints], spec.upper[self._joints]
        self._kinematics = InverseKinematics(model_file(spec), names, tool.frame, lower, upper)
        self._step_m, self._step_rad = TOOL_SPEED / spec.rate_hz, TURN_SPEED / spec.rate_hz

    def moved(self, reference: FloatArray, motion: FloatArray, speed: float) -> FloatArray:
        target = reference.copy()
        if motion.any():
            position, turn = self._kinematics.pose(reference[self._joints])
            goal = position + motion[:3] * speed * self._step_m
            goal_turn = se3.turned(motion[3:] * speed * self._step_rad, turn)
            target[self._joints] = self._kinematics.solve(reference[self._joints], goal, goal_turn)
        return target


def make_jog(spec: RobotSpec, tool: ToolSpec | None = None) -> ToolJog:
    """The way to move a tool of a robot, by default its first.

    Raises:
        ProphRLError: there is none.
    """
    tool, kinds = tool or spec.tools[0], set(spec.action_kinds)
    if ActionKind.POSITION in kinds:
        return PositionJog(spec, tool)
    if ActionKind.JOINT in kinds and spec.model:
        return JointJog(spec, tool)
    raise ProphRLError(
        f"the tool of robot {spec.name} cannot be driven: its file names neither positions nor a model of the arm"
    )
