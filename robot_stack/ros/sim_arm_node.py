"""A simulated joint-level arm as a node, behind the topics of a ros2_control arm, in real time.

Its controller takes and refuses trajectories as joint_trajectory_controller does (``drivers.trajectory_controller``). A thread
of its own runs controller and physics, as a robot's hardware interface would, and another one draws the pictures.
"""

import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core import se3
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import CommandInterface, CommandSpec, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.sim_joint_arm import ArmState, SimCamera, SimJointArm
from robot_stack.drivers.trajectory_controller import ControllerSettings, RejectedTrajectoryError, TrajectoryController
from robot_stack.paths import config_dir, robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import Complaints, declare_parameters, publish_if_alive, run_node

HOME = (0.0, -1.4, -1.9, -1.4, 1.5707963, 0.0)  # rad: the tool points down in front of the arm
UPDATES = 4  # of controller and physics for each joint state: 500 Hz and 125 Hz
SELDOM = 5  # joint states for each message about what changes slowly
INSTRUCTION = "lift the red cube"


@dataclass(frozen=True)
class SimArmSettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        model: name of a file in config/model.
        seed: start seed; read at ``~/reset``, too.
        sensor_reliability, sensor_depth: quality of service of the observation streams.
    """

    robot: str = "sim_arm"
    model: str = "ur5e_cell"
    seed: int = 0
    sensor_reliability: str = "reliable"
    sensor_depth: int = 20


class SimArmNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("sim_arm")
        settings = declare_parameters(self, SimArmSettings)
        self._spec = RobotSpec.load(robot_file(settings.robot))
        self._arm_command, self._gripper_command = _commands(self._spec)
        model = config_dir() / "model" / f"{settings.model}.xml"
        self._arm = SimJointArm(model, self._arm_command.joints, np.array(HOME))
        self._arm.reset(settings.seed)
        rate = ControllerSettings(update_rate_hz=1.0 / self._arm.step_s)
        self._controller = TrajectoryController(self._arm_command.joints, self._arm.state.positions, rate)
        self._lock = threading.Lock()  # of the arm and its controller
        self._stopping = threading.Event()
        self._complaints = Complaints(self.get_logger())

        sensor = topics.sensor_qos(settings.sensor_reliability, settings.sensor_depth)
        self._joints_out = self.create_publisher(JointState, topics.JOINT_STATES, sensor)
        self._pose_out = self.create_publisher(PoseStamped, self._spec.tools[0].pose_topic, sensor)
        self._in_force_out = self.create_publisher(JointTrajectory, topics.TARGET_IN_FORCE, sensor)
        self._success_out = self.create_publisher(Bool, topics.SUCCESS, topics.COMMANDS)
        self._task_out = self.create_publisher(String, topics.TASK, topics.LATCHED)
        self._images_out = {
            camera.name: (
                self.create_publisher(entry.message, entry.name, sensor),
                self.create_publisher(CameraInfo, topics.camera_info(camera.name), sensor),
            )
            for camera in self._spec.cameras
            for entry in [topics.pictures(camera)]
        }
        self.create_subscription(JointTrajectory, self._arm_command.topic, self._on_trajectory, topics.COMMANDS)
        self.create_subscription(JointTrajectory, self._gripper_command.topic, self._on_gripper, topics.COMMANDS)
        self.create_service(Trigger, "~/reset", self._on_reset)
        tell_connections(self)
        self._task_out.publish(String(data=INSTRUCTION))
        self._threads = [threading.Thread(target=run, name=run.__name__) for run in (self._run_hardware, self._run_cameras)]
        for thread in self._threads:
            thread.start()
        self.get_logger().info(f"{settings.model} ready")

    def close(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    # Commands

    def _on_trajectory(self, message: JointTrajectory) -> None:
        topic = self._arm_command.topic
        with self._complaints.about(topic), self._lock:
            try:
                self._controller.accept(convert.trajectory_goal(message), self._now_ns())
            except RejectedTrajectoryError as error:
                raise RejectedTrajectoryError(f"trajectory on {topic} rejected: {error}") from error

    def _on_gripper(self, message: JointTrajectory) -> None:
        topic, spec = self._gripper_command.topic, self._gripper_command
        with self._complaints.about(topic):
            if not message.points or len(message.points[-1].positions) != 1 or not np.isfinite(message.points[-1].positions[0]):
                raise convert.BadMessageError(topic, "expected one finite position")
            opening = (message.points[-1].positions[0] - spec.closed) / (spec.open - spec.closed)
            with self._lock:
                self._arm.command_gripper(opening)

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        seed = self.get_parameter("seed").value
        with self._lock:
            self._arm.reset(seed)
            self._controller = TrajectoryController(
                self._arm_command.joints, self._arm.state.positions, self._controller.settings
            )
        response.success, response.message = True, f"seed {seed}"
        return response

    # Hardware

    def _run_hardware(self) -> None:
        """Controller and physics in step with the clock; what is missed is made up for, as physics cannot be left out."""
        update_ns = round(self._arm.step_s * convert.SECOND_NS)
        due_ns, count = time.monotonic_ns(), 0
        while not self._stopping.is_set():
            ahead_ns = due_ns - time.monotonic_ns()
            if ahead_ns > 0:
                time.sleep(ahead_ns / convert.SECOND_NS)
            due_ns += UPDATES * update_ns
            begin_ns = self._now_ns()
            with self._lock:
                for update in range(UPDATES):
                    state = self._arm.state
                    now_ns = begin_ns + (update - UPDATES + 1) * update_ns
                    self._arm.command(self._controller.update(now_ns, state.positions, state.velocities))
                    self._arm.step()
                state, desired, success = self._arm.state, self._controller.desired, self._arm.success
            self._tell_state(state)
            count += 1
            if count % SELDOM == 0:
                self._tell_progress(np.append(desired, state.opening), success)

    def _tell_state(self, state: ArmState) -> None:
        stamp_ns = self._now_ns()
        names = [*self._arm_command.joints, *self._gripper_command.actions]
        positions, velocities = np.append(state.positions, state.opening), np.append(state.velocities, 0.0)
        self._publish(self._joints_out, convert.joint_message(names, positions, velocities, stamp_ns))
        turn = se3.rotation_vector(state.tool_quaternion)
        self._publish(self._pose_out, convert.pose_message(state.tool_position, turn, stamp_ns, self._spec.base_frame))

    def _tell_progress(self, in_force: FloatArray, success: bool) -> None:
        names, period_ns = self._spec.motion.action_names, self._spec.period_ns
        self._publish(self._in_force_out, convert.trajectory_message(in_force[None], names, self._now_ns(), period_ns))
        self._publish(self._success_out, Bool(data=success))

    def _run_cameras(self) -> None:
        cameras = [SimCamera(self._arm, camera.name, camera.width, camera.height) for camera in self._spec.cameras]
        period_s = 1.0 / self._spec.cameras[0].rate_hz
        due_s = time.monotonic()
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + period_s, time.monotonic() - period_s)  # pictures that were missed are not drawn later
            for camera, own in zip(cameras, self._spec.cameras, strict=True):
                with self._lock:
                    positions = self._arm.data.qpos.copy()
                stamp_ns = self._now_ns()
                frame = convert.optical_frame(own.name)
                image_out, info_out = self._images_out[own.name]
                self._publish(image_out, convert.picture_message(camera.render(positions), own, stamp_ns))
                self._publish(info_out, convert.camera_info_message(own.width, own.height, camera.focal_px, stamp_ns, frame))
        for camera in cameras:
            camera.close()

    def _publish(self, publisher: Any, message: Any) -> None:
        if not publish_if_alive(self, publisher, message):
            self._stopping.set()

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def _commands(spec: RobotSpec) -> tuple[CommandSpec, CommandSpec]:
    """The arm's and the gripper's topic.

    Raises:
        ProphRLError: the robot is not commanded as this arm is.
    """
    by_interface = {command.interface: command for command in spec.commands}
    wanted = (CommandInterface.JOINT_TRAJECTORY, CommandInterface.GRIPPER_TRAJECTORY)
    if set(by_interface) != set(wanted):
        raise ProphRLError(f"robot {spec.name} is commanded by {', '.join(by_interface)}; this arm takes {', '.join(wanted)}")
    return by_interface[wanted[0]], by_interface[wanted[1]]


def main(_: Any = None) -> int:
    return run_node(SimArmNode)


if __name__ == "__main__":
    sys.exit(main())
