"""LeRobot's teleoperators through the adapter: a plug-in's leader arm that is engaged, let go, unplugged and plugged in."""

import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("lerobot") is None:
    pytest.skip("needs the train extra", allow_module_level=True)

from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.device_file import DeviceFile
from robot_stack.drivers.gamepad import Gamepad, GamepadSettings
from robot_stack.drivers.lerobot_teleop import LeRobotTeleop, LeRobotTeleopSettings
from robot_stack.drivers.teleop_device import Mark
from robot_stack.paths import robot_file
from tests import plugins

SPEC = RobotSpec.load(robot_file("so101"))
NAMES = DeviceFile.read("so101_leader").names
HERE = np.array([0.0, 0.2, -0.3, 0.1, 0.5, 0.0])
SETTINGS = LeRobotTeleopSettings(approach=0.5, silence_s=0.5, retries=1, attempts=100, pause_s=0.05)
DEADMAN, START = 9, 6


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plugins.install(tmp_path_factory.mktemp("plugin"))


class Leader:
    """A leader arm in the hands of the test."""

    def __init__(self, folder: Path, deadman: Any, names: Any = NAMES, attempts: int = 100) -> None:
        self.plug, self.told = folder / "leader.json", list[str]()
        self.hold()
        config = {"plug": str(self.plug), "calibration_dir": str(folder)}
        file = DeviceFile("the file", "simulated_leader", config, names)
        settings = dataclasses.replace(SETTINGS, attempts=attempts)
        self.device = LeRobotTeleop(file, SPEC, deadman, settings, self.told.append)

    def hold(self, **pose: Any) -> None:
        """Hold the leader at a pose [degrees], percent."""
        whole = self.plug.with_suffix(".new")
        whole.write_text(json.dumps(pose))
        whole.replace(self.plug)

    def target(self) -> np.ndarray | None:
        return self.device.target(0, HERE)


@pytest.fixture
def make(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Leader]]:
    monkeypatch.syspath_prepend(str(plugin))
    made: list[Leader] = []

    def make(deadman: Any, names: Any = NAMES, attempts: int = 100) -> Leader:
        made.append(Leader(tmp_path, deadman, names, attempts))
        return made[-1]

    yield make
    for leader in made:
        leader.device.close()


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.005)


def test_the_arm_approaches_the_leader_while_a_feature_of_it_says_so(make: Callable[..., Leader]) -> None:
    leader = make("enabled")
    leader.device.open()
    leader.hold(shoulder_pan=90.0)
    time.sleep(0.1)
    assert leader.target() is None
    leader.hold(shoulder_pan=90.0, shoulder_lift=np.degrees(0.2), enabled=True)
    until(lambda: leader.target() is not None, "the approach")
    target = leader.target()
    assert target is not None
    way = np.array([np.pi / 2, 0.0, 0.3, -0.1, -0.5])
    np.testing.assert_allclose(target[:5] - HERE[:5], way / np.abs(way).max() * 0.5 * SPEC.max_step[0], atol=1e-9)
    leader.hold(enabled=False)
    until(lambda: leader.target() is None, "the hold")


def test_a_gamepads_button_can_be_the_deadman_and_its_other_buttons_mark_episodes(make: Callable[..., Leader]) -> None:
    pad = Gamepad(GamepadSettings(deadman_s=60.0))
    leader = make(pad)
    leader.device.open()
    for pressed in ((), (START,), (DEADMAN,)):
        pad.take([0.0] * 6, [int(i in pressed) for i in range(21)])
        if pressed != (DEADMAN,):
            assert leader.target() is None
    until(lambda: leader.target() is not None, "the approach")
    assert leader.device.requests().marks == (Mark.START,)


def test_an_unplugged_leader_holds_is_told_once_and_comes_back_by_approaching_anew(make: Callable[..., Leader]) -> None:
    leader = make("enabled")
    leader.device.open()
    pose = {"shoulder_lift": np.degrees(0.2), "elbow_flex": np.degrees(-0.3), "wrist_flex": np.degrees(0.1)}
    leader.hold(**pose, wrist_roll=np.degrees(0.5), enabled=True)
    until(lambda: leader.target() is not None, "the approach")  # it is there: from now on it follows at full speed
    leader.plug.unlink()
    until(lambda: leader.told and leader.target() is None, "the loss")
    leader.hold(**pose, wrist_roll=np.degrees(2.5), enabled=True)
    until(lambda: leader.target() is not None, "its return")
    assert [("is lost" in told, "is back" in told) for told in leader.told] == [(True, False), (False, True)]
    target = leader.target()
    assert target is not None and target[4] - HERE[4] == pytest.approx(0.5 * SPEC.max_step[4])


def test_a_leader_that_hangs_holds(make: Callable[..., Leader]) -> None:
    leader = make("enabled")
    leader.device.open()
    leader.hold(enabled=True)
    until(lambda: leader.target() is not None, "the approach")
    leader.hold(enabled=True, hangs=3.0)
    until(lambda: leader.target() is None, "the hold")
    assert not leader.told  # it has not failed: it says nothing


def test_one_that_does_not_come_back_is_given_up(make: Callable[..., Leader]) -> None:
    leader = make("enabled", attempts=3)
    leader.device.open()
    leader.plug.unlink()
    until(lambda: len(leader.told) == 2, "giving up")
    assert "given up after 3 attempts: LeRobot device simulated_leader: cannot be connected" in leader.told[1]
    leader.hold(enabled=True)
    time.sleep(0.3)
    assert leader.target() is None


def test_a_leader_that_is_not_there_is_refused_at_once(make: Callable[..., Leader]) -> None:
    leader = make("enabled")
    leader.plug.unlink()
    with pytest.raises(ProphRLError, match="cannot be connected: the leader has been unplugged"):
        leader.device.open()


@pytest.mark.parametrize(
    ("deadman", "names", "message"),
    [
        ("pedal", NAMES, "unknown feature of simulated_leader's actions 'pedal'; valid: .*enabled"),
        ("enabled", {}, "no feature for action shoulder_pan, shoulder_lift"),
        ("enabled", NAMES | {"grip.pos": NAMES["gripper.pos"]}, "action gripper comes from two features"),
        (
            "enabled",
            {name.replace("wrist", "rist"): entry for name, entry in NAMES.items()},
            "unknown feature of simulated_leader's actions 'rist_flex.pos'.*did you mean 'wrist_flex.pos'",
        ),
    ],
)
def test_what_does_not_fit_is_named(make: Callable[..., Leader], deadman: str, names: Any, message: str) -> None:
    with pytest.raises(ProphRLError, match=message):
        make(deadman, names)
