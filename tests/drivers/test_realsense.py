"""RealSense driver against librealsense itself, with software devices and a recording: pixels, stamps, lenses, and faults."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from robot_stack.core.errors import CameraError, UnknownNameError
from robot_stack.core.types import CameraFrame
from robot_stack.drivers import realsense
from robot_stack.drivers.file_camera import RecordingCamera
from robot_stack.drivers.realsense import RealSenseCamera, RealSenseSettings
from robot_stack.drivers.reconnecting_camera import ReconnectingCamera, ReconnectSettings
from tests.drivers.soft_realsense import COEFFICIENTS, HEIGHT, WIDTH, SoftRealSense, record, rs

SETTINGS = RealSenseSettings(WIDTH, HEIGHT, 30)
WITH_DEPTH = RealSenseSettings(WIDTH, HEIGHT, 30, depth=True)
WAIT_S = 10.0
DRAW = np.random.default_rng(0)


def picture() -> np.ndarray:
    return DRAW.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def opened(soft: SoftRealSense, settings: RealSenseSettings = SETTINGS) -> RealSenseCamera:
    camera = RealSenseCamera(lambda: soft.device, settings)
    camera.start()
    return camera


def read(camera: RealSenseCamera) -> CameraFrame:
    frame = camera.read(WAIT_S)
    assert frame is not None
    return frame


@pytest.mark.parametrize("bgr", [False, True])
def test_pixels_come_through_exactly_as_rgb(bgr: bool) -> None:
    soft = SoftRealSense(bgr=bgr)
    camera = opened(soft)
    for _ in range(3):
        colour = picture()
        soft.push(colour[..., ::-1] if bgr else colour)
        frame = read(camera)
        np.testing.assert_array_equal(frame.image, colour)
        assert frame.depth is None
    camera.close()


@pytest.mark.parametrize(("unit_m", "factor"), [(0.001, 1.0), (0.0001, 0.1), (0.01, 10.0)])
def test_depth_comes_through_in_millimetres(unit_m: float, factor: float) -> None:
    soft = SoftRealSense(unit_m=unit_m)
    camera = opened(soft, WITH_DEPTH)
    raw = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 20 + 300
    soft.push(picture(), raw[::-1])  # the first pair is always torn apart: the syncer has not seen both streams yet
    soft.push(colour := picture(), raw)
    frame = read(camera)
    np.testing.assert_array_equal(frame.image, colour)
    wanted = np.rint(raw * factor)
    wanted[wanted > 65535] = 0  # too far for 16 bits is unknown
    assert frame.depth is not None
    np.testing.assert_array_equal(frame.depth, wanted)
    camera.close()


def test_depth_is_moved_to_where_the_colour_camera_sees_it() -> None:
    soft = SoftRealSense(baseline_m=0.05)
    camera = opened(soft, WITH_DEPTH)
    raw = np.zeros((HEIGHT, WIDTH), np.uint16)
    raw[10:30, 20:30] = 500  # half a metre away: 50 px * 0.05 m / 0.5 m = 5 px to the right
    for _ in range(2):
        soft.push(picture(), raw)
    depth = read(camera).depth
    assert depth is not None and set(np.unique(depth)) == {0, 500}
    rows, columns = np.nonzero(depth)
    # librealsense spreads a pixel over all that it touches, so an edge may lie one pixel further out.
    assert rows.min() in (9, 10) and rows.max() in (29, 30) and columns.min() in (24, 25) and columns.max() in (34, 35)
    assert (depth[11:29, 26:34] == 500).mean() > 0.8
    camera.close()


def test_a_picture_without_its_depth_is_left_out() -> None:
    soft = SoftRealSense()
    camera = opened(soft, WITH_DEPTH)
    for _ in range(3):
        soft.push(picture())
        assert camera.read(0.1) is None
    for number in range(2):
        soft.push(colour := picture(), np.full((HEIGHT, WIDTH), 7 + number, np.uint16))
    frame = read(camera)
    np.testing.assert_array_equal(frame.image, colour)
    assert frame.depth is not None and (frame.depth == 8).all()
    camera.close()


def test_many_pictures_are_kept_as_they_came() -> None:
    soft = SoftRealSense()
    camera = opened(soft)
    sent, got = [], []
    for _ in range(40):
        sent.append(picture())
        soft.push(sent[-1])
        got.append(read(camera))
    np.testing.assert_array_equal([frame.image for frame in got], sent)
    stamps = [frame.stamp_ns for frame in got]
    assert all(np.diff(stamps) > 0) and abs(stamps[-1] - time.time_ns()) < 5e9
    camera.close()


NOW_MS = 1_790_000_000_000.0
SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("domain", "stamp_ms", "metadata", "expected_ms"),
    [
        ("system_time", NOW_MS, {}, NOW_MS),
        ("global_time", NOW_MS, {}, NOW_MS),
        # Exposure's middle 12.5 ms before the read-out, both by the device's clock.
        ("global_time", NOW_MS, {"frame_timestamp": 5_012_500, "sensor_timestamp": 5_000_000}, NOW_MS - 12.5),
        ("global_time", NOW_MS, {"sensor_timestamp": 5_000_000}, NOW_MS),  # half of it says nothing
        ("global_time", NOW_MS, {"frame_timestamp": 1, "sensor_timestamp": 5_000_000}, NOW_MS),  # a clock that wrapped around
        # The device's clock counts from its own beginning; only the host's times can be used.
        ("hardware_clock", 5_012.5, {"time_of_arrival": int(NOW_MS)}, NOW_MS),
        ("hardware_clock", 5_012.5, {"backend_timestamp": int(NOW_MS) - 3, "time_of_arrival": int(NOW_MS)}, NOW_MS - 3),
        ("hardware_clock", 5_012.5, {"backend_timestamp": (int(NOW_MS) - 3) * 1000}, NOW_MS - 3),  # in us
        (
            "hardware_clock",
            5_012.5,
            {"time_of_arrival": int(NOW_MS), "frame_timestamp": 5_012_500, "sensor_timestamp": 5_000_000},
            NOW_MS - 12.5,
        ),
    ],
)
def test_stamps_are_the_middle_of_the_exposure(
    domain: str, stamp_ms: float, metadata: dict[str, int], expected_ms: float
) -> None:
    soft = SoftRealSense(domain=getattr(rs.timestamp_domain, domain))
    camera = opened(soft)
    soft.push(picture(), stamp_ms=stamp_ms, **metadata)
    assert abs(read(camera).stamp_ns - expected_ms * 1e6) < 1_000  # a double of milliseconds resolves 0.2 us
    camera.close()


def test_a_device_clock_without_the_hosts_time_is_stamped_at_receipt() -> None:
    soft = SoftRealSense(domain=rs.timestamp_domain.hardware_clock)
    camera = opened(soft)
    before = time.time_ns()
    soft.push(picture(), stamp_ms=17.0)
    assert before <= read(camera).stamp_ns <= time.time_ns()
    camera.close()


def test_a_stamp_that_does_not_grow_is_no_new_picture() -> None:
    soft = SoftRealSense()
    camera = opened(soft)
    soft.push(picture(), stamp_ms=NOW_MS)
    read(camera)
    soft.push(picture(), stamp_ms=NOW_MS - 5)
    assert camera.read(0.2) is None
    soft.push(picture(), stamp_ms=NOW_MS + 33)
    assert read(camera).stamp_ns == round(NOW_MS + 33) * 1_000_000
    camera.close()


@pytest.mark.parametrize(
    ("model", "name", "coefficients"),
    [
        ("brown_conrady", "plumb_bob", COEFFICIENTS),
        ("kannala_brandt4", "equidistant", COEFFICIENTS[:4]),
        ("inverse_brown_conrady", "inverse_brown_conrady", COEFFICIENTS),
    ],
)
def test_intrinsics_are_the_devices(model: str, name: str, coefficients: list[float]) -> None:
    camera = opened(SoftRealSense(model=getattr(rs.distortion, model)))
    info = camera.info
    assert (info.width, info.height, info.serial, info.distortion_model) == (WIDTH, HEIGHT, "soft-1", name)
    np.testing.assert_allclose(info.k, [[50.0, 0, 31.25], [0, 51.0, 23.75], [0, 0, 1]])
    np.testing.assert_allclose(info.distortion, coefficients, rtol=1e-6)
    camera.close()


def test_a_mode_that_the_camera_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(CameraError, match=r"soft-1: has no color of 640x480 at 60 Hz; it has: 64x48 at 30 Hz"):
        opened(SoftRealSense(), RealSenseSettings(640, 480, 60))


def test_cameras_are_chosen_by_serial_number() -> None:
    first, second = SoftRealSense("111").device, SoftRealSense("222").device
    assert realsense.choose_device(rs, [first, second], "222") is second
    assert realsense.choose_device(rs, [first], "") is first
    with pytest.raises(
        UnknownNameError, match=r"unknown connected RealSense camera '221'; valid: 111, 222; did you mean '222'"
    ):
        realsense.choose_device(rs, [first, second], "221")
    with pytest.raises(CameraError, match="several are connected, name one by its serial number: 111, 222"):
        realsense.choose_device(rs, [first, second], "")


def test_no_camera_at_all_is_said_at_once() -> None:
    camera = RealSenseCamera(realsense.find_realsense("999"), SETTINGS)
    patient = ReconnectingCamera(camera, ReconnectSettings(pause_s=60.0), threading.Event())
    with pytest.raises(UnknownNameError, match="unknown connected RealSense camera '999'"):
        patient.start()


def test_a_missing_library_is_named_with_its_extra() -> None:
    code = (
        "import sys; sys.modules['pyrealsense2'] = None\n"  # as if it were not installed
        "from robot_stack.drivers import realsense\n"
        "from robot_stack.core.errors import MissingDependencyError\n"
        "try: realsense.find_realsense('')\n"
        "except MissingDependencyError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert "robot_stack[realsense]" in done.stdout and "libusb" in done.stdout


def test_a_camera_that_goes_silent_is_opened_again() -> None:
    soft = SoftRealSense()
    stopping = threading.Event()
    patient = ReconnectSettings(first_picture_s=WAIT_S, pause_s=0.01, silence_s=0.3)
    camera = ReconnectingCamera(RealSenseCamera(lambda: soft.device, SETTINGS), patient, stopping)
    feeding = threading.Event()
    feeding.set()

    def feed() -> None:
        while not stopping.wait(0.02):
            if feeding.is_set():
                soft.push(picture())

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        camera.start()
        assert camera.read(WAIT_S) is not None
        feeding.clear()
        end = time.monotonic() + WAIT_S
        threading.Timer(0.8, feeding.set).start()  # the camera is plugged in again while it is being opened
        while not camera.reconnects and time.monotonic() < end:
            camera.read(0.05)
        assert camera.reconnects == 1
        assert camera.read(WAIT_S) is not None
    finally:
        stopping.set()
        feeder.join()
        camera.close()


@pytest.mark.parametrize("resets", [True, False])
def test_a_camera_that_stays_silent_is_given_up_after_a_reset(resets: bool) -> None:
    soft, done = SoftRealSense(), []
    driver = RealSenseCamera(lambda: soft.device, SETTINGS)
    patient = ReconnectSettings(attempts=2, first_picture_s=0.05, pause_s=0.01, reset_s=0.01)
    # A software device cannot be reset and says so: the driver's own reset stands for a device that does not listen.
    reset = (lambda: done.append(driver.close())) if resets else driver.reset
    camera = ReconnectingCamera(driver, patient, threading.Event(), reset)
    with pytest.raises(CameraError, match=r"soft-1: no picture within 0\.05 s: gave up after 2 attempts") as refusal:
        camera.start()
    assert ("after a hardware reset" in str(refusal.value)) == resets and len(done) == resets
    soft.push(picture())  # the sensors are closed: nobody hears this, and nothing breaks


def test_a_device_that_cannot_be_reset_says_so() -> None:
    soft = SoftRealSense()
    camera = opened(soft)
    with pytest.raises(CameraError, match="soft-1: librealsense: hardware_reset"):
        camera.reset()


def test_a_recording_plays_again_and_again_with_new_stamps(tmp_path: Path) -> None:
    path = tmp_path / "seen.db3"
    pictures = [picture() for _ in range(12)]
    depths = [np.full((HEIGHT, WIDTH), 500 + number, np.uint16) for number in range(12)]
    record(str(path), pictures, depths)
    camera = RecordingCamera(path, loop=True, depth=True)
    begin_ns = time.time_ns()
    camera.start()
    frames: list[CameraFrame] = []
    end = time.monotonic() + 2 * WAIT_S
    while len(frames) < 20 and time.monotonic() < end:
        frame = camera.read(0.5)
        frames += [frame] if frame is not None else []
    camera.close()
    assert len(frames) == 20  # more than the recording has
    for frame in frames:
        number = next(i for i, known in enumerate(pictures) if np.array_equal(known, frame.image))
        assert frame.depth is not None and frame.depth[0, 0] in (500 + number, 499 + number, 501 + number)
    stamps = np.array([frame.stamp_ns for frame in frames])
    assert (np.diff(stamps) > 0).all() and begin_ns - SECOND_NS < stamps[0] and stamps[-1] < time.time_ns() + SECOND_NS
    assert camera.info.serial == "soft-1"


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.bag"
    path.write_bytes(b"noise" * 100)
    with pytest.raises(CameraError, match="is no recording that librealsense reads"):
        RecordingCamera(path, loop=False, depth=False).start()
