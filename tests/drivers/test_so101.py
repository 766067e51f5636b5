"""The shipped SO-101 files with LeRobot's own classes and Feetech's own SDK, on a bus of simulated servos."""

import dataclasses
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("lerobot") is None or importlib.util.find_spec("scservo_sdk") is None:
    pytest.skip("needs the train and feetech extras", allow_module_level=True)

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.device_file import DeviceFile
from robot_stack.drivers.driven_arm import ArmError
from robot_stack.drivers.lerobot_device import DeviceError, connect, make_teleoperator
from robot_stack.drivers.lerobot_robot import LeRobotArm
from robot_stack.paths import robot_file
from tests.drivers.servo_bus import GOAL, MAX_LIMIT, PRESENT, TORQUE, ServoBus

SPEC = RobotSpec.load(robot_file("so101"))
RANGES = {1: (797, 3297), 2: (900, 3200), 3: (941, 3153), 4: (967, 3127), 5: (0, 4095), 6: (2000, 3250)}
STEP = 2 * np.pi / 4095  # LeRobot counts 4095 steps to a turn


@pytest.fixture
def bus() -> Iterator[ServoBus]:
    with ServoBus(RANGES) as bus:
        yield bus


def device(name: str, bus: ServoBus, folder: Path) -> DeviceFile:
    """The shipped file, at the port of ``bus``, with a calibration that fits."""
    file = DeviceFile.read(name)
    motors = [*SPEC.action_names]
    calibration = {
        motor: {"id": number, "drive_mode": 0, "homing_offset": 0, "range_min": low, "range_max": high}
        for motor, (number, (low, high)) in zip(motors, RANGES.items(), strict=True)
    }
    (folder / f"{file.config['id']}.json").write_text(json.dumps(calibration))
    return dataclasses.replace(file, config={**file.config, "port": bus.port, "calibration_dir": str(folder)})


def arm_on(bus: ServoBus, folder: Path) -> LeRobotArm:
    arm = LeRobotArm(device("so101", bus, folder), SPEC)
    arm.connect()
    return arm


def test_radians_and_openings_are_the_right_steps_of_the_servos(bus: ServoBus, tmp_path: Path) -> None:
    arm = arm_on(bus, tmp_path)
    np.testing.assert_allclose(arm.read().positions, [0, 0, 0, 0, 0, 0.5], atol=2 * STEP)
    for number, raw in {1: 2047 + 500, 2: 2050 - 300, 5: 2047 + 1000, 6: 2000}.items():
        bus.set(number, PRESENT, raw)
    expected = [500 * STEP, -300 * STEP, 0, 0, 1000 * STEP, 0.0]
    np.testing.assert_allclose(arm.read().positions, expected, atol=2 * STEP)

    target = np.array([0.5, -1.0, 1.2, -0.4, 2.0, 0.25])
    np.testing.assert_allclose(arm.send(target), target)
    np.testing.assert_allclose(arm.read().positions, target, atol=2 * STEP)  # servos do not answer to goals, but to this
    middles = np.array([(low + high) / 2 for low, high in RANGES.values()])
    goals = np.array([bus.get(number, GOAL) for number in RANGES])
    np.testing.assert_allclose(goals[:5], middles[:5] + target[:5] / STEP, atol=1)
    assert goals[5] == pytest.approx(2000 + 0.25 * 1250, abs=1)
    arm.close()
    assert all(bus.memory[number][TORQUE] for number in RANGES)  # it stands still; it does not fall


def test_the_joints_limits_fit_into_what_the_servos_can_turn(bus: ServoBus, tmp_path: Path) -> None:
    arm = arm_on(bus, tmp_path)
    for limit in (SPEC.lower, SPEC.upper):
        arm.send(limit)
        np.testing.assert_allclose(arm.read().positions, limit, atol=2 * STEP)


def test_an_unplugged_bus_is_an_arm_error(bus: ServoBus, tmp_path: Path) -> None:
    arm = arm_on(bus, tmp_path)
    bus.unplug()
    with pytest.raises(ArmError, match="so101_follower cannot be read"):
        arm.read()
    with pytest.raises(DeviceError, match="so101_follower: cannot be connected"):
        arm_on(bus, tmp_path)


def test_servos_that_were_calibrated_otherwise_are_refused(bus: ServoBus, tmp_path: Path) -> None:
    bus.set(3, MAX_LIMIT, 4000)
    with pytest.raises(DeviceError, match=r"not calibrated as its file .*so101.json says"):
        arm_on(bus, tmp_path)


def test_the_leader_speaks_the_same_units(bus: ServoBus, tmp_path: Path) -> None:
    from robot_stack.drivers.feature_map import FeatureMap

    file = device("so101_leader", bus, tmp_path)
    leader = make_teleoperator(file)
    connect(leader, file)
    bus.set(1, PRESENT, 2047 - 700)
    bus.set(6, PRESENT, 3250)
    values = FeatureMap.read(file.names, SPEC.action_names).ours(leader.get_action())
    np.testing.assert_allclose(values, [-700 * STEP, 0, 0, 0, 0, 1.0], atol=2 * STEP)
    leader.disconnect()
