"""What ros2_control's joint_trajectory_controller does with a trajectory, for simulated arms: its refusals, its interpolation.

Read from the controller's source (ros-controls/ros2_controllers, branch jazzy: ``validate_trajectory_msg`` and ``update`` in
joint_trajectory_controller.cpp, ``sample`` in trajectory.cpp) with its default parameters, but for
``interpolate_from_desired_state``, which its documentation asks for where a motion comes in many messages.

Shapes: J = joints, N = points. Times are nanoseconds of one clock.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot_stack.core.errors import ProphRLError
from robot_stack.core.types import FloatArray

VELOCITY_TOLERANCE = float(np.finfo(np.float32).eps)  # of the last point, as in the controller
SECOND_NS = 1_000_000_000


class RejectedTrajectoryError(ProphRLError):
    """A trajectory that the controller does not take; the arm goes on with what it has."""


@dataclass(frozen=True)
class ControllerSettings:
    """Parameters of the controller that matter here.

    Attributes:
        update_rate_hz: how often it commands the joints.
        interpolate_from_desired_state: a new trajectory is joined to what was commanded last; else to the measured state.
        allow_nonzero_velocity_at_trajectory_end: take trajectories that do not end at rest.
    """

    update_rate_hz: float = 500.0
    interpolate_from_desired_state: bool = True
    allow_nonzero_velocity_at_trajectory_end: bool = False


@dataclass(frozen=True)
class JointTrajectoryGoal:
    """A trajectory as it comes in.

    Attributes:
        stamp_ns: header stamp; 0: it begins when it is first sampled.
        names: joints [J], in any order.
        times_ns: time_from_start of the points [N].
        positions: [N][J]; and
        velocities: [N][J], or empty where a point gives none.
    """

    stamp_ns: int
    names: Sequence[str]
    times_ns: Sequence[int]
    positions: Sequence[Sequence[float]]
    velocities: Sequence[Sequence[float]]


@dataclass(frozen=True)
class _Point:
    time_ns: int
    position: FloatArray
    velocity: FloatArray | None


class TrajectoryController:
    """Follows the trajectory that came last.

    Args:
        joints: names of the joints [J], in the order of all arrays.
        position: where they are [J].
        settings: see ``ControllerSettings``.
    """

    def __init__(self, joints: Sequence[str], position: FloatArray, settings: ControllerSettings | None = None) -> None:
        self.joints = tuple(joints)
        self.settings = settings or ControllerSettings()
        self._period_ns = round(SECOND_NS / self.settings.update_rate_hz)
        self._points: tuple[_Point, ...] = ()
        self._starts_now = False  # a trajectory without a stamp
        self._before: _Point | None = None  # where a new trajectory is joined; None until it is first sampled
        self._commanded = _Point(0, np.array(position, dtype=np.float64), np.zeros(len(self.joints)))

    def accept(self, goal: JointTrajectoryGoal, now_ns: int) -> None:
        """Replace the trajectory.

        Raises:
            RejectedTrajectoryError: the controller would refuse it; nothing changes.
        """
        self._check(goal, now_ns)
        order = [list(goal.names).index(name) for name in self.joints]
        points = []
        for time_ns, position, velocity in zip(goal.times_ns, goal.positions, goal.velocities, strict=True):
            speed = np.array(velocity, dtype=np.float64)[order] if len(velocity) else None
            points.append(_Point(goal.stamp_ns + time_ns, np.array(position, dtype=np.float64)[order], speed))
        self._points, self._starts_now, self._before = tuple(points), goal.stamp_ns == 0, None

    def update(self, now_ns: int, measured: FloatArray, measured_velocity: FloatArray) -> FloatArray:
        """The positions [J] to command for the next period, given the measured state [J]."""
        if self._points:
            if self._before is None:
                self._join(now_ns, measured, measured_velocity)
            self._commanded = self._sample(now_ns + self._period_ns, now_ns)
        return self._commanded.position

    @property
    def desired(self) -> FloatArray:
        """The positions [J] that were commanded last."""
        return self._commanded.position

    def _join(self, now_ns: int, measured: FloatArray, measured_velocity: FloatArray) -> None:
        if self._starts_now:
            self._points = tuple(_Point(now_ns + point.time_ns, point.position, point.velocity) for point in self._points)
        if self.settings.interpolate_from_desired_state:
            last = self._commanded
            self._before = _Point(last.time_ns or now_ns, last.position, last.velocity)
        else:
            self._before = _Point(now_ns, np.array(measured), np.array(measured_velocity))

    def _sample(self, at_ns: int, now_ns: int) -> _Point:
        """State at ``at_ns``, to be commanded at ``now_ns``."""
        assert self._before is not None
        points = (self._before, *self._points) if at_ns < self._points[0].time_ns else self._points
        for before, after in itertools.pairwise(points):
            if before.time_ns <= at_ns < after.time_ns:
                return _between(before, after, at_ns, now_ns)
        last = self._points[-1]
        velocity = np.zeros(len(self.joints)) if last.velocity is None else last.velocity
        return _Point(now_ns, last.position, velocity)

    def _check(self, goal: JointTrajectoryGoal, now_ns: int) -> None:
        if sorted(goal.names) != sorted(self.joints):
            raise RejectedTrajectoryError(f"joints {list(goal.names)} are not those of the controller, {list(self.joints)}")
        if not goal.times_ns:
            raise RejectedTrajectoryError("it has no points")
        for index, (position, velocity) in enumerate(zip(goal.positions, goal.velocities, strict=True)):
            if len(position) != len(self.joints) or len(velocity) not in (0, len(self.joints)):
                raise RejectedTrajectoryError(f"point {index} has {len(position)} positions and {len(velocity)} velocities")
        if not self.settings.allow_nonzero_velocity_at_trajectory_end:
            fast = [name for name, v in zip(goal.names, goal.velocities[-1], strict=False) if abs(v) > VELOCITY_TOLERANCE]
            if fast:
                raise RejectedTrajectoryError(f"joint {fast[0]} has a velocity at the last point")
        if goal.stamp_ns and goal.stamp_ns + goal.times_ns[-1] < now_ns:
            late_s = (now_ns - goal.stamp_ns - goal.times_ns[-1]) / SECOND_NS
            raise RejectedTrajectoryError(f"it ended {late_s:.3f} s ago")
        for index, (first, second) in enumerate(itertools.pairwise(goal.times_ns)):
            if second <= first:
                raise RejectedTrajectoryError(f"times of the points {index} and {index + 1} are not strictly increasing")


def _between(before: _Point, after: _Point, at_ns: int, now_ns: int) -> _Point:
    """Cubic where both points have velocities, else a straight line."""
    length_s = (after.time_ns - before.time_ns) / SECOND_NS
    t = (at_ns - before.time_ns) / SECOND_NS
    way = after.position - before.position
    if before.velocity is None or after.velocity is None:
        return _Point(now_ns, before.position + t / length_s * way, way / length_s)
    c = (3 * way / length_s - 2 * before.velocity - after.velocity) / length_s
    d = (before.velocity + after.velocity - 2 * way / length_s) / length_s**2
    position = before.position + t * (before.velocity + t * (c + t * d))
    return _Point(now_ns, position, before.velocity + t * (2 * c + 3 * t * d))
