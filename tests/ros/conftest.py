"""Real processes over real DDS; every test run has a ROS domain of its own (``processes.reserved_domain``)."""

import contextlib
import importlib.util
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from robot_stack.bringup import environment
from robot_stack.ros import topics
from robot_stack.ros.processes import reserved_domain

# Not importorskip: Meta-World imports MuJoCo, which reads MUJOCO_GL when it is imported.
needs_simulator = pytest.mark.skipif(importlib.util.find_spec("metaworld") is None, reason="needs the sim extra")
QUEUE = 1000  # messages of a topic that wait for the spy
WAIT_S = 20.0  # for anything that a loaded machine may take long for


@pytest.fixture(autouse=True, scope="session")
def free_domain() -> None:
    """Let a free domain be chosen, whatever the shell has set."""
    os.environ.pop("ROS_DOMAIN_ID", None)


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> None:
    """Wait for a condition; the test fails with ``what`` when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.01)


class Spy:
    """A node beside the robot's: hears everything, can say anything."""

    def __init__(self, name: str = "spy") -> None:
        self.node = Node(name)
        self.heard: dict[str, list[tuple[float, Any]]] = defaultdict(list)  # topic -> (wall time, message)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def listen(self, topic: str, message: Any) -> None:
        # Deep: on a loaded machine many messages come before this thread takes the first of them.
        qos = topics.sensor_qos("reliable", QUEUE)
        self.node.create_subscription(message, topic, lambda m: self.heard[topic].append((time.monotonic(), m)), qos)

    def publisher(self, topic: str, message: Any) -> Any:
        publisher = self.node.create_publisher(message, topic, topics.COMMANDS)
        until(lambda: publisher.get_subscription_count() > 0, f"somebody listening to {topic}")
        return publisher

    def publishers(self, messages: dict[str, Any]) -> dict[str, Any]:
        """One for each topic of ``messages`` (topic -> type)."""
        return {topic: self.publisher(topic, message) for topic, message in messages.items()}

    def call(self, service: str, kind: Any, request: Any = None) -> Any:
        client = self.node.create_client(kind, service)
        until(client.service_is_ready, f"service {service}")
        future = client.call_async(request or kind.Request())
        until(future.done, f"answer of {service}")
        return future.result()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):  # of a test that failed before it closed its spy
            while not self._stopping.is_set():
                self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.node.destroy_node()


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A domain for single nodes, with this process in it."""
    with reserved_domain() as number:
        for name, value in environment(number).items():
            monkeypatch.setenv(name, value)
        rclpy.init()
        yield number
        rclpy.try_shutdown()
