"""RealSense cameras as a ``core.ports.Camera``: colour, and depth aligned to it. Needs the ``realsense`` extra.

The one seam is ``find``, which gives the librealsense device: a connected one (``find_realsense``), a recording
(``open_recording``), or a ``software_device`` in tests. Everything behind it is the same for all of them.

Stamps, made once, in ``exposure_ns``. A frame leaves the camera a while after its exposure, and the host sees it later still:

1. When the read-out began, in the host's time: the frame's own timestamp where its domain is global time (librealsense fits the
   device's clock to the host's, and that option is switched on) or system time; where it is the device's clock, whose epoch
   means nothing, when the kernel got the frame (backend timestamp), else when librealsense did (time of arrival), else now.
2. Minus the time from the middle of the exposure to the read-out, where the metadata has both: frame timestamp minus sensor
   timestamp, two readings of the device's clock, whose difference needs no conversion.

Units (librealsense, rs_frame.h): timestamps in ms; metadata of the device's clock in us; those of the host's clock in ms or, as
the header says of the backend's, in us, which are three orders of magnitude apart.
"""

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_stack.core.errors import CameraError, MissingDependencyError, UnknownNameError
from robot_stack.core.types import CameraFrame, CameraInfoValues, DepthArray

US_NS, MS_NS = 1_000, 1_000_000
MICROSECONDS_FROM = 1e14  # of the host's time since 1970: 1e14 ms lie in the year 5138, 1e14 us in 1973
LONGEST_READ_OUT_NS = 1_000_000_000  # more than that between exposure and read-out is no honest metadata
MILLIMETRE_M = 0.001
TIMEOUT_MS = (1, 5_000)  # what a wait for frames is bounded to

# Lens models of librealsense that sensor_msgs knows under another name (rs_types.h). The inverse and the modified Brown-Conrady
# are other functions than plumb_bob and keep their names, so that nobody mistakes them.
DISTORTION_MODELS = {"brown_conrady": "plumb_bob", "kannala_brandt4": "equidistant", "none": "plumb_bob"}


@dataclass(frozen=True)
class RealSenseSettings:
    """What is asked of the camera.

    Attributes:
        width, height: of the colour pictures [px]; 0: whatever comes first (recordings).
        rate_hz: of both streams; 0: whatever comes first.
        depth: whether depth is wanted, too; of the colour's size where the camera has that, else of the largest.
    """

    width: int = 0
    height: int = 0
    rate_hz: int = 0
    depth: bool = False


class RealSenseCamera:
    """See the module.

    Args:
        find: gives the device, anew at each start, as it changes when it is plugged in again.
        settings: see ``RealSenseSettings``.

    Raises:
        MissingDependencyError: pyrealsense2 is not installed.
    """

    def __init__(self, find: Callable[[], Any], settings: RealSenseSettings) -> None:
        self._find, self._settings = find, settings
        self._rs = pyrealsense2()
        self._align: Any = None
        self._sensors: list[Any] = []
        self._syncer: Any = None
        self._info: CameraInfoValues | None = None
        self._last_ns = 0
        self._number: int | None = None
        self.device: Any = None

    def start(self) -> None:
        """Open the sensors and let them stream.

        Raises:
            UnknownNameError: there is no such device.
            CameraError: it has no such mode, or is in use.
        """
        rs, wanted = self._rs, self._settings
        self.device = self._find()
        self._last_ns, self._number = 0, None
        with self._complaining():
            serial = serial_number(rs, self.device)
            sensors = list(self.device.query_sensors())
            colour_sensor, colour = self._choose(sensors, rs.stream.color, (rs.format.rgb8, rs.format.bgr8), serial)
            chosen = {colour_sensor: [colour]}
            if wanted.depth:
                depth_sensor, depth = self._choose(sensors, rs.stream.depth, (rs.format.z16,), serial)
                chosen.setdefault(depth_sensor, []).append(depth)  # some cameras have both on one sensor
                # Where there is nothing to align, librealsense's rounding would only tear holes.
                self._align = None if same_view(depth, colour) else rs.align(rs.stream.color)
            self._info = camera_info(colour.get_intrinsics(), serial)
            self._syncer = rs.syncer()
            for index, profiles in chosen.items():
                sensor = sensors[index]
                if sensor.supports(rs.option.global_time_enabled):
                    sensor.set_option(rs.option.global_time_enabled, 1.0)
                sensor.open(profiles)
                self._sensors.append(sensor)
                sensor.start(self._syncer)

    def read(self, timeout_s: float) -> CameraFrame | None:
        """See ``core.ports.Camera``. Where depth is wanted, a picture without it is left out."""
        if self._syncer is None:
            raise CameraError(self._name, "is not open")
        end_s = time.monotonic() + timeout_s
        while True:
            wait_ms = min(max(TIMEOUT_MS[0], round(1e3 * (end_s - time.monotonic()))), TIMEOUT_MS[1])
            with self._complaining():
                came, frames = self._syncer.try_wait_for_frames(wait_ms)
                frame = self._frame(frames) if came else None
            if frame is not None or time.monotonic() >= end_s:
                return frame

    @property
    def info(self) -> CameraInfoValues:
        if self._info is None:
            raise CameraError(self._name, "has not been opened")
        return self._info

    def close(self) -> None:
        for sensor in self._sensors:
            # A device that was unplugged cannot be stopped any more, and need not be.
            with contextlib.suppress(RuntimeError):
                sensor.stop()
            with contextlib.suppress(RuntimeError):
                sensor.close()
        self._sensors, self._syncer = [], None

    def reset(self) -> None:
        """Restart the device's firmware; it leaves the bus and comes back after some seconds.

        Raises:
            UnknownNameError: there is no such device.
            CameraError: it does not listen.
        """
        self.close()
        with self._complaining():
            self._find().hardware_reset()

    @property
    def _name(self) -> str:
        return self._info.serial if self._info is not None else "(RealSense)"

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        """Turns the one exception that librealsense raises for everything into ours, with the device let go."""
        try:
            yield
        except RuntimeError as error:
            self.close()
            raise CameraError(self._name, f"librealsense: {error}") from error

    def _choose(self, sensors: list[Any], stream: Any, formats: tuple[Any, ...], serial: str) -> tuple[int, Any]:
        """Index of a sensor and its profile that fits best.

        Raises:
            CameraError: there is none; the message lists what there is.
        """
        wanted, is_colour = self._settings, stream == self._rs.stream.color
        modes = [
            (index, profile.as_video_stream_profile())
            for index, sensor in enumerate(sensors)
            for profile in sensor.get_stream_profiles()
            if profile.stream_type() == stream and profile.format() in formats
        ]
        fitting = [
            (index, profile)
            for index, profile in modes
            if wanted.rate_hz in (0, profile.fps())
            and (not is_colour or (wanted.width in (0, profile.width()) and wanted.height in (0, profile.height())))
        ]
        if not fitting:
            have = sorted({f"{profile.width()}x{profile.height()} at {profile.fps()} Hz" for _, profile in modes})
            asked = f"{wanted.width}x{wanted.height} at {wanted.rate_hz} Hz" if is_colour else f"{wanted.rate_hz} Hz"
            raise CameraError(serial, f"has no {stream.name} of {asked}; it has: {', '.join(have) or '(none)'}")

        def rank(mode: tuple[int, Any]) -> tuple[int, bool, int]:
            profile = mode[1]
            same_size = (profile.width(), profile.height()) == (wanted.width, wanted.height)
            area = 0 if is_colour else profile.width() * profile.height()
            return formats.index(profile.format()), not same_size, -area

        return min(fitting, key=rank)

    def _frame(self, frames: Any) -> CameraFrame | None:
        """One set of frames as ours; None where it is incomplete or not new."""
        rs, received_ns = self._rs, time.time_ns()
        colour = frames.get_color_frame()
        if not colour or colour.get_frame_number() == self._number or (self._settings.depth and not frames.get_depth_frame()):
            return None
        self._number = colour.get_frame_number()
        stamp_ns = exposure_ns(rs, colour, received_ns)
        if stamp_ns <= self._last_ns:
            return None
        self._last_ns = stamp_ns
        pixels = np.asarray(colour.get_data())
        # A copy in any case: librealsense has few buffers and stops delivering while they are held.
        image = pixels[..., ::-1].copy() if colour.get_profile().format() == rs.format.bgr8 else pixels.copy()
        if not self._settings.depth:
            return CameraFrame(stamp_ns, image)
        aligned = frames if self._align is None else self._align.process(frames)
        return CameraFrame(stamp_ns, image, millimetres(aligned.get_depth_frame()))


def exposure_ns(rs: Any, frame: Any, received_ns: int) -> int:
    """Middle of a frame's exposure in the system's time [ns]; see the module.

    Args:
        rs: the module pyrealsense2.
        frame: a video frame.
        received_ns: system time now [ns].
    """
    kinds = rs.frame_metadata_value

    def metadata(kind: Any) -> int | None:
        return int(frame.get_frame_metadata(kind)) if frame.supports_frame_metadata(kind) else None

    read_out_ns = received_ns
    if frame.get_frame_timestamp_domain() != rs.timestamp_domain.hardware_clock:
        whole_ms, rest_ms = divmod(frame.get_timestamp(), 1.0)  # a double of nanoseconds since 1970 resolves 256 ns only
        read_out_ns = int(whole_ms) * MS_NS + round(rest_ms * MS_NS)
    else:
        for kind in (kinds.backend_timestamp, kinds.time_of_arrival):
            host = metadata(kind)
            if host:
                read_out_ns = host * (US_NS if host >= MICROSECONDS_FROM else MS_NS)
                break
    exposed, sent = metadata(kinds.sensor_timestamp), metadata(kinds.frame_timestamp)
    if exposed is None or sent is None or not 0 <= (sent - exposed) * US_NS <= LONGEST_READ_OUT_NS:
        return read_out_ns
    return read_out_ns - (sent - exposed) * US_NS


def same_view(depth: Any, colour: Any) -> bool:
    """Whether two video profiles look through the same pixels from the same place, as those of one imager do."""
    lenses, turn = (depth.get_intrinsics(), colour.get_intrinsics()), depth.get_extrinsics_to(colour)
    sizes, numbers = zip(*[((v.width, v.height), (v.fx, v.fy, v.ppx, v.ppy, *v.coeffs)) for v in lenses], strict=True)
    placed = np.array_equal(turn.rotation, np.eye(3).ravel()) and not any(turn.translation)
    return placed and sizes[0] == sizes[1] and numbers[0] == numbers[1]


def camera_info(intrinsics: Any, serial: str) -> CameraInfoValues:
    """Intrinsics of librealsense as ours."""
    coefficients = tuple(float(number) for number in intrinsics.coeffs)
    model = intrinsics.model.name if any(coefficients) else "none"
    if model == "kannala_brandt4":
        coefficients = coefficients[:4]
    k = [[intrinsics.fx, 0.0, intrinsics.ppx], [0.0, intrinsics.fy, intrinsics.ppy], [0.0, 0.0, 1.0]]
    model = DISTORTION_MODELS.get(model, model)
    return CameraInfoValues(intrinsics.width, intrinsics.height, np.array(k), model, coefficients, serial)


def millimetres(depth: Any) -> DepthArray:
    """A depth frame [H, W] in mm, whatever the camera's unit; what is too far for 16 bits is unknown (0)."""
    raw = np.asarray(depth.get_data())
    scale = depth.get_units() / MILLIMETRE_M
    if abs(scale - 1.0) < 1e-6:
        return raw.copy()
    far = np.rint(raw * scale)
    return np.where(far <= np.iinfo(np.uint16).max, far, 0.0).astype(np.uint16)


def find_realsense(serial: str) -> Callable[[], Any]:
    """A ``find`` for the connected camera of that serial number; empty: the only one."""
    rs = pyrealsense2()
    context = rs.context()  # one for all: each watches the bus in a thread of its own
    return lambda: choose_device(rs, context.query_devices(), serial)


def choose_device(rs: Any, devices: Iterable[Any], serial: str) -> Any:
    """The device of that serial number; empty: the only one.

    Raises:
        UnknownNameError: there is none; the message lists those there are.
        CameraError: there are several, and none was named.
    """
    by_serial = {serial_number(rs, device): device for device in devices}
    if not serial and len(by_serial) > 1:
        raise CameraError("(RealSense)", f"several are connected, name one by its serial number: {', '.join(by_serial)}")
    if not serial and by_serial:
        return next(iter(by_serial.values()))
    if serial not in by_serial:
        raise UnknownNameError("connected RealSense camera", serial, by_serial)
    return by_serial[serial]


def open_recording(path: str) -> Callable[[], Any]:
    """A ``find`` for a recording of librealsense, which plays at the speed at which it was recorded."""
    rs = pyrealsense2()

    def find() -> Any:
        try:
            return rs.context().load_device(path)  # a context opens a file only once
        except RuntimeError as error:
            raise CameraError(path, f"is no recording that librealsense reads: {error}") from error

    return find


def serial_number(rs: Any, device: Any) -> str:
    kind = rs.camera_info.serial_number
    return str(device.get_info(kind)) if device.supports(kind) else "(no serial number)"


def pyrealsense2() -> Any:
    """The library.

    Raises:
        MissingDependencyError: it is not installed, or a system library of its is missing.
    """
    remedy = "pip install 'robot_stack[realsense]', and apt-get install libusb-1.0-0"
    if importlib.util.find_spec("pyrealsense2") is None:
        raise MissingDependencyError("pyrealsense2", "a RealSense camera", remedy)
    try:
        import pyrealsense2 as rs
    except ImportError as error:
        raise MissingDependencyError(f"pyrealsense2 ({error})", "a RealSense camera", remedy) from error
    return rs
