"""The simulated arm has the kinematics that Universal Robots publish, and stays in the workspace that its robot file states."""

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("needs the sim extra", allow_module_level=True)

from robot_stack.core.camera import CameraModel
from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import Guard, GuardReason
from robot_stack.drivers.arm_workspace import penetration_of
from robot_stack.drivers.mujoco_kinematics import MujocoKinematics
from robot_stack.drivers.sim_cell import CellNames, SimCamera, SimCell
from robot_stack.paths import config_dir, robot_file

SPEC = RobotSpec.load(robot_file("sim_arm"))
MODEL = config_dir() / "model" / "ur5e_cell.xml"
JOINTS = SPEC.commands[0].joints
HOME = np.array(SPEC.home[:6])
# Universal Robots, "DH parameters for calculations of kinematics and dynamics", UR5e.
A_M = (0.0, -0.425, -0.3922, 0.0, 0.0, 0.0)
D_M = (0.1625, 0.0, 0.0, 0.1333, 0.0997, 0.0996)
ALPHA = (np.pi / 2, 0.0, 0.0, np.pi / 2, -np.pi / 2, 0.0)


def flange(joints: np.ndarray) -> np.ndarray:
    """Position of the flange [3] by the Denavit-Hartenberg convention."""
    T_base_link = np.eye(4)
    for angle, a, d, alpha in zip(joints, A_M, D_M, ALPHA, strict=True):
        c, s, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
        T_base_link @= np.array([[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]])
    return T_base_link[:3, 3]


def test_forward_kinematics_are_the_published_ones() -> None:
    kinematics = MujocoKinematics(MODEL, JOINTS, ("flange",))
    rng = np.random.default_rng(0)
    joints = rng.uniform(-3, 3, (50, 6))
    np.testing.assert_allclose(kinematics.points(joints)[:, 0], [flange(row) for row in joints], atol=1e-9)


def test_the_arm_starts_in_its_workspace_and_never_leaves_it() -> None:
    penetration = penetration_of(SPEC)
    assert penetration is not None
    guard = Guard(SPEC, 1 / SPEC.command_rate_hz, penetration)
    home = np.array(SPEC.home)
    assert penetration(home[None])[0] < 0
    guard.start(home)
    rng = np.random.default_rng(1)
    held = 0
    for k in range(2000):
        if k % 80 == 0:
            goal = rng.uniform(SPEC.lower, SPEC.upper)
        held += bool(guard.check(guard.in_force + np.clip(goal - guard.in_force, -0.02, 0.02)).reasons)
        assert penetration(guard.in_force[None])[0] <= 1e-9
    assert held > 20  # it was sent where it must not go


def test_a_command_is_followed_and_gravity_is_carried() -> None:
    arm = SimCell(MODEL, CellNames(JOINTS), HOME)
    target = HOME + 0.2
    for part in np.linspace(0, 1, 300):
        arm.command(HOME + part * 0.2)
        arm.step()
    arm.command_grippers(np.zeros(1))
    arm.step(1000)
    np.testing.assert_allclose(arm.state.positions, target, atol=1e-3)
    assert arm.state.openings[0] < 0.05
    tool = MujocoKinematics(MODEL, JOINTS, ("tool",)).points(arm.state.positions[None])[0, 0]
    np.testing.assert_allclose(arm.state.tool_positions[0], tool, atol=1e-9)


def test_cameras_see_the_arm_move() -> None:
    arm = SimCell(MODEL, CellNames(JOINTS), HOME)
    for name in SPEC.camera_names:
        camera = SimCamera(arm, name, 160, 120)
        before = camera.render(arm.data.qpos.copy())
        moved = arm.data.qpos.copy()
        moved[7] += 0.5  # after the cube's seven numbers comes the shoulder
        assert before.shape == (120, 160, 3) and before.std() > 10
        assert np.abs(camera.render(moved).astype(int) - before).max() > 50
        np.testing.assert_array_equal(camera.render(arm.data.qpos.copy()), before)
        camera.close()


def test_names_that_the_model_lacks_are_listed() -> None:
    with pytest.raises(UnknownNameError, match="joint .*elbow_joint"):
        MujocoKinematics(MODEL, ("elbow",), ())
    with pytest.raises(UnknownNameError, match="site or body .*tool"):
        MujocoKinematics(MODEL, JOINTS, ("toll",))
    with pytest.raises(UnknownNameError, match="camera .*front, wrist"):
        SimCamera(SimCell(MODEL, CellNames(JOINTS), HOME), "side", 160, 120)
    with pytest.raises(BadFileError, match="not a model"):
        MujocoKinematics(robot_file("sim_arm"), JOINTS, ())


TWO = RobotSpec.load(robot_file("sim_two_arms"))


def two_arms() -> SimCell:
    names = CellNames(
        [name for tool in TWO.tools for name in tool.joints],
        ["left_gripper", "right_gripper"],
        [tool.frame for tool in TWO.tools],
    )
    home = dict(zip(TWO.action_names, TWO.home, strict=True))
    return SimCell(config_dir() / "model" / f"{TWO.model}.xml", names, np.array([home[name] for name in names.joints]))


def test_two_arms_are_one_arm_twice_beside_each_other() -> None:
    cell, single = two_arms(), SimCell(MODEL, CellNames(JOINTS), HOME)
    command = np.concatenate([HOME + 0.1, HOME])
    cell.command(command)
    cell.command_grippers(np.array([0.0, 1.0]))
    cell.step(1500)
    np.testing.assert_allclose(cell.state.positions, command, atol=2e-3)
    np.testing.assert_allclose(cell.state.openings, [0.0, 1.0], atol=0.05)
    left, right = cell.state.tool_positions
    np.testing.assert_allclose(right - single.state.tool_positions[0], [0.0, -0.4, 0.0], atol=2e-3)
    single.command(HOME + 0.1)
    single.step(1500)
    np.testing.assert_allclose(left - single.state.tool_positions[0], [0.0, 0.4, 0.0], atol=2e-3)


def test_two_arms_that_are_sent_towards_each_other_do_not_meet() -> None:
    penetration = penetration_of(TWO)
    assert penetration is not None
    guard = Guard(TWO, 1 / TWO.command_rate_hz, penetration)
    guard.start(np.array(TWO.home))
    towards = np.zeros(len(TWO.actions))
    towards[[TWO.action_names.index("left_shoulder_pan_joint"), TWO.action_names.index("right_shoulder_pan_joint")]] = (
        -0.01,
        0.01,
    )
    reasons = set()
    for _ in range(300):
        reasons |= set(guard.check(guard.in_force + towards).reasons)
    assert GuardReason.WORKSPACE in reasons
    kinematics = MujocoKinematics(
        config_dir() / "model" / f"{TWO.model}.xml",
        [name for tool in TWO.tools for name in tool.joints],
        TWO.workspace.points if TWO.workspace else (),
    )
    columns = [TWO.action_names.index(name) for tool in TWO.tools for name in tool.joints]
    points = kinematics.points(guard.in_force[None, columns])[0]
    assert points[:7, 1].min() > 0.02 and points[7:, 1].max() < -0.02


def test_a_standing_camera_shows_the_cube_where_it_projects_it_and_one_on_the_arm_has_no_place() -> None:
    import mujoco

    cell = SimCell(MODEL, CellNames(JOINTS), HOME)
    place = cell.camera_pose("front")
    assert place is not None
    assert cell.camera_pose("wrist") is None
    with pytest.raises(UnknownNameError, match="valid: front, wrist"):
        cell.camera_pose("rear")
    width, height = 160, 120
    focal = SimCamera(cell, "front", width, height).focal_px
    k = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    camera = CameraModel(width, height, k, place)
    renderer = mujoco.Renderer(cell.model, height, width)
    renderer.enable_segmentation_rendering()
    body = cell.model.body("cube")
    geoms = range(body.geomadr[0], body.geomadr[0] + body.geomnum[0])
    for seed in range(4):
        cell.reset(seed)
        renderer.update_scene(cell.data, "front")
        shown = np.argwhere(np.isin(renderer.render()[..., 0], list(geoms)))[:, ::-1]
        assert len(shown) > 8
        pixel, depth = camera.project(cell.data.body("cube").xpos)
        assert 0.3 < depth < 2.0
        assert np.linalg.norm(shown.mean(axis=0) - pixel) < 1.0
    renderer.close()
