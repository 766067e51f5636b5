"""LeRobot's robots through the adapter: a plug-in's arm with its units, its pictures, its failures; and what is refused."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

if importlib.util.find_spec("lerobot") is None:
    pytest.skip("needs the train extra", allow_module_level=True)

from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.device_file import DeviceFile
from robot_stack.drivers.driven_arm import ArmError
from robot_stack.drivers.lerobot_device import DeviceError
from robot_stack.drivers.lerobot_robot import LeRobotArm
from robot_stack.paths import robot_file
from tests import plugins

SO101 = DeviceFile.read("so101")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plugins.install(tmp_path_factory.mktemp("plugin"))


@pytest.fixture
def spec() -> RobotSpec:
    raw = yaml.safe_load(robot_file("so101").read_text())
    raw["cameras"] = [raw["cameras"][0] | {"width": 64, "height": 48}]
    return RobotSpec.from_mapping(raw)


@pytest.fixture
def plug(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(plugin))
    path = tmp_path / "plug"
    path.touch()
    return path


def device(plug: Path, names: Any = SO101.names, cameras: Any = None, **config: Any) -> DeviceFile:
    config = {"plug": str(plug), "calibration_dir": str(plug.parent), "id": "arm", **config}
    return DeviceFile("the file", "simulated_arm", config, names, {"front": "eye"} if cameras is None else cameras)


def test_positions_go_there_and_back_in_the_units_of_the_file(plug: Path, spec: RobotSpec) -> None:
    arm = LeRobotArm(device(plug, lag_s=1e-6, home={"elbow_flex": 90.0, "gripper": 40.0}), spec)
    arm.connect()
    np.testing.assert_allclose(arm.read().positions, [0, 0, np.pi / 2, 0, 0, 0.4])
    target = np.array([0.1, -0.2, 0.3, -0.4, 0.5, 1.0])
    np.testing.assert_allclose(arm.send(target), target)
    np.testing.assert_allclose(arm.read().positions, target)
    arm.close()


def test_an_arm_that_limits_itself_tells_what_it_sent(plug: Path, spec: RobotSpec) -> None:
    arm = LeRobotArm(device(plug, largest=45.0), spec)
    arm.connect()
    np.testing.assert_allclose(arm.send(np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.3])), [np.pi / 4, -np.pi / 4, 0, 0, 0, 0.3])


def test_a_picture_that_came_before_is_no_new_one(plug: Path, spec: RobotSpec) -> None:
    arm = LeRobotArm(device(plug), spec)
    arm.connect()
    readings = [arm.read() for _ in range(3)]  # much faster than its camera
    assert [list(reading.pictures) for reading in readings][:2] == [["front"], []]
    assert readings[0].pictures["front"].shape == (48, 64, 3)


def test_an_unplugged_arm_is_an_arm_error_whatever_is_asked_of_it(plug: Path, spec: RobotSpec) -> None:
    arm = LeRobotArm(device(plug), spec)
    arm.connect()
    plug.unlink()
    with pytest.raises(ArmError, match="simulated_arm cannot be read: the arm has been unplugged"):
        arm.read()
    with pytest.raises(ArmError, match="takes no command: the arm has been unplugged"):
        arm.send(np.zeros(6))
    with pytest.raises(DeviceError, match="cannot be connected: the arm has been unplugged"):
        LeRobotArm(device(plug), spec).connect()


def test_an_arm_without_calibration_is_refused_instead_of_asking_somebody(plug: Path, spec: RobotSpec) -> None:
    with pytest.raises(DeviceError, match=r"not calibrated as its file .*arm.json says.*lerobot-calibrate"):
        LeRobotArm(device(plug, calibrated=False), spec).connect()


def without(feature: str) -> dict[str, Any]:
    return {name: entry for name, entry in SO101.names.items() if name != feature}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": without("gripper.pos")}, "no feature for action gripper"),
        (
            {"names": without("gripper.pos") | {"claw.pos": SO101.names["gripper.pos"]}},
            "feature of simulated_arm's actions 'claw",
        ),
        ({"cameras": {"front": "ear"}}, "unknown camera of simulated_arm 'ear'; valid: eye"),
        ({"cameras": {"back": "eye"}}, "unknown camera of robot so101 'back'; valid: front"),
        ({"speed": 3}, "config does not fit LeRobot's simulated_arm: The fields `speed` are not valid"),
        ({"lag_s": "long"}, "config does not fit LeRobot's simulated_arm: `lag_s`"),
    ],
)
def test_a_device_file_that_does_not_fit_is_refused(plug: Path, spec: RobotSpec, changes: Any, message: str) -> None:
    with pytest.raises(ProphRLError, match=message):
        LeRobotArm(device(plug, **changes), spec)


def test_a_picture_of_another_size_is_refused(plug: Path) -> None:
    with pytest.raises(ProphRLError, match=r"its camera eye gives \[48, 64, 3\], robot so101 wants \[480, 640, 3\]"):
        LeRobotArm(device(plug), RobotSpec.load(robot_file("so101")))


def test_lerobots_own_robots_are_known(spec: RobotSpec) -> None:
    unknown = DeviceFile("the file", "so1001_follower", {}, SO101.names)
    with pytest.raises(
        ProphRLError, match=r"unknown robot of LeRobot 'so1001_follower'; valid: .*koch_follower.*so101_follower"
    ):
        LeRobotArm(unknown, spec)
    incomplete = DeviceFile("the file", "so101_follower", {}, SO101.names)
    with pytest.raises(ProphRLError, match=r"the file: config does not fit LeRobot's so101_follower: .*`port`"):
        LeRobotArm(incomplete, spec)
