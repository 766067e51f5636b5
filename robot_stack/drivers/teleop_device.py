"""What every teleoperation device does alike, and what a person's hand on one says. No device knows ROS.

Shapes: A = numbers in one action.
"""

import enum
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from robot_stack.core.types import FloatArray


class Mark(enum.StrEnum):
    """What an operator says about an episode, or to the executor."""

    START = "start"
    SUCCESS = "success"
    FAILURE = "failure"
    DISCARD = "discard"
    HAND_BACK = "hand_back"  # after a takeover: the policy may go on

    @property
    def service(self) -> str:
        """Who is told, relative to the robot's namespace."""
        return f"{'executor' if self is Mark.HAND_BACK else 'recorder'}/{self.value}"


@dataclass(frozen=True)
class Requests:
    """What was asked for since the last look, besides motion.

    Attributes:
        e_stop: whether the e-stop was pressed.
        marks: in the order in which they were given.
        switches: how often the next one of several arms was asked for.
    """

    e_stop: bool = False
    marks: tuple[Mark, ...] = ()
    switches: int = 0


class TeleopDevice(Protocol):
    """A source of single targets; used by one thread. Its deadman is its own: silence holds the arm."""

    def open(self) -> None:
        """Take hold of the device.

        Raises:
            ProphRLError: it cannot be used; the message says what to do.
        """
        ...

    def reset(self) -> None:
        """Begin anew: somebody else has moved the arm, or an episode begins."""
        ...

    def target(self, tick_ns: int, reference: FloatArray) -> FloatArray | None:
        """The absolute target [A] for a tick, continuing from ``reference`` [A]; None while nobody asks for anything.

        Raises:
            ProphRLError: what is asked for cannot be done; the arm holds.
        """
        ...

    def requests(self) -> Requests:
        """What else was asked for; told whether or not the arm moves."""
        ...

    def close(self) -> None:
        """Let go of the device; harmless where it is not open."""
        ...


class GripperWish(enum.StrEnum):
    """What a hand asks of the gripper."""

    KEEP = "keep"
    OPEN = "open"
    CLOSE = "close"
    TOGGLE = "toggle"


@dataclass(frozen=True)
class Wish:
    """What a hand that holds the deadman asks for.

    Attributes:
        motion: of the tool along and about the axes of the base frame, each number from -1 to 1 (full speed) [6].
        gripper: see ``GripperWish``.
    """

    motion: FloatArray = field(default_factory=lambda: np.zeros(6))
    gripper: GripperWish = GripperWish.KEEP


class Hand(Protocol):
    """A device by which a person points: keyboard, gamepad. ``drivers.jog_teleop`` makes targets of what it says."""

    def open(self) -> None:
        """See ``TeleopDevice``."""
        ...

    def wish(self) -> Wish | None:
        """What is asked for now; None while the deadman is not held."""
        ...

    def requests(self) -> Requests:
        """See ``TeleopDevice``."""
        ...

    def close(self) -> None:
        """See ``TeleopDevice``."""
        ...
