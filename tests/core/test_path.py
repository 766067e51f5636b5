"""The path goes through every target, smoothly, within the limits, however slowly the arm follows."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_stack.core.actions import compose, decompose
from robot_stack.core.chunk_buffer import ChunkBuffer
from robot_stack.core.path import ChunkPath
from robot_stack.core.robot_spec import ActionKind, ActionSpec, RobotSpec
from robot_stack.core.safety import Guard
from robot_stack.core.types import ActionChunk
from robot_stack.paths import robot_file

SIM = RobotSpec.load(robot_file("sim_metaworld"))  # 20 Hz
RATIO = 5  # commands for each target
PERIOD_S = 1 / (SIM.rate_hz * RATIO)
HOME = np.array([0.0, 0.6, 0.2, 1.0])
REST = np.zeros(4)
TURNS = tuple(ActionSpec(f"r{axis}", ActionKind.ROTATION, -3.0, 3.0, 1.0, 10.0) for axis in "xyz")
TOOL = dataclasses.replace(SIM, actions=(*SIM.actions[:3], *TURNS, SIM.actions[3]))


def limited(spec: RobotSpec, velocity: float, acceleration: float) -> RobotSpec:
    """The robot with these limits for every axis of the path, and room to move."""
    limits = {"lower": -10.0, "upper": 10.0, "max_velocity": velocity, "max_acceleration": acceleration}
    actions = tuple(
        action if action.kind is ActionKind.GRIPPER else dataclasses.replace(action, **limits) for action in spec.actions
    )
    return dataclasses.replace(spec, actions=actions, max_jump=1e9)


FREE = limited(SIM, 1e6, 1e9)  # always in time


def waiting(targets: np.ndarray, stamp_ns: int = 0) -> ChunkBuffer:
    buffer = ChunkBuffer(targets.shape[1])
    buffer.push(ActionChunk(stamp_ns, SIM.period_ns, targets), stamp_ns)
    return buffer


def walk(path: ChunkPath, buffer: ChunkBuffer, start: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Points [T, A] to the end of the path; the arm takes ``scale`` of each step."""
    points = [start]
    velocity = np.zeros_like(start)
    for _ in range(10_000):
        wanted = path.ask(points[-1], velocity, buffer, now_ns=0)
        if wanted is None:
            return np.array(points)
        points.append(points[-1] + scale * (wanted - points[-1]))
        velocity = (points[-1] - points[-2]) / PERIOD_S
        path.advance(scale)
    raise AssertionError("the path never ends")


def guarded_walk(path: ChunkPath, guard: Guard, targets: np.ndarray) -> np.ndarray:
    """Points [T, A] from home to the end of the path; the guard has nothing to do."""
    guard.start(HOME)
    points, buffer = [HOME], waiting(targets)
    while (wanted := path.ask(guard.in_force, guard.velocity, buffer, now_ns=0)) is not None:
        verdict = guard.check(wanted)
        assert verdict.reasons == ()
        path.advance(verdict.scale)
        points.append(verdict.target)
        assert len(points) < 5000
    return np.array(points)


targets_of_chunks = st.lists(st.lists(st.floats(-0.03, 0.03), min_size=3, max_size=3), min_size=1, max_size=12).map(
    lambda deltas: HOME + np.hstack([np.cumsum(np.array(deltas), axis=0), np.zeros((len(deltas), 1))])
)


@given(targets_of_chunks)
@settings(deadline=None)
def test_where_the_limits_allow_it_it_is_at_each_target_when_it_is_due(targets: np.ndarray) -> None:
    points = walk(ChunkPath(FREE, PERIOD_S), waiting(targets), HOME)
    assert len(points) == 1 + RATIO * len(targets)
    np.testing.assert_allclose(points[RATIO::RATIO], targets, atol=1e-9)


@given(targets_of_chunks, st.lists(st.integers(0, 3), min_size=12, max_size=12))
@settings(deadline=None)
def test_no_axis_goes_beyond_its_targets_even_where_some_are_repeated(targets: np.ndarray, repeats: list[int]) -> None:
    held = np.repeat(targets, [1 + count for count in repeats[: len(targets)]], axis=0)
    points = walk(ChunkPath(FREE, PERIOD_S), waiting(held), HOME)
    passed = np.vstack([HOME, held])
    for k in range(len(held)):
        between = points[k * RATIO : (k + 1) * RATIO + 1]
        low, high = np.minimum(passed[k], passed[k + 1]), np.maximum(passed[k], passed[k + 1])
        assert (between >= low - 1e-9).all() and (between <= high + 1e-9).all()


@given(targets_of_chunks)
@settings(deadline=None, max_examples=20)
def test_velocity_is_continuous(targets: np.ndarray) -> None:
    """A cubic's second difference is bounded by its second derivative: at most 10 times the largest step, by u squared."""
    largest = np.abs(np.diff(np.vstack([HOME, targets]), axis=0)).max() + 1e-12
    points = walk(ChunkPath(FREE, PERIOD_S / 20), waiting(targets), HOME)
    assert np.abs(np.diff(points, n=2, axis=0)).max() <= 10 * largest / (RATIO * 20) ** 2 * 1.01 + 1e-12


@given(targets_of_chunks, st.floats(0.1, 2.0), st.floats(0.5, 20.0))
@settings(deadline=None, max_examples=80)
def test_within_any_limits_it_goes_through_every_target_and_the_guard_has_nothing_to_do(
    targets: np.ndarray, velocity: float, acceleration: float
) -> None:
    spec = limited(SIM, velocity, acceleration)
    guard = Guard(spec, PERIOD_S)
    points = guarded_walk(ChunkPath(spec, PERIOD_S), guard, targets)
    distances = np.linalg.norm(np.array(points)[:, None] - targets[None], axis=2).min(axis=0)
    longest = np.linalg.norm(np.diff(points, axis=0), axis=1).max()
    assert distances.max() <= longest / 2 + 1e-9  # a target lies between two commands at most
    np.testing.assert_allclose(points[-1], targets[-1], atol=1e-9)
    guard.check(None)
    assert guard.at_rest  # without a further step
    np.testing.assert_allclose(guard.in_force, targets[-1], atol=1e-9)


@given(targets_of_chunks, st.floats(-0.5, 0.5), st.floats(0.1, 0.5), st.floats(0.5, 2.0), st.floats(0.5, 20.0))
@settings(deadline=None, max_examples=60)
def test_a_chunk_that_begins_far_away_is_approached_at_the_speed_for_that(
    targets: np.ndarray, aside: float, away: float, velocity: float, acceleration: float
) -> None:
    """Through the same targets, the guard has nothing to do, and it is slow until the first of them is near."""
    spec = dataclasses.replace(limited(SIM, velocity, acceleration), max_jump=1.5)
    targets = targets + np.array([2 * away * velocity, aside, 0.0, 0.0])
    path, guard, buffer = ChunkPath(spec, PERIOD_S), Guard(spec, PERIOD_S), waiting(targets)
    guard.start(HOME)
    speeds, begun = [], []
    while (wanted := path.ask(guard.in_force, guard.velocity, buffer, now_ns=0)) is not None:
        begun += path.begun
        verdict = guard.check(wanted, seam=True)
        assert verdict.reasons == ()
        path.advance(verdict.scale)
        if len(begun) == 1:
            speeds.append(np.abs(guard.velocity).max())
        assert len(begun) + len(speeds) < 50_000
    assert max(speeds) <= spec.approach_speed * velocity + 1e-9
    np.testing.assert_allclose(begun, targets)
    np.testing.assert_allclose(guard.in_force, targets[-1], atol=1e-9)


@pytest.mark.parametrize(("velocity", "acceleration"), [(0.7, 2.0), (0.5, 0.3), (2.0, 20.0)])
def test_a_long_chunk_is_planned_in_parts_which_changes_nothing(velocity: float, acceleration: float) -> None:
    """The same way in the same time as when all of it is known at once."""
    turns = np.sin(np.arange(120) / 9.0)[:, None] * np.array([1.0, 0.5, -0.3, 0.0])
    targets = HOME + np.cumsum(0.02 * turns, axis=0)
    spec = limited(SIM, velocity, acceleration)
    whole = ChunkPath(spec, PERIOD_S)
    whole._needed = len(targets)
    times = {}
    for name, path in (("whole", whole), ("parts", ChunkPath(spec, PERIOD_S))):
        points = guarded_walk(path, Guard(spec, PERIOD_S), targets)
        np.testing.assert_allclose(points[-1], targets[-1], atol=1e-9)
        times[name] = len(points)
    assert times["whole"] <= times["parts"] <= 1.02 * times["whole"] + 1


def test_a_straight_way_takes_hardly_more_time_than_the_limits_need() -> None:
    """0.3 m at 0.5 m/s and 2 m/s2: at least 0.6 s + 0.25 s."""
    spec = limited(SIM, 0.5, 2.0)
    targets = HOME + 0.03 * np.arange(1, 11)[:, None] * np.array([1.0, 0, 0, 0])  # 0.6 m/s
    points = walk(ChunkPath(spec, PERIOD_S), waiting(targets), HOME)
    assert 0.85 <= (len(points) - 1) * PERIOD_S <= 0.85 * 1.1


@given(targets_of_chunks, st.floats(0.1, 0.95))
@settings(deadline=None, max_examples=25)
def test_a_slow_arm_stays_on_the_path_and_reaches_its_end(targets: np.ndarray, scale: float) -> None:
    exact = walk(ChunkPath(FREE, PERIOD_S / 20), waiting(targets), HOME)
    slow = walk(ChunkPath(FREE, PERIOD_S), waiting(targets), HOME, scale)
    distances = np.linalg.norm(slow[:, None] - exact[None], axis=2).min(axis=1)
    longest = np.linalg.norm(np.diff(np.vstack([HOME, targets]), axis=0), axis=1).max()
    assert distances.max() <= 0.06 * longest + 1e-9  # chords between commands, not shortcuts between targets
    np.testing.assert_allclose(slow[-1], targets[-1], atol=1e-6)


def test_a_new_chunk_changes_only_what_comes_after_the_next_target() -> None:
    """Half way to the second target another chunk comes that turns off; the arm arrives at the second, without a corner."""
    x, y = np.array([0.01, 0, 0, 0]), np.array([0, 0.01, 0, 0])
    buffer = waiting(HOME + np.arange(1, 9)[:, None] * x)
    path = ChunkPath(FREE, PERIOD_S)
    points, velocity = [HOME], REST
    for tick in range(4 * RATIO):
        if tick == RATIO + 2:
            turned_off = HOME + 2 * x + np.arange(1, 9)[:, None] * y
            buffer.replace(ActionChunk(0, SIM.period_ns, turned_off), 0)
        wanted = path.ask(points[-1], velocity, buffer, now_ns=tick)
        assert wanted is not None
        velocity = (wanted - points[-1]) / PERIOD_S
        points.append(wanted)
        path.advance(1.0)
    np.testing.assert_allclose(points[2 * RATIO], HOME + 2 * x, atol=1e-9)
    np.testing.assert_allclose(points[3 * RATIO], HOME + 2 * x + y, atol=1e-9)
    assert np.abs(np.diff(points, n=2, axis=0)).max() < 0.01 / RATIO  # a corner would change a step of that size at once


def test_after_a_pause_it_begins_where_the_arm_is_with_the_velocity_that_it_has() -> None:
    path, empty = ChunkPath(limited(SIM, 1.0, 5.0), PERIOD_S), ChunkBuffer(4)
    assert path.ask(HOME, REST, empty, now_ns=0) is None
    walk(path, waiting(HOME[None] + [[0.01, 0, 0, 0]]), HOME)
    velocity = np.array([0.0, 0.2, 0.0, 0.0])
    elsewhere = HOME + np.array([0.0, 0.1, 0.0, 0.0])
    first = path.ask(elsewhere, velocity, waiting(elsewhere[None] + [[0.01, 0.01, 0, 0]]), now_ns=0)
    assert first is not None
    assert np.abs(first - elsewhere - velocity * PERIOD_S).max() <= 5.0 * PERIOD_S**2 + 1e-9


def test_turns_go_the_shortest_way_and_grippers_straight() -> None:
    start = np.array([0.0, 0.6, 0.2, 0.0, 0.0, 2.9, 1.0])
    delta = np.array([0.0, 0.0, 0.0, 0.0, 0.05, 0.1, 0.0])
    targets = compose(start, np.tile(delta, (4, 1)), TOOL.action_kinds)
    targets[:, -1] = [0.0, 0.0, 0.5, 1.0]
    points = walk(ChunkPath(limited(TOOL, 1e6, 1e9), PERIOD_S), waiting(targets), start)
    np.testing.assert_allclose(points[RATIO::RATIO], targets, atol=1e-9)
    turns = np.linalg.norm(decompose(points[:-1], points[1:, None], TOOL.action_kinds)[:, 0, 3:6], axis=1)
    assert turns.max() < 1.6 * np.linalg.norm(delta) / RATIO  # none goes the long way round
    np.testing.assert_allclose(np.diff(points[: RATIO + 1, -1]), -1.0 / RATIO)


@pytest.mark.parametrize("ratio", [1, 3, 10])
def test_any_ratio_of_rates(ratio: int) -> None:
    targets = HOME + 0.01 * np.arange(1, 5)[:, None]
    points = walk(ChunkPath(FREE, 1 / (SIM.rate_hz * ratio)), waiting(targets), HOME)
    np.testing.assert_allclose(points[ratio::ratio], targets, atol=1e-9)
