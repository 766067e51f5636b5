"""Cell files: what is read, what is refused, and that the refusal says what was expected."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from robot_stack.core.cell import CameraDriver, Cell
from robot_stack.core.errors import BadFileError, ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import config_dir, robot_file

SPEC = RobotSpec.load(robot_file("ur5e"))
EXAMPLE = config_dir() / "cell" / "example.yaml"


@pytest.fixture
def raw() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    return data


def test_the_example_is_a_cell() -> None:
    cell = Cell.load(EXAMPLE, SPEC)
    assert (cell.robot, cell.arm.driver, cell.arm.tells_pose) == ("ur5e", "external", False)
    front, wrist = cell.cameras
    assert (front.driver, front.device, front.capture) == (CameraDriver.REALSENSE, "123456789012", None)
    assert (wrist.capture, wrist.fourcc, wrist.resize, wrist.latency_ms) == ((1280, 720), "MJPG", True, 30.0)


def test_files_are_relative_to_the_cell(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["cameras"][0] = {"name": "front", "driver": "file", "device": "film.mp4", "latency_ms": 0, "intrinsics": "lens.yaml"}
    with pytest.raises(BadFileError, match=r"cameras\[0\]\.intrinsics: no such file .*lens\.yaml"):
        Cell.from_mapping(raw, SPEC, tmp_path / "cell.yaml")
    (tmp_path / "lens.yaml").touch()
    camera = Cell.from_mapping(raw, SPEC, tmp_path / "cell.yaml").cameras[0]
    assert (camera.device, camera.intrinsics, camera.extrinsics) == (str(tmp_path / "film.mp4"), tmp_path / "lens.yaml", None)


def test_an_arm_that_brings_its_cameras_has_a_cell_without(raw: dict[str, Any]) -> None:
    del raw["cameras"]
    assert Cell.from_mapping(raw, SPEC, EXAMPLE).cameras == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(robot="fr3"), "robot is 'fr3', but the robot is 'ur5e'"),
        (lambda raw: raw.pop("arm"), "arm is missing"),
        (lambda raw: raw["arm"].pop("latency_ms"), r"arm\.latency_ms is missing"),
        (lambda raw: raw["arm"].update(latency_ms=-1.0), r"arm\.latency_ms must not be negative, got -1"),
        (lambda raw: raw["arm"].update(ip="10.0.0.2"), r"unknown entry arm\.ip; valid: device, driver"),
        (lambda raw: raw["cameras"][0].update(name="top"), "unknown camera of robot ur5e 'top'; valid: front, wrist"),
        (lambda raw: raw["cameras"].pop(), r"cameras are \['front'\], expected each of \['front', 'wrist'\] once"),
        (lambda raw: raw["cameras"][1].update(name="front"), r"cameras are \['front', 'front'\]"),
        (
            lambda raw: raw["cameras"][0].update(driver="gopro"),
            r"cameras\[0\]\.driver must be one of realsense, opencv, file, ext",
        ),
        (lambda raw: raw["cameras"][0].pop("device"), r"cameras\[0\]\.device is missing: which one shall the driver realsense"),
        (lambda raw: raw["cameras"][0].update(device=123456789012), r"cameras\[0\]\.device must be a non-empty text"),
        (lambda raw: raw["cameras"][0].update(driver="external"), r"cameras\[0\]\.device belongs to a driver of ours"),
        (lambda raw: raw["cameras"][1].update(fourcc="MJPEG"), "fourcc must be four letters"),
        (lambda raw: raw["cameras"][1].update(capture={"width": 640}), r"cameras\[1\]\.capture\.height is missing"),
        (lambda raw: raw["cameras"][1].update(driver="realsense", device="123456789012"), "'123456789012' stands for two cam"),
        (lambda raw: raw.update(camera=[]), "unknown entry camera; valid: arm, cameras, robot"),
    ],
)
def test_bad_entries_are_refused_by_name(raw: dict[str, Any], change: Any, message: str) -> None:
    Cell.from_mapping(copy.deepcopy(raw), SPEC, EXAMPLE)
    change(raw)
    with pytest.raises(ProphRLError, match=message):
        Cell.from_mapping(raw, SPEC, EXAMPLE)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"cell\.yaml: cannot be read as YAML"):
        Cell.load(tmp_path / "cell.yaml", SPEC)
