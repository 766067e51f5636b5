"""A simulated arm that is commanded by joint positions, with gripper, cameras and table: MuJoCo behind a real arm's interface.

Shapes: J = joints of the arm, images [H, W, 3] RGB uint8. Needs the ``sim`` extra.
"""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_stack.core.errors import MissingDependencyError, UnknownNameError
from robot_stack.core.types import FloatArray, ImageArray

os.environ.setdefault("MUJOCO_GL", "egl")  # read by mujoco on import; there is no screen on a robot PC

LIFTED_M = 0.05  # height of the cube above the table at which it has been lifted


@dataclass(frozen=True)
class ArmState:
    """What an arm's driver measures.

    Attributes:
        positions, velocities: of the arm's joints [J] [rad] [rad/s].
        opening: of the gripper, 0 closed to 1 open.
        tool_position: [3] [m], and
        tool_quaternion: x, y, z, w, of the tool in the base frame.
    """

    positions: FloatArray
    velocities: FloatArray
    opening: float
    tool_position: FloatArray
    tool_quaternion: FloatArray


class SimJointArm:
    """One arm and its cell.

    Args:
        model: an MJCF file with position actuators named as the joints, an actuator "gripper", a site "tool" and a body "cube".
        joints: names of the arm's joints [J].
        home: where the arm stands after a reset [J] [rad].

    Raises:
        MissingDependencyError: MuJoCo is not installed.
        UnknownNameError: the model has no such joint.
    """

    def __init__(self, model: Path, joints: tuple[str, ...], home: FloatArray) -> None:
        mujoco = _mujoco()
        self.model = mujoco.MjModel.from_xml_path(str(model))
        self.data = mujoco.MjData(self.model)
        known = [self.model.joint(i).name for i in range(self.model.njnt)]
        for name in joints:
            if name not in known:
                raise UnknownNameError(f"joint of {model.name}", name, known)
        self._joints = joints
        self._positions = np.array([self.model.joint(name).qposadr[0] for name in joints])
        self._velocities = np.array([self.model.joint(name).dofadr[0] for name in joints])
        self._actuators = np.array([self.model.actuator(name).id for name in joints])
        self._gripper = self.model.actuator("gripper").id
        self._finger = self.model.jnt_qposadr[self.model.actuator_trnid[self._gripper, 0]]
        self._widest = float(self.model.actuator_ctrlrange[self._gripper, 1])
        self._home = np.array(home, dtype=np.float64)
        self.reset(0)

    @property
    def step_s(self) -> float:
        """Time of one step of the physics [s]."""
        return float(self.model.opt.timestep)

    def reset(self, seed: int) -> None:
        """The arm at home, the gripper open, the cube where ``seed`` says."""
        mujoco = _mujoco()
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._positions] = self._home
        self.data.ctrl[self._actuators] = self._home
        self.command_gripper(1.0)
        for finger in ("left_finger", "right_finger"):
            self.data.joint(finger).qpos[0] = self._widest
        rng = np.random.default_rng(seed)
        self.data.joint("cube").qpos[:2] += rng.uniform(-0.06, 0.06, 2)
        mujoco.mj_forward(self.model, self.data)

    def command(self, positions: FloatArray) -> None:
        """Set points [J] of the joints, until the next."""
        self.data.ctrl[self._actuators] = positions

    def command_gripper(self, opening: float) -> None:
        """Opening of the gripper, 0 to 1."""
        self.data.ctrl[self._gripper] = np.clip(opening, 0.0, 1.0) * self._widest

    def step(self, count: int = 1) -> None:
        """Let the physics go on by ``count`` steps."""
        _mujoco().mj_step(self.model, self.data, count)

    @property
    def state(self) -> ArmState:
        tool = self.data.site("tool")
        quaternion = np.empty(4)
        _mujoco().mju_mat2Quat(quaternion, tool.xmat)
        opening = float(np.clip(self.data.qpos[self._finger] / self._widest, 0.0, 1.0))
        return ArmState(
            positions=self.data.qpos[self._positions].copy(),
            velocities=self.data.qvel[self._velocities].copy(),
            opening=opening,
            tool_position=tool.xpos.copy(),
            tool_quaternion=quaternion[[1, 2, 3, 0]],
        )

    @property
    def success(self) -> bool:
        """Whether the cube is lifted."""
        return bool(self.data.body("cube").xpos[2] > LIFTED_M)


class SimCamera:
    """Renders one camera of an arm's cell; to be made and used in one thread, as its GL context belongs to it.

    Args:
        arm: whose cell.
        name: of the camera in the model.
        width, height: of the picture [px].

    Raises:
        UnknownNameError: the model has no such camera.
        MissingDependencyError: there is no off-screen GL context.
    """

    def __init__(self, arm: SimJointArm, name: str, width: int, height: int) -> None:
        mujoco = _mujoco()
        known = [arm.model.camera(i).name for i in range(arm.model.ncam)]
        if name not in known:
            raise UnknownNameError("camera of the simulated cell", name, known)
        self._model, self._name = arm.model, name
        self._data = mujoco.MjData(arm.model)  # a copy: the physics goes on while a picture is drawn
        try:
            self._renderer = mujoco.Renderer(arm.model, height=height, width=width)
        except Exception as error:  # the GL binding raises whatever its loader raises
            raise MissingDependencyError(
                f"an off-screen GL context (MUJOCO_GL={os.environ['MUJOCO_GL']}: {error})",
                "the simulated cameras",
                "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libgbm1",
            ) from error
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = False
        field_of_view = np.radians(arm.model.camera(name).fovy[0])
        self.focal_px = float(height / 2 / np.tan(field_of_view / 2))

    def render(self, positions: FloatArray) -> ImageArray:
        """The picture for the generalised positions of the whole cell (``SimJointArm.data.qpos``)."""
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
