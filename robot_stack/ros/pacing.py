"""When the executor ticks: with ``/clock`` and the answers of the source (lock-step), or by a timer (real time)."""

import time
from typing import Any, Protocol

from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rosgraph_msgs.msg import Clock

from robot_stack.core.driver_seat import Driver
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.tick_grid import TickGrid
from robot_stack.core.types import ActionChunk
from robot_stack.ros import convert, topics
from robot_stack.ros.loop_runner import LoopRunner

SPOKEN = {Driver.POLICY: topics.ACTION_CHUNK, Driver.TELEOP: topics.TELEOP_ACTION}


class Pacing(Protocol):
    """Calls the ticks of a ``LoopRunner``."""

    @property
    def at_rest(self) -> bool:
        """Whether the arm has been told to stand still, or nothing at all."""
        ...

    def begin(self) -> None:
        """The executor has become active."""
        ...

    def check(self, chunk: ActionChunk) -> None:
        """Raises: BadMessageError: nobody waits for this answer."""
        ...

    def notice(self) -> None:
        """An observation has come, or an answer of the source."""
        ...

    def stop(self) -> None:
        """The executor is no longer active: a hold is the last command."""
        ...


class LockStepPacing:
    """A tick begins when its time and all of its observations are here, and waits for the source where a chunk is wanted.

    Args:
        node: the executor node.
        runner: what ticks.
        answer_timeout_s: longest wait for the source, wall time [s].
        reported: whether the arm's driver tells the target in force, which is then waited for.
    """

    def __init__(self, node: Any, runner: LoopRunner, answer_timeout_s: float, reported: bool) -> None:
        self._node, self._runner, self._reported = node, runner, reported
        self._timeout_s = answer_timeout_s
        self._clock_ns = 0
        self._ticked_ns = 0  # the last tick that was begun
        self._awaits_ns: int | None = None  # the tick that waits for an answer
        self._waits_since_ns = 0
        node.create_subscription(Clock, topics.CLOCK, self._on_clock, topics.COMMANDS)
        node.create_timer(1.0, self._on_second, clock=RosClock(clock_type=ClockType.STEADY_TIME))

    @property
    def at_rest(self) -> bool:
        return True  # only a tick that waits takes a command

    def begin(self) -> None:
        self._awaits_ns = None
        self.notice()

    def notice(self) -> None:
        runner, now_ns = self._runner, self._clock_ns
        if self._awaits_ns is not None:
            if len(runner.loop.buffer):
                self._finish(self._awaits_ns)
            return
        if not runner.active or now_ns <= self._ticked_ns or not runner.streams.complete(now_ns):
            return
        if self._reported and not runner.reported.reaches(now_ns):
            return
        self._ticked_ns = now_ns
        if not runner.loop.started and not runner.start(now_ns):
            return
        runner.tell(runner.commitment, now_ns)
        if runner.loop.asks:
            self._awaits_ns, self._waits_since_ns = now_ns, time.monotonic_ns()
        else:
            self._finish(now_ns)

    def check(self, chunk: ActionChunk) -> None:
        if chunk.stamp_ns != self._awaits_ns:
            raise convert.BadMessageError("the source", f"answers tick {chunk.stamp_ns}, awaited is {self._awaits_ns}")

    def stop(self) -> None:
        if self._awaits_ns is not None and self._runner.loop.started:
            self._runner.brake(self._awaits_ns)
        self._awaits_ns = None

    def _on_second(self) -> None:
        waited_s = (time.monotonic_ns() - self._waits_since_ns) / convert.SECOND_NS
        if self._awaits_ns is None or waited_s <= self._timeout_s:
            return
        topic = SPOKEN[self._runner.seat.driver]
        nodes = ", ".join(info.node_name for info in self._node.get_publishers_info_by_topic(topic)) or "nobody"
        problem = f"no answer for tick {self._awaits_ns} within {waited_s:.0f} s from {nodes} on {topic}; inactive"
        self._node.get_logger().error(problem)
        self._awaits_ns, self._runner.active = None, False

    def _on_clock(self, message: Clock) -> None:
        self._clock_ns = convert.to_ns(message.clock)
        self.notice()

    def _finish(self, now_ns: int) -> None:
        self._awaits_ns = None
        if self._runner.loop.started:
            self._runner.tick(now_ns)


class RealTimePacing:
    """A timer ticks on an even grid.

    Args:
        node: the executor node.
        runner: what ticks.
        spec: the robot file.
    """

    def __init__(self, node: Any, runner: LoopRunner, spec: RobotSpec) -> None:
        self._node, self._runner, self._often = node, runner, spec.commands_per_action
        periods = max(1, spec.command_lead - 1) if runner.arm.brakes_itself else 1
        self._grid = TickGrid(spec.command_period_ns, slack_ns=periods * spec.command_period_ns)
        self._idle = 0  # ticks since something was executed
        self._owes_hold = False  # it has stopped, but the arm has not been told to hold yet
        node.create_timer(1.0 / spec.command_rate_hz, self._on_timer, clock=RosClock(clock_type=ClockType.STEADY_TIME))

    @property
    def at_rest(self) -> bool:
        loop = self._runner.loop
        return not loop.started or (loop.guard.at_rest and not self._owes_hold)

    def begin(self) -> None:
        self._owes_hold = False

    def check(self, chunk: ActionChunk) -> None:
        """Whatever comes, comes unasked."""

    def notice(self) -> None:
        """The timer does not wait for anybody."""

    def stop(self) -> None:
        self._owes_hold |= self._runner.loop.started

    def _on_timer(self) -> None:
        runner, now_ns = self._runner, int(self._node.get_clock().now().nanoseconds)
        if not runner.loop.started:
            if not runner.active or not runner.start(now_ns):
                return
            self._grid.start(now_ns)
        ticks = self._grid.take(now_ns)
        if ticks.lost:
            self._node.get_logger().error("the clock jumped, or this process slept: beginning anew where the arm is now")
            runner.loop.stop()
            return
        if ticks.missed:
            runner.counts["late"] += len(ticks.missed)
            runner.loop.late(ticks.missed)
        for tick_ns in ticks.due:
            self._on_tick(tick_ns)

    def _on_tick(self, now_ns: int) -> None:
        runner = self._runner
        if not runner.active:
            if not self.at_rest:
                self._owes_hold = False
                runner.brake(now_ns)
            return
        if not runner.home_tick(now_ns):
            runner.active, self._owes_hold = False, True
            return
        idle = not runner.loop.executes
        tells = self._often == 1 or (idle and self._idle % self._often == 0)  # else it is told when the way to a target begins
        self._idle = self._idle + 1 if idle else 0
        runner.tick(now_ns, tells=tells)
