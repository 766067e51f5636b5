"""Simulated arms that are commanded by joint positions, with grippers, cameras and table: MuJoCo behind real arms' interfaces.

Shapes: J = joints of all arms, G = grippers, T = tools, images [H, W, 3] RGB uint8. Needs the ``sim`` extra.
"""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_stack.core.camera import Pose
from robot_stack.core.errors import BadFileError, MissingDependencyError, UnknownNameError
from robot_stack.core.types import FloatArray, ImageArray

os.environ.setdefault("MUJOCO_GL", "egl")  # read by mujoco on import; there is no screen on a robot PC

LIFTED_M = 0.05  # height of the cube above the table at which it has been lifted


@dataclass(frozen=True)
class CellNames:
    """What belongs to the arms, by its names in the model.

    Attributes:
        joints: [J], each with a position actuator of its name.
        grippers: actuators [G], each opening one finger to which another one is coupled.
        tools: sites [T].
    """

    joints: Sequence[str]
    grippers: Sequence[str] = ("gripper",)
    tools: Sequence[str] = ("tool",)


@dataclass(frozen=True)
class CellState:
    """What the arms' drivers measure.

    Attributes:
        positions, velocities: of the joints [J] [rad] [rad/s].
        openings: of the grippers [G], 0 closed to 1 open.
        tool_positions: [T, 3] [m], and
        tool_quaternions: x, y, z, w [T, 4], of the tools in the base frame.
    """

    positions: FloatArray
    velocities: FloatArray
    openings: FloatArray
    tool_positions: FloatArray
    tool_quaternions: FloatArray


class SimCell:
    """Arms and what stands around them.

    Args:
        model: an MJCF file with what ``names`` says and a body "cube".
        names: see ``CellNames``.
        home: where the arms stand after a reset [J] [rad].

    Raises:
        MissingDependencyError: MuJoCo is not installed.
        BadFileError: the file is not a model.
        UnknownNameError: the model lacks a joint, a gripper or a tool.
    """

    def __init__(self, model: Path, names: CellNames, home: FloatArray) -> None:
        mujoco = _mujoco()
        try:
            self.model = mujoco.MjModel.from_xml_path(str(model))
        except ValueError as error:
            raise BadFileError(model, f"not a model that MuJoCo reads: {error}") from error
        self.data = mujoco.MjData(self.model)
        own = self.model
        joints, actuators = (
            [at(i).name for i in range(count)] for at, count in ((own.joint, own.njnt), (own.actuator, own.nu))
        )
        sites = [own.site(i).name for i in range(own.nsite)]
        for kind, wanted, known in (
            ("joint", names.joints, joints),
            ("actuator", [*names.joints, *names.grippers], actuators),
            ("site", names.tools, sites),
        ):
            for name in wanted:
                if name not in known:
                    raise UnknownNameError(f"{kind} of {model.name}", name, known)
        self._positions = np.array([own.joint(name).qposadr[0] for name in names.joints])
        self._velocities = np.array([own.joint(name).dofadr[0] for name in names.joints])
        self._actuators = np.array([own.actuator(name).id for name in names.joints])
        self._grippers = np.array([own.actuator(name).id for name in names.grippers], dtype=int)
        self._fingers = own.jnt_qposadr[own.actuator_trnid[self._grippers, 0]]
        self._widest = own.actuator_ctrlrange[self._grippers, 1]
        self._all_fingers = own.jnt_qposadr[own.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE]
        self._tools = [own.site(name).id for name in names.tools]
        self._home = np.array(home, dtype=np.float64)
        self.reset(0)

    @property
    def step_s(self) -> float:
        """Time of one step of the physics [s]."""
        return float(self.model.opt.timestep)

    def reset(self, seed: int) -> None:
        """The arms at home, the grippers open, the cube where ``seed`` says."""
        mujoco = _mujoco()
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._positions] = self._home
        self.data.ctrl[self._actuators] = self._home
        self.command_grippers(np.ones(len(self._grippers)))
        self.data.qpos[self._all_fingers] = self._widest.max(initial=0.0)
        rng = np.random.default_rng(seed)
        self.data.joint("cube").qpos[:2] += rng.uniform(-0.06, 0.06, 2)
        mujoco.mj_forward(self.model, self.data)

    def command(self, positions: FloatArray) -> None:
        """Set points [J] of the joints, until the next."""
        self.data.ctrl[self._actuators] = positions

    def command_grippers(self, openings: FloatArray) -> None:
        """Openings [G] of the grippers, 0 to 1."""
        self.data.ctrl[self._grippers] = np.clip(openings, 0.0, 1.0) * self._widest

    def step(self, count: int = 1) -> None:
        """Let the physics go on by ``count`` steps."""
        _mujoco().mj_step(self.model, self.data, count)
        _mujoco().mj_kinematics(self.model, self.data)  # a step leaves the tools where they were at its beginning

    @property
    def state(self) -> CellState:
        quaternions = np.empty((len(self._tools), 4))
        for row, tool in zip(quaternions, self._tools, strict=True):
            _mujoco().mju_mat2Quat(row, self.data.site_xmat[tool])
        return CellState(
            positions=self.data.qpos[self._positions].copy(),
            velocities=self.data.qvel[self._velocities].copy(),
            openings=np.clip(self.data.qpos[self._fingers] / self._widest, 0.0, 1.0),
            tool_positions=self.data.site_xpos[self._tools].copy(),
            tool_quaternions=quaternions[:, [1, 2, 3, 0]],
        )

    def camera_pose(self, name: str) -> Pose | None:
        """``T_base_camera`` of a camera's optical frame; None for one that moves with an arm.

        Raises:
            UnknownNameError: the model has no such camera.
        """
        model, mujoco = self.model, _mujoco()
        known = [model.camera(i).name for i in range(model.ncam)]
        if name not in known:
            raise UnknownNameError("camera of the simulated cell", name, known)
        camera = model.camera(name).id
        if model.body_weldid[model.cam_bodyid[camera]] != 0:  # not welded to the world
            return None
        axes = self.data.cam_xmat[camera].reshape(3, 3) * [1.0, -1.0, -1.0]  # MuJoCo's cameras: y up, looking along -z
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, axes.ravel())
        w, x, y, z = map(float, quaternion)
        place = self.data.cam_xpos[camera]
        return Pose((float(place[0]), float(place[1]), float(place[2])), (x, y, z, w))

    @property
    def success(self) -> bool:
        """Whether the cube is lifted."""
        return bool(self.data.body("cube").xpos[2] > LIFTED_M)


class SimCamera:
    """Renders one camera of an arm's cell; to be made and used in one thread, as its GL context belongs to it.

    Args:
        cell: what it sees.
        name: of the camera in the model.
        width, height: of the picture [px].

    Raises:
        UnknownNameError: the model has no such camera.
        MissingDependencyError: there is no off-screen GL context.
    """

    def __init__(self, cell: SimCell, name: str, width: int, height: int) -> None:
        mujoco = _mujoco()
        known = [cell.model.camera(i).name for i in range(cell.model.ncam)]
        if name not in known:
            raise UnknownNameError("camera of the simulated cell", name, known)
        self._model, self._name = cell.model, name
        self._data = mujoco.MjData(cell.model)  # a copy: the physics goes on while a picture is drawn
        try:
            self._renderer = mujoco.Renderer(cell.model, height=height, width=width)
        except Exception as error:  # the GL binding raises whatever its loader raises
            raise MissingDependencyError(
                f"an off-screen GL context (MUJOCO_GL={os.environ['MUJOCO_GL']}: {error})",
                "the simulated cameras",
                "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libgbm1",
            ) from error
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = False
        field_of_view = np.radians(cell.model.camera(name).fovy[0])
        self.focal_px = float(height / 2 / np.tan(field_of_view / 2))

    def render(self, positions: FloatArray) -> ImageArray:
        """The picture for the generalised positions of the whole cell (``SimCell.data.qpos``)."""
        self._data.qpos[:] = positions
        _mujoco().mj_kinematics(self._model, self._data)
        _mujoco().mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, self._name)
        image: ImageArray = self._renderer.render()
        return image.copy()

    def close(self) -> None:
        """Free the GL context, in the thread that made it."""
        self._renderer.close()


def _mujoco() -> Any:
    if importlib.util.find_spec("mujoco") is None:
        raise MissingDependencyError("mujoco", "the simulated arm", "pip install 'robot_stack[sim]'")
    import mujoco

    return mujoco
