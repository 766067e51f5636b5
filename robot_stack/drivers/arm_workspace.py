"""The workspace of a robot file, computed by the kinematics of its arm."""

from collections.abc import Callable

from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.arm_model import model_file
from robot_stack.drivers.mujoco_kinematics import MujocoKinematics


def penetration_of(spec: RobotSpec) -> Callable[[FloatArray], FloatArray] | None:
    """What the guard wants to know: targets [N, A] -> how deep the arm is where it must not be [N] [m]; None: no workspace.

    Raises:
        UnknownNameError: no such model, or it lacks a joint or a point that the robot file names.
        MissingDependencyError: the extra that computes it is not installed.
    """
    if spec.workspace is None:
        return None
    joints = [action.name for action in spec.actions if action.kind is ActionKind.JOINT]
    columns = [spec.action_names.index(name) for name in joints]
    return spec.workspace.of_joints(MujocoKinematics(model_file(spec), joints, spec.workspace.points), columns)
