"""A key moves the tool along an axis of the base frame, on arms of either kind."""

import dataclasses
import importlib.util

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

if importlib.util.find_spec("mink") is None:
    pytest.skip("needs the kinematics extra", allow_module_level=True)

from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import ActionKind, ActionSpec, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.mujoco_kinematics import MujocoKinematics
from robot_stack.drivers.tool_jog import TOOL_SPEED, TURN_SPEED, make_jog
from robot_stack.paths import config_dir, robot_file

SIM = RobotSpec.load(robot_file("sim_metaworld"))
ARM = RobotSpec.load(robot_file("sim_arm"))
FIVE = RobotSpec.load(robot_file("so101"))
HOME = np.array([0.0, -1.4, -1.9, -1.4, np.pi / 2, 0.0, 1.0])


def tool(target: FloatArray) -> FloatArray:
    model = config_dir() / "model" / "ur5e_cell.xml"
    return np.asarray(MujocoKinematics(model, ARM.commands[0].joints, ("tool",)).points(target[None, :6])[0, 0])


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_joint_level_arm_moves_its_tool_straight(axis: int, sign: float) -> None:
    jog = make_jog(ARM)
    motion = sign * np.eye(6)[axis]
    target = HOME
    for _ in range(10):
        target = jog.moved(target, motion, speed=0.4)
    expected = motion[:3] * 10 * 0.4 * TOOL_SPEED / ARM.rate_hz
    np.testing.assert_allclose(tool(target) - tool(HOME), expected, atol=1e-3)
    assert target[-1] == HOME[-1]


@pytest.mark.parametrize("axis", range(3))
def test_a_joint_level_arm_turns_its_tool_where_it_is_about_an_axis_of_the_base(axis: int) -> None:
    jog, turn = make_jog(ARM), 0.4 * TURN_SPEED / ARM.rate_hz
    target = HOME
    for _ in range(10):
        target = jog.moved(target, np.eye(6)[3 + axis], speed=0.4)
    joints, names = ARM.commands[0].joints, ("tool", "wrist_3_link")
    points = MujocoKinematics(config_dir() / "model" / "ur5e_cell.xml", joints, names).points(np.stack([HOME, target])[:, :6])
    np.testing.assert_allclose(points[1, 0], points[0, 0], atol=2e-3)
    turned = Rotation.from_rotvec(10 * turn * np.eye(3)[axis])
    np.testing.assert_allclose(points[1, 1] - points[1, 0], turned.apply(points[0, 1] - points[0, 0]), atol=2e-3)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_an_arm_of_five_joints_moves_its_tool_straight_and_turns_it_where_it_can(axis: int, sign: float) -> None:
    joints, start = FIVE.commands[0].joints, np.array([0.2, -0.4, 0.6, 0.7, 0.1, 1.0])
    jog, tool = make_jog(FIVE), MujocoKinematics(config_dir() / "model" / "so101.xml", joints, ("tool",))

    def walk(motion: FloatArray) -> tuple[FloatArray, Rotation]:
        """How far the tool gets in ten actions, and its turn."""
        target = start
        for _ in range(10):
            target = jog.moved(target, motion, speed=0.4)
        before, after = tool.poses(start[:5])[0], tool.poses(target[:5])[0]
        return after[0] - before[0], Rotation.from_rotvec(after[1]) * Rotation.from_rotvec(before[1]).inv()

    moved, turned = walk(sign * np.eye(6)[axis])
    np.testing.assert_allclose(moved, sign * 4.0 * TOOL_SPEED / FIVE.rate_hz * np.eye(3)[axis], atol=1e-3)
    assert turned.magnitude() < 0.2  # about the upright axis it turns with its shoulder, as it must
    pitch = sign * np.eye(6)[4]
    moved, turned = walk(pitch)
    np.testing.assert_allclose(moved, 0.0, atol=1e-3)
    np.testing.assert_allclose(turned.as_rotvec(), 4.0 * TURN_SPEED / FIVE.rate_hz * pitch[3:], atol=0.02)


def test_a_pose_commanded_arm_turns_about_the_axes_of_the_base() -> None:
    turns = [ActionSpec(name, ActionKind.ROTATION, -4.0, 4.0, 1.0, 10.0) for name in ("rx", "ry", "rz")]
    arm = dataclasses.replace(SIM, actions=(*SIM.actions[:3], *turns, SIM.actions[3]))
    here = np.array([0.0, 0.6, 0.2, *Rotation.from_euler("xyz", [2.0, 0.3, 0.4]).as_rotvec(), 1.0])
    moved = make_jog(arm).moved(here, np.eye(6)[5], 0.5)
    expected = Rotation.from_rotvec([0.0, 0.0, 0.5 * 1.0 / arm.rate_hz]) * Rotation.from_rotvec(here[3:6])
    assert (Rotation.from_rotvec(moved[3:6]).inv() * expected).magnitude() < 1e-9
    assert np.array_equal(moved[[0, 1, 2, 6]], here[[0, 1, 2, 6]])
    assert np.array_equal(make_jog(SIM).moved(here[[0, 1, 2, 6]], np.eye(6)[5], 0.5), here[[0, 1, 2, 6]])  # it cannot turn


def test_no_key_is_no_motion() -> None:
    np.testing.assert_array_equal(make_jog(ARM).moved(HOME, np.zeros(6), 0.4), HOME)


def test_a_position_commanded_arm_moves_by_a_part_of_its_largest_step() -> None:
    here = np.array([0.0, 0.6, 0.2, 1.0])
    moved = make_jog(SIM).moved(here, -np.eye(6)[2], 0.5)
    np.testing.assert_allclose(moved - here, [0, 0, -0.02, 0])


def test_where_the_arm_cannot_go_it_says_so() -> None:
    jog = make_jog(ARM)

    def walk() -> None:
        target = HOME
        for _ in range(400):
            target = jog.moved(target, np.eye(6)[0], 1.0)

    with pytest.raises(ProphRLError, match=r"cannot reach|singularity"):
        walk()
    with pytest.raises(ProphRLError, match="its file names neither positions nor a model"):
        make_jog(dataclasses.replace(ARM, model="", workspace=None))


def test_each_of_two_arms_is_moved_by_itself() -> None:
    two = RobotSpec.load(robot_file("sim_two_arms"))
    home, names = np.array(two.home), two.joint_names
    model = MujocoKinematics(config_dir() / "model" / f"{two.model}.xml", names, [tool.frame for tool in two.tools])
    columns = [two.action_names.index(name) for name in names]
    for moved_arm, tool_spec in enumerate(two.tools):
        moved = make_jog(two, tool_spec).moved(home, np.eye(6)[2], 0.4)
        before, after = model.points(np.stack([home, moved])[:, columns])
        shift = after - before
        np.testing.assert_allclose(shift[moved_arm], [0, 0, 0.4 * TOOL_SPEED / two.rate_hz], atol=1e-4)
        np.testing.assert_array_equal(shift[1 - moved_arm], np.zeros(3))
