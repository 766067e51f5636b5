"""Runs episodes on a simulated robot: starts its processes, then resets, activates, records, waits and labels, seed after seed.

One episode: recorder ``~/start``, source active, robot ``~/reset``, executor ``~/activate``; the robot counts the ticks itself
and says on ``evaluation/success`` once a tick, and once more at the end, whether the task has been done; then all in reverse.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from robot_stack.bringup import NodeProcess, Robot, Setup, environment, processes
from robot_stack.core.errors import ProphRLError
from robot_stack.ros.connections import SERVICE
from robot_stack.ros.processes import Processes, reserved_domain, shared_domain
from robot_stack.ros.robot_operator import Operator, Progress


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


class EpisodeRunner:
    """Episodes on a robot that is up; see ``running_robot``."""

    def __init__(self, operator: Operator, setup: Setup, sources: Sequence[str]) -> None:
        self._operator = operator
        self._setup = setup
        self._sources = sources

    def run(
        self, seed: int, record: dict[str, Any] | None = None, on_tick: Callable[[], None] = lambda: None
    ) -> EpisodeOutcome:
        """One episode from start ``seed``.

        Args:
            seed: of the simulator, and of the source's random numbers.
            record: parameters of the recorder (see ``RecorderSettings``), or None to record nothing.
            on_tick: called after each tick.

        Raises:
            ProphRLError: the robot was brought up with nobody to move it.
            NodeDiedError, NoAnswerError: a process ended or fell silent.
        """
        operator, source = self._operator, self.source
        if source is None:
            raise ProphRLError("an episode needs somebody who moves the arm")
        if record is not None:
            operator.set_parameters("recorder", seed=seed, **record)
            operator.trigger("recorder/start")
        operator.set_parameters("sim_robot", seed=seed)
        operator.set_parameters(source, seed=seed)
        operator.transition(source, Transition.TRANSITION_ACTIVATE, "be activated")
        operator.progress = Progress()
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
        """Let the source (and who may take over from it) move the arm until the context ends (real time)."""
        for source in self._sources:
            self._operator.transition(source, Transition.TRANSITION_ACTIVATE, "be activated")
        self._operator.trigger("executor/activate")

    @property
    def source(self) -> str | None:
        """Name of the node that moves the arm."""
        return self._sources[0] if self._sources else None

    @property
    def processes(self) -> Processes:
        return self._operator.children

    def trigger(self, service: str) -> str:
        """Call a ``std_srvs/Trigger`` service of one of the nodes ("executor/deactivate"); see ``Operator.trigger``."""
        return self._operator.trigger(service)


@contextlib.contextmanager
def running_robot(setup: Setup, log_dir: Path) -> Iterator[EpisodeRunner]:
    """The processes of ``setup``, ready for episodes; they end with the context.

    They have a ROS domain of their own, but for robots whose driver was started by somebody else.

    Raises:
        OccupiedDomainError: the ROS domain is in use.
        NodeDiedError, NoAnswerError: a process did not come up; its last output is in the message.
    """
    nodes = processes(setup)
    sources = [node.name for node in nodes if node.lifecycle]
    elsewhere = Robot.of(setup).driver.elsewhere
    own_or_shared = contextlib.nullcontext(shared_domain()) if elsewhere else reserved_domain()
    with own_or_shared as domain, Processes(nodes, domain, log_dir) as children, own_nodes(domain):
        operator = Operator(children)
        try:
            operator.wait_for_services(_services(nodes))
            operator.wait_for_connections()
            for source in sources:
                operator.transition(source, Transition.TRANSITION_CONFIGURE, "be configured")
            yield EpisodeRunner(operator, setup, sources)
        finally:
            operator.close()


@contextlib.contextmanager
def own_nodes(domain: int) -> Iterator[None]:
    """Let this process have nodes in ``domain``; the middleware reads the environment when it begins."""
    before = dict(os.environ)
    os.environ.update(environment(domain))
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # its own would end the context before the children
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
