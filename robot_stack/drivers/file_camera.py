"""A file as a live camera: its pictures come in real time, with stamps of now.

Films (MP4, AVI) by OpenCV, recordings of RealSense cameras by librealsense (``realsense`` extra). Logs of our own are played by
``ros.log_camera``, as drivers do not read logs.
"""

import time
from pathlib import Path

from robot_stack.core.errors import BadFileError, CameraError
from robot_stack.core.types import CameraFrame, CameraInfoValues
from robot_stack.drivers.opencv import cv2
from robot_stack.drivers.realsense import RealSenseCamera, RealSenseSettings, open_recording, pyrealsense2

FILMS = (".mp4", ".avi", ".mkv", ".mov")
RECORDINGS = (".bag", ".db3")  # older and newer format of librealsense
LARGEST_SHIFT_NS = 1_000_000_000  # stamps that lie further from now than this begin a new pass


class FilmCamera:
    """A film, at its own rate. A reader that is late gets the next picture at once; what it missed is not made up for.

    Args:
        path: the file.
        loop: begin again at the end; else no more pictures come.
        rate_hz: instead of the film's own; 0: its own.
    """

    def __init__(self, path: Path, loop: bool, rate_hz: float = 0.0) -> None:
        self._path, self._loop, self._rate_hz = path, loop, rate_hz
        self._capture: cv2.VideoCapture | None = None
        self._info: CameraInfoValues | None = None
        self._period_s = self._due_s = 0.0

    def start(self) -> None:
        """Open the film.

        Raises:
            BadFileError: it is missing, or no film.
        """
        if not self._path.is_file():
            raise BadFileError(self._path, "no such file")
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        rate_hz = self._rate_hz or capture.get(cv2.CAP_PROP_FPS)
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if not capture.isOpened() or rate_hz <= 0 or min(width, height) <= 0:
            capture.release()
            raise BadFileError(self._path, "OpenCV finds no film in it")
        self._capture, self._period_s = capture, 1.0 / rate_hz
        self._info = CameraInfoValues.uncalibrated(width, height, self._path.name)
        self._due_s = time.monotonic()

    def read(self, timeout_s: float) -> CameraFrame | None:
        """See ``core.ports.Camera``."""
        if self._capture is None:
            raise CameraError(self._path, "is not open")
        ahead_s = self._due_s - time.monotonic()
        if ahead_s > timeout_s:
            time.sleep(timeout_s)
            return None
        picture = self._next()
        if picture is None:  # the end
            time.sleep(timeout_s)
            return None
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s = max(self._due_s + self._period_s, time.monotonic())
        return CameraFrame(time.time_ns(), cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))

    @property
    def info(self) -> CameraInfoValues:
        if self._info is None:
            raise CameraError(self._path, "has not been opened")
        return self._info

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _next(self) -> cv2.typing.MatLike | None:
        assert self._capture is not None
        good, picture = self._capture.read()
        if not good and self._loop:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            good, picture = self._capture.read()
        return picture if good else None


class RecordingCamera:
    """A recording of a RealSense camera; librealsense keeps its pace.

    Args:
        path: the file.
        loop: begin again at the end.
        depth: whether depth is wanted, too.

    Raises:
        MissingDependencyError: pyrealsense2 is not installed.
    """

    def __init__(self, path: Path, loop: bool, depth: bool) -> None:
        self._path, self._loop = path, loop
        self._camera = RealSenseCamera(open_recording(str(path)), RealSenseSettings(depth=depth))
        self._shift = StampShift()

    def start(self) -> None:
        """Open the recording.

        Raises:
            BadFileError: it is missing.
            CameraError: it is none, or lacks a stream.
        """
        if not self._path.is_file():
            raise BadFileError(self._path, "no such file")
        self._camera.start()

    def read(self, timeout_s: float) -> CameraFrame | None:
        """See ``core.ports.Camera``."""
        frame = self._camera.read(timeout_s)
        if frame is not None:
            return CameraFrame(self._shift.shifted(frame.stamp_ns, time.time_ns()), frame.image, frame.depth)
        if self._loop and self._camera.device.as_playback().current_status() == pyrealsense2().playback_status.stopped:
            self._camera.close()
            self._camera.start()
        return None

    @property
    def info(self) -> CameraInfoValues:
        return self._camera.info

    def close(self) -> None:
        self._camera.close()


class StampShift:
    """Moves the stamps of a recording to now: by one and the same shift, so that their distances stay, for each pass."""

    def __init__(self) -> None:
        self._shift_ns: int | None = None
        self._last_ns = 0

    def shifted(self, stamp_ns: int, now_ns: int) -> int:
        """The new stamp [ns] of what was recorded at ``stamp_ns`` and is played at ``now_ns``; never earlier than the last."""
        if self._shift_ns is None or abs(stamp_ns + self._shift_ns - now_ns) > LARGEST_SHIFT_NS:
            self._shift_ns = now_ns - stamp_ns
        self._last_ns = max(self._last_ns + 1, stamp_ns + self._shift_ns)
        return self._last_ns
