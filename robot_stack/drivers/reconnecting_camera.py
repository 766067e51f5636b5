"""A camera that is opened again when it goes silent, a bounded number of times: a wrapper around any other camera."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from robot_stack.core.errors import CameraError, UnknownNameError
from robot_stack.core.ports import Camera
from robot_stack.core.types import CameraFrame, CameraInfoValues

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReconnectSettings:
    """How patient to be.

    Attributes:
        attempts: to open the camera at the start; as many again after a hardware reset.
        comeback_attempts: to open it again when it has gone silent; somebody may have to plug it in.
        first_picture_s: longest wait for the first picture of an attempt [s].
        pause_s: between two attempts [s]; a device that was plugged in needs about a second.
        reset_s: wait after a hardware reset [s], until the device has come back on the bus.
        silence_s: time without a picture after which the camera is opened anew [s].
    """

    attempts: int = 3
    comeback_attempts: int = 30
    first_picture_s: float = 3.0
    pause_s: float = 1.0
    reset_s: float = 5.0
    silence_s: float = 1.0


class ReconnectingCamera:
    """See the module.

    Args:
        camera: the camera.
        settings: see ``ReconnectSettings``.
        stopping: set by whoever wants to end; no wait outlasts it but for the one for a first picture.
        reset: resets the device, where it can be; tried once for each time that opening has failed.
    """

    def __init__(
        self,
        camera: Camera,
        settings: ReconnectSettings,
        stopping: threading.Event,
        reset: Callable[[], None] | None = None,
    ) -> None:
        self._camera, self._settings, self._stopping, self._reset = camera, settings, stopping, reset
        self._first: CameraFrame | None = None
        self._heard_s = 0.0
        self.reconnects = 0

    def start(self) -> None:
        """Open the camera and wait for its first picture.

        Raises:
            UnknownNameError: there is no such device; that is not retried, as waiting does not mend a wrong name.
            CameraError: every attempt failed, also after a reset where there is one.
        """
        self._open(known=False)

    def read(self, timeout_s: float) -> CameraFrame | None:
        """See ``core.ports.Camera``.

        Raises:
            CameraError: the camera has gone silent and could not be opened again.
        """
        frame, self._first = self._first, None
        problem = f"no picture for {self._settings.silence_s:g} s"
        if frame is None:
            try:
                frame = self._camera.read(timeout_s)
            except CameraError as error:
                self._heard_s, problem = -self._settings.silence_s, str(error)
        if frame is not None:
            self._heard_s = time.monotonic()
        elif time.monotonic() - self._heard_s > self._settings.silence_s and not self._stopping.is_set():
            _log.warning("%s; opening the camera again", problem)
            self.reconnects += 1
            self._camera.close()
            self._open(known=True)
        return frame

    @property
    def info(self) -> CameraInfoValues:
        return self._camera.info

    def close(self) -> None:
        self._camera.close()

    def _open(self, known: bool) -> None:
        """Open with all means; ``known``: the device was there before, so it may come back.

        Raises:
            UnknownNameError, CameraError: see ``start`` and ``read``.
        """
        attempts = self._settings.comeback_attempts if known else self._settings.attempts
        problem = self._try(self._settings.attempts if self._reset is not None else attempts, known)
        was_reset = False
        if problem is not None and self._reset is not None and not self._stopping.is_set():
            _log.warning("%s; resetting the device", problem)
            try:
                self._reset()
                was_reset = True
            except (CameraError, UnknownNameError) as error:  # gone altogether; it can still be plugged in again
                _log.warning("%s", error)
            self._stopping.wait(self._settings.reset_s)
            problem = self._try(attempts, known=True)
        if problem is not None and not self._stopping.is_set():
            after = ", the last ones after a hardware reset" if was_reset else ""
            raise CameraError(self._name(problem), f"gave up after {attempts} attempts{after}") from problem

    def _try(self, attempts: int, known: bool) -> CameraError | UnknownNameError | None:
        """Some attempts; None where one succeeded, else what went wrong with the last."""
        problem: CameraError | UnknownNameError | None = None
        for attempt in range(attempts):
            if attempt and self._stopping.wait(self._settings.pause_s):
                break
            try:
                self._camera.start()
                self._first = self._camera.read(self._settings.first_picture_s)
                if self._first is not None:
                    self._heard_s = time.monotonic()
                    return None
                problem = CameraError(self.info.serial, f"no picture within {self._settings.first_picture_s:g} s")
            except UnknownNameError as error:
                if not known:
                    raise
                problem = error
            except CameraError as error:
                problem = error
            self._camera.close()
        return problem

    @staticmethod
    def _name(problem: Exception) -> str:
        """What is wrong, without the word that ``CameraError`` puts in front."""
        return str(problem).removeprefix("camera ")
