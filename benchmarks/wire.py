"""What really went over the wire: raw messages with the times at which they were sent, read afterwards."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from trajectory_msgs.msg import JointTrajectory

from benchmarks.stopping import Commands
from robot_stack.core.errors import ProphRLError
from robot_stack.core.trajectory_stream import TimedPoints
from robot_stack.core.types import FloatArray
from robot_stack.ros import convert, topics

LOOK_S = 0.005
SERVE_S = 0.1


@dataclass(frozen=True)
class Sent:
    """One message.

    Attributes:
        sent_ns: when it was published, by the publisher's system clock [ns].
        cdr: the message; for pictures only its head.
    """

    sent_ns: int
    cdr: bytes

    @property
    def stamp_ns(self) -> int:
        return convert.stamp_of_cdr(self.cdr)


class Wire:
    """A node that keeps what it hears, and says what a test wants said; spins in a thread of its own.

    Args:
        name: of the node.
    """

    def __init__(self, name: str = "wire") -> None:
        self.node = Node(name)
        self._heard: dict[str, list[Sent]] = defaultdict(list)
        self._types: dict[str, Any] = {}
        self._on_message: dict[str, Callable[[], None]] = {}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="wire")
        self._thread.start()

    def listen(self, topic: str, message: Any, head: int | None = None) -> None:
        """Keep what comes on ``topic``; ``head``: only so many bytes of each message."""
        self._types[topic] = message

        def receive(cdr: bytes, info: dict[str, int]) -> None:
            self._heard[topic].append(Sent(info["source_timestamp"], cdr if head is None else cdr[:head]))
            told = self._on_message.get(topic)
            if told is not None:
                told()

        self.node.create_subscription(message, topic, receive, topics.sensor_qos("reliable", 100), raw=True)

    def when(self, topic: str, told: Callable[[], None] | None) -> None:
        """Call ``told`` at each message on ``topic``, in the thread that hears it; None: no more."""
        if told is None:
            self._on_message.pop(topic, None)
        else:
            self._on_message[topic] = told

    def clear(self) -> None:
        """Forget what was heard."""
        for messages in self._heard.values():
            messages.clear()

    def heard(self, topic: str) -> list[Sent]:
        """The messages on ``topic`` so far, in the order of their sending."""
        return sorted(self._heard[topic], key=lambda message: message.sent_ns)

    def count(self, topic: str) -> int:
        return len(self._heard[topic])

    def last(self, topic: str) -> Any:
        """The message that was heard last, read.

        Raises:
            ProphRLError: none was.
        """
        messages = self._heard[topic]
        if not messages:
            raise ProphRLError(f"nothing was heard on {topic}")
        return self.read(topic, messages[-1])

    def read(self, topic: str, sent: Sent) -> Any:
        return deserialize_message(sent.cdr, self._types[topic])

    def stamps(self, topic: str) -> list[tuple[int, int]]:
        """(sent, stamp) of each message on ``topic``."""
        return [(message.sent_ns, message.stamp_ns) for message in self.heard(topic)]

    def publisher(self, topic: str, message: Any) -> Any:
        """One that has found a listener."""
        publisher = self.node.create_publisher(message, topic, topics.COMMANDS)
        wait_until(lambda: publisher.get_subscription_count() > 0, f"somebody who listens to {topic}")
        return publisher

    def ask(self, service: str, kind: Any, request: Any, timeout_s: float = 2.0) -> Any | None:
        """The response of a service; None where none came, as of a process that has just been killed."""
        client = self.node.create_client(kind, service)
        try:
            end = time.monotonic() + timeout_s
            while not client.service_is_ready():
                if time.monotonic() > end:
                    return None
                time.sleep(LOOK_S)
            future = client.call_async(request)
            while not future.done():
                if time.monotonic() > end:
                    return None
                time.sleep(LOOK_S)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def _spin(self) -> None:
        while not self._stopping.is_set():  # spinning until a future is done would grow by a callback at each turn
            self._executor.spin_once(timeout_sec=SERVE_S)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()


def commands_of(wire: Wire, topic: str) -> Commands:
    """Commands of an arm of joint trajectories: the velocity of each is that of its newest point before the brake.

    Raises:
        ProphRLError: none were heard.
    """
    heard = wire.heard(topic)
    if not heard:
        raise ProphRLError(f"no command was heard on {topic}")
    velocities = [wire.read(topic, sent).points[-2].velocities for sent in heard]
    return Commands([sent.sent_ns for sent in heard], np.array(velocities, dtype=np.float64))


def curve_of(wire: Wire, topic: str) -> Mapping[int, tuple[FloatArray, FloatArray]]:
    """Time -> position and velocity of the points that were commanded before each command's brake."""
    points: dict[int, tuple[FloatArray, FloatArray]] = {}
    for sent in wire.heard(topic):
        told = timed_points(wire.read(topic, sent))
        rows = zip(told.times_ns, told.positions, told.velocities, strict=True)
        points |= {at_ns: (position, velocity) for at_ns, position, velocity in list(rows)[:-1]}
    return points


def timed_points(message: JointTrajectory) -> TimedPoints:
    """A trajectory that was sent to an arm."""
    begin_ns = convert.to_ns(message.header.stamp)
    times_ns = tuple(begin_ns + convert.to_ns(point.time_from_start) for point in message.points)
    positions, velocities = ([getattr(point, name) for point in message.points] for name in ("positions", "velocities"))
    return TimedPoints(times_ns, np.array(positions, dtype=np.float64), np.array(velocities, dtype=np.float64))


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    """Wait for a condition.

    Raises:
        ProphRLError: it did not come true.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ProphRLError(f"{what}: waited {seconds:g} s in vain")
        time.sleep(LOOK_S)
