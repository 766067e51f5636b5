"""The executor: the only publisher of arm commands, in a process of its own, free of models.

It keeps the chunk buffer and the guard (``core.control_loop``). Policy and teleop only ever talk to it. Once for each action it
publishes ``committed_actions``: point 0 is the target in force, further points are what will be sent unless a new chunk comes.
Its frame id is "request" where one is wanted (``core.execution``). A source answers with a chunk, or with a single target. In
lock-step a tick waits for that answer; in real time the arm comes to rest where none comes.

It handles SIGINT and SIGTERM itself, because rclpy's handlers close the context before a last command can be sent.
"""

import dataclasses
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.control_loop import ControlLoop, Tick
from robot_stack.core.driver_seat import Driver, DriverSeat
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import StreamAge
from robot_stack.core.stream_buffer import RobotStreams, StreamBuffer
from robot_stack.core.tick_grid import TickGrid
from robot_stack.core.types import FloatArray
from robot_stack.drivers.arm_motion import motion_of
from robot_stack.drivers.arm_workspace import penetration_of
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.commanded_arm import CommandedArm
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.executor_outputs import ExecutorOutputs
from robot_stack.ros.executor_settings import ExecutorSettings
from robot_stack.ros.node import Complaints, declare_parameters, guarded_main
from robot_stack.ros.stream_bridge import StreamBridge

SPOKEN = {Driver.POLICY: topics.ACTION_CHUNK, Driver.TELEOP: topics.TELEOP_ACTION}


class ExecutorNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("executor")
        self._settings = declare_parameters(self, ExecutorSettings)
        self._seat = DriverSeat(self._settings.seat())
        self._spec = RobotSpec.load(robot_file(self._settings.robot))
        self._moved, self._motion = self._spec.motion, motion_of(self._spec)
        self._lock_step = self._settings.lock_step
        self._streams = RobotStreams(self._spec, self._lock_step)
        self._reported: StreamBuffer[FloatArray] = StreamBuffer(topics.TARGET_IN_FORCE)
        self._arm = CommandedArm(self, self._spec, self._motion)
        execution, penetration = self._settings.chunk_execution(), penetration_of(self._moved)
        self._loop = ControlLoop(self._moved, self._arm, self._ages, self._lock_step, execution, penetration)
        self._complaints = Complaints(self.get_logger())
        periods = max(1, self._spec.command_lead - 1) if self._arm.brakes_itself else 1
        self._grid = TickGrid(self._spec.command_period_ns, slack_ns=periods * self._spec.command_period_ns)
        self._active = False
        self._clock_ns = 0
        self._ticked_ns = 0  # the last tick that was begun
        self._awaits_ns: int | None = None  # the tick that waits for a chunk
        self._waits_since_ns = 0
        self._ticks: Counter[str] = Counter()
        self._count = 0  # of ticks in which nothing was executed
        self._owes_hold = False  # it has stopped, but the arm has not been told to hold yet

        self._outputs = ExecutorOutputs(self, self._spec, self._settings.takeover)
        self._subscribe()
        for name, callback in {
            "activate": self._on_activate,
            "deactivate": self._on_deactivate,
            "reset_e_stop": self._on_reset_e_stop,
            "hand_back": self._on_hand_back,
        }.items():
            self.create_service(Trigger, f"~/{name}", callback)
        tell_connections(self)
        steady = RosClock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._on_second, clock=steady)
        if not self._lock_step:
            self.create_timer(1.0 / self._spec.command_rate_hz, self._on_timer, clock=steady)

    def _subscribe(self) -> None:
        settings = self._settings
        reliability, depth = settings.sensor_reliability, settings.sensor_depth
        StreamBridge(
            *(self, self._spec, self._streams, self._complaints, self._try_tick),
            pixels=False,
            reliability=reliability,
            depth=depth,
        )
        sensor = topics.sensor_qos(reliability, depth)
        if settings.target_in_force:
            self.create_subscription(JointTrajectory, topics.TARGET_IN_FORCE, self._on_target_in_force, sensor)
        if settings.source == Driver.POLICY:
            self.create_subscription(JointTrajectory, topics.ACTION_CHUNK, self._hear(Driver.POLICY), topics.COMMANDS)
            self.create_subscription(Header, topics.HEARTBEAT, self._on_heartbeat, topics.COMMANDS)
        if settings.source == Driver.TELEOP or settings.takeover:
            self.create_subscription(JointTrajectory, topics.TELEOP_ACTION, self._hear(Driver.TELEOP), topics.COMMANDS)
        self.create_subscription(Bool, topics.E_STOP, self._on_e_stop, topics.COMMANDS)
        if self._lock_step:
            self.create_subscription(Clock, topics.CLOCK, self._on_clock, topics.COMMANDS)

    # Inputs

    def _on_target_in_force(self, message: JointTrajectory) -> None:
        with self._complaints.about(topics.TARGET_IN_FORCE):
            target = convert.trajectory_targets(message, self._moved, topics.TARGET_IN_FORCE)[0]
            self._reported.push(convert.to_ns(message.header.stamp), time.monotonic_ns(), target)
        self._try_tick()

    def _on_clock(self, message: Clock) -> None:
        self._clock_ns = convert.to_ns(message.clock)
        self._try_tick()

    def _on_heartbeat(self, message: Header) -> None:
        self._seat.heartbeat(convert.to_ns(message.stamp), time.monotonic_ns())

    def _hear(self, speaker: Driver) -> Callable[[JointTrajectory], None]:
        return lambda message: self._on_chunk(message, speaker)

    def _on_chunk(self, message: JointTrajectory, speaker: Driver) -> None:
        loop, topic = self._loop, SPOKEN[speaker]
        if not self._active or not loop.started or loop.guard.e_stopped:
            return
        with self._complaints.about(topic):
            chunk = convert.answered_chunk(message, self._spec, topic)
            if self._lock_step and chunk.stamp_ns != self._awaits_ns:
                raise convert.BadMessageError(topic, f"answers tick {chunk.stamp_ns}, awaited is {self._awaits_ns}")
            intervened, received_ns = self._seat.intervenes, time.monotonic_ns()
            if not self._seat.admits(speaker, received_ns):
                return
            if self._seat.intervenes and not intervened:
                self.get_logger().info("a person has taken over")
            commands = self._motion.to_commands(loop.guard.in_force, chunk.targets)
            put = loop.buffer.replace if speaker is Driver.TELEOP else loop.buffer.push
            put(dataclasses.replace(chunk, targets=commands), received_ns)
        if self._awaits_ns is not None and len(loop.buffer):
            self._finish_tick(self._awaits_ns)

    def _on_e_stop(self, message: Bool) -> None:
        if not message.data or self._loop.guard.e_stopped:
            return
        self._loop.guard.e_stop()
        self.stop()
        self.get_logger().error("e-stop: holding. Release it with ~/reset_e_stop, then ~/activate")

    # Ticks

    def _try_tick(self) -> None:
        """In lock-step a tick begins when its time and all of its observations are here."""
        now_ns = self._clock_ns
        if not self._lock_step or not self._active or now_ns <= self._ticked_ns or not self._streams.complete(now_ns):
            return
        if self._settings.target_in_force and not self._reported.reaches(now_ns):
            return
        self._ticked_ns = now_ns
        if not self._loop.started and not self._start(now_ns):
            return
        self._publish_committed(now_ns)
        if self._loop.asks:
            self._awaits_ns = now_ns
            self._waits_since_ns = time.monotonic_ns()
        else:
            self._finish_tick(now_ns)

    def _on_timer(self) -> None:
        now_ns = self._now_ns()
        if not self._loop.started:
            if not self._active or not self._start(now_ns):
                return
            self._grid.start(now_ns)
        ticks = self._grid.take(now_ns)
        if ticks.lost:
            self.get_logger().error("the clock jumped, or this process slept: beginning anew where the arm is now")
            self._loop.stop()
            return
        if ticks.missed:
            self._ticks["late"] += len(ticks.missed)
            self._loop.late(ticks.missed)
        for tick_ns in ticks.due:
            self._on_tick(tick_ns)

    def _on_tick(self, now_ns: int) -> None:
        if not self._active:
            if not self.at_rest:
                self._owes_hold = False
                self._tell(self._loop.brake(now_ns))
            return
        often = self._spec.commands_per_action
        idle = not self._loop.executes
        if often == 1 or (idle and self._count % often == 0):  # else it is told when the way to a target begins
            self._publish_committed(now_ns)
        self._count = self._count + 1 if idle else 0
        self._finish_tick(now_ns)

    def _start(self, now_ns: int) -> bool:
        """Take the reference from the arm; False while it has not said where it is."""
        if self._settings.target_in_force:
            reported = self._reported.until(now_ns)
            reference = None if reported is None else reported.value
        else:
            reference = self._streams.named(self._moved.action_names, now_ns)
        if reference is not None:
            self._loop.start(reference)
        return reference is not None

    def _publish_committed(self, now_ns: int) -> None:
        committed = self._motion.to_actions(self._loop.committed)
        self._outputs.tell_committed(committed, self._loop.asks and not self._seat.intervenes, now_ns)
        self._outputs.tell_intervention(self._seat.intervenes)

    def _finish_tick(self, now_ns: int) -> None:
        self._awaits_ns = None
        if not self._loop.started:
            return
        if self._seat.settle(self._loop.guard.at_rest, time.monotonic_ns()):
            self._loop.buffer.clear()
            self.get_logger().info("the policy drives again")
        tick = self._loop.tick(now_ns, time.monotonic_ns())
        self._ticks["starved" if tick.starved else "moved"] += 1
        if tick.requested is not None:
            self._outputs.tell_requested(self._motion.to_actions(tick.requested[None])[0], now_ns)
            if self._spec.commands_per_action > 1:
                self._publish_committed(now_ns)
        self._tell(tick)

    def _tell(self, tick: Tick) -> None:
        for reason in tick.onsets:
            streams = ", ".join(age.name for age in tick.expired if age.reason is reason)
            self.get_logger().warning(f"guard: {reason}{f' ({streams})' if streams else ''} at {tick.stamp_ns} ns")

    def _ages(self) -> tuple[StreamAge, ...]:
        ages = self._streams.ages()
        if self._lock_step or not self._loop.executes:
            return ages
        return (*ages, self._seat.age(self._loop.buffer))

    def _now_ns(self) -> int:
        return self._clock_ns if self._lock_step else int(self.get_clock().now().nanoseconds)

    # Services

    def _on_activate(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        problem = ""
        if self._loop.guard.e_stopped:
            problem = "the e-stop is latched; release it with ~/reset_e_stop first"
        elif taken := [command.topic for command in self._spec.commands if self.count_publishers(command.topic) > 1]:
            problem = f"another node publishes {taken[0]}; only one executor may command the arm: stop the other one"
        if not problem:
            self._loop.stop()  # where the arm is now is asked anew
            self._seat.reset()
            self._owes_hold = False
            self._awaits_ns = None
            self._active = True
            self._try_tick()
        response.success, response.message = not problem, problem or "active"
        return response

    def _on_deactivate(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.stop()
        response.success, response.message = True, "inactive"
        return response

    def _on_reset_e_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._loop.guard.reset_e_stop()
        response.success, response.message = True, "released; inactive until ~/activate"
        return response

    def _on_hand_back(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        taken = self._seat.intervenes
        self._seat.hand_back()
        response.success = taken
        response.message = "the policy goes on once the arm stands still" if taken else "nobody has taken over"
        return response

    def stop(self) -> None:
        """Listen to the source no more, then brake: a hold is the last command.

        The next ticks of the timer do so. In lock-step only a tick that waits takes a command.
        """
        self._owes_hold |= self._active and self._loop.started
        self._active = False
        if self._awaits_ns is not None and self._loop.started:
            self._tell(self._loop.brake(self._awaits_ns))
        self._awaits_ns = None

    @property
    def at_rest(self) -> bool:
        """Whether the arm has been told to stand still (or nothing at all); else the timer goes on braking."""
        return self._lock_step or not self._loop.started or (self._loop.guard.at_rest and not self._owes_hold)

    def flush(self) -> None:
        """Wait until what was sent has arrived."""
        self._arm.flush()

    # For people

    def _on_second(self) -> None:
        waited_s = (time.monotonic_ns() - self._waits_since_ns) / convert.SECOND_NS
        if self._active and self._awaits_ns is not None and waited_s > self._settings.answer_timeout_s:
            source = self._source_name()
            self.get_logger().error(f"no answer for tick {self._awaits_ns} within {waited_s:.0f} s from {source}; inactive")
            self._awaits_ns = None
            self._active = False
        guard = self._loop.guard
        driver = f"active, {self._seat.driver} drives" if self._seat.intervenes else "active"
        state = "e-stop" if guard.e_stopped else driver if self._active else "inactive"
        counts = {**self._ticks, **{reason.value: count for reason, count in guard.counts.items()}}
        self._outputs.tell_state(state, guard.e_stopped, counts, int(self.get_clock().now().nanoseconds))

    def _source_name(self) -> str:
        topic = SPOKEN[self._seat.driver]
        nodes = [info.node_name for info in self.get_publishers_info_by_topic(topic)]
        return f"{', '.join(nodes) or 'nobody'} on {topic}"


def _run() -> None:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = ExecutorNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stopping = Future()

    def spin() -> None:
        executor.spin_until_future_complete(stopping)
        node.stop()
        while not node.at_rest:
            executor.spin_once(timeout_sec=0.1)
        node.flush()

    # The main thread only waits: Python runs signal handlers there, and inside a wait of the middleware it would run them late.
    spinner = threading.Thread(target=spin, name="spin")
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    spinner.start()
    asked.wait()
    stopping.set_result(None)
    spinner.join()
    node.destroy_node()
    rclpy.try_shutdown()


def main(_: Any = None) -> int:
    return guarded_main(_run)


if __name__ == "__main__":
    sys.exit(main())
