"""What the recorder gets to know of each camera: from the camera's own topics, else from the cell's calibration files."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo

from robot_stack.core.camera_facts import CameraFacts, facts_of_cell, facts_to_record
from robot_stack.core.cell import Cell
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.episodes.messages import BadMessageError, camera_info_values, camera_pose
from robot_stack.ros import topics


class CameraKnowledge:
    """Collects what is told of the cameras; what they say themselves goes before what the cell's files say.

    Args:
        spec: the robot.
        cell: path of its cell file; "": none.
        complain: told of messages that are dropped.

    Raises:
        ProphRLError: the cell, or a file that it names, is bad.
    """

    def __init__(self, spec: RobotSpec, cell: str, complain: Callable[[str], Any]) -> None:
        self._spec, self._cell, self._complain = spec, cell, complain
        self._lens_of = {topics.camera_info(name): name for name in spec.camera_names}
        self._place_of = {topics.camera_pose(name): name for name in spec.camera_names}
        self._heard: dict[str, bytes] = {}
        self._filed: Mapping[str, CameraFacts] = {}
        self.read_files()

    def read_files(self) -> None:
        """Read the cell's files as they are now: they may have been calibrated anew.

        Raises:
            ProphRLError: the cell, or a file that it names, is bad.
        """
        self._filed = facts_of_cell(Cell.load(self._cell, self._spec), self._spec) if self._cell else {}

    def hear(self, topic: str, cdr: bytes) -> None:
        """Take note of a serialised message, unread, if it is about a camera."""
        if topic in self._lens_of or topic in self._place_of:
            self._heard[topic] = cdr

    @property
    def complete(self) -> bool:
        """Whether every camera has told its lens; what else there is to know is known by then."""
        return all(topic in self._heard for topic in self._lens_of)

    def record(self) -> dict[str, str]:
        """What is known now, for the log; empty: nothing."""
        facts = {name: self._filed.get(name, CameraFacts()) for name in self._spec.camera_names}
        for topic, cdr in self._heard.items():
            try:
                if topic in self._lens_of:
                    lens = camera_info_values(deserialize_message(cdr, CameraInfo), topic)
                    if np.any(lens.k):
                        facts[self._lens_of[topic]] = replace(facts[self._lens_of[topic]], lens=lens)
                else:
                    place = camera_pose(deserialize_message(cdr, PoseStamped), topic)
                    facts[self._place_of[topic]] = replace(facts[self._place_of[topic]], T_base_camera=place)
            except BadMessageError as error:
                self._complain(str(error))
        return facts_to_record(facts)
