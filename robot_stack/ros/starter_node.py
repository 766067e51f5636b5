"""Brings the nodes of a launch file to life, and ends: configures the sources and, on request, lets the arm move."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from robot_stack.core.errors import ProphRLError
from robot_stack.ros.node import declare_parameters, guarded_main, signals_call

WAIT_S = 120.0  # for a node that imports and loads on a busy machine
LOOK_S = 1.0  # after which a lost answer is asked for again


@dataclass(frozen=True)
class StarterSettings:
    """Parameters of the node.

    Attributes:
        sources: names of the lifecycle nodes that move the arm, with commas between them.
        activate: whether they are activated, too, and the executor after them.
    """

    sources: str = ""
    activate: bool = False


class StoppedError(ProphRLError):
    """A signal came before the end."""


class StarterNode(Node):
    """See the module.

    Attributes:
        stopping: set it, from whichever thread, and ``start`` ends soon.
    """

    def __init__(self) -> None:
        super().__init__("starter")
        self.stopping = threading.Event()
        self._settings = declare_parameters(self, StarterSettings)

    def start(self) -> None:
        """Do it.

        Raises:
            StoppedError: it was stopped.
            ProphRLError: a node refused or did not come.
        """
        sources, activate = [name for name in self._settings.sources.split(",") if name], self._settings.activate
        for source in sources:
            self._bring(source, Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE, "configured")
        for source in sources if activate else ():
            self._bring(source, Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE, "active")
        if activate:
            answer = self._ask("executor/activate", Trigger, Trigger.Request())
            if not answer.success:
                raise ProphRLError(f"executor/activate refused: {answer.message}")
            self.get_logger().info("the executor is active: the arm may move")
        elif sources:
            space = self.get_namespace().rstrip("/")
            asked = ", ".join(f"ros2 lifecycle set {space}/{source} activate" for source in sources)
            self.get_logger().info(f"to move: {asked}, then call {space}/executor/activate")

    def _bring(self, node: str, transition: int, wanted: int, word: str) -> None:
        """Let a node make a transition. Its answer takes as long as a policy loads, and may be lost; the state tells, too."""
        if self._state(node) == wanted:
            return
        request = ChangeState.Request(transition=Transition(id=transition))
        client = self.create_client(ChangeState, f"{node}/change_state")
        self._wait_for(client)
        future = client.call_async(request)
        for _ in self._looks(f"node {node} was not {word}"):
            if future.done() or self._state(node) == wanted:
                break
            rclpy.spin_until_future_complete(self, future, timeout_sec=LOOK_S)
        if future.done() and not future.result().success and self._state(node) != wanted:
            raise ProphRLError(f"node {node} could not be {word}; its output says why")
        self.get_logger().info(f"{node} is {word}")

    def _state(self, node: str) -> int:
        return int(self._ask(f"{node}/get_state", GetState, GetState.Request()).current_state.id)

    def _ask(self, service: str, kind: Any, request: Any) -> Any:
        """The answer of a service that may be asked again."""
        client = self.create_client(kind, service)
        try:
            self._wait_for(client)
            for _ in self._looks(f"service {service} did not answer"):
                future = client.call_async(request)
                rclpy.spin_until_future_complete(self, future, timeout_sec=LOOK_S)
                if future.done():
                    break
        finally:
            self.destroy_client(client)
        return future.result()

    def _wait_for(self, client: Any) -> None:
        for _ in self._looks(f"service {client.srv_name} did not come"):
            if client.wait_for_service(timeout_sec=LOOK_S):
                break

    def _looks(self, problem: str) -> Iterator[None]:
        """As many looks as there is time for.

        Raises:
            StoppedError: it was stopped.
            ProphRLError: the time is over.
        """
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            if self.stopping.is_set():
                raise StoppedError("stopped")
            yield
        raise ProphRLError(f"{problem} within {WAIT_S:.0f} s")


def _start() -> None:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = StarterNode()
    try:
        with signals_call(node.stopping.set), contextlib.suppress(StoppedError):
            node.start()
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def main(_: Any = None) -> int:
    return guarded_main(_start)


if __name__ == "__main__":
    sys.exit(main())
