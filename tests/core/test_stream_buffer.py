"""Values at a tick, and how old they are."""

import numpy as np
import pytest

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import check_ages
from robot_stack.core.stream_buffer import RobotStreams, StreamBuffer
from robot_stack.paths import robot_file

MS = 1_000_000
SPEC = RobotSpec.load(robot_file("sim_metaworld"))


def test_value_at_a_time() -> None:
    buffer: StreamBuffer[str] = StreamBuffer("x", depth=3)
    assert buffer.latest is None and buffer.until(10) is None and not buffer.reaches(0)
    for stamp, value in ((10, "a"), (20, "b"), (20, "again"), (15, "late"), (30, "c")):
        buffer.push(stamp, stamp + 1, value)
    assert [buffer.until(stamp).value for stamp in (10, 19, 20, 29, 99)] == ["a", "a", "b", "b", "c"]
    assert buffer.until(9) is None
    assert buffer.since(11).value == "b" and buffer.since(31) is None
    assert buffer.reaches(30) and not buffer.reaches(31)
    buffer.push(40, 41, "d")  # the oldest falls out
    assert buffer.until(19) is None


def filled(lock_step: bool) -> RobotStreams:
    streams = RobotStreams(SPEC, lock_step)
    for tick in range(3):
        stamp = tick * 50 * MS
        streams.cameras["front"].push(stamp, stamp, np.full((64, 64, 3), tick, np.uint8))
        streams.poses["ee_pose"].push(stamp, stamp, np.array([0.1 * tick, 0.6, 0.2, 3.1, 0.0, 0.0]))
        streams.joints.push(stamp, stamp, {"right_j0": 0.0, "gripper": 0.5 * tick})
    return streams


def test_an_observation_belongs_to_its_tick() -> None:
    streams = filled(lock_step=True)
    commanded = np.array([0.0, 0.6, 0.2, 1.0])
    for tick in range(3):
        seen = streams.observe(tick * 50 * MS, commanded, "press")
        assert seen is not None
        assert seen.stamp_ns == tick * 50 * MS
        assert seen.images["front"][0, 0, 0] == tick
        np.testing.assert_allclose(seen.state, [0.1 * tick, 0.6, 0.2, 0.5 * tick])
    assert streams.observe(-1, commanded, "press") is None
    assert streams.complete(100 * MS) and not streams.complete(101 * MS)


def test_a_state_that_nobody_publishes_is_not_invented() -> None:
    streams = filled(lock_step=True)
    streams.joints.push(150 * MS, 150 * MS, {"right_j0": 0.0})
    assert streams.state(100 * MS) is not None
    assert streams.state(150 * MS) is None


@pytest.mark.parametrize("lock_step", [True, False])
def test_ages(lock_step: bool) -> None:
    streams = filled(lock_step)
    fresh, late = 110 * MS, 301 * MS
    assert check_ages(streams.ages(), fresh, fresh) == ()
    assert {age.name for age in check_ages(streams.ages(), late, fresh)} == {"front", "ee_pose", "joint_states"}
    expired = check_ages(streams.ages(), fresh, late)  # stamps fine, but nothing has come for long
    assert len(expired) == (0 if lock_step else 3)
    assert len(check_ages(RobotStreams(SPEC).ages(), 0, 0)) == 3
    assert streams.skew_ns() == 0
    streams.poses["ee_pose"].push(140 * MS, 140 * MS, np.zeros(6))
    assert streams.skew_ns() == 40 * MS
