"""Somebody at the keyboard of a teleoperation node, through a pseudo-terminal."""

import contextlib
import os
import threading
import time

REPEAT_S = 0.04  # between two repetitions of a key that is held


class Keys:
    """Somebody at the keyboard, through a pseudo-terminal, in a thread of its own."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()
        self._held = ""
        self._pressed_ns = 0
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._type, name="keys")
        self._thread.start()

    def hold(self, key: str) -> None:
        """From now on, as a terminal repeats it."""
        with self._lock:
            self._held = key

    def let_go(self) -> int:
        """When the key was seen last [ns]."""
        with self._lock:
            self._held = ""
            return self._pressed_ns

    def unplug(self) -> int:
        """The terminal is gone; when [ns]."""
        with self._lock:
            self._held = ""
            now_ns = time.time_ns()
            os.close(self.ours)
            return now_ns

    def plug_in(self) -> None:
        """A new terminal under the same descriptor; whoever read the old one has to be started again."""
        self.ours, theirs = os.openpty()
        os.dup2(theirs, self.theirs)
        os.close(theirs)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        for descriptor in (self.ours, self.theirs):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _type(self) -> None:
        while not self._ending.wait(REPEAT_S):
            with self._lock:
                if self._held:
                    os.write(self.ours, self._held.encode())
                    self._pressed_ns = time.time_ns()
