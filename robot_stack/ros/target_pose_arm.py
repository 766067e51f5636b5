"""``core.ports.Robot`` for arms that follow a tool pose and a gripper opening."""

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.duration import Duration
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.ros import convert, topics

FLUSH_S = 0.5  # longest wait for the receipt of the last command


class TargetPoseArm:
    """Publishes commands, and what was sent, for the log.

    Args:
        node: the node that owns the publishers.
        spec: the robot file.
        in_force: tells the target in force [A], None before the first.
    """

    def __init__(self, node: Any, spec: RobotSpec, in_force: Callable[[], FloatArray | None]) -> None:
        self._spec = spec
        self._in_force = in_force
        self._pose_out = node.create_publisher(PoseStamped, topics.TARGET_POSE, topics.COMMANDS)
        self._gripper_out = node.create_publisher(JointTrajectory, topics.GRIPPER, topics.COMMANDS)
        self._sent_out = node.create_publisher(JointTrajectory, topics.SENT_ACTION, topics.COMMANDS)

    def send(self, target: FloatArray, stamp_ns: int) -> None:
        """Command ``target`` for the tick that begins at ``stamp_ns``."""
        spec = self._spec
        pose, gripper = convert.command_messages(target, spec, stamp_ns)
        sent = convert.trajectory_message(target[None], spec.action_names, stamp_ns, spec.period_ns, first_ns=spec.period_ns)
        self._sent_out.publish(sent)
        self._gripper_out.publish(gripper)
        self._pose_out.publish(pose)

    def halt(self, stamp_ns: int) -> None:
        """Hold the target in force: a position-controlled arm stops there."""
        target = self._in_force()
        if target is not None:
            self.send(target, stamp_ns)

    def flush(self) -> None:
        """Wait until the last command has arrived."""
        self._pose_out.wait_for_all_acked(Duration(seconds=FLUSH_S))
