"""Cameras as geometry: where a point of the base frame appears in a picture.

Frames: base is the robot's base frame; camera is ROS's optical frame (REP 103): x right, y down, z forward.
Pixels [u, v]: u right, v down; whole numbers are the centres of pixels, so the middle of a picture is ((width - 1) / 2,
(height - 1) / 2). Quaternions as in ``core.se3``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from robot_stack.core import se3
from robot_stack.core.errors import BadFileError, ProphRLError, ShapeError
from robot_stack.core.spec_reader import SpecReader
from robot_stack.core.types import CameraInfoValues, FloatArray

UNDISTORTED, PLUMB_BOB, EQUIDISTANT = "", "plumb_bob", "equidistant"
COEFFICIENTS = {UNDISTORTED: (0,), PLUMB_BOB: (4, 5), EQUIDISTANT: (4,)}  # how many of them each model has
UNIT_TOLERANCE = 1e-3  # what a quaternion written with few digits may differ from unit length


@dataclass(frozen=True)
class Pose:
    """Where a frame is in another one: ``T_a_b`` brings coordinates in b to coordinates in a.

    Attributes:
        position: origin of b in a [m].
        quaternion: x, y, z, w; turns the axes of a into those of b. Of length 1.

    Raises:
        ProphRLError: a number is not finite, or the quaternion is not of length 1.
    """

    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        for what, numbers, count in (("position", self.position, 3), ("quaternion", self.quaternion, 4)):
            if len(numbers) != count or not all(map(math.isfinite, numbers)):
                raise ProphRLError(f"{what} of a pose must be {count} finite numbers, got {list(numbers)}")
        if abs(math.hypot(*self.quaternion) - 1.0) > UNIT_TOLERANCE:
            length = math.hypot(*self.quaternion)
            raise ProphRLError(f"quaternion of a pose must have length 1, got {list(self.quaternion)} of length {length:.4g}")

    @classmethod
    def read(cls, reader: SpecReader) -> Self:
        """Read ``{position: [x, y, z], quaternion: [x, y, z, w]}``; raises BadFileError."""
        position, quaternion = reader.vector("position"), reader.numbers("quaternion")
        reader.refuse_unknown()
        try:
            return cls(position, quaternion)  # type: ignore[arg-type]  # the length is checked there
        except ProphRLError as error:
            raise reader.refuse(str(error)) from error

    @property
    def rotation(self) -> FloatArray:
        """Rotation matrix [3, 3]; its columns are the axes of b in a."""
        return se3.matrix(np.array(self.quaternion))

    def apply(self, points: FloatArray) -> FloatArray:
        """Points [..., 3] of b in a [m]."""
        return np.asarray(points, dtype=np.float64) @ self.rotation.T + np.array(self.position)

    def apply_inverse(self, points: FloatArray) -> FloatArray:
        """Points [..., 3] of a in b [m]."""
        return (np.asarray(points, dtype=np.float64) - np.array(self.position)) @ self.rotation

    def to_mapping(self) -> dict[str, Any]:
        return {"position": list(self.position), "quaternion": list(self.quaternion)}


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A calibrated camera: its lens and its place.

    Attributes:
        width, height: of its pictures [px].
        k: pinhole matrix [3, 3] [px], without skew.
        T_base_camera: pose of the optical frame in the base frame.
        distortion_model: "plumb_bob" or "equidistant" (a fisheye) as in sensor_msgs/CameraInfo; "" for none.
        distortion: its coefficients: k1, k2, p1, p2 and maybe k3 for plumb_bob, k1 to k4 for equidistant.

    Raises:
        ProphRLError: numbers that no camera has.
    """

    width: int
    height: int
    k: FloatArray
    T_base_camera: Pose
    distortion_model: str = UNDISTORTED
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", np.array(self.k, dtype=np.float64))
        self.k.flags.writeable = False
        if self.k.shape != (3, 3):
            raise ShapeError("pinhole matrix of a camera", self.k.shape, "[3, 3]")
        for problem in self._problems():
            raise ProphRLError(f"camera: {problem}")

    def _problems(self) -> list[str]:
        k, problems = self.k, []
        if self.width < 1 or self.height < 1:
            problems.append(f"width and height must be at least 1 px, got {self.width} x {self.height}")
        if not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0:
            problems.append(f"k must be finite with positive focal lengths (all zero: not calibrated), got {k.tolist()}")
        if k[0, 1] or k[1, 0] or k[2].tolist() != [0.0, 0.0, 1.0]:
            problems.append(f"k must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {k.tolist()}")
        counts = COEFFICIENTS.get(self.distortion_model)
        if counts is None:
            problems.append(f"distortion_model must be one of {list(COEFFICIENTS)}, got {self.distortion_model!r}")
        elif len(self.distortion) not in counts or not all(map(math.isfinite, self.distortion)):
            wanted = " or ".join(map(str, counts))
            problems.append(
                f"distortion_model {self.distortion_model!r} has {wanted} finite coefficients, got {self.distortion}"
            )
        return problems

    @classmethod
    def of(cls, info: CameraInfoValues, T_base_camera: Pose) -> Self:
        """A camera from what it says of its lens; coefficients that are all zero mean a lens without distortion.

        Raises:
            ProphRLError: the lens is not calibrated, or of a model that is not known here.
        """
        model, distortion = info.distortion_model, tuple(info.distortion)
        if not any(distortion):
            model, distortion = UNDISTORTED, ()
        return cls(info.width, info.height, info.k, T_base_camera, model, distortion)

    @classmethod
    def from_mapping(cls, raw: Any, source: Path | str, where: str = "") -> Self:
        """Build from what ``to_mapping`` gave.

        Args:
            source: the file it was in, for messages.
            where: its place in the file ("cameras.front.").

        Raises:
            BadFileError: an entry is missing, unknown or wrong.
        """
        reader = SpecReader(raw, source, where)
        width, height = int(reader.positive("width")), int(reader.positive("height"))
        model, distortion = reader.one_of("distortion_model", list(COEFFICIENTS), UNDISTORTED), reader.numbers("distortion")
        place, k = reader.section("T_base_camera"), reader.numbers("k")
        if place is None:
            raise reader.refuse("T_base_camera is missing: where is the camera?")
        if len(k) != 9:
            raise reader.refuse(f"k must be nine numbers, row by row, got {len(k)}")
        pose = Pose.read(place)
        reader.refuse_unknown()
        try:
            return cls(width, height, np.reshape(k, (3, 3)), pose, model, distortion)
        except ProphRLError as error:
            raise reader.refuse(str(error)) from error

    def to_mapping(self) -> dict[str, Any]:
        """Plain numbers and texts, for JSON and YAML; ``from_mapping`` gives the same camera, to the last digit."""
        lens = {"distortion_model": self.distortion_model, "distortion": list(self.distortion)} if self.distortion_model else {}
        place = {"k": self.k.ravel().tolist(), "T_base_camera": self.T_base_camera.to_mapping()}
        return {"width": self.width, "height": self.height, **place, **lens}

    def project(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Where points of the base frame appear.

        Args:
            points: [..., 3] [m] in the base frame.

        Returns:
            Pixels [..., 2], which may lie outside the picture, and depth [...] [m] along the optical axis. Points that are not
            in front of the camera have depth <= 0, and NaN for pixels.
        """
        inside = self.T_base_camera.apply_inverse(points)
        depth = inside[..., 2]
        plane = inside[..., :2] / np.where(depth > 0.0, depth, np.nan)[..., None]
        if self.distortion_model:
            plane = _DISTORT[self.distortion_model](plane, self.distortion)
        return plane * self.k[[0, 1], [0, 1]] + self.k[:2, 2], depth

    def scaled(self, width: int, height: int) -> Self:
        """The same camera behind a resize of its pictures to ``width`` x ``height`` [px]."""
        lens = CameraInfoValues(self.width, self.height, self.k).resized(width, height)
        return replace(self, width=width, height=height, k=lens.k)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CameraModel) and self.to_mapping() == other.to_mapping()

    def __hash__(self) -> int:
        return hash((self.width, self.height, self.k.tobytes(), self.T_base_camera, self.distortion_model, self.distortion))


def cameras_to_plain(cameras: Mapping[str, CameraModel]) -> dict[str, Any]:
    """Cameras by name as plain mappings."""
    return {name: camera.to_mapping() for name, camera in cameras.items()}


def cameras_from_plain(raw: Any, source: Path | str) -> dict[str, CameraModel]:
    """What ``cameras_to_plain`` gave; raises BadFileError."""
    if not isinstance(raw, Mapping):
        raise BadFileError(source, f"cameras must be a mapping from name to camera, got {type(raw).__name__}")
    return {str(name): CameraModel.from_mapping(camera, source, f"cameras.{name}.") for name, camera in raw.items()}


def _plumb_bob(plane: FloatArray, coefficients: tuple[float, ...]) -> FloatArray:
    """Brown and Conrady's model, as OpenCV's projectPoints has it."""
    k1, k2, p1, p2, k3 = (*coefficients, 0.0)[:5]
    x, y = plane[..., 0], plane[..., 1]
    squared = x * x + y * y
    radial = 1.0 + squared * (k1 + squared * (k2 + squared * k3))
    across = x * radial + 2.0 * p1 * x * y + p2 * (squared + 2.0 * x * x)
    down = y * radial + p1 * (squared + 2.0 * y * y) + 2.0 * p2 * x * y
    return np.stack([across, down], axis=-1)


def _equidistant(plane: FloatArray, coefficients: tuple[float, ...]) -> FloatArray:
    """Kannala and Brandt's model, as OpenCV's fisheye module has it."""
    radius = np.linalg.norm(plane, axis=-1, keepdims=True)
    angle = np.arctan(radius)
    squared = angle * angle
    k1, k2, k3, k4 = coefficients
    bent = angle * (1.0 + squared * (k1 + squared * (k2 + squared * (k3 + squared * k4))))
    small = radius < se3.SMALL
    return plane * np.where(small, 1.0, bent / np.where(small, 1.0, radius))


_DISTORT = {PLUMB_BOB: _plumb_bob, EQUIDISTANT: _equidistant}
