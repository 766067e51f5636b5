"""An arm that follows at once and knows what each command was computed from: `python -m benchmarks.plain_arm --ros-args ...`.

A gripper's position may bear a number (a mark). Its own bears the number of its joint state, so that a log tells what was lost.
A policy whose gripper target bears the stamp of its observation tells, with each command that comes, how old that is.
"""

import itertools
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import declare_parameters, run_node

MARKS = 4096  # numbers before they begin again
UNIT_NS = 500_000  # of the time that a mark bears: they begin again after two seconds
HOME = (0.0, -1.4, -1.9, -1.4, 1.5707963, 0.0)  # rad
TOOL = (0.4, 0.0, 0.4)  # m; nobody reads it
SELDOM = 5  # joint states for each message about the target in force


def mark_of(number: int) -> float:
    """Gripper opening, 0 to 1, that bears a number."""
    return (number % MARKS + 0.5) / MARKS


def number_of_mark(opening: float) -> int:
    """The number (modulo ``MARKS``) that an opening bears."""
    return int(opening * MARKS)


def mark_of_stamp(stamp_ns: int) -> float:
    """Gripper opening that bears the time of an observation."""
    return mark_of(stamp_ns // UNIT_NS)


@dataclass
class RobotsEnd:
    """What a robot notes about what it was told.

    Attributes:
        commands: (when it was sent, gripper opening: the stamp of the observation that it was computed from) of each command.
    """

    commands: list[tuple[int, float]]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"commands": self.commands}), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "RobotsEnd":
        raw = json.loads(path.read_text(encoding="utf-8"))
        return cls([(int(at_ns), float(opening)) for at_ns, opening in raw["commands"]])

    def reactions_ms(self, model_ms: float) -> list[float]:
        """Of the first command from each observation: the observation's age when it was sent, less the model's time [ms]."""
        marks = [number_of_mark(opening) for _, opening in self.commands]
        first = [now != before for before, now in itertools.pairwise(marks)]
        return [age for age, is_first in zip(self.ages_ms(model_ms)[1:], first, strict=True) if is_first]

    def ages_ms(self, model_ms: float) -> list[float]:
        """Of every command: the age of the observation that it was computed from, less the model's time [ms]."""
        return [self._age_ms(at_ns, number_of_mark(opening)) - model_ms for at_ns, opening in self.commands]

    @staticmethod
    def _age_ms(at_ns: int, number: int) -> float:
        """To the middle of the mark's unit; an age of more than ``MARKS`` units looks younger."""
        units = at_ns // UNIT_NS - number
        within = at_ns % UNIT_NS / UNIT_NS - 0.5
        return (units % MARKS + within) * UNIT_NS / 1e6


@dataclass(frozen=True)
class PlainArmSettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        rate_hz: of joint states.
        notes: file of ``RobotsEnd``, written at the end; empty: none.
    """

    robot: str = "sim_arm"
    rate_hz: float = 100.0
    notes: str = ""


class PlainArmNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("plain_arm")
        self._settings = declare_parameters(self, PlainArmSettings)
        self._spec = RobotSpec.load(robot_file(self._settings.robot))
        arm, gripper = self._spec.commands
        self._joints = list(arm.joints)
        self._position: FloatArray = np.array(HOME)
        self._notes = RobotsEnd([])
        self._numbers = itertools.count()  # of joint states
        qos = topics.sensor_qos("reliable", 20)
        self._joints_out = self.create_publisher(JointState, topics.JOINT_STATES, qos)
        self._pose_out = self.create_publisher(PoseStamped, self._spec.tools[0].pose_topic, qos)
        self._in_force_out = self.create_publisher(JointTrajectory, topics.TARGET_IN_FORCE, qos)
        self.create_subscription(JointTrajectory, arm.topic, self._on_arm, topics.COMMANDS)
        self.create_subscription(JointTrajectory, gripper.topic, self._on_gripper, topics.COMMANDS)
        tell_connections(self)
        self.create_timer(1.0 / self._settings.rate_hz, self._tell, clock=RosClock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        if self._settings.notes:
            self._notes.write(Path(self._settings.notes))

    def _on_arm(self, message: JointTrajectory) -> None:
        self._position = np.array(message.points[-1].positions)

    def _on_gripper(self, message: JointTrajectory, info: dict[str, int]) -> None:
        self._notes.commands.append((info["source_timestamp"], float(message.points[0].positions[0])))

    def _tell(self) -> None:
        number, now_ns = next(self._numbers), time.time_ns()
        positions = np.append(self._position, mark_of(number))
        names = [*self._joints, *self._spec.commands[1].actions]
        self._joints_out.publish(convert.joint_message(names, positions, np.zeros(len(names)), now_ns))
        self._pose_out.publish(convert.pose_message(np.array(TOOL), None, now_ns, self._spec.base_frame))
        if number % SELDOM == 0:
            target = convert.trajectory_message(positions[None], self._spec.action_names, now_ns, self._spec.period_ns)
            self._in_force_out.publish(target)


def main(_: Any = None) -> int:
    return run_node(PlainArmNode)


if __name__ == "__main__":
    sys.exit(main())
