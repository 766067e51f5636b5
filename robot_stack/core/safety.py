"""The guard between whoever wants to move the arm and the arm: what may be sent, and why it differs from what was asked.

Shapes: A = numbers in one action. "The path" is the straight line (for rotations: the shortest turn) from the target in force
to the requested one. A limit shortens the step along the path by one scale for all axes; it never clamps a single axis, which
would leave the path. The gripper is not on the path and is limited by itself. A **hold** sends the target in force again.

A softer stop than a hold needs acceleration limits, which a robot file does not have yet.
"""

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot_stack.core.actions import compose, decompose
from robot_stack.core.errors import ShapeError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray

ROUND_OFF = 1e-9  # m, rad or opening: steps and overshoots below this are arithmetic, not motion


class GuardReason(enum.StrEnum):
    """Why the guard sent something else than what was asked."""

    POSITION = "position limit"
    VELOCITY = "velocity limit"
    GRIPPER = "gripper limit"
    NOT_FINITE = "NaN or Inf"
    JUMP = "jump between successive targets"
    STALE_OBSERVATION = "stale observation"
    STALE_CHUNK = "stale action chunk"
    SOURCE_SILENT = "source of actions is silent"
    E_STOP = "e-stop"


@dataclass(frozen=True)
class GuardVerdict:
    """What may be sent.

    Attributes:
        target: the target [A] that may be sent.
        reasons: why it differs from the requested one; empty where it does not.
    """

    target: FloatArray
    reasons: tuple[GuardReason, ...] = ()


@dataclass(frozen=True)
class StreamAge:
    """How old one input is, by two clocks: a sender with a wrong clock and a stalled transport are both noticed.

    Attributes:
        name: the stream, for the message.
        stamp_ns: header stamp of its youngest value [ns of the robot's clock], None if there never was one.
        received_ns: steady clock at its receipt [ns]; None where only the stamp counts, as time stands still between ticks.
        limit_ns: oldest value on which the arm may move [ns].
        reason: what an expired value is reported as.
    """

    name: str
    stamp_ns: int | None
    received_ns: int | None
    limit_ns: int
    reason: GuardReason = GuardReason.STALE_OBSERVATION

    def expired(self, now_ns: int, steady_ns: int) -> bool:
        """Whether it is older than its limit by either clock; a stamp from the future by more than the limit counts, too."""
        if self.stamp_ns is None or abs(now_ns - self.stamp_ns) > self.limit_ns:
            return True
        return self.received_ns is not None and steady_ns - self.received_ns > self.limit_ns


def check_ages(ages: Iterable[StreamAge], now_ns: int, steady_ns: int) -> tuple[StreamAge, ...]:
    """Those of ``ages`` that are expired at ``now_ns`` (robot's clock) or ``steady_ns`` (steady clock)."""
    return tuple(age for age in ages if age.expired(now_ns, steady_ns))


class Guard:
    """Checks every target before it is sent and counts each intervention by reason.

    The same guard serves the executor and direct evaluation in the simulator (one guard for each environment).
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._kinds = spec.action_kinds
        self._lower, self._upper, self._max_step = spec.lower, spec.upper, spec.max_step
        self._max_jump = spec.max_jump * spec.max_step
        kinds = np.array(self._kinds)
        self._gripper = kinds == ActionKind.GRIPPER
        self._path = ~self._gripper
        self._additive = np.array([kind.is_additive for kind in self._kinds])
        self._rotation = kinds == ActionKind.ROTATION
        self._requested: FloatArray | None = None
        self._e_stopped = False
        self._active: frozenset[GuardReason] = frozenset()
        self.counts: Counter[GuardReason] = Counter()
        self.onsets: tuple[GuardReason, ...] = ()  # reasons of the last check that the check before it did not have: log these

    @property
    def e_stopped(self) -> bool:
        return self._e_stopped

    def e_stop(self) -> None:
        """Hold from now on; stays so until ``reset_e_stop``."""
        self._e_stopped = True

    def reset_e_stop(self) -> None:
        """Release the latch. Whoever calls this must not resume motion by itself."""
        self._e_stopped = False

    def reset(self) -> None:
        """Forget the last requested target (a new episode, a new source); counts and the e-stop stay."""
        self._requested = None

    def check(self, previous: FloatArray, target: FloatArray, blocked: Iterable[GuardReason] = ()) -> GuardVerdict:
        """What may be sent when ``target`` is asked for.

        Args:
            previous: the target in force [A]; finite.
            target: the requested target [A].
            blocked: reasons found elsewhere (expired inputs) for which the arm has to hold.

        Raises:
            ShapeError: either array is not [A].
            ValueError: ``previous`` is not finite: there is nothing safe to hold.
        """
        previous, target = np.asarray(previous, dtype=np.float64), np.asarray(target, dtype=np.float64)
        for what, array in (("target in force", previous), ("requested target", target)):
            if array.shape != self._lower.shape:
                raise ShapeError(what, array.shape, f"[{len(self._lower)}]")
        if not np.isfinite(previous).all():
            raise ValueError(f"the target in force is not finite: {previous.tolist()}")
        holds = self._reasons_to_hold(previous, target, tuple(blocked))
        verdict = GuardVerdict(previous.copy(), holds) if holds else self._limited(previous, target)
        self.counts.update(verdict.reasons)
        self.onsets = tuple(reason for reason in verdict.reasons if reason not in self._active)
        self._active = frozenset(verdict.reasons)
        return verdict

    def _reasons_to_hold(
        self, previous: FloatArray, target: FloatArray, blocked: tuple[GuardReason, ...]
    ) -> tuple[GuardReason, ...]:
        reasons = tuple(dict.fromkeys(blocked))
        if self._e_stopped:
            reasons += (GuardReason.E_STOP,)
        if not np.isfinite(target).all():
            return (*reasons, GuardReason.NOT_FINITE)
        # A source whose steps were shortened runs ahead of the target in force, so a jump is judged by what it asked last, too.
        origins = [previous] if self._requested is None else [previous, self._requested]
        if all(self._jumps(origin, target) for origin in origins):
            return (*reasons, GuardReason.JUMP)
        self._requested = target
        return reasons

    def _jumps(self, origin: FloatArray, target: FloatArray) -> bool:
        step = decompose(origin, target[None], self._kinds)[0]
        return bool((np.abs(step) > self._max_jump + ROUND_OFF)[self._path].any())

    def _limited(self, previous: FloatArray, target: FloatArray) -> GuardVerdict:
        reasons: list[GuardReason] = []
        step = decompose(previous, target[None], self._kinds)[0]
        box = self._box_scale(previous, step)
        velocity = _smallest_ratio(self._max_step[self._path], np.abs(step[self._path]))
        if box < 1.0:
            reasons.append(GuardReason.POSITION)
        if velocity < 1.0:
            reasons.append(GuardReason.VELOCITY)
        scale = min(box, velocity)
        limited = np.array(target)
        if scale < 1.0:
            step[self._path] *= scale
            limited = compose(previous, step[None], self._kinds)[0]
        if self._rotation.any() and self._leaves_box(previous, limited, self._rotation):
            limited[self._path] = previous[self._path]
            reasons.append(GuardReason.POSITION)
        inside = self._additive & (previous >= self._lower) & (previous <= self._upper)
        limited[inside] = np.clip(limited, self._lower, self._upper)[inside]  # removes round-off only
        limited[self._gripper] = self._limited_gripper(previous, target)[self._gripper]
        if (np.abs(limited - target) > ROUND_OFF)[self._gripper].any():
            reasons.append(GuardReason.GRIPPER)
        return GuardVerdict(limited, tuple(dict.fromkeys(reasons)))

    def _box_scale(self, previous: FloatArray, step: FloatArray) -> float:
        """Largest part of ``step`` that does not go further out of the box; 1 for steps along its faces or inwards."""
        room = np.where(step > 0, self._upper - previous, previous - self._lower)
        size = np.abs(step)
        moving = self._additive & (size > ROUND_OFF)
        return _smallest_ratio(np.maximum(room[moving], 0.0) + ROUND_OFF, size[moving])

    def _leaves_box(self, previous: FloatArray, target: FloatArray, axes: npt.NDArray[np.bool_]) -> bool:
        outside = np.maximum(self._lower - target, target - self._upper)
        already = np.maximum(np.maximum(self._lower - previous, previous - self._upper), 0.0)
        return bool((outside > already + ROUND_OFF)[axes].any())

    def _limited_gripper(self, previous: FloatArray, target: FloatArray) -> FloatArray:
        inside = np.clip(target, self._lower, self._upper)
        return np.clip(inside, previous - self._max_step, previous + self._max_step)


def _smallest_ratio(allowed: FloatArray, wanted: FloatArray) -> float:
    """Scale in [0, 1] by which every ``wanted`` fits into its ``allowed``, with room for round-off."""
    over = wanted > allowed + ROUND_OFF
    return float(np.min(allowed[over] / wanted[over])) if over.any() else 1.0
