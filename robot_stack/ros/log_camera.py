"""A camera of a recorded episode as a live camera, in real time and with stamps of now.

It stands here and not among the drivers, because drivers do not read logs.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robot_stack.core.errors import BadFileError, CameraError, UnknownNameError
from robot_stack.core.types import CameraFrame, CameraInfoValues, DepthArray
from robot_stack.drivers.file_camera import StampShift
from robot_stack.episodes.log_reader import EpisodeLog
from robot_stack.episodes.messages import BadMessageError, image_array, to_ns
from robot_stack.episodes.ticks import deserialise, relative
from robot_stack.ros import topics


class LogCamera:
    """See the module.

    Args:
        path: a log, finished or cut.
        camera: its name in that log.
        loop: begin again at the end; else no more pictures come.
    """

    def __init__(self, path: Path, camera: str, loop: bool) -> None:
        self._path, self._camera, self._loop = path, camera, loop
        self._topics = {
            "picture": topics.image_raw(camera),
            "compressed": f"{topics.image_raw(camera)}/compressed",
            "depth": topics.aligned_depth(camera),
        }
        self._log: EpisodeLog | None = None
        self._frames: Iterator[CameraFrame] = iter(())
        self._next: CameraFrame | None = None
        self._info: CameraInfoValues | None = None
        self._shift = StampShift()
        self._begin_s = self._first_ns = 0.0

    def start(self) -> None:
        """Open the log and find the first picture.

        Raises:
            BadFileError: not a log of ours, or it has no picture of this camera.
            UnknownNameError: the robot of the log has no such camera.
        """
        if not self._path.is_file():
            raise BadFileError(self._path, "no such file")
        self._log = EpisodeLog.open(self._path)
        names = self._log.meta.spec.camera_names
        if self._camera not in names:
            raise UnknownNameError(f"camera in {self._path.name}", self._camera, names)
        self._begin()
        if self._next is None:
            raise BadFileError(self._path, f"has no picture of camera {self._camera}")
        self._info = self._recorded_info(*self._next.image.shape[1::-1])

    def read(self, timeout_s: float) -> CameraFrame | None:
        """See ``core.ports.Camera``."""
        if self._log is None:
            raise CameraError(self._path, "is not open")
        if self._next is None and self._loop:
            self._begin()
        frame = self._next
        if frame is None:
            time.sleep(timeout_s)
            return None
        ahead_s = self._begin_s + (frame.stamp_ns - self._first_ns) / 1e9 - time.monotonic()
        time.sleep(max(0.0, min(ahead_s, timeout_s)))
        if ahead_s > timeout_s:
            return None
        self._next = next(self._frames, None)
        return CameraFrame(self._shift.shifted(frame.stamp_ns, time.time_ns()), frame.image, frame.depth)

    @property
    def info(self) -> CameraInfoValues:
        if self._info is None:
            raise CameraError(self._path, "has not been opened")
        return self._info

    def close(self) -> None:
        self._log, self._next, self._frames = None, None, iter(())

    def _begin(self) -> None:
        self._frames = self._recorded()
        self._next = next(self._frames, None)
        self._begin_s = time.monotonic()
        self._first_ns = self._next.stamp_ns if self._next is not None else 0

    def _messages(self, wanted: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        """(topic, message) of some topics; what cannot be read is left out."""
        assert self._log is not None
        for logged in self._log.messages(lambda topic: relative(topic, wanted) is not None):
            name = relative(logged.topic, wanted)
            try:
                yield str(name), deserialise(logged)
            except BadMessageError:
                continue

    def _recorded(self) -> Iterator[CameraFrame]:
        """The frames as they were recorded; depth is sent before the picture that it belongs to."""
        depth, depth_ns, last_ns = None, -1, -1
        for name, message in self._messages(tuple(self._topics.values())):
            stamp_ns = to_ns(message.header.stamp)
            try:
                if name == self._topics["depth"]:
                    depth, depth_ns = _depth_array(message, name), stamp_ns
                elif stamp_ns > last_ns:
                    image = image_array(message, name)
                    fits = depth is not None and depth_ns == stamp_ns and depth.shape == image.shape[:2]
                    last_ns = stamp_ns
                    yield CameraFrame(stamp_ns, image, depth if fits else None)
            except BadMessageError:
                continue

    def _recorded_info(self, width: int, height: int) -> CameraInfoValues:
        for _, message in self._messages((topics.camera_info(self._camera),)):
            if (message.width, message.height) == (width, height):
                k, distortion = np.array(message.k, dtype=np.float64).reshape(3, 3), tuple(map(float, message.d))
                return CameraInfoValues(width, height, k, message.distortion_model, distortion, self._path.name)
        return CameraInfoValues.uncalibrated(width, height, self._path.name)


def _depth_array(message: Any, topic: str) -> DepthArray:
    """The depth [H, W] in mm of an Image."""
    pixels = np.frombuffer(bytes(message.data), "<u2")
    if message.encoding != "16UC1" or message.step != 2 * message.width or len(pixels) != message.height * message.width:
        raise BadMessageError(topic, f"no depth of {message.width}x{message.height} pixels in 16UC1")
    return pixels.reshape(message.height, message.width).astype(np.uint16)
