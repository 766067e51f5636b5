"""A look at a robot's running topics, for a few seconds: who sends them, how often, how old; for ``prophrl doctor --live``."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.ros import convert, topics

DISCOVERY_S = 1.5


@dataclass
class TopicLook:
    """What was seen of one topic.

    Attributes:
        name: of the topic.
        nominal_hz: expected rate; None: any.
        senders: names of the nodes that publish it.
        best_effort: senders that offer nothing better.
        types: message types under which it is published.
        wanted_type: the contract's.
        listeners: names of the nodes that subscribe to it.
        count: messages heard.
        rate_hz: at which they came.
        skews_s: time of receipt minus header stamp of each [s].
        joints: names in joint states.
    """

    name: str
    wanted_type: str
    nominal_hz: float | None = None
    senders: tuple[str, ...] = ()
    best_effort: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    count: int = 0
    rate_hz: float = 0.0
    skews_s: list[float] = field(default_factory=list)
    joints: set[str] = field(default_factory=set)

    @property
    def skew_s(self) -> float | None:
        """Median of the skews."""
        return statistics.median(self.skews_s) if self.skews_s else None


def look(spec: RobotSpec, domain: int, seconds: float) -> tuple[list[TopicLook], list[TopicLook]]:
    """Listen to a robot's observation streams, and see who is at its command topics.

    Returns:
        Streams, commands.
    """
    with _node(domain) as (node, executor):
        streams = [(topics.pictures(camera).name, topics.pictures(camera).message, camera.rate_hz) for camera in spec.cameras]
        wanted: list[tuple[str, Any, float | None]] = [*streams, (topics.JOINT_STATES, JointState, None)]
        wanted += [(tool.pose_topic, PoseStamped, None) for tool in spec.tools]
        looks = [TopicLook(name, topics.type_name(message), rate) for name, message, rate in wanted]
        commands = [
            TopicLook(command.topic, topics.type_name(topics.COMMAND_MESSAGES[command.interface])) for command in spec.commands
        ]
        _spin(executor, DISCOVERY_S)
        for entry, (name, message, _) in zip(looks, wanted, strict=True):
            qos = topics.sensor_qos("best_effort", 50)  # whatever is offered, this takes it
            node.create_subscription(message, name, _receiver(entry), qos, raw=True)
        _spin(executor, DISCOVERY_S)
        for entry in looks:
            entry.count, entry.skews_s = 0, []
        begin_s = time.monotonic()
        _spin(executor, seconds)
        elapsed_s = time.monotonic() - begin_s
        for entry in [*looks, *commands]:
            entry.rate_hz = entry.count / elapsed_s
            _who(node, entry)
        return looks, commands


def _receiver(entry: TopicLook) -> Any:
    def receive(cdr: bytes) -> None:
        entry.count += 1
        entry.skews_s.append((time.time_ns() - convert.stamp_of_cdr(cdr)) / 1e9)
        if entry.name == topics.JOINT_STATES:
            entry.joints.update(deserialize_message(cdr, JointState).name)

    return receive


def _who(node: Any, entry: TopicLook) -> None:
    told = node.get_publishers_info_by_topic(entry.name)
    entry.senders = tuple(sorted(info.node_name for info in told))
    unreliable = [info for info in told if info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT]
    entry.best_effort = tuple(sorted(info.node_name for info in unreliable))
    entry.types = tuple(sorted({info.topic_type for info in told}))
    entry.listeners = tuple(sorted(info.node_name for info in node.get_subscriptions_info_by_topic(entry.name)))


@contextmanager
def _node(domain: int) -> Iterator[tuple[Any, SingleThreadedExecutor]]:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node("doctor", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        context.try_shutdown()


def _spin(executor: SingleThreadedExecutor, seconds: float) -> None:
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left_s)
