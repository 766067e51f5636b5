"""The processes of the robot on which faults are made.

sim_arm, the executor, one camera node for each camera (playing films), and a policy with known delays (or a keyboard). Joint
states, tool poses and the pictures of the first camera pass through relays that can spoil them. The simulated arm draws no
pictures of its own that anybody hears, as that would only load the machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.film import moving_texture, with_number, write_film
from benchmarks.relay import UPSTREAM
from benchmarks.scripted_policy import Script
from robot_stack.bringup import LIVE_DEPTH, NodeProcess
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import robot_file
from robot_stack.ros import topics

ROS = "robot_stack.ros"
DISK, DISK_MIB, EPISODES = "disk", 260, "recorded"
RATE_HZ = 30.0
REFILL = 8  # actions that still wait when a chunk is asked for, so many are executed while the policy infers


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


def camera_process(
    robot: Path, camera: str, film: Path, upstream: Mapping[str, str], name: str = "", realtime_priority: int = 0
) -> BenchmarkProcess:
    """The node that plays a film as one camera."""
    parameters: dict[str, Any] = {"robot": str(robot), "camera": camera, "driver": "file", "device": str(film)}
    parameters["realtime_priority"] = realtime_priority
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
