"""Cell: what belongs to one physical robot and not to its type, read from a file outside the package and checked on load.

Which device each camera is, how late it is, how the arm is driven. Simulated robots need no cell. ``config/cell/example.yaml``
shows every entry.
"""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from robot_stack.core.errors import BadFileError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.spec_reader import SpecReader

FOURCC = 4  # letters of a pixel format


class CameraDriver(enum.StrEnum):
    """Who publishes a camera's pictures."""

    REALSENSE = "realsense"  # ours, by librealsense; device: serial number
    OPENCV = "opencv"  # ours, by Video4Linux or a network stream; device: path or address
    FILE = "file"  # ours; device: a film, a recording or a log that is played
    EXTERNAL = "external"  # a driver of somebody else's, which runs already


@dataclass(frozen=True)
class CellCamera:
    """The device behind one camera of the robot file.

    Attributes:
        name: of the camera in the robot file.
        driver: see ``CameraDriver``.
        device: as the driver understands it; "" for an external one. Paths of files are relative to the cell file.
        latency_ms: time from exposure to the driver's stamp that the driver does not know of.
        capture: size of the pictures that the device shall make [px], None: the robot file's.
        fourcc: pixel format for the driver opencv; "": whatever comes.
        resize: pictures of another size are fitted to the robot file's.
        intrinsics, extrinsics: files that calibration wrote, None: not calibrated.
    """

    name: str
    driver: CameraDriver
    device: str
    latency_ms: float
    capture: tuple[int, int] | None = None
    fourcc: str = ""
    resize: bool = False
    intrinsics: Path | None = None
    extrinsics: Path | None = None


@dataclass(frozen=True)
class CellArm:
    """How the arm is driven.

    Attributes:
        driver: "external": its own ROS driver runs already; or one of ours, see ``bringup.DRIVERS``.
        device: as a driver of ours understands it (a serial port), else "".
        latency_ms: time from a command on its topic to the begin of its motion.
        tells_pose: its driver publishes ``ee_pose``; else our kinematics node does.
    """

    driver: str
    device: str
    latency_ms: float
    tells_pose: bool


@dataclass(frozen=True)
class Cell:
    """One physical robot.

    Attributes:
        source: the file.
        robot: name of its robot file.
        arm: see ``CellArm``.
        cameras: see ``CellCamera``; those of the robot file, or none where the arm's driver publishes them.
    """

    source: Path
    robot: str
    arm: CellArm
    cameras: tuple[CellCamera, ...]

    @classmethod
    def load(cls, path: Path | str, spec: RobotSpec) -> Self:
        """Read and check a cell file.

        Raises:
            BadFileError: the file is missing, not YAML, breaks a rule or belongs to another robot.
            UnknownNameError: it names a camera that the robot does not have.
        """
        path = Path(path)
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise BadFileError(path, f"cannot be read as YAML: {error}") from error
        return cls.from_mapping(raw, spec, path)

    @classmethod
    def from_mapping(cls, raw: Any, spec: RobotSpec, source: Path) -> Self:
        """Build from the mapping that a cell file holds; see ``load``."""
        reader = SpecReader(raw, source)
        robot = reader.text("robot")
        if robot != spec.name:
            raise reader.refuse(f"robot is {robot!r}, but the robot is {spec.name!r}: this is the cell of another one")
        arm = _arm(reader.section("arm"), reader)
        cameras = tuple(_camera(entry, spec, source.parent) for entry in reader.sections("cameras"))
        reader.refuse_unknown()
        names = [camera.name for camera in cameras]
        if cameras and sorted(names) != sorted(spec.camera_names):
            raise reader.refuse(f"cameras are {names}, expected each of {list(spec.camera_names)} once")
        devices = [(camera.driver, camera.device) for camera in cameras if camera.device]
        if twice := [device for kind, device in devices if devices.count((kind, device)) > 1]:
            raise reader.refuse(f"device {twice[0]!r} stands for two cameras")
        return cls(source, robot, arm, cameras)


def _arm(reader: SpecReader | None, cell: SpecReader) -> CellArm:
    if reader is None:
        raise cell.refuse("arm is missing: how is it driven?")
    arm = CellArm(
        driver=reader.text("driver"),
        device=reader.text("device", default=""),
        latency_ms=_latency_ms(reader),
        tells_pose=reader.flag("tells_pose", default=False),
    )
    reader.refuse_unknown()
    return arm


def _camera(reader: SpecReader, spec: RobotSpec, folder: Path) -> CellCamera:
    name = spec.camera(reader.text("name")).name
    driver = CameraDriver(reader.one_of("driver", [kind.value for kind in CameraDriver]))
    device = reader.text("device", default="")
    if driver is CameraDriver.EXTERNAL and device:
        raise reader.refuse("device belongs to a driver of ours; an external one knows its own")
    if driver is not CameraDriver.EXTERNAL and not device:
        raise reader.refuse(f"device is missing: which one shall the driver {driver} open?")
    fourcc = reader.text("fourcc", default="")
    if fourcc and len(fourcc) != FOURCC:
        raise reader.refuse(f"fourcc must be four letters, for example MJPG, got {fourcc!r}")
    capture = reader.section("capture")
    camera = CellCamera(
        name=name,
        driver=driver,
        device=str(folder / device) if driver is CameraDriver.FILE else device,
        latency_ms=_latency_ms(reader),
        capture=None if capture is None else _size(capture),
        fourcc=fourcc,
        resize=reader.flag("resize", default=False),
        intrinsics=_file(reader, "intrinsics", folder),
        extrinsics=_file(reader, "extrinsics", folder),
    )
    reader.refuse_unknown()
    return camera


def _size(reader: SpecReader) -> tuple[int, int]:
    size = int(reader.positive("width")), int(reader.positive("height"))
    reader.refuse_unknown()
    return size


def _latency_ms(reader: SpecReader) -> float:
    value = reader.number("latency_ms")
    if value < 0:
        raise reader.refuse(f"latency_ms must not be negative, got {value:g}")
    return value


def _file(reader: SpecReader, key: str, folder: Path) -> Path | None:
    name = reader.text(key, default="")
    if not name:
        return None
    path = folder / name
    if not path.is_file():
        raise reader.refuse(f"{key}: no such file {path}")
    return path
