"""A terminal's keys as a teleoperation device. Whoever lets go of the keys stops the arm."""

import os
import select
import sys
import termios
import threading
import time
import tty
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from robot_stack.core.errors import ProphRLError
from robot_stack.core.types import FloatArray

HELP = "a/d: x   w/s: y   r/f: up/down   space: gripper   e: e-stop   ctrl-C: end. The arm moves only while a key is held."
DIRECTIONS = {"a": (-1, 0, 0), "d": (1, 0, 0), "w": (0, 1, 0), "s": (0, -1, 0), "r": (0, 0, 1), "f": (0, 0, -1)}


@dataclass(frozen=True)
class KeyboardSettings:
    """How keys become motion.

    Attributes:
        deadman_s: silence after which the arm stops [s]. A terminal repeats a held key every 30-50 ms, first after 250-500 ms.
        speed: part of the robot's largest speed.
    """

    deadman_s: float = 0.15
    speed: float = 0.3


@dataclass(frozen=True)
class KeyState:
    """What is asked for now.

    Attributes:
        direction: of the tool, each axis -1, 0 or 1 [3].
        gripper: opening, 0 or 1.
        e_stop: whether the e-stop key was pressed since the last look.
    """

    direction: FloatArray = field(default_factory=lambda: np.zeros(3))
    gripper: float = 1.0
    e_stop: bool = False


class Keyboard:
    """Reads keys from the terminal without waiting for a line; use as a context manager.

    Raises:
        ProphRLError: standard input is not a terminal.
    """

    def __init__(self, settings: KeyboardSettings | None = None) -> None:
        if not sys.stdin.isatty():
            raise ProphRLError("keyboard teleoperation needs a terminal as standard input; start it in one, not through a pipe")
        self.settings = settings or KeyboardSettings()
        self._lock = threading.Lock()
        self._direction: FloatArray = np.zeros(3)
        self._pressed_ns = 0
        self._gripper = 1.0
        self._e_stop = False
        self._ending, self._end = os.pipe()
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)

    def __enter__(self) -> Self:
        self._descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._end, b"x")
        self._thread.join(timeout=1.0)
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def press(self, key: str) -> None:
        """Take in one key."""
        with self._lock:
            self._pressed_ns = time.monotonic_ns()
            if key == " ":
                self._gripper = 1.0 - self._gripper
            elif key == "e":
                self._e_stop = True
            self._direction = np.array(DIRECTIONS.get(key, (0, 0, 0)), dtype=np.float64)

    def state(self) -> KeyState | None:
        """What is asked for, or None while no key is held."""
        with self._lock:
            e_stop, self._e_stop = self._e_stop, False
            silent_s = (time.monotonic_ns() - self._pressed_ns) / 1e9
            if silent_s > self.settings.deadman_s and not e_stop:
                return None
            return KeyState(self._direction, self._gripper, e_stop)

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._descriptor, self._ending], [], [])
            if self._ending in ready:
                return
            for key in os.read(self._descriptor, 64).decode(errors="ignore"):
                self.press(key)
