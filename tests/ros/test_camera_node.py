"""The camera node as a real process: what arrives, what is refused, and what happens when the camera fails."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs the ros extra")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from robot_stack import operate
from robot_stack.bringup import NodeProcess
from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.stream_buffer import RobotStreams
from robot_stack.drivers.sim_metaworld import MetaWorldArm
from robot_stack.episodes.decoder import EpisodeDecoder
from robot_stack.episodes.log_reader import EpisodeLog
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.log_camera import LogCamera
from robot_stack.ros.node import Complaints
from robot_stack.ros.processes import Processes
from robot_stack.ros.stream_bridge import StreamBridge
from tests.drivers.films import HEIGHT, RATE_HZ, WIDTH, shows, write_film
from tests.episodes import fake_robot
from tests.ros.conftest import Spy, needs_simulator, until

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(120)]
RAW, COMPRESSED = "camera/front/image_raw", "camera/front/image_raw/compressed"
INFO, DEPTH = "camera/front/camera_info", "camera/front/aligned_depth/image_raw"
MAX_AGE_NS = 200_000_000


def robot(folder: Path, **camera: Any) -> str:
    """A robot file whose one camera is that of the tests' films, but for what is given."""
    raw = yaml.safe_load(robot_file("sim_arm").read_text())
    usual = {"name": "front", "width": WIDTH, "height": HEIGHT, "rate_hz": RATE_HZ, "max_age_ms": 200, "sensor_noise": False}
    raw["cameras"] = [usual | camera]
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(raw))
    return str(path)


def node(**parameters: Any) -> NodeProcess:
    usual = {"camera": "front", "driver": "file", "sensor_depth": 200}  # no picture may be lost, however busy the machine
    return NodeProcess("camera", "robot_stack.ros.camera_node", usual | parameters)


@pytest.fixture
def spy(domain: int) -> Iterator[Spy]:
    one = Spy()
    yield one
    one.close()


@pytest.fixture
def start(domain: int, tmp_path: Path) -> Iterator[Callable[..., Processes]]:
    """Starts one camera node; its log is ``<tmp_path>/logs/camera.log``."""
    running: list[Processes] = []

    def run(**parameters: Any) -> Processes:
        running.append(Processes([node(**parameters)], domain, tmp_path / "logs"))
        return running[-1].__enter__()

    yield run
    for children in running:
        children.stop()


def log(folder: Path) -> str:
    return (folder / "logs" / "camera.log").read_text()


def stamps(spy: Spy, topic: str) -> list[int]:
    return [convert.to_ns(message.header.stamp) for _, message in list(spy.heard[topic])]


def images(spy: Spy, topic: str) -> list[np.ndarray]:
    return [convert.image_array(message, topic) for _, message in list(spy.heard[topic])]


def refusal(start: Callable[..., Processes], folder: Path, **parameters: Any) -> str:
    """What a node says that has to end with status 2."""
    assert start(**parameters).wait(60.0) == {"camera": 2}
    said = log(folder)
    assert "Traceback" not in said
    return said


def test_a_film_comes_as_a_live_camera(spy: Spy, start: Callable[..., Processes], tmp_path: Path) -> None:
    for topic, message in ((RAW, Image), (INFO, CameraInfo), (topics.DIAGNOSTICS, DiagnosticArray)):
        spy.listen(topic, message)
    begin_ns = time.time_ns()
    children = start(robot=robot(tmp_path), device=str(write_film(tmp_path / "film.avi", 6)))
    until(lambda: len(spy.heard[RAW]) >= 40, "forty pictures")
    until(lambda: len(spy.heard[topics.DIAGNOSTICS]) >= 2, "diagnostics")
    os.kill(children.pids["camera"], signal.SIGINT)
    assert children.wait(20.0) == {"camera": 0}
    assert "Traceback" not in log(tmp_path) and "camera front ready: film.avi, 64x48" in log(tmp_path)

    numbers = [next(number for number in range(6) if shows(image, number)) for image in images(spy, RAW)]
    assert set(np.diff(numbers) % 6) == {1}  # every picture, in order, again and again
    made = np.array(stamps(spy, RAW))
    assert (np.diff(made) > 0).all() and begin_ns < made[0] and made[-1] < time.time_ns()
    assert np.median(np.diff(made)) >= 0.9e9 / RATE_HZ  # never faster than the film, and a live one does not catch up
    lenses = stamps(spy, INFO)
    assert {stamp for stamp in made if stamp >= lenses[0]} <= set(lenses)  # their topic may have been found later
    info = spy.heard[INFO][0][1]
    assert (info.width, info.height, info.header.frame_id) == (WIDTH, HEIGHT, "front_optical")
    assert not info.k.any()  # nobody has calibrated a film
    status = spy.heard[topics.DIAGNOSTICS][-1][1].status[0]
    values = {entry.key: entry.value for entry in status.values}
    assert (status.name, status.hardware_id) == ("camera_front: stream", "film.avi")
    assert 0 < float(values["rate_hz"]) < 1.1 * RATE_HZ and int(values["received"]) > 0 and float(values["age_ms"]) >= 0


def test_compressed_pictures_reach_whoever_reads_the_robot_file(
    spy: Spy, start: Callable[..., Processes], tmp_path: Path
) -> None:
    path = robot(tmp_path, compression="jpeg")
    spec = RobotSpec.load(path)
    seen, aged = RobotStreams(spec), RobotStreams(spec)
    complaints = Complaints(spy.node.get_logger())
    for streams, pixels in ((seen, True), (aged, False)):  # as the policy node and as the executor
        StreamBridge(spy.node, spec, streams, complaints, lambda: None, pixels=pixels, reliability="reliable", depth=100)
    spy.listen(COMPRESSED, CompressedImage)
    start(robot=path, device=str(write_film(tmp_path / "film.avi", 6)), jpeg_quality=95)
    until(lambda: len(spy.heard[COMPRESSED]) >= 12, "twelve pictures")
    assert all(any(shows(image, number) for number in range(6)) for image in images(spy, COMPRESSED))
    until(lambda: seen.cameras["front"].latest and aged.cameras["front"].latest, "pictures in the buffers")
    latest = seen.cameras["front"].latest
    assert latest is not None and latest.value is not None
    assert any(shows(latest.value, number) for number in range(6))
    assert aged.cameras["front"].latest.stamp_ns in stamps(spy, COMPRESSED)
    assert spy.node.count_publishers(RAW) == 0
    entries = {entry.name: entry.message for entry in topics.contract(spec)}
    assert entries[COMPRESSED] is CompressedImage and RAW not in entries


def runs_of(values: list[bool]) -> list[tuple[int, int]]:
    """(first, last) index of each run of True."""
    found, begin = [], None
    for index, value in enumerate([*values, False]):
        if value and begin is None:
            begin = index
        elif not value and begin is not None:
            found.append((begin, index - 1))
            begin = None
    return found


def film_that_freezes(path: Path) -> Path:
    """Twenty pictures that differ, then one for a second, which a camera would give that has hung up."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE_HZ, (WIDTH, HEIGHT))
    for number in range(50):
        moving = min(number, 20)
        writer.write(np.full((HEIGHT, WIDTH, 3), 10 * moving, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("noise", [True, False])
def test_a_frozen_camera_falls_silent_and_recovers(
    spy: Spy, start: Callable[..., Processes], tmp_path: Path, noise: bool
) -> None:
    spy.listen(RAW, Image)
    spy.listen(topics.DIAGNOSTICS, DiagnosticArray)
    start(robot=robot(tmp_path, sensor_noise=noise), device=str(film_that_freezes(tmp_path / "film.avi")))
    wanted = 3 if noise else 1
    until(lambda: len(runs_of([int(image[0, 0, 0]) < 20 for image in images(spy, RAW)])) > wanted, "some passes of the film")
    made, frozen = stamps(spy, RAW), [int(image[0, 0, 0]) > 195 for image in images(spy, RAW)]
    spans = [made[last] - made[first] for first, last in runs_of(frozen[: len(made)])]
    said = log(tmp_path)
    if noise:
        assert max(spans) <= MAX_AGE_NS and len(spans) >= 2
        assert said.count("camera front is frozen") - said.count("camera front has recovered") in (0, 1)
        assert said.count("camera front is frozen") >= 2  # one line for each time
        assert len(said.splitlines()) < 20
        heard = [message.status[0] for _, message in spy.heard[topics.DIAGNOSTICS]]
        until(lambda: any(message.status[0].message == "frozen" for _, message in spy.heard[topics.DIAGNOSTICS]), "a warning")
        assert all(status.level == DiagnosticStatus.ERROR for status in heard if status.message == "frozen")
    else:  # a simulated or a still scene is healthy
        assert max(spans) > 2 * MAX_AGE_NS
        assert "frozen" not in said


def test_pictures_of_another_size_are_refused(start: Callable[..., Processes], tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", 6)
    said = refusal(start, tmp_path, robot=robot(tmp_path, width=160, height=120), device=str(film))
    assert "camera front (film.avi) does not fit robot file sim_arm" in said
    assert "its pictures are 64x48, expected 160x120" in said and "resize" in said


def test_pictures_of_another_size_are_resized_and_late_stamps_set_back_once(
    spy: Spy, start: Callable[..., Processes], tmp_path: Path
) -> None:
    spy.listen(RAW, Image)
    spy.listen(INFO, CameraInfo)
    path = robot(tmp_path, width=32, height=32)
    start(robot=path, device=str(write_film(tmp_path / "film.avi", 6)), resize=True, latency_ms=60_000.0)
    until(lambda: len(spy.heard[RAW]) >= 6 and spy.heard[INFO], "six pictures")
    now_ns = time.time_ns()
    for image in images(spy, RAW):
        assert image.shape == (32, 32, 3) and any(shows(image, number) for number in range(6))
    assert (spy.heard[INFO][0][1].width, spy.heard[INFO][0][1].height) == (32, 32)
    assert 60e9 <= now_ns - stamps(spy, RAW)[-1] < 110e9  # once, not twice


def calibration(folder: Path, width: int, height: int) -> str:
    """A file of camera_info_manager for pictures of that size."""
    path = folder / "lens.yaml"
    lens: dict[str, Any] = {"image_width": width, "image_height": height, "distortion_model": "equidistant"}
    lens["camera_matrix"] = {"rows": 3, "cols": 3, "data": [50.0, 0.0, 31.5, 0.0, 52.0, 23.5, 0.0, 0.0, 1.0]}
    lens["distortion_coefficients"] = {"rows": 1, "cols": 4, "data": [0.1, 0.2, 0.3, 0.4]}
    path.write_text(yaml.safe_dump(lens))
    return str(path)


def test_a_calibrated_lens_is_told_at_the_size_of_the_pictures(
    spy: Spy, start: Callable[..., Processes], tmp_path: Path
) -> None:
    spy.listen(INFO, CameraInfo)
    path = robot(tmp_path, width=32, height=24)
    film = str(write_film(tmp_path / "film.avi", 6))
    start(robot=path, device=film, resize=True, intrinsics=calibration(tmp_path, WIDTH, HEIGHT))
    until(lambda: spy.heard[INFO], "the lens")
    info = spy.heard[INFO][0][1]
    assert (info.width, info.height, info.distortion_model, list(info.d)) == (32, 24, "equidistant", [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(info.k, [25.0, 0.0, 15.5, 0.0, 26.0, 11.5, 0.0, 0.0, 1.0])  # middles stay middles


def test_a_lens_that_was_calibrated_for_other_pictures_is_refused(start: Callable[..., Processes], tmp_path: Path) -> None:
    film = str(write_film(tmp_path / "film.avi", 6))
    said = refusal(start, tmp_path, robot=robot(tmp_path), device=film, intrinsics=calibration(tmp_path, 640, 480))
    assert "lens.yaml does not fit camera front (film.avi)" in said and "640x480 there, 64x48 here" in said


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"driver": "filee"}, "unknown camera driver 'filee'; valid: file, opencv, realsense; did you mean 'file'?"),
        ({"camera": "wrist"}, "unknown camera of robot sim_arm 'wrist'; valid: front"),
        ({"device": "notes.txt"}, "notes.txt: cannot be played; what can ends in .mp4"),
        ({"device": "missing.mp4"}, "missing.mp4: no such file"),
        ({"driver": "opencv", "device": "/dev/video97"}, "unknown video device '/dev/video97'"),
        ({"intrinsics": "missing.yaml"}, "missing.yaml: cannot be read as YAML"),
        ({"quality": 3}, "unknown parameter of node camera 'quality'"),
        ({"device": 0}, "parameter 'device' to '0' of type 'INTEGER', expecting type 'STRING'"),
        ({"jpeg_quality": 0}, "jpeg_quality must be from 1 to 95, got 0"),
    ],
)
def test_what_does_not_exist_ends_the_node_with_one_message(
    start: Callable[..., Processes], tmp_path: Path, parameters: dict[str, Any], message: str
) -> None:
    said = refusal(start, tmp_path, robot=robot(tmp_path), **parameters)
    assert message in said and len(said.splitlines()) == 1


def test_a_camera_that_is_lost_for_good_ends_the_node(spy: Spy, start: Callable[..., Processes], tmp_path: Path) -> None:
    spy.listen(RAW, Image)
    film = write_film(tmp_path / "film.avi", 90)
    children = start(robot=robot(tmp_path), driver="opencv", device=str(film), comeback_attempts=2)
    until(lambda: spy.heard[RAW], "a picture")
    film.unlink()
    assert children.wait(60.0) == {"camera": 2}
    assert "opening the camera again" in log(tmp_path) and "gave up after 2 attempts" in log(tmp_path)
    assert "Traceback" not in log(tmp_path)


def test_depth_of_a_recording_comes_aligned(spy: Spy, start: Callable[..., Processes], tmp_path: Path) -> None:
    pytest.importorskip("pyrealsense2", reason="needs the realsense extra")
    from tests.drivers.soft_realsense import record

    pictures = [np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8) for number in range(10)]
    depth = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)
    record(str(tmp_path / "seen.db3"), pictures, [depth] * 10)
    for topic, message in ((RAW, Image), (DEPTH, Image), (INFO, CameraInfo)):
        spy.listen(topic, message)
    path = robot(tmp_path, depth=True)
    start(robot=path, device=str(tmp_path / "seen.db3"))
    until(lambda: len(spy.heard[RAW]) >= 15, "more pictures than the recording has")
    for image in images(spy, RAW):
        assert int(image[0, 0, 0]) in range(0, 100, 10) and (image == image[0, 0, 0]).all()
    message = spy.heard[DEPTH][0][1]
    assert (message.encoding, message.header.frame_id) == ("16UC1", "front_optical")
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint16).reshape(HEIGHT, WIDTH), depth)
    assert set(stamps(spy, RAW)) <= set(stamps(spy, DEPTH))
    np.testing.assert_allclose(spy.heard[INFO][0][1].k, [50.0, 0, 31.25, 0, 51.0, 23.75, 0, 0, 1])
    assert topics.aligned_depth("front") in {entry.name for entry in topics.contract(RobotSpec.load(path))}


@needs_simulator
def test_an_episode_whose_pictures_travel_as_jpeg(tmp_path: Path) -> None:
    """Robot, executor, recorder and reader agree by the robot file alone."""
    raw = yaml.safe_load(robot_file("sim_metaworld").read_text())
    raw["cameras"][0]["compression"] = "jpeg"
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(raw))
    out = tmp_path / "episodes"
    command = ["--robot", str(path), "--behaviour", "expert", "--seeds", "0:1", "--horizon", "8", "--out", str(out)]
    assert operate.record_main(command) == 0
    recorded = EpisodeLog.open(next(out.glob("*.mcap")))
    kinds = {message.topic: message.msgtype for message in recorded.messages()}
    assert kinds[f"/{COMPRESSED}"] == "sensor_msgs/msg/CompressedImage" and f"/{RAW}" not in kinds

    arm = MetaWorldArm(recorded.meta.spec, operate.DEFAULT_TASK)
    arm.reset(0)
    rows = list(EpisodeDecoder(recorded).rows())
    assert len(rows) == 8
    first = rows[0].observation.images["front"]
    difference = np.abs(first.astype(int) - arm.render())
    assert 0 < difference.mean() < 6  # JPEG is lossy, and nothing else
    camera = LogCamera(recorded.path, "front", loop=False)
    camera.start()
    frame = camera.read(1.0)
    assert frame is not None
    np.testing.assert_array_equal(frame.image, first)
    assert camera.info.k[0, 0] > 0  # the simulator knows its lens, and the log tells
    camera.close()


def test_a_log_plays_as_a_camera(tmp_path: Path) -> None:
    episode = fake_robot.FakeEpisode.random(4)
    path = episode.record(tmp_path)
    camera = LogCamera(path, "front", loop=True)
    camera.start()
    begin_ns = time.time_ns()
    frames = []
    until(lambda: frames.append(camera.read(0.5)) or len([f for f in frames if f is not None]) == 10, "ten pictures")
    camera.close()
    played = [frame for frame in frames if frame is not None]
    np.testing.assert_array_equal([frame.image for frame in played], [episode.images[k % 4] for k in range(10)])
    made = np.array([frame.stamp_ns for frame in played])
    assert (np.diff(made) > 0).all() and made[0] >= begin_ns
    np.testing.assert_array_equal(np.diff(made)[:3], [fake_robot.PERIOD_NS] * 3)  # distances as they were recorded
    assert (camera.info.width, camera.info.height) == (64, 64)


def test_a_log_without_that_camera_is_refused(tmp_path: Path) -> None:
    path = fake_robot.FakeEpisode.random(4).record(tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown camera in episode\.mcap 'wrist'; valid: front"):
        LogCamera(path, "wrist", loop=True).start()
    with pytest.raises(BadFileError, match="no such file"):
        LogCamera(tmp_path / "other.mcap", "front", loop=True).start()
