"""Robot files: what is refused, and that the refusal names the entry."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import config_dir, robot_file


@pytest.fixture
def raw() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(robot_file("sim_metaworld").read_text())
    return data


@pytest.mark.parametrize("path", sorted((config_dir() / "robot").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_robot_files_load_and_are_named_after_their_file(path: Path) -> None:
    spec = RobotSpec.load(path)
    assert spec.name == path.stem
    assert (spec.lower < spec.upper).all()
    assert np.isfinite(spec.max_step).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["actions"][0].update(limits=[0.5, -0.5]), r"actions\[0\]\.limits must be \[lower, upper\]"),
        (lambda raw: raw["actions"][0].update(limits=[0.0, float("inf")]), r"actions\[0\]\.limits"),
        (lambda raw: raw["actions"][1].update(max_velocity=0), r"actions\[1\]\.max_velocity must be a positive number"),
        (lambda raw: raw["actions"][1].update(kind="torque"), r"actions\[1\]\.kind must be one of position"),
        (lambda raw: raw.pop("rate_hz"), "rate_hz is missing"),
        (lambda raw: raw.update(rate=3), "unknown entry rate; valid: .*rate_hz"),
        (lambda raw: raw["cameras"][0].update(max_age_ms=60), "at least two periods"),
        (lambda raw: raw["cameras"][0].update(compression="h264"), r"cameras\[0\]\.compression must be one of none, jpeg"),
        (lambda raw: raw["actions"][1].update(name="x"), "action names are not unique"),
        (lambda raw: raw["actions"][0].update(kind="rotation"), "come in threes"),
        (lambda raw: raw["commands"][0].update(interface="torque"), r"commands\[0\]\.interface must be one of target_pose"),
        (lambda raw: raw["commands"][0].update(actions=["x", "y"]), r"actions of commands are .*expected each of .* once"),
        (
            lambda raw: raw["commands"][0].update(interface="joint_trajectory"),
            r"commands\[0\] \(joint_trajectory\) takes .*position",
        ),
        (lambda raw: raw["commands"][0].update(joints=["a"]), r"commands\[0\]\.joints must name as many joints as actions"),
        (lambda raw: raw["commands"][1].pop("open"), r"commands\[1\]\.open is missing"),
        (lambda raw: raw["actions"][0].pop("max_acceleration"), r"actions\[0\]\.max_acceleration is missing"),
        (lambda raw: raw.update(command_rate_hz=30.0), "command_rate_hz must be a multiple of rate_hz, got 30 and 20"),
        (lambda raw: raw.update(command_lead=0), "command_lead must be a whole number, at least 1"),
        (lambda raw: raw.update(on_violation="ignore"), "on_violation must be one of slow_down, hold"),
    ],
)
def test_bad_entries_are_refused_by_name(raw: dict[str, Any], change: Any, message: str) -> None:
    RobotSpec.from_mapping(copy.deepcopy(raw))
    change(raw)
    with pytest.raises(BadFileError, match=message):
        RobotSpec.from_mapping(raw)


def test_file_that_is_not_yaml(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("actions: [")
    with pytest.raises(BadFileError, match=r"robot\.yaml: cannot be read as YAML"):
        RobotSpec.load(path)


def test_unknown_robot_lists_the_shipped_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown robot 'r2d2'; valid: .*sim_metaworld"):
        robot_file("r2d2")


def test_fingerprint_depends_on_what_data_depend_on(raw: dict[str, Any]) -> None:
    original = RobotSpec.from_mapping(raw).fingerprint
    raw["actions"][0]["limits"] = [-0.1, 0.1]
    raw["max_state_age_ms"] = 100
    assert RobotSpec.from_mapping(raw).fingerprint == original
    raw["cameras"][0]["width"] = 128
    assert RobotSpec.from_mapping(raw).fingerprint != original
