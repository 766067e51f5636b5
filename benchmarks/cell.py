"""The robot on which faults are made, running: each of its processes can be stopped, killed and started again by itself."""

import bisect
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from benchmarks.cell_processes import CellSetup, processes
from benchmarks.keys import Keys
from benchmarks.stopping import is_brake
from benchmarks.wire import Wire, commands_of, timed_points, wait_until
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.trajectory_stream import TimedPoints
from robot_stack.ros import topics
from robot_stack.ros.episode_runner import own_nodes
from robot_stack.ros.processes import Processes, log_tail, reserved_domain

MOVING, JOGGED = 0.2, 0.02  # rad/s that a joint is commanded where the arm moves, by a policy and by keys
STEADY_S = 0.5  # for which it has to have moved before a fault
BACK_S = 60.0  # longest time until a process that was killed works again
HEAD = 12  # bytes of a picture's message that hold its stamp


class Cell:
    """A running cell; see the module. Made by ``running_cell``."""

    def __init__(self, setup: CellSetup, children: Processes, wire: Wire, spec: RobotSpec, keys: Keys | None) -> None:
        self.setup, self.children, self.wire, self.spec, self.keys = setup, children, wire, spec, keys
        self.arm_topic = spec.commands[0].topic
        self._stopped: set[str] = set()
        self._publishers: dict[str, Any] = {}
        wire.listen(self.arm_topic, JointTrajectory)
        for topic, message in {
            topics.JOINT_STATES: JointState,
            spec.tools[0].pose_topic: PoseStamped,
            topics.SENT_ACTION: JointTrajectory,
            topics.ACTION_CHUNK: JointTrajectory,
            topics.HEARTBEAT: Header,
        }.items():
            wire.listen(topic, message)
        for camera in spec.camera_names:
            wire.listen(topics.image_raw(camera), Image, head=HEAD)

    # Faults

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a real signal to one of the processes; when [ns]."""
        now_ns = time.time_ns()
        if number == signal.SIGKILL:
            self.children.kill(name)
        else:
            os.kill(self.children.pids[name], number)
        if number == signal.SIGSTOP:
            self._stopped.add(name)
        return now_ns

    def thaw(self, name: str) -> None:
        """Let a stopped process go on."""
        os.kill(self.children.pids[name], signal.SIGCONT)
        self._stopped.discard(name)

    def spoil(self, relay: str, fault: str) -> int:
        """Begin a fault of a stream ("healthy": end it); when [ns]."""
        return int(self._trigger(f"{relay}/{fault}"))

    def say(self, topic: str, message: Any) -> int:
        """Publish something of our own; when [ns]."""
        if topic not in self._publishers:
            self._publishers[topic] = self.wire.publisher(topic, type(message))
        now_ns = time.time_ns()
        self._publishers[topic].publish(message)
        return now_ns

    # Life

    def restart(self, name: str) -> float:
        """Start a process again that was killed; whoever has to be told that it shall work is told. How long that took [s]."""
        begin = time.monotonic()
        self._stopped.discard(name)
        self.children.restart(name)
        if name == "teleop":
            self.activate_lifecycle(name)
        elif name == "executor":
            self.activate()
        elif name == "sim_arm":
            self.wire.clear()
            wait_until(lambda: self.wire.count(topics.JOINT_STATES), "the simulated arm", BACK_S)
            self.activate()  # it stands somewhere else now
        return time.monotonic() - begin

    def activate(self) -> None:
        """Have the executor command the arm."""
        activate(self.wire)

    def activate_lifecycle(self, name: str) -> None:
        """Configure and activate a lifecycle node, whatever of its answers was lost.

        Raises:
            ProphRLError: it does not become active.
        """
        end = time.monotonic() + BACK_S
        following = {
            State.PRIMARY_STATE_UNCONFIGURED: Transition.TRANSITION_CONFIGURE,
            State.PRIMARY_STATE_INACTIVE: Transition.TRANSITION_ACTIVATE,
        }
        while True:
            state = self.wire.ask(f"{name}/get_state", GetState, GetState.Request())
            if state is not None and state.current_state.id == State.PRIMARY_STATE_ACTIVE:
                return
            if time.monotonic() > end:
                raise ProphRLError(f"{name} does not become active. Its last output:\n{log_tail(self.children.log(name))}")
            if state is not None and state.current_state.id in following:  # a transition that is out of place ends a node
                request = ChangeState.Request(transition=Transition(id=following[state.current_state.id]))
                self.wire.ask(f"{name}/change_state", ChangeState, request, timeout_s=10.0)

    def wait_for_motion(self) -> None:
        """Wait until the arm has been commanded to move for a while, without a pause.

        Raises:
            ProphRLError, NodeDiedError: it does not.
        """
        begin = time.monotonic()
        steady = begin
        while time.monotonic() - steady < STEADY_S:
            self.children.check()
            if time.monotonic() - begin > BACK_S:
                logs = "".join(f"\n{name}:\n{log_tail(self.children.log(name))}" for name in self.children.pids)
                raise ProphRLError(f"the arm does not move. Last output:{logs}")
            count = self.wire.count(self.arm_topic)
            time.sleep(0.05)
            if self.wire.count(self.arm_topic) == count or not self.moves:
                steady = time.monotonic()

    def wait_for_rest(self, seconds: float, still_s: float = 0.4) -> bool:
        """Wait until the arm has been told to stand (or nothing) for ``still_s``; False where it was not within ``seconds``."""
        end = time.monotonic() + seconds
        steady = time.monotonic()
        while time.monotonic() - steady < still_s:
            if time.monotonic() > end:
                return False
            count = self.wire.count(self.arm_topic)
            time.sleep(0.02)
            if self.wire.count(self.arm_topic) > count and self.commanded_speed() > 1e-6:
                steady = time.monotonic()
        return True

    @property
    def moves(self) -> bool:
        """Whether the last command asks for motion such as the source wants."""
        return self.commanded_speed() > (MOVING if self.keys is None else JOGGED)

    def commanded_speed(self) -> float:
        """Of the fastest joint, by the last command [rad/s]."""
        if not self.wire.count(self.arm_topic):
            return 0.0
        return float(np.abs(self.wire.last(self.arm_topic).points[-2].velocities).max())

    def joints(self) -> Any:
        """What the arm has measured last: positions and velocities [J]."""
        message = self.wire.last(topics.JOINT_STATES)
        count = len(self.spec.joint_names)
        return np.array(message.position[:count]), np.array(message.velocity[:count])

    def moving_commands(self) -> list[tuple[int, int]]:
        """When commands were sent that did not brake, and the ticks that they belong to [ns]."""
        commands = commands_of(self.wire, self.arm_topic)
        pairs = zip(commands.velocities, commands.velocities[1:], commands.sent_ns[1:], strict=False)
        moving = [sent_ns for before, after, sent_ns in pairs if not is_brake(before, after)]
        ticks = self._ticks(moving)
        return [(sent_ns, ticks[sent_ns]) for sent_ns in moving if sent_ns in ticks]

    def trajectories(self) -> list[tuple[int, TimedPoints]]:
        """Tick and trajectory of each command to the arm."""
        heard = self.wire.heard(self.arm_topic)
        ticks = self._ticks([sent.sent_ns for sent in heard])
        return [(ticks[s.sent_ns], timed_points(self.wire.read(self.arm_topic, s))) for s in heard if s.sent_ns in ticks]

    def _ticks(self, sent_ns: Sequence[int]) -> dict[int, int]:
        """Tick of each command to the arm, by when it was sent; those are left out before which no tick was heard."""
        told = self.wire.stamps(topics.SENT_ACTION)  # each just before the command to the arm
        before = {at_ns: bisect.bisect_right(told, (at_ns, sys.maxsize)) - 1 for at_ns in sent_ns}
        return {at_ns: told[k][1] for at_ns, k in before.items() if k >= 0}

    def close(self) -> None:
        for name in list(self._stopped):
            self.thaw(name)

    def _trigger(self, service: str) -> str:
        response = self.wire.ask(service, Trigger, Trigger.Request(), timeout_s=20.0)
        if response is None or not response.success:
            raise ProphRLError(f"{service}: {'no answer' if response is None else response.message}")
        return str(response.message)


@contextlib.contextmanager
def running_cell(setup: CellSetup) -> Iterator[Cell]:
    """A cell whose arm follows its source (a keyboard: nobody presses a key yet); it ends with the context."""
    nodes = processes(setup)
    keys = Keys() if setup.source == "keyboard" else None
    terminal = None if keys is None else keys.theirs
    with (
        reserved_domain() as domain,
        own_nodes(domain),
        Processes(nodes, domain, setup.folder / "logs", terminal) as children,
    ):
        wire = Wire()
        cell = Cell(setup, children, wire, RobotSpec.load(setup.folder / "cell.yaml"), keys)
        try:
            needed = [topics.JOINT_STATES, cell.spec.tools[0].pose_topic, *map(topics.image_raw, cell.spec.camera_names)]
            wait_until(lambda: _all_heard(children, wire, needed), "the streams of the robot", 90.0)
            if setup.source == "keyboard":
                cell.activate_lifecycle("teleop")
            cell.activate()
            yield cell
        finally:
            cell.close()
            wire.close()
            if keys is not None:
                keys.close()


def activate(wire: Wire) -> None:
    """Have the executor command the arm.

    Raises:
        ProphRLError: it refuses for longer than a dead executor is remembered.
    """
    end, refusal = time.monotonic() + BACK_S, "no answer"
    while time.monotonic() < end:
        response = wire.ask("executor/activate", Trigger, Trigger.Request())
        if response is not None and response.success:
            return
        refusal = refusal if response is None else response.message
        time.sleep(0.2)
    raise ProphRLError(f"the executor was not to be activated: {refusal}")


def _all_heard(children: Processes, wire: Wire, needed: Sequence[str]) -> bool:
    children.check()
    return all(map(wire.count, needed))
