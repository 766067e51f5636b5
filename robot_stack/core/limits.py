"""How far along its path a step may go, so that the arm can always still brake within its limits.

Shapes: A = numbers in one action, T = periods of a brake. A step is a delta (see ``core.actions``), and its path is the
straight line (for rotations: the shortest turn) that it describes. A limit scales the whole step; it never clamps a single
axis, which would leave the path. Grippers are not on the path: their numbers in steps and velocities are zero.

An arm that moves cannot stop at once. A step is therefore allowed only if the brake that would follow it stays within the
limits, too: whatever is asked for next, that brake is at hand. A brake goes straight on, all axes with one scale over n
periods, with the velocities v (n - 1)/n, ..., v/n, 0, where n is the least number of periods within the acceleration limits.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robot_stack.core.actions import compose
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray

ROUND_OFF = 1e-9  # m, rad or opening: what lies below is arithmetic, not motion
BISECTIONS = 24  # halvings of a scale where no closed form is known: 6e-8 of a step
COARSE_BISECTIONS = 7  # where each costs the arm's kinematics at several points: 1 % of a step
TAIL_POINTS = 8  # of a brake at which the arm's kinematics is looked at; boxes have a margin for what lies between


class Limit(enum.StrEnum):
    """What shortened a step."""

    POSITION = "position limit"
    VELOCITY = "velocity limit"
    ACCELERATION = "acceleration limit"
    WORKSPACE = "workspace or keep-out box"


@dataclass(frozen=True)
class AllowedStep:
    """How much of a step is allowed.

    Attributes:
        scale: part of it, 0 to 1; None where no part is: the arm is too fast to follow, or too close, and has to brake.
        limits: those that shortened it; empty where all of it is allowed.
    """

    scale: float | None
    limits: tuple[Limit, ...]


class MotionLimits:
    """The limits of a robot's path axes for steps of one period.

    Args:
        spec: the robot file.
        period_s: time of one step [s].
        penetration: how deep [m] any point of the arm is where it must not be, for targets [N, A] -> [N]; at most 0: nowhere.
    """

    def __init__(self, spec: RobotSpec, period_s: float, penetration: Callable[[FloatArray], FloatArray] | None = None) -> None:
        self._kinds = spec.action_kinds
        self._penetration = penetration
        self._period_s = period_s
        self._lower, self._upper = spec.lower, spec.upper
        kinds = np.array(self._kinds)
        self.path = kinds != ActionKind.GRIPPER  # [A] bool
        self._additive = np.array([kind.is_additive for kind in self._kinds])
        self._rotation = kinds == ActionKind.ROTATION
        self._max_velocity = np.where(self.path, spec.max_velocity, np.inf)
        self._max_change = np.where(self.path, spec.max_acceleration, np.inf) * period_s  # of the velocity in one period

    def allowed(self, previous: FloatArray, velocity: FloatArray, step: FloatArray) -> AllowedStep:
        """How much of ``step`` [A] is allowed from ``previous`` [A], reached with ``velocity`` [A]."""
        speed = step / self._period_s
        slowest, fastest = self._within_acceleration(velocity, speed)
        scales = {Limit.VELOCITY: _smallest_ratio(self._max_velocity, np.abs(speed)), Limit.ACCELERATION: fastest}
        scale = min(1.0, *scales.values())
        limits = [limit for limit, most in scales.items() if most <= scale < 1.0]
        if slowest > scale:
            return AllowedStep(None, (Limit.ACCELERATION,))
        for limit, largest in ((Limit.POSITION, self._largest_inside), (Limit.WORKSPACE, self._largest_clear)):
            inside = largest(previous, step, slowest, scale)
            if inside is None:
                return AllowedStep(None, (*limits, limit))
            if inside < scale:
                scale, limits = inside, [*limits, limit]
        return AllowedStep(scale, tuple(limits))

    def brake_periods(self, velocity: FloatArray) -> int:
        """The n of a brake from ``velocity`` [A]; its first n - 1 periods move."""
        return max(1, math.ceil(_largest_ratio(np.abs(velocity), self._max_change) - ROUND_OFF))

    def brake(self, velocity: FloatArray) -> FloatArray:
        """The velocity [A] one period into a brake from ``velocity`` [A]."""
        periods = self.brake_periods(velocity)
        return velocity * ((periods - 1) / periods)

    def tail(self, previous: FloatArray, velocity: FloatArray) -> FloatArray:
        """The targets [T, A] of a brake from ``previous`` [A] and ``velocity`` [A]; T = 0 where the arm can stop at once."""
        periods = self.brake_periods(velocity)
        slowing = np.arange(periods - 1, 0, -1) / periods
        offsets = np.cumsum(slowing)[:, None] * velocity * self._period_s
        return self.moved(np.broadcast_to(previous, offsets.shape), offsets)

    def moved(self, previous: FloatArray, steps: FloatArray) -> FloatArray:
        """Targets [N, A], one step of ``steps`` [N, A] from each of ``previous`` [N, A]; grippers stay."""
        targets = compose(previous, steps[:, None], self._kinds)[:, 0]
        targets[:, ~self.path] = previous[:, ~self.path]
        return self.without_round_off(previous, targets)

    def without_round_off(self, previous: FloatArray, targets: FloatArray) -> FloatArray:
        """``targets`` [N, A] back in the box, which they may have left by round-off that would add up; from inside it only."""
        inside = self._additive & (previous >= self._lower) & (previous <= self._upper)
        return np.where(inside, np.clip(targets, self._lower, self._upper), targets)

    def _within_acceleration(self, velocity: FloatArray, speed: FloatArray) -> tuple[float, float]:
        """The least and the largest scale of ``speed`` [A] that may follow ``velocity`` [A]; least > largest: none may."""
        change = self._max_change + ROUND_OFF
        still = np.abs(speed) <= ROUND_OFF
        if (np.abs(velocity) > change)[still].any():
            return math.inf, 0.0
        if still.all():
            return 0.0, 1.0
        bounds = np.sort(np.stack([velocity - change, velocity + change])[:, ~still] / speed[~still], axis=0)
        return max(0.0, float(bounds[0].max())), float(bounds[1].min())

    def _largest_inside(self, previous: FloatArray, step: FloatArray, slowest: float, scale: float) -> float | None:
        """The largest scale up to ``scale`` from which a brake ends inside the box; None where it is below ``slowest``."""
        inside = min(scale, self._before_the_faces(previous, step))
        if inside < slowest:
            return None
        if not self._rotation.any():
            return inside
        outside = self._outside(previous[None])[0]

        def stays_inside(scale: float) -> bool:
            points = np.concatenate(self._after(previous, step, scale))
            return bool((self._outside(points) <= np.maximum(outside, 0.0) + ROUND_OFF)[:, self._rotation].all())

        return _largest(stays_inside, slowest, inside, BISECTIONS)

    def _largest_clear(self, previous: FloatArray, step: FloatArray, slowest: float, scale: float) -> float | None:
        """The largest scale up to ``scale`` whose step and brake go (no further) where the arm must not be."""
        if self._penetration is None:
            return scale
        penetration = self._penetration
        already = max(0.0, float(penetration(previous[None])[0]))

        def stays_clear(scale: float) -> bool:
            first, tail = self._after(previous, step, scale)
            seen = tail[np.unique(np.linspace(0, len(tail) - 1, TAIL_POINTS, dtype=int))] if len(tail) else tail
            return bool((penetration(np.concatenate([first, seen])) <= already + ROUND_OFF).all())

        return _largest(stays_clear, slowest, scale, COARSE_BISECTIONS)

    def _before_the_faces(self, previous: FloatArray, step: FloatArray) -> float:
        """The largest scale whose step and brake do not go (further) out of the box, for axes that add up.

        A step of scale s is braked within n >= s r periods, r = the periods for the whole step, and ends after s (n + 1) / 2
        steps, so s = max over n of min(n / r, 2 R / (n + 1)), where R is the number of steps that there is room for.
        """
        room = np.where(step > 0, self._upper - previous, previous - self._lower)
        size = np.abs(step)
        moving = self._additive & (size > ROUND_OFF)
        if not moving.any():
            return 1.0
        steps = float(np.min((np.maximum(room[moving], 0.0) + ROUND_OFF) / size[moving]))
        periods = _largest_ratio(size / self._period_s, self._max_change)
        if periods <= 1.0:
            return steps
        fewer = max(1, math.floor((math.sqrt(1.0 + 8.0 * steps * periods) - 1.0) / 2.0))
        return max(min(n / periods, 2.0 * steps / (n + 1)) for n in (fewer, fewer + 1))

    def _after(self, previous: FloatArray, step: FloatArray, scale: float) -> tuple[FloatArray, FloatArray]:
        """Where a part of a step leads [1, A], and the brake from there [T, A]."""
        first = self.moved(previous[None], scale * step[None])
        return first, self.tail(first[0], scale * step / self._period_s)

    def _outside(self, targets: FloatArray) -> FloatArray:
        """How far each number of ``targets`` [N, A] lies outside the box; negative inside."""
        return np.maximum(self._lower - targets, targets - self._upper)


def _largest(fits: Callable[[float], bool], low: float, high: float, bisections: int) -> float | None:
    """The largest value from ``low`` to ``high`` that fits, if all below one that fits do; None where ``low`` does not."""
    if fits(high):
        return high
    if not fits(low):
        return None
    for _ in range(bisections):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _smallest_ratio(allowed: FloatArray, wanted: FloatArray) -> float:
    """Scale in [0, 1] by which every ``wanted`` fits into its ``allowed``, with room for round-off."""
    over = wanted > allowed + ROUND_OFF
    return float(np.min(allowed[over] / wanted[over])) if over.any() else 1.0


def _largest_ratio(wanted: FloatArray, allowed: FloatArray) -> float:
    return float(np.max(wanted / allowed))
