"""The robot on which faults are made: its real processes, each of which can be stopped, killed and started again by itself.

sim_arm, the executor, one camera node for each camera (playing films), and a policy with known delays (or a keyboard). Joint
states, tool poses and the pictures of the first camera pass through relays that can spoil them. The simulated arm draws no
pictures of its own that anybody hears, as that would only load the machine.
"""

import bisect
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import yaml
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from benchmarks.film import moving_texture, with_number, write_film
from benchmarks.relay import UPSTREAM
from benchmarks.scripted_policy import Script
from benchmarks.stopping import is_brake
from benchmarks.wire import Wire, commands_of, wait_until
from robot_stack.bringup import LIVE_DEPTH, NodeProcess, environment
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import robot_file
from robot_stack.ros import topics
from robot_stack.ros.processes import Processes, log_tail, reserved_domain

ROS = "robot_stack.ros"
DISK, DISK_MIB, EPISODES = "disk", 260, "recorded"
RATE_HZ = 30.0
REFILL = 8  # actions that still wait when a chunk is asked for, so many are executed while the policy infers
MOVING, JOGGED = 0.2, 0.02  # rad/s that a joint is commanded where the arm moves, by a policy and by keys
REPEAT_S = 0.04  # between two repetitions of a key that is held
STEADY_S = 0.5  # for which it has to have moved before a fault
BACK_S = 60.0  # longest time until a process that was killed works again
HEAD = 12  # bytes of a picture's message that hold its stamp


@dataclass(frozen=True)
class BenchmarkProcess(NodeProcess):
    """A node under another name and with other topics.

    Attributes:
        file: name of its parameter file in config/ros; empty: none.
        remaps: its own topic -> the one that is wanted.
        disk: folder on which a small disk of memory is laid that only this process sees (Linux user namespaces); None: none.
    """

    file: str = ""
    remaps: Mapping[str, str] = field(default_factory=dict)
    disk: Path | None = None

    def command(self) -> list[str]:
        """See ``NodeProcess``."""
        plain = NodeProcess(self.name, self.module, self.parameters).command()
        at = plain.index("--params-file")
        own = ["--params-file", str(self.parameter_file.with_name(f"{self.file}.yaml"))] if self.file else []
        names = {"__node": self.name, **self.remaps}
        command = [*plain[:at], *own, *plain[at + 2 :], *(p for a, b in names.items() for p in ("-r", f"{a}:={b}"))]
        if self.disk is None:
            return command
        return [
            "unshare",
            "-rm",
            "sh",
            "-c",
            f'mount -t tmpfs -o size={DISK_MIB}m none "$0" && exec "$@"',
            str(self.disk),
            *command,
        ]


@dataclass(frozen=True)
class CellSetup:
    """What to bring up.

    Attributes:
        folder: for films, robot files and logs.
        source: "policy" or "keyboard".
        script: of the policy.
        execution, policy: parameters of the executor, and further ones of the policy node.
        front: film of the first camera: "front", or "front-freezes", which stands still for two seconds of every six.
        relays: whether streams pass through processes that can spoil them.
        sim_time: all follow ``/clock``, which a process can let leap; the arm draws its own pictures then.
        recorder: folder of episodes, where a recorder runs, too.
        small_disk: it writes to a disk of its own, of ``DISK_MIB``, in the folder of that name.
    """

    folder: Path
    source: str = "policy"
    script: Script = field(default_factory=Script)
    execution: Mapping[str, Any] = field(default_factory=lambda: {"execution": "asynchronous", "refill": REFILL})
    policy: Mapping[str, Any] = field(default_factory=dict)
    front: str = "front"
    relays: bool = True
    sim_time: bool = False
    recorder: Path | None = None
    small_disk: bool = False


RELAYS = {"relay_joints": ("joint_states", "joints"), "relay_pose": ("ee_pose", "pose")}
PICTURES = "relay_front"  # of the first camera


def prepare(folder: Path) -> tuple[Path, Path]:
    """Write films and robot files; the robot file of the cell, and the one of the simulated arm alone."""
    spec = RobotSpec.load(robot_file("sim_arm"))
    raw = yaml.safe_load(robot_file("sim_arm").read_text(encoding="utf-8"))
    for seed, camera in enumerate(spec.cameras):
        plain = moving_texture(camera.width, camera.height, 300, seed)
        numbered = [with_number(picture, k) for k, picture in enumerate(plain)]
        write_film(folder / f"{camera.name}.avi", numbered, RATE_HZ)
        still = [*numbered[:120], *([numbered[119]] * 60)]
        write_film(folder / f"{camera.name}-freezes.avi", still, RATE_HZ)
    raw["cameras"][0]["sensor_noise"] = True  # so that its node judges whether it is frozen
    (folder / "cell.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    raw["cameras"] = [{"name": "front", "width": 16, "height": 16, "rate_hz": 1.0, "max_age_ms": 2000, "sensor_noise": False}]
    (folder / "arm.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return folder / "cell.yaml", folder / "arm.yaml"


def camera_process(robot: Path, camera: str, film: Path, upstream: Mapping[str, str], name: str = "") -> BenchmarkProcess:
    """The node that plays a film as one camera."""
    parameters = {"robot": str(robot), "camera": camera, "driver": "file", "device": str(film)}
    topic = topics.image_raw(camera)
    remaps = {topic: upstream[topic]} if topic in upstream else {}
    name = name or f"camera_{camera}"
    return BenchmarkProcess(name, f"{ROS}.camera_node", parameters, file="camera", remaps=remaps)


def processes(setup: CellSetup) -> tuple[NodeProcess, ...]:
    """The processes of a cell: the arm, what spoils its streams, the cameras, the executor, its source, the recorder."""
    robot, arm = prepare(setup.folder)
    spec = RobotSpec.load(robot)
    shared = {"robot": str(robot), "lock_step": False, "use_sim_time": setup.sim_time}
    live = {**shared, "sensor_depth": LIVE_DEPTH}
    nodes = _arm(setup, spec, arm)
    followed = {"source": "teleop" if setup.source == "keyboard" else "policy"}
    nodes.append(BenchmarkProcess("executor", f"{ROS}.executor_node", {**live, **followed, **setup.execution}, file="executor"))
    if setup.source == "policy":
        policy = {**live, "policy": str(setup.script), **setup.policy}
        nodes.append(BenchmarkProcess("policy", "benchmarks.scripted_policy", policy, file="policy"))
    else:
        keyboard = {**shared, "device": "keyboard"}
        nodes.append(BenchmarkProcess("teleop", f"{ROS}.teleop_node", keyboard, file="teleop", terminal=True))
    if setup.recorder is not None:
        disk = setup.folder.resolve() / DISK if setup.small_disk else None
        if disk is not None:
            disk.mkdir(parents=True, exist_ok=True)
        recorder = {**shared, "folder": str(setup.recorder if disk is None else disk / EPISODES)}
        nodes.append(BenchmarkProcess("recorder", f"{ROS}.recorder_node", recorder, file="recorder", disk=disk))
    return tuple(nodes)


def _arm(setup: CellSetup, spec: RobotSpec, arm: Path) -> list[NodeProcess]:
    """The arm and its cameras, with relays where they are wanted."""
    if setup.sim_time:
        own = {"robot": str(robot_file("sim_arm")), "use_sim_time": True}
        clock = BenchmarkProcess("clock", "benchmarks.leaping_clock")
        return [clock, BenchmarkProcess("sim_arm", f"{ROS}.sim_arm_node", own, file="sim_arm")]
    relays = {**RELAYS, PICTURES: (topics.image_raw(spec.cameras[0].name), "picture")} if setup.relays else {}
    upstream = {topic: f"{UPSTREAM}/{topic}" for topic, _ in relays.values()}
    hidden = {topics.image_raw("front"): "unheard/image", topics.camera_info("front"): "unheard/info"}
    remaps = {**upstream, **hidden}
    nodes: list[NodeProcess] = [
        BenchmarkProcess("sim_arm", f"{ROS}.sim_arm_node", {"robot": str(arm)}, file="sim_arm", remaps=remaps)
    ]
    nodes += [BenchmarkProcess(name, "benchmarks.relay", {"topic": t, "kind": k}) for name, (t, k) in relays.items()]
    nodes += [
        camera_process(setup.folder / "cell.yaml", camera.name, setup.folder / f"{film}.avi", upstream)
        for camera in spec.cameras
        for film in [setup.front if camera.name == "front" else camera.name]
    ]
    return nodes


class Cell:
    """A running cell; see the module. Made by ``running_cell``."""

    def __init__(self, setup: CellSetup, children: Processes, wire: Wire, spec: RobotSpec, keys: "Keys | None") -> None:
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
        told = self.wire.stamps(topics.SENT_ACTION)  # each just before the command to the arm
        at = [bisect.bisect_right(told, (sent_ns, sys.maxsize)) - 1 for sent_ns in moving]
        return [(sent_ns, told[k][1]) for sent_ns, k in zip(moving, at, strict=True) if k >= 0]

    def close(self) -> None:
        for name in list(self._stopped):
            self.thaw(name)

    def _trigger(self, service: str) -> str:
        response = self.wire.ask(service, Trigger, Trigger.Request(), timeout_s=20.0)
        if response is None or not response.success:
            raise ProphRLError(f"{service}: {'no answer' if response is None else response.message}")
        return str(response.message)


class Keys:
    """Somebody at the keyboard, through a pseudo-terminal, in a thread of its own."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()
        self._held = ""
        self._pressed_ns = 0
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._type, name="keys")
        self._thread.start()

    def hold(self, key: str) -> None:
        """From now on, as a terminal repeats it."""
        with self._lock:
            self._held = key

    def let_go(self) -> int:
        """When the key was seen last [ns]."""
        with self._lock:
            self._held = ""
            return self._pressed_ns

    def unplug(self) -> int:
        """The terminal is gone; when [ns]."""
        with self._lock:
            self._held = ""
            now_ns = time.time_ns()
            os.close(self.ours)
            return now_ns

    def plug_in(self) -> None:
        """A new terminal under the same descriptor; whoever read the old one has to be started again."""
        self.ours, theirs = os.openpty()
        os.dup2(theirs, self.theirs)
        os.close(theirs)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        for descriptor in (self.ours, self.theirs):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _type(self) -> None:
        while not self._ending.wait(REPEAT_S):
            with self._lock:
                if self._held:
                    os.write(self.ours, self._held.encode())
                    self._pressed_ns = time.time_ns()


@contextlib.contextmanager
def running_cell(setup: CellSetup) -> Iterator[Cell]:
    """A cell whose arm follows its source (a keyboard: nobody presses a key yet); it ends with the context."""
    nodes = processes(setup)
    keys = Keys() if setup.source == "keyboard" else None
    terminal = None if keys is None else keys.theirs
    with (
        reserved_domain() as domain,
        in_domain(domain),
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


@contextlib.contextmanager
def in_domain(domain: int) -> Iterator[None]:
    """Nodes of this process in ``domain``."""
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
