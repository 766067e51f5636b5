"""The operator of the robot's nodes: calls their services, waits until they are connected, and listens to the verdict."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from robot_stack.core.errors import ProphRLError
from robot_stack.ros import topics
from robot_stack.ros.connections import SERVICE, Connections, missing_connections
from robot_stack.ros.node import signals_held
from robot_stack.ros.processes import Processes, log_tail

START_TIMEOUT_S = 90.0  # for importing a simulator and loading a model on a busy machine
ANSWER_TIMEOUT_S = 60.0  # of one service call, and between two ticks
RETRY_S = 1.0  # before a node is asked again how it is connected
LOOK_S = 0.25  # how often the processes are looked at while waiting


class NoAnswerError(ProphRLError):
    """A node that runs, but does not answer.

    Args:
        what: what was waited for.
        seconds: how long.
        logs: name of a node -> its output, for the message.
    """

    def __init__(self, what: str, seconds: float, logs: dict[str, Path]) -> None:
        tails = "".join(f"\n{name} ({path}):\n{log_tail(path)}" for name, path in logs.items())
        super().__init__(f"{what} did not come within {seconds:.0f} s. Last output of the nodes:{tails}")


@dataclass
class Progress:
    """What ``evaluation/success`` has said since the reset."""

    verdicts: list[bool] = field(default_factory=list)
    last_s: float = 0.0


class Operator:
    """A node that calls the services of the robot's nodes and listens to the verdict."""

    def __init__(self, children: Processes) -> None:
        self._node = Node("operator")
        self.children = children
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.progress = Progress()
        self._changed = Future()
        self._node.create_subscription(Bool, topics.SUCCESS, self._on_success, topics.COMMANDS)
        self._clients: dict[str, Any] = {}

    def trigger(self, service: str) -> str:
        """Call a ``std_srvs/Trigger`` service.

        Returns:
            Its message.

        Raises:
            ProphRLError: it refused, with its message.
            NoAnswerError, NodeDiedError: it did not answer.
        """
        response = self._call(service, Trigger, Trigger.Request())
        if not response.success:
            raise ProphRLError(f"{service} refused: {response.message}")
        return str(response.message)

    def transition(self, node: str, transition: int, name: str) -> None:
        """Change the state of a lifecycle node."""
        request = ChangeState.Request(transition=Transition(id=transition))
        if not self._call(f"{node}/change_state", ChangeState, request).success:
            raise ProphRLError(f"node {node} could not {name}. Its last output:\n{log_tail(self.children.log(node))}")

    def set_parameters(self, node: str, **values: Any) -> None:
        """Set parameters of a node."""
        messages: list[ParameterMessage] = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        response = self._call(f"{node}/set_parameters", SetParameters, SetParameters.Request(parameters=messages))
        reasons = [result.reason for result in response.results if not result.successful]
        if reasons:
            raise ProphRLError(f"node {node} refused parameters {values}: {reasons[0]}")

    def wait_for_services(self, services: dict[str, Any]) -> None:
        """Wait until all services (name -> type) are there."""
        clients = {name: self._client(name, kind) for name, kind in services.items()}
        until = time.monotonic() + START_TIMEOUT_S
        while missing := [name for name, client in clients.items() if not client.service_is_ready()]:
            self.children.check()
            if time.monotonic() > until:
                raise NoAnswerError(f"service {', '.join(missing)}", START_TIMEOUT_S, self._logs())
            self._spin(0.05)

    def wait_for_connections(self) -> None:
        """Wait until every topic of the robot's nodes, and of this one, has found its partners.

        Raises:
            NoAnswerError: some have not; a node that asks for another quality of service never will.
        """
        until = time.monotonic() + START_TIMEOUT_S
        while missing := self._missing_connections():
            if time.monotonic() > until:
                raise NoAnswerError(f"a connection ({'; '.join(missing)})", START_TIMEOUT_S, self._logs())
            self._spin(0.05)

    def follow_episode(self, horizon: int, stop_at_success: bool, on_tick: Callable[[], None]) -> list[bool]:
        """Wait for the end of the episode; returns the verdict at each tick and after the last."""
        verdicts = self.progress.verdicts
        told = 1  # the first comes with the reset, before any tick was executed
        self.progress.last_s = time.monotonic()
        while len(verdicts) <= horizon and not (stop_at_success and any(verdicts)):
            self._wait(self._changed_future())
            for _ in range(told, len(verdicts)):
                on_tick()
            told = max(told, len(verdicts))
            if time.monotonic() - self.progress.last_s > ANSWER_TIMEOUT_S:
                raise NoAnswerError(f"tick {len(verdicts)} of the episode", ANSWER_TIMEOUT_S, self._logs())
        return list(verdicts)

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()

    def _missing_connections(self) -> list[str]:
        nodes = {self._node.get_name(): Connections.of(self._node)}
        for name in self.children.pids:
            # An answer, too, is lost while the service has not found its client: a short wait, and the next try asks again.
            future = self._client(f"{name}/{SERVICE}", Trigger).call_async(Trigger.Request())
            self._spin(RETRY_S, future)
            self.children.check()
            if not future.done():
                return [f"{name}/{SERVICE}: no answer"]
            nodes[name] = Connections.from_message(future.result().message)
        return missing_connections(nodes)

    def _on_success(self, message: Bool) -> None:
        self.progress.verdicts.append(bool(message.data))
        self.progress.last_s = time.monotonic()
        if not self._changed.done():
            self._changed.set_result(None)

    def _changed_future(self) -> Future:
        if self._changed.done():
            self._changed = Future()
        return self._changed

    def _client(self, service: str, kind: Any) -> Any:
        if service not in self._clients:
            self._clients[service] = self._node.create_client(kind, service)
        return self._clients[service]

    def _call(self, service: str, kind: Any, request: Any) -> Any:
        future = self._client(service, kind).call_async(request)
        until = time.monotonic() + ANSWER_TIMEOUT_S
        while not future.done():
            self._wait(future)
            if time.monotonic() > until:
                raise NoAnswerError(f"an answer of {service}", ANSWER_TIMEOUT_S, self._logs())
        return future.result()

    def _wait(self, future: Future) -> None:
        """Spin until ``future`` is done, at most ``LOOK_S``; then look after the processes."""
        self._spin(LOOK_S, future)
        self.children.check()

    def _spin(self, timeout_s: float, until: Future | None = None) -> None:
        """Serve this process's node until ``until`` is done, or once."""
        with signals_held():
            if until is None:
                self._executor.spin_once(timeout_sec=timeout_s)
            else:
                self._executor.spin_until_future_complete(until, timeout_sec=timeout_s)

    def _logs(self) -> dict[str, Path]:
        return {name: self.children.log(name) for name in self.children.pids}
