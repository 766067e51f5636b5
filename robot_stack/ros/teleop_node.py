"""Teleoperation as a lifecycle node: one absolute target for each tick of the executor, from one device (``teleop_devices``).

It answers ``committed_actions``. In lock-step it answers every tick that waits; in real time it continues from the last target
that is committed. Silence of the device is silence of this node, and the executor holds.

With ``takeover`` the executor follows a policy until this node speaks, and says on ``intervention`` whom it follows. While that
is the policy, what is committed beyond the target in force is the policy's, so the device continues from the target in force.

An operator's marks call the recorder's services; those and the e-stop are passed on whether or not the node is active.
"""

import sys
from typing import Any

from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.teleop_device import Mark
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import Complaints, declare_parameters, run_node
from robot_stack.ros.teleop_devices import DeviceContext, TeleopSettings, make_device

LOOK_S = 0.02  # how often a device is asked for more than motion


class TeleopNode(LifecycleNode):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("teleop")
        self._settings = declare_parameters(self, TeleopSettings)
        self._spec = RobotSpec.load(robot_file(self._settings.robot))
        self._complaints = Complaints(self.get_logger())
        self._device = make_device(DeviceContext(self, self._settings, self._spec, self._complaints, self._try_answer))
        self._asked: tuple[int, FloatArray] | None = None  # tick, reference [A]
        self._active = False
        self._driving = not self._settings.takeover  # else the executor says so
        self._action_out = self.create_publisher(JointTrajectory, topics.TELEOP_ACTION, topics.COMMANDS)
        self._e_stop_out = self.create_publisher(Bool, topics.E_STOP, topics.COMMANDS)
        self._told = {mark: self.create_client(Trigger, mark.service) for mark in Mark}
        self.create_subscription(JointTrajectory, topics.COMMITTED_ACTIONS, self._on_committed, topics.COMMANDS)
        if self._settings.takeover:
            self.create_subscription(Bool, topics.INTERVENTION, self._on_intervention, topics.COMMANDS)
        if not self._settings.lock_step:
            self.create_timer(LOOK_S, self._on_look, clock=RosClock(clock_type=ClockType.STEADY_TIME))
        tell_connections(self)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._device.open()
        except ProphRLError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._device.reset()
        except ProphRLError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self._asked = None
        self._active = True
        self._driving = not self._settings.takeover
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._device.close()
        return super().on_cleanup(state)

    def close(self) -> None:
        self._active = False
        self._device.close()

    def _on_committed(self, message: JointTrajectory) -> None:
        if not self._active:
            return
        with self._complaints.about(topics.COMMITTED_ACTIONS):
            targets = convert.trajectory_targets(message, self._spec, topics.COMMITTED_ACTIONS)
            if message.header.frame_id == topics.REQUEST or not self._settings.lock_step:
                # Before a takeover the points are the policy's, and the arm is on its way to the second of them.
                reference = targets[-1] if self._driving else targets[:2][-1]
                self._asked = (convert.to_ns(message.header.stamp), reference)
        self._try_answer()

    def _on_intervention(self, message: Bool) -> None:
        if not message.data and self._driving:
            self._device.reset()
        self._driving = bool(message.data)

    def _try_answer(self) -> None:
        if self._asked is None or not self._active:
            return
        stamp_ns, reference = self._asked
        target = None
        with self._complaints.about(f"device {self._settings.device}"):
            target = self._device.target(stamp_ns, reference)
        if target is not None:
            period_ns, names = self._spec.period_ns, self._spec.action_names
            self._action_out.publish(convert.trajectory_message(target[None], names, stamp_ns, period_ns, first_ns=period_ns))
        if target is not None or not self._settings.lock_step:
            self._asked = None  # who asks for something later moves the arm from where it is then

    def _on_look(self) -> None:
        requests = self._device.requests()
        if requests.e_stop:
            self._e_stop_out.publish(Bool(data=True))
        for mark in requests.marks:
            self._tell(mark)

    def _tell(self, mark: Mark) -> None:
        client = self._told[mark]
        if not client.service_is_ready():
            self.get_logger().warning(f"{mark}: no {mark.service.partition('/')[0]} is there to be told")
            return

        def tell(future: Future) -> None:
            response = future.result()
            say = self.get_logger().info if response.success else self.get_logger().warning
            say(f"{mark.service}: {response.message}")

        client.call_async(Trigger.Request()).add_done_callback(tell)


def main(_: Any = None) -> int:
    return run_node(TeleopNode)


if __name__ == "__main__":
    sys.exit(main())
