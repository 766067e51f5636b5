"""When a policy infers in real time, from which picture, and from which target its actions go on."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs the ros extra")

import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import ActionChunk, FloatArray, Observation
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.policies import PolicyAddress
from robot_stack.ros.policy_node import PolicyNode
from tests.ros.conftest import Spy, until

pytestmark = pytest.mark.ros
PREFIX = 2
QUIET_S = 0.4  # in which what must not happen would have happened


class NotingPolicy:
    """Keeps what it was asked, and answers when it may."""

    def __init__(self, actions: int) -> None:
        self._actions = actions
        self.asked: list[tuple[Observation, FloatArray]] = []
        self.may_answer = threading.Event()

    def reset(self, seed: int) -> None:
        """It has no state."""

    def infer(self, observation: Observation, prefix: FloatArray) -> ActionChunk:
        self.asked.append((observation, prefix))
        assert self.may_answer.wait(30.0)
        return ActionChunk(observation.stamp_ns, 50_000_000, np.zeros((3, self._actions)))


class Cell:
    """A policy node, and what it hears."""

    def __init__(self, robot: Path, policy: NotingPolicy) -> None:
        self.spec, self.policy = RobotSpec.load(robot), policy
        self.node, self.spy = PolicyNode(), Spy()
        self._executor, self._stopping = SingleThreadedExecutor(), Future()
        self._executor.add_node(self.node)
        self._spinner = threading.Thread(target=self._executor.spin_until_future_complete, args=(self._stopping,))
        self._spinner.start()
        self.spy.listen(topics.ACTION_CHUNK, JointTrajectory)
        kinds = {topics.image_raw("front"): Image, topics.JOINT_STATES: JointState, topics.COMMITTED_ACTIONS: JointTrajectory}
        self._outs = self.spy.publishers(kinds | {self.spec.tools[0].pose_topic: PoseStamped})
        self.node.trigger_configure()
        self.node.trigger_activate()

    @property
    def now_ns(self) -> int:
        return int(self.spy.node.get_clock().now().nanoseconds)

    def see(self, stamp_ns: int | None = None) -> int:
        """A picture (of now), and where the arm is; the picture's stamp."""
        stamp_ns = stamp_ns or self.now_ns
        names = self.spec.state_names
        states = convert.joint_message(names, np.zeros(len(names)), np.zeros(len(names)), stamp_ns)
        self._outs[topics.JOINT_STATES].publish(states)
        self._outs[self.spec.tools[0].pose_topic].publish(convert.pose_message(np.zeros(3), None, stamp_ns, "base"))
        time.sleep(0.1)  # each topic has its own way; the picture shall be the last
        self._outs[topics.image_raw("front")].publish(convert.image_message(np.zeros((8, 8, 3), np.uint8), stamp_ns, ""))
        return stamp_ns

    def commit(self, *targets: float, request: bool = False) -> None:
        """Targets told by the executor now, all numbers of one alike."""
        rows = np.repeat(np.array(targets)[:, None], len(self.spec.actions), axis=1)
        message = convert.trajectory_message(rows, self.spec.action_names, self.now_ns, self.spec.period_ns)
        message.header.frame_id = topics.REQUEST if request else ""
        self._outs[topics.COMMITTED_ACTIONS].publish(message)

    def wait_for(self, count: int) -> tuple[Observation, FloatArray]:
        """Inference number ``count``."""
        until(lambda: len(self.policy.asked) >= count, f"inference {count}")
        assert len(self.policy.asked) == count
        return self.policy.asked[-1]

    def close(self) -> None:
        self.policy.may_answer.set()
        self._stopping.set_result(None)
        self._spinner.join()
        self.spy.close()
        self.node.close()
        self.node.destroy_node()


@pytest.fixture
def cell(domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cell]:
    raw = yaml.safe_load(robot_file("sim_arm").read_text())
    camera = {"name": "front", "width": 8, "height": 8, "rate_hz": 30.0, "max_age_ms": 60_000, "sensor_noise": False}
    raw |= {"cameras": [camera], "max_state_age_ms": 60_000}
    path = tmp_path / "slow_camera.yaml"
    path.write_text(yaml.safe_dump(raw))
    policy = NotingPolicy(len(RobotSpec.load(path).actions))
    monkeypatch.setattr(PolicyAddress, "load", lambda *_: policy)
    monkeypatch.setattr(PolicyAddress, "parse", lambda _: PolicyAddress("onnx", Path()))
    rclpy.try_shutdown()
    parameters = {"robot": f'"{path}"', "lock_step": "false", "prefix": str(PREFIX)}
    rclpy.init(
        args=["test", "--ros-args", *(part for name, value in parameters.items() for part in ("-p", f"{name}:={value}"))]
    )
    cell = Cell(path, policy)
    yield cell
    cell.close()


def test_it_waits_for_the_next_picture_and_goes_on_from_the_target_in_force_then(cell: Cell) -> None:
    cell.see()
    time.sleep(QUIET_S)
    cell.commit(0.0, 0.1, 0.2, 0.3, 0.4, request=True)
    time.sleep(QUIET_S)
    assert not cell.policy.asked
    stamp_ns = cell.see()
    observation, prefix = cell.wait_for(1)
    assert observation.stamp_ns == stamp_ns
    assert (observation.commanded == 0.1).all()  # that tick has consumed it
    np.testing.assert_array_equal(prefix[:, 0], [0.2, 0.3])


def test_a_picture_from_before_a_tick_goes_on_from_before_its_target(cell: Cell) -> None:
    cell.commit(-0.1, 0.0, 0.1, 0.2, request=True)
    stamp_ns = cell.now_ns
    cell.commit(0.0, 0.1, 0.2, 0.3, request=True)
    cell.see(stamp_ns)
    observation, prefix = cell.wait_for(1)
    assert observation.stamp_ns == stamp_ns
    assert (observation.commanded == 0.0).all()  # the tick after it has still to consume 0.1
    np.testing.assert_array_equal(prefix[:, 0], [0.1, 0.2])


def test_an_arm_at_rest_stays_the_reference(cell: Cell) -> None:
    cell.commit(0.5, request=True)
    cell.see()
    observation, prefix = cell.wait_for(1)
    assert (observation.commanded == 0.5).all() and prefix.shape == (0, len(cell.spec.actions))


def test_requests_before_an_answer_are_answered_by_it(cell: Cell) -> None:
    cell.commit(0.0, request=True)
    cell.see()
    cell.wait_for(1)
    for _ in range(3):
        cell.commit(0.0, request=True)
    cell.see()
    time.sleep(QUIET_S)
    cell.policy.may_answer.set()
    until(lambda: cell.spy.heard[topics.ACTION_CHUNK], "the answer")
    time.sleep(QUIET_S)
    assert len(cell.policy.asked) == len(cell.spy.heard[topics.ACTION_CHUNK]) == 1
    cell.commit(0.0, request=True)
    cell.see()
    cell.wait_for(2)
