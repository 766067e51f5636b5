"""What is called a brake, when an arm was stopped, and how large a curve's velocity and acceleration are: known answers."""

import itertools

import numpy as np
import pytest

from benchmarks.stopping import Commands, Stop, blind_commands, curve_extremes, is_brake, set_point, stop_after, takeover_steps
from robot_stack.core.limits import MotionLimits
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.trajectory_stream import TimedPoints
from robot_stack.paths import robot_file

MS = 1_000_000


def turning(count: int, first_ns: int = 0) -> Commands:
    """Motion on a circle: the speed stays, the direction turns."""
    angles = 0.01 * np.arange(count)
    return Commands([first_ns + 10 * MS * k for k in range(count)], 0.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def test_the_guards_own_brake_is_one_and_motion_on_a_circle_is_not() -> None:
    spec = RobotSpec.load(robot_file("sim_arm"))
    limits = MotionLimits(spec, 0.01)
    velocity = np.array([0.5, -0.3, 0.1, 0.0, 0.2, 0.7, 0.0])
    while velocity.any():
        slower = limits.brake(velocity)
        assert is_brake(velocity, slower)
        assert not is_brake(slower, velocity), "never the other way round"
        velocity = slower
    circle = turning(30).velocities
    assert not any(is_brake(a, b) for a, b in itertools.pairwise(circle))
    assert not is_brake(np.array([0.5, 0.1]), np.array([0.4, 0.1])), "slower, but in another direction"
    assert not is_brake(np.array([0.5, 0.1]), np.array([-0.25, -0.05])), "back"
    assert is_brake(np.zeros(2), np.zeros(2))


def braked(count: int, periods: int) -> Commands:
    motion = turning(count)
    brake = motion.velocities[-1] * (np.arange(periods - 1, -1, -1) / periods)[:, None]
    stamps = [motion.sent_ns[-1] + 10 * MS * (k + 1) for k in range(periods + 5)]
    return Commands([*motion.sent_ns, *stamps], np.concatenate([motion.velocities, brake, np.zeros((5, 2))]))


def test_a_stop_is_timed_by_the_last_command_that_moves_and_the_first_that_rests() -> None:
    commands = braked(20, 8)
    assert stop_after(commands, 55 * MS) == Stop(190 * MS, 270 * MS)
    assert stop_after(commands, 200 * MS) == Stop(None, 270 * MS), "it braked already"


def test_an_arm_that_goes_on_never_rests() -> None:
    stop = stop_after(turning(20), 55 * MS)
    assert stop == Stop(190 * MS, None)
    resumed = braked(20, 8)
    again = turning(3, resumed.sent_ns[-1] + 10 * MS)
    both = Commands([*resumed.sent_ns, *again.sent_ns], np.concatenate([resumed.velocities, again.velocities]))
    assert stop_after(both, 55 * MS).rest_ns is None


def points(times: np.ndarray, a: float) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    return {round(t * 1e9): (np.array([a * t**2 / 2]), np.array([a * t])) for t in times}


@pytest.mark.parametrize("times", [np.linspace(0, 1, 11), np.array([0.0, 0.1, 0.35, 1.0])])
def test_a_parabola_has_the_acceleration_it_was_made_with(times: np.ndarray) -> None:
    found = curve_extremes(points(times, 3.0), np.array([3.0]), np.array([6.0]))
    assert found.velocity == pytest.approx(1.0) and found.acceleration == pytest.approx(0.5)


def test_an_extreme_between_two_points_is_seen() -> None:
    """From rest to rest by one cubic over the distance d in t: at most 1.5 d / t fast, 6 d / t squared hard."""
    rest = {0: (np.zeros(1), np.zeros(1)), 500 * MS: (np.ones(1), np.zeros(1))}
    found = curve_extremes(rest, np.array([1.0]), np.array([1.0]))
    assert found.velocity == pytest.approx(3.0) and found.acceleration == pytest.approx(24.0)


def test_a_step_is_an_acceleration_beyond_any_limit() -> None:
    smooth = points(np.linspace(0, 1, 11), 1.0)
    jumped = {t: (p + (0.05 if t > 500 * MS else 0.0), v) for t, (p, v) in smooth.items()}
    assert curve_extremes(jumped, np.array([2.0]), np.array([3.0])).acceleration > 5


def brake_from(time_ns: int, position: float, speed: float = 0.5, seconds: float = 0.2) -> TimedPoints:
    """At even deceleration; the joint beside it goes twice as far."""
    end = position + speed * seconds / 2
    places, speeds = np.array([[position], [end]]) * [1.0, 2.0], np.array([[speed], [0.0]]) * [1.0, 2.0]
    return TimedPoints((time_ns, time_ns + round(seconds * 1e9)), places, speeds)


@pytest.mark.parametrize(("at_ms", "place"), [(-50, 0.0), (0, 0.0), (100, 0.0375), (200, 0.05), (5000, 0.05)])
def test_a_set_point_brakes_as_a_parabola_and_stays_at_its_end(at_ms: int, place: float) -> None:
    np.testing.assert_allclose(set_point(brake_from(0, 0.0), at_ms * MS), [place, 2 * place], atol=1e-12)


def test_a_step_is_what_lies_between_two_trajectories_when_the_younger_takes_over() -> None:
    first = brake_from(0, 0.0)
    same = TimedPoints((100 * MS, 200 * MS), np.array([[0.0375, 0.075], [0.05, 0.1]]), np.array([[0.25, 0.5], [0.0, 0.0]]))
    leaps = brake_from(5025 * MS, 0.06)  # begins after its tick; the set point has long been at 0.05
    steps = takeover_steps([(0, first), (110 * MS, same), (5000 * MS, leaps)])
    np.testing.assert_allclose(steps, [[0.0, 0.0], [0.01, 0.02]], atol=1e-12)


def test_commands_on_expired_observations_are_counted() -> None:
    stream = [(k * 30 * MS, k * 30 * MS - 5 * MS) for k in range(10)]  # the last was stamped at 265 ms
    ticks = [100 * MS, 300 * MS, 440 * MS, 446 * MS, 500 * MS]
    moving = [(tick + 30 * MS, tick) for tick in ticks]
    assert blind_commands(moving[:3], {"camera": stream}, {"camera": 180 * MS}) == 0, "sent late, but judged in time"
    assert blind_commands(moving, {"camera": stream}, {"camera": 180 * MS}) == 2
    both = {"camera": stream, "joints": [(k * 8 * MS, k * 8 * MS) for k in range(100)]}
    assert blind_commands(moving[4:], both, {"camera": 180 * MS, "joints": 100 * MS}) == 1
