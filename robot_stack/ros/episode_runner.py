"""Runs episodes on a simulated robot: starts its processes, then resets, activates, records, waits and labels, seed after seed.

One episode: recorder ``~/start``, source active, robot ``~/reset``, executor ``~/activate``; the robot counts the ticks itself
and says on ``evaluation/success`` once a tick, and once more at the end, whether the task has been done; then all in reverse.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rclpy
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

from robot_stack.bringup import NodeProcess, Setup, environment, processes
from robot_stack.core.errors import ProphRLError
from robot_stack.ros import topics
from robot_stack.ros.connections import SERVICE, Connections, missing_connections
from robot_stack.ros.processes import Processes, log_tail, reserved_domain

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


@dataclass(frozen=True)
class EpisodeOutcome:
    """One episode.

    Attributes:
        seed: its start.
        success: whether the task was done.
        ticks: commands executed.
        first_success: ticks executed until the task was done, or None.
        log: the recorded log, or None.
    """

    seed: int
    success: bool
    ticks: int
    first_success: int | None
    log: Path | None


@dataclass
class _Progress:
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
        self.progress = _Progress()
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
            self._executor.spin_once(timeout_sec=0.05)

    def wait_for_connections(self) -> None:
        """Wait until every topic of the robot's nodes, and of this one, has found its partners.

        Raises:
            NoAnswerError: some have not; a node that asks for another quality of service never will.
        """
        until = time.monotonic() + START_TIMEOUT_S
        while missing := self._missing_connections():
            if time.monotonic() > until:
                raise NoAnswerError(f"a connection ({'; '.join(missing)})", START_TIMEOUT_S, self._logs())
            self._executor.spin_once(timeout_sec=0.05)

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
            self._executor.spin_until_future_complete(future, timeout_sec=RETRY_S)
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
        self._executor.spin_until_future_complete(future, timeout_sec=LOOK_S)
        self.children.check()

    def _logs(self) -> dict[str, Path]:
        return {name: self.children.log(name) for name in self.children.pids}


class EpisodeRunner:
    """Episodes on a robot that is up; see ``running_robot``."""

    def __init__(self, operator: Operator, setup: Setup, source: NodeProcess) -> None:
        self._operator = operator
        self._setup = setup
        self._source = source

    def run(
        self, seed: int, record: dict[str, Any] | None = None, on_tick: Callable[[], None] = lambda: None
    ) -> EpisodeOutcome:
        """One episode from start ``seed``.

        Args:
            seed: of the simulator, and of the source's random numbers.
            record: parameters of the recorder (see ``RecorderSettings``), or None to record nothing.
            on_tick: called after each tick.

        Raises:
            NodeDiedError, NoAnswerError: a process ended or fell silent.
        """
        operator, source = self._operator, self._source.name
        if record is not None:
            operator.set_parameters("recorder", seed=seed, **record)
            operator.trigger("recorder/start")
        operator.set_parameters("sim_robot", seed=seed)
        operator.set_parameters(source, seed=seed)
        operator.transition(source, Transition.TRANSITION_ACTIVATE, "be activated")
        operator.progress = _Progress()
        operator.trigger("sim_robot/reset")
        operator.trigger("executor/activate")
        verdicts = operator.follow_episode(self._setup.horizon, self._setup.stop_at_success, on_tick)
        operator.trigger("executor/deactivate")
        operator.transition(source, Transition.TRANSITION_DEACTIVATE, "be deactivated")
        success = verdicts[-1]
        log = None
        if record is not None:
            log = Path(operator.trigger(f"recorder/{'success' if success else 'failure'}"))
        return EpisodeOutcome(seed, success, len(verdicts) - 1, verdicts.index(True) if success else None, log)

    def activate(self) -> None:
        """Let the source move the arm until the context ends (real time)."""
        self._operator.transition(self._source.name, Transition.TRANSITION_ACTIVATE, "be activated")
        self._operator.trigger("executor/activate")

    @property
    def source(self) -> str:
        """Name of the node that moves the arm."""
        return self._source.name

    @property
    def processes(self) -> Processes:
        return self._operator.children

    def trigger(self, service: str) -> str:
        """Call a ``std_srvs/Trigger`` service of one of the nodes ("executor/deactivate"); see ``Operator.trigger``."""
        return self._operator.trigger(service)


@contextlib.contextmanager
def running_robot(setup: Setup, log_dir: Path) -> Iterator[EpisodeRunner]:
    """The processes of ``setup``, ready for episodes; they end with the context.

    Raises:
        OccupiedDomainError: the ROS domain is in use.
        NodeDiedError, NoAnswerError: a process did not come up; its last output is in the message.
    """
    nodes = processes(setup)
    source = next(node for node in nodes if node.lifecycle)
    with reserved_domain() as domain, Processes(nodes, domain, log_dir) as children, _own_node(domain):
        operator = Operator(children)
        try:
            operator.wait_for_services(_services(nodes))
            operator.wait_for_connections()
            operator.transition(source.name, Transition.TRANSITION_CONFIGURE, "be configured")
            yield EpisodeRunner(operator, setup, source)
        finally:
            operator.close()


@contextlib.contextmanager
def _own_node(domain: int) -> Iterator[None]:
    """Let this process have nodes in ``domain``; the middleware reads the environment when it begins."""
    before = dict(os.environ)
    os.environ.update(environment(domain))
    try:
        rclpy.init()
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield
    finally:
        rclpy.try_shutdown()


def _services(nodes: tuple[NodeProcess, ...]) -> dict[str, Any]:
    own = {"sim_robot": ["reset"], "executor": ["activate", "deactivate"], "recorder": ["start", "success", "failure"]}
    services: dict[str, Any] = {}
    for node in nodes:
        services |= {f"{node.name}/{name}": Trigger for name in own.get(node.name, [])}
        services[f"{node.name}/set_parameters"] = SetParameters
        services[f"{node.name}/{SERVICE}"] = Trigger
        if node.lifecycle:
            services[f"{node.name}/change_state"] = ChangeState
    return services
