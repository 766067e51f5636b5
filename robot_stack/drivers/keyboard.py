"""A terminal's keys as a hand (``drivers.teleop_device``). Whoever lets go of the keys stops the arm."""

import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robot_stack.core.errors import ProphRLError
from robot_stack.core.types import FloatArray
from robot_stack.drivers.teleop_device import GripperWish, Mark, Requests, Wish

HELP = (
    "a/d: x   w/s: y   r/f: up/down   space: gripper   j/l, i/k, u/o: turn about x, y, z, where the arm can\n"
    "e: e-stop   b: begin an episode   y: success   n: failure   x: discard   ctrl-C: end\n"
    "t: the other one of two arms   p: after a takeover, the policy may go on\n"
    "The arm moves only while one of the keys of the first line is held."
)
KEY_PAIRS = ("da", "ws", "rf", "lj", "ik", "uo")  # plus and minus of x, y, z and of the turns about them
DIRECTIONS = {key: (axis, sign) for axis, pair in enumerate(KEY_PAIRS) for key, sign in zip(pair, (1, -1), strict=True)}
MARKS = {"b": Mark.START, "y": Mark.SUCCESS, "n": Mark.FAILURE, "x": Mark.DISCARD, "p": Mark.HAND_BACK}


@dataclass(frozen=True)
class KeyboardSettings:
    """When a key counts as held.

    Attributes:
        deadman_s: silence after which the arm stops [s]. A terminal repeats a held key every 30-50 ms, first after 250-500 ms.
    """

    deadman_s: float = 0.15


class Keyboard:
    """Reads keys from the terminal without waiting for a line; a ``Hand``.

    Only keys that ask for motion count for the deadman, so marking an episode moves nothing. The terminal is standard input, or
    else that of the session: ``ros2 launch`` gives its processes a pipe to read from.

    Args:
        settings: see ``KeyboardSettings``.
        tell: told when the terminal is gone, which stops the arm for good.

    Raises:
        ProphRLError: there is no terminal, or it belongs to another program now.
    """

    def __init__(self, settings: KeyboardSettings | None = None, tell: Callable[[str], None] = lambda _: None) -> None:
        self._descriptor = _terminal()
        self._settings, self._tell = settings or KeyboardSettings(), tell
        self._lock = threading.Lock()
        self._motion: FloatArray = np.zeros(6)
        self._pressed_ns: int | None = None
        self._toggles = 0
        self._e_stop = False
        self._marks: list[Mark] = []
        self._switches = 0
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        if self._thread is not None:
            return
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        self._ending, self._end = os.pipe()
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread is None:
            return
        os.write(self._end, b"x")
        self._thread.join(timeout=1.0)
        self._thread = None
        try:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        except termios.error as error:  # the terminal is gone, and its settings with it
            self._tell(f"terminal: {error}")
        os.close(self._ending)
        os.close(self._end)

    def wish(self) -> Wish | None:
        with self._lock:
            if self._pressed_ns is None or (time.monotonic_ns() - self._pressed_ns) / 1e9 > self._settings.deadman_s:
                self._toggles = 0  # one that nobody took is not done later
                return None
            toggles, self._toggles = self._toggles, 0
            return Wish(self._motion, GripperWish.TOGGLE if toggles % 2 else GripperWish.KEEP)

    def requests(self) -> Requests:
        with self._lock:
            requests = Requests(self._e_stop, tuple(self._marks), self._switches)
            self._e_stop, self._marks, self._switches = False, [], 0
            return requests

    def _press(self, key: str) -> None:
        """Take in one key."""
        with self._lock:
            if key == "e":
                self._e_stop = True
                self._pressed_ns = None
            elif key == "t":
                self._switches += 1
            elif key in MARKS:
                self._marks.append(MARKS[key])
            elif key == " " or key in DIRECTIONS:
                self._pressed_ns = time.monotonic_ns()
                self._motion = np.zeros(6)
                if key == " ":
                    self._toggles += 1
                else:
                    axis, sign = DIRECTIONS[key]
                    self._motion[axis] = sign

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._descriptor, self._ending], [], [])
            if self._ending in ready:
                return
            try:
                typed = os.read(self._descriptor, 64)
            except OSError:  # what a terminal says whose other end has been closed
                typed = b""
            if not typed:
                with self._lock:
                    self._pressed_ns = None
                self._tell("the terminal is gone: no key can be pressed any more, so the arm holds")
                return
            for key in typed.decode(errors="ignore"):
                self._press(key)


def _terminal() -> int:
    """A descriptor of the terminal."""
    if sys.stdin.isatty():
        return sys.stdin.fileno()
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise ProphRLError("keyboard teleoperation needs a terminal; start it in one") from error
    if os.tcgetpgrp(descriptor) != os.getpgrp():  # reading would stop this process
        os.close(descriptor)
        raise ProphRLError("keyboard teleoperation runs in the background of its terminal; start it in the foreground")
    return descriptor
