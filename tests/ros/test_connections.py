"""Episodes begin when every topic has found its partners, not after a guessed time."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_stack.bringup import NodeProcess, Setup, processes
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import ActionChunk, Observation
from robot_stack.paths import robot_file
from robot_stack.ros import convert, robot_operator, topics
from robot_stack.ros.connections import SERVICE, Connections, missing_connections
from robot_stack.ros.convert import SECOND_NS
from robot_stack.ros.policies import PolicyAddress
from robot_stack.ros.policy_node import PolicyNode
from robot_stack.ros.processes import Processes
from robot_stack.ros.robot_operator import NoAnswerError, Operator
from tests.ros.conftest import WAIT_S, Spy, needs_simulator, until

pytestmark = pytest.mark.ros
SPEC = RobotSpec.load(robot_file("sim_metaworld"))


def test_what_is_missing_is_named() -> None:
    nodes = {
        "arm": Connections({"/clock": 1, "/pictures": 2}, {"/command": 0}),
        "executor": Connections({"/command": 1}, {"/clock": 1, "/pictures": 1}),
        "policy": Connections({}, {"/pictures": 1, "/clock": 0, "/nobody_sends": 0}),
    }
    assert missing_connections(nodes) == [
        "/clock: arm reaches 1 of 2 (executor, policy)",
        "/command: arm hears 0 of 1 (executor)",
        "/clock: policy hears 0 of 1 (arm)",
    ]


@pytest.fixture
def pair(domain: int) -> Iterator[tuple[Node, Node]]:
    nodes = Node("sender"), Node("listener")
    yield nodes
    for node in nodes:
        node.destroy_node()


def test_counts_are_those_of_the_middleware(pair: tuple[Node, Node]) -> None:
    sender, listener = pair

    def missing() -> list[str]:
        return missing_connections({node.get_name(): Connections.of(node) for node in pair})

    sender.create_publisher(Bool, topics.SUCCESS, topics.COMMANDS)
    assert not missing()
    listener.create_subscription(Bool, topics.SUCCESS, lambda _: None, topics.COMMANDS)
    until(lambda: not missing(), "a connection")
    assert Connections.of(sender).publishers[f"/{topics.SUCCESS}"] == 1
    sender.create_publisher(String, topics.TASK, topics.COMMANDS)
    listener.create_subscription(String, topics.TASK, lambda _: None, topics.LATCHED)  # asks for more than is offered
    assert missing() == ["/task: sender reaches 0 of 1 (listener)", "/task: listener hears 0 of 1 (sender)"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@needs_simulator
def test_qualities_of_service_that_never_meet_are_told_before_the_arm_moves(
    domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The robot's pictures are best effort, the executor asks for reliable ones."""
    arm, executor, *_ = processes(Setup(source="behaviour", lock_step=True))
    arm = NodeProcess(arm.name, arm.module, {**arm.parameters, "sensor_reliability": "best_effort"})
    with Processes([arm, executor], domain, tmp_path) as children:
        operator = Operator(children)
        try:
            operator.wait_for_services({f"{name}/{SERVICE}": Trigger for name in children.pids})
            monkeypatch.setattr(robot_operator, "START_TIMEOUT_S", 3.0)
            with pytest.raises(NoAnswerError, match=r"/joint_states: executor hears 0 of 1 \(sim_robot\)"):
                operator.wait_for_connections()
        finally:
            operator.close()


class SlowPolicy:
    """Thinks until it is told to answer."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.may_answer = threading.Event()

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def infer(self, observation: Observation, prefix: np.ndarray) -> ActionChunk:
        self.asked.append(observation.stamp_ns)
        self.may_answer.wait(WAIT_S)
        return ActionChunk(observation.stamp_ns, SPEC.period_ns, np.tile(observation.commanded, (5, 1)))


def test_a_request_that_finds_the_policy_busy_with_the_last_episode_is_answered(
    domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In lock-step nobody asks twice, and the answer to the last episode must not be taken for one of this episode."""
    slow = SlowPolicy()
    monkeypatch.setattr(PolicyAddress, "load", lambda *_: slow)
    monkeypatch.setattr(PolicyAddress, "parse", lambda _: PolicyAddress("onnx", Path()))
    node, spy = PolicyNode(), Spy()
    executor, stopping = SingleThreadedExecutor(), Future()
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin_until_future_complete, args=(stopping,))
    spinner.start()
    try:
        spy.listen(topics.ACTION_CHUNK, JointTrajectory)
        outs = spy.publishers(
            {
                topics.image_raw("front"): Image,
                topics.JOINT_STATES: JointState,
                SPEC.tools[0].pose_topic: PoseStamped,
                topics.COMMITTED_ACTIONS: JointTrajectory,
            }
        )
        until(lambda: not missing_connections({n.get_name(): Connections.of(n) for n in (node, spy.node)}), "connections")
        node.trigger_configure()

        def ask(stamp_ns: int) -> None:
            outs[topics.image_raw("front")].publish(convert.image_message(np.zeros((64, 64, 3), np.uint8), stamp_ns, ""))
            outs[topics.JOINT_STATES].publish(convert.joint_message(["gripper"], np.ones(1), np.zeros(1), stamp_ns))
            outs[SPEC.tools[0].pose_topic].publish(convert.pose_message(np.zeros(3), None, stamp_ns, "base"))
            here = np.array([[0.0, 0.6, 0.2, 1.0]])
            request = convert.trajectory_message(here, SPEC.action_names, stamp_ns, SPEC.period_ns)
            request.header.frame_id = topics.REQUEST
            outs[topics.COMMITTED_ACTIONS].publish(request)

        node.trigger_activate()
        ask(SECOND_NS)
        until(lambda: slow.asked == [SECOND_NS], "the first request")
        node.trigger_deactivate()
        node.trigger_activate()
        ask(2 * SECOND_NS)
        time.sleep(0.5)
        slow.may_answer.set()
        until(lambda: spy.heard[topics.ACTION_CHUNK], "an answer")
        assert slow.asked == [SECOND_NS, 2 * SECOND_NS]
        time.sleep(0.2)
        stamps = [convert.to_ns(message.header.stamp) for _, message in spy.heard[topics.ACTION_CHUNK]]
        assert stamps == [2 * SECOND_NS]
    finally:
        slow.may_answer.set()
        stopping.set_result(None)
        spinner.join()
        node.close()
        spy.close()
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
