"""Whatever is asked for, and whenever it is cut off: inside the limits, and able to brake inside them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_stack.core.actions import decompose
from robot_stack.core.limits import Limit, MotionLimits
from robot_stack.core.robot_spec import ActionKind, ActionSpec, RobotSpec, Violation
from robot_stack.core.safety import Guard, GuardReason
from robot_stack.paths import robot_file

PERIOD_S = 0.01
TOLERANCE = 1e-6

SIM = RobotSpec.load(robot_file("sim_metaworld"))
GRIPPER = SIM.actions[-1]
JOINTS = (
    ActionSpec("a", ActionKind.JOINT, -1.0, 1.0, 2.0, 5.0),
    ActionSpec("b", ActionKind.JOINT, -0.2, 0.5, 1.0, 10.0),
    ActionSpec("c", ActionKind.JOINT, 0.0, 3.0, 3.0, 3.0),
)
ARM = dataclasses.replace(SIM, actions=(*JOINTS, GRIPPER), max_jump=1e9)
TURNS = tuple(ActionSpec(f"r{axis}", ActionKind.ROTATION, -0.6, 0.6, 1.0, 6.0) for axis in "xyz")
MOVES = tuple(dataclasses.replace(action, max_acceleration=2.0) for action in SIM.actions[:3])
TOOL = dataclasses.replace(SIM, actions=(*MOVES, *TURNS, GRIPPER), max_jump=1e9)


def middle(spec: RobotSpec) -> np.ndarray:
    return (spec.lower + spec.upper) / 2


@st.composite
def requests(draw: st.DrawFn, spec: RobotSpec) -> list[tuple[np.ndarray | None, int]]:
    """Targets anywhere (None: the arm has to hold), each asked for during some periods."""
    far = st.floats(-1.5, 1.5, allow_nan=False)
    size = len(spec.actions)
    span = spec.upper - spec.lower

    def target(factors: list[float]) -> np.ndarray:
        return middle(spec) + np.array(factors) * span

    place = st.lists(far, min_size=size, max_size=size).map(target)
    return draw(st.lists(st.tuples(st.one_of(st.none(), place, place, place), st.integers(1, 40)), min_size=1, max_size=8))


def follow(spec: RobotSpec, asked: list[tuple[np.ndarray | None, int]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Targets that a guard lets through [T, A], and the brake that was at hand after each."""
    guard = Guard(spec, PERIOD_S)
    guard.start(middle(spec))
    sent, tails = [guard.in_force], [guard.tail]
    for target, periods in asked:
        for _ in range(periods):
            blocked = (GuardReason.STALE_OBSERVATION,) if target is None else ()
            sent.append(guard.check(guard.in_force if target is None else target, blocked).target)
            tails.append(guard.tail)
    return np.array(sent), tails


def check_limits(spec: RobotSpec, targets: np.ndarray) -> None:
    """Positions, velocities and accelerations of targets [T, A] that begin at rest are within the limits."""
    assert (targets >= spec.lower - TOLERANCE).all() and (targets <= spec.upper + TOLERANCE).all()
    steps = decompose(targets[:-1], targets[1:, None], spec.action_kinds)[:, 0]
    path = np.array([kind is not ActionKind.GRIPPER for kind in spec.action_kinds])
    velocity = np.vstack([np.zeros(len(spec.actions)), steps / PERIOD_S])[:, path]
    assert (np.abs(velocity) <= spec.max_velocity[path] + TOLERANCE).all()
    assert (np.abs(np.diff(velocity, axis=0)) / PERIOD_S <= spec.max_acceleration[path] + 1e-3).all()


@pytest.mark.parametrize("spec", [ARM, TOOL], ids=["joints", "tool"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_sequence_of_requests_breaks_a_limit_not_even_when_it_is_cut_off(spec: RobotSpec, data: st.DataObject) -> None:
    sent, tails = follow(spec, data.draw(requests(spec)))
    check_limits(spec, sent)
    for k, tail in enumerate(tails):
        rest = tail[-1:] if len(tail) else sent[k : k + 1]
        check_limits(spec, np.vstack([sent[: k + 1], tail, rest]))  # the last velocity is zero


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_hold_brakes_straight_on_and_as_its_tail_has_said(data: st.DataObject) -> None:
    guard = Guard(ARM, PERIOD_S)
    guard.start(middle(ARM))
    for target, periods in data.draw(requests(ARM)):
        for _ in range(periods):
            guard.check(guard.in_force if target is None else target)
    velocity, tail = guard.velocity.copy(), guard.tail
    guard.e_stop()
    braked = np.array([guard.check(guard.in_force).target for _ in range(len(tail) + 3)])
    np.testing.assert_allclose(braked[: len(tail)], tail, atol=1e-9)
    np.testing.assert_array_equal(braked[len(tail) :], np.broadcast_to(braked[-1], (3, 4)))
    start = tail[0] - velocity * PERIOD_S if len(tail) else braked[0]
    moved = braked - start
    if len(tail):  # every point lies on the ray of the velocity: one scale for all joints
        along = moved[:, :3] @ velocity[:3] / (velocity[:3] @ velocity[:3])
        np.testing.assert_allclose(moved[:, :3], along[:, None] * velocity[:3], atol=1e-9)


def test_a_brake_takes_the_least_number_of_periods() -> None:
    limits = MotionLimits(ARM, PERIOD_S)
    velocity = np.array([0.5, -1.0, 0.3, 0.0])  # 10, 10 and 10 periods at full deceleration: 0.5 / (5 * 0.01), ...
    assert limits.brake_periods(velocity) == 10
    tail = limits.tail(middle(ARM), velocity)
    assert len(tail) == 9
    np.testing.assert_allclose(tail[-1] - middle(ARM), velocity * PERIOD_S * 4.5, atol=1e-12)  # sum of 0.9, 0.8, ..., 0.1
    assert limits.brake_periods(velocity * 1.01) == 11
    assert limits.brake_periods(np.zeros(4)) == 1 and len(limits.tail(middle(ARM), np.zeros(4))) == 0


def test_towards_a_face_the_arm_arrives_at_rest_and_in_good_time() -> None:
    """One joint from rest over one radian: a triangle of velocity takes sqrt(4 d / a) = 0.894 s."""
    one = dataclasses.replace(ARM, actions=(ActionSpec("a", ActionKind.JOINT, -1.0, 1.0, 10.0, 5.0),))
    guard = Guard(one, PERIOD_S)
    guard.start(np.zeros(1))
    ticks = 0
    while guard.in_force[0] < 1.0 - 1e-4 and ticks < 200:
        reasons = guard.check(np.array([2.0])).reasons
        ticks += 1
    assert GuardReason.POSITION in reasons
    assert guard.in_force[0] <= 1.0
    assert 0.894 - 0.01 <= ticks * PERIOD_S <= 0.894 * 1.05


def test_what_is_within_the_limits_is_followed_exactly() -> None:
    """A smooth motion that uses most of the velocity and acceleration that there is."""
    time_s = np.arange(300)[:, None] * PERIOD_S
    offset = np.array([0.0, -0.5, 0.2]) * np.pi
    swing = np.sin(2.0 * time_s + offset) - np.sin(offset)
    begin = np.clip(time_s / 1.5, 0, 1)
    growing = begin**2 * (3 - 2 * begin)
    path = middle(ARM) + np.hstack([swing * [0.3, 0.15, 0.4], np.zeros((300, 1))]) * growing
    guard = Guard(ARM, PERIOD_S)
    guard.start(path[0])
    for target in path[1:]:
        verdict = guard.check(target)
        assert verdict.reasons == () and verdict.scale == 1.0
        np.testing.assert_array_equal(verdict.target, target)


def test_where_the_robot_file_says_hold_a_violation_brakes() -> None:
    slow, hold = ARM, dataclasses.replace(ARM, on_violation=Violation.HOLD)
    target = middle(ARM) + np.array([0.05, 0.0, 0.0, 0.0])
    for spec, moves in ((slow, True), (hold, False)):
        guard = Guard(spec, PERIOD_S)
        guard.start(middle(ARM))
        verdict = guard.check(target)
        assert GuardReason.ACCELERATION in verdict.reasons
        assert (verdict.scale > 0.0) == moves
        assert (np.abs(verdict.target - middle(ARM)).max() > 1e-6) == moves


def test_names_of_limits_are_those_of_the_guard() -> None:
    assert {limit.value for limit in Limit} <= {reason.value for reason in GuardReason}


def test_pressed_against_a_face_for_long_nothing_creeps_out() -> None:
    guard = Guard(ARM, PERIOD_S)
    guard.start(middle(ARM))
    for _ in range(3000):
        guard.check(ARM.upper + 1.0)
    assert (guard.in_force <= ARM.upper).all()
