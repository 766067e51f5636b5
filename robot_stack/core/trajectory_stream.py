"""Commands as joint trajectories for a controller that interpolates (ros2_control's joint_trajectory_controller).

Shapes: A = numbers in one action, N = points. The commands of successive ticks say where the arm is to be, one period apart,
and the guard bounds the change from one mean velocity to the next. So the curve that is meant has the mean velocity of each
period in the middle of that period, and in between the velocity is a straight line: its acceleration is what the guard has
checked, at every time. Points in the middles, with position and velocity, make a controller follow exactly this curve, because
its cubic between them is then a parabola.

Each trajectory ends at rest, with the brake that the guard has verified: if nothing more comes, the arm stops within its
limits. Two points describe a brake, for its deceleration is constant. Successive trajectories agree up to the brake of the
older one, so when the controller changes to the newer one makes no difference, if it has come by then: it has (lead - 1/2)
periods.

How the controller changes is a choice. It samples a trajectory that has begun directly, so one that reaches back to the present
is continued without a seam. One that begins in the future it joins by a cubic of its own, from the measured state, or with
``interpolate_from_desired_state`` from the last command, which it dates one update too early (branch jazzy): then the set point
runs ahead by one update at each message, at 1 rad/s and 500 Hz by 2 mrad. But if the arm is not where this stream believes, a
trajectory that reaches back makes the set point jump, where the other is joined smoothly.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from robot_stack.core.types import Command, FloatArray


@dataclass(frozen=True)
class TimedPoints:
    """A trajectory.

    Attributes:
        times_ns: when each point is to be reached [N] [ns], strictly increasing.
        positions: targets [N, A].
        velocities: [N, A], per second; zero at the last.
    """

    times_ns: tuple[int, ...]
    positions: FloatArray
    velocities: FloatArray


class TrajectoryStream:
    """Makes a trajectory of each command and those before it that are still to come.

    Args:
        lead: periods by which the arm follows later than it is told, which is the time that messages have; at least 1.
        reaches_back: whether trajectories begin before the present, where there is a point, or one period after it.
    """

    def __init__(self, lead: int, reaches_back: bool = True) -> None:
        if lead < 1:
            raise ValueError(f"lead must be at least one period, got {lead}")
        self._lead = lead
        self._reaches_back = reaches_back
        self._reference: FloatArray | None = None
        self._ahead: deque[tuple[int, FloatArray, FloatArray]] = deque()

    def start(self, reference: FloatArray) -> None:
        """Begin at rest at ``reference`` [A]."""
        self._reference = np.array(reference, dtype=np.float64)
        self._ahead.clear()

    def extend(self, command: Command, now_ns: int) -> TimedPoints:
        """The trajectory from ``now_ns`` on, ``command`` included.

        Args:
            command: of the next tick; ticks are one period apart.
            now_ns: the present.
        """
        assert self._reference is not None, "start() comes first"
        period_ns = command.period_ns
        middle_ns = command.stamp_ns + self._lead * period_ns + period_ns // 2
        if not self._ahead:
            self._ahead.append((middle_ns - period_ns, self._reference, np.zeros_like(self._reference)))
        self._ahead.append((middle_ns, (self._reference + command.target) / 2, command.velocity))
        self._reference = command.target
        # Reaching back, the last point that is past remains; else those nearer than one period go. The newest always remains.
        first = 1 if self._reaches_back else 0
        latest_ns = now_ns if self._reaches_back else now_ns + period_ns
        while len(self._ahead) > 1 and self._ahead[first][0] < latest_ns:
            self._ahead.popleft()
        brake_ns = (len(command.tail) + 1) * period_ns
        rest = command.tail[-1] if len(command.tail) else command.target
        points = [*self._ahead, (middle_ns + brake_ns, rest, np.zeros_like(rest))]
        times, positions, velocities = zip(*points, strict=True)
        return TimedPoints(times, np.array(positions), np.array(velocities))
