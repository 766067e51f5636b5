"""Where the tools are, where no driver tells: ``ee_pose`` from ``joint_states``, by the model of the robot file."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.arm_model import tool_kinematics
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import Complaints, declare_parameters, run_node

EARLY = 0.9  # part of a period after which the next pose is due: joint states jitter


@dataclass(frozen=True)
class KinematicsSettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        max_rate_hz: of the poses; joint states of some drivers come 1000 times a second, which nobody needs.
        sensor_reliability, sensor_depth: quality of service of the observation streams.
    """

    robot: str = ""
    max_rate_hz: float = 125.0
    sensor_reliability: str = "reliable"
    sensor_depth: int = 5


class KinematicsNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("kinematics")
        settings = declare_parameters(self, KinematicsSettings)
        self._spec = RobotSpec.load(robot_file(settings.robot))
        self._tools = tool_kinematics(self._spec)
        self._shortest_ns = round(EARLY * 1e9 / settings.max_rate_hz)
        self._last_ns = 0
        self._complaints = Complaints(self.get_logger())
        sensor = topics.sensor_qos(settings.sensor_reliability, settings.sensor_depth)
        self._poses_out = [self.create_publisher(PoseStamped, tool.pose_topic, sensor) for tool in self._spec.tools]
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, sensor)
        tell_connections(self)

    def close(self) -> None:
        """Nothing to let go."""

    def _on_joints(self, message: JointState) -> None:
        stamp_ns = convert.to_ns(message.header.stamp)
        if abs(stamp_ns - self._last_ns) < self._shortest_ns or set(self._spec.joint_names).isdisjoint(message.name):
            return  # a gripper's driver may speak there, too
        with self._complaints.about(topics.JOINT_STATES):
            values = convert.joint_values(message, topics.JOINT_STATES)
            if missing := [name for name in self._spec.joint_names if name not in values]:
                raise convert.BadMessageError(
                    topics.JOINT_STATES, f"without {', '.join(missing)}: the arm's joints come together"
                )
            poses = self._tools.poses(np.array([values[name] for name in self._spec.joint_names]))
            self._last_ns = stamp_ns
            for out, (position, turn) in zip(self._poses_out, poses, strict=True):
                out.publish(convert.pose_message(position, turn, stamp_ns, self._spec.base_frame))


def main(_: Any = None) -> int:
    return run_node(KinematicsNode)


if __name__ == "__main__":
    sys.exit(main())
