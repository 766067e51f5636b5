"""Which processes a robot needs, as data: used by ``launch/``, by ``prophrl up`` and by the episode runner. Imports no ROS."""

import enum
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot_stack.core.cell import CameraDriver, Cell, CellCamera
from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import config_dir, robot_file

SEGMENT_BYTES = 32 << 20  # of shared memory for each process, as in config/dds/fastdds.xml
PROCESSES = 8  # robot, executor, source, recorder, operator, and a few tools to look on
CELL_VARIABLE = "PROPHRL_CELL"


@dataclass(frozen=True)
class Setup:
    """What to bring up.

    Attributes:
        robot: name of the robot file, or a path to one.
        cell: path of the cell file; "": that of the environment variable PROPHRL_CELL, where a robot needs one.
        source: who moves the arm: "policy", "behaviour" (scripted, sim_metaworld only), a device of ``PERSONS``, or "nobody":
            chunks come from elsewhere, or the robot is only looked at.
        policy, exploration: for source "policy": "onnx:<folder>", and the noise level with which it acts.
        behaviour, noise: for source "behaviour", see ``drivers.behaviours``.
        leader: for source "lerobot": device file of a teleoperator, a name in config/lerobot or a path.
        deadman: for source "lerobot": who holds one, see ``ros.teleop_devices``.
        task: of a simulated robot; of a real one, its name in the episodes.
        lock_step: simulated robots: time advances with the commands, as fast as the machine can.
        horizon: ticks of an episode in lock-step; 0: no end.
        stop_at_success: end an episode in lock-step at its first success.
        record: start the recorder, too.
        folder: where it writes.
    """

    robot: str = "sim_metaworld"
    cell: str = ""
    source: str = "policy"
    policy: str = ""
    exploration: float = 0.0
    behaviour: str = "expert"
    noise: float = 1.0
    leader: str = ""
    deadman: str = "keyboard"
    task: str = "button-press-topdown-v3"
    lock_step: bool = False
    horizon: int = 0
    stop_at_success: bool = False
    record: bool = False
    folder: str = "episodes"


class Stops(enum.IntEnum):
    """When a process is stopped: whoever wants to move the arm first, then the executor, which brakes, then all others."""

    FIRST = 0
    SECOND = 1
    LAST = 2


@dataclass(frozen=True)
class NodeProcess:
    """One process with one node.

    Attributes:
        name: of the node.
        module: its module, run with ``python -m``; its last part is the name of the executable for ``ros2 run``.
        parameters: on top of ``config/ros/<parameter_set>.yaml``.
        terminal: whether it reads the terminal.
        lifecycle: whether it has to be configured and activated.
        parameter_set: where several nodes share a file; "": the node's name.
        stops: see ``Stops``.
    """

    name: str
    module: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    terminal: bool = False
    lifecycle: bool = False
    parameter_set: str = ""
    stops: Stops = Stops.LAST

    @property
    def executable(self) -> str:
        return self.module.rsplit(".", maxsplit=1)[-1]

    @property
    def parameter_file(self) -> Path:
        return config_dir() / "ros" / f"{self.parameter_set or self.name}.yaml"

    def command(self) -> list[str]:
        """Argument list that starts it without launch."""
        given = [f"{name}:={json.dumps(value)}" for name, value in self.parameters.items()]
        arguments = [part for item in given for part in ("-p", item)]
        if self.parameter_set:
            arguments += ["-r", f"__node:={self.name}"]
        return [sys.executable, "-m", self.module, "--ros-args", "--params-file", str(self.parameter_file), *arguments]


def sim_metaworld(setup: Setup, _: Cell | None) -> tuple[NodeProcess, ...]:
    """The embedded robot."""
    episode = {"task": setup.task, "horizon": setup.horizon, "stop_at_success": setup.stop_at_success}
    parameters = {"robot": setup.robot, "lock_step": setup.lock_step, **episode}
    return (NodeProcess("sim_robot", "robot_stack.ros.sim_robot_node", parameters),)


def sim_arm(setup: Setup, _: Cell | None) -> tuple[NodeProcess, ...]:
    """The simulated joint-level arm."""
    return (NodeProcess("sim_arm", "robot_stack.ros.sim_arm_node", {"robot": setup.robot}),)


def lerobot_robot(setup: Setup, cell: Cell | None) -> tuple[NodeProcess, ...]:
    """Any robot of LeRobot, by the device file that the cell names; its process brings torch."""
    assert cell is not None, "a real robot has a cell"
    parameters = {"robot": setup.robot, "device": cell.arm.device}
    return (NodeProcess("lerobot_robot", "robot_stack.ros.lerobot_robot_node", parameters),)


def external(_setup: Setup, _cell: Cell | None) -> tuple[NodeProcess, ...]:
    """An arm whose own ROS driver runs already (ur_robot_driver, franka_ros2): nothing of ours."""
    return ()


@dataclass(frozen=True)
class ArmDriver:
    """How an arm is driven, and what of the robot's topics that brings.

    Attributes:
        nodes: makes the processes, from the setup and the cell (None: a simulated robot).
        simulated: needs no cell; chosen by the robot's name.
        lock_step: whether it can wait for commands.
        brings_cameras: it publishes the robot's cameras.
        tells_pose: it publishes ``ee_pose``, whatever the cell says.
        tells_target: it publishes ``target_in_force``.
        elsewhere: it was started by somebody else, in the domain of the shell.
    """

    nodes: Callable[[Setup, Cell | None], tuple[NodeProcess, ...]]
    simulated: bool = False
    lock_step: bool = False
    brings_cameras: bool = False
    tells_pose: bool = False
    tells_target: bool = False
    elsewhere: bool = False


_SIMULATED = {"simulated": True, "brings_cameras": True, "tells_pose": True, "tells_target": True}
DRIVERS: Mapping[str, ArmDriver] = {
    "sim_metaworld": ArmDriver(sim_metaworld, lock_step=True, **_SIMULATED),
    "sim_arm": ArmDriver(sim_arm, **_SIMULATED),
    "sim_arm_pose": ArmDriver(sim_arm, **_SIMULATED),
    "sim_two_arms": ArmDriver(sim_arm, **_SIMULATED),
    "lerobot": ArmDriver(lerobot_robot, tells_pose=True, tells_target=True),
    "external": ArmDriver(external, elsewhere=True),
}
LIVE_DEPTH = (
    5  # messages of a stream that wait for a node in real time: whoever is late wants the youngest, not a queue of old ones
)
PERSONS = ("keyboard", "gamepad", "lerobot")  # devices by which a person moves the arm
SOURCES = ("policy", "behaviour", *PERSONS, "nobody")


@dataclass(frozen=True)
class Robot:
    """A robot that is to be brought up: its type, its driver, and its cell where it has one.

    Raises (``of``):
        UnknownNameError, BadFileError: no such robot or driver; the files are bad.
        ProphRLError: a real robot without a cell, or a cell that does not fit its driver.
    """

    spec: RobotSpec
    driver: ArmDriver
    cell: Cell | None

    @classmethod
    def of(cls, setup: Setup) -> "Robot":
        """What ``setup`` names."""
        spec = RobotSpec.load(robot_file(setup.robot))
        own = DRIVERS.get(spec.name)
        if not setup.cell and own is not None and own.simulated:
            return cls(spec, own, None)
        path = setup.cell or os.environ.get(CELL_VARIABLE, "")
        if not path:
            raise ProphRLError(
                f"robot {spec.name} is a real one: name its cell by --cell FILE, cell:=FILE or {CELL_VARIABLE}; "
                "config/cell/example.yaml shows what one says"
            )
        cell = Cell.load(path, spec)
        if cell.arm.driver not in DRIVERS:
            raise UnknownNameError(f"driver of the arm in {path}", cell.arm.driver, DRIVERS)
        driver = DRIVERS[cell.arm.driver]
        if cell.cameras and driver.brings_cameras:
            raise ProphRLError(f"{path}: driver {cell.arm.driver} brings its own cameras; leave out the entry cameras")
        if not cell.cameras and not driver.brings_cameras:
            raise ProphRLError(f"{path}: cameras are missing; robot {spec.name} has {', '.join(spec.camera_names)}")
        return cls(spec, driver, cell)


def processes(setup: Setup) -> tuple[NodeProcess, ...]:
    """The processes for ``setup``: the robot and its cameras first, then the executor, the source, the recorder.

    Raises:
        UnknownNameError: no such robot or source.
        BadFileError: the robot's or the cell's file is bad.
        ProphRLError: the setup contradicts itself.
    """
    robot = Robot.of(setup)
    name = robot.spec.name
    if setup.source not in SOURCES:
        raise UnknownNameError("source of actions", setup.source, SOURCES)
    if setup.lock_step and not robot.driver.lock_step:
        raise ProphRLError(f"robot {name} runs in real time: its controller follows a clock that cannot wait")
    if setup.source == "behaviour" and name != "sim_metaworld":
        raise ProphRLError(
            f"scripted behaviours are those of robot sim_metaworld; robot {name} follows a policy or a person "
            f"({', '.join(PERSONS)})"
        )
    if setup.source == "policy" and not setup.policy:
        raise ProphRLError("source 'policy' needs a policy: give the folder of an exported one")
    if setup.source in PERSONS and setup.lock_step:
        raise ProphRLError(f"a person ({setup.source}) needs real time and cannot drive in lock-step")
    if setup.source == "lerobot" and not setup.leader:
        raise ProphRLError("source 'lerobot' needs a leader: give a device file in config/lerobot, or a path to one")
    shared = {"robot": setup.robot, "lock_step": setup.lock_step, "use_sim_time": setup.lock_step}
    live = {} if setup.lock_step else {"sensor_depth": LIVE_DEPTH}
    followed = {"source": "policy" if setup.source in ("policy", "nobody") else "teleop"}
    told = {"target_in_force": robot.driver.tells_target}
    executor = NodeProcess(
        "executor", "robot_stack.ros.executor_node", {**shared, **live, **followed, **told}, stops=Stops.SECOND
    )
    recorder = NodeProcess("recorder", "robot_stack.ros.recorder_node", {**shared, "folder": setup.folder, "task": setup.task})
    source = _source(setup, shared, live)
    return (*_devices(setup, robot), executor, *source, *([recorder] if setup.record else []))


def default_source(robot: str, policy: str) -> str:
    """Who moves a robot for whom nobody has said it: the policy that was given, the embedded robot's script, or nobody."""
    return "policy" if policy else "behaviour" if robot == "sim_metaworld" else "nobody"


def default_task(robot: str) -> str:
    """The task of a robot for whom nobody has said it: only the embedded one is about one."""
    return Setup.task if robot == "sim_metaworld" else ""


def _devices(setup: Setup, robot: Robot) -> tuple[NodeProcess, ...]:
    """The arm's driver, the cameras, and the kinematics where nobody else says where the tool is."""
    nodes = list(robot.driver.nodes(setup, robot.cell))
    if robot.cell is None:
        return tuple(nodes)
    nodes += [_camera(setup, camera) for camera in robot.cell.cameras if camera.driver is not CameraDriver.EXTERNAL]
    if not (robot.driver.tells_pose or robot.cell.arm.tells_pose):
        nodes.append(NodeProcess("kinematics", "robot_stack.ros.kinematics_node", {"robot": setup.robot}))
    return tuple(nodes)


def _camera(setup: Setup, camera: CellCamera) -> NodeProcess:
    parameters: dict[str, Any] = {"robot": setup.robot, "camera": camera.name, "driver": camera.driver.value}
    parameters |= {"device": camera.device, "latency_ms": camera.latency_ms, "fourcc": camera.fourcc, "resize": camera.resize}
    if camera.capture is not None:
        parameters |= dict(zip(("capture_width", "capture_height"), camera.capture, strict=True))
    return NodeProcess(f"camera_{camera.name}", "robot_stack.ros.camera_node", parameters, parameter_set="camera")


def _source(setup: Setup, shared: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[NodeProcess, ...]:
    if setup.source == "nobody":
        return ()
    if setup.source == "policy":
        module, parameters = "robot_stack.ros.policy_node", {**shared, **live, "policy": setup.policy}
        parameters["exploration"] = float(setup.exploration)
        return (NodeProcess("policy", module, parameters, lifecycle=True, stops=Stops.FIRST),)
    parameters = {**shared, "device": setup.source, "task": setup.task}
    if setup.source == "behaviour":
        parameters |= {"behaviour": setup.behaviour, "noise": float(setup.noise)}
    if setup.source == "lerobot":
        parameters |= {"lerobot": setup.leader, "deadman": setup.deadman}
    terminal = "keyboard" in (setup.source, setup.deadman if setup.source == "lerobot" else "")
    module = "robot_stack.ros.teleop_node"
    return (NodeProcess("teleop", module, parameters, terminal=terminal, lifecycle=True, stops=Stops.FIRST),)


def environment(domain: int) -> dict[str, str]:
    """Environment variables of every process of one robot: this machine only, a domain of its own, enough shared memory.

    Other machines take part where ROS_STATIC_PEERS names them.
    """
    settings = {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),  # processes share the cores already
    }
    shared_memory = Path("/dev/shm")
    if shared_memory.is_dir() and shutil.disk_usage(shared_memory).free > PROCESSES * SEGMENT_BYTES:
        settings["FASTDDS_DEFAULT_PROFILES_FILE"] = str(config_dir() / "dds" / "fastdds.xml")
    return settings
