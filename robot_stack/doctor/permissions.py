"""What the operating system lets this user do: groups, udev rules and real-time priority."""

import grp
import os
import resource
from collections.abc import Collection, Sequence
from pathlib import Path

from robot_stack.core.cell import CameraDriver, Cell
from robot_stack.doctor.finding import Findings, ok, warn

RULE_FOLDERS = tuple(Path(folder) for folder in ("/etc/udev/rules.d", "/lib/udev/rules.d", "/usr/lib/udev/rules.d"))


def own_groups() -> set[str] | None:
    """Names of this user's groups; None for root, who needs none."""
    if os.geteuid() == 0:
        return None
    known = {group.gr_gid: group.gr_name for group in grp.getgrall()}
    return {known[number] for number in (os.getegid(), *os.getgroups()) if number in known}


def groups(cell: Cell, member_of: Collection[str] | None) -> Findings:
    """Groups to which devices of the cell belong on Debian and Ubuntu."""
    wanted = {
        "video": any(camera.driver is CameraDriver.OPENCV and "://" not in camera.device for camera in cell.cameras),
        "plugdev": any(camera.driver is CameraDriver.REALSENSE for camera in cell.cameras),
        "dialout": cell.arm.device.startswith("/dev/tty"),
    }
    needed = [name for name, needs in wanted.items() if needs]
    missing = [name for name in needed if member_of is not None and name not in member_of]
    if missing:
        remedy = f"sudo usermod -aG {','.join(missing)} $USER, then log in again"
        yield warn("groups", f"this user is not in {', '.join(missing)}, to which devices of the cell belong", remedy)
    elif needed:
        yield ok("groups", f"this user {'is root' if member_of is None else 'is in ' + ', '.join(needed)}")


def udev_rules(cell: Cell, folders: Sequence[Path] = RULE_FOLDERS) -> Findings:
    """RealSense cameras belong to root unless librealsense's rules give them away."""
    if all(camera.driver is not CameraDriver.REALSENSE for camera in cell.cameras):
        return
    rules = [file for folder in folders if folder.is_dir() for file in folder.iterdir() if "realsense" in file.name.lower()]
    if rules:
        yield ok("udev", f"{rules[0]} lets users open RealSense cameras")
    else:
        remedy = "copy librealsense's 99-realsense-libusb.rules to /etc/udev/rules.d, then udevadm control --reload"
        yield warn("udev", "no rules of librealsense: only root may open the cameras", remedy)


def realtime(kernel: Path = Path("/sys/kernel/realtime")) -> Findings:
    """Drivers of arms that are controlled 500 times a second or more want priority, and a kernel that gives it in time."""
    _, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
    if hard == 0:
        remedy = "in /etc/security/limits.d: `@realtime - rtprio 99`, `@realtime - memlock unlimited`; join that group"
        yield warn("realtime", "this user may not ask for real-time priority, which the arm's driver wants", remedy)
    else:
        yield ok("realtime", f"priority up to {'any' if hard == resource.RLIM_INFINITY else hard} may be asked for")
    if not (kernel.is_file() and kernel.read_text().strip() == "1"):
        remedy = "install one (Ubuntu: pro enable realtime-kernel); franka_ros2 needs it, ur_robot_driver advises it"
        yield warn("realtime", "the kernel is not PREEMPT_RT", remedy)
