"""Any ``Robot`` class of LeRobot as a robot of ours, in a process of its own: LeRobot brings torch (the ``train`` extra).

It speaks the topics of a ros2_control arm: trajectories and gripper commands in, joint states, tool pose, pictures and the
target in force out. A thread of its own reads and commands the device at the command rate. Where the device does not answer, no
stream goes on, so the executor holds; where it fails a few times in a row, the node ends and says why. It never connects anew:
the arm may have sunk in between, and the executor's next point would make it jump.
"""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import CommandInterface, CommandSpec, RobotSpec
from robot_stack.drivers.arm_model import tool_kinematics
from robot_stack.drivers.device_file import DeviceFile
from robot_stack.drivers.driven_arm import ArmCycle, ArmError, ArmLoop
from robot_stack.drivers.lerobot_robot import LeRobotArm
from robot_stack.drivers.mujoco_kinematics import MujocoKinematics
from robot_stack.drivers.trajectory_controller import RejectedTrajectoryError
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import Complaints, declare_parameters, run_node

LOOK_S = 0.05  # how often the node looks whether its thread still runs
END_S = 2.0  # longest wait for a device that hangs, at the end


@dataclass(frozen=True)
class LeRobotRobotSettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        device: name of a file in config/lerobot, a path to one, or its YAML, see ``drivers.device_file``.
        retries: failed readings or commands in a row that are borne.
        sensor_reliability, sensor_depth: quality of service of the observation streams.
    """

    robot: str = "so101"
    device: str = "so101"
    retries: int = 3
    sensor_reliability: str = "reliable"
    sensor_depth: int = 20


class LeRobotRobotNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("lerobot_robot")
        settings = declare_parameters(self, LeRobotRobotSettings)
        self._spec = spec = RobotSpec.load(robot_file(settings.robot)).motion
        self._names = _state_names(spec)
        self._tools = self._kinematics()
        self._arm = LeRobotArm(DeviceFile.read(settings.device), spec)
        self._loop = ArmLoop(self._arm, spec, settings.retries)
        self._complaints = Complaints(self.get_logger())
        self._failure: ProphRLError | None = None
        self._stopping = threading.Event()

        sensor = topics.sensor_qos(settings.sensor_reliability, settings.sensor_depth)
        self._joints_out = self.create_publisher(JointState, topics.JOINT_STATES, sensor)
        tools = spec.tools if self._tools else ()
        self._poses_out = [self.create_publisher(PoseStamped, tool.pose_topic, sensor) for tool in tools]
        self._in_force_out = self.create_publisher(JointTrajectory, topics.TARGET_IN_FORCE, sensor)
        entries = {camera.name: topics.pictures(camera) for camera in spec.cameras if camera.name in self._arm.cameras}
        self._pictures_out = {name: self.create_publisher(entry.message, entry.name, sensor) for name, entry in entries.items()}
        for command in spec.commands:
            message, receive = self._receiver(command)
            self.create_subscription(message, command.topic, receive, topics.COMMANDS)
        tell_connections(self)
        self._arm.connect()
        self._thread = threading.Thread(target=self._run, name="device")
        self._thread.start()
        self.create_timer(LOOK_S, self._look)
        self.get_logger().info(f"{settings.device} connected")

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(END_S)
        if self._thread.is_alive():
            self.get_logger().error("the device hangs; it was not disconnected")
            return
        with self._complaints.about("device"):
            self._arm.close()

    def _kinematics(self) -> MujocoKinematics | None:
        spec = self._spec
        if not spec.model:
            self.get_logger().warning(f"robot {spec.name} names no model, so another node has to publish where its tool is")
            return None
        return tool_kinematics(spec)

    # Commands

    def _receiver(self, command: CommandSpec) -> tuple[Any, Callable[[Any], None]]:
        """Message type of a topic, and what takes its messages."""
        message = topics.COMMAND_MESSAGES[command.interface]
        if not command.interface.is_gripper:
            return message, lambda received: self._on_trajectory(command, received)
        return message, lambda received: self._on_gripper(command, received)

    def _on_trajectory(self, command: CommandSpec, message: JointTrajectory) -> None:
        with self._complaints.about(command.topic):
            try:
                self._loop.accept(command, convert.trajectory_goal(message), self._now_ns())
            except RejectedTrajectoryError as error:
                raise RejectedTrajectoryError(f"trajectory on {command.topic} rejected: {error}") from error

    def _on_gripper(self, command: CommandSpec, message: JointTrajectory | Float64MultiArray) -> None:
        with self._complaints.about(command.topic):
            if command.interface is CommandInterface.GRIPPER_POSITION:
                values = list(message.data)
            else:
                values = list(message.points[-1].positions) if message.points else []
            if len(values) != len(command.actions) or not np.isfinite(values).all():
                raise convert.BadMessageError(command.topic, f"expected {len(command.actions)} finite positions, got {values}")
            self._loop.command_gripper(command, (np.array(values) - command.closed) / (command.open - command.closed))

    # Device

    def _run(self) -> None:
        """Turn after turn in step with the clock; turns that are missed are left out."""
        period_s = 1.0 / self._spec.command_rate_hz
        due_s = time.monotonic()
        try:
            while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
                due_s = max(due_s + period_s, time.monotonic())
                stamp_ns = self._now_ns()
                cycle = self._loop.turn(stamp_ns)
                if cycle is not None:
                    self._tell(cycle, stamp_ns)
        except ProphRLError as error:  # raised again by the thread that can end the node
            self._failure = error

    def _tell(self, cycle: ArmCycle, stamp_ns: int) -> None:
        """``stamp_ns``: when the reading began."""
        spec, positions = self._spec, cycle.reading.positions
        self._joints_out.publish(convert.joint_message(self._names, positions, np.zeros(0), stamp_ns))
        if self._tools is not None:
            known = dict(zip(self._names, positions, strict=True))
            poses = self._tools.poses(np.array([known[name] for name in spec.joint_names]))
            for out, (place, turn) in zip(self._poses_out, poses, strict=True):
                out.publish(convert.pose_message(place, turn, stamp_ns, spec.base_frame))
        in_force = convert.trajectory_message(cycle.in_force[None], spec.action_names, stamp_ns, spec.period_ns)
        self._in_force_out.publish(in_force)
        for name, picture in cycle.reading.pictures.items():
            self._pictures_out[name].publish(convert.picture_message(picture, spec.camera(name), stamp_ns))
        if cycle.altered:
            self._complaints.bad("device", "the device sends something else than it is asked to (limits of its own)")
        else:
            self._complaints.good("device")

    def _look(self) -> None:
        """Raises: ProphRLError: the device has failed, so this node ends."""
        if not self._thread.is_alive() and not self._stopping.is_set():
            raise self._failure or ArmError("the thread of the device has ended; its traceback stands above")

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def _state_names(spec: RobotSpec) -> list[str]:
    """Names of the actions [A] in ``joint_states``: of joints those of their topic, of grippers the actions' own.

    Raises:
        ProphRLError: an observation needs a number that they do not hold.
    """
    names = list(spec.action_names)
    for command in spec.commands:
        if not command.interface.is_gripper:
            for action, joint in zip(command.actions, command.joints, strict=True):
                names[names.index(action)] = joint
    missing = [name for name in spec.state_names if name not in (*names, "x", "y", "z", "rx", "ry", "rz")]
    if missing:
        raise ProphRLError(f"robot {spec.name} wants {', '.join(missing)} as state, but its joints are {', '.join(names)}")
    return names


def main(_: Any = None) -> int:
    return run_node(LeRobotRobotNode)


if __name__ == "__main__":
    sys.exit(main())
