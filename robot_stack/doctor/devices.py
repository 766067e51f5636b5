"""The devices of a cell: there, allowed, fast enough."""

import os
import socket
import stat
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robot_stack.core.cell import CameraDriver, Cell, CellCamera
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.doctor.finding import Findings, fail, ok, warn
from robot_stack.drivers.realsense import pyrealsense2, serial_number
from robot_stack.ros.cameras import PLAYABLE

USB_3 = 3.0
USB_2_MBIT = 480
USB_2_PAYLOAD = 35e6  # bytes a second of isochronous pictures that USB 2 carries in practice
STREAM_PORTS = {"rtsp": 554, "http": 80, "https": 443}
CONNECT_S = 2.0


def cameras(cell: Cell, spec: RobotSpec) -> Findings:
    """Every camera of the cell."""
    for camera in cell.cameras:
        check = f"camera {camera.name}"
        if camera.driver is CameraDriver.REALSENSE:
            try:
                rs = pyrealsense2()
            except ProphRLError as error:
                yield fail(check, str(error), "install it, or let somebody else's driver publish the camera (driver: external)")
            else:
                yield from realsense(camera, rs, rs.context().query_devices())
        elif camera.driver is CameraDriver.OPENCV:
            yield from video(camera, spec)
        elif camera.driver is CameraDriver.FILE:
            yield from played(camera)
        else:
            yield ok(check, "is published by somebody else's driver; --live looks whether it is")


def realsense(camera: CellCamera, rs: Any, devices: Iterable[Any]) -> Findings:
    """Whether the camera of that serial number is among ``devices`` of librealsense, and how it is plugged in."""
    check, found = f"camera {camera.name}", {serial_number(rs, device): device for device in devices}
    if camera.device not in found:
        there = ", ".join(sorted(found)) or "none"
        yield fail(check, f"RealSense {camera.device} is not connected; connected: {there}", "plug it in, or correct the cell")
        return
    kind = rs.camera_info.usb_type_descriptor
    usb = found[camera.device].get_info(kind) if found[camera.device].supports(kind) else ""
    if usb and float(usb) < USB_3:
        remedy = "use a USB 3 port (blue) and the cable that came with it; USB 2 has few modes"
        yield warn(check, f"RealSense {camera.device} is plugged in as USB {usb}", remedy)
    else:
        yield ok(check, f"RealSense {camera.device} is connected{f' as USB {usb}' if usb else ''}")


def video(camera: CellCamera, spec: RobotSpec, classes: Path = Path("/sys/class/video4linux")) -> Findings:
    """Whether a video device or a network stream answers, may be used, and comes through its plug."""
    check, device = f"camera {camera.name}", camera.device
    if "://" in device:
        yield from _stream(check, device)
        return
    path = Path(f"/dev/video{device}" if device.isdigit() else device)
    if not path.exists():
        there = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        yield fail(check, f"there is no {path}; video devices: {there}", "plug it in, or correct the cell (ls /dev/v4l/by-id)")
    elif not stat.S_ISCHR(path.stat().st_mode):
        yield fail(check, f"{path} is no device", "name a video device; files are played by driver: file")
    elif not _may_use(path):
        yield fail(check, f"{path} may not be used by this user", "sudo usermod -aG video $USER, then log in again")
    else:
        yield ok(check, f"{path} is there and may be used")
        yield from usb_speed(camera, spec, classes / path.resolve().name)


def usb_speed(camera: CellCamera, spec: RobotSpec, device: Path) -> Findings:
    """Whether uncompressed pictures come through a USB 2 plug; ``device``: its folder in sysfs."""
    if camera.fourcc:
        return
    files = [device / folder / "speed" for folder in ("device", "device/..")]  # of the interface, or of its device
    speeds = [float(file.read_text()) for file in files if file.is_file()]
    width, height = camera.capture or (spec.camera(camera.name).width, spec.camera(camera.name).height)
    needed = 2 * width * height * spec.camera(camera.name).rate_hz  # YUYV
    if speeds and min(speeds) <= USB_2_MBIT and needed > USB_2_PAYLOAD:
        problem = f"{width}x{height} uncompressed is {needed / 1e6:.0f} MB/s, USB 2 carries {USB_2_PAYLOAD / 1e6:.0f}"
        yield warn(f"camera {camera.name}", problem, "fourcc: MJPG in the cell, or a USB 3 port where the camera can use one")


def played(camera: CellCamera) -> Findings:
    """Whether a file is there and of a kind that can be played."""
    check, path = f"camera {camera.name}", Path(camera.device)
    if not path.is_file():
        yield fail(check, f"there is no file {path}", "correct the cell; paths are relative to it")
    elif not path.name.endswith(PLAYABLE):
        yield fail(check, f"{path} cannot be played", "name a film, a RealSense recording or a log of ours")
    else:
        yield ok(check, f"plays {path}")


def arm(cell: Cell) -> Findings:
    """Whether the arm's own device may be used."""
    if not cell.arm.device:
        return
    path = Path(cell.arm.device)
    if not path.exists():
        there = ", ".join(sorted(str(port) for kind in ("ttyACM*", "ttyUSB*") for port in Path("/dev").glob(kind))) or "none"
        yield fail("arm", f"there is no {path}; serial ports: {there}", "plug it in and switch it on, or correct the cell")
    elif not _may_use(path):
        yield fail("arm", f"{path} may not be used by this user", "sudo usermod -aG dialout $USER, then log in again")
    else:
        yield ok("arm", f"{path} is there and may be used")


def _may_use(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _stream(check: str, address: str) -> Findings:
    parts = urllib.parse.urlsplit(address)
    port = parts.port or STREAM_PORTS.get(parts.scheme, 0)
    if not parts.hostname or not port:
        yield warn(check, f"{address} cannot be tried from here", "open it once with ffplay")
        return
    try:
        socket.create_connection((parts.hostname, port), CONNECT_S).close()
    except OSError as error:
        yield fail(check, f"{parts.hostname}:{port} does not answer: {error}", "switch it on, or correct its address")
    else:
        yield ok(check, f"{parts.hostname}:{port} answers")
