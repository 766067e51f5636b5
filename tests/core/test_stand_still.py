"""An arm stands when it says so again and again, from one place."""

import numpy as np
import pytest

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.stand_still import STILL, STILL_NS, StandStill
from robot_stack.paths import robot_file

SPEC = RobotSpec.load(robot_file("sim_arm"))
STEP_NS = 5_000_000


def time_to_stand(velocity: np.ndarray, limit_ns: int = 400_000_000) -> int | None:
    """Nanoseconds until an arm of this velocity [A] is called standing; None: it is not within the limit."""
    still = StandStill(SPEC)
    for now_ns in range(0, limit_ns, STEP_NS):
        if still.stands(velocity * now_ns / 1e9, now_ns):
            return now_ns
    return None


def test_an_arm_at_rest_stands_once_it_has_rested() -> None:
    assert time_to_stand(np.zeros(7)) == STILL_NS


@pytest.mark.parametrize("joint", range(6))
def test_the_slowest_motion_that_counts_is_a_part_of_each_joint_s_largest(joint: int) -> None:
    unit = np.eye(7)[joint] * SPEC.max_velocity[joint] * STILL
    assert time_to_stand(unit * 0.9) == STILL_NS
    assert time_to_stand(unit * 1.2) is None
    assert time_to_stand(unit * -30.0) is None


def test_a_gripper_may_move() -> None:
    assert time_to_stand(np.eye(7)[-1] * SPEC.max_velocity[-1]) == STILL_NS


def test_silence_is_no_standing_still() -> None:
    still = StandStill(SPEC)
    assert not any(still.stands(np.zeros(7), 0) for _ in range(100))
    assert still.stands(np.zeros(7), STILL_NS)


def test_a_new_motion_and_a_reset_begin_anew() -> None:
    still = StandStill(SPEC)
    still.stands(np.zeros(7), 0)
    assert not still.stands(np.full(7, 0.1), STILL_NS)
    assert still.stands(np.full(7, 0.1), 2 * STILL_NS)
    still.reset()
    assert not still.stands(np.full(7, 0.1), 3 * STILL_NS)
