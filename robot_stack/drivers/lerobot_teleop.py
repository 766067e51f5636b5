"""Any ``Teleoperator`` class of LeRobot (leader arms, phones) as a teleoperation device. Needs the ``train`` extra.

Leader arms have no deadman, so somebody else has to hold one: a key, a gamepad's button, or a feature of the device itself.
A thread of its own reads the device, so one that hangs is one that is silent. Silence holds the arm.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robot_stack.core.errors import UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.approach import Approach
from robot_stack.drivers.device_file import DeviceFile
from robot_stack.drivers.feature_map import FeatureMap, FeatureMapError
from robot_stack.drivers.lerobot_device import DEVICE_ERRORS, DeviceError, connect, make_teleoperator, numbers
from robot_stack.drivers.teleop_device import Hand, Requests

END_S = 2.0  # longest wait for a device that hangs, at the end


@dataclass(frozen=True)
class LeRobotTeleopSettings:
    """How a device is read and followed.

    Attributes:
        approach: part of the robot's largest speed by which the arm goes to where the device is, see ``Approach``.
        silence_s: age of a reading after which the arm stops [s]; with a tick of the executor on top it holds within 200 ms.
        rate_hz: of readings.
        retries: failed readings in a row that are borne.
        attempts: to connect again after more of them.
        pause_s: before each attempt [s].
    """

    approach: float = 0.3
    silence_s: float = 0.1
    rate_hz: float = 60.0
    retries: int = 3
    attempts: int = 30
    pause_s: float = 1.0


@dataclass(frozen=True)
class _Reading:
    values: FloatArray
    enabled: bool
    read_ns: int  # steady clock


class LeRobotTeleop:
    """A ``TeleopDevice``.

    Args:
        file: which teleoperator.
        spec: the robot file.
        deadman: a hand that has to be held, or the name of a feature of the device that has to be true.
        settings: see ``LeRobotTeleopSettings``.
        tell: told once when the device is lost, when it is back, and when it is given up.

    Raises:
        MissingDependencyError, UnknownNameError, BadFileError, FeatureMapError, DeviceError: the device file does not fit.
    """

    def __init__(
        self,
        file: DeviceFile,
        spec: RobotSpec,
        deadman: Hand | str,
        settings: LeRobotTeleopSettings | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._file, self._settings, self._tell = file, settings or LeRobotTeleopSettings(), tell
        self._names = FeatureMap.read(file.names, spec.action_names)
        self._device: Any = make_teleoperator(file)
        features = numbers(self._device.action_features)
        self._names.check(f"{file.type}'s actions", features)
        self._hand = None if isinstance(deadman, str) else deadman
        self._enabling = deadman if isinstance(deadman, str) else None
        if self._enabling is not None and self._enabling not in features:
            raise UnknownNameError(f"feature of {file.type}'s actions", self._enabling, features)
        self._approach = Approach(spec, self._settings.approach)
        self._reading: _Reading | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """See ``TeleopDevice``.

        Raises:
            DeviceError: it is not there, or not calibrated.
        """
        if self._thread is not None:
            return
        connect(self._device, self._file)
        if self._hand is not None:
            self._hand.open()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="leader", daemon=True)
        self._thread.start()

    def reset(self) -> None:
        self._approach.reset()

    def target(self, tick_ns: int, reference: FloatArray) -> FloatArray | None:
        reading = self._reading
        old = reading is None or time.monotonic_ns() - reading.read_ns > self._settings.silence_s * 1e9
        held = self._hand.wish() is not None if self._hand is not None else reading is not None and reading.enabled
        if reading is None or old or not held:
            self._approach.reset()
            return None
        return self._approach.target(reference, reading.values)

    def requests(self) -> Requests:
        return Requests() if self._hand is None else self._hand.requests()

    def close(self) -> None:
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join(END_S)
        hangs, self._thread = self._thread.is_alive(), None
        if self._hand is not None:
            self._hand.close()
        if not hangs:
            self._disconnect()

    def _run(self) -> None:
        failures = 0
        while not self._stopping.wait(1.0 / self._settings.rate_hz):
            try:
                action = self._device.get_action()
                values = self._names.ours(action)
            except (*DEVICE_ERRORS, FeatureMapError) as error:
                failures += 1
                if failures > self._settings.retries:
                    if not self._come_back(error):
                        return
                    failures = 0
                continue
            failures = 0
            enabled = self._enabling is None or bool(action[self._enabling])
            self._reading = _Reading(values, enabled, time.monotonic_ns())

    def _come_back(self, reason: Exception) -> bool:
        """Connect again; False where it was given up."""
        settings = self._settings
        self._tell(f"LeRobot device {self._file.type} is lost, so the arm holds; waiting for it to come back: {reason}")
        for _ in range(settings.attempts):
            self._disconnect()
            if self._stopping.wait(settings.pause_s):
                return False
            try:
                connect(self._device, self._file)
            except DeviceError as error:
                reason = error
            else:
                self._tell(f"LeRobot device {self._file.type} is back")
                return True
        self._tell(f"LeRobot device {self._file.type} is given up after {settings.attempts} attempts: {reason}")
        return False

    def _disconnect(self) -> None:
        try:
            if self._device.is_connected:
                self._device.disconnect()
        except DEVICE_ERRORS as error:  # what is gone cannot be let go of
            self._tell(f"LeRobot device {self._file.type} cannot be disconnected: {error}")
