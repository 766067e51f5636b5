"""The simulated arm's controller refuses and interpolates as ros2_control's joint_trajectory_controller does."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from robot_stack.drivers.trajectory_controller import (
    ControllerSettings,
    JointTrajectoryGoal,
    RejectedTrajectoryError,
    TrajectoryController,
)

MS = 1_000_000
NOW = 10_000 * MS
AT = np.array([0.1, 0.2])
REST = np.zeros(2)
GOAL = JointTrajectoryGoal(
    stamp_ns=NOW,
    names=("a", "b"),
    times_ns=(20 * MS, 40 * MS),
    positions=((0.2, 0.3), (0.3, 0.4)),
    velocities=((1.0, 1.0), (0.0, 0.0)),
)


def controller(**settings: Any) -> TrajectoryController:
    return TrajectoryController(("a", "b"), AT, ControllerSettings(**settings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("a", "c")}, r"joints \['a', 'c'\] are not those of the controller"),
        ({"names": ("a",), "positions": ((0.2,), (0.3,)), "velocities": ((0.0,), (0.0,))}, "are not those of the controller"),
        ({"times_ns": (), "positions": (), "velocities": ()}, "no points"),
        ({"positions": ((0.2, 0.3), (0.3,))}, "point 1 has 1 positions"),
        ({"velocities": ((1.0, 1.0), (0.0, 0.1))}, "joint b has a velocity at the last point"),
        ({"stamp_ns": NOW - 50 * MS}, "it ended 0.010 s ago"),
        ({"times_ns": (20 * MS, 20 * MS)}, "points 0 and 1 are not strictly increasing"),
    ],
)
def test_what_the_controller_refuses_changes_nothing(change: dict[str, Any], message: str) -> None:
    arm = controller()
    with pytest.raises(RejectedTrajectoryError, match=message):
        arm.accept(dataclasses.replace(GOAL, **change), NOW)
    np.testing.assert_array_equal(arm.update(NOW, AT, REST), AT)
    arm.accept(GOAL, NOW)  # unchanged, it is taken


def test_names_may_come_in_any_order() -> None:
    arm = controller()
    arm.accept(dataclasses.replace(GOAL, names=("b", "a")), NOW)
    np.testing.assert_allclose(arm.update(NOW + 100 * MS, AT, REST), [0.4, 0.3])


def test_between_points_with_velocities_it_goes_by_a_cubic_else_straight() -> None:
    arm = controller()
    arm.accept(GOAL, NOW)
    halfway = arm.update(NOW + 28 * MS, AT, REST)  # commands 2 ms ahead: the middle from 20 to 40 ms
    np.testing.assert_allclose(halfway, np.array([0.25, 0.35]) + 0.02 * (1.0 - 0.0) / 8)  # h (v0 - v1) / 8 above the chord
    straight = controller()
    straight.accept(dataclasses.replace(GOAL, velocities=((), ())), NOW)
    np.testing.assert_allclose(straight.update(NOW + 28 * MS, AT, REST), [0.25, 0.35])


def test_after_the_last_point_it_stays_there() -> None:
    arm = controller()
    arm.accept(GOAL, NOW)
    for after in (40, 41, 10_000):
        np.testing.assert_array_equal(arm.update(NOW + after * MS, AT, REST), [0.3, 0.4])


def test_a_trajectory_without_a_stamp_begins_when_it_is_first_sampled() -> None:
    arm = controller()
    arm.accept(dataclasses.replace(GOAL, stamp_ns=0), NOW)
    arm.update(NOW + 500 * MS, AT, REST)
    np.testing.assert_allclose(arm.update(NOW + 518 * MS, AT, REST), [0.2, 0.3])


@pytest.mark.parametrize(("from_desired", "origin"), [(True, AT), (False, AT - 0.05)])
def test_before_the_first_point_it_comes_from_the_desired_or_from_the_measured_state(
    from_desired: bool, origin: np.ndarray
) -> None:
    arm = controller(interpolate_from_desired_state=from_desired)
    arm.accept(dataclasses.replace(GOAL, velocities=((), ())), NOW)
    measured = AT - 0.05
    first = arm.update(NOW, measured, REST)
    # Without velocities in the message the measured one is dropped, too: a straight line, sampled one update ahead.
    np.testing.assert_allclose(first, origin + (np.array([0.2, 0.3]) - origin) * 2 / 20, atol=1e-12)


def test_points_in_the_past_are_sampled_directly() -> None:
    """Without a blend: the set point jumps to where the trajectory is now."""
    arm = controller()
    arm.accept(dataclasses.replace(GOAL, stamp_ns=NOW - 30 * MS, velocities=((), ())), NOW)
    np.testing.assert_allclose(arm.update(NOW, AT, REST), np.array([0.2, 0.3]) + 0.1 * 12 / 20)
