"""The guard between whoever wants to move the arm and the arm: what may be sent, and why it differs from what was asked.

Shapes: A = numbers in one action. Limits of motion shorten a step along its path (see ``core.limits``); the gripper is not on
the path and is limited by itself. A **hold** brakes along the path as the acceleration limits allow, and then stands still.
"""

import enum
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from robot_stack.core.actions import decompose
from robot_stack.core.errors import ShapeError
from robot_stack.core.limits import ROUND_OFF, Limit, MotionLimits
from robot_stack.core.robot_spec import ActionKind, RobotSpec, Violation
from robot_stack.core.types import FloatArray


class GuardReason(enum.StrEnum):
    """Why the guard sent something else than what was asked."""

    POSITION = Limit.POSITION.value
    VELOCITY = Limit.VELOCITY.value
    ACCELERATION = Limit.ACCELERATION.value
    WORKSPACE = Limit.WORKSPACE.value
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
        scale: how much of the requested step was taken, 0 to 1; 0 while the arm brakes.
    """

    target: FloatArray
    reasons: tuple[GuardReason, ...] = ()
    scale: float = 1.0


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


def is_jump(origin: FloatArray, target: FloatArray, spec: RobotSpec) -> bool:
    """Whether ``target`` [A] is further from ``origin`` [A] than two successive targets of a chunk may be; grippers may."""
    step = decompose(origin, target[None], spec.action_kinds)[0]
    path = np.array([kind is not ActionKind.GRIPPER for kind in spec.action_kinds])
    return bool((np.abs(step) > spec.max_jump * spec.max_step + ROUND_OFF)[path].any())


class Onsets:
    """Which reasons have just come up: those that a person has to be told of.

    Args:
        quiet_ns: a reason that comes back within this time [ns] has not ended, or just flickers.
    """

    def __init__(self, quiet_ns: int) -> None:
        self._quiet_ns = quiet_ns
        self._last_ns: dict[GuardReason, int] = {}

    def among(self, reasons: Iterable[GuardReason], stamp_ns: int) -> tuple[GuardReason, ...]:
        """Those of ``reasons``, which hold at ``stamp_ns`` [ns], that did not hold before."""
        new = []
        for reason in reasons:
            last_ns, self._last_ns[reason] = self._last_ns.get(reason), stamp_ns
            if last_ns is None or abs(stamp_ns - last_ns) > self._quiet_ns:
                new.append(reason)
        return tuple(new)


class Guard:
    """Checks every target before it is sent and counts each intervention by reason.

    The same guard serves the executor, direct evaluation in the simulator and imagination (one guard for each environment).
    ``start`` comes first: the guard knows the target in force and how fast it moves, so nobody can tell it something else.

    Args:
        spec: the robot file.
        period_s: time between two targets [s]; by default that of the robot's actions.
        penetration: how deep the arm is where it must not be, see ``MotionLimits`` and ``core.workspace``.
    """

    def __init__(
        self,
        spec: RobotSpec,
        period_s: float | None = None,
        penetration: Callable[[FloatArray], FloatArray] | None = None,
    ) -> None:
        self._spec = spec
        self._period_s = 1.0 / spec.rate_hz if period_s is None else period_s
        self._limits = MotionLimits(spec, self._period_s, penetration)
        self._path = self._limits.path
        self._gripper_step = spec.max_velocity * self._period_s
        self._requested: FloatArray | None = None
        self._in_force: FloatArray | None = None
        self._velocity: FloatArray = np.zeros(len(spec.actions))
        self._e_stopped = False
        self.counts: Counter[GuardReason] = Counter()

    @property
    def e_stopped(self) -> bool:
        return self._e_stopped

    @property
    def in_force(self) -> FloatArray:
        """The target [A] that was sent last."""
        assert self._in_force is not None, "start() comes first"
        return self._in_force

    @property
    def velocity(self) -> FloatArray:
        """How fast the target in force moves [A], per second; rotations in the tool frame, grippers zero."""
        return self._velocity

    @property
    def at_rest(self) -> bool:
        return not self._velocity.any()

    @property
    def tail(self) -> FloatArray:
        """The targets [T, A] by which the arm would brake now, one each period; within all limits."""
        return self._limits.tail(self.in_force, self._velocity)

    def e_stop(self) -> None:
        """Hold from now on; stays so until ``reset_e_stop``."""
        self._e_stopped = True

    def reset_e_stop(self) -> None:
        """Release the latch. Whoever calls this must not resume motion by itself."""
        self._e_stopped = False

    def start(self, reference: FloatArray) -> None:
        """Begin at rest at ``reference`` [A] (a new episode, a new source); counts and the e-stop stay.

        Raises:
            ShapeError: it is not [A].
            ValueError: it is not finite: there is nothing safe to hold.
        """
        reference = self._checked("target in force", reference)
        if not np.isfinite(reference).all():
            raise ValueError(f"the target in force is not finite: {reference.tolist()}")
        self._in_force = reference.copy()
        self._velocity = np.zeros_like(reference)
        self._requested = None

    def check(self, target: FloatArray | None, blocked: Iterable[GuardReason] = (), *, seam: bool = False) -> GuardVerdict:
        """What may be sent when ``target`` is asked for; it is in force from now on.

        Args:
            target: the requested target [A]; None where nothing is: the arm brakes, and a gripper goes where it was asked last.
            blocked: reasons found elsewhere (expired inputs) for which the arm has to hold.
            seam: the target continues nothing that was asked for before, so its distance from there is no jump.

        Raises:
            ShapeError: the target is not [A].
        """
        if target is not None:
            target = self._checked("requested target", target)
        holds = self._reasons_to_hold(target, tuple(blocked), seam)
        verdict = self._braked(holds) if holds or target is None else self._limited(target)
        self._in_force = verdict.target
        self.counts.update(verdict.reasons)
        return verdict

    def _checked(self, what: str, array: FloatArray) -> FloatArray:
        array = np.asarray(array, dtype=np.float64)
        if array.shape != self._path.shape:
            raise ShapeError(what, array.shape, f"[{len(self._path)}]")
        return array

    def _reasons_to_hold(
        self, target: FloatArray | None, blocked: tuple[GuardReason, ...], seam: bool
    ) -> tuple[GuardReason, ...]:
        reasons = tuple(dict.fromkeys(blocked))
        if self._e_stopped:
            reasons += (GuardReason.E_STOP,)
        if target is None:
            return reasons
        if not np.isfinite(target).all():
            return (*reasons, GuardReason.NOT_FINITE)
        # A source whose steps were shortened runs ahead of the target in force, so a jump is judged by what it asked last, too.
        origins = [self.in_force] if self._requested is None else [self.in_force, self._requested]
        if not seam and all(is_jump(origin, target, self._spec) for origin in origins):
            return (*reasons, GuardReason.JUMP)
        self._requested = target
        return reasons

    def _limited(self, target: FloatArray) -> GuardVerdict:
        step = np.where(self._path, decompose(self.in_force, target[None], self._spec.action_kinds)[0], 0.0)
        allowed = self._limits.allowed(self.in_force, self._velocity, step)
        reasons = tuple(GuardReason(limit.value) for limit in allowed.limits)
        if allowed.scale is None or (reasons and self._spec.on_violation is Violation.HOLD):
            return self._braked(reasons)
        if allowed.scale < 1.0:
            limited = self._moved(allowed.scale * step)
        else:
            limited = self._limits.without_round_off(self.in_force, target)
        self._velocity = allowed.scale * step / self._period_s
        limited[~self._path] = self._gripper(target)[~self._path]
        if (np.abs(limited - target) > ROUND_OFF)[~self._path].any():
            reasons += (GuardReason.GRIPPER,)
        return GuardVerdict(limited, reasons, allowed.scale)

    def _braked(self, reasons: tuple[GuardReason, ...]) -> GuardVerdict:
        self._velocity = self._limits.brake(self._velocity)
        braked = self._moved(self._velocity * self._period_s)
        if not reasons and self._requested is not None:  # nothing is wrong: a gripper finishes what it was asked for
            braked[~self._path] = self._gripper(self._requested)[~self._path]
        return GuardVerdict(braked, reasons, 0.0)

    def _moved(self, step: FloatArray) -> FloatArray:
        """The target in force, moved by ``step`` [A]; grippers stay."""
        return self._limits.moved(self.in_force[None], step[None])[0]

    def _gripper(self, target: FloatArray) -> FloatArray:
        inside = np.clip(target, self._spec.lower, self._spec.upper)
        return np.clip(inside, self.in_force - self._gripper_step, self.in_force + self._gripper_step)
