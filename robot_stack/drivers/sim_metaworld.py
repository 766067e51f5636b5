"""The embedded robot: a Meta-World task as an arm that follows absolute tool targets.

Shapes: A = 4 (x, y, z [m] in the base frame, gripper opening 0..1), images [H, W, 3] RGB uint8.
One tick is ``ACTION_REPEAT`` physics steps of 12.5 ms. Needs the ``sim`` extra.
"""

import atexit
import contextlib
import functools
import importlib.util
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from robot_stack.core.camera import CameraModel
from robot_stack.core.errors import MissingDependencyError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray, ImageArray
from robot_stack.drivers.sim_cameras import CAMERAS, FreeCamera, focal_px

os.environ.setdefault("MUJOCO_GL", "egl")  # read by mujoco on import; there is no screen on a robot PC

ACTION_REPEAT = 4  # physics steps a tick: 80 Hz / 20 Hz


# Meta-World marks the goals of most tasks by a small sphere. In these it never shows: it is left at a wrong place, or lies
# inside of something. Tasks that have no mark at all say so themselves.
HIDDEN_GOALS = frozenset(
    f"{task}-v3"
    for task in ("assembly", "coffee-button", "disassemble", "door-lock", "door-unlock", "hammer", "shelf-place", "sweep")
)


def task_names() -> tuple[str, ...]:
    """Meta-World's tasks, e.g. ``button-press-topdown-v3``."""
    return tuple(sorted(_metaworld().ALL_V3_ENVIRONMENTS))


def instruction_of(task: str) -> str:
    """The task in words: its name without the version ("button press topdown")."""
    return task.removesuffix("-v3").replace("-", " ")


class MetaWorldArm:
    """One simulated arm and its scene.

    Args:
        spec: the robot file of this arm.
        task: one of ``task_names()``.
        cameras: names of ``sim_cameras.CAMERAS``; by default the robot file's camera, at the place called "front".
        image_size: width and height of the pictures [px]; by default the robot file's.

    Raises:
        UnknownNameError: no such task or camera.
        MissingDependencyError: Meta-World, MuJoCo or the GL library is not installed.
    """

    def __init__(self, spec: RobotSpec, task: str, cameras: Sequence[str] = (), image_size: int | None = None) -> None:
        if task not in task_names():
            raise UnknownNameError("task", task, task_names())
        for name in cameras:
            if name not in CAMERAS:
                raise UnknownNameError("camera of the simulator", name, CAMERAS)
        self.spec = spec
        self.task = task
        self.instruction = instruction_of(task)
        self._env = _metaworld().ALL_V3_ENVIRONMENTS[task]()
        # Experts and success need the goal, which Meta-World hides by default; the space that clips it is cached.
        self._env._partially_observable = False
        self._env.__dict__.pop("sawyer_observation_space", None)
        self._env._freeze_rand_vec = False
        self._env._set_task_called = True
        first = spec.cameras[0]
        self._placements = {name: CAMERAS[name] for name in cameras} or {first.name: CAMERAS["front"]}
        self._size = (first.width, first.height) if image_size is None else (image_size, image_size)
        self._renderers = {
            name: _Renderer(task, self._env.model, self._size, placement) for name, placement in self._placements.items()
        }
        self._observation: FloatArray = np.zeros(39)
        self._success = False
        self.commanded: FloatArray = np.zeros(len(spec.actions))

    def reset(self, seed: int) -> None:
        """Begin the episode that ``seed`` stands for: same seed, same scene."""
        with _global_numpy_seed(seed):  # Meta-World's resets draw from the global generator
            self._env.reset()
        self._show_new_scene()
        for mark in self._env._target_site_config:  # Meta-World itself moves the goal's mark only with the first step
            self._env._set_pos_site(*mark)
        self._success = False
        self.commanded = np.append(self._env.data.mocap_pos[0], 1.0)

    def _show_new_scene(self) -> None:
        """Where the reset has put things: Meta-World moves some of them after MuJoCo has last computed where all bodies are.

        Without this the first picture shows, for example, the coffee machine of the scene before, and the first observation the
        lever. What moves and with what forces is left alone.
        """
        import mujoco

        mujoco.mj_kinematics(self._env.model, self._env.data)
        self._env._prev_obs = self._env._get_curr_obs_combined_no_goal()  # as Meta-World's reset: the one before is this one
        self._observation = self._env._get_obs()

    def step(self, target: FloatArray) -> None:
        """Follow a straight line to ``target`` [A] for one tick; like the vendor's controller, clips to the task's box."""
        per_step = (target[:3] - self._env.data.mocap_pos[0]) / self._env.action_scale / ACTION_REPEAT
        effort = 1.0 - 2.0 * float(target[3])  # Meta-World: -1 opens, +1 closes
        action = np.append(np.clip(per_step, -1.0, 1.0), np.clip(effort, -1.0, 1.0))
        self._env.curr_path_length = 0  # Meta-World refuses more than 500 physics steps; an arm in real time goes on
        for _ in range(ACTION_REPEAT):
            self._observation, _, _, _, info = self._env.step(action)
            self._success |= bool(info["success"])
        self.commanded = np.array(target, dtype=np.float64)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras; the first one is rendered where none is named."""
        return tuple(self._placements)

    def render(self, camera: str | None = None) -> ImageArray:
        """A camera's picture now."""
        return self._renderers[self._known(camera)].render(self._env.data)

    def camera_model(self, camera: str | None = None) -> CameraModel:
        """Lens and place of a camera; it never moves."""
        return self._placements[self._known(camera)].model(*self._size, self._field_of_view_deg)

    def _known(self, camera: str | None) -> str:
        name = self.camera_names[0] if camera is None else camera
        if name not in self._placements:
            raise UnknownNameError("camera of the simulated arm", name, self._placements)
        return name

    @property
    def _field_of_view_deg(self) -> float:
        return float(self._env.model.vis.global_.fovy)

    @property
    def focal_px(self) -> float:
        """Focal length of the cameras, ideal pinholes [px]."""
        return focal_px(self._size[1], self._field_of_view_deg)

    @property
    def state(self) -> FloatArray:
        """Measured tool position [m] and gripper opening, as ``RobotSpec.state_names``."""
        return np.array(self._observation[:4])

    @property
    def success(self) -> bool:
        """Whether the task has been done at any time of this episode: for evaluation, never for a policy."""
        return self._success

    @property
    def privileged_state(self) -> FloatArray:
        """Meta-World's full observation [39] (objects and goal): for scripted experts and probes only."""
        return np.array(self._observation)

    @property
    def positions(self) -> dict[str, FloatArray]:
        """Where things are [3] [m] in the base frame, after a reset: for probes only, never for a policy.

        "tool", "object", "object_2" where the task has a second one, and "goal" where a mark shows it: the place of the mark.
        """
        found = {"tool": self._observation[:3], "object": self._observation[4:7]}
        if len(self._env._get_pos_objects()) > 3:
            found["object_2"] = self._observation[11:14]
        if self.task not in HIDDEN_GOALS and (marks := self._env._target_site_config):
            found["goal"] = self._env.data.site(marks[0][0]).xpos
        return {name: np.array(place) for name, place in found.items()}

    @property
    def joint_positions(self) -> FloatArray:
        """Arm joints [rad] in the order of ``RobotSpec.joint_names``."""
        data = self._env.data
        return np.array([data.joint(name).qpos[0] for name in self.spec.joint_names])

    @property
    def joint_velocities(self) -> FloatArray:
        """Arm joints [rad/s]."""
        data = self._env.data
        return np.array([data.joint(name).qvel[0] for name in self.spec.joint_names])


class _Renderer:
    """Renders one arm's scene for one camera, without multisampling, shadows and reflections: ten times faster at 64 px."""

    def __init__(self, task: str, model: Any, size: tuple[int, int], placement: FreeCamera) -> None:
        import mujoco

        self._model = model
        self._shared = _gl_renderer(task, *size)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._camera.lookat[:] = placement.lookat
        self._camera.distance = placement.distance
        self._camera.azimuth = placement.azimuth
        self._camera.elevation = placement.elevation

    def render(self, data: Any) -> ImageArray:
        import mujoco

        everything = mujoco.mjtCatBit.mjCAT_ALL
        scene = self._shared.scene
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, everything, scene)
        image: ImageArray = self._shared.render()
        return image.copy()


@functools.cache
def _gl_renderer(task: str, width: int, height: int) -> Any:
    """The process's GL context for a task: meshes and textures (150 MB) are the same for every arm; motion is in the scene."""
    import mujoco

    model = _metaworld().ALL_V3_ENVIRONMENTS[task]().model
    model.vis.quality.offsamples = 0
    model.vis.global_.offwidth = width
    model.vis.global_.offheight = height
    try:
        renderer = mujoco.Renderer(model, height=height, width=width)
    except Exception as error:  # the GL binding raises whatever its loader raises
        raise _no_gl(error) from error
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
        renderer.scene.flags[flag] = False
    atexit.register(renderer.close)  # before the GL library is unloaded
    return renderer


@contextlib.contextmanager
def _global_numpy_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator and put its state back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


class ScriptedExpert:
    """Meta-World's scripted expert of a task, as a source of absolute targets.

    Args:
        spec: the robot file of the arm.
        task: one of ``task_names()``.
    """

    def __init__(self, spec: RobotSpec, task: str) -> None:
        policies = _metaworld_policies()
        if task not in policies:
            raise UnknownNameError("task", task, policies)
        self._spec = spec
        self._expert = policies[task]()

    def target(self, commanded: FloatArray, privileged_state: FloatArray, noise: FloatArray | None = None) -> FloatArray:
        """The next target [A].

        Args:
            commanded: target now in force [A].
            privileged_state: ``MetaWorldArm.privileged_state`` [39].
            noise: added to the expert's action, in its units -1..1 [4].
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # its gains exceed 1 on purpose; the action is clipped here
            action = np.asarray(self._expert.get_action(privileged_state), dtype=np.float64)
        action = np.clip(action + (0.0 if noise is None else noise), -1.0, 1.0)
        position = commanded[:3] + action[:3] * self._spec.max_step[:3]
        opening = (1.0 - action[3]) / 2.0  # Meta-World: -1 opens, +1 closes
        return np.clip(np.append(position, opening), self._spec.lower, self._spec.upper)


def _metaworld() -> Any:
    if importlib.util.find_spec("metaworld") is None:
        raise MissingDependencyError("metaworld", "the simulated robot", "pip install 'robot_stack[sim]'")
    try:
        import metaworld
    except (ImportError, AttributeError, OSError) as error:  # what PyOpenGL makes of a missing GL library
        raise _no_gl(error) from error
    return metaworld


def _no_gl(error: Exception) -> MissingDependencyError:
    return MissingDependencyError(
        f"an off-screen GL context (MUJOCO_GL={os.environ['MUJOCO_GL']}: {error})",
        "the simulated camera",
        "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libgbm1",
    )


def _metaworld_policies() -> Any:
    _metaworld()
    from metaworld.policies import ENV_POLICY_MAP

    return ENV_POLICY_MAP
