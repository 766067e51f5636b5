"""Which processes a robot needs, as data: used by ``launch/``, by ``prophrl up`` and by the episode runner. Imports no ROS."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robot_stack import middleware
from robot_stack.arm_drivers import DRIVERS, ArmDriver
from robot_stack.core.cell import CameraDriver, Cell, CellCamera
from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import robot_file
from robot_stack.robot_setup import NodeProcess, Setup, Stops
from robot_stack.ros.policies import address_of

CELL_VARIABLE = "PROPHRL_CELL"
DOMAIN_VARIABLE = "ROS_DOMAIN_ID"
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
    if setup.instruction and robot.cell is None:
        raise ProphRLError(f"robot {name} is simulated and tells its instruction itself; choose its task instead")
    if setup.source in PERSONS and setup.lock_step:
        raise ProphRLError(f"a person ({setup.source}) needs real time and cannot drive in lock-step")
    if setup.takeover and (setup.source != "policy" or setup.lock_step):
        raise ProphRLError("a person can take over from a policy in real time only: takeover needs source 'policy'")
    if setup.takeover and setup.takeover not in PERSONS:
        raise UnknownNameError("device of a person who takes over", setup.takeover, PERSONS)
    if "lerobot" in (setup.source, setup.takeover) and not setup.leader:
        raise ProphRLError("device 'lerobot' needs a leader: give a device file in config/lerobot, or a path to one")
    shared = {"robot": setup.robot, "lock_step": setup.lock_step, "use_sim_time": setup.lock_step}
    live = {} if setup.lock_step else {"sensor_depth": LIVE_DEPTH}
    followed = {"source": "policy" if setup.source in ("policy", "nobody") else "teleop"}
    told = {"target_in_force": robot.driver.tells_target, "takeover": bool(setup.takeover)}
    executor = NodeProcess(
        "executor", "robot_stack.ros.executor_node", {**shared, **live, **followed, **told}, stops=Stops.SECOND
    )
    highest = executor.all_parameters["realtime_priority"] - 1
    if not 0 <= setup.realtime_priority <= max(highest, 0):
        raise ProphRLError(
            f"real-time priority {setup.realtime_priority} of cameras and policy: expected 0 (none) to {highest}, "
            "less than the executor's (config/ros/executor.yaml)"
        )
    logged = {**shared, "folder": setup.folder, "task": setup.task}
    if robot.cell is not None:
        logged["cell"] = str(robot.cell.source.resolve())
    recorder = NodeProcess("recorder", "robot_stack.ros.recorder_node", logged)
    source = _source(setup, shared, live)
    return (*_devices(setup, robot), executor, *source, *([recorder] if setup.record else []))


def default_source(robot: str, policy: str) -> str:
    """Who moves a robot for whom nobody has said it: the policy that was given, the embedded robot's script, or nobody."""
    return "policy" if policy else "behaviour" if _is_embedded(robot) else "nobody"


def default_task(robot: str) -> str:
    """The task of a robot for whom nobody has said it: only the embedded one is about one."""
    return Setup.task if _is_embedded(robot) else ""


def _is_embedded(robot: str) -> bool:
    return RobotSpec.load(robot_file(robot)).name == "sim_metaworld"


def _devices(setup: Setup, robot: Robot) -> tuple[NodeProcess, ...]:
    """The arm's driver, the cameras, and what nobody else tells: where the tool is, and what is to be done."""
    nodes = list(robot.driver.nodes(setup, robot.cell))
    if robot.cell is None:
        return tuple(nodes)
    nodes += [_camera(setup, camera) for camera in robot.cell.cameras if camera.driver is not CameraDriver.EXTERNAL]
    if not (robot.driver.tells_pose or robot.cell.arm.tells_pose):
        nodes.append(NodeProcess("kinematics", "robot_stack.ros.kinematics_node", {"robot": setup.robot}))
    if setup.instruction:
        nodes.append(NodeProcess("task", "robot_stack.ros.task_node", {"instruction": setup.instruction}))
    return tuple(nodes)


def _camera(setup: Setup, camera: CellCamera) -> NodeProcess:
    parameters: dict[str, Any] = {"robot": setup.robot, "camera": camera.name, "driver": camera.driver.value}
    parameters |= {"device": camera.device, "latency_ms": camera.latency_ms, "fourcc": camera.fourcc, "resize": camera.resize}
    parameters |= _priority(setup)
    if camera.intrinsics is not None:
        parameters["intrinsics"] = str(camera.intrinsics.resolve())
    if camera.capture is not None:
        parameters |= dict(zip(("capture_width", "capture_height"), camera.capture, strict=True))
    return NodeProcess(f"camera_{camera.name}", "robot_stack.ros.camera_node", parameters, parameter_set="camera")


def _priority(setup: Setup) -> dict[str, Any]:
    return {"realtime_priority": setup.realtime_priority} if setup.realtime_priority else {}


def _source(setup: Setup, shared: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[NodeProcess, ...]:
    if setup.source == "nobody":
        return ()
    if setup.source == "policy":
        module, parameters = "robot_stack.ros.policy_node", {**shared, **live, "policy": setup.policy}
        parameters |= {"exploration": float(setup.exploration), **_priority(setup)}
        policy = NodeProcess("policy", module, parameters, lifecycle=True, stops=Stops.FIRST)
        return (policy, _teleop(setup, shared, setup.takeover)) if setup.takeover else (policy,)
    return (_teleop(setup, shared, setup.source),)


def _teleop(setup: Setup, shared: Mapping[str, Any], device: str) -> NodeProcess:
    parameters = {**shared, "device": device, "task": setup.task, "takeover": bool(setup.takeover)}
    if device == "behaviour":
        parameters |= {"behaviour": setup.behaviour, "noise": float(setup.noise)}
    if device == "lerobot":
        parameters |= {"lerobot": setup.leader, "deadman": setup.deadman}
    terminal = "keyboard" in (device, setup.deadman if device == "lerobot" else "")
    module = "robot_stack.ros.teleop_node"
    return NodeProcess("teleop", module, parameters, terminal=terminal, lifecycle=True, stops=Stops.FIRST)


def environment(domain: int) -> dict[str, str]:
    """Environment variables of every process of one robot: this machine only, and a domain of its own.

    Other machines take part where ROS_STATIC_PEERS names them; else nothing is heard beyond the loopback interface.

    Raises:
        ProphRLError: a peer has no address.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "1")  # processes share the cores already
    return {DOMAIN_VARIABLE: str(domain), "OMP_NUM_THREADS": threads, **middleware.settings(os.environ)}


@dataclass(frozen=True)
class LaunchArgument:
    """An argument of the launch files.

    Attributes:
        default: as text.
        description: for ``ros2 launch --show-args``.
    """

    default: str
    description: str


LAUNCH_ARGUMENTS: Mapping[str, LaunchArgument] = {
    "robot": LaunchArgument("sim_metaworld", "a robot file in config/robot, or a path to one"),
    "cell": LaunchArgument("", f"cell file of a real robot; empty: that of {CELL_VARIABLE}"),
    "source": LaunchArgument("", f"who moves the arm: {', '.join(SOURCES)}; empty: the policy given, a script, or nobody"),
    "policy": LaunchArgument("", "folder of an exported policy, or replay:<log of an episode>"),
    "takeover": LaunchArgument("", f"device by which a person may take over from the policy: {', '.join(PERSONS)}"),
    "leader": LaunchArgument("", "of device lerobot: a teleoperator's device file, a name in config/lerobot or a path"),
    "deadman": LaunchArgument("keyboard", "of device lerobot: who holds one: keyboard, gamepad, feature:<its own>"),
    "behaviour": LaunchArgument("expert", "of source behaviour: expert, careless, noisy or random"),
    "task": LaunchArgument("", "of the embedded robot; of another one, its name in the episodes"),
    "instruction": LaunchArgument("", "the task in words, for policies and logs of a real robot"),
    "realtime_priority": LaunchArgument(
        "0", "of cameras and policy, below the executor's 10, where inference leaves the processor free (GPU); 0: none"
    ),
    "record": LaunchArgument("true", "whether the recorder runs; its ~/start begins an episode"),
    "folder": LaunchArgument("episodes", "where it writes"),
    "autostart": LaunchArgument("true", "whether lifecycle nodes are configured"),
    "activate": LaunchArgument("false", "whether the arm may move at once: the source and the executor are activated"),
    "domain": LaunchArgument("", f"ROS domain; empty: {DOMAIN_VARIABLE} of the shell, else 0"),
    "namespace": LaunchArgument("", "of all nodes"),
    "log_level": LaunchArgument("info", "of all nodes"),
}


@dataclass(frozen=True)
class Launch:
    """What a launch file has to start.

    Attributes:
        nodes: the processes.
        variables: environment of all of them.
    """

    nodes: tuple[NodeProcess, ...]
    variables: Mapping[str, str]


def launched(given: Mapping[str, str]) -> Launch:
    """What launch arguments ask for.

    Args:
        given: value of each of ``LAUNCH_ARGUMENTS``.

    Raises:
        ProphRLError: see ``processes``; or an argument is neither true nor false, or no number.
    """
    robot, policy = given["robot"], given["policy"]
    setup = Setup(
        robot=robot,
        cell=given["cell"],
        source=given["source"] or default_source(robot, policy),
        policy=address_of(policy) if policy else "",
        takeover=given["takeover"],
        leader=given["leader"],
        deadman=given["deadman"],
        behaviour=given["behaviour"],
        task=given["task"] or default_task(robot),
        instruction=given["instruction"],
        realtime_priority=_number(given, "realtime_priority"),
        record=_flag(given, "record"),
        folder=given["folder"],
    )
    nodes, activate = processes(setup), _flag(given, "activate")
    sources = ",".join(node.name for node in nodes if node.lifecycle)
    if activate or (sources and _flag(given, "autostart")):
        parameters = {"sources": sources, "activate": activate}
        nodes = (*nodes, NodeProcess("starter", "robot_stack.ros.starter_node", parameters))
    domain = given["domain"] or os.environ.get(DOMAIN_VARIABLE, "0")
    if not domain.isdigit():
        raise ProphRLError(f"domain:={domain}: expected a number")
    return Launch(nodes, environment(int(domain)))


def _number(given: Mapping[str, str], name: str) -> int:
    if not given[name].isdigit():
        raise ProphRLError(f"{name}:={given[name]}: expected a number")
    return int(given[name])


def _flag(given: Mapping[str, str], name: str) -> bool:
    values = {"true": True, "false": False}
    if given[name].lower() not in values:
        raise UnknownNameError(f"value of {name}", given[name], values)
    return values[given[name].lower()]
