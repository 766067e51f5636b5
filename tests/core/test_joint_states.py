"""Joint states in parts, in any order, with a gripper in its own units."""

import pytest

from robot_stack.core.joint_states import JointStates
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.stream_buffer import RobotStreams
from robot_stack.paths import robot_file

MS = 1_000_000
UR5E = RobotSpec.load(robot_file("ur5e"))
ARM = {name: 0.1 * index for index, name in enumerate(UR5E.joint_names)}
KNUCKLE = "robotiq_85_left_knuckle_joint"


@pytest.mark.parametrize(("position", "opening"), [(0.0, 1.0), (0.7929, 0.0), (0.39645, 0.5), (0.8, 0.0), (-0.01, 1.0)])
def test_the_opening_is_the_joint_between_closed_and_open(position: float, opening: float) -> None:
    streams = RobotStreams(UR5E)
    scrambled = dict(reversed({**ARM, "track_joint": 7.0, KNUCKLE: position}.items()))
    streams.push_joints(10 * MS, 10 * MS, scrambled)
    assert streams.joints.latest is not None
    assert streams.joints.latest.value["gripper"] == pytest.approx(opening)
    assert {name: streams.joints.latest.value[name] for name in ARM} == ARM


def test_a_joint_named_as_the_action_already_is_the_opening() -> None:
    merged = JointStates(RobotSpec.load(robot_file("sim_arm"))).merged(0, {**ARM, "gripper": 0.25})
    assert merged is not None and merged[1]["gripper"] == 0.25


def test_a_gripper_with_messages_of_its_own_neither_dates_the_arm_nor_outlives_its_age() -> None:
    states = JointStates(UR5E)
    assert states.merged(0, {KNUCKLE: 0.0}) is None  # the arm has not spoken yet
    for k in range(1, 200):
        merged = states.merged(2 * k * MS, ARM)
        assert merged is not None and merged[0] == 2 * k * MS
        assert ("gripper" in merged[1]) == (2 * k <= 200)  # max_state_age_ms after its only message
    merged = states.merged(399 * MS, {KNUCKLE: 0.0})
    assert merged is not None and merged[0] == 398 * MS and merged[1]["gripper"] == 1.0


def test_half_an_arm_that_falls_silent_ages_the_whole() -> None:
    streams, names = RobotStreams(UR5E), list(ARM)
    first, second = ({name: ARM[name] for name in half} for half in (names[:3], names[3:]))
    streams.push_joints(10 * MS, 10 * MS, first)
    assert streams.joints.latest is None
    for k in range(2, 10):
        streams.push_joints(10 * k * MS, 0, second)
        assert streams.joints.latest is not None and streams.joints.latest.stamp_ns == 10 * MS
    streams.push_joints(95 * MS, 0, first)
    assert streams.joints.latest is not None and streams.joints.latest.stamp_ns == 90 * MS


def test_a_late_message_changes_nothing() -> None:
    states = JointStates(UR5E)
    states.merged(20 * MS, ARM)
    merged = states.merged(10 * MS, dict.fromkeys(ARM, 9.0))
    assert merged is not None and merged[0] == 20 * MS and {name: merged[1][name] for name in ARM} == ARM
