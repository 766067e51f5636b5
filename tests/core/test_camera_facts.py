"""Calibration files: what is read, what is refused, and that the refusal says what was expected."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from robot_stack.core.camera import CameraModel, Pose
from robot_stack.core.camera_facts import (
    CameraFacts,
    facts_from_record,
    facts_of_cell,
    facts_to_record,
    read_extrinsics,
    read_intrinsics,
)
from robot_stack.core.cell import Cell
from robot_stack.core.errors import BadFileError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import CameraInfoValues
from robot_stack.paths import config_dir, robot_file

# As camera_calibration writes it, with what is of no use here.
INTRINSICS: dict[str, Any] = yaml.safe_load("""
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix: {rows: 3, cols: 3, data: [438.78, 0.0, 305.59, 0.0, 437.35, 243.74, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.361976, 0.110510, 0.001014, 0.000505, 0.0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [393.65, 0, 322.79, 0, 0, 393.65, 241.09, 0, 0, 0, 1, 0]}
""")
EXTRINSICS: dict[str, Any] = {
    "parent_frame": "base",
    "child_frame": "front_optical",
    "T_base_camera": {"position": [1.0, 0.5, 0.25], "quaternion": [0.5, 0.5, -0.5, -0.5]},
}


def write(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_file_of_camera_info_manager_is_read(tmp_path: Path) -> None:
    lens = read_intrinsics(write(tmp_path / "lens.yaml", INTRINSICS))
    assert (lens.width, lens.height, lens.distortion_model) == (640, 480, "plumb_bob")
    assert lens.k.tolist() == [[438.78, 0.0, 305.59], [0.0, 437.35, 243.74], [0.0, 0.0, 1.0]]
    assert lens.distortion == (-0.361976, 0.110510, 0.001014, 0.000505, 0.0)


def test_a_place_is_read_in_the_frames_that_are_meant(tmp_path: Path) -> None:
    path = write(tmp_path / "place.yaml", EXTRINSICS)
    assert read_extrinsics(path, "base", "front_optical") == Pose((1.0, 0.5, 0.25), (0.5, 0.5, -0.5, -0.5))
    with pytest.raises(BadFileError, match=r"place\.yaml: parent_frame is 'base', expected 'base_link'"):
        read_extrinsics(path, "base_link", "front_optical")
    with pytest.raises(BadFileError, match=r"child_frame is 'front_optical', expected 'wrist_optical'"):
        read_extrinsics(path, "base", "wrist_optical")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("camera_matrix"), r"lens\.yaml: camera_matrix is missing"),
        (lambda raw: raw["camera_matrix"].update(data=[1.0] * 8), "camera_matrix must be nine numbers, row by row, got 8"),
        (lambda raw: raw["camera_matrix"].update(data=[0.0] * 9), "focal lengths must be positive"),
        (lambda raw: raw["camera_matrix"].update(data="1 2 3"), r"camera_matrix\.data must be a list of finite numbers"),
        (
            lambda raw: raw.update(distortion_model="rational_polynomial"),
            "distortion_model must be one of plumb_bob, equidistant",
        ),
        (lambda raw: raw["distortion_coefficients"].update(data=[0.1]), r"plumb_bob has \(4, 5\) of them, got 1"),
        (lambda raw: raw.update(image_width=0), "image_width must be a positive number, got 0"),
    ],
)
def test_bad_lenses_are_refused_by_name(change: Any, message: str, tmp_path: Path) -> None:
    raw = copy.deepcopy(INTRINSICS)
    change(raw)
    with pytest.raises(BadFileError, match=message):
        read_intrinsics(write(tmp_path / "lens.yaml", raw))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("T_base_camera"), "T_base_camera is missing: where is the camera"),
        (lambda raw: raw["T_base_camera"].pop("position"), r"T_base_camera\.position is missing"),
        (lambda raw: raw["T_base_camera"].update(quaternion=[0, 0, 0, 2]), r"must have length 1, got .* of length 2"),
        (lambda raw: raw["T_base_camera"].update(rpy=[0, 0, 0]), r"unknown entry T_base_camera\.rpy; valid: position, quat"),
        (lambda raw: raw.update(camera="front"), "unknown entry camera; valid: T_base_camera, child_frame, parent_frame"),
    ],
)
def test_bad_places_are_refused_by_name(change: Any, message: str, tmp_path: Path) -> None:
    raw = copy.deepcopy(EXTRINSICS)
    change(raw)
    with pytest.raises(BadFileError, match=message):
        read_extrinsics(write(tmp_path / "place.yaml", raw), "base", "front_optical")


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "lens.yaml").write_text("{")
    for read in (read_intrinsics, lambda path: read_extrinsics(path, "base", "front_optical")):
        for name in ("lens.yaml", "missing.yaml"):
            with pytest.raises(BadFileError, match=rf"{name}: cannot be read as YAML"):
                read(tmp_path / name)


def test_a_cell_tells_what_its_files_say(tmp_path: Path) -> None:
    spec = RobotSpec.load(robot_file("ur5e"))
    raw = yaml.safe_load((config_dir() / "cell" / "example.yaml").read_text())
    raw["cameras"][0] |= {"intrinsics": "lens.yaml", "extrinsics": "place.yaml"}
    write(tmp_path / "lens.yaml", INTRINSICS)
    write(tmp_path / "place.yaml", EXTRINSICS | {"parent_frame": spec.base_frame})
    facts = facts_of_cell(Cell.from_mapping(raw, spec, tmp_path / "cell.yaml"), spec)
    assert facts["wrist"] == CameraFacts()
    model = facts["front"].model(320, 240)
    assert model is not None
    assert model.T_base_camera.position == (1.0, 0.5, 0.25)
    np.testing.assert_allclose(model.k[:2, 2], [(305.59 + 0.5) / 2 - 0.5, (243.74 + 0.5) / 2 - 0.5])
    assert facts["wrist"].model(320, 240) is None


@pytest.mark.parametrize("lens", [None, CameraInfoValues(64, 48, np.diag([50.0, 51.0, 1.0]), "inverse", (0.1,) * 5)])
@pytest.mark.parametrize("place", [None, Pose((1.0, 1.0 / 3.0, 0.0), (0.5, 0.5, -0.5, -0.5))])
def test_a_record_and_back(lens: CameraInfoValues | None, place: Pose | None) -> None:
    """Whatever is known of a camera comes back, also a lens of a model that is not known here."""
    found = facts_from_record(facts_to_record({"front": CameraFacts(lens, place)}), "log").get("front", CameraFacts())
    assert found.T_base_camera == place
    assert (found.lens is None) == (lens is None)
    if lens is not None and found.lens is not None:
        assert found.lens.k.tolist() == lens.k.tolist()
        assert (found.lens.distortion_model, found.lens.distortion) == ("inverse", (0.1,) * 5)
        assert (found.lens.width, found.lens.height) == (64, 48)


def test_a_spoilt_record_is_refused() -> None:
    with pytest.raises(BadFileError, match=r"log\.mcap: what it says of camera front is not JSON"):
        facts_from_record({"front": "{"}, "log.mcap")
    with pytest.raises(BadFileError, match=r"log\.mcap: cameras\.front\.lens\.height is missing"):
        facts_from_record({"front": '{"lens": {"width": 8}}'}, "log.mcap")


def test_the_example_of_the_module_is_a_camera_that_looks_at_the_arm(tmp_path: Path) -> None:
    """The simulated cell's front camera, rounded: it stands before the arm and looks back and down."""
    import robot_stack.core.camera_facts as module

    assert module.__doc__ is not None
    example = module.__doc__.split("::\n")[1]
    path = tmp_path / "place.yaml"
    path.write_text(example)
    raw = yaml.safe_load(example)
    length = np.linalg.norm(raw["T_base_camera"]["quaternion"])
    assert length == pytest.approx(1.0, abs=1e-3)
    camera = CameraModel(64, 64, np.diag([50.0, 50.0, 1.0]), read_extrinsics(path, "base", "front_optical"))
    forward = camera.T_base_camera.rotation[:, 2]
    assert forward[0] < -0.5 and forward[2] < -0.3
    down = camera.T_base_camera.rotation[:, 1]
    assert down[2] < -0.5
