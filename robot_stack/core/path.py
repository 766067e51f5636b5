"""A smooth path through the targets of chunks, for arms that take commands faster than policies speak.

Shapes: A = numbers in one action. From one target to the next the path is a cubic with continuous velocity (Hermite), in the
delta coordinates of ``core.actions`` at its beginning. The velocity at a target is the harmonic mean of those before and after
it, and zero on an axis that turns back or stops there, so that no axis goes beyond its targets (Fritsch and Butland, "A Method
for Constructing Local Monotone Piecewise Cubic Interpolants", SIAM J. Sci. Stat. Comput. 5(2), 1984). A new chunk changes only
what comes after the target that the arm is on its way to, so a seam is as smooth as the rest. Grippers go straight.

The path is followed in time where the limits of velocity and acceleration allow it and more slowly where they do not, and so
that the arm can always come to rest on it, at the last target that is known (``core.pace``). So targets that come late make the
arm slow down, and more of them make it go on.

Two successive targets of a chunk that are further apart than they may be (``safety.is_jump``) are an error of whoever made it:
the path ends before the jump. The first target of a chunk may be that far from where the arm is; it is approached slowly.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from robot_stack.core.actions import compose, decompose
from robot_stack.core.chunk_buffer import ChunkBuffer
from robot_stack.core.pace import PaceLimits, PathGrid
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.safety import is_jump
from robot_stack.core.types import FloatArray

GRID = 9  # points of a segment at which its pace is planned, both ends among them
MARGIN = 0.9  # part of the acceleration limits that is planned with; the rest is for what lies between the points
SNAP = 1e-6  # of a segment: an end that is nearer than this has been reached
BISECTIONS = 14
MORE = 8  # targets that are planned beyond those needed, so that not every target asks for a new plan


@dataclass(frozen=True)
class _Segment:
    """A cubic from one target to the next; u runs from 0 to 1.

    Attributes:
        origin: where it begins [A].
        end: where it ends [A].
        length: delta from ``origin`` to ``end`` [A].
        begins, ends: derivative by u at either end [A]; for rotations in the tool frame, which small turns leave as it is.
        slow: whether it is an approach, see ``RobotSpec.approach_speed``.
    """

    origin: FloatArray
    end: FloatArray
    length: FloatArray
    begins: FloatArray
    ends: FloatArray
    slow: bool = False

    def offset(self, u: float) -> FloatArray:
        """Delta from ``origin`` to the point at u [A]."""
        return self._blend(u * (1 - u) ** 2, u**2 * (3 - 2 * u), u**2 * (u - 1))

    def derivatives(self, u: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """First, second and third derivative by u [M, A] at u [M, 1]."""
        first = self._blend(1 - 4 * u + 3 * u**2, 6 * u * (1 - u), 3 * u**2 - 2 * u)
        second = self._blend(6 * u - 4, 6 - 12 * u, 6 * u - 2)
        return first, second, self._blend(0 * u + 6, 0 * u - 12, 0 * u + 6)

    def _blend[U: (float, FloatArray)](self, beginning: U, along: U, ending: U) -> FloatArray:
        blended: FloatArray = beginning * self.begins + along * self.length + ending * self.ends
        return blended


@dataclass(frozen=True)
class _Part:
    """A target on the way, how far it is from the one before [A], and whether that is a jump."""

    end: FloatArray
    length: FloatArray
    far: bool


class ChunkPath:
    """A ``core.way.Way`` for arms that are commanded more often than policies speak.

    Args:
        spec: the robot file.
        period_s: time between two commands [s].
    """

    def __init__(self, spec: RobotSpec, period_s: float) -> None:
        self._spec = spec
        self._kinds = spec.action_kinds
        self._gripper = np.array([kind is ActionKind.GRIPPER for kind in self._kinds])
        self._period_s = period_s
        self._target_period_s = 1.0 / spec.rate_hz
        velocity = np.where(self._gripper, np.inf, spec.max_velocity)
        self._limits = PaceLimits(velocity, MARGIN * spec.max_acceleration, self._target_period_s, period_s)
        self._max_change = spec.max_acceleration * period_s  # of the velocity from one command to the next [A]
        # Planning far ahead takes time that a tick does not have. So many targets have to be known for a brake from full speed:
        brake_s = (spec.max_velocity / (2 * MARGIN * spec.max_acceleration))[~self._gripper].max(initial=0.0)
        self._needed = math.ceil(brake_s * spec.rate_hz) + 2
        self._segments: list[_Segment] = []
        self._taken = 0  # segments whose target no longer waits
        self._revision: int | None = None  # of the targets that wait
        self._u = 0.0  # on the first segment
        self._pace = 0.0
        self._planned: FloatArray = np.zeros(0)  # u of the points at which the pace is planned
        self._most: FloatArray = np.zeros(0)  # largest pace squared there
        self._asked = (0.0, 0.0)  # u and pace of the point that was asked for
        self.judges_jumps = True
        self.begun: list[FloatArray] = []  # targets [A] that the last request took
        self._before_begun: FloatArray | None = None  # the target [A] before them
        self._lost = False
        self._cut = False

    @property
    def jumps(self) -> bool:
        return self._cut and not self._segments

    @property
    def under_way(self) -> bool:
        return self._taken > 0

    def committed(self, in_force: FloatArray) -> list[FloatArray]:
        if self._before_begun is not None:
            return [self._before_begun, *self.begun]
        return [self._segments[self._taken - 1].end if self._taken else in_force]

    def clear(self) -> None:
        self._segments, self._taken, self._revision, self._lost, self._cut = [], 0, None, False, False
        self.begun, self._before_begun = [], None

    def ask(
        self, in_force: FloatArray, velocity: FloatArray, waiting: ChunkBuffer, now_ns: int, approaches: bool = True
    ) -> FloatArray | None:
        self.begun, self._before_begun = [], None
        new, ahead = waiting.revision != self._revision, len(self._segments) - self._taken
        short = ahead < min(self._needed, len(waiting)) and not self._cut
        if new or self._lost or short:
            self._plan(in_force, velocity, waiting, now_ns, approaches)
        if not self._segments:
            return None
        u, _ = self._asked = self._step(velocity)
        while self._taken < len(self._segments) and u > self._taken + SNAP * (self._taken > 0):
            if self._before_begun is None:
                self._before_begun = self._segments[self._taken].origin
            waiting.pop(now_ns)
            self.begun.append(self._segments[self._taken].end)
            self._taken += 1
        return self._point(u)

    def advance(self, scale: float) -> None:
        if not self._segments:
            return
        u, pace = self._asked
        self._u, self._pace, self._lost = self._u + scale * (u - self._u), scale * pace, scale == 0.0
        while self._segments and self._u >= 1.0 - SNAP:
            self._segments.pop(0)
            self._taken -= 1
            self._u = max(0.0, self._u - 1.0)
            self._planned, self._most = self._planned[GRID:] - 1.0, self._most[GRID:]

    def _plan(self, in_force: FloatArray, velocity: FloatArray, waiting: ChunkBuffer, now_ns: int, approaches: bool) -> None:
        """Lay the path through what waits now, from the targets that were taken, or from the arm where it has left the path."""
        segments = self._segments[: self._taken]
        following = [*waiting.upcoming[: self._needed + MORE]]
        seam = waiting.seam
        if self._lost and segments:
            ends = [segment.end for segment in segments]
            skipped = self._rejoin(in_force, [segments[0].origin, *ends, *following])
            for _ in range(max(0, skipped - len(ends))):
                waiting.pop(now_ns)
            following = [*ends, *following][skipped:]
            self._taken, segments = max(0, len(ends) - skipped), []
        reached = segments[-1].end if segments else in_force
        parts = self._parts(reached, following, approaches and (seam or not segments))
        self._cut = len(parts) < len(following)
        for part, after in itertools.zip_longest(parts, parts[1:]):
            slope = part.length if after is None else _monotone_slope(part.length, after.length)
            if segments:
                segments.append(_Segment(segments[-1].end, part.end, part.length, segments[-1].ends, slope, part.far))
                continue
            # At this pace the velocity that the arm has is the mean one of the segment, which bends it least.
            way, size = velocity * self._target_period_s, self._size(part.length)
            self._u, self._pace = 0.0, min(1.0, self._size(way) / size) if size > 0.0 else 1.0
            begins = way / self._pace if self._pace > 0.0 else part.length
            segments.append(_Segment(in_force, part.end, part.length, begins, slope, part.far))
        self._segments, self._revision, self._lost = segments, waiting.revision, False
        self._plan_pace()

    def _parts(self, origin: FloatArray, following: Sequence[FloatArray], approaches: bool) -> list[_Part]:
        """The way from ``origin`` [A] on, up to the first jump; the first target may be one where it is approached."""
        parts: list[_Part] = []
        for end in following:
            far = is_jump(origin, end, self._spec)
            if far and (parts or not approaches):
                break
            parts.append(_Part(end, self._delta(origin, end), far))
            origin = end
        return parts

    def _rejoin(self, in_force: FloatArray, way: Sequence[FloatArray]) -> int:
        """How many targets of ``way`` (after its origin) to leave out for one that lies ahead of the arm.

        The arm is where the way comes nearest to it; the next target is the first that is at least one period further.
        """
        best, along = np.inf, 0.0
        for index, (before, after) in enumerate(itertools.pairwise(way)):
            step, gap = self._delta(before, after)[~self._gripper], self._delta(before, in_force)[~self._gripper]
            part = float(np.clip(gap @ step / max(step @ step, SNAP**2), 0.0, 1.0))
            distance = float(np.linalg.norm(gap - part * step))
            if distance < best:
                best, along = distance, index + part
        return min(math.ceil(along + 1.0 - SNAP), len(way) - 1) - 1

    def _plan_pace(self) -> None:
        if not self._segments:
            return
        u = np.linspace(0.0, 1.0, GRID, dtype=np.float64)
        parts = [segment.derivatives(u[:, None]) for segment in self._segments]
        first, second, third = (np.where(self._gripper, 0.0, np.concatenate(part)) for part in zip(*parts, strict=True))
        # Between points h apart, a quadratic rises above their values by at most h squared / 8 times its second derivative.
        peak = _largest_near(np.abs(first) + np.abs(third) / (GRID - 1) ** 2 / 8)
        slow = np.repeat([segment.slow for segment in self._segments], GRID)
        peak[slow] /= self._spec.approach_speed  # as if it were faster by so much, which the limits then slow down
        period_s = self._target_period_s
        self._planned = np.concatenate([u + index for index in range(len(self._segments))])
        bow = _largest_near(np.abs(second))
        grid = PathGrid(self._planned, first / period_s, second / period_s**2, peak / period_s, bow / period_s**2)
        self._most = self._limits.profile(grid)

    def _step(self, velocity: FloatArray) -> tuple[float, float]:
        """The u and the pace of the next point: the fastest that the limits allow after ``velocity`` [A]."""

        def reachable(pace: float) -> bool:
            speed = (self._along(self._ahead(pace)) - self._along(self._u)) / self._period_s
            within = (np.abs(speed) <= self._limits.velocity) & (np.abs(speed - velocity) <= self._max_change)
            return bool(within[~self._gripper].all())

        pace = 1.0
        if not (reachable(pace) and self._can_slow_down(pace)):
            pace = min(_furthest(reachable, self._pace, 1.0), _furthest(self._can_slow_down, 0.0, 1.0))
            if pace < self._pace:
                pace = _furthest(reachable, self._pace, pace)
        ahead, end = self._ahead(pace), float(len(self._segments))
        return (end if end - ahead < SNAP else ahead), pace

    def _ahead(self, pace: float) -> float:
        return min(float(len(self._segments)), self._u + pace * self._period_s / self._target_period_s)

    def _can_slow_down(self, pace: float) -> bool:
        """Whether the limits allow to stay on the path during one command at ``pace``, and from where it leads to."""
        ahead = self._ahead(pace)
        passed = self._most[(self._planned > self._u) & (self._planned < ahead)]
        return pace**2 <= min(float(np.interp(ahead, self._planned, self._most)), passed.min(initial=np.inf))

    def _along(self, u: float) -> FloatArray:
        """Way [A] from the beginning to u, in delta coordinates."""
        index = min(int(u), len(self._segments) - 1)
        way = self._segments[index].offset(u - index)
        for segment in self._segments[:index]:
            way = way + segment.length
        return way

    def _point(self, u: float) -> FloatArray:
        index = min(int(u), len(self._segments) - 1)
        segment, u = self._segments[index], u - index
        point = compose(segment.origin, segment.offset(u)[None], self._kinds)[0]
        straight = segment.origin + u * (segment.end - segment.origin)
        return np.where(self._gripper, straight, point)

    def _size(self, delta: FloatArray) -> float:
        """Length of a delta [A], each axis in units of its velocity limit."""
        return float(np.linalg.norm(delta / self._limits.velocity))

    def _delta(self, origin: FloatArray, target: FloatArray) -> FloatArray:
        return decompose(origin, target[None], self._kinds)[0]


def _monotone_slope(before: FloatArray, after: FloatArray) -> FloatArray:
    """Derivative [A] at a target between two lengths [A]; monotone on each axis."""
    product = before * after
    slope: FloatArray = 2.0 * product / np.where(product > 0.0, before + after, 1.0)
    return np.where(product > 0.0, slope, 0.0)


def _largest_near(values: FloatArray) -> FloatArray:
    """The largest of each of ``values`` [M, A] and its neighbours."""
    padded = np.pad(values, ((1, 1), (0, 0)), mode="edge")
    largest: FloatArray = np.maximum(np.maximum(padded[:-2], padded[2:]), values)
    return largest


def _furthest(fits: Callable[[float], bool], good: float, wanted: float) -> float:
    """The value nearest to ``wanted`` that fits, between there and ``good``, which is taken to fit."""
    if fits(wanted):
        return wanted
    for _ in range(BISECTIONS):
        middle = (good + wanted) / 2
        good, wanted = (middle, wanted) if fits(middle) else (good, middle)
    return good
