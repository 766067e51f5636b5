"""Room and speed of the disk that episodes go to."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from robot_stack.core.robot_spec import Compression, RobotSpec
from robot_stack.doctor.finding import Findings, fail, ok, warn
from robot_stack.episodes.log_writer import LogSettings

JPEG_RATIO = 6  # raw over JPEG at quality 90 for a busy scene; a guess on the safe side
OTHER_BYTES_S = 300_000  # joints, poses, commands
SHORT_MINUTES = 30.0
PROBE_BYTES = 64 << 20
BLOCK = 4 << 20
SPARE = 2.0  # times the needed speed that a disk should have


def room(folder: Path) -> int | None:
    """Free bytes where ``folder`` is or would be made; None where there is no such place."""
    place = _existing(folder)
    return shutil.disk_usage(place).free if place.is_dir() else None


def recording_rate(spec: RobotSpec) -> float:
    """Bytes a second that an episode of this robot takes, about."""
    total = float(OTHER_BYTES_S)
    for camera in spec.cameras:
        pixels = camera.width * camera.height * camera.rate_hz
        total += 3 * pixels / (JPEG_RATIO if camera.compression is Compression.JPEG else 1) + 2 * pixels * camera.depth
    return total


def disk(folder: Path, spec: RobotSpec, probe_bytes: int = PROBE_BYTES) -> Findings:
    """Whether episodes can be written to ``folder``, for how long and fast enough."""
    place, needed = _existing(folder), recording_rate(spec)
    if not place.is_dir():
        yield fail("disk", f"{place} is no folder", "name another one by --out")
        return
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        yield fail("disk", f"{place} may not be written to", f"sudo chown $USER {place}, or another folder by --out")
        return
    free, least = shutil.disk_usage(place).free, LogSettings().min_free_bytes
    minutes = (free - least) / needed / 60
    amount = f"{free / 1e9:.1f} GB free in {place}, about {max(minutes, 0):.0f} minutes of recording at {needed / 1e6:.1f} MB/s"
    if minutes <= 0:
        yield fail("disk", amount, f"the recorder needs {least / 1e6:.0f} MB free: make room")
        return
    yield warn("disk", amount, "make room, or use compression: jpeg") if minutes < SHORT_MINUTES else ok("disk", amount)
    if free < least + probe_bytes:
        return
    speed = _write_speed(place, probe_bytes)
    told = f"writes {speed / 1e6:.0f} MB/s, needed are {needed / 1e6:.1f}"
    if speed < needed:
        yield fail("disk", told, "record to a faster disk, or use compression: jpeg")
    elif speed < SPARE * needed:
        yield warn("disk", told, "that leaves little for anything else; record to a faster disk")
    else:
        yield ok("disk", told)


def _existing(folder: Path) -> Path:
    """The folder, or what exists of the way to it."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _write_speed(folder: Path, size: int) -> float:
    """Bytes a second that reach the disk."""
    block = os.urandom(BLOCK)  # file systems that compress must not help
    begin_s = time.monotonic()
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(max(1, size // BLOCK)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return max(1, size // BLOCK) * BLOCK / (time.monotonic() - begin_s)
