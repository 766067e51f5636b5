"""Following a leader: never a jump, always one straight way, at the approach's speed first."""

import dataclasses

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_stack.core.robot_spec import ActionKind, ActionSpec, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.approach import Approach
from robot_stack.paths import robot_file

SPEC = RobotSpec.load(robot_file("so101"))
SIM = RobotSpec.load(robot_file("sim_metaworld"))
HERE = np.array([0.0, 0.2, -0.3, 0.1, 0.5, 0.0])
PARTS = st.lists(st.floats(-1.3, 1.3), min_size=6, max_size=6)


def place(parts: list[float]) -> FloatArray:
    """Part -1 is the lower limit, 1 the upper."""
    return SPEC.lower + (np.array(parts) + 1.0) / 2.0 * (SPEC.upper - SPEC.lower)


@given(start=PARTS, leader=PARTS)
def test_it_arrives_on_a_straight_way_in_steps_of_at_most_the_approachs_speed(start: list[float], leader: list[float]) -> None:
    here, there = np.clip(place(start), SPEC.lower, SPEC.upper), place(leader)
    end = np.clip(there, SPEC.lower, SPEC.upper)
    assume(np.abs(end - here)[:5].max() > 1e-3)  # shorter ways have no direction to speak of
    approach, at = Approach(SPEC, 0.3), here
    for _ in range(2000):
        before, at = at, approach.target(at, there)
        limit = SPEC.max_step if approach.following else 0.3 * SPEC.max_step
        assert (np.abs(at - before) <= limit + 1e-9).all()
        way = end[:5] - here[:5]
        done = (at[:5] - here[:5]) @ way / max(way @ way, 1e-12)
        np.testing.assert_allclose(at[:5], here[:5] + done * way, atol=1e-9)
        if np.allclose(at, end, atol=1e-9):
            break
    np.testing.assert_allclose(at, end, atol=1e-9)


def test_once_there_it_follows_at_full_speed_until_it_is_reset() -> None:
    approach, far = Approach(SPEC, 0.25), HERE + np.array([1.0, 0, 0, 0, 0, 0])
    assert approach.target(HERE, far)[0] == 0.25 * SPEC.max_step[0] and not approach.following
    approach.target(HERE, HERE)
    assert approach.following and approach.target(HERE, far)[0] == SPEC.max_step[0]
    approach.reset()
    assert approach.target(HERE, far)[0] == 0.25 * SPEC.max_step[0]


def test_a_gripper_that_is_still_on_its_way_holds_up_nobody() -> None:
    approach = Approach(SPEC, 0.5)
    near = HERE + np.array([0.001, 0, 0, 0, 0, 1.0])
    target = approach.target(HERE, near)
    np.testing.assert_allclose(target, HERE + np.array([0.001, 0, 0, 0, 0, 0.5 * SPEC.max_step[5]]))


def test_a_turn_takes_the_shortest_way() -> None:
    turns = [ActionSpec(name, ActionKind.ROTATION, -4.0, 4.0, 1.0, 10.0) for name in ("rx", "ry", "rz")]
    spec = dataclasses.replace(SIM, actions=(*SIM.actions[:3], *turns, SIM.actions[3]))
    start, end = Rotation.from_euler("xyz", [0.3, 0.2, 0.1]), Rotation.from_euler("xyz", [1.0, -0.5, 2.0])
    at = np.array([0.0, 0.6, 0.2, *start.as_rotvec(), 1.0])
    there = np.array([0.0, 0.6, 0.2, *end.as_rotvec(), 1.0])
    approach, angle, whole = Approach(spec, 1.0), 0.0, (start.inv() * end).magnitude()
    for _ in range(200):
        before, at = Rotation.from_rotvec(at[3:6]), approach.target(at, there)
        angle += (before.inv() * Rotation.from_rotvec(at[3:6])).magnitude()
    assert (Rotation.from_rotvec(at[3:6]).inv() * end).magnitude() < 1e-9
    np.testing.assert_allclose(angle, whole, atol=1e-9)
