"""A gamepad as a hand (``drivers.teleop_device``), from what ``sensor_msgs/Joy`` carries: axes and buttons by number.

Without a held deadman button, or without messages, nothing moves.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from robot_stack.drivers.gamepad_mapping import LAYOUTS, MOTIONS, Axis, ButtonPair, GamepadError, GamepadMapping
from robot_stack.drivers.teleop_device import GripperWish, Mark, Requests, Wish


@dataclass(frozen=True)
class GamepadSettings:
    """How a gamepad is listened to.

    Attributes:
        mapping: see ``GamepadMapping``.
        deadman_s: silence of its messages after which the arm stops [s]; joy's nodes repeat the last one every 50 ms.
    """

    mapping: GamepadMapping = field(default_factory=lambda: LAYOUTS["game_controller"])
    deadman_s: float = 0.15


class Gamepad:
    """A ``Hand``; ``take`` it what the gamepad says."""

    def __init__(self, settings: GamepadSettings | None = None) -> None:
        self._settings = settings or GamepadSettings()
        self._lock = threading.Lock()
        self._axes: Sequence[float] = ()
        self._buttons: Sequence[int] | None = None
        self._heard_ns = 0
        self._e_stop = False
        self._marks: list[Mark] = []
        self._switches = 0

    def open(self) -> None:
        with self._lock:
            self._buttons = None  # what was held before counts no more

    def close(self) -> None:
        """Nothing is held."""

    def take(self, axes: Sequence[float], buttons: Sequence[int]) -> None:
        """Take in one message.

        Raises:
            GamepadError: a number is not finite, or there are fewer axes or buttons than the mapping needs; nothing moves.
        """
        try:
            self._check(axes, buttons)
        except GamepadError:
            with self._lock:
                self._buttons = None
            raise
        mapping = self._settings.mapping
        with self._lock:
            before, self._axes, self._buttons = self._buttons, tuple(axes), tuple(buttons)
            self._heard_ns = time.monotonic_ns()
            # A button that is held in the first message was pressed for something else; only the e-stop counts even then.
            self._e_stop |= bool(buttons[mapping.e_stop]) and (before is None or not before[mapping.e_stop])
            if before is not None:
                pressed = [mark for mark in Mark if buttons[getattr(mapping, mark)] and not before[getattr(mapping, mark)]]
                self._marks += pressed
                self._switches += bool(buttons[mapping.switch]) and not before[mapping.switch]

    def wish(self) -> Wish | None:
        mapping = self._settings.mapping
        with self._lock:
            silent_s = (time.monotonic_ns() - self._heard_ns) / 1e9
            buttons = self._buttons
            if buttons is None or silent_s > self._settings.deadman_s:
                return None
            if not buttons[mapping.deadman] or buttons[mapping.e_stop]:
                return None
            motion = np.array([self._deflection(mapping.motions.get(name), buttons) for name in MOTIONS])
        gripper = GripperWish.KEEP
        if buttons[mapping.gripper_close]:
            gripper = GripperWish.CLOSE
        elif buttons[mapping.gripper_open]:
            gripper = GripperWish.OPEN
        return Wish(motion, gripper)

    def requests(self) -> Requests:
        with self._lock:
            requests = Requests(self._e_stop, tuple(self._marks), self._switches)
            self._e_stop, self._marks, self._switches = False, [], 0
            return requests

    def _deflection(self, motion: Axis | ButtonPair | None, buttons: Sequence[int]) -> float:
        """From -1 to 1."""
        if motion is None:
            return 0.0
        if isinstance(motion, ButtonPair):
            return float(bool(buttons[motion.plus])) - float(bool(buttons[motion.minus]))
        value = float(np.clip(self._axes[motion.axis], -1.0, 1.0))
        zone = self._settings.mapping.dead_zone
        beyond = max(0.0, abs(value) - zone) / (1.0 - zone)
        return float(np.clip(motion.scale * np.sign(value) * beyond, -1.0, 1.0))

    def _check(self, axes: Sequence[float], buttons: Sequence[int]) -> None:
        mapping = self._settings.mapping
        needed_axes = max((m.axis for m in mapping.motions.values() if isinstance(m, Axis)), default=-1) + 1
        needed_buttons = max(mapping.buttons.values()) + 1
        if len(axes) < needed_axes or len(buttons) < needed_buttons:
            raise GamepadError(
                f"the gamepad has {len(axes)} axes and {len(buttons)} buttons, its mapping needs {needed_axes} and "
                f"{needed_buttons}: choose the layout that fits the node that reads it ({', '.join(LAYOUTS)})"
            )
        if not np.isfinite(np.asarray(axes, dtype=np.float64)).all():
            raise GamepadError(f"an axis of the gamepad is not finite: {list(axes)}")
