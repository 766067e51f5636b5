"""Names and units of another library's devices: there and back, and every refusal with the names in it."""

import math
from typing import Any

import numpy as np
import pytest
import yaml

from robot_stack.core.errors import ProphRLError
from robot_stack.drivers.device_file import DeviceFile
from robot_stack.drivers.feature_map import FeatureMap

ACTIONS = ("elbow", "gripper")
RAW = {
    "m1.pos": {"action": "elbow", "unit": "degrees", "scale": -1.0, "offset": 0.1},
    "m2.pos": {"action": "gripper", "unit": "percent"},
}


def test_degrees_and_percent_become_radians_and_openings_and_back() -> None:
    names = FeatureMap.read(RAW, ACTIONS)
    ours = names.ours({"m2.pos": 25.0, "m1.pos": 90.0, "current": "unused"})
    np.testing.assert_allclose(ours, [-math.pi / 2 + 0.1, 0.25])
    assert names.theirs(ours) == {"m1.pos": pytest.approx(90.0), "m2.pos": pytest.approx(25.0)}
    raw_units = {"a": {"action": "elbow", "unit": "one", "scale": 0.02}, "b": {"action": "gripper", "unit": "radians"}}
    np.testing.assert_allclose(FeatureMap.read(raw_units, ACTIONS).ours({"a": -100.0, "b": 0.5}), [-2.0, 0.5])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "names must be a mapping"),
        ({"m1.pos": RAW["m1.pos"]}, "no feature for action gripper; each of elbow, gripper needs one"),
        ({**RAW, "m3.pos": {"action": "elbow", "unit": "one"}}, "action elbow comes from two features, m1.pos and m3.pos"),
        ({**RAW, "m1.pos": {"action": "elbo", "unit": "one"}}, "unknown action to which feature m1.pos goes 'elbo'.*'elbow'"),
        ({**RAW, "m1.pos": {"action": "elbow", "unit": "deg"}}, "unknown unit of feature m1.pos 'deg'; valid: degrees, one"),
        ({**RAW, "m1.pos": {"action": "elbow"}}, "m1.pos must be {action, unit}"),  # degrees are never guessed
        ({**RAW, "m1.pos": {"action": "elbow", "unit": "one", "scale": 0}}, "scale of m1.pos must not be 0"),
        ({**RAW, "m1.pos": {"action": "elbow", "unit": "one", "offset": "x"}}, "offset of m1.pos must be a finite number"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(raw: Any, message: str) -> None:
    with pytest.raises(ProphRLError, match=message):
        FeatureMap.read(raw, ACTIONS)


def test_features_that_are_missing_or_left_over_are_named() -> None:
    names = FeatureMap.read(RAW, ACTIONS)
    names.check("the arm", ["m1.pos", "m2.pos", "m3.pos"])
    with pytest.raises(ProphRLError, match="the arm also wants m3.pos"):
        names.check("the arm", ["m1.pos", "m2.pos", "m3.pos"], all_of_them=True)
    with pytest.raises(ProphRLError, match=r"unknown feature of the arm 'm2.pos'; valid: m1.pos"):
        names.check("the arm", ["m1.pos"])


def test_values_that_are_missing_or_not_finite_are_named() -> None:
    names = FeatureMap.read(RAW, ACTIONS)
    with pytest.raises(ProphRLError, match="feature 'm2.pos' did not come"):
        names.ours({"m1.pos": 1.0})
    with pytest.raises(ProphRLError, match="feature m1.pos is not finite"):
        names.ours({"m1.pos": math.nan, "m2.pos": 1.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{type: [", "cannot be read as YAML"),
        ("{type: 3}", "type must be the name under which LeRobot registers the device"),
        ("{type: x, names: {}, cofig: {}}", "unknown entry of device file 'cofig'.*did you mean 'config'"),
        ("{type: x, config: [1]}", "config must be a mapping"),
        ("- a\n- b", "must be a mapping with type"),
        ("so102", "unknown device of LeRobot 'so102'; valid: so101, so101_leader"),
        ("nowhere/mine.yaml", "nowhere/mine.yaml: cannot be read"),
    ],
)
def test_a_device_file_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ProphRLError, match=message):
        DeviceFile.read(text)


def test_a_device_file_may_be_a_name_a_path_or_the_text_itself(tmp_path: Any) -> None:
    shipped = DeviceFile.read("so101")
    assert shipped.type == "so101_follower"
    mine = {"type": shipped.type, "config": dict(shipped.config), "names": shipped.names}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(mine))
    for where in (str(path), yaml.safe_dump(mine), yaml.safe_dump(mine, default_flow_style=True)):
        found = DeviceFile.read(where)
        assert (found.type, found.config, found.names) == (shipped.type, shipped.config, shipped.names)
