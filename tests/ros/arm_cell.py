"""A simulated joint-level arm and its executor as processes, for tests that act as their policy."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_stack.bringup import Setup, processes
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import ActionChunk
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.processes import Processes
from tests.ros.conftest import Spy, until


class Cell:
    """Arm and executor as processes, with this process as their policy.

    Args:
        robot: name of the robot file.
        spy: a node of this process.
        children: the processes.
        logs: folder of their output.
    """

    def __init__(self, robot: str, spy: Spy, children: Processes, logs: Path) -> None:
        self.spec = RobotSpec.load(robot_file(robot))
        self.spy, self.children, self.logs = spy, children, logs
        spy.listen(topics.JOINT_STATES, JointState)
        spy.listen(topics.COMMITTED_ACTIONS, JointTrajectory)
        spy.listen(topics.SENT_ACTION, JointTrajectory)
        spy.listen(self.spec.commands[0].topic, JointTrajectory)
        for camera in self.spec.camera_names:
            spy.listen(topics.image_raw(camera), Image)
        self._count = len(self.spec.joint_names)
        self.chunk_out = spy.publisher(topics.ACTION_CHUNK, JointTrajectory)
        self._heartbeat_out = spy.publisher(topics.HEARTBEAT, Header)
        self.alive = True
        spy.node.create_timer(0.04, self._beat)
        until(lambda: all(spy.heard[topics.image_raw(camera)] for camera in self.spec.camera_names), "pictures")
        assert spy.call("executor/activate", Trigger).success
        until(lambda: spy.heard[topics.COMMITTED_ACTIONS], "the executor's target in force")

    def _beat(self) -> None:
        if self.alive:
            self._heartbeat_out.publish(convert.header(self.now_ns()))

    def now_ns(self) -> int:
        return int(self.spy.node.get_clock().now().nanoseconds)

    @property
    def committed(self) -> np.ndarray:
        points = self.spy.heard[topics.COMMITTED_ACTIONS][-1][1].points
        return np.array([point.positions for point in points])

    @property
    def joints(self) -> np.ndarray:
        message = self.spy.heard[topics.JOINT_STATES][-1][1]
        return np.array(message.position[: self._count])

    @property
    def speed(self) -> float:
        message = self.spy.heard[topics.JOINT_STATES][-1][1]
        return float(np.abs(message.velocity[: self._count]).max())

    def send_chunk(self, deltas: np.ndarray) -> np.ndarray:
        """A chunk from the target in force; returns its last target."""
        targets = self.committed[0] + np.cumsum(deltas, axis=0)
        chunk = ActionChunk(self.now_ns(), self.spec.period_ns, targets)
        self.chunk_out.publish(convert.chunk_message(chunk, self.spec))
        return np.asarray(targets[-1])

    def set_in_motion(self, joint: int = 0, step: float = 0.04, length: int = 40) -> None:
        """Let one joint move."""
        self.send_until_moving(self.motion(joint, step, length), speed=0.6)

    def send_until_moving(self, deltas: np.ndarray, speed: float = 0.1) -> np.ndarray:
        """Send a chunk until the arm has got it while nothing was too old, which on a loaded machine may take more than once.

        Returns its last target.
        """
        for _ in range(10):
            end = self.send_chunk(deltas)
            until_s = time.monotonic() + 2.0
            while time.monotonic() < until_s:
                if self.speed > speed:
                    return end
                time.sleep(0.01)
        raise AssertionError("the arm does not move")

    def told_since(self, stamp_ns: int) -> list[JointTrajectory]:
        """What the executor has committed itself to at ticks after ``stamp_ns``."""
        return [m for _, m in self.spy.heard[topics.COMMITTED_ACTIONS] if convert.to_ns(m.header.stamp) > stamp_ns]

    def commanded(self) -> tuple[np.ndarray, np.ndarray]:
        """Times [T] and positions [T, J] of all points that were sent to the controller before each trajectory's brake."""
        points: dict[int, list[float]] = {}
        for _, message in self.spy.heard[self.spec.commands[0].topic]:
            begin_ns = convert.to_ns(message.header.stamp)
            for point in message.points[:-1]:
                points[begin_ns + convert.to_ns(point.time_from_start)] = list(point.positions)
        times = sorted(points)
        return np.array(times), np.array([points[time_ns] for time_ns in times])

    def motion(self, number: int, step: float, length: int) -> np.ndarray:
        """Deltas [length, A] of one number of the actions."""
        deltas = np.zeros((length, len(self.spec.actions)))
        deltas[:, number] = step
        return deltas


@contextlib.contextmanager
def running_cell(robot: str, domain: int, folder: Path, **parameters: object) -> Iterator[Cell]:
    """Bring up a simulated arm and its executor, which follows a policy; ``parameters`` of the executor."""
    arm, executor, *_ = processes(Setup(robot=robot, source="nobody"))
    executor = replace(executor, parameters={**executor.parameters, **parameters})
    with Processes([arm, executor], domain, folder) as children:
        spy = Spy()
        yield Cell(robot, spy, children, folder)
        spy.close()
