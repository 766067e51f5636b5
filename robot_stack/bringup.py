"""Which processes a robot needs, as data: used by ``launch/``, by ``prophrl up`` and by the episode runner. Imports no ROS."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import config_dir, robot_file

SEGMENT_BYTES = 32 << 20  # of shared memory for each process, as in config/dds/fastdds.xml
PROCESSES = 8  # robot, executor, source, recorder, operator, and a few tools to look on


@dataclass(frozen=True)
class Setup:
    """What to bring up.

    Attributes:
        robot: name of the robot file, or a path to one.
        source: who moves the arm: "policy", "behaviour" (scripted, sim_metaworld only), a device of ``PERSONS``, or "nobody":
            chunks come from elsewhere, or the robot is only looked at.
        policy, exploration: for source "policy": "onnx:<folder>", and the noise level with which it acts.
        behaviour, noise: for source "behaviour", see ``drivers.behaviours``.
        leader: for source "lerobot": device file of a teleoperator, as ``lerobot``.
        deadman: for source "lerobot": who holds one, see ``ros.teleop_devices``.
        lerobot: the robot is one of LeRobot's: name of a file in config/lerobot, or a path to one; "" for what its name says.
        task: of a simulated robot.
        lock_step: simulated robots: time advances with the commands, as fast as the machine can.
        horizon: ticks of an episode in lock-step; 0: no end.
        stop_at_success: end an episode in lock-step at its first success.
        record: start the recorder, too.
        folder: where it writes.
    """

    robot: str = "sim_metaworld"
    source: str = "policy"
    policy: str = ""
    exploration: float = 0.0
    behaviour: str = "expert"
    noise: float = 1.0
    leader: str = ""
    deadman: str = "keyboard"
    lerobot: str = ""
    task: str = "button-press-topdown-v3"
    lock_step: bool = False
    horizon: int = 0
    stop_at_success: bool = False
    record: bool = False
    folder: str = "episodes"


@dataclass(frozen=True)
class NodeProcess:
    """One process with one node.

    Attributes:
        name: of the node.
        module: its module, run with ``python -m``; its last part is the name of the executable for ``ros2 run``.
        parameters: on top of ``config/ros/<name>.yaml``.
        terminal: whether it reads the terminal.
        lifecycle: whether it has to be configured and activated.
    """

    name: str
    module: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    terminal: bool = False
    lifecycle: bool = False

    @property
    def executable(self) -> str:
        return self.module.rsplit(".", maxsplit=1)[-1]

    @property
    def parameter_file(self) -> Path:
        return config_dir() / "ros" / f"{self.name}.yaml"

    def command(self) -> list[str]:
        """Argument list that starts it without launch."""
        given = [f"{name}:={json.dumps(value)}" for name, value in self.parameters.items()]
        arguments = [part for item in given for part in ("-p", item)]
        return [sys.executable, "-m", self.module, "--ros-args", "--params-file", str(self.parameter_file), *arguments]


def sim_metaworld(setup: Setup) -> NodeProcess:
    """Driver of the embedded robot."""
    episode = {"task": setup.task, "horizon": setup.horizon, "stop_at_success": setup.stop_at_success}
    parameters = {"robot": setup.robot, "lock_step": setup.lock_step, **episode}
    return NodeProcess("sim_robot", "robot_stack.ros.sim_robot_node", parameters)


def sim_arm(setup: Setup) -> NodeProcess:
    """Driver of the simulated joint-level arm.

    Raises:
        ProphRLError: it was asked to run in lock-step.
    """
    if setup.lock_step:
        raise ProphRLError(f"robot {setup.robot} runs in real time: its controller follows a clock that cannot wait")
    return NodeProcess("sim_arm", "robot_stack.ros.sim_arm_node", {"robot": setup.robot})


def lerobot_robot(setup: Setup) -> NodeProcess:
    """Driver of any robot of LeRobot; its process brings torch.

    Raises:
        ProphRLError: it was asked to run in lock-step.
    """
    if setup.lock_step:
        raise ProphRLError(f"robot {setup.robot} is a real one: it cannot run in lock-step")
    parameters = {"robot": setup.robot, "device": setup.lerobot or setup.robot}
    return NodeProcess("lerobot_robot", "robot_stack.ros.lerobot_robot_node", parameters)


DRIVERS: Mapping[str, Callable[[Setup], NodeProcess]] = {
    "sim_metaworld": sim_metaworld,
    "sim_arm": sim_arm,
    "sim_arm_pose": sim_arm,
    "sim_two_arms": sim_arm,
    "so101": lerobot_robot,
}
LIVE_DEPTH = (
    5  # messages of a stream that wait for a node in real time: whoever is late wants the youngest, not a queue of old ones
)
PERSONS = ("keyboard", "gamepad", "lerobot")  # devices by which a person moves the arm
SOURCES = ("policy", "behaviour", *PERSONS, "nobody")


def processes(setup: Setup) -> tuple[NodeProcess, ...]:
    """The processes for ``setup``: the robot first, then the executor, the source, the recorder.

    Raises:
        UnknownNameError: no such robot or source.
        ProphRLError: the setup contradicts itself.
    """
    name = RobotSpec.load(robot_file(setup.robot)).name
    if not setup.lerobot and name not in DRIVERS:
        raise UnknownNameError("robot with a driver", name, DRIVERS)
    driver = lerobot_robot if setup.lerobot else DRIVERS[name]
    if setup.source not in SOURCES:
        raise UnknownNameError("source of actions", setup.source, SOURCES)
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
    executor = NodeProcess("executor", "robot_stack.ros.executor_node", {**shared, **live, **followed})
    recorder = NodeProcess("recorder", "robot_stack.ros.recorder_node", {**shared, "folder": setup.folder, "task": setup.task})
    return (driver(setup), executor, *_source(setup, shared, live), *([recorder] if setup.record else []))


def default_source(robot: str, policy: str) -> str:
    """Who moves a robot for whom nobody has said it: the policy that was given, the embedded robot's script, or nobody."""
    return "policy" if policy else "behaviour" if robot == "sim_metaworld" else "nobody"


def _source(setup: Setup, shared: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[NodeProcess, ...]:
    if setup.source == "nobody":
        return ()
    if setup.source == "policy":
        module, parameters = "robot_stack.ros.policy_node", {**shared, **live, "policy": setup.policy}
        parameters["exploration"] = float(setup.exploration)
        return (NodeProcess("policy", module, parameters, lifecycle=True),)
    parameters = {**shared, "device": setup.source, "task": setup.task}
    if setup.source == "behaviour":
        parameters |= {"behaviour": setup.behaviour, "noise": float(setup.noise)}
    if setup.source == "lerobot":
        parameters |= {"lerobot": setup.leader, "deadman": setup.deadman}
    terminal = "keyboard" in (setup.source, setup.deadman if setup.source == "lerobot" else "")
    return (NodeProcess("teleop", "robot_stack.ros.teleop_node", parameters, terminal=terminal, lifecycle=True),)


def environment(domain: int) -> dict[str, str]:
    """Environment variables of every process of one robot: this machine only, a domain of its own, enough shared memory."""
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
