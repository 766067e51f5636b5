"""What is known of each camera of one physical robot: its lens and its place, from files, drivers or a simulator.

Intrinsics are files as ROS's camera_info_manager keeps them (image_width, image_height, camera_matrix, distortion_model,
distortion_coefficients). Extrinsics are ours::

    parent_frame: base                     # the robot file's base_frame
    child_frame: front_optical             # the camera's: x right, y down, z forward
    T_base_camera:
      position: [1.15, 0.0, 0.7]           # of the camera, in the base frame [m]
      quaternion: [0.614, 0.614, -0.350, -0.350]   # x, y, z, w: turns the axes of base into those of the camera
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml

from robot_stack.core.camera import COEFFICIENTS, CameraModel, Pose
from robot_stack.core.cell import Cell
from robot_stack.core.errors import BadFileError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.spec_reader import SpecReader
from robot_stack.core.types import CameraInfoValues


@dataclass(frozen=True)
class CameraFacts:
    """What is known of one camera.

    Attributes:
        lens: None: not calibrated.
        T_base_camera: pose of its optical frame in the base frame; None: not known, or it moves.
    """

    lens: CameraInfoValues | None = None
    T_base_camera: Pose | None = None

    def model(self, width: int, height: int) -> CameraModel | None:
        """The camera with pictures of this size [px]; None where lens or place is not known.

        Raises:
            ProphRLError: the lens is of a model that is not known here.
        """
        if self.lens is None or self.T_base_camera is None:
            return None
        return CameraModel.of(self.lens.resized(width, height), self.T_base_camera)

    def to_mapping(self) -> dict[str, Any]:
        """Plain data, for logs: what is not known is left out."""
        plain: dict[str, Any] = {}
        if self.lens is not None:
            lens = self.lens
            plain["lens"] = {"width": lens.width, "height": lens.height, "k": lens.k.ravel().tolist()}
            plain["lens"] |= {"distortion_model": lens.distortion_model, "distortion": list(lens.distortion)}
        if self.T_base_camera is not None:
            plain["T_base_camera"] = self.T_base_camera.to_mapping()
        return plain

    @classmethod
    def from_mapping(cls, raw: Any, source: Path | str, where: str = "") -> Self:
        """Inverse of ``to_mapping``; raises BadFileError."""
        reader = SpecReader(raw, source, where)
        lens, place = reader.section("lens"), reader.section("T_base_camera")
        reader.refuse_unknown()
        return cls(None if lens is None else _lens(lens), None if place is None else Pose.read(place))


def optical_frame(camera: str) -> str:
    """Name of a camera's frame: z forward, x right, y down (REP 103)."""
    return f"{camera}_optical"


def facts_of_cell(cell: Cell, spec: RobotSpec) -> dict[str, CameraFacts]:
    """What the calibration files say that a cell names, for each of its cameras.

    Raises:
        BadFileError: a file is missing, not YAML, or does not say what it should.
    """
    facts = {}
    for camera in cell.cameras:
        lens = None if camera.intrinsics is None else read_intrinsics(camera.intrinsics)
        frames = spec.base_frame, optical_frame(camera.name)
        facts[camera.name] = CameraFacts(
            lens, None if camera.extrinsics is None else read_extrinsics(camera.extrinsics, *frames)
        )
    return facts


def read_intrinsics(path: Path) -> CameraInfoValues:
    """A lens from a file of ROS's camera_info_manager.

    Raises:
        BadFileError: the file is missing, not YAML, or does not describe a calibrated lens.
    """
    reader = SpecReader(_yaml(path), path)
    known = [name for name in COEFFICIENTS if name]
    model = reader.one_of("distortion_model", known)
    k, distortion = (_matrix(reader, key) for key in ("camera_matrix", "distortion_coefficients"))
    if len(distortion) not in COEFFICIENTS[model]:
        raise reader.refuse(f"distortion_coefficients: {model} has {COEFFICIENTS[model]} of them, got {len(distortion)}")
    width, height = int(reader.positive("image_width")), int(reader.positive("image_height"))
    return _checked(CameraInfoValues(width, height, _square(reader, "camera_matrix", k), model, distortion), reader)


def read_extrinsics(path: Path, base_frame: str, camera_frame: str) -> Pose:
    """``T_base_camera`` from a file of the form above.

    Raises:
        BadFileError: the file is missing, not YAML, lacks an entry, or is about other frames.
    """
    reader = SpecReader(_yaml(path), path)
    for key, wanted in (("parent_frame", base_frame), ("child_frame", camera_frame)):
        found = reader.text(key)
        if found != wanted:
            raise reader.refuse(f"{key} is {found!r}, expected {wanted!r}")
    place = reader.section("T_base_camera")
    if place is None:
        raise reader.refuse("T_base_camera is missing: where is the camera?")
    reader.refuse_unknown()
    return Pose.read(place)


def _lens(reader: SpecReader) -> CameraInfoValues:
    width, height, k = int(reader.positive("width")), int(reader.positive("height")), reader.numbers("k")
    model, distortion = reader.text("distortion_model", ""), reader.numbers("distortion")
    reader.refuse_unknown()
    return _checked(CameraInfoValues(width, height, _square(reader, "k", k), model, distortion), reader)


def _checked(lens: CameraInfoValues, reader: SpecReader) -> CameraInfoValues:
    if lens.k[0, 0] <= 0 or lens.k[1, 1] <= 0:
        raise reader.refuse(f"focal lengths must be positive (not calibrated?), got {lens.k.tolist()}")
    return lens


def _matrix(reader: SpecReader, key: str) -> tuple[float, ...]:
    section = reader.section(key)
    if section is None:
        raise reader.refuse(f"{key} is missing")
    return section.numbers("data")


def _square(reader: SpecReader, key: str, numbers: tuple[float, ...]) -> Any:
    if len(numbers) != 9:
        raise reader.refuse(f"{key} must be nine numbers, row by row, got {len(numbers)}")
    return np.reshape(numbers, (3, 3))


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadFileError(path, f"cannot be read as YAML: {error}") from error


def facts_to_record(facts: Mapping[str, CameraFacts]) -> dict[str, str]:
    """Cameras as texts, as an MCAP metadata record wants them; those of which nothing is known are left out."""
    plain = {name: known.to_mapping() for name, known in facts.items()}
    return {name: json.dumps(mapping) for name, mapping in plain.items() if mapping}


def facts_from_record(record: Mapping[str, str], source: Path | str) -> dict[str, CameraFacts]:
    """Inverse of ``facts_to_record``; raises BadFileError."""
    facts = {}
    for name, text in record.items():
        try:
            plain = json.loads(text)
        except ValueError as error:
            raise BadFileError(source, f"what it says of camera {name} is not JSON: {error}") from error
        facts[name] = CameraFacts.from_mapping(plain, source, f"cameras.{name}.")
    return facts
