"""The embedded robot as a node: a simulated arm and its camera on the wire contract.

Lock-step: at tick k it publishes ``/clock`` and every stream with stamp t_k, waits for the command with that stamp, steps, and
goes on to t_{k+1}. An episode ends after ``horizon`` ticks (or at the first success): then only ``evaluation/success`` is
published, and nothing moves until ``~/reset``. So ``evaluation/success`` comes once a tick and once more at the end.
Real time: a wall timer steps towards the last command.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import Bool, Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.sim_metaworld import MetaWorldArm
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import Complaints, declare_parameters, run_node

FIRST_STAMP_NS = 1_000_000_000  # zero means "no time yet" in ROS


@dataclass(frozen=True)
class SimRobotSettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        task: Meta-World task; read at ``~/reset``, too.
        seed: start seed; read at ``~/reset``, too.
        lock_step: wait for a command at every tick and lead ``/clock``; else a wall timer ticks.
        horizon: ticks of an episode in lock-step; 0: no end.
        stop_at_success: in lock-step, end the episode at its first success.
        sensor_reliability, sensor_depth: quality of service of the observation streams.
    """

    robot: str = "sim_metaworld"
    task: str = "button-press-topdown-v3"
    seed: int = 0
    lock_step: bool = True
    horizon: int = 30
    stop_at_success: bool = False
    sensor_reliability: str = "reliable"
    sensor_depth: int = 100


class SimRobotNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("sim_robot")
        settings = declare_parameters(self, SimRobotSettings)
        self._lock_step = settings.lock_step
        self._spec = RobotSpec.load(robot_file(settings.robot))
        self._arm = MetaWorldArm(self._spec, settings.task)
        self._arm.reset(settings.seed)
        self._now_ns = FIRST_STAMP_NS
        self._tick = 0
        self._waits = False  # for the command of the tick at _now_ns
        self._target: FloatArray = self._arm.commanded
        self._pose: PoseStamped | None = None
        self._gripper: JointTrajectory | None = None
        self._complaints = Complaints(self.get_logger())

        sensor = topics.sensor_qos(settings.sensor_reliability, settings.sensor_depth)
        camera = self._spec.cameras[0]
        pictures = topics.pictures(camera)
        self._clock_out = self.create_publisher(Clock, topics.CLOCK, topics.COMMANDS) if self._lock_step else None
        self._image_out = self.create_publisher(pictures.message, pictures.name, sensor)
        self._info_out = self.create_publisher(CameraInfo, topics.camera_info(camera.name), sensor)
        self._joints_out = self.create_publisher(JointState, topics.JOINT_STATES, sensor)
        self._pose_out = self.create_publisher(PoseStamped, self._spec.tools[0].pose_topic, sensor)
        self._in_force_out = self.create_publisher(JointTrajectory, topics.TARGET_IN_FORCE, sensor)
        self._task_out = self.create_publisher(String, topics.TASK, topics.LATCHED)
        self._success_out = self.create_publisher(Bool, topics.SUCCESS, topics.COMMANDS)
        self._privileged_out = self.create_publisher(Float64MultiArray, topics.PRIVILEGED_STATE, topics.COMMANDS)
        arm, gripper = self._spec.commands
        self._pose_topic, self._gripper_topic = arm.topic, gripper.topic
        self.create_subscription(PoseStamped, arm.topic, self._on_pose, topics.COMMANDS)
        self.create_subscription(JointTrajectory, gripper.topic, self._on_gripper, topics.COMMANDS)
        self.create_service(Trigger, "~/reset", self._on_reset)
        tell_connections(self)
        self._task_out.publish(String(data=self._arm.instruction))
        camera_pose_out = self.create_publisher(PoseStamped, topics.camera_pose(camera.name), topics.LATCHED)
        place = self._arm.camera_model().T_base_camera
        camera_pose_out.publish(convert.camera_pose_message(place, FIRST_STAMP_NS, self._spec.base_frame))
        if not self._lock_step:
            self.create_timer(self._spec.period_ns / convert.SECOND_NS, self._on_timer)
        self.get_logger().info(f"{settings.task} ready, {'lock-step' if self._lock_step else 'real time'}")

    def close(self) -> None:
        """The arm frees its GL context itself, at exit."""

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        task, seed = self.get_parameter("task").value, self.get_parameter("seed").value
        try:
            if task != self._arm.task:
                self._arm = MetaWorldArm(self._spec, task)
        except ProphRLError as error:
            response.success, response.message = False, str(error)
            return response
        self._arm.reset(seed)
        self._tick = 0
        self._target = self._arm.commanded
        self._pose = self._gripper = None
        self._task_out.publish(String(data=self._arm.instruction))
        if self._lock_step:
            self._now_ns += self._spec.period_ns
            self._publish_tick()
        response.success, response.message = True, f"{task}, seed {seed}"
        return response

    def _on_pose(self, message: PoseStamped) -> None:
        self._pose = message
        self._on_command()

    def _on_gripper(self, message: JointTrajectory) -> None:
        if not message.points or not message.points[0].positions:
            self._complaints.bad(self._gripper_topic, f"message on {self._gripper_topic}: no position")
            return
        self._gripper = message
        self._on_command()

    def _on_command(self) -> None:
        """Pose and gripper come apart; the command is whole when both bear the same stamp."""
        pose, gripper = self._pose, self._gripper
        if pose is None or gripper is None or pose.header.stamp != gripper.header.stamp:
            return
        with self._complaints.about(self._pose_topic):
            self._target = convert.command_target(pose, gripper, self._spec)
            if self._lock_step and self._waits and convert.to_ns(pose.header.stamp) == self._now_ns:
                self._advance()

    def _advance(self) -> None:
        self._waits = False
        self._arm.step(self._target)
        self._tick += 1
        horizon = self.get_parameter("horizon").value
        stops = self.get_parameter("stop_at_success").value and self._arm.success
        if stops or 0 < horizon <= self._tick:
            self._success_out.publish(Bool(data=self._arm.success))
            return
        self._now_ns += self._spec.period_ns
        self._publish_tick()

    def _publish_tick(self) -> None:
        assert self._clock_out is not None
        self._clock_out.publish(Clock(clock=convert.to_stamp(self._now_ns)))  # first: the log dates stampless messages by it
        self._waits = True
        self._publish(self._now_ns)

    def _on_timer(self) -> None:
        self._arm.step(self._target)
        self._publish(self.get_clock().now().nanoseconds)

    def _publish(self, stamp_ns: int) -> None:
        arm, spec = self._arm, self._spec
        camera = spec.cameras[0]
        frame = convert.optical_frame(camera.name)
        names, (positions, velocities) = self._joints()
        self._success_out.publish(Bool(data=arm.success))
        self._privileged_out.publish(convert.stamped_numbers(arm.privileged_state, stamp_ns))
        self._in_force_out.publish(convert.trajectory_message(arm.commanded[None], spec.action_names, stamp_ns, spec.period_ns))
        self._joints_out.publish(convert.joint_message(names, positions, velocities, stamp_ns))
        self._pose_out.publish(convert.pose_message(arm.state[:3], None, stamp_ns, spec.base_frame))
        self._info_out.publish(convert.camera_info_message(camera.width, camera.height, arm.focal_px, stamp_ns, frame))
        self._image_out.publish(convert.picture_message(arm.render(), camera, stamp_ns))

    def _joints(self) -> tuple[list[str], tuple[FloatArray, FloatArray]]:
        """Arm joints and the gripper's opening, which has no speed sensor."""
        arm = self._arm
        positions = np.append(arm.joint_positions, arm.state[3])
        return [*self._spec.joint_names, "gripper"], (positions, np.append(arm.joint_velocities, 0.0))


def main(_: Any = None) -> int:
    return run_node(SimRobotNode)


if __name__ == "__main__":
    sys.exit(main())
