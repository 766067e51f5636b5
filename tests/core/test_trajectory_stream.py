"""Through a controller that interpolates, the arm goes as the guard has allowed it, and stops when no more messages come."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_stack.core.robot_spec import ActionKind, ActionSpec, RobotSpec
from robot_stack.core.safety import Guard
from robot_stack.core.trajectory_stream import TimedPoints, TrajectoryStream
from robot_stack.core.types import Command
from robot_stack.drivers.trajectory_controller import ControllerSettings, JointTrajectoryGoal, TrajectoryController
from robot_stack.paths import robot_file

PERIOD_NS = 10_000_000
UPDATE_NS = 2_000_000
START_NS = 1_000_000_000
MAX_VELOCITY, MAX_ACCELERATION = 1.0, 10.0
NAMES = ("a", "b")
SPEC = dataclasses.replace(
    RobotSpec.load(robot_file("sim_metaworld")),
    actions=tuple(ActionSpec(name, ActionKind.JOINT, -1.0, 1.0, MAX_VELOCITY, MAX_ACCELERATION) for name in NAMES),
    command_rate_hz=100.0,
    max_jump=1e9,
)
HOME = np.zeros(2)


def goal_of(points: TimedPoints) -> JointTrajectoryGoal:
    times = [time_ns - START_NS for time_ns in points.times_ns]
    return JointTrajectoryGoal(START_NS, NAMES, times, points.positions.tolist(), points.velocities.tolist())


class World:
    """A guard that is asked for anything, its stream, and a controller that gets its messages late."""

    def __init__(self, stream: TrajectoryStream, settings: ControllerSettings | None = None) -> None:
        self.guard = Guard(SPEC, PERIOD_NS / 1e9)
        self.guard.start(HOME)
        self.stream = stream
        stream.start(HOME)
        self.controller = TrajectoryController(NAMES, HOME, settings)
        self.set_points = [HOME]
        self.sent = [HOME]
        self.now_ns = START_NS

    def tick(self, target: np.ndarray | None, latency: int = 1) -> None:
        """One period; the message arrives ``latency`` updates after it was sent, or never (-1)."""
        verdict = self.guard.check(target)
        points = self.stream.extend(
            Command(self.now_ns, PERIOD_NS, verdict.target, self.guard.velocity, self.guard.tail), self.now_ns
        )
        self.sent.append(verdict.target)
        for update in range(PERIOD_NS // UPDATE_NS):
            if update == latency:
                self.controller.accept(goal_of(points), self.now_ns)
            self.update()

    def update(self) -> None:
        self.set_points.append(self.controller.update(self.now_ns, HOME, HOME))
        self.now_ns += UPDATE_NS

    def check_limits(self) -> None:
        velocity = np.diff(self.set_points, axis=0) / (UPDATE_NS / 1e9)
        acceleration = np.diff(velocity, axis=0) / (UPDATE_NS / 1e9)
        assert np.abs(velocity).max() <= MAX_VELOCITY + 1e-6
        assert np.abs(acceleration).max() <= MAX_ACCELERATION + 1e-3


targets = st.lists(
    st.tuples(st.one_of(st.none(), st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(np.array)), st.integers(1, 30)),
    min_size=1,
    max_size=6,
)


@given(targets, st.integers(1, 4), st.lists(st.floats(0, 1), min_size=1, max_size=20), st.booleans())
@settings(deadline=None, max_examples=60)
def test_set_points_keep_the_limits_whatever_is_asked_and_whenever_messages_come(
    asked: list[tuple[np.ndarray | None, int]], lead: int, lateness: list[float], from_desired: bool
) -> None:
    updates = PERIOD_NS // UPDATE_NS
    latest = min(updates - 1, int((lead - 0.5) * updates) - 1)  # and one update, by which the controller looks ahead
    latencies = [round(late * latest) for late in lateness]
    world = World(TrajectoryStream(lead), ControllerSettings(interpolate_from_desired_state=from_desired))
    tick = 0
    for target, periods in asked:
        for _ in range(periods):
            world.tick(target, latencies[tick % len(latencies)])
            tick += 1
    world.check_limits()


@given(targets, st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_when_no_more_messages_come_the_arm_stops_within_the_limits_where_the_tail_ends(
    asked: list[tuple[np.ndarray | None, int]], lead: int
) -> None:
    world = World(TrajectoryStream(lead))
    for target, periods in asked:
        for _ in range(periods):
            world.tick(target)
    rest = world.guard.tail[-1] if len(world.guard.tail) else world.guard.in_force
    for _ in range(1000):
        world.update()
    world.check_limits()
    np.testing.assert_allclose(world.set_points[-1], rest, atol=1e-9)
    np.testing.assert_array_equal(world.set_points[-1], world.set_points[-2])


def test_the_arm_goes_through_what_was_sent_later_by_the_lead() -> None:
    """At constant velocity the set point is the target of ``lead`` periods ago, one update ahead."""
    for lead in (1, 3):
        world = World(TrajectoryStream(lead))
        for k in range(1, 60):
            world.tick(HOME + np.array([0.002, -0.001]) * k)
        updates = PERIOD_NS // UPDATE_NS
        behind = np.array(world.sent)[-1 - lead - 5 : -1 - lead]
        reached = np.array(world.set_points)[-updates * 5 :: updates]
        np.testing.assert_allclose(reached, behind + np.array([0.002, -0.001]) * 0.2, atol=1e-9)


def test_every_message_is_one_that_the_controller_takes_and_as_short_as_it_can_be() -> None:
    stream = TrajectoryStream(lead=2)
    stream.start(HOME)
    guard = Guard(SPEC, PERIOD_NS / 1e9)
    guard.start(HOME)
    for k in range(50):
        now_ns = START_NS + k * PERIOD_NS
        guard.check(np.array([1.0, 0.5]))
        points = stream.extend(Command(now_ns, PERIOD_NS, guard.in_force, guard.velocity, guard.tail), now_ns)
        assert (np.diff(points.times_ns) > 0).all()
        np.testing.assert_array_equal(points.velocities[-1], HOME)
        assert points.times_ns[-2] - now_ns <= 300_000_000  # what is committed before the brake
        assert len(points.times_ns) <= 6
        if k > 5:
            assert points.times_ns[0] <= now_ns < points.times_ns[1]


def test_joined_in_the_future_the_set_point_runs_ahead_at_each_message() -> None:
    """The reason for reaching back: this controller dates its last command one update too early."""
    worst = {}
    for reaches_back in (True, False):
        world = World(TrajectoryStream(2, reaches_back))
        for k in range(1, 100):
            world.tick(HOME + np.array([0.005, 0.0]) * k)
        acceleration = np.diff(world.set_points, n=2, axis=0) / (UPDATE_NS / 1e9) ** 2
        worst[reaches_back] = np.abs(acceleration).max()
    assert worst[True] <= MAX_ACCELERATION + 1e-3
    assert worst[False] > 5 * MAX_ACCELERATION


def test_a_lead_below_one_period_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one period"):
        TrajectoryStream(0)
