"""The joint-level arm behind the executor: chunks become motion, and whatever dies, the arm stops within its limits."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

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
from tests.ros.conftest import Spy, needs_simulator, until

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(300), needs_simulator]
SPEC = RobotSpec.load(robot_file("sim_arm"))
JOINTS = list(SPEC.joint_names)


class Cell:
    """Arm and executor as processes, with this process as their policy."""

    def __init__(self, spy: Spy, children: Processes, logs: Path) -> None:
        self.spy, self.children, self.logs = spy, children, logs
        spy.listen(topics.JOINT_STATES, JointState)
        spy.listen(topics.COMMITTED_ACTIONS, JointTrajectory)
        spy.listen(topics.SENT_ACTION, JointTrajectory)
        spy.listen(SPEC.commands[0].topic, JointTrajectory)
        for camera in SPEC.camera_names:
            spy.listen(topics.image_raw(camera), Image)
        self._chunk_out = spy.publisher(topics.ACTION_CHUNK, JointTrajectory)
        self._heartbeat_out = spy.publisher(topics.HEARTBEAT, Header)
        self.alive = True
        spy.node.create_timer(0.04, self._beat)
        until(lambda: all(spy.heard[topics.image_raw(camera)] for camera in SPEC.camera_names), "pictures")
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
        return np.array(message.position[: len(JOINTS)])

    @property
    def speed(self) -> float:
        message = self.spy.heard[topics.JOINT_STATES][-1][1]
        return float(np.abs(message.velocity[: len(JOINTS)]).max())

    def send_chunk(self, deltas: np.ndarray) -> np.ndarray:
        """A chunk from the target in force; returns its last target."""
        targets = self.committed[0] + np.cumsum(deltas, axis=0)
        chunk = ActionChunk(self.now_ns(), SPEC.period_ns, targets)
        self._chunk_out.publish(convert.chunk_message(chunk, SPEC))
        return np.asarray(targets[-1])

    def set_in_motion(self, joint: int = 0, step: float = 0.04, length: int = 40) -> None:
        """Send chunks until the arm has got one while nothing was too old, which on a loaded machine may take more than one."""
        for _ in range(10):
            self.send_chunk(motion(joint, step, length))
            until_s = time.monotonic() + 2.0
            while time.monotonic() < until_s:
                if self.speed > 0.6:
                    return
                time.sleep(0.01)
        raise AssertionError("the arm does not move")

    def commanded(self) -> tuple[np.ndarray, np.ndarray]:
        """Times [T] and positions [T, J] of all points that were sent to the controller before each trajectory's brake."""
        points: dict[int, list[float]] = {}
        for _, message in self.spy.heard[SPEC.commands[0].topic]:
            begin_ns = convert.to_ns(message.header.stamp)
            for point in message.points[:-1]:
                points[begin_ns + convert.to_ns(point.time_from_start)] = list(point.positions)
        times = sorted(points)
        return np.array(times), np.array([points[time_ns] for time_ns in times])


@pytest.fixture
def cell(domain: int, tmp_path: Path) -> Iterator[Cell]:
    arm, executor, *_ = processes(Setup(robot="sim_arm", source="keyboard"))
    executor.parameters["source"] = "policy"
    with Processes([arm, executor], domain, tmp_path) as children:
        spy = Spy()
        yield Cell(spy, children, tmp_path)
        spy.close()


def motion(joint: int, step: float, length: int) -> np.ndarray:
    deltas = np.zeros((length, len(SPEC.actions)))
    deltas[:, joint] = step
    return deltas


def test_chunks_become_motion_within_the_limits_and_the_end_is_reached(cell: Cell) -> None:
    deltas = motion(0, 0.03, 20) + motion(3, -0.02, 20)
    deltas[:, -1] = np.concatenate([[-1.0], np.zeros(19)])  # closes the gripper
    for _ in range(5):  # on a loaded machine an observation may be too old, and the rest of a chunk is dropped
        end = cell.send_chunk(deltas)
        time.sleep(0.5)
        until(lambda: len(cell.committed) == 1 and cell.speed < 1e-2, "rest, and the executor asking for more")
        if np.abs(cell.joints - end[:-1]).max() < 2e-3:
            break
    np.testing.assert_allclose(cell.joints, end[:-1], atol=2e-3)
    times, positions = cell.commanded()
    steady = np.diff(times) == SPEC.command_period_ns
    velocity = np.diff(positions, axis=0)[steady] * SPEC.command_rate_hz
    assert np.abs(velocity).max() <= 1.05 + 1e-6
    pairs = steady[1:] & steady[:-1]
    acceleration = np.diff(positions, n=2, axis=0)[pairs] * SPEC.command_rate_hz**2
    assert len(acceleration) > 50 and np.abs(acceleration).max() <= 3.1 + 1e-3
    refused = [line for line in (cell.logs / "sim_arm.log").read_text().splitlines() if "rejected" in line]
    assert all("it ended" in line for line in refused)  # on a loaded machine messages may come too late, but none is malformed


def test_a_killed_executor_leaves_the_arm_braking_to_where_its_last_message_says(cell: Cell) -> None:
    cell.set_in_motion()
    cell.children.kill("executor")
    until(lambda: cell.speed < 1e-3, "rest")
    promised = cell.spy.heard[SPEC.commands[0].topic][-1][1].points[-1]
    np.testing.assert_allclose(cell.joints, promised.positions, atol=2e-3)


def test_a_silent_policy_brakes_the_arm_long_before_its_chunk_is_done(cell: Cell) -> None:
    cell.set_in_motion()
    cell.alive = False
    end = cell.committed[-1][0]
    until(lambda: cell.speed < 1e-3, "rest")
    assert cell.joints[0] < end - 0.3
    assert "source of actions is silent" in (cell.logs / "executor.log").read_text()


def test_ctrl_c_brakes_before_the_executor_ends(cell: Cell) -> None:
    cell.set_in_motion()
    os.kill(cell.children.pids["executor"], signal.SIGINT)
    until(lambda: cell.speed < 1e-3, "rest")
    last = cell.spy.heard[SPEC.commands[0].topic][-1][1].points
    np.testing.assert_array_equal(last[-2].velocities, np.zeros(6))  # the last command is to stand still, not just to brake
    np.testing.assert_allclose(cell.joints, last[-1].positions, atol=2e-3)
