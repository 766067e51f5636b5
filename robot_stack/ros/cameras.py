"""Which driver serves a camera, by name."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.ports import Camera
from robot_stack.core.robot_spec import CameraSpec
from robot_stack.drivers.file_camera import FILMS, RECORDINGS, FilmCamera, RecordingCamera
from robot_stack.drivers.opencv_camera import OpenCvCamera, OpenCvSettings
from robot_stack.drivers.realsense import RealSenseCamera, RealSenseSettings, find_realsense
from robot_stack.drivers.reconnecting_camera import ReconnectingCamera, ReconnectSettings
from robot_stack.episodes.meta import ACTIVE_SUFFIX, FINISHED_SUFFIX
from robot_stack.ros.log_camera import LogCamera

LOGS = (FINISHED_SUFFIX, ACTIVE_SUFFIX)
PLAYABLE = (*FILMS, *RECORDINGS, *LOGS)  # how names of files end that the driver "file" plays


@dataclass(frozen=True)
class CameraRequest:
    """What is asked of a driver.

    Attributes:
        spec: the camera in the robot file.
        device: see the drivers below.
        width, height: of the pictures that the device shall make [px]; 0: whatever comes.
        fourcc: see ``OpenCvSettings``.
        loop: files: begin again at the end.
        patience: with devices that are silent or gone.
        stopping: set when the node ends.
    """

    spec: CameraSpec
    device: str
    width: int
    height: int
    fourcc: str
    loop: bool
    patience: ReconnectSettings
    stopping: threading.Event


def realsense(request: CameraRequest) -> Camera:
    """``device``: serial number; empty: the only one."""
    settings = RealSenseSettings(request.width, request.height, round(request.spec.rate_hz), request.spec.depth)
    camera = RealSenseCamera(find_realsense(request.device), settings)
    return ReconnectingCamera(camera, request.patience, request.stopping, camera.reset)


def opencv(request: CameraRequest) -> Camera:
    """``device``: number, device or address; empty: the first."""
    settings = OpenCvSettings(request.width, request.height, request.spec.rate_hz, request.fourcc)
    return ReconnectingCamera(OpenCvCamera(request.device or "0", settings), request.patience, request.stopping)


def file(request: CameraRequest) -> Camera:
    """``device``: path of a film, of a RealSense recording, or of a log of ours that has a camera of that name."""
    path = Path(request.device)
    if path.suffix in FILMS:
        return FilmCamera(path, request.loop)
    if path.suffix in RECORDINGS:
        return RecordingCamera(path, request.loop, request.spec.depth)
    if path.name.endswith(LOGS):
        return LogCamera(path, request.spec.name, request.loop)
    raise BadFileError(path, f"cannot be played; what can ends in {', '.join(PLAYABLE)}")


DRIVERS: Mapping[str, Callable[[CameraRequest], Camera]] = {"realsense": realsense, "opencv": opencv, "file": file}


def make_camera(driver: str, request: CameraRequest) -> Camera:
    """A camera that has not been started.

    Raises:
        UnknownNameError: no such driver.
        MissingDependencyError: its library is not installed.
        BadFileError: a file of an unknown kind.
    """
    if driver not in DRIVERS:
        raise UnknownNameError("camera driver", driver, DRIVERS)
    return DRIVERS[driver](request)
