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

from benchmarks.cell import running_cell
from benchmarks.cell_processes import BenchmarkProcess, CellSetup
from benchmarks.fault_cases import CASES, repeat
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
REASONS = {
    "joint states silent": "stale observation (joint_states)",
    "joint states name an unknown joint": "stale observation (joint_states)",
    "camera sends half pictures": "stale observation (front)",
    "e-stop while a chunk comes in": "e-stop",
    "policy hangs in inference": "source of actions is silent",
}


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


def silent(spy: Spy) -> bool:
    """Whether no command has come for a while."""
    return time.monotonic() - spy.heard[TARGET_POSE][-1][0] > 0.5


def holds(spy: Spy, commands: int = 10) -> bool:
    """Whether the last commands were all the same."""
    places = positions(spy)
    return len(places) > commands and len(set(places[-commands:])) == 1


@needs_simulator
def test_e_stop_then_interrupt(wandering: tuple[EpisodeRunner, Spy], tmp_path: Path) -> None:
    robot, spy = wandering

    # E-stop: latched, and its release does not move the arm.
    e_stop = spy.publisher(topics.E_STOP, Bool)
    e_stop.publish(Bool(data=True))
    until(lambda: silent(spy), "the end of the commands")
    assert positions(spy)[-1] == positions(spy)[-2], "the last command is to stay"
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
    until(lambda: silent(spy), "silence")
    places = [message.pose.position for _, message in spy.heard[TARGET_POSE]]
    stamps = [message.header.stamp for _, message in spy.heard[TARGET_POSE]]
    assert stamps[-1] != stamps[-2] and places[-1] == places[-2]
    assert positions(spy)[-1] == positions(spy)[-2]
    assert "Traceback" not in "".join(log.read_text() for log in tmp_path.glob("*.log"))


@needs_simulator
def test_a_killed_source_makes_the_arm_hold(wandering: tuple[EpisodeRunner, Spy]) -> None:
    robot, spy = wandering
    robot.processes.kill("teleop")
    until(lambda: holds(spy), "the hold")
    held = len(spy.heard[topics.SENT_ACTION])
    until(lambda: len(spy.heard[topics.SENT_ACTION]) > held + 10, "further commands, all of which are to stay")
    assert len(set(positions(spy)[held - 10 :])) == 1


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
    executor.send_chunk(20)  # to 0.25, a second's worth
    until(lambda: executor.reached > 0.06, "motion")
    executor.alive = False
    until(lambda: holds(executor.spy), "the hold")
    assert executor.reached < 0.24, "not to the end of the chunk"

    executor.alive = True
    executor.home = np.array([executor.reached, 0.6, 0.2, 1.0])
    begun = executor.reached
    # Until the executor has heard of the policy again, it drops what comes.
    until(lambda: executor.reached > begun or executor.send_chunk(20), "motion")
    executor.watching = False
    until(lambda: holds(executor.spy), "the hold")
    assert executor.reached < begun + 0.19, "not to the end of the chunk"


@needs_simulator
def test_faults_of_the_benchmark_make_the_arm_hold_and_say_why(tmp_path: Path) -> None:
    """The benchmark measures how long it takes; here only that it comes to rest, for the right reason, within all limits."""
    cases = {case.name: case for case in CASES}
    with running_cell(CellSetup(tmp_path)) as cell:
        log = cell.children.log("executor")
        for name, reason in REASONS.items():
            for number in range(6):  # on a loaded machine the arm may have come to rest for another reason just before
                told = len(log.read_text())
                found = repeat(cases[name], cell, number)
                assert found["rested"], name
                assert found["blind"] == 0, name
                assert found["velocity"] <= 1.001 and found["acceleration"] <= 1.001, name
                if reason in log.read_text()[told:]:
                    break
            else:
                raise AssertionError(f"{name}: the executor never said {reason!r}")


def test_a_policy_that_does_not_see_is_silent(domain: int, tmp_path: Path) -> None:
    parameters = {"robot": "sim_arm", "lock_step": False}
    node = BenchmarkProcess("policy", "benchmarks.scripted_policy", parameters, file="policy")
    cameras = RobotSpec.load(robot_file("sim_arm")).cameras
    with Processes([node], domain, tmp_path):
        spy = Spy()
        spy.listen(topics.HEARTBEAT, Header)
        outs = spy.publishers({topics.image_raw(camera.name): Image for camera in cameras})
        outs |= spy.publishers({topics.JOINT_STATES: JointState, SPEC.tools[0].pose_topic: PoseStamped})
        seen = {camera.name for camera in cameras}

        def tell() -> None:
            stamp = int(spy.node.get_clock().now().nanoseconds)
            for camera in cameras:
                if camera.name in seen:
                    picture = convert.image_message(np.zeros((camera.height, camera.width, 3), np.uint8), stamp, "")
                    outs[topics.image_raw(camera.name)].publish(picture)
            names = list(RobotSpec.load(robot_file("sim_arm")).state_names)
            outs[topics.JOINT_STATES].publish(convert.joint_message(names, np.zeros(7), np.zeros(7), stamp))
            outs[SPEC.tools[0].pose_topic].publish(convert.pose_message(np.zeros(3), None, stamp, "base"))

        spy.node.create_timer(0.03, tell)
        until(lambda: len(spy.heard[topics.HEARTBEAT]) > 5, "heartbeats")
        seen.discard("wrist")
        until(lambda: time.monotonic() - spy.heard[topics.HEARTBEAT][-1][0] > 0.6, "silence")
        before = len(spy.heard[topics.HEARTBEAT])
        seen.add("wrist")
        until(lambda: len(spy.heard[topics.HEARTBEAT]) > before + 5, "heartbeats again")
        spy.close()
