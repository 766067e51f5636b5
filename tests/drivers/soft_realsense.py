"""A RealSense camera without a camera: librealsense's own ``software_device``, fed by the test."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

rs = pytest.importorskip("pyrealsense2", reason="needs the realsense extra")

WIDTH, HEIGHT = 64, 48
COEFFICIENTS = [0.1, -0.2, 0.003, 0.004, 0.05]


def intrinsics(focal: float, model: Any) -> Any:
    values = rs.intrinsics()
    values.width, values.height = WIDTH, HEIGHT
    values.fx, values.fy, values.ppx, values.ppy = focal, focal + 1.0, 31.25, 23.75
    values.model, values.coeffs = model, COEFFICIENTS
    return values


@dataclass
class SoftRealSense:
    """Two sensors, colour and depth, with the same lens.

    Attributes:
        baseline_m: by how much the depth sensor stands to the right of the colour sensor [m].
        bgr: whether the colour sensor speaks BGR.
        unit_m: of depth [m].
        domain: of the frames' timestamps.
    """

    serial: str = "soft-1"
    bgr: bool = False
    unit_m: float = 0.001
    baseline_m: float = 0.0
    model: Any = field(default_factory=lambda: rs.distortion.none)
    domain: Any = field(default_factory=lambda: rs.timestamp_domain.system_time)

    def __post_init__(self) -> None:
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, self.serial)
        self.device.register_info(rs.camera_info.name, "soft")
        self.colour, self._colour_profile = self._sensor(
            "RGB", rs.stream.color, rs.format.bgr8 if self.bgr else rs.format.rgb8, 3, 1
        )
        self.depth, self._depth_profile = self._sensor("Stereo", rs.stream.depth, rs.format.z16, 2, 2)
        self.depth.add_read_only_option(rs.option.depth_units, self.unit_m)
        beside = rs.extrinsics()
        beside.rotation, beside.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [self.baseline_m, 0, 0]
        self._depth_profile.register_extrinsics_to(self._colour_profile, beside)
        self.device.create_matcher(rs.matchers.default)
        self._number = 0
        self._last_ms: float | None = None

    def _sensor(self, name: str, stream: Any, pixel: Any, size: int, uid: int) -> tuple[Any, Any]:
        sensor = self.device.add_sensor(name)
        video = rs.video_stream()
        video.type, video.index, video.uid, video.fmt, video.bpp = stream, 0, uid, pixel, size
        video.width, video.height, video.fps = WIDTH, HEIGHT, 30
        video.intrinsics = intrinsics(50.0, self.model)
        return sensor, rs.video_stream_profile(sensor.add_video_stream(video, True))

    def push(self, colour: np.ndarray, depth: np.ndarray | None = None, stamp_ms: float | None = None, **metadata: int) -> None:
        """One exposure; ``metadata`` by the names of ``rs.frame_metadata_value``."""
        self._number += 1
        for name, value in metadata.items():
            self.colour.set_metadata(getattr(rs.frame_metadata_value, name), value)
        if stamp_ms is None:  # the syncer pairs what is less than half a period apart, so exposures must not crowd
            stamp_ms = time.time() * 1e3 if self._last_ms is None else self._last_ms + 1e3 / 30
        self._last_ms = stamp_ms
        if depth is not None:
            self._send(self.depth, self._depth_profile, depth, 2, stamp_ms)
        self._send(self.colour, self._colour_profile, colour, 3, stamp_ms)

    def _send(self, sensor: Any, profile: Any, pixels: np.ndarray, size: int, stamp_ms: float) -> None:
        frame = rs.software_video_frame()
        frame.pixels, frame.bpp, frame.stride = np.ascontiguousarray(pixels), size, size * WIDTH
        frame.timestamp, frame.domain, frame.frame_number = stamp_ms, self.domain, self._number
        frame.profile, frame.depth_units = profile.as_video_stream_profile(), self.unit_m
        sensor.on_video_frame(frame)


def record(path: str, pictures: list[np.ndarray], depths: list[np.ndarray]) -> None:
    """A recording of librealsense at 30 Hz, of pictures [48, 64, 3] and depths [48, 64]."""
    soft, syncer = SoftRealSense(), rs.syncer()
    recorder = rs.recorder(path, soft.device)
    sensors = {sensor.get_info(rs.camera_info.name): sensor for sensor in recorder.query_sensors()}
    for name, profile in (("RGB", soft._colour_profile), ("Stereo", soft._depth_profile)):
        sensors[name].open(profile)
        sensors[name].start(syncer)
    begin_ms = time.time() * 1e3
    for number, (picture, depth) in enumerate(zip(pictures, depths, strict=True)):
        soft.push(picture, depth, begin_ms + number * 1e3 / 30)
        syncer.poll_for_frames()
        time.sleep(1 / 30)  # the recorder dates frames by when they come
    for sensor in sensors.values():
        sensor.stop()
        sensor.close()
