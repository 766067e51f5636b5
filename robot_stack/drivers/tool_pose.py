"""Where an arm's tool is, by forward kinematics on its MJCF model. Needs the ``kinematics`` extra (MuJoCo)."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robot_stack.core import se3
from robot_stack.core.errors import BadFileError, MissingDependencyError, UnknownNameError
from robot_stack.core.types import FloatArray


class ToolPose:
    """Pose of one site of a model.

    Args:
        model: MJCF file whose world frame is the arm's base frame.
        joints: names of the arm's joints [J].
        tool: name of the site.

    Raises:
        MissingDependencyError: MuJoCo is not installed.
        BadFileError, UnknownNameError: the model cannot be read, or lacks a name.
    """

    def __init__(self, model: Path, joints: Sequence[str], tool: str) -> None:
        if importlib.util.find_spec("mujoco") is None:
            raise MissingDependencyError("mujoco", "the pose of an arm's tool", "pip install 'robot_stack[kinematics]'")
        import mujoco

        self._mujoco: Any = mujoco
        try:
            self._model = mujoco.MjModel.from_xml_path(str(model))
        except ValueError as error:
            raise BadFileError(model, f"not a model that MuJoCo reads: {error}") from error
        self._data = mujoco.MjData(self._model)
        known = [self._model.joint(index).name for index in range(self._model.njnt)]
        for name in joints:
            if name not in known:
                raise UnknownNameError("joint of the arm's model", name, [joint for joint in known if joint])
        sites = [self._model.site(index).name for index in range(self._model.nsite)]
        if tool not in sites:
            raise UnknownNameError("site of the arm's model", tool, sites)
        self._columns = [self._model.joint(name).qposadr[0] for name in joints]
        self._site = self._data.site(tool)

    def pose(self, joints: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Position [3] [m] and rotation vector [3] [rad] in the base frame, for joints [J] [rad]."""
        self._data.qpos[self._columns] = joints
        self._mujoco.mj_kinematics(self._model, self._data)
        quaternion = np.empty(4)
        self._mujoco.mju_mat2Quat(quaternion, self._site.xmat)
        return self._site.xpos.copy(), se3.rotation_vector(quaternion[[1, 2, 3, 0]])
