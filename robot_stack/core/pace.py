"""How fast a path may be followed: fast enough to be in time, slow enough to stay on it and to stop at its end.

Shapes: M = grid points along the path, A = numbers in one action. u counts targets along the path, and its pace is du/dt in
targets per nominal period P, so 1 is in time. With b = pace squared, D = (dq/du) / P and C = (d2q/du2) / P squared, the arm's
velocity is D pace, and its acceleration C b + D dpace/dt. Between two grid points db/du = 2 P dpace/dt.

What is done is the backward pass of time-optimal path parametrisation by reachability (Pham and Pham, "A New Approach to
Time-Optimal Path Parameterization Based on Reachability Analysis", IEEE T-RO 34(3), 2018): the largest b at each point from
which the limits allow to slow down in time for everything that follows.
"""

from dataclasses import dataclass

import numpy as np

from robot_stack.core.types import FloatArray

STILL = 1e-9  # m/s or rad/s below which an axis does not move


@dataclass(frozen=True)
class PathGrid:
    """A path at grid points.

    Attributes:
        u: where they lie [M].
        velocity: D [M, A].
        bend: C [M, A].
        peak, bow: largest absolute D and C between each point and its neighbours [M, A].
    """

    u: FloatArray
    velocity: FloatArray
    bend: FloatArray
    peak: FloatArray
    bow: FloatArray


@dataclass(frozen=True)
class PaceLimits:
    """Limits of the arm.

    Attributes:
        velocity, acceleration: limits [A]; infinite where there is none.
        period_s: nominal period P [s].
        stop_s: time in which the arm has to be able to stop at the end of a path [s]: that of one command.
    """

    velocity: FloatArray
    acceleration: FloatArray
    period_s: float
    stop_s: float

    def most(self, grid: PathGrid) -> FloatArray:
        """Largest b [M] with which the path around each point can be passed at constant pace, at most 1 (in time).

        With a pace that changes, a little more is possible at some points, but not where an axis turns back (D = 0).
        """
        with np.errstate(divide="ignore", over="ignore"):
            by_velocity = (self.velocity / grid.peak) ** 2
            by_bend = self.acceleration / grid.bow
        return np.minimum(1.0, np.minimum(by_velocity, by_bend).min(axis=1))

    def profile(self, grid: PathGrid) -> FloatArray:
        """Largest b [M] at each point, so that the path can be followed to its end."""
        most = self.most(grid)
        # dpace/dt of an axis lies in [-reach - ratio b, reach - ratio b]; an axis at rest does not bound it.
        moving = np.abs(grid.velocity) > STILL
        divisor = np.where(moving, grid.velocity, 1.0)
        reach = np.where(moving, self.acceleration / np.abs(divisor), np.inf)
        ratio = np.where(moving, grid.bend / divisor, 0.0)
        # The last command may end anywhere on the last piece, after one that was faster by half of what a command can brake.
        most[-1] = min(most[-1], float(reach[-1].min() * self.stop_s / 2) ** 2)
        # On the way to the next point b falls by 2 P step times the brake that all axes allow, at either end of the step. At
        # its beginning that is reach + ratio b, where b is what is sought: b (1 - 2 P step ratio) <= next b + 2 P step reach.
        length = 2 * self.period_s * np.diff(grid.u, append=grid.u[-1])[:, None]
        room = np.where(moving, length * np.where(moving, reach, 0.0), np.inf)
        factor = np.where(moving, 1.0 - length * ratio, 1.0)
        for k in range(len(most) - 2, -1, -1):
            after = most[k + 1]
            bounds = factor[k] > 0.0
            at_beginning = ((after + room[k][bounds]) / factor[k][bounds]).min(initial=np.inf)
            at_end = after + length[k, 0] * max(0.0, (reach[k + 1] + ratio[k + 1] * after).min()) if length[k, 0] else after
            most[k] = min(most[k], at_beginning, at_end)
        return most
