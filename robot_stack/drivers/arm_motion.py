"""From the actions that policies speak to what an arm is commanded by, and back: ``core.ports.Motion``.

Shapes: A = numbers in one action (``RobotSpec.actions``), M = numbers in one command (``RobotSpec.motion``), H = actions of a
chunk, N = any number of them.
"""

from dataclasses import dataclass

import numpy as np

from robot_stack.core.errors import UnknownNameError
from robot_stack.core.ports import Motion
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.inverse_kinematics import InverseKinematics
from robot_stack.paths import config_dir


class SameMotion:
    """An arm that is commanded by what policies speak."""

    def to_commands(self, near: FloatArray, targets: FloatArray) -> FloatArray:
        return targets

    def to_actions(self, commands: FloatArray) -> FloatArray:
        return commands


@dataclass(frozen=True)
class _Arm:
    """One arm: its kinematics, and where its numbers are among actions and among commands."""

    kinematics: InverseKinematics
    pose: list[int]
    joints: list[int]


class ToolMotion:
    """Poses of tools to joints, by inverse kinematics; each target is found from the one before.

    Args:
        spec: a robot file with joints.

    Raises:
        MissingDependencyError, BadFileError, UnknownNameError: see ``InverseKinematics``.
    """

    def __init__(self, spec: RobotSpec) -> None:
        motion = spec.motion
        self._size = len(spec.actions)
        limits = {joint.name: (joint.lower, joint.upper) for joint in spec.joints}
        model = config_dir() / "model" / f"{spec.model}.xml"
        self._arms: list[_Arm] = []
        for tool in spec.tools:
            names = list(tool.joints or limits)
            lower, upper = np.array([limits[name] for name in names]).T
            kinematics = InverseKinematics(model, names, tool.frame, lower, upper)
            pose = [spec.action_names.index(name) for name in tool.pose_names]
            self._arms.append(_Arm(kinematics, pose, [motion.action_names.index(name) for name in names]))
        grippers = [action.name for action in spec.actions if action.kind is ActionKind.GRIPPER]
        self._grippers = [spec.action_names.index(name) for name in grippers]
        self._commanded_grippers = [motion.action_names.index(name) for name in grippers]

    def to_commands(self, near: FloatArray, targets: FloatArray) -> FloatArray:
        commands = np.tile(near, (len(targets), 1))
        commands[:, self._commanded_grippers] = targets[:, self._grippers]
        for arm in self._arms:
            joints = near[arm.joints]
            for index, pose in enumerate(targets[:, arm.pose]):
                if not np.isfinite(pose).all():
                    commands[index] = np.nan  # for the guard to see
                    continue
                joints = arm.kinematics.solve(joints, pose[:3], pose[3:])
                commands[index, arm.joints] = joints
        return commands

    def to_actions(self, commands: FloatArray) -> FloatArray:
        actions = np.empty((len(commands), self._size))
        actions[:, self._grippers] = commands[:, self._commanded_grippers]
        for arm in self._arms:
            for index, joints in enumerate(commands[:, arm.joints]):
                actions[index, arm.pose] = np.concatenate(arm.kinematics.pose(joints))
        return actions


def motion_of(spec: RobotSpec) -> Motion:
    """How a robot's actions become motion.

    Raises:
        ProphRLError: see ``ToolMotion``.
    """
    if not spec.joints:
        return SameMotion()
    folder = config_dir() / "model"
    if not (folder / f"{spec.model}.xml").is_file():
        raise UnknownNameError("model", spec.model, (path.stem for path in folder.glob("*.xml")))
    return ToolMotion(spec)
