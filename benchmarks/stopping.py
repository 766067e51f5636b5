"""What the commands on the wire say about a stop: pure functions of what was recorded there.

Shapes: N = commands, J = joints. Times are nanoseconds of one clock.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from robot_stack.core.trajectory_stream import TimedPoints
from robot_stack.core.types import FloatArray

STILL = 1e-6  # rad/s below which a joint that is commanded stands
PARALLEL = 1e-6  # of a velocity: by how much a brake may turn it


@dataclass(frozen=True)
class Commands:
    """What an arm was told.

    Attributes:
        sent_ns: when each command was sent [N].
        velocities: that it asks for in its tick [N, J].
    """

    sent_ns: Sequence[int]
    velocities: FloatArray


@dataclass(frozen=True)
class Stop:
    """How an arm was stopped.

    Attributes:
        last_motion_ns: when the last command was sent that did not brake; None: none was sent after the fault.
        rest_ns: when the first command was sent that asks for rest and after which none asks for motion; None: it still moved.
    """

    last_motion_ns: int | None
    rest_ns: int | None


def is_brake(before: FloatArray, after: FloatArray) -> bool:
    """Whether a command for the velocity ``after`` [J] brakes, where the one before it asked for ``before`` [J].

    A brake keeps the direction and goes slower, all joints by one scale; standing still brakes, too.
    """
    speed, slower = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    if slower <= STILL:
        return True
    if slower >= speed - STILL:
        return False
    return bool(np.linalg.norm(after - before * (slower / speed)) <= PARALLEL * speed)


def stop_after(commands: Commands, fault_ns: int) -> Stop:
    """When motion ended after ``fault_ns``, and when the arm was told to stand."""
    moving = [k for k in range(1, len(commands.sent_ns)) if not is_brake(commands.velocities[k - 1], commands.velocities[k])]
    late = [commands.sent_ns[k] for k in moving if commands.sent_ns[k] > fault_ns]
    still = np.linalg.norm(commands.velocities, axis=1) <= STILL
    rest_ns = None
    for k in range(len(commands.sent_ns) - 1, -1, -1):
        if not still[k]:
            break
        rest_ns = commands.sent_ns[k]
    return Stop(late[-1] if late else None, rest_ns)


@dataclass(frozen=True)
class CurveExtremes:
    """The largest values of a commanded curve relative to its limits; at most 1 where it keeps them.

    Attributes:
        velocity, acceleration: parts of the limits.
        samples: points of the curve.
    """

    velocity: float
    acceleration: float
    samples: int


def curve_extremes(
    points: Mapping[int, tuple[FloatArray, FloatArray]], max_velocity: FloatArray, max_acceleration: FloatArray
) -> CurveExtremes:
    """Of the curve that a controller interpolates between ``points`` (time -> position [J] and velocity [J]) by cubics.

    The velocity of a cubic is a parabola and its acceleration a straight line, so both are known from ends and vertex.
    """
    times = sorted(points)
    velocity = acceleration = 0.0
    for begin, end in itertools.pairwise(times):
        t = (end - begin) / 1e9
        (p0, v0), (p1, v1) = points[begin], points[end]
        mean = (p1 - p0) / t
        first = (6 * mean - 4 * v0 - 2 * v1) / t  # acceleration at the beginning
        last = (2 * v0 + 4 * v1 - 6 * mean) / t
        turn = np.clip(np.divide(first, first - last, out=np.zeros_like(first), where=first != last), 0.0, 1.0)
        vertex = v0 + t * (turn * first + turn**2 * (last - first) / 2)
        speeds = np.abs([v0, v1, vertex]).max(axis=0)
        velocity = max(velocity, float((speeds / max_velocity).max()))
        acceleration = max(acceleration, float((np.abs([first, last]).max(axis=0) / max_acceleration).max()))
    return CurveExtremes(velocity, acceleration, len(times))


def set_point(trajectory: TimedPoints, at_ns: int) -> FloatArray:
    """Where a controller that follows ``trajectory`` is to be at ``at_ns`` [J]; at its ends before and after it."""
    begin_ns, end_ns = trajectory.times_ns[0], trajectory.times_ns[-1]
    times_s = [(time_ns - begin_ns) / 1e9 for time_ns in trajectory.times_ns]
    curve = CubicHermiteSpline(times_s, trajectory.positions, trajectory.velocities)
    return np.asarray(curve((min(max(at_ns, begin_ns), end_ns) - begin_ns) / 1e9))


def takeover_steps(told: Sequence[tuple[int, TimedPoints]]) -> FloatArray:
    """How far the set point steps where a trajectory takes over from the one before [N - 1, J].

    Args:
        told: (tick, trajectory) of each; one that begins after its tick takes over at its beginning.
    """
    steps = []
    for (_, before), (tick_ns, after) in itertools.pairwise(told):
        at_ns = max(tick_ns, after.times_ns[0])
        steps.append(np.abs(set_point(after, at_ns) - set_point(before, at_ns)))
    return np.array(steps)


def blind_commands(
    moving: Sequence[tuple[int, int]], streams: Mapping[str, Sequence[tuple[int, int]]], limits_ns: Mapping[str, int]
) -> int:
    """How many commands that moved the arm were sent while a stream had expired.

    Args:
        moving: (sent, tick) of each of them; it is judged at its tick.
        streams: name -> (sent, stamp) of its messages, in order.
        limits_ns: name -> oldest stamp on which the arm may move.
    """
    blind = 0
    for sent_ns, tick_ns in moving:
        for name, messages in streams.items():
            youngest = max((stamp for sent, stamp in messages if sent <= sent_ns), default=None)
            if youngest is not None and tick_ns - youngest > limits_ns[name]:
                blind += 1
                break
    return blind
