"""``core.ports.Kinematics`` of an arm from its MJCF model. Needs the ``kinematics`` extra (MuJoCo)."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robot_stack.core import se3
from robot_stack.core.errors import BadFileError, MissingDependencyError, UnknownNameError
from robot_stack.core.types import FloatArray


class MujocoKinematics:
    """Positions of sites and bodies of an arm.

    Args:
        model: MJCF file whose world frame is the arm's base frame.
        joints: names of the arm's joints [J].
        points: names of sites or bodies [K].

    Raises:
        MissingDependencyError: MuJoCo is not installed.
        BadFileError: the file cannot be read.
        UnknownNameError: the model has no such joint or point.
    """

    def __init__(self, model: Path, joints: Sequence[str], points: Sequence[str]) -> None:
        if importlib.util.find_spec("mujoco") is None:
            remedy = "pip install 'robot_stack[kinematics]'"
            raise MissingDependencyError("mujoco", "positions of an arm's points", remedy)
        import mujoco

        self._mujoco: Any = mujoco
        try:
            self._model = mujoco.MjModel.from_xml_path(str(model))
        except ValueError as error:
            raise BadFileError(model, f"not a model that MuJoCo reads: {error}") from error
        self._data = mujoco.MjData(self._model)
        known = [self._model.joint(index).name for index in range(self._model.njnt)]
        self._columns = [self._model.joint(_known("joint", name, known)).qposadr[0] for name in joints]
        sites = [self._model.site(index).name for index in range(self._model.nsite)]
        bodies = [self._model.body(index).name for index in range(self._model.nbody)]
        for name in points:
            _known("site or body", name, [*sites, *bodies])
        views = [self._data.site(name) if name in sites else self._data.body(name) for name in points]
        self._places, self._turns = [view.xpos for view in views], [view.xmat for view in views]

    def points(self, joints: FloatArray) -> FloatArray:
        """Positions [N, K, 3] [m] for joints [N, J] [rad]."""
        found = np.empty((len(joints), len(self._places), 3))
        for index, row in enumerate(joints):
            self._data.qpos[self._columns] = row
            self._mujoco.mj_kinematics(self._model, self._data)
            found[index] = self._places
        return found

    def poses(self, joints: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        """Position [3] [m] and rotation vector [3] of each point for joints [J] [rad]."""
        self._data.qpos[self._columns] = joints
        self._mujoco.mj_kinematics(self._model, self._data)
        found, wxyz = [], np.empty(4)
        for place, turn in zip(self._places, self._turns, strict=True):
            self._mujoco.mju_mat2Quat(wxyz, turn)
            found.append((place.copy(), se3.rotation_vector(np.roll(wxyz, -1))))
        return found


def _known(kind: str, name: str, valid: Sequence[str]) -> str:
    if name not in valid:
        raise UnknownNameError(f"{kind} of the arm's model", name, [known for known in valid if known])
    return name
