"""The MJCF model of a robot file's arm: where it is, and the poses of its tools."""

from pathlib import Path

from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.mujoco_kinematics import MujocoKinematics
from robot_stack.paths import config_dir


def model_file(spec: RobotSpec) -> Path:
    """The file in config/model that a robot file names.

    Raises:
        ProphRLError: it names none.
        UnknownNameError: there is no such file.
    """
    if not spec.model:
        raise ProphRLError(f"robot {spec.name} has no model of its arm; its file has to name one (model:)")
    folder = config_dir() / "model"
    file = folder / f"{spec.model}.xml"
    if not file.is_file():
        raise UnknownNameError("model", spec.model, (path.stem for path in folder.glob("*.xml")))
    return file


def tool_kinematics(spec: RobotSpec) -> MujocoKinematics:
    """Kinematics whose points are the robot file's tools and whose joints are those of ``joint_states``.

    Raises:
        ProphRLError: the robot file names no model, or the model lacks a joint or a tool's frame.
        MissingDependencyError: the extra that computes it is not installed.
    """
    return MujocoKinematics(model_file(spec), spec.joint_names, [tool.frame for tool in spec.tools])
