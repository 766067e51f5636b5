"""The arm of ``plain_arm`` as a LeRobot robot: the same marks, the same notes, and pictures that are at hand at once."""

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from lerobot.robots.robot import Robot

from benchmarks.lerobot_side.config_marked_robot import MarkedRobotConfig
from benchmarks.lerobot_side.configuration_circle import CAMERAS
from benchmarks.lerobot_side.modeling_circle import in_degrees
from benchmarks.plain_arm import HOME, RobotsEnd, mark_of_stamp
from benchmarks.recording import HEIGHT, RATE_HZ, WIDTH
from robot_stack.core.types import ImageArray

JOINTS = tuple(f"joint_{k}.pos" for k in range(len(HOME)))
GRIPPER = "gripper.pos"
PICTURES = 30


class MarkedRobot(Robot):
    """See the module."""

    config_class = MarkedRobotConfig
    name = "marked_robot"

    def __init__(self, config: MarkedRobotConfig) -> None:
        super().__init__(config)
        self._notes_path, self._notes = Path(config.notes), RobotsEnd([])
        self._joints = in_degrees(np.append(HOME, 0.0))[:-1]
        self._films = {camera: _pictures(Path(config.films) / f"{camera}-large.avi") for camera in CAMERAS}
        self._connected = False

    @property
    def observation_features(self) -> dict[str, Any]:
        return {**self.action_features, **dict.fromkeys(CAMERAS, (HEIGHT, WIDTH, 3))}

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys((*JOINTS, GRIPPER), float)

    @property
    def is_connected(self) -> bool:
        return self._connected

    @property
    def is_calibrated(self) -> bool:
        return True

    def connect(self, calibrate: bool = True) -> None:
        self._connected = True

    def calibrate(self) -> None:
        """It needs none."""

    def configure(self) -> None:
        """It needs nothing."""

    def get_observation(self) -> dict[str, Any]:
        """Its joints, the mark of its time, and the pictures of now."""
        now_ns = time.time_ns()
        index = int(now_ns / 1e9 * RATE_HZ) % PICTURES
        pictures = {camera: film[index] for camera, film in self._films.items()}
        return {**dict(zip(JOINTS, map(float, self._joints), strict=True)), GRIPPER: mark_of_stamp(now_ns), **pictures}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Follow at once, and note when the command came and what it bears."""
        self._notes.commands.append((time.time_ns(), float(action[GRIPPER])))
        self._joints = np.array([action[name] for name in JOINTS])
        return action

    def disconnect(self) -> None:
        if self._connected:
            self._notes.write(self._notes_path)
        self._connected = False


def _pictures(film: Path) -> list[ImageArray]:
    capture = cv2.VideoCapture(str(film))
    return [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB) for _ in range(PICTURES)]
