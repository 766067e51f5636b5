"""The loop of an arm without a controller of its own: read it, follow trajectories as ros2_control's do, command it.

Shapes: A = numbers in one action (joints and gripper openings). Knows neither ROS nor LeRobot.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import CommandInterface, CommandSpec, RobotSpec
from robot_stack.core.types import FloatArray, ImageArray
from robot_stack.drivers.trajectory_controller import ControllerSettings, JointTrajectoryGoal, TrajectoryController

SAME = 1e-6  # difference [rad, opening] up to which what was sent counts as what was asked for


class ArmError(ProphRLError):
    """An arm that does not answer."""


@dataclass(frozen=True)
class ArmReading:
    """What an arm tells.

    Attributes:
        positions: of joints and grippers [A].
        pictures: those that are new, by camera [H, W, 3] RGB.
    """

    positions: FloatArray
    pictures: Mapping[str, ImageArray] = field(default_factory=dict)


class DrivenArm(Protocol):
    """An arm that is told positions; used by one thread."""

    def read(self) -> ArmReading:
        """What it measures now.

        Raises:
            ArmError: it does not answer.
        """
        ...

    def send(self, target: FloatArray) -> FloatArray:
        """Command positions [A]; returns those that were really sent.

        Raises:
            ArmError: it does not answer.
        """
        ...


@dataclass(frozen=True)
class ArmCycle:
    """One turn of the loop.

    Attributes:
        reading: what the arm told.
        in_force: the positions [A] that it follows now; while it was never commanded, those that it has.
        altered: whether the arm sent something else than it was asked to.
    """

    reading: ArmReading
    in_force: FloatArray
    altered: bool


class ArmLoop:
    """Follows what was commanded last; nothing is sent before the first command.

    Args:
        arm: connected.
        spec: the robot file; its arms take ``joint_trajectory``.
        retries: failed turns in a row that are borne.

    Raises:
        ProphRLError: the robot is commanded by poses.
    """

    def __init__(self, arm: DrivenArm, spec: RobotSpec, retries: int) -> None:
        self._arm, self._spec, self._retries = arm, spec, retries
        for command in spec.commands:
            if command.interface is CommandInterface.TARGET_POSE:
                raise ProphRLError(f"robot {spec.name} is commanded by target_pose; this driver follows joint_trajectory only")
        self._lock = threading.Lock()
        self._failures = 0
        self._commanded = False
        self._controllers: dict[str, TrajectoryController] = {}  # topic -> its controller, from the first reading on
        self._target: FloatArray = np.zeros(len(spec.actions))

    def accept(self, command: CommandSpec, goal: JointTrajectoryGoal, now_ns: int) -> None:
        """Take a trajectory for the joints of ``command``; from any thread.

        Raises:
            RejectedTrajectoryError: the controller refuses it.
            ArmError: the arm has not been read yet.
        """
        with self._lock:
            if command.topic not in self._controllers:
                raise ArmError(f"trajectory on {command.topic} before the arm has told where it is")
            self._controllers[command.topic].accept(goal, now_ns)
            self._commanded = True

    def command_gripper(self, command: CommandSpec, openings: FloatArray) -> None:
        """Take openings, 0 to 1, of the grippers of ``command``; from any thread. Raises as ``accept``."""
        with self._lock:
            if not self._controllers:
                raise ArmError(f"command on {command.topic} before the arm has told where it is")
            self._target[self._spec.columns(command)] = np.clip(openings, 0.0, 1.0)
            self._commanded = True

    def turn(self, now_ns: int) -> ArmCycle | None:
        """Read, follow, command; None where the arm failed to answer, which is borne a few times.

        Raises:
            ArmError: it failed too often.
        """
        try:
            cycle = self._turn(now_ns)
        except ArmError:
            self._failures += 1
            if self._failures > self._retries:
                raise
            return None
        self._failures = 0
        return cycle

    def _turn(self, now_ns: int) -> ArmCycle:
        reading = self._arm.read()
        with self._lock:
            if not self._commanded:
                self._begin(reading.positions)
                return ArmCycle(reading, reading.positions, altered=False)
            for command in self._arms:
                columns = self._spec.columns(command)
                here = reading.positions[columns]
                self._target[columns] = self._controllers[command.topic].update(now_ns, here, np.zeros(len(columns)))
            target = self._target.copy()
        sent = self._arm.send(target)
        return ArmCycle(reading, sent, altered=bool((np.abs(sent - target) > SAME).any()))

    def _begin(self, positions: FloatArray) -> None:
        """A first trajectory sets out from here."""
        self._target = positions.copy()
        settings = ControllerSettings(update_rate_hz=self._spec.command_rate_hz)
        self._controllers = {
            command.topic: TrajectoryController(command.joints, positions[self._spec.columns(command)], settings)
            for command in self._arms
        }

    @property
    def _arms(self) -> list[CommandSpec]:
        return [command for command in self._spec.commands if not command.interface.is_gripper]
