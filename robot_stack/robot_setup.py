"""What is asked for when a robot is brought up, and what one of its processes is. Imports no ROS."""

import enum
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from robot_stack.paths import config_dir


@dataclass(frozen=True)
class Setup:
    """What to bring up.

    Attributes:
        robot: name of the robot file, or a path to one.
        cell: path of the cell file; "": that of the environment variable PROPHRL_CELL, where a robot needs one.
        source: who moves the arm: "policy", "behaviour" (scripted, sim_metaworld only), a device of ``bringup.PERSONS``, or
            "nobody": chunks come from elsewhere, or the robot is only looked at.
        policy, exploration: for source "policy": "onnx:<folder>" or "replay:<log>", and the noise level with which it acts.
        takeover: for source "policy": the device of ``bringup.PERSONS`` by which a person may take over; "": nobody.
        behaviour, noise: for source "behaviour", see ``drivers.behaviours``.
        leader: for the device "lerobot": device file of a teleoperator, a name in config/lerobot or a path.
        deadman: for the device "lerobot": who holds one, see ``ros.teleop_devices``.
        task: of a simulated robot; of a real one, its name in the episodes.
        instruction: the task in words, of a real robot; "": somebody else publishes it, or nobody needs it.
        lock_step: simulated robots: time advances with the commands, as fast as the machine can.
        horizon: ticks of an episode in lock-step; 0: no end.
        stop_at_success: end an episode in lock-step at its first success.
        realtime_priority: of cameras and policy, below the executor's; 0: none, as suits inference on the processor.
        record: start the recorder, too.
        folder: where it writes.
    """

    robot: str = "sim_metaworld"
    cell: str = ""
    source: str = "policy"
    policy: str = ""
    exploration: float = 0.0
    takeover: str = ""
    behaviour: str = "expert"
    noise: float = 1.0
    leader: str = ""
    deadman: str = "keyboard"
    task: str = "button-press-topdown-v3"
    instruction: str = ""
    lock_step: bool = False
    horizon: int = 0
    stop_at_success: bool = False
    realtime_priority: int = 0
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

    @property
    def all_parameters(self) -> dict[str, Any]:
        """Those of the file and ``parameters``: for a node in a namespace, which the file does not name."""
        (section,) = yaml.safe_load(self.parameter_file.read_text(encoding="utf-8")).values()
        return {**section["ros__parameters"], **self.parameters}

    def command(self) -> list[str]:
        """Argument list that starts it without launch."""
        given = [f"{name}:={json.dumps(value)}" for name, value in self.parameters.items()]
        arguments = [part for item in given for part in ("-p", item)]
        if self.parameter_set:
            arguments += ["-r", f"__node:={self.name}"]
        return [sys.executable, "-m", self.module, "--ros-args", "--params-file", str(self.parameter_file), *arguments]
