"""``core.ports.Robot`` over ROS: each command goes to the topics that the robot file names."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.duration import Duration
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.ports import Motion
from robot_stack.core.robot_spec import CommandInterface, CommandSpec, RobotSpec
from robot_stack.core.trajectory_stream import TimedPoints, TrajectoryStream
from robot_stack.core.types import Command, FloatArray
from robot_stack.ros import convert, topics

FLUSH_S = 0.5  # longest wait for the receipt of the last command


class Output(Protocol):
    """One topic on which a robot is commanded."""

    publisher: Any

    def start(self, reference: FloatArray) -> None:
        """Begin at rest at ``reference`` [A]."""
        ...

    def send(self, command: Command) -> None:
        """Publish what of ``command`` goes to this topic."""
        ...


class PoseOutput:
    """Target poses of the tool; an arm of this kind interpolates itself and has no use for the rest of a command."""

    def __init__(self, node: Any, spec: RobotSpec, command: CommandSpec) -> None:
        self.publisher = node.create_publisher(PoseStamped, command.topic, topics.COMMANDS)
        self._frame, self._columns = spec.base_frame, spec.columns(command)

    def start(self, reference: FloatArray) -> None:
        """Nothing to begin."""

    def send(self, command: Command) -> None:
        values = command.target[self._columns]
        turn = values[3:] if len(values) > 3 else None
        self.publisher.publish(convert.pose_message(values[:3], turn, command.stamp_ns, self._frame))


class TrajectoryOutput:
    """Trajectories of joints that end in a brake, see ``core.trajectory_stream``."""

    def __init__(self, node: Any, spec: RobotSpec, command: CommandSpec) -> None:
        self.publisher = node.create_publisher(JointTrajectory, command.topic, topics.COMMANDS)
        self._joints, self._columns = command.joints, spec.columns(command)
        self._stream = TrajectoryStream(spec.command_lead, spec.trajectories_reach_back)

    def start(self, reference: FloatArray) -> None:
        self._stream.start(reference)

    def send(self, command: Command) -> None:
        points = self._stream.extend(command, command.stamp_ns)
        own = TimedPoints(points.times_ns, points.positions[:, self._columns], points.velocities[:, self._columns])
        self.publisher.publish(convert.timed_message(own, self._joints))


class GripperOutput:
    """Opening of a gripper, once for each action, as a trajectory of one point or as a position."""

    def __init__(self, node: Any, spec: RobotSpec, command: CommandSpec) -> None:
        self._as_trajectory = command.interface is CommandInterface.GRIPPER_TRAJECTORY
        kind = JointTrajectory if self._as_trajectory else Float64MultiArray
        self.publisher = node.create_publisher(kind, command.topic, topics.COMMANDS)
        self._command, self._columns = command, spec.columns(command)
        self._period_ns, self._every = spec.period_ns, spec.commands_per_action
        self._count = 0

    def start(self, reference: FloatArray) -> None:
        self._count = 0

    def send(self, command: Command) -> None:
        self._count += 1
        if (self._count - 1) % self._every:
            return
        spec = self._command
        values = spec.closed + command.target[self._columns] * (spec.open - spec.closed)
        if self._as_trajectory:
            after_ns = self._period_ns
            message = convert.trajectory_message(values[None], spec.joints, command.stamp_ns, after_ns, first_ns=after_ns)
        else:
            message = Float64MultiArray(data=values.tolist())
        self.publisher.publish(message)


OUTPUTS: Mapping[CommandInterface, Callable[[Any, RobotSpec, CommandSpec], Output]] = {
    CommandInterface.TARGET_POSE: PoseOutput,
    CommandInterface.JOINT_TRAJECTORY: TrajectoryOutput,
    CommandInterface.GRIPPER_TRAJECTORY: GripperOutput,
    CommandInterface.GRIPPER_POSITION: GripperOutput,
}


class CommandedArm:
    """Publishes commands, and what was sent, for the log.

    Args:
        node: the node that owns the publishers.
        spec: the robot file.
        motion: what its commands amount to as actions.
    """

    def __init__(self, node: Any, spec: RobotSpec, motion: Motion) -> None:
        self._spec, self._motion = spec, motion
        self._sent_out = node.create_publisher(JointTrajectory, topics.SENT_ACTION, topics.COMMANDS)
        # Arms come after grippers: a simulated arm in lock-step moves when it has heard both.
        commands = sorted(spec.commands, key=lambda command: not command.interface.is_gripper)
        self.brakes_itself = any(command.interface is CommandInterface.JOINT_TRAJECTORY for command in commands)
        self._outputs: list[Output] = [OUTPUTS[command.interface](node, spec.motion, command) for command in commands]

    def start(self, reference: FloatArray) -> None:
        """Begin at rest at ``reference`` [A]."""
        for output in self._outputs:
            output.start(np.asarray(reference))

    def send(self, command: Command) -> None:
        """Publish a command on every topic of the robot."""
        period_ns = command.period_ns
        names = self._spec.action_names
        sent = self._motion.to_actions(command.target[None])
        self._sent_out.publish(convert.trajectory_message(sent, names, command.stamp_ns, period_ns, first_ns=period_ns))
        for output in self._outputs:
            output.send(command)

    def flush(self) -> None:
        """Wait until the last command has arrived."""
        for output in self._outputs:
            output.publisher.wait_for_all_acked(Duration(seconds=FLUSH_S))
