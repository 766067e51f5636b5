"""Wishes of a hand become targets: never without the deadman, never a surprise for the gripper."""

from dataclasses import dataclass, field

import numpy as np

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.jog_teleop import JogTeleop
from robot_stack.drivers.teleop_device import GripperWish, Requests, Wish
from robot_stack.drivers.tool_jog import make_jog
from robot_stack.paths import robot_file

SPEC = RobotSpec.load(robot_file("sim_metaworld"))
HERE = np.array([0.0, 0.6, 0.2, 0.0])  # the gripper holds something


@dataclass
class Script:
    """A hand that does what the test says."""

    wishes: list[Wish | None] = field(default_factory=list)
    switches: int = 0

    def open(self) -> None: ...

    def wish(self) -> Wish | None:
        return self.wishes.pop(0)

    def requests(self) -> Requests:
        return Requests(switches=self.switches)

    def close(self) -> None: ...


def teleop(*wishes: Wish | None) -> JogTeleop:
    return JogTeleop(Script(list(wishes)), [make_jog(SPEC)], SPEC, speed=0.5)


def test_no_deadman_is_no_target_and_motion_stays_within_the_limits() -> None:
    up = Wish(np.eye(6)[2])
    device = teleop(None, up, up)
    assert device.target(0, HERE) is None
    np.testing.assert_allclose(device.target(1, HERE), [0.0, 0.6, 0.22, 0.0])
    at_the_top = np.array([0.0, 0.6, 0.5, 0.0])
    np.testing.assert_array_equal(device.target(2, at_the_top), at_the_top)


def test_the_gripper_stays_as_it_is_until_it_is_asked_for() -> None:
    toggle, keep = Wish(gripper=GripperWish.TOGGLE), Wish()
    device = teleop(keep, toggle, keep, toggle, Wish(gripper=GripperWish.OPEN), Wish(gripper=GripperWish.CLOSE), keep, keep)
    openings = []
    for _ in range(7):
        target = device.target(0, HERE)
        assert target is not None
        openings.append(target[3])
    assert openings == [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    device.reset()  # somebody else has opened it since
    target = device.target(0, np.array([0.0, 0.6, 0.2, 0.9]))
    assert target is not None and target[3] == 0.9


@dataclass
class Shift:
    """A jog that moves one number."""

    index: int

    def moved(self, reference: np.ndarray, motion: np.ndarray, speed: float) -> np.ndarray:
        target = reference.copy()
        target[self.index] += motion[0] * speed * 0.1
        return target


def test_of_two_arms_one_is_moved_at_a_time_and_each_keeps_its_gripper() -> None:
    two = RobotSpec.load(robot_file("sim_two_arms"))
    left, right = (two.action_names.index(f"{side}_wrist_3_joint") for side in ("left", "right"))
    grippers = [two.action_names.index(f"{side}_gripper") for side in ("left", "right")]
    forward, closing = Wish(np.eye(6)[0]), Wish(np.eye(6)[0], GripperWish.CLOSE)
    hand = Script([closing, forward, forward], switches=1)
    device = JogTeleop(hand, [Shift(left), Shift(right)], two, speed=1.0)
    home = np.array(two.home)
    first = device.target(0, home)
    assert first is not None and first[left] - home[left] > 0.05 and first[right] == home[right]
    assert list(first[grippers]) == [0.0, 1.0]
    device.requests()
    second = device.target(1, first)
    assert second is not None and second[left] == first[left] and second[right] - first[right] > 0.05
    assert list(second[grippers]) == [0.0, 1.0]
    device.requests()
    third = device.target(2, second)
    assert third is not None and third[left] > second[left] and third[right] == second[right]
