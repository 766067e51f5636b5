"""The executor: the only publisher of arm commands, in a process of its own, free of models.

It keeps the chunk buffer and the guard (``core.control_loop``). Policy and teleop only ever talk to it. Once for each action it
publishes ``committed_actions``: point 0 is the target before this action, the others are what is sent unless a new chunk comes.
Its frame id is "request" where one is wanted (``core.execution``). A source answers with a chunk, or with a single target. In
lock-step a tick waits for that answer; in real time the arm comes to rest where none comes.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.driver_seat import Driver
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections, watch_types
from robot_stack.ros.executor_settings import ExecutorSettings
from robot_stack.ros.loop_runner import LoopRunner
from robot_stack.ros.node import Complaints, declare_parameters, hurry, run_node
from robot_stack.ros.pacing import SPOKEN, LockStepPacing, Pacing, RealTimePacing
from robot_stack.ros.stream_bridge import StreamBridge


class ExecutorNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("executor")
        self._settings = settings = declare_parameters(self, ExecutorSettings)
        self._spec = RobotSpec.load(robot_file(settings.robot))
        self._runner = LoopRunner(self, settings, self._spec)
        self._complaints = Complaints(self.get_logger())
        self._pacing: Pacing = (
            LockStepPacing(self, self._runner, settings.answer_timeout_s, settings.target_in_force)
            if settings.lock_step
            else RealTimePacing(self, self._runner, self._spec)
        )
        self._subscribe()
        for name, callback in {
            "activate": self._on_activate,
            "deactivate": self._on_deactivate,
            "reset_e_stop": self._on_reset_e_stop,
            "hand_back": self._on_hand_back,
        }.items():
            self.create_service(Trigger, f"~/{name}", callback)
        apart = MutuallyExclusiveCallbackGroup()  # it answers when the arm is home, to which the rest of the node brings it
        self.create_service(Trigger, "~/home", self._on_home, callback_group=apart)
        tell_connections(self)
        watch_types(self, self._complaints, lambda: not self._runner.active)
        self.create_timer(1.0, self._on_second, clock=RosClock(clock_type=ClockType.STEADY_TIME))
        if not settings.lock_step:
            hurry(self, settings.realtime_priority)

    def _subscribe(self) -> None:
        settings = self._settings
        reliability, depth = settings.sensor_reliability, settings.sensor_depth
        StreamBridge(
            *(self, self._spec, self._runner.streams, self._complaints, self._pacing.notice),
            pixels=False,
            reliability=reliability,
            depth=depth,
        )
        if settings.target_in_force:
            sensor = topics.sensor_qos(reliability, depth)
            self.create_subscription(JointTrajectory, topics.TARGET_IN_FORCE, self._on_target_in_force, sensor)
        speakers = {Driver(settings.source), *([Driver.TELEOP] if settings.takeover else [])}
        for speaker in speakers:
            self.create_subscription(JointTrajectory, SPOKEN[speaker], partial(self._on_chunk, speaker), topics.COMMANDS)
        if Driver.POLICY in speakers:
            self.create_subscription(Header, topics.HEARTBEAT, self._on_heartbeat, topics.COMMANDS)
        self.create_subscription(Bool, topics.E_STOP, self._on_e_stop, topics.COMMANDS)

    # Inputs

    def _on_target_in_force(self, message: JointTrajectory) -> None:
        with self._complaints.about(topics.TARGET_IN_FORCE):
            target = convert.trajectory_targets(message, self._runner.moved, topics.TARGET_IN_FORCE)[0]
            self._runner.reported.push(convert.to_ns(message.header.stamp), time.monotonic_ns(), target)
        self._pacing.notice()

    def _on_heartbeat(self, message: Header) -> None:
        inferring = message.frame_id == topics.INFERRING
        self._runner.seat.heartbeat(convert.to_ns(message.stamp), time.monotonic_ns(), inferring)

    def _on_chunk(self, speaker: Driver, message: JointTrajectory) -> None:
        if not self._runner.active:
            return
        with self._complaints.about(SPOKEN[speaker]):
            chunk = convert.answered_chunk(message, self._spec, SPOKEN[speaker])
            self._pacing.check(chunk)
            self._runner.hear(chunk, speaker)
        self._pacing.notice()

    def _on_e_stop(self, message: Bool) -> None:
        guard = self._runner.loop.guard
        if not message.data or guard.e_stopped:
            return
        guard.e_stop()
        self.stop()
        self.get_logger().error("e-stop: holding. Release it with ~/reset_e_stop, then ~/activate")

    # Services

    def _on_activate(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        problem = "on the way home" if self._runner.homes else self._reason_not_to_move()
        if not problem:
            self._runner.begin()
            self._pacing.begin()
        response.success, response.message = not problem, problem or "active"
        return response

    def _on_deactivate(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.stop()
        response.success, response.message = True, "inactive"
        return response

    def _on_reset_e_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._runner.loop.guard.reset_e_stop()
        response.success, response.message = True, "released; inactive until ~/activate"
        return response

    def _on_hand_back(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        taken = self._runner.seat.intervenes
        self._runner.seat.hand_back()
        response.success = taken
        response.message = "the policy goes on once the arm stands still" if taken else "nobody has taken over"
        return response

    async def _on_home(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Answers when the arm is home, and leaves it inactive."""
        problem = self._reason_not_to_move()
        if self._settings.lock_step:
            problem = "in lock-step a simulated robot goes home by its own reset"
        elif not self._spec.home:
            problem = f"the robot file of {self._spec.name} names no home"
        elif self._runner.active:
            problem = "active; call ~/deactivate first"
        if not problem:
            arrival = Future(executor=self.executor)
            self._runner.go_home(arrival)
            self._pacing.begin()
            problem = await arrival
        response.success, response.message = not problem, problem or "home"
        return response

    def _reason_not_to_move(self) -> str:
        """Why nothing may move the arm now; empty: it may."""
        if self._runner.loop.guard.e_stopped:
            return "the e-stop is latched; release it with ~/reset_e_stop first"
        for command in self._spec.commands:
            if self.count_publishers(command.topic) > 1:
                return f"another node publishes {command.topic}; only one executor may command the arm: stop the other one"
        for pictures in map(topics.pictures, self._spec.cameras):
            if self.count_publishers(pictures.name) > 1:
                return f"two nodes publish {pictures.name}; stop one of them, or the policy sees two cameras as one"
        return ""

    def stop(self) -> None:
        """Listen to the source no more, then brake: a hold is the last command."""
        was_active, self._runner.active = self._runner.active, False
        self._runner.end_homing("stopped on the way")
        if was_active:
            self._pacing.stop()

    @property
    def at_rest(self) -> bool:
        """Whether the arm has been told to stand still (or nothing at all); else spinning goes on braking."""
        return self._pacing.at_rest

    def close(self) -> None:
        """Wait until what was sent has arrived."""
        self._runner.arm.flush()

    def _on_second(self) -> None:
        self._runner.tell_state(int(self.get_clock().now().nanoseconds))


def _brake(node: ExecutorNode, serve: Callable[[], None]) -> None:
    """A hold is the last command."""
    node.stop()
    while not node.at_rest:
        serve()


def main(_: Any = None) -> int:
    return run_node(ExecutorNode, _brake)


if __name__ == "__main__":
    sys.exit(main())
