"""Each check of the doctor sees what it is for."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from robot_stack import cli
from robot_stack.core.cell import Cell
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.doctor import clocks, devices, permissions, robot, storage, system
from robot_stack.doctor.finding import Finding, Findings, Level
from robot_stack.paths import config_dir, robot_file
from robot_stack.ros.processes import domain_in_use

ROOT = Path(__file__).parents[2]
UR5E, FR3, METAWORLD = (RobotSpec.load(robot_file(name)) for name in ("ur5e", "fr3", "sim_metaworld"))
needs_ros = pytest.mark.skipif(importlib.util.find_spec("rclpy") is None, reason="needs the ros extra")
needs_models = pytest.mark.skipif(importlib.util.find_spec("mujoco") is None, reason="needs the kinematics extra")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def worst(findings: Findings) -> Finding:
    """The worst finding."""
    return max(findings, key=lambda finding: list(Level).index(finding.level))


def assert_is(findings: Findings, level: Level, *words: str) -> None:
    """The worst finding is of that level and says that; bad ones come with advice."""
    found = worst(findings)
    assert found.level is level, found
    assert all(word in found.message for word in words), found.message
    assert bool(found.remedy) == (level is not Level.OK)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Without root's rights."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def cell(spec: RobotSpec = UR5E, arm: dict[str, Any] | None = None, **front: Any) -> Cell:
    """The example with another front camera."""
    raw = yaml.safe_load((config_dir() / "cell" / "example.yaml").read_text())
    raw["arm"] |= arm or {}
    if front:
        raw["cameras"][0] = {"name": "front", "latency_ms": 0.0} | front
    return Cell.from_mapping(raw, spec, config_dir() / "cell" / "example.yaml")


def test_python() -> None:
    assert_is(system.python((3, 11)), Level.FAIL, "3.11")
    assert_is(system.python((3, 12)), Level.OK, "3.12")


@needs_ros
def test_ros_that_starts_and_ros_that_does_not(tmp_path: Path) -> None:
    assert_is(system.ros(os.environ), Level.OK, "Jazzy", "rmw_fastrtps_cpp")
    assert_is(system.ros(os.environ | {"ROS_DISTRO": "humble"}), Level.WARN, "humble")
    bare = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    (tmp_path / "rclpy.py").write_text("raise ImportError('librcl.so: cannot open shared object file')")
    assert_is(system.ros(bare | {"PYTHONPATH": str(tmp_path)}), Level.FAIL, "librcl.so: cannot open shared object file")
    assert_is(system.ros(bare, str(Path(sys.base_prefix) / "bin" / "python3")), Level.FAIL, "No module named 'rclpy'")


def test_transport(tmp_path: Path) -> None:
    assert_is(system.transport({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}), Level.WARN, "rmw_cyclonedds_cpp")
    profile = tmp_path / "profile.xml"
    assert_is(system.transport({"FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)}), Level.FAIL, "cannot be read")
    profile.write_text("<dds><profiles></dds>")
    assert_is(system.transport({"FASTDDS_DEFAULT_PROFILES_FILE": str(profile)}), Level.FAIL, "mismatched tag")
    buffer = tmp_path / "rmem_max"
    assert_is(system.transport({}, buffer), Level.OK, "unknown")  # in a container
    buffer.write_text("212992\n")
    assert_is(system.transport({}, buffer), Level.WARN, "208 KiB")
    buffer.write_text("4194304\n")
    assert_is(system.transport({}, buffer), Level.OK, "4096 KiB")


def free_domain() -> int:
    return next(number for number in range(60, 100) if not domain_in_use(number))


def test_domains_of_one_s_own_and_of_others() -> None:
    number = free_domain()
    variables = {"ROS_DOMAIN_ID": str(number)}
    assert_is(system.domain(variables, elsewhere=False), Level.OK, "free")
    assert_is(system.domain(variables, elsewhere=True), Level.WARN, f"nobody is in ROS domain {number}")
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as foreign:
        foreign.bind(("", 7400 + 250 * number + 10))  # where a participant listens
        assert_is(system.domain(variables, elsewhere=False), Level.FAIL, "in use")
        assert_is(system.domain(variables, elsewhere=True), Level.OK)
    assert_is(system.domain({"ROS_DOMAIN_ID": "robot"}, elsewhere=False), Level.FAIL, "expected a number")
    assert_is(system.domain({}, elsewhere=False), Level.OK, "chosen")


def test_peers_without_an_address() -> None:
    findings = list(system.peers({"ROS_STATIC_PEERS": "127.0.0.1;no-such-host.invalid"}))
    assert [finding.level for finding in findings] == [Level.OK, Level.FAIL]
    assert "no-such-host.invalid" in findings[1].message
    assert not list(system.peers({}))


def test_a_clock_that_nobody_keeps() -> None:
    alone, two = {}, {"ROS_STATIC_PEERS": "10.0.0.2"}
    lost = clocks.KernelClock(clocks.UNSYNCHRONISED, 16_000_000)
    assert_is(clocks.clock(lost, alone), Level.WARN, "nobody keeps")
    assert_is(clocks.clock(lost, two), Level.FAIL, "nobody keeps")
    assert_is(clocks.clock(clocks.KernelClock(0x2001, 3_500_000), two), Level.WARN, "3.5 s")
    assert_is(clocks.clock(clocks.KernelClock(0x2001, 20_000), two), Level.OK, "20 ms")
    kernel = clocks.kernel_clock()  # bits of linux/timex.h and its bound, which stops growing at 16 s
    assert 0 <= kernel.status < 1 << 16 and 0 <= kernel.largest_error_us <= 16_000_000


def test_room_on_the_disk(tmp_path: Path) -> None:
    assert_is(storage.disk(tmp_path / "not" / "there" / "yet", METAWORLD, probe_bytes=1 << 20), Level.OK)
    assert not (tmp_path / "not").exists() and not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    assert_is(storage.disk(tmp_path / "file" / "episodes", METAWORLD), Level.FAIL, "is no folder")
    raw = yaml.safe_load(robot_file("sim_metaworld").read_text())
    raw["cameras"][0] |= {"width": 60_000, "height": 60_000, "rate_hz": 1000.0}
    findings = list(storage.disk(tmp_path, RobotSpec.from_mapping(raw), probe_bytes=1 << 22))
    assert [finding.level for finding in findings] == [Level.WARN, Level.FAIL]  # soon full, and too slow for that
    assert "0 minutes" in findings[0].message and "needed are 10800000" in findings[1].message


def test_how_much_a_robot_writes() -> None:
    raw = yaml.safe_load(robot_file("sim_metaworld").read_text())
    raw["cameras"][0] |= {"width": 640, "height": 480, "rate_hz": 30.0, "depth": True}
    expected = 640 * 480 * 30 * (3 + 2)
    assert expected < storage.recording_rate(RobotSpec.from_mapping(raw)) < 1.05 * expected


@as_root
def test_a_disk_and_a_device_of_somebody_else(tmp_path: Path) -> None:
    folder, device = tmp_path / "episodes", tmp_path / "video0"
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    folder.mkdir(mode=0o700)
    os.mknod(device, 0o20600, os.makedev(1, 3))  # a character device, /dev/null's twin
    camera = cell(driver="opencv", device=str(device)).cameras[0]
    assert_is(devices.video(camera, UR5E), Level.OK)
    serial = cell(arm={"device": str(device)})
    assert_is(devices.arm(serial), Level.OK)
    with nobody():
        assert_is(storage.disk(folder, METAWORLD), Level.FAIL, "may not be written to")
        assert_is(devices.video(camera, UR5E), Level.FAIL, "may not be used")
        assert_is(devices.arm(serial), Level.FAIL, "may not be used")


def test_video_devices(tmp_path: Path) -> None:
    assert_is(devices.video(cell(driver="opencv", device="97").cameras[0], UR5E), Level.FAIL, "there is no /dev/video97")
    (tmp_path / "film.mp4").touch()
    assert_is(devices.video(cell(driver="opencv", device=str(tmp_path / "film.mp4")).cameras[0], UR5E), Level.FAIL, "no device")


def test_network_cameras() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        address = f"rtsp://127.0.0.1:{port}/stream"
        assert_is(devices.video(cell(driver="opencv", device=address).cameras[0], UR5E), Level.OK, "answers")
    assert_is(devices.video(cell(driver="opencv", device=address).cameras[0], UR5E), Level.FAIL, "does not answer")
    assert_is(devices.video(cell(driver="opencv", device="v4l2loop://x").cameras[0], UR5E), Level.WARN, "cannot be tried")


@pytest.mark.parametrize(("mbit", "level"), [("480", Level.WARN), ("12", Level.WARN), ("5000", None)])
def test_pictures_that_do_not_come_through_the_plug(tmp_path: Path, mbit: str, level: Level | None) -> None:
    interface = tmp_path / "usb" / "1-1:1.0"  # as in sysfs: the speed is the device's, the camera its interface
    interface.mkdir(parents=True)
    (interface.parent / "speed").write_text(f"{mbit}\n")
    (tmp_path / "video0").mkdir()
    (tmp_path / "video0" / "device").symlink_to(interface)
    large = {"driver": "opencv", "device": "0", "capture": {"width": 1280, "height": 720}}
    found = list(devices.usb_speed(cell(**large).cameras[0], UR5E, tmp_path / "video0"))
    assert [finding.level for finding in found] == ([level] if level else [])
    assert not list(devices.usb_speed(cell(**large, fourcc="MJPG").cameras[0], UR5E, tmp_path / "video0"))
    small = cell(driver="opencv", device="0").cameras[0]  # 640x480 at 30 Hz is what USB 2 was made for
    assert not list(devices.usb_speed(small, UR5E, tmp_path / "video0"))


def test_files_that_are_played(tmp_path: Path) -> None:
    for name, level, words in (("film.mp4", Level.OK, "plays"), ("notes.txt", Level.FAIL, "cannot be played")):
        (tmp_path / name).touch()
        assert_is(devices.played(cell(driver="file", device=str(tmp_path / name)).cameras[0]), level, words)
    assert_is(devices.played(cell(driver="file", device=str(tmp_path / "gone.mp4")).cameras[0]), Level.FAIL, "there is no file")


def test_serial_ports() -> None:
    assert_is(devices.arm(cell(arm={"device": "/dev/ttyACM97"})), Level.FAIL, "there is no /dev/ttyACM97")
    assert not list(devices.arm(cell()))


def test_realsense_cameras_by_serial_number_and_plug() -> None:
    rs = pytest.importorskip("pyrealsense2", reason="needs the realsense extra")

    def device(serial: str, usb: str) -> Any:
        made = rs.software_device()
        made.register_info(rs.camera_info.serial_number, serial)
        made.register_info(rs.camera_info.usb_type_descriptor, usb)
        return made

    camera = cell().cameras[0]
    there = [device("777", "3.2"), device(camera.device, "2.1")]
    assert_is(devices.realsense(camera, rs, there[:1]), Level.FAIL, f"{camera.device} is not connected; connected: 777")
    assert_is(devices.realsense(camera, rs, there), Level.WARN, "USB 2.1")
    assert_is(devices.realsense(camera, rs, [device(camera.device, "3.2")]), Level.OK, "USB 3.2")
    findings = {finding.check: finding for finding in devices.cameras(cell(), UR5E)}
    assert findings["camera front"].level is Level.FAIL  # the serial number of the example, of which there is no camera


def test_groups_and_rules(tmp_path: Path) -> None:
    both = cell(arm={"device": "/dev/ttyACM0"})
    assert_is(permissions.groups(both, {"video"}), Level.WARN, "plugdev, dialout")
    assert_is(permissions.groups(both, {"video", "plugdev", "dialout"}), Level.OK)
    assert_is(permissions.groups(both, None), Level.OK, "root")
    assert_is(permissions.udev_rules(both, [tmp_path, tmp_path / "none"]), Level.WARN, "no rules")
    (tmp_path / "99-realsense-libusb.rules").touch()
    assert_is(permissions.udev_rules(both, [tmp_path]), Level.OK)
    assert not list(permissions.udev_rules(cell(driver="external"), [tmp_path / "none"]))


@as_root
def test_groups_of_somebody_else() -> None:
    assert permissions.own_groups() is None
    with nobody():
        names = permissions.own_groups()
    assert names is not None and "video" not in names


def test_realtime_priority(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))\n"
        "from robot_stack.doctor.permissions import realtime\n"
        "for finding in realtime(): print(finding.line())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "warn  realtime: this user may not ask for real-time priority" in done.stdout
    (tmp_path / "realtime").write_text("1\n")
    kernels = [len(list(permissions.realtime(tmp_path / name))) for name in ("realtime", "generic")]
    assert kernels == [1, 2]


@needs_models
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw["actions"][0].update(limits=[-2.7, 2.72]), ("fr3_joint1: max_velocity 1", "at the ends")),
        (lambda raw: raw["actions"][3].update(limits=[-3.05, -0.4]), ("fr3_joint4: limits", "[-3.0421, -0.1518]")),
        (lambda raw: raw["actions"][6].update(max_velocity=6.0), ("fr3_joint7: max_velocity 6",)),
        (lambda raw: raw["actions"][2].update(max_acceleration=12.0), ("fr3_joint3: max_acceleration 12", "10 rad/s2")),
    ],
)
def test_limits_beyond_the_vendor_s(change: Any, words: tuple[str, ...]) -> None:
    raw = yaml.safe_load(robot_file("fr3").read_text())
    assert_is(robot.limits(RobotSpec.from_mapping(raw)), Level.OK)
    change(raw)
    assert_is(robot.limits(RobotSpec.from_mapping(raw)), Level.FAIL, *words)


def test_every_shipped_robot_with_a_vendor_stays_within_its_limits() -> None:
    for path in (config_dir() / "robot").glob("*.yaml"):
        assert worst(robot.limits(RobotSpec.load(path))).level is not Level.FAIL if RobotSpec.load(path).model else True
    raw = yaml.safe_load(robot_file("fr3").read_text()) | {"model": "my_arm"}
    assert_is(robot.limits(RobotSpec.from_mapping(raw)), Level.WARN, "no vendor's limits are known")


@needs_models
def test_models_that_do_not_fit() -> None:
    raw = yaml.safe_load(robot_file("ur5e").read_text())
    assert_is(robot.model(RobotSpec.from_mapping(raw)), Level.OK)
    assert_is(robot.model(RobotSpec.from_mapping(raw | {"model": "ur6e"})), Level.FAIL, "unknown model 'ur6e'; valid: ", "fr3")
    assert_is(robot.model(RobotSpec.from_mapping(raw | {"tool_frame": "tool0"})), Level.FAIL, "'tool0'")
    del raw["workspace"]
    assert_is(robot.model(RobotSpec.from_mapping(raw)), Level.WARN, "no workspace")
    assert_is(robot.model(METAWORLD), Level.OK)


def test_an_arm_that_is_late(tmp_path: Path) -> None:
    raw = yaml.safe_load((config_dir() / "cell" / "example.yaml").read_text())
    for late_ms, level in ((4.0, Level.OK), (40.0, Level.WARN)):
        raw["arm"]["latency_ms"] = late_ms
        path = tmp_path / "cell.yaml"
        path.write_text(yaml.safe_dump(raw))
        assert_is(robot.latency(robot.load("ur5e", str(path))), level, "25 ms ahead")


@needs_ros
def test_the_command_tells_programs_and_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    example = str(config_dir() / "cell" / "example.yaml")
    assert cli.main(["doctor", "ur5e", "--cell", example, "--out", str(tmp_path), "--json"]) == 1
    found = {entry["check"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found["camera wrist"]["level"] == "FAIL" and found["camera wrist"]["remedy"]
    assert {"python", "ros", "middleware", "clock", "robot", "limits", "model", "domain", "disk", "groups"} <= set(found)

    broken = tmp_path / "robot.yaml"
    broken.write_text("name: ur5e")
    assert cli.main(["doctor", str(broken)]) == 1
    said = capsys.readouterr().out
    assert "FAIL  robot: " in said and "rate_hz is missing" in said and said.splitlines()[-1].startswith("1 failed, ")

    assert cli.main(["doctor", "sim_metaworld", "--out", str(tmp_path)]) == 0
    assert "FAIL" not in capsys.readouterr().out
