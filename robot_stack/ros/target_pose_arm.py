"""``core.ports.Robot`` for arms that follow a tool pose and a gripper opening."""

from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.duration import Duration
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import Command
from robot_stack.ros import convert, topics

FLUSH_S = 0.5  # longest wait for the receipt of the last command


class TargetPoseArm:
    """Publishes commands, and what was sent, for the log.

    Args:
        node: the node that owns the publishers.
        spec: the robot file.
    """

    def __init__(self, node: Any, spec: RobotSpec) -> None:
        self._spec = spec
        self._pose_out = node.create_publisher(PoseStamped, topics.TARGET_POSE, topics.COMMANDS)
        self._gripper_out = node.create_publisher(JointTrajectory, topics.GRIPPER, topics.COMMANDS)
        self._sent_out = node.create_publisher(JointTrajectory, topics.SENT_ACTION, topics.COMMANDS)

    def send(self, command: Command) -> None:
        """Publish the target; an arm of this kind has no use for the rest."""
        names, period_ns = self._spec.action_names, command.period_ns
        pose, gripper = convert.command_messages(command.target, self._spec, command.stamp_ns)
        self._sent_out.publish(
            convert.trajectory_message(command.target[None], names, command.stamp_ns, period_ns, first_ns=period_ns)
        )
        self._gripper_out.publish(gripper)
        self._pose_out.publish(pose)

    def flush(self) -> None:
        """Wait until the last command has arrived."""
        self._pose_out.wait_for_all_acked(Duration(seconds=FLUSH_S))
