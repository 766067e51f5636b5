"""Makes a robot or a teleoperator of LeRobot from a device file. Needs the ``train`` extra, as LeRobot brings torch.

Types of LeRobot itself and of its plug-ins (distributions named ``lerobot_robot_*``, ``lerobot_teleoperator_*``) are known.
"""

import importlib
import pkgutil
import termios
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from robot_stack.core.errors import BadFileError, MissingDependencyError, ProphRLError, UnknownNameError
from robot_stack.drivers.device_file import DeviceFile

# What a device raises when its bus or cable fails: LeRobot's own errors, pyserial's and the system's are of the first two
# kinds; the third is what pyserial lets through when a port has gone.
DEVICE_ERRORS = (OSError, RuntimeError, termios.error)
PICTURE_RANK = 3


class DeviceError(ProphRLError):
    """A device of LeRobot that cannot be used, or is gone.

    Args:
        device: its type.
        problem: what is wrong.
    """

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(f"LeRobot device {device}: {problem}")


def make_robot(file: DeviceFile) -> Any:
    """A ``lerobot.robots.Robot``, not connected.

    Raises:
        MissingDependencyError: LeRobot is not installed.
        UnknownNameError, BadFileError: there is no such type, or its configuration is wrong.
        DeviceError: LeRobot cannot make it, as what it needs for this device is not installed.
    """
    robots = _lerobot("lerobot.robots")
    return _make(file, "robot", robots, robots.RobotConfig, robots.make_robot_from_config)


def make_teleoperator(file: DeviceFile) -> Any:
    """A ``lerobot.teleoperators.Teleoperator``, not connected; raises as ``make_robot``."""
    teleoperators = _lerobot("lerobot.teleoperators")
    make = teleoperators.make_teleoperator_from_config
    return _make(file, "teleoperator", teleoperators, teleoperators.TeleoperatorConfig, make)


def connect(device: Any, file: DeviceFile) -> None:
    """Connect without asking anybody anything.

    Raises:
        DeviceError: it is not there, or not calibrated.
    """
    try:
        device.connect(calibrate=False)
        if not device.is_calibrated:
            device.disconnect()
            raise DeviceError(
                file.type,
                f"is not calibrated as its file {device.calibration_fpath} says; calibrate it with LeRobot first: "
                f"lerobot-calibrate with the type, port and id of {file.source}",
            )
    except DEVICE_ERRORS as error:
        raise DeviceError(file.type, f"cannot be connected: {error}") from error


def numbers(features: Mapping[str, Any]) -> list[str]:
    """Names of the features that are single numbers."""
    return [name for name, kind in features.items() if not isinstance(kind, tuple)]


def _lerobot(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError("lerobot", "devices of LeRobot", "pip install 'robot_stack[train]'") from error


def _make(file: DeviceFile, kind: str, package: ModuleType, configs: Any, make: Callable[[Any], Any]) -> Any:
    import draccus

    _register_types(package, configs, file.type)
    if file.type not in configs.get_known_choices():
        raise UnknownNameError(f"{kind} of LeRobot", file.type, configs.get_known_choices())
    try:
        config = draccus.decode(configs, {"type": file.type, **file.config})
    except (draccus.utils.DraccusException, ValueError, TypeError) as error:
        raise BadFileError(file.source, f"config does not fit LeRobot's {file.type}: {error}") from error
    try:
        return make(config)
    except (ImportError, ValueError) as error:  # what it needs is not installed, and LeRobot says what
        raise DeviceError(file.type, f"cannot be made: {error}") from error


def _register_types(package: ModuleType, configs: Any, wanted: str) -> None:
    """Import what registers the types: LeRobot's own packages, its cameras, and plug-ins where the type is not among them."""
    from lerobot.utils.import_utils import register_third_party_plugins

    for parent in (_lerobot("lerobot.cameras"), package):
        for found in pkgutil.iter_modules(parent.__path__):
            if found.ispkg:
                importlib.import_module(f"{parent.__name__}.{found.name}")
    if wanted not in configs.get_known_choices():
        register_third_party_plugins()
