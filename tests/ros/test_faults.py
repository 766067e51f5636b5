"""The executor when something goes wrong, in real time: whatever happens, the arm holds."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_stack.bringup import Setup, processes
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import ActionChunk
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.episode_runner import EpisodeRunner, running_robot
from robot_stack.ros.processes import Processes
from tests.ros.conftest import Spy, needs_simulator, until

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(300)]
SPEC = RobotSpec.load(robot_file("sim_metaworld"))
TARGET_POSE = SPEC.commands[0].topic
LOADED_S = 0.3  # by how much other programs may delay ours


@pytest.fixture
def wandering(tmp_path: Path) -> Iterator[tuple[EpisodeRunner, Spy]]:
    """A robot in real time that moves about at random, and a node beside it."""
    with running_robot(Setup(source="behaviour", behaviour="random"), tmp_path) as robot:
        spy = Spy()
        spy.listen(TARGET_POSE, PoseStamped)
        spy.listen(topics.SENT_ACTION, JointTrajectory)
        robot.activate()
        until(lambda: len(set(positions(spy))) > 10, "motion")
        yield robot, spy
        spy.close()


def positions(spy: Spy, topic: str = topics.SENT_ACTION) -> list[tuple[float, ...]]:
    return [tuple(message.points[0].positions) for _, message in spy.heard[topic]]


def last_motion(spy: Spy) -> float:
    """Wall time at which a command last differed from the one before."""
    sent = spy.heard[topics.SENT_ACTION]
    places = positions(spy)
    return max(sent[k][0] for k in range(1, len(sent)) if places[k] != places[k - 1])


@needs_simulator
def test_e_stop_then_interrupt(wandering: tuple[EpisodeRunner, Spy], tmp_path: Path) -> None:
    robot, spy = wandering

    # E-stop: latched, and its release does not move the arm.
    e_stop = spy.publisher(topics.E_STOP, Bool)
    pressed = time.monotonic()
    e_stop.publish(Bool(data=True))
    time.sleep(0.7)
    assert last_motion(spy) - pressed < 0.2 + LOADED_S
    commands = len(spy.heard[TARGET_POSE])
    refused = spy.call("executor/activate", Trigger)
    assert not refused.success and "reset_e_stop" in refused.message
    e_stop.publish(Bool(data=False))  # letting go of the button is no release
    assert not spy.call("executor/activate", Trigger).success
    assert spy.call("executor/reset_e_stop", Trigger).success
    time.sleep(0.3)
    assert len(spy.heard[TARGET_POSE]) == commands
    assert spy.call("executor/activate", Trigger).success
    before = len(spy.heard[TARGET_POSE])
    until(lambda: len(spy.heard[TARGET_POSE]) > before + 10, "commands after activation")

    # ctrl-C reaches every process at once; the executor still sends its last command, and it is a hold.
    for pid in robot.processes.pids.values():
        os.kill(pid, signal.SIGINT)
    statuses = robot.processes.wait(timeout_s=30.0)
    assert statuses == dict.fromkeys(statuses, 0)
    until(lambda: time.monotonic() - spy.heard[TARGET_POSE][-1][0] > 0.5, "silence")
    places = [message.pose.position for _, message in spy.heard[TARGET_POSE]]
    stamps = [message.header.stamp for _, message in spy.heard[TARGET_POSE]]
    assert stamps[-1] != stamps[-2] and places[-1] == places[-2]
    assert positions(spy)[-1] == positions(spy)[-2]
    assert "Traceback" not in "".join(log.read_text() for log in tmp_path.glob("*.log"))


@needs_simulator
def test_a_killed_source_makes_the_arm_hold(wandering: tuple[EpisodeRunner, Spy]) -> None:
    robot, spy = wandering
    killed = time.monotonic()
    robot.processes.kill("teleop")
    time.sleep(1.0)
    assert last_motion(spy) - killed < 0.3 + LOADED_S
    assert spy.heard[topics.SENT_ACTION][-1][0] - killed > 0.8  # it still commands: to stay


class Robot:
    """An executor alone, with this process as arm, camera and policy."""

    def __init__(self, spy: Spy) -> None:
        self.spy = spy
        spy.listen(topics.COMMITTED_ACTIONS, JointTrajectory)
        spy.listen(topics.SENT_ACTION, JointTrajectory)
        self._outs = spy.publishers(
            {
                topics.image_raw("front"): Image,
                topics.JOINT_STATES: JointState,
                SPEC.tools[0].pose_topic: PoseStamped,
                topics.TARGET_IN_FORCE: JointTrajectory,
                topics.ACTION_CHUNK: JointTrajectory,
                topics.HEARTBEAT: Header,
            }
        )
        self.home = np.array([0.0, 0.6, 0.2, 1.0])
        self.alive = True
        self.watching = True
        spy.node.create_timer(0.04, self._tell)

    def _tell(self) -> None:
        stamp = self.now_ns()
        if self.alive:
            self._say(topics.HEARTBEAT, convert.header(stamp))
        if self.watching:
            self._say(topics.image_raw("front"), convert.image_message(np.zeros((64, 64, 3), np.uint8), stamp, ""))
        self._say(topics.JOINT_STATES, convert.joint_message(["gripper"], np.ones(1), np.zeros(1), stamp))
        self._say(SPEC.tools[0].pose_topic, convert.pose_message(self.home[:3], None, stamp, "base"))
        in_force = convert.trajectory_message(self.home[None], SPEC.action_names, stamp, SPEC.period_ns)
        self._say(topics.TARGET_IN_FORCE, in_force)

    def now_ns(self) -> int:
        return int(self.spy.node.get_clock().now().nanoseconds)

    def send_chunk(self, length: int) -> None:
        targets = self.home + 0.01 * np.arange(1, length + 1)[:, None] * np.array([1.0, 0.0, 0.0, 0.0])
        chunk = ActionChunk(self.now_ns(), SPEC.period_ns, targets)
        self._say(topics.ACTION_CHUNK, convert.chunk_message(chunk, SPEC))

    def _say(self, topic: str, message: Any) -> None:
        self._outs[topic].publish(message)

    @property
    def reached(self) -> float:
        sent = positions(self.spy)
        return round(sent[-1][0], 6) if sent else 0.0


@pytest.fixture
def executor(domain: int, tmp_path: Path) -> Iterator[Robot]:
    nodes = [node for node in processes(Setup(source="policy", policy="onnx:unused")) if node.name == "executor"]
    with Processes(nodes, domain, tmp_path):
        spy = Spy()
        robot = Robot(spy)
        time.sleep(0.3)
        assert spy.call("executor/activate", Trigger).success
        until(lambda: spy.heard[topics.COMMITTED_ACTIONS], "ticks")
        yield robot
        spy.close()


def test_chunks_run_out_and_silence_or_blindness_cut_them_short(executor: Robot) -> None:
    executor.send_chunk(5)
    until(lambda: executor.reached == 0.05, "the whole chunk")
    longest = max(len(message.points) for _, message in executor.spy.heard[topics.COMMITTED_ACTIONS])
    assert longest == 6  # the target in force and the five that follow
    time.sleep(0.3)
    assert executor.reached == 0.05

    executor.home = np.array([0.05, 0.6, 0.2, 1.0])
    executor.send_chunk(20)  # a second's worth
    until(lambda: executor.reached > 0.06, "motion")
    executor.alive = False
    silent = time.monotonic()
    time.sleep(1.2)
    assert 0.0 < last_motion(executor.spy) - silent < 0.25 + LOADED_S  # heartbeat timeout and a tick
    assert executor.reached < 0.2

    executor.alive = True
    executor.home = np.array([executor.reached, 0.6, 0.2, 1.0])
    time.sleep(0.2)
    begun = executor.reached
    executor.send_chunk(20)
    until(lambda: executor.reached > begun, "motion")
    executor.watching = False
    blind = time.monotonic()
    time.sleep(1.2)
    assert 0.0 < last_motion(executor.spy) - blind < 0.25 + LOADED_S
