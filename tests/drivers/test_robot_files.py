"""The shipped robot files of real arms: inside the vendor's limits, with models that have the published kinematics."""

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("mink") is None:
    pytest.skip("needs the kinematics extra", allow_module_level=True)

from robot_stack.core import se3
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.arm_model import model_file, tool_kinematics
from robot_stack.drivers.arm_workspace import penetration_of
from robot_stack.drivers.inverse_kinematics import InverseKinematics, UnreachablePoseError
from robot_stack.drivers.mujoco_kinematics import MujocoKinematics
from robot_stack.paths import config_dir, robot_file

UR5E, FR3 = (RobotSpec.load(robot_file(name)) for name in ("ur5e", "fr3"))
WITH_MODEL = [path.stem for path in sorted((config_dir() / "robot").glob("*.yaml")) if RobotSpec.load(path).model]
# Tool down in front of the arm.
READY = {
    "ur5e": np.array([0.0, -1.4, -1.9, -1.4, np.pi / 2, 0.0]),
    "sim_arm": np.array([0.0, -1.4, -1.9, -1.4, np.pi / 2, 0.0]),
    "fr3": np.array([0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4]),
}


def standard_dh(joints: np.ndarray, a: tuple, d: tuple, alpha: tuple) -> np.ndarray:
    """Pose of the last frame [4, 4]: Denavit and Hartenberg's own convention, as Universal Robots use it."""
    T = np.eye(4)
    for q, a_i, d_i, alpha_i in zip(joints, a, d, alpha, strict=True):
        c, s, ca, sa = np.cos(q), np.sin(q), np.cos(alpha_i), np.sin(alpha_i)
        T @= np.array([[c, -s * ca, s * sa, a_i * c], [s, c * ca, -c * sa, a_i * s], [0, sa, ca, d_i], [0, 0, 0, 1]])
    return T


def craig_dh(joints: np.ndarray, a: tuple, d: tuple, alpha: tuple) -> np.ndarray:
    """The same by Craig's convention, as Franka Robotics use it."""
    T = np.eye(4)
    for q, a_i, d_i, alpha_i in zip(joints, a, d, alpha, strict=True):
        c, s, ca, sa = np.cos(q), np.sin(q), np.cos(alpha_i), np.sin(alpha_i)
        T @= np.array([[c, -s, 0, a_i], [s * ca, c * ca, -sa, -d_i * sa], [s * sa, c * sa, ca, d_i * ca], [0, 0, 0, 1]])
    return T


def placed(x: float, y: float, z: float, turn_z: float = 0.0) -> np.ndarray:
    c, s = np.cos(turn_z), np.sin(turn_z)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1]])


def ur5e_tool(joints: np.ndarray) -> np.ndarray:
    """Universal Robots, "DH parameters for calculations of kinematics and dynamics"; gripper and coupling along z."""
    half = np.pi / 2
    flange = standard_dh(
        joints, (0, -0.425, -0.3922, 0, 0, 0), (0.1625, 0, 0, 0.1333, 0.0997, 0.0996), (half, 0, 0, half, -half, 0)
    )
    return flange @ placed(0, 0, 0.163 + 0.011)


def fr3_tool(joints: np.ndarray) -> np.ndarray:
    """Franka Robotics, "Robot and interface specifications"; the hand turned by -45 degrees, its TCP 0.1034 m further."""
    half = np.pi / 2
    last = craig_dh(
        np.append(joints, 0.0),
        (0, 0, 0, 0.0825, -0.0825, 0, 0.088, 0),
        (0.333, 0, 0.316, 0, 0.384, 0, 0, 0.107),
        (0, -half, half, half, -half, half, half, 0),
    )
    return last @ placed(0, 0, 0.1034, -np.pi / 4)


@pytest.mark.parametrize(("spec", "published"), [(UR5E, ur5e_tool), (FR3, fr3_tool)], ids=["ur5e", "fr3"])
def test_forward_kinematics_are_the_published_ones(spec: RobotSpec, published) -> None:
    arm, rng = tool_kinematics(spec), np.random.default_rng(0)
    for joints in rng.uniform(spec.lower[:-1], spec.upper[:-1], (50, len(spec.joint_names))):
        T_base_tool = published(joints)
        position, turn = arm.poses(joints)[0]
        np.testing.assert_allclose(position, T_base_tool[:3, 3], atol=1e-7)
        x, y, z, w = se3.quaternion(turn)
        axes = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w)], [2 * (x * y + z * w), 1 - 2 * (x * x + z * z)]])
        np.testing.assert_allclose(axes, T_base_tool[:2, :2], atol=1e-7)
        np.testing.assert_allclose([2 * (x * z - y * w), 2 * (y * z + x * w)], T_base_tool[2, :2], atol=1e-7)


def test_the_simulated_arm_and_the_real_one_share_their_kinematics() -> None:
    joints = np.random.default_rng(1).uniform(-3, 3, (20, 6))
    simulated, real = (
        MujocoKinematics(config_dir() / "model" / f"{name}.xml", UR5E.joint_names, ("flange", "wrist_1_link"))
        for name in ("ur5e_cell", "ur5e")
    )
    np.testing.assert_array_equal(simulated.points(joints), real.points(joints))


@pytest.mark.parametrize("name", WITH_MODEL)
def test_every_model_has_the_joints_the_tool_and_the_points_of_its_robot_file(name: str) -> None:
    spec = RobotSpec.load(robot_file(name))
    for position, turn in tool_kinematics(spec).poses(np.zeros(len(spec.joint_names))):
        assert np.isfinite([*position, *turn]).all()
    penetration = penetration_of(spec.motion)
    assert (penetration is None) == (spec.workspace is None)


@pytest.mark.parametrize("name", READY)
def test_the_inverse_of_a_pose_has_that_pose(name: str) -> None:
    spec = RobotSpec.load(robot_file(name))
    joints = np.array([name in spec.joint_names for name in spec.action_names])
    lower, upper = spec.lower[joints], spec.upper[joints]
    arm = InverseKinematics(model_file(spec), spec.joint_names, spec.tools[0].frame, lower, upper)
    rng, solved = np.random.default_rng(0), 0
    for _ in range(40):
        position, turn = arm.pose(np.clip(READY[name] + rng.uniform(-0.3, 0.3, joints.sum()), lower, upper))
        try:
            found = arm.solve(READY[name], position, turn)
        except UnreachablePoseError:
            continue
        solved += 1
        reached, reached_turn = tool_kinematics(spec).poses(found)[0]
        np.testing.assert_allclose(reached, position, atol=2e-4)
        assert np.linalg.norm(se3.turn_between(turn, reached_turn)) < 2e-3
    assert solved >= 36


@pytest.mark.parametrize(("spec", "published"), [(UR5E, ur5e_tool), (FR3, fr3_tool)], ids=["ur5e", "fr3"])
def test_the_workspace_refuses_wherever_the_published_tool_is_outside(spec: RobotSpec, published) -> None:
    penetration = penetration_of(spec)
    assert penetration is not None and spec.workspace is not None and spec.workspace.inside is not None
    ready = np.append(READY[spec.name], 1.0)
    assert (ready >= spec.lower).all() and (ready <= spec.upper).all()
    assert penetration(ready[None])[0] < 0
    joints = np.random.default_rng(2).uniform(spec.lower, spec.upper, (300, len(spec.actions)))
    outside = np.array([spec.workspace.inside.depth(published(row[:-1])[:3, 3]) < 0 for row in joints])
    assert 30 < outside.sum() < 270
    assert (penetration(joints)[outside] > 0).all()


def test_the_ur5e_stays_within_its_vendor_s_limits() -> None:
    """ur_description, config/ur5e/joint_limits.yaml."""
    turn = np.radians([360, 360, 180, 360, 360, 360])
    assert (UR5E.lower[:6] >= -turn).all() and (UR5E.upper[:6] <= turn).all()
    assert (UR5E.max_velocity[:6] <= np.radians(180)).all() and (UR5E.max_acceleration[:6] <= np.radians(180)).all()
    assert UR5E.max_velocity[6] <= 150 / 85  # mm/s over mm


def fr3_fastest(end_distance: np.ndarray) -> np.ndarray:
    """Largest speed [rad/s] at a distance [rad] from the end of each joint's range: Franka, "Limits for Franka Research 3"."""
    offset, k = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35]), np.array([12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0])
    return np.minimum([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26], np.sqrt(k * end_distance) - offset)


def test_the_fr3_stays_within_its_vendor_s_limits_wherever_it_is() -> None:
    upper = np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159])  # franka_description, joint_limits.yaml
    lower = np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159])
    assert (FR3.lower[:7] > lower).all() and (FR3.upper[:7] < upper).all()
    # The ends from which the formula counts lie a little further out.
    ends = np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196])
    begins = np.array([-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196])
    speed = FR3.max_velocity[:7]
    assert (speed <= fr3_fastest(ends - FR3.upper[:7])).all() and (speed <= fr3_fastest(FR3.lower[:7] - begins)).all()
    assert (FR3.max_acceleration[:7] <= 10.0).all()
    assert (2 * FR3.max_acceleration[:7] / 0.001 <= 5000.0).all()  # a reversal within one period of the controller
    assert FR3.max_velocity[7] <= 50 / 40


@pytest.mark.parametrize("name", ["ur5e", "fr3"])
def test_joints_of_actions_state_and_model_agree(name: str) -> None:
    spec = RobotSpec.load(robot_file(name))
    assert spec.commands[0].joints == spec.commands[0].actions == spec.joint_names
    assert spec.state_names == spec.action_names == (*spec.joint_names, "gripper")
    assert all(camera.sensor_noise and camera.compression == "jpeg" for camera in spec.cameras)
