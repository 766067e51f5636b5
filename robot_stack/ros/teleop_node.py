"""Teleoperation as a lifecycle node: one absolute target for each tick of the executor, from a keyboard or a script.

It answers ``committed_actions``. In lock-step it answers every tick that waits; in real time it continues from the last target
that is committed. Silence of the device is silence of this node, and the executor holds.
"""

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Bool, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.seeding import generator
from robot_stack.core.stream_buffer import StreamBuffer
from robot_stack.core.types import FloatArray
from robot_stack.drivers.keyboard import HELP, Keyboard, KeyboardSettings
from robot_stack.drivers.tool_jog import make_jog
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import Complaints, declare_parameters, run_node

DEVICES = ("behaviour", "keyboard")


@dataclass(frozen=True)
class TeleopSettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        device: "keyboard", or "behaviour": a script that sees the simulator's state.
        behaviour: see ``drivers.behaviours``; read on activation, as are the next three.
        noise: of the noisy expert.
        task: the simulator's task.
        seed: start seed; the behaviour's random numbers derive from it.
        lock_step: answer with the simulator's state of exactly the tick that asks.
        deadman_s, speed: of the keyboard, see ``KeyboardSettings``.
    """

    robot: str = "sim_metaworld"
    device: str = "behaviour"
    behaviour: str = "expert"
    noise: float = 1.0
    task: str = "button-press-topdown-v3"
    seed: int = 0
    lock_step: bool = True
    deadman_s: float = KeyboardSettings.deadman_s
    speed: float = KeyboardSettings.speed


class TeleopNode(LifecycleNode):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("teleop")
        self._settings = declare_parameters(self, TeleopSettings)
        self._spec = RobotSpec.load(robot_file(self._settings.robot))
        if self._settings.device not in DEVICES:
            raise UnknownNameError("teleoperation device", self._settings.device, DEVICES)
        self._resources = contextlib.ExitStack()
        self._keyboard: Keyboard | None = None
        if self._settings.device == "keyboard":
            settings = KeyboardSettings(self._settings.deadman_s, self._settings.speed)
            self._jog = make_jog(self._spec)
            self._keyboard = self._resources.enter_context(Keyboard(settings))
            self.get_logger().info(HELP)
        self._behaviour: Any = None
        self._simulator: StreamBuffer[FloatArray] = StreamBuffer(topics.PRIVILEGED_STATE)
        self._asked: tuple[int, FloatArray] | None = None  # tick, reference [A]
        self._active = False
        self._complaints = Complaints(self.get_logger())
        self._action_out = self.create_publisher(JointTrajectory, topics.TELEOP_ACTION, topics.COMMANDS)
        self._e_stop_out = self.create_publisher(Bool, topics.E_STOP, topics.COMMANDS)
        self.create_subscription(JointTrajectory, topics.COMMITTED_ACTIONS, self._on_committed, topics.COMMANDS)
        if self._keyboard is None:
            self.create_subscription(Float64MultiArray, topics.PRIVILEGED_STATE, self._on_simulator, topics.COMMANDS)
        tell_connections(self)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the script, which takes its time, before anything waits for it."""
        return super().on_configure(state) if self._make_behaviour() else TransitionCallbackReturn.FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if not self._make_behaviour():
            return TransitionCallbackReturn.FAILURE
        self._asked = None
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        return super().on_deactivate(state)

    def close(self) -> None:
        self._active = False
        self._resources.close()

    def _make_behaviour(self) -> bool:
        """A fresh behaviour for one episode; False where there is none of that name."""
        if self._keyboard is not None:
            return True
        from robot_stack.drivers.behaviours import make_behaviour

        name, task, seed = (self.get_parameter(key).value for key in ("behaviour", "task", "seed"))
        try:  # the same random numbers as in collection without ROS, so that both give the same episode
            rng = generator("collect", task, name, seed)
            self._behaviour = make_behaviour(name, self._spec, task, rng, self.get_parameter("noise").value)
        except ProphRLError as error:
            self.get_logger().error(str(error))
            return False
        return True

    def _on_committed(self, message: JointTrajectory) -> None:
        if not self._active:
            return
        with self._complaints.about(topics.COMMITTED_ACTIONS):
            targets = convert.trajectory_targets(message, self._spec, topics.COMMITTED_ACTIONS)
            if message.header.frame_id == topics.REQUEST or not self._settings.lock_step:
                self._asked = (convert.to_ns(message.header.stamp), targets[-1])
        self._try_answer()

    def _on_simulator(self, message: Float64MultiArray) -> None:
        with self._complaints.about(topics.PRIVILEGED_STATE):
            stamp_ns = convert.stamp_of_numbers(message, topics.PRIVILEGED_STATE)
            self._simulator.push(stamp_ns, time.monotonic_ns(), np.array(message.data))
        self._try_answer()

    def _try_answer(self) -> None:
        if self._asked is None or not self._active:
            return
        stamp_ns, reference = self._asked
        target = self._key_target(reference) if self._keyboard else self._script_target(stamp_ns, reference)
        if target is None:
            return
        self._asked = None
        period_ns, names = self._spec.period_ns, self._spec.action_names
        self._action_out.publish(convert.trajectory_message(target[None], names, stamp_ns, period_ns, first_ns=period_ns))

    def _script_target(self, stamp_ns: int, reference: FloatArray) -> FloatArray | None:
        if self._settings.lock_step and not self._simulator.reaches(stamp_ns):
            return None
        state = self._simulator.until(stamp_ns)
        return None if state is None else self._behaviour.target(reference, state.value)

    def _key_target(self, reference: FloatArray) -> FloatArray | None:
        assert self._keyboard is not None
        keys = self._keyboard.state()
        if keys is None:
            self._asked = None  # a key pressed later moves the arm from where it is then
            return None
        if keys.e_stop:
            self._e_stop_out.publish(Bool(data=True))
        with self._complaints.about("keyboard"):
            target = self._jog.moved(reference, keys.direction, self._keyboard.settings.speed)
            target[[kind is ActionKind.GRIPPER for kind in self._spec.action_kinds]] = keys.gripper
            return np.clip(target, self._spec.lower, self._spec.upper)
        self._asked = None
        return None


def main(_: Any = None) -> int:
    return run_node(TeleopNode)


if __name__ == "__main__":
    sys.exit(main())
