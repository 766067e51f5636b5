"""Cameras of Video4Linux, and whatever else OpenCV can open (network streams), as a ``core.ports.Camera``.

Stamps: Video4Linux tells when the kernel began to receive a picture, on the monotonic clock; it is carried over to the system's
time once, by the time that has passed since then. Elsewhere a picture is stamped as soon as it has been grabbed, before it is
decoded. Neither knows the exposure: what lies before is a constant of the camera, to be corrected by the node's ``latency_ms``.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_stack.core.errors import CameraError, UnknownNameError
from robot_stack.core.types import CameraFrame, CameraInfoValues
from robot_stack.drivers.opencv import cv2

OLDEST_BUFFER_NS = 1_000_000_000  # a buffer's time further back than this is no time of the monotonic clock
RATE_TOLERANCE = 0.05  # drivers round 29.97 Hz to 30 and back


@dataclass(frozen=True)
class OpenCvSettings:
    """What is asked of the camera; it is refused where it gives something else.

    Attributes:
        width, height: of the pictures [px]; 0: whatever comes.
        rate_hz: 0: whatever comes.
        fourcc: pixel format, e.g. "MJPG" (most USB cameras reach their full rate only compressed); empty: whatever comes.
    """

    width: int = 0
    height: int = 0
    rate_hz: float = 0.0
    fourcc: str = ""


class OpenCvCamera:
    """See the module.

    Args:
        device: an index ("0"), a device ("/dev/video0", "/dev/v4l/by-id/..."), a file or an address.
        settings: see ``OpenCvSettings``.
    """

    def __init__(self, device: str, settings: OpenCvSettings) -> None:
        self._device, self._settings = device, settings
        self._capture: Any = None
        self._info: CameraInfoValues | None = None
        self._last_ns = 0

    def start(self) -> None:
        """Open the device, ask for what is wanted and compare.

        Raises:
            UnknownNameError: there is no such video device.
            CameraError: it cannot be opened, or gives something else than was asked for.
        """
        source, backend = capture_source(self._device)
        capture = cv2.VideoCapture(source, backend)
        if not capture.isOpened():
            capture.release()
            raise CameraError(self._device, "OpenCV cannot open it; is it in use, or may this user not read it (group video)?")
        wanted = self._settings
        if wanted.fourcc:  # first: sizes and rates depend on it
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted.fourcc))
        for name, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, wanted.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, wanted.height),
            (cv2.CAP_PROP_FPS, wanted.rate_hz),
        ):
            if value:
                capture.set(name, value)
        try:
            self._check(capture)
        except CameraError:
            capture.release()
            raise
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self._info = CameraInfoValues.uncalibrated(width, height, self._device)
        self._capture = capture

    def read(self, timeout_s: float) -> CameraFrame | None:
        """See ``core.ports.Camera``; OpenCV itself decides how long it waits, on Video4Linux one second at most."""
        if self._capture is None:
            raise CameraError(self._device, "is not open")
        begin_s = time.monotonic()
        if not self._capture.grab():
            # At the end of a file, or where the device is gone, OpenCV fails at once: do not ask again in a busy loop.
            time.sleep(max(0.0, timeout_s - (time.monotonic() - begin_s)))
            return None
        stamp_ns = self._stamp_ns()
        good, picture = self._capture.retrieve()
        if not good or stamp_ns <= self._last_ns:
            return None
        self._last_ns = stamp_ns
        return CameraFrame(stamp_ns, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))

    @property
    def info(self) -> CameraInfoValues:
        if self._info is None:
            raise CameraError(self._device, "has not been opened")
        return self._info

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _stamp_ns(self) -> int:
        system_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
        if self._capture.getBackendName() != "V4L2":
            return system_ns
        return stamp_of_buffer(self._capture.get(cv2.CAP_PROP_POS_MSEC), system_ns, monotonic_ns)

    def _check(self, capture: Any) -> None:
        """Raises: CameraError: something was asked for and something else is given."""
        wanted = self._settings
        code = int(capture.get(cv2.CAP_PROP_FOURCC))
        fourcc = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
        got: Mapping[str, tuple[Any, Any]] = {
            "width": (wanted.width, int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))),
            "height": (wanted.height, int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))),
            "format": (wanted.fourcc, fourcc),
        }
        differ = [f"{name} {given!r} instead of {asked!r}" for name, (asked, given) in got.items() if asked and asked != given]
        rate = capture.get(cv2.CAP_PROP_FPS)
        # Some drivers do not tell their rate; the node's diagnostics measure it.
        if wanted.rate_hz and rate > 0 and abs(rate - wanted.rate_hz) > RATE_TOLERANCE * wanted.rate_hz:
            differ.append(f"rate {rate:g} instead of {wanted.rate_hz:g} Hz")
        if differ:
            raise CameraError(self._device, f"gives {', '.join(differ)}; `v4l2-ctl --list-formats-ext` shows what it can")


def capture_source(device: str) -> tuple[int | str, int]:
    """What to open by which backend. Video devices are opened by number, links to them are followed.

    Raises:
        UnknownNameError: there is no such video device.
    """
    path = Path(f"/dev/video{device}" if device.isdigit() else device)
    number = re.fullmatch(r"/dev/video(\d+)", str(path.resolve()))
    if number is None and ("://" in device or path.is_file()):
        return device, cv2.CAP_ANY
    if number is None or not path.exists():
        raise UnknownNameError("video device", str(path), map(str, Path("/dev").glob("video*")))
    return int(number[1]), cv2.CAP_V4L2


def stamp_of_buffer(buffer_ms: float, system_ns: int, monotonic_ns: int) -> int:
    """System time [ns] of a buffer that was stamped by the monotonic clock [ms]; now, where that cannot have been its clock."""
    age_ns = monotonic_ns - round(buffer_ms * 1e6)
    return system_ns - age_ns if 0 <= age_ns <= OLDEST_BUFFER_NS else system_ns
