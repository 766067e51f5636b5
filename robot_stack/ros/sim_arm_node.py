"""Simulated joint-level arms as a node, behind the topics of ros2_control arms, in real time.

Their controllers take and refuse trajectories as joint_trajectory_controller does (``drivers.trajectory_controller``). A thread
of its own runs controllers and physics, as a robot's hardware interface would, and another one draws the pictures.
"""

import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
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
from robot_stack.drivers.sim_cell import CellNames, CellState, SimCamera, SimCell
from robot_stack.drivers.trajectory_controller import ControllerSettings, RejectedTrajectoryError, TrajectoryController
from robot_stack.paths import config_dir, robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import Complaints, declare_parameters, run_node

UPDATES = 4  # of controller and physics for each joint state: 500 Hz and 125 Hz
SELDOM = 5  # joint states for each message about what changes slowly
INSTRUCTION = "lift the red cube"


@dataclass(frozen=True)
class SimArmSettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        seed: start seed; read at ``~/reset``, too.
        sensor_reliability, sensor_depth: quality of service of the observation streams.
    """

    robot: str = "sim_arm"
    seed: int = 0
    sensor_reliability: str = "reliable"
    sensor_depth: int = 20


class SimArmNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("sim_arm")
        settings = declare_parameters(self, SimArmSettings)
        self._spec = RobotSpec.load(robot_file(settings.robot))
        self._arms, self._grippers = _commands(self._spec)
        joints = [name for command in self._arms for name in command.joints]
        names = CellNames(joints, [command.actions[0] for command in self._grippers], [tool.frame for tool in self._spec.tools])
        moved = self._spec.motion
        home = dict(zip(moved.action_names, moved.home, strict=True))
        joint_actions = [name for command in self._arms for name in command.actions]
        model = config_dir() / "model" / f"{self._spec.model}.xml"
        self._cell = SimCell(model, names, np.array([home[name] for name in joint_actions]))
        self._openings = np.ones(len(self._grippers))
        self._reset(settings.seed)
        self._lock = threading.Lock()  # of the cell and its controllers
        self._stopping = threading.Event()
        self._complaints = Complaints(self.get_logger())

        sensor = topics.sensor_qos(settings.sensor_reliability, settings.sensor_depth)
        self._joints_out = self.create_publisher(JointState, topics.JOINT_STATES, sensor)
        self._poses_out = [self.create_publisher(PoseStamped, tool.pose_topic, sensor) for tool in self._spec.tools]
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
        for camera in self._spec.cameras:
            place = self._cell.camera_pose(camera.name)
            if place is not None:
                out = self.create_publisher(PoseStamped, topics.camera_pose(camera.name), topics.LATCHED)
                out.publish(convert.camera_pose_message(place, self._now_ns(), self._spec.base_frame))
        for index, command in enumerate(self._arms):
            self.create_subscription(JointTrajectory, command.topic, partial(self._on_trajectory, index), topics.COMMANDS)
        for index, command in enumerate(self._grippers):
            self.create_subscription(JointTrajectory, command.topic, partial(self._on_gripper, index), topics.COMMANDS)
        self.create_service(Trigger, "~/reset", self._on_reset)
        tell_connections(self)
        self._task_out.publish(String(data=INSTRUCTION))
        self._threads = [threading.Thread(target=run, name=run.__name__) for run in (self._run_hardware, self._run_cameras)]
        for thread in self._threads:
            thread.start()
        self.get_logger().info(f"{self._spec.model} ready")

    def close(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    # Commands

    def _on_trajectory(self, index: int, message: JointTrajectory) -> None:
        topic = self._arms[index].topic
        with self._complaints.about(topic), self._lock:
            try:
                self._controllers[index].accept(convert.trajectory_goal(message), self._now_ns())
            except RejectedTrajectoryError as error:
                raise RejectedTrajectoryError(f"trajectory on {topic} rejected: {error}") from error

    def _on_gripper(self, index: int, message: JointTrajectory) -> None:
        spec = self._grippers[index]
        with self._complaints.about(spec.topic):
            if not message.points or len(message.points[-1].positions) != 1 or not np.isfinite(message.points[-1].positions[0]):
                raise convert.BadMessageError(spec.topic, "expected one finite position")
            with self._lock:
                self._openings[index] = (message.points[-1].positions[0] - spec.closed) / (spec.open - spec.closed)
                self._cell.command_grippers(self._openings)

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        seed = self.get_parameter("seed").value
        with self._lock:
            self._reset(seed)
        response.success, response.message = True, f"seed {seed}"
        return response

    def _reset(self, seed: int) -> None:
        """Everything at its beginning; the controllers hold the arms where they are then."""
        self._cell.reset(seed)
        self._openings[:] = 1.0
        rate, positions = ControllerSettings(update_rate_hz=1.0 / self._cell.step_s), self._cell.state.positions
        ends = np.cumsum([len(command.joints) for command in self._arms])
        self._parts = [slice(end - len(command.joints), end) for end, command in zip(ends, self._arms, strict=True)]
        self._controllers = [
            TrajectoryController(command.joints, positions[part], rate)
            for command, part in zip(self._arms, self._parts, strict=True)
        ]

    # Hardware

    def _run_hardware(self) -> None:
        """Controllers and physics in step with the clock; what is missed is made up for, as physics cannot be left out."""
        update_ns = round(self._cell.step_s * convert.SECOND_NS)
        due_ns, count = time.monotonic_ns(), 0
        while not self._stopping.is_set():
            ahead_ns = due_ns - time.monotonic_ns()
            if ahead_ns > 0:
                time.sleep(ahead_ns / convert.SECOND_NS)
            due_ns += UPDATES * update_ns
            begin_ns = self._now_ns()
            with self._lock:
                for update in range(UPDATES):
                    state = self._cell.state
                    now_ns = begin_ns + (update - UPDATES + 1) * update_ns
                    self._cell.command(
                        np.concatenate(
                            [
                                controller.update(now_ns, state.positions[part], state.velocities[part])
                                for controller, part in zip(self._controllers, self._parts, strict=True)
                            ]
                        )
                    )
                    self._cell.step()
                state, success = self._cell.state, self._cell.success
                desired = np.concatenate([controller.desired for controller in self._controllers])
            self._tell_state(state)
            count += 1
            if count % SELDOM == 0:
                self._tell_progress(desired, state.openings, success)

    def _tell_state(self, state: CellState) -> None:
        stamp_ns = self._now_ns()
        names = [name for command in (*self._arms, *self._grippers) for name in command.actions]
        positions = np.concatenate([state.positions, state.openings])
        velocities = np.concatenate([state.velocities, np.zeros(len(state.openings))])
        self._joints_out.publish(convert.joint_message(names, positions, velocities, stamp_ns))
        for out, place, quaternion in zip(self._poses_out, state.tool_positions, state.tool_quaternions, strict=True):
            pose = convert.pose_message(place, se3.rotation_vector(quaternion), stamp_ns, self._spec.base_frame)
            out.publish(pose)

    def _tell_progress(self, desired: FloatArray, openings: FloatArray, success: bool) -> None:
        in_force = np.empty(len(self._spec.motion.actions))
        commands = (*self._arms, *self._grippers)
        in_force[[column for command in commands for column in self._spec.motion.columns(command)]] = [*desired, *openings]
        names, period_ns = self._spec.motion.action_names, self._spec.period_ns
        self._in_force_out.publish(convert.trajectory_message(in_force[None], names, self._now_ns(), period_ns))
        self._success_out.publish(Bool(data=success))

    def _run_cameras(self) -> None:
        cameras = [SimCamera(self._cell, camera.name, camera.width, camera.height) for camera in self._spec.cameras]
        period_s = 1.0 / self._spec.cameras[0].rate_hz
        due_s = time.monotonic()
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + period_s, time.monotonic() - period_s)  # pictures that were missed are not drawn later
            for camera, own in zip(cameras, self._spec.cameras, strict=True):
                with self._lock:
                    positions = self._cell.data.qpos.copy()
                stamp_ns = self._now_ns()
                frame = convert.optical_frame(own.name)
                image_out, info_out = self._images_out[own.name]
                image_out.publish(convert.picture_message(camera.render(positions), own, stamp_ns))
                info_out.publish(convert.camera_info_message(own.width, own.height, camera.focal_px, stamp_ns, frame))
        for camera in cameras:
            camera.close()

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def _commands(spec: RobotSpec) -> tuple[list[CommandSpec], list[CommandSpec]]:
    """Topics of the arms and of the grippers.

    Raises:
        ProphRLError: the robot is not commanded as these arms are, or says too little about itself.
    """
    arms = [command for command in spec.commands if command.interface is CommandInterface.JOINT_TRAJECTORY]
    grippers = [command for command in spec.commands if command.interface is CommandInterface.GRIPPER_TRAJECTORY]
    if len(arms) != len(spec.tools) or len(arms) + len(grippers) != len(spec.commands):
        given = ", ".join(command.interface for command in spec.commands)
        raise ProphRLError(
            f"robot {spec.name} with {len(spec.tools)} tools is commanded by {given}; these arms take one "
            f"{CommandInterface.JOINT_TRAJECTORY} each, and {CommandInterface.GRIPPER_TRAJECTORY} for their grippers"
        )
    if not spec.home or not spec.model:
        raise ProphRLError(f"robot {spec.name}: a simulated arm needs home and model in its robot file")
    return arms, grippers


def main(_: Any = None) -> int:
    return run_node(SimArmNode)


if __name__ == "__main__":
    sys.exit(main())
