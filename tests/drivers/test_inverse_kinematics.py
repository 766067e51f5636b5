"""Inverse of forward, within limits, and a refusal where the arm cannot or should not go."""

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("mink") is None:
    pytest.skip("needs the kinematics extra", allow_module_level=True)

from robot_stack.core import se3
from robot_stack.core.actions import compose, decompose
from robot_stack.core.errors import UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.arm_motion import motion_of
from robot_stack.drivers.inverse_kinematics import InverseKinematics, UnreachablePoseError
from robot_stack.paths import config_dir, robot_file

SPEC = RobotSpec.load(robot_file("sim_arm"))
MODEL = config_dir() / "model" / "ur5e_cell.xml"
JOINTS = SPEC.commands[0].joints
LOWER, UPPER = SPEC.lower[:6], SPEC.upper[:6]
HOME = np.array([0.0, -1.4, -1.9, -1.4, np.pi / 2, 0.0])


@pytest.fixture(scope="module")
def arm() -> InverseKinematics:
    return InverseKinematics(MODEL, JOINTS, "tool", LOWER, UPPER)


def test_the_inverse_of_a_pose_has_that_pose_and_keeps_the_limits(arm: InverseKinematics) -> None:
    rng = np.random.default_rng(0)
    solved = 0
    for _ in range(60):
        goal = np.clip(HOME + rng.uniform(-0.5, 0.5, 6), LOWER, UPPER)
        position, turn = arm.pose(goal)
        try:
            joints = arm.solve(HOME, position, turn)
        except UnreachablePoseError:
            continue
        solved += 1
        reached, reached_turn = arm.pose(joints)
        np.testing.assert_allclose(reached, position, atol=2e-4)
        assert np.linalg.norm(se3.turn_between(turn, reached_turn)) < 2e-3
        assert (joints >= LOWER - 1e-6).all() and (joints <= UPPER + 1e-6).all()
    assert solved >= 55


def test_small_steps_of_the_tool_are_small_steps_of_the_joints(arm: InverseKinematics) -> None:
    position, turn = arm.pose(HOME)
    for axis in np.eye(3):
        step = arm.solve(HOME, position + 0.005 * axis, turn) - HOME
        assert 0 < np.abs(step).max() < 0.05


def test_out_of_reach_is_refused_with_what_is_missing(arm: InverseKinematics) -> None:
    _, turn = arm.pose(HOME)
    with pytest.raises(UnreachablePoseError, match=r"cannot reach \[2.0, 0.0, 0.3\] m: 1\d\d\d mm are missing"):
        arm.solve(HOME, np.array([2.0, 0.0, 0.3]), turn)


def test_near_a_singularity_is_refused() -> None:
    """With the fifth joint at zero the axes of the fourth and the sixth are parallel."""
    free = InverseKinematics(MODEL, JOINTS, "tool", np.full(6, -3.1), np.full(6, 3.1))
    parallel = HOME.copy()
    parallel[4] = 0.0
    position, turn = free.pose(parallel)
    with pytest.raises(UnreachablePoseError, match="close to a singularity"):
        free.solve(parallel, position, turn)


def test_unknown_names_are_listed() -> None:
    with pytest.raises(UnknownNameError, match="site of the arm's model 'gripper'; valid: tool"):
        InverseKinematics(MODEL, JOINTS, "gripper", LOWER, UPPER)
    with pytest.raises(UnknownNameError, match="elbow_joint"):
        InverseKinematics(MODEL, ("elbow",), "tool", LOWER[:1], UPPER[:1])


def test_motion_of_a_tool_and_back() -> None:
    """Poses to joints to poses; what is not finite stays so, for the guard."""
    spec = RobotSpec.load(robot_file("sim_arm_pose"))
    motion = motion_of(spec)
    home = np.append(HOME, 1.0)
    start = motion.to_actions(home[None])[0]
    targets = start + np.array([0.01, -0.005, 0.008, 0.0, 0.0, 0.0, -0.1]) * np.arange(1, 9)[:, None]
    targets[:, 3:6] = compose(start, np.tile([0.0] * 3 + [0.0, 0.02, -0.03, 0.0], (8, 1)), spec.action_kinds)[:, 3:6]
    commands = motion.to_commands(home, targets)
    assert np.abs(np.diff(commands, axis=0)[:, :6]).max() < 0.1  # no change of branch
    back = motion.to_actions(commands)
    np.testing.assert_allclose(back[:, :3], targets[:, :3], atol=2e-4)
    np.testing.assert_allclose(decompose(back, targets[:, None], spec.action_kinds)[:, 0, 3:6], 0.0, atol=2e-3)
    np.testing.assert_array_equal(back[:, 6], targets[:, 6])
    targets[3, 1] = np.nan
    broken = motion.to_commands(home, targets)
    assert np.isnan(broken[3]).all() and np.isfinite(np.delete(broken, 3, axis=0)).all()


def test_a_robot_that_is_commanded_by_what_policies_speak_needs_no_kinematics() -> None:
    motion = motion_of(RobotSpec.load(robot_file("sim_arm")))
    targets = np.arange(14.0).reshape(2, 7)
    np.testing.assert_array_equal(motion.to_commands(targets[0], targets), targets)
    np.testing.assert_array_equal(motion.to_actions(targets), targets)
