"""The robot's loop with what it hears and tells: who drives, how actions become motion, the way home, and words for people."""

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.task import Future

from robot_stack.core.control_loop import ControlLoop, Tick
from robot_stack.core.driver_seat import Driver, DriverSeat
from robot_stack.core.homing import Homing, HomingStep
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import GuardReason, Onsets, StreamAge, check_ages
from robot_stack.core.stand_still import StandStill
from robot_stack.core.stream_buffer import RobotStreams, StreamBuffer
from robot_stack.core.types import ActionChunk, FloatArray
from robot_stack.drivers.arm_motion import motion_of
from robot_stack.drivers.arm_workspace import penetration_of
from robot_stack.ros import topics
from robot_stack.ros.commanded_arm import CommandedArm
from robot_stack.ros.executor_outputs import ExecutorOutputs
from robot_stack.ros.executor_settings import ExecutorSettings

QUIET_NS = 1_000_000_000  # see ``safety.Onsets``


@dataclass(frozen=True)
class Commitment:
    """What the executor has bound itself to at a tick.

    Attributes:
        targets: the target before that of the tick, and what will be sent in any case [1 + P, A].
        asks: whether a chunk is wanted.
    """

    targets: FloatArray
    asks: bool


class LoopRunner:
    """Runs ``core.control_loop`` for the executor node; who calls its ticks is another's business (``ros.pacing``).

    Args:
        node: the executor node, which owns the publishers.
        settings: its parameters.
        spec: the robot file.

    Attributes:
        active: whether anything may move the arm; otherwise it is braked, or stands still.
        loop, seat, streams: see their classes.
        reported: targets [M] that the arm's controller follows, as its driver tells.
        counts: ticks by what became of them.
    """

    def __init__(self, node: Any, settings: ExecutorSettings, spec: RobotSpec) -> None:
        self._node, self._settings, self._spec = node, settings, spec
        self.moved, self._motion = spec.motion, motion_of(spec)
        self.seat = DriverSeat(settings.seat(spec.period_ns))
        self.streams = RobotStreams(spec, settings.lock_step)
        self._arm_streams = {topics.JOINT_STATES, *(tool.pose_topic for tool in spec.tools)}
        self.reported: StreamBuffer[FloatArray] = StreamBuffer(topics.TARGET_IN_FORCE)
        self.arm = CommandedArm(node, spec, self._motion)
        execution, penetration = settings.chunk_execution(), penetration_of(self.moved)
        self.loop = ControlLoop(self.moved, self.arm, self._ages, settings.lock_step, execution, penetration)
        self._outputs = ExecutorOutputs(node, spec, settings.takeover)
        self._stand_still = StandStill(self.moved)
        self._homing: Homing | None = None
        self._homed = Future()
        self.active = False
        self.counts: Counter[str] = Counter()
        self._reasons: tuple[GuardReason, ...] = ()  # of the last tick
        self._onsets = Onsets(QUIET_NS)

    @property
    def asks(self) -> bool:
        """Whether a chunk of the policy is wanted."""
        return self.loop.asks and not self.seat.intervenes and not self.homes

    @property
    def homes(self) -> bool:
        """Whether the arm is on its way home."""
        return self._homing is not None

    @property
    def state(self) -> str:
        """For people."""
        if self.loop.guard.e_stopped:
            return "e-stop"
        if not self.active:
            return "inactive"
        if self.homes:
            return "on the way home"
        if not self.loop.started:
            return "active, waits for an arm that says where it is and stands"
        return f"active, {self.seat.driver} drives" if self.seat.intervenes else "active"

    def begin(self) -> None:
        """Active from now on; where the arm is, is asked anew."""
        self.loop.stop()
        self.seat.reset()
        self._stand_still.reset()
        self.active = True

    def start(self, now_ns: int) -> bool:
        """Take the reference from the arm; False while it does not say where it is, or moves (in lock-step it stands)."""
        if not self._settings.lock_step and self._blind(now_ns):
            return False
        if self._settings.target_in_force:
            reported = self.reported.until(now_ns)
            reference, received_ns = (None, 0) if reported is None else (reported.value, reported.received_ns)
        else:
            reference, received_ns = self.streams.named(self.moved.action_names, now_ns), self.streams.arm_received_ns
        if reference is None or not (self._settings.lock_step or self._stand_still.stands(reference, received_ns)):
            return False
        self._stand_still.reset()
        self.loop.start(reference)
        return True

    def hear(self, chunk: ActionChunk, speaker: Driver) -> None:
        """Take in a chunk or a target, if its speaker drives.

        Raises:
            ProphRLError: the arm cannot go there.
        """
        intervened, received_ns = self.seat.intervenes, time.monotonic_ns()
        if not self.active or self.homes or not self.loop.started or self.loop.guard.e_stopped:
            return
        if not self.seat.admits(speaker, received_ns):
            return
        if self.seat.intervenes and not intervened:
            self._node.get_logger().info("a person has taken over")
        commands = self._motion.to_commands(self.loop.guard.in_force, chunk.targets)
        put = self.loop.buffer.replace if speaker is Driver.TELEOP else self.loop.buffer.push
        put(dataclasses.replace(chunk, targets=commands), received_ns)

    @property
    def commitment(self) -> Commitment:
        """What will be sent in any case, and whether a chunk is wanted."""
        return Commitment(self._motion.to_actions(self.loop.committed), self.asks)

    def tell(self, commitment: Commitment, now_ns: int) -> None:
        """Once for each action."""
        self._outputs.tell_committed(commitment.targets, commitment.asks, now_ns)
        self._outputs.tell_intervention(self.seat.intervenes)

    def _blind(self, now_ns: int) -> bool:
        """Whether an observation, or what the arm's driver tells of its target, has expired."""
        ages = [*self.streams.ages()]
        if self._settings.target_in_force:
            latest = self.reported.latest
            if latest is None:
                return True
            limit_ns = self._spec.max_state_age_ns
            ages.append(StreamAge(topics.TARGET_IN_FORCE, latest.stamp_ns, latest.received_ns, limit_ns))
        return bool(check_ages(ages, now_ns, time.monotonic_ns()))

    def tick(self, now_ns: int, tells: bool = False) -> None:
        """One tick of the loop; if it ``tells``, the commitment before it comes after its command, which must not wait."""
        if self.seat.settle(self.loop.guard.at_rest, time.monotonic_ns()):
            self.loop.buffer.clear()
            self._node.get_logger().info("the policy drives again")
        before = self.commitment if tells else None
        tick = self.loop.tick(now_ns, time.monotonic_ns())
        if before is not None:
            self.tell(before, now_ns)
        self.counts["starved" if tick.starved else "moved"] += 1
        if tick.requested is not None:
            self._outputs.tell_requested(self._motion.to_actions(tick.requested[None])[0], now_ns)
            if self._spec.commands_per_action > 1:  # else it was told before the tick
                self.tell(self.commitment, now_ns)
        self._tell(tick)
        if not self._settings.lock_step and self.loop.guard.at_rest and self._arm_streams & {age.name for age in tick.expired}:
            self.loop.stop()  # the arm may have been moved, or its driver started anew: where it is then is asked

    def brake(self, now_ns: int) -> None:
        """Brake by one tick."""
        self._tell(self.loop.brake(now_ns))

    def go_home(self, answer: Future) -> None:
        """Begin the way home; ``answer`` gets what went wrong on it, or an empty text at its end."""
        self.begin()
        self._homing, self._homed = Homing(np.array(self.moved.home)), answer

    def home_tick(self, now_ns: int) -> bool:
        """Look after the way home; False where it has come to its end."""
        homing, loop, steady_ns = self._homing, self.loop, time.monotonic_ns()
        if homing is None:
            return True
        step = homing.step(loop.guard.in_force, loop.guard.at_rest, loop.executes, steady_ns)
        if step is HomingStep.ASK:
            loop.buffer.replace(ActionChunk(now_ns, self._spec.period_ns, homing.home[None], "homing"), steady_ns)
        elif step is HomingStep.GO_ON:
            loop.buffer.renew(now_ns, steady_ns)
        else:
            self.end_homing("" if step is HomingStep.DONE else "the arm does not come nearer: the log says what holds it")
            return False
        return True

    def end_homing(self, problem: str) -> None:
        """The way home is over."""
        if self._homing is not None:
            self._homing = None
            self._homed.set_result(problem)

    def tell_state(self, now_ns: int) -> None:
        """For people, once a second."""
        guard = self.loop.guard
        counts = {**self.counts, **{reason.value: count for reason, count in guard.counts.items()}}
        self._outputs.tell_state(self.state, guard.e_stopped, counts, now_ns)

    def _tell(self, tick: Tick) -> None:
        for reason in self._onsets.among(tick.reasons, tick.stamp_ns):
            streams = ", ".join(age.name for age in tick.expired if age.reason is reason)
            where = f" ({streams})" if streams else ""
            self._node.get_logger().warning(f"guard: {reason}{where} at {tick.stamp_ns} ns")
        if tick.reasons != self._reasons:
            self._reasons = tick.reasons
            self._outputs.tell_guard([reason.value for reason in tick.reasons], tick.stamp_ns)

    def _ages(self) -> tuple[StreamAge, ...]:
        ages = self.streams.ages()
        if self._settings.lock_step or self.homes or not self.loop.executes:
            return ages
        return (*ages, *self.seat.ages(self.loop.buffer))
