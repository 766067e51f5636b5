"""Cameras without hardware: OpenCV and films, on films that the tests write; opening again; what core says about streams."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_stack.core.errors import BadFileError, CameraError, ShapeError, UnknownNameError
from robot_stack.core.picture_stream import FrozenPictures, StreamMeter
from robot_stack.core.ports import Camera
from robot_stack.core.types import CameraFrame, CameraInfoValues
from robot_stack.drivers.file_camera import FilmCamera, StampShift
from robot_stack.drivers.opencv_camera import OpenCvCamera, OpenCvSettings, capture_source, stamp_of_buffer
from robot_stack.drivers.reconnecting_camera import ReconnectingCamera, ReconnectSettings
from tests.drivers.films import HEIGHT, RATE_HZ, WIDTH, shows, write_film

WAIT_S = 10.0
MS_NS = 1_000_000
QUICK = ReconnectSettings(attempts=2, comeback_attempts=3, first_picture_s=1.0, pause_s=0.01, silence_s=0.1)


def read(camera: Camera) -> CameraFrame:
    frame = camera.read(WAIT_S)
    assert frame is not None
    return frame


# OpenCV


def test_opencv_gives_rgb_with_growing_stamps_of_now(tmp_path: Path) -> None:
    camera = OpenCvCamera(str(write_film(tmp_path / "film.avi", 10)), OpenCvSettings(WIDTH, HEIGHT, RATE_HZ, "MJPG"))
    before = time.time_ns()
    camera.start()
    frames = [read(camera) for _ in range(10)]
    assert all(shows(frame.image, number) for number, frame in enumerate(frames))
    stamps = [frame.stamp_ns for frame in frames]
    assert before <= stamps[0] and stamps[-1] <= time.time_ns() and (np.diff(stamps) > 0).all()
    assert camera.read(0.05) is None  # the film is over
    assert (camera.info.width, camera.info.height) == (WIDTH, HEIGHT) and not camera.info.k.any()
    camera.close()
    with pytest.raises(CameraError, match="is not open"):
        camera.read(0.1)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (OpenCvSettings(640, HEIGHT), "gives width 64 instead of 640; "),
        (OpenCvSettings(640, 480), "gives width 64 instead of 640, height 48 instead of 480"),
        (OpenCvSettings(rate_hz=60.0), "gives rate 30 instead of 60 Hz"),
        (OpenCvSettings(fourcc="YUYV"), "gives format 'MJPG' instead of 'YUYV'"),
    ],
)
def test_opencv_is_refused_where_it_gives_something_else(tmp_path: Path, wanted: OpenCvSettings, message: str) -> None:
    with pytest.raises(CameraError, match=message):
        OpenCvCamera(str(write_film(tmp_path / "film.avi", 2)), wanted).start()


def test_a_video_device_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    for device in ("/dev/video97", "97", str(tmp_path / "nothing")):
        with pytest.raises(UnknownNameError, match="unknown video device"):
            OpenCvCamera(device, OpenCvSettings()).start()
    text = tmp_path / "notes.txt"
    text.write_text("no film")
    with pytest.raises(CameraError, match=r"notes\.txt: OpenCV cannot open it"):
        OpenCvCamera(str(text), OpenCvSettings()).start()


def test_addresses_and_files_go_to_whatever_backend_can() -> None:
    assert capture_source("rtsp://host/stream")[0] == "rtsp://host/stream"


@given(age_ms=st.integers(0, 1000), uptime_ms=st.integers(1001, 10**9), system_ns=st.integers(10**18, 2 * 10**18))
def test_a_buffers_time_is_carried_over_by_its_age(age_ms: int, uptime_ms: int, system_ns: int) -> None:
    assert stamp_of_buffer(uptime_ms - age_ms, system_ns, uptime_ms * MS_NS) == system_ns - age_ms * MS_NS


def test_a_buffers_time_of_another_clock_is_not_believed() -> None:
    for buffer_ms in (0.0, -1.0, 90_000.0, 1.7e12):
        assert stamp_of_buffer(buffer_ms, 5, 80_000 * MS_NS) == 5


def test_reads_of_video4linux_end_soon_because_opencv_is_told_before_it_is_loaded() -> None:
    code = (
        "import os, sys\n"
        "class Look:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'cv2': print('told', os.environ.get('OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT'))\n"
        "sys.meta_path.insert(0, Look())\n"
        "import robot_stack.drivers.file_camera, robot_stack.drivers.opencv_camera\n"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, env=variables)
    assert set(done.stdout.splitlines()) == {"told 1"}  # its loader imports it more than once


# Opening again


def test_a_camera_that_ends_is_opened_again_until_it_is_gone(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", 5)
    camera = ReconnectingCamera(OpenCvCamera(str(film), OpenCvSettings()), QUICK, threading.Event())
    camera.start()
    seen = []
    end = time.monotonic() + 2 * WAIT_S
    while len(seen) < 10 and time.monotonic() < end:
        frame = camera.read(0.05)
        seen += [frame] if frame is not None else []
    assert all(shows(frame.image, number % 5) for number, frame in enumerate(seen)) and len(seen) == 10
    assert camera.reconnects == 1
    film.unlink()
    with pytest.raises(CameraError, match=r"unknown video device .*film\.avi.*gave up after 3 attempts"):
        [camera.read(0.05) for _ in range(100)]


def test_whoever_stops_does_not_wait_for_attempts(tmp_path: Path) -> None:
    stopping = threading.Event()
    text = tmp_path / "notes.txt"
    text.write_text("no film")
    endless = ReconnectSettings(attempts=1000, pause_s=1000.0)
    camera = ReconnectingCamera(OpenCvCamera(str(text), OpenCvSettings()), endless, stopping)
    thread = threading.Thread(target=camera.start)
    thread.start()
    stopping.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()


# Films


@pytest.mark.parametrize(("name", "fourcc"), [("film.avi", "MJPG"), ("film.mp4", "mp4v")])
def test_a_film_plays_in_real_time_and_loops(tmp_path: Path, name: str, fourcc: str) -> None:
    camera = FilmCamera(write_film(tmp_path / name, 6, fourcc=fourcc), loop=True)
    camera.start()
    frames = [read(camera) for _ in range(14)]
    camera.close()
    assert all(shows(frame.image, number % 6) for number, frame in enumerate(frames))
    stamps = np.array([frame.stamp_ns for frame in frames])
    assert (np.diff(stamps) > 0).all()
    assert stamps[-1] - stamps[0] >= 11.9e9 / RATE_HZ  # never faster than the film; the first may come up to a period late


def test_a_film_ends_where_it_does_not_loop(tmp_path: Path) -> None:
    camera = FilmCamera(write_film(tmp_path / "film.avi", 3), loop=False, rate_hz=200.0)
    camera.start()
    assert [camera.read(1.0) is None for _ in range(5)] == [False] * 3 + [True] * 2
    camera.close()


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="no such file"):
        FilmCamera(tmp_path / "film.mp4", loop=True).start()
    (tmp_path / "film.mp4").write_bytes(b"noise" * 100)
    with pytest.raises(BadFileError, match="no film in it"):
        FilmCamera(tmp_path / "film.mp4", loop=True).start()


def test_recorded_stamps_keep_their_distances_and_begin_anew_after_a_jump() -> None:
    shift = StampShift()
    assert [shift.shifted(100 + 30 * i, 5000 + 31 * i) for i in range(3)] == [5000, 5030, 5060]
    later = 10**10
    assert shift.shifted(100, later) == later
    assert shift.shifted(100, later) == later + 1  # never twice the same


# What core knows about pictures


def test_frames_whose_arrays_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="picture has shape"):
        CameraFrame(0, np.zeros((4, 5), np.uint8))
    with pytest.raises(ShapeError, match="aligned depth has shape"):
        CameraFrame(0, np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint16))


@given(x=st.floats(-1, 1), y=st.floats(-1, 1), width=st.integers(16, 200), height=st.integers(16, 200))
def test_a_resized_camera_projects_to_the_resized_place(x: float, y: float, width: int, height: int) -> None:
    """Edges map to edges: pixel coordinates run from -0.5 to W - 0.5."""
    k = np.array([[80.0, 0, 50.0], [0, 90.0, 30.0], [0, 0, 1]])
    info = CameraInfoValues(100, 60, k)
    old, new = k @ [x, y, 1], info.resized(width, height).k @ [x, y, 1]
    np.testing.assert_allclose((new[0] + 0.5) / width, (old[0] + 0.5) / 100, atol=1e-9)
    np.testing.assert_allclose((new[1] + 0.5) / height, (old[1] + 0.5) / 60, atol=1e-9)
    np.testing.assert_allclose(info.resized(width, height).resized(100, 60).k, k)


def test_pictures_are_frozen_once_they_have_been_the_same_for_too_long() -> None:
    pictures = FrozenPictures(200 * MS_NS)
    still, other = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    verdicts = [pictures.frozen(1000 * MS_NS + 50 * MS_NS * i, still.copy()) for i in range(7)]
    assert verdicts == [False] * 5 + [True] * 2  # 200 ms are allowed, 250 ms are not
    assert not pictures.frozen(1400 * MS_NS, other)
    assert not pictures.frozen(1450 * MS_NS, still)  # and the clock starts again
    assert not pictures.frozen(1650 * MS_NS, still) and pictures.frozen(1651 * MS_NS, still)


@given(rate=st.floats(5, 100), missing=st.sets(st.integers(1, 48)))
def test_rate_and_losses_are_told_by_stamps(rate: float, missing: set[int]) -> None:
    meter = StreamMeter(rate)
    assert meter.health(0).age_ns is None
    stamps = [round(i * 1e9 / rate) for i in range(50) if i not in missing]
    for stamp in stamps:
        meter.add(stamp)
    health = meter.health(stamps[-1] + 7)
    assert health.dropped == len(missing) and health.received == 50 - len(missing) and health.age_ns == 7
    if not missing:
        assert abs(health.rate_hz - rate) < 1e-3 * rate
    assert meter.health(stamps[-1] + 10**10).rate_hz == 0.0  # long ago is not lately
