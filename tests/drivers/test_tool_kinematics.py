"""Forward kinematics: the UR5e against inverse kinematics, the SO-101 against what is known of it."""

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("mink") is None:
    pytest.skip("needs the kinematics extra", allow_module_level=True)

from scipy.spatial.transform import Rotation

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.inverse_kinematics import InverseKinematics
from robot_stack.drivers.mujoco_kinematics import MujocoKinematics
from robot_stack.paths import config_dir, robot_file

MODELS = config_dir() / "model"
SO101 = RobotSpec.load(robot_file("so101"))
JOINTS = SO101.commands[0].joints


def test_pose_is_the_one_that_inverse_kinematics_sees() -> None:
    spec = RobotSpec.load(robot_file("sim_arm"))
    joints = spec.commands[0].joints
    inverse = InverseKinematics(MODELS / "ur5e_cell.xml", joints, "tool", spec.lower[:6], spec.upper[:6])
    forward = MujocoKinematics(MODELS / "ur5e_cell.xml", joints, ("tool",))
    for q in np.random.default_rng(0).uniform(spec.lower[:6], spec.upper[:6], (20, 6)):
        for ours, theirs in zip(forward.poses(q)[0], inverse.pose(q), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_so101_has_the_lengths_of_its_links_and_points_along_x_at_zero() -> None:
    tool = MujocoKinematics(MODELS / "so101.xml", JOINTS, ("tool",))
    place, turn = tool.poses(np.zeros(5))[0]
    assert place[0] > 0.3 and abs(place[1]) < 0.03 and place[2] > 0.1
    np.testing.assert_allclose(Rotation.from_rotvec(turn).apply([0, 0, 1]), [1, 0, 0], atol=1e-6)  # its gripper, too
    points = MujocoKinematics(MODELS / "so101.xml", JOINTS, ("upper_arm", "lower_arm", "wrist"))
    arm = slice(0, 5)
    for shoulder, elbow, wrist in points.points(np.random.default_rng(0).uniform(SO101.lower[arm], SO101.upper[arm], (20, 5))):
        assert np.linalg.norm(elbow - shoulder) == pytest.approx(0.116, abs=1e-3)  # lengths as LeRobot's examples have them
        assert np.linalg.norm(wrist - elbow) == pytest.approx(0.135, abs=1e-3)


def test_each_joint_of_so101_turns_about_its_axis() -> None:
    tool = MujocoKinematics(MODELS / "so101.xml", JOINTS, ("tool",))
    upright = Rotation.from_rotvec(tool.poses(np.zeros(5))[0][1])
    axes = []
    for joint in range(5):
        turned = Rotation.from_rotvec(tool.poses(0.2 * np.eye(5)[joint])[0][1]) * upright.inv()
        assert turned.magnitude() == pytest.approx(0.2, abs=1e-6)
        axes.append(np.abs(turned.as_rotvec() / 0.2))
    np.testing.assert_allclose(axes, [[0, 0, 1], [0, 1, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]], atol=1e-6)


def test_what_the_model_lacks_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown joint of the arm's model 'knee'"):
        MujocoKinematics(MODELS / "so101.xml", ["knee"], ("tool",))
    with pytest.raises(UnknownNameError, match="unknown site or body of the arm's model 'hand'; valid: .*tool"):
        MujocoKinematics(MODELS / "so101.xml", JOINTS, ("hand",))
    with pytest.raises(BadFileError, match="not a model that MuJoCo reads"):
        MujocoKinematics(MODELS / "nowhere.xml", JOINTS, ("tool",))
