"""The teleoperation devices by name, with the topics that feed them: ROS comes in here, devices know nothing of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sensor_msgs.msg import Joy
from std_msgs.msg import Float64MultiArray

from robot_stack.core.errors import BadFileError, ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.seeding import generator
from robot_stack.drivers.device_file import DeviceFile
from robot_stack.drivers.gamepad import Gamepad, GamepadSettings
from robot_stack.drivers.gamepad_mapping import GamepadMapping
from robot_stack.drivers.jog_teleop import JogTeleop
from robot_stack.drivers.keyboard import HELP, Keyboard, KeyboardSettings
from robot_stack.drivers.teleop_device import Hand, TeleopDevice
from robot_stack.drivers.tool_jog import make_jog
from robot_stack.ros import convert, topics
from robot_stack.ros.node import Complaints


@dataclass(frozen=True)
class TeleopSettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        device: see ``DEVICES``; "behaviour" is a script that sees the simulator's state.
        behaviour: see ``drivers.behaviours``; read on activation, as are the next three.
        noise: of the noisy expert.
        task: the simulator's task.
        seed: start seed; the behaviour's random numbers derive from it.
        lock_step: scripts only: answer with the simulator's state of exactly the tick that asks.
        deadman_s: silence of keys or of the gamepad after which the arm stops [s].
        speed: keyboard and gamepad: part of the tool's largest speed.
        lerobot: device "lerobot": name of a file in config/lerobot, a path to one, or its YAML, see ``drivers.device_file``.
        deadman: device "lerobot", which has none of its own: "keyboard" or "gamepad", held while the arm shall follow, or
            "feature:<name>", a feature of the device that has to be true.
        approach: device "lerobot": part of the robot's largest speed by which the arm goes to where the device is.
        gamepad: its mapping as YAML, or a file with it, see ``GamepadMapping.read``; empty: that of game_controller_node.
        takeover: the arm follows a policy until this device asks for something (``intervention``).
    """

    robot: str = "sim_metaworld"
    device: str = "behaviour"
    behaviour: str = "expert"
    noise: float = 1.0
    task: str = "button-press-topdown-v3"
    seed: int = 0
    lock_step: bool = True
    deadman_s: float = KeyboardSettings.deadman_s
    speed: float = 0.3
    lerobot: str = ""
    deadman: str = ""
    approach: float = 0.3
    gamepad: str = ""
    takeover: bool = False


@dataclass(frozen=True)
class DeviceContext:
    """What the making of a device needs.

    Attributes:
        node: owns the subscriptions.
        settings: parameters of the node.
        spec: the robot file.
        complaints: about bad messages.
        notify: called when a device has learnt something that it may have been waiting for.
    """

    node: Any
    settings: TeleopSettings
    spec: RobotSpec
    complaints: Complaints
    notify: Callable[[], None]


def make_device(context: DeviceContext) -> TeleopDevice:
    """The device that the parameters name, not open yet.

    Raises:
        UnknownNameError, ProphRLError: there is none of that name, or it cannot be used like this.
    """
    name = context.settings.device
    if name not in DEVICES:
        raise UnknownNameError("teleoperation device", name, DEVICES)
    if context.settings.lock_step and name != "behaviour":
        raise ProphRLError(f"device {name} is moved by a person, who needs real time: it cannot drive in lock-step")
    return DEVICES[name](context)


def _behaviour(context: DeviceContext) -> TeleopDevice:
    from robot_stack.drivers.behaviours import make_behaviour  # brings the simulator
    from robot_stack.drivers.scripted_teleop import ScriptedTeleop

    def make() -> Any:
        value = {key: context.node.get_parameter(key).value for key in ("behaviour", "task", "seed", "noise")}
        # The same random numbers as in collection without ROS, so that both give the same episode.
        rng = generator("collect", value["task"], value["behaviour"], value["seed"])
        return make_behaviour(value["behaviour"], context.spec, value["task"], rng, value["noise"])

    device = ScriptedTeleop(make, context.settings.lock_step)

    def see(message: Float64MultiArray) -> None:
        with context.complaints.about(topics.PRIVILEGED_STATE):
            stamp_ns = convert.stamp_of_numbers(message, topics.PRIVILEGED_STATE)
            device.see(stamp_ns, np.array(message.data))
        context.notify()

    context.node.create_subscription(Float64MultiArray, topics.PRIVILEGED_STATE, see, topics.COMMANDS)
    return device


def _keyboard(context: DeviceContext) -> Keyboard:
    logger = context.node.get_logger()
    keyboard = Keyboard(KeyboardSettings(context.settings.deadman_s), tell=logger.error)
    logger.info(HELP)
    return keyboard


def _gamepad(context: DeviceContext) -> Gamepad:
    mapping = GamepadMapping.read(yaml_parameter("gamepad", context.settings.gamepad))
    gamepad = Gamepad(GamepadSettings(mapping, context.settings.deadman_s))

    def take(message: Joy) -> None:
        with context.complaints.about(topics.JOY):
            gamepad.take(message.axes, message.buttons)

    context.node.create_subscription(Joy, topics.JOY, take, topics.COMMANDS)
    return gamepad


def _lerobot(context: DeviceContext) -> TeleopDevice:
    settings, logger = context.settings, context.node.get_logger()
    kind, _, feature = settings.deadman.partition(":")
    if kind not in (*HANDS, "feature") or (kind == "feature") != bool(feature):
        valid = [*HANDS, "feature:<name of one of the device's features>"]
        raise UnknownNameError("deadman (parameter deadman; a leader arm has none of its own)", settings.deadman, valid)
    if not 0.0 < settings.approach <= 1.0:
        raise ProphRLError(f"parameter approach must be above 0 and at most 1, got {settings.approach}")
    file = DeviceFile.read(settings.lerobot)
    from robot_stack.drivers.lerobot_teleop import LeRobotTeleop, LeRobotTeleopSettings  # brings torch

    how = LeRobotTeleopSettings(approach=settings.approach)
    deadman = feature or HANDS[kind](context)
    if kind == "keyboard":
        logger.info(
            "the arm follows the leader while the space bar is held; of the keys only those of the second line count, too"
        )
    return LeRobotTeleop(file, context.spec, deadman, how, tell=logger.warning)


def _by_hand(make: Callable[[DeviceContext], Hand]) -> Callable[[DeviceContext], TeleopDevice]:
    """The device that moves the tool as a hand says."""

    def make_teleop(context: DeviceContext) -> TeleopDevice:
        jogs = [make_jog(context.spec, tool) for tool in context.spec.tools]
        return JogTeleop(make(context), jogs, context.spec, context.settings.speed)

    return make_teleop


HANDS: Mapping[str, Callable[[DeviceContext], Hand]] = {"keyboard": _keyboard, "gamepad": _gamepad}
DEVICES: Mapping[str, Callable[[DeviceContext], TeleopDevice]] = {
    "behaviour": _behaviour,
    "lerobot": _lerobot,
    **{name: _by_hand(make) for name, make in HANDS.items()},
}


def yaml_parameter(name: str, value: str) -> Any:
    """Plain data from a parameter that holds YAML, or the path of a file with it; {} where it is empty.

    Raises:
        BadFileError: neither.
    """
    if not value.strip():
        return {}
    source = Path(value) if value.endswith((".yaml", ".yml", ".json")) and "\n" not in value else None
    try:
        return yaml.safe_load(value if source is None else source.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BadFileError(source or f"parameter {name}", f"cannot be read as YAML: {error}") from error
