"""The guard's laws: inside the limits, along the path, idempotent, never stuck on a face of the box."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_stack.core.robot_spec import ActionKind, ActionSpec, RobotSpec
from robot_stack.core.safety import Guard, GuardReason, Onsets, StreamAge, check_ages
from robot_stack.paths import robot_file

SPEC = RobotSpec.load(robot_file("sim_metaworld"))
FREE = dataclasses.replace(SPEC, max_jump=1e9)  # jumps would hide the other limits
HOME = np.array([0.0, 0.6, 0.2, 1.0])
TOLERANCE = 1e-7


def at(place: np.ndarray, spec: RobotSpec = SPEC) -> Guard:
    """A guard whose arm rests at ``place``."""
    guard = Guard(spec)
    guard.start(place)
    return guard


anywhere = st.lists(st.floats(-3, 3, allow_nan=False), min_size=4, max_size=4).map(np.array)


@st.composite
def inside(draw: st.DrawFn) -> np.ndarray:
    """A point of the box; its faces and corners are drawn often."""
    fraction = [draw(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))) for _ in SPEC.actions]
    return SPEC.lower + np.array(fraction) * (SPEC.upper - SPEC.lower)


@given(inside(), anywhere)
def test_inside_limits_and_never_further_than_one_step(previous: np.ndarray, target: np.ndarray) -> None:
    sent = at(previous, FREE).check(target).target
    assert (sent >= SPEC.lower).all() and (sent <= SPEC.upper).all()
    assert (np.abs(sent - previous) <= SPEC.max_step + TOLERANCE).all()


@given(inside(), anywhere)
def test_stays_on_the_path(previous: np.ndarray, target: np.ndarray) -> None:
    sent = at(previous, FREE).check(target).target
    moved, wanted = (sent - previous)[:3], (target - previous)[:3]
    length = np.linalg.norm(wanted)
    if length > 1e-6:
        along = float(moved @ wanted) / length
        assert -TOLERANCE <= along <= length + TOLERANCE
        assert np.linalg.norm(moved - along * wanted / length) <= TOLERANCE


@given(inside(), anywhere)
def test_idempotent(previous: np.ndarray, target: np.ndarray) -> None:
    once = at(previous, FREE).check(target).target
    twice = at(previous, FREE).check(once)
    np.testing.assert_allclose(twice.target, once, atol=TOLERANCE)
    assert twice.reasons == ()


@given(inside(), inside())
def test_what_is_allowed_is_not_touched(previous: np.ndarray, other: np.ndarray) -> None:
    step = np.clip(other - previous, -SPEC.max_step, SPEC.max_step)
    verdict = at(previous).check(previous + step)
    np.testing.assert_allclose(verdict.target, previous + step, atol=TOLERANCE)
    assert verdict.reasons == ()


@pytest.mark.parametrize("step", [(0.02, 0.0, 0.0), (0.0, -0.03, 0.0), (0.01, 0.01, 0.02), (0.02, 0.0, -1e-12)])
def test_not_stuck_on_a_face(step: tuple[float, float, float]) -> None:
    """From the floor of the box, along it or upwards (also with round-off below it), the whole step is taken."""
    floor = np.array([0.1, 0.6, SPEC.lower[2], 1.0])
    verdict = at(floor).check(floor + np.array([*step, 0.0]))
    np.testing.assert_allclose(verdict.target[:3], floor[:3] + np.array(step), atol=TOLERANCE)
    assert verdict.reasons == ()


def test_a_previous_target_outside_the_box_may_only_come_back() -> None:
    below = np.array([0.0, 0.6, SPEC.lower[2] - 0.05, 1.0])
    up = at(below).check(below + np.array([0.0, 0.0, 0.02, 0.0]))
    assert up.target[2] == pytest.approx(below[2] + 0.02) and up.reasons == ()
    down = at(below).check(below - np.array([0.0, 0.0, 0.02, 0.0]))
    np.testing.assert_allclose(down.target, below, atol=TOLERANCE)
    assert down.reasons == (GuardReason.POSITION,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axis", range(4))
def test_not_finite_holds(bad: float, axis: int) -> None:
    target = HOME.copy()
    target[axis] = bad
    verdict = at(HOME).check(target)
    np.testing.assert_array_equal(verdict.target, HOME)
    assert verdict.reasons == (GuardReason.NOT_FINITE,)


def test_a_jump_holds_for_as_long_as_it_lasts_but_running_ahead_is_no_jump() -> None:
    guard = at(HOME)
    far = HOME + np.array([0.2, 0.0, 0.0, 0.0])
    for _ in range(3):
        verdict = guard.check(far)
        assert verdict.reasons == (GuardReason.JUMP,)
        np.testing.assert_array_equal(verdict.target, HOME)
    guard = at(HOME)
    for k in range(1, 6):  # asks for 25 % more than full speed: shortened every time, yet never taken for a jump
        verdict = guard.check(HOME + np.array([0.05 * k, 0.0, 0.0, 0.0]))
        assert verdict.reasons == (GuardReason.VELOCITY,)
    np.testing.assert_allclose(guard.in_force - HOME, [0.2, 0, 0, 0], atol=TOLERANCE)


def test_e_stop_is_latched_and_counted() -> None:
    guard = at(HOME)
    guard.e_stop()
    for _ in range(3):
        assert guard.check(HOME + 0.01 * np.array([1, 0, 0, 0])).reasons == (GuardReason.E_STOP,)
    assert guard.counts == {GuardReason.E_STOP: 3}
    guard.reset_e_stop()
    assert guard.check(HOME).reasons == ()


def test_a_reason_is_told_once_however_long_it_holds_or_flickers_and_again_after_a_pause() -> None:
    onsets, speed, stop = Onsets(quiet_ns=100), GuardReason.VELOCITY, GuardReason.E_STOP
    held = [onsets.among((speed,), now) for now in range(0, 500, 50)]
    assert held == [(speed,), *[()] * 9]
    assert onsets.among((), 500) == () and onsets.among((speed, stop), 550) == (stop,)
    assert onsets.among((speed, stop), 651) == (speed, stop)


def test_two_clocks_judge_an_age() -> None:
    second = 1_000_000_000
    limit = 200_000_000
    fresh = StreamAge("a", 10 * second, 5 * second, limit)
    old_stamp = StreamAge("b", 10 * second - limit - 1, 5 * second, limit)
    old_receipt = StreamAge("c", 10 * second, 5 * second - limit - 1, limit, GuardReason.STALE_CHUNK)
    future = StreamAge("d", 11 * second, 5 * second, limit)
    never = StreamAge("e", None, None, limit)
    stamp_only = StreamAge("f", 10 * second, None, limit)
    expired = check_ages([fresh, old_stamp, old_receipt, future, never, stamp_only], 10 * second, 5 * second)
    assert [age.name for age in expired] == ["b", "c", "d", "e"]


def test_rotations_are_scaled_as_one_turn() -> None:
    """A turn about a fixed axis that is too fast is shortened to the speed limit about the same axis."""
    turns = tuple(ActionSpec(f"r{axis}", ActionKind.ROTATION, -3.2, 3.2, 2.0, 80.0) for axis in "xyz")
    spec = dataclasses.replace(SPEC, actions=(*SPEC.actions[:3], *turns, SPEC.actions[3]), max_jump=1e9)
    previous = np.array([0.0, 0.6, 0.2, 0.3, 0.0, 0.0, 1.0])
    target = previous + np.array([0.02, 0.0, 0.0, 0.4, 0.0, 0.0, 0.0])
    verdict = at(previous, spec).check(target)
    np.testing.assert_allclose(verdict.target - previous, [0.005, 0, 0, 0.1, 0, 0, 0], atol=TOLERANCE)
    assert verdict.reasons == (GuardReason.VELOCITY,)


def test_a_gripper_finishes_what_it_was_asked_for_unless_something_is_wrong() -> None:
    slow = dataclasses.replace(SPEC, actions=(*SPEC.actions[:3], dataclasses.replace(SPEC.actions[3], max_velocity=4.0)))
    guard = at(HOME, slow)  # open; at 20 Hz it closes by 0.2 a tick
    closed = np.array([*HOME[:3], 0.0])
    assert guard.check(closed).target[3] == pytest.approx(0.8)
    assert guard.check(None).target[3] == pytest.approx(0.6)
    assert guard.check(None, (GuardReason.STALE_OBSERVATION,)).target[3] == pytest.approx(0.6)
    for _ in range(5):
        guard.check(None)
    assert guard.in_force[3] == 0.0
