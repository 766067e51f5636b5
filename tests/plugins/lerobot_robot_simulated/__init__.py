"""An arm of servos with a lag of first order, and a leader arm, as ``Robot`` and ``Teleoperator`` of LeRobot.

Both are plugged in for as long as their file exists. Angles are degrees, the gripper is percent.
"""

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.robots import Robot, RobotConfig
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig
from lerobot.utils.errors import DeviceNotConnectedError

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
FEATURES = {f"{joint}.pos": float for joint in JOINTS}


@RobotConfig.register_subclass("simulated_arm")
@dataclass
class SimulatedArmConfig(RobotConfig):
    """``plug``: the file. ``log``: what it was told, a line of JSON each. ``largest``: it limits itself to that [degrees]."""

    plug: str = ""
    log: str = ""
    lag_s: float = 0.03
    largest: float = 180.0
    calibrated: bool = True
    home: dict[str, float] = field(default_factory=dict)


class SimulatedArm(Robot):
    """See the module."""

    config_class = SimulatedArmConfig
    name = "simulated_arm"

    def __init__(self, config: SimulatedArmConfig) -> None:
        super().__init__(config)
        self.config = config
        self._position = {f"{joint}.pos": config.home.get(joint, 0.0) for joint in JOINTS}
        self._goal = dict(self._position)
        self._at_s = time.monotonic()
        self._connected = False
        self._rng = np.random.default_rng(0)
        self._picture, self._taken_s = np.zeros((48, 64, 3), np.uint8), 0.0

    @property
    def observation_features(self) -> dict[str, Any]:
        return {**FEATURES, "eye": (48, 64, 3)}

    @property
    def action_features(self) -> dict[str, Any]:
        return FEATURES

    @property
    def is_connected(self) -> bool:
        return self._connected

    def connect(self, calibrate: bool = True) -> None:
        assert not calibrate, "nobody is there to calibrate it"
        self._connected = True
        self._check()

    @property
    def is_calibrated(self) -> bool:
        return self.config.calibrated

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def get_observation(self) -> dict[str, Any]:
        self._check()
        self._move()
        if time.monotonic() - self._taken_s > 1 / 30:
            self._picture, self._taken_s = self._rng.integers(0, 256, (48, 64, 3), np.uint8), time.monotonic()
        return {**self._position, "eye": self._picture}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self._check()
        self._move()
        assert set(action) == set(FEATURES)
        self._goal = {key: max(-self.config.largest, min(self.config.largest, value)) for key, value in action.items()}
        if self.config.log:
            with Path(self.config.log).open("a") as log:
                log.write(json.dumps([time.time(), *action.values()]) + "\n")
        return self._goal

    def disconnect(self) -> None:
        self._connected = False

    def _check(self) -> None:
        if not Path(self.config.plug).is_file():
            raise DeviceNotConnectedError("the arm has been unplugged")

    def _move(self) -> None:
        now_s = time.monotonic()
        part = 1.0 - math.exp(-(now_s - self._at_s) / self.config.lag_s)
        self._at_s = now_s
        self._position = {key: value + part * (self._goal[key] - value) for key, value in self._position.items()}


@TeleoperatorConfig.register_subclass("simulated_leader")
@dataclass
class SimulatedLeaderConfig(TeleoperatorConfig):
    """``plug``: the file, with the pose of the leader as JSON; "hangs" in it makes a reading last that long [s]."""

    plug: str = ""


class SimulatedLeader(Teleoperator):
    """See the module."""

    config_class = SimulatedLeaderConfig
    name = "simulated_leader"

    def __init__(self, config: SimulatedLeaderConfig) -> None:
        super().__init__(config)
        self.config = config
        self._connected = False

    @property
    def action_features(self) -> dict[str, Any]:
        return {**FEATURES, "enabled": bool}

    @property
    def feedback_features(self) -> dict[str, Any]:
        return {}

    @property
    def is_connected(self) -> bool:
        return self._connected

    def connect(self, calibrate: bool = True) -> None:
        self.get_action()
        self._connected = True

    @property
    def is_calibrated(self) -> bool:
        return True

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def get_action(self) -> dict[str, Any]:
        try:
            pose = json.loads(Path(self.config.plug).read_text())
        except FileNotFoundError as error:
            raise DeviceNotConnectedError("the leader has been unplugged") from error
        time.sleep(pose.get("hangs", 0.0))
        return {f"{joint}.pos": pose.get(joint, 0.0) for joint in JOINTS} | {"enabled": pose.get("enabled", False)}

    def send_feedback(self, feedback: dict[str, Any]) -> None: ...

    def disconnect(self) -> None:
        self._connected = False
