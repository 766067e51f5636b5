"""A gamepad: the deadman, dead zones, buttons by number, and messages that cannot be believed."""

import time
from typing import Any

import numpy as np
import pytest
import yaml

from robot_stack.core.errors import ProphRLError
from robot_stack.drivers.gamepad import Gamepad, GamepadSettings
from robot_stack.drivers.gamepad_mapping import LAYOUTS, MOTIONS, Axis, GamepadError, GamepadMapping
from robot_stack.drivers.teleop_device import GripperWish, Mark, Requests, Wish

LONG_S = 60.0  # a deadman that a busy machine does not let run out
DEADMAN, OPEN, CLOSE, E_STOP = 9, 3, 0, 1


def gamepad(**changes: Any) -> Gamepad:
    return Gamepad(GamepadSettings(GamepadMapping.read(changes), LONG_S))


def say(pad: Gamepad, axes: dict[int, float] | None = None, pressed: tuple[int, ...] = (DEADMAN,)) -> Wish | None:
    pad.take([(axes or {}).get(i, 0.0) for i in range(6)], [int(i in pressed) for i in range(21)])
    return pad.wish()


def motion(wish: Wish | None) -> dict[str, float]:
    assert wish is not None
    return {name: float(value) for name, value in zip(MOTIONS, wish.motion, strict=True) if value}


def test_sticks_move_only_while_the_deadman_is_held() -> None:
    pad = gamepad()
    assert pad.wish() is None
    assert say(pad, {1: 1.0}, pressed=()) is None
    assert motion(say(pad, {1: 1.0})) == {"x": 1.0}
    assert motion(say(pad, {0: -1.0, 2: 1.0, 3: -1.0})) == {"y": -1.0, "z": -1.0, "yaw": 1.0}
    assert motion(say(pad, pressed=(DEADMAN, 11, 13))) == {"pitch": 1.0, "roll": -1.0}
    assert say(pad, {1: 1.0}, pressed=(DEADMAN, E_STOP)) is None


def test_silence_of_the_messages_lets_go_of_the_deadman() -> None:
    pad = Gamepad(GamepadSettings(deadman_s=0.05))
    say(pad, {1: 1.0})
    time.sleep(0.06)
    assert pad.wish() is None


def test_within_the_dead_zone_nothing_moves_and_beyond_it_motion_begins_at_zero() -> None:
    pad = gamepad(dead_zone=0.2, motions={"z": {"axis": 3, "scale": -0.5}})
    assert motion(say(pad, {1: 0.2})) == {}
    assert motion(say(pad, {1: -0.6})) == {"x": pytest.approx(-0.5)}
    assert motion(say(pad, {3: 1.0})) == {"z": pytest.approx(-0.5)}
    assert motion(say(pad, {1: 7.0})) == {"x": 1.0}


def test_buttons_ask_for_the_gripper_the_e_stop_and_marks_once_each_time_they_are_pressed() -> None:
    pad = gamepad()
    say(pad, pressed=(6,))  # held since before anybody listened
    assert pad.requests() == Requests()
    wishes = [say(pad), say(pad, pressed=(DEADMAN, OPEN)), say(pad, pressed=(DEADMAN, CLOSE))]
    assert [wish and wish.gripper for wish in wishes] == [GripperWish.KEEP, GripperWish.OPEN, GripperWish.CLOSE]
    for pressed in ((6,), (6,), (), (2,), (6, 2), (E_STOP,), (E_STOP,)):
        say(pad, pressed=pressed)
    assert pad.requests() == Requests(e_stop=True, marks=(Mark.START, Mark.SUCCESS, Mark.START))
    assert pad.requests() == Requests()


def test_an_e_stop_that_is_pressed_in_the_first_message_counts() -> None:
    pad = gamepad()
    say(pad, pressed=(E_STOP,))
    assert pad.requests().e_stop


@pytest.mark.parametrize(
    ("axes", "buttons", "message"),
    [
        ([0.0, np.nan, 0.0, 0.0], [0] * 15, "not finite"),
        ([0.0, 0.0, 0.0], [0] * 15, "3 axes and 15 buttons, its mapping needs 4 and 15: choose the layout.*xpad"),
        ([0.0] * 8, [0] * 11, "8 axes and 11 buttons"),
    ],
)
def test_a_message_that_cannot_be_believed_stops_the_arm(axes: list[float], buttons: list[int], message: str) -> None:
    pad = gamepad()
    assert say(pad, {1: 1.0}) is not None
    with pytest.raises(GamepadError, match=message):
        pad.take(axes, buttons)
    assert pad.wish() is None


def test_an_xbox_controller_as_joy_node_reads_it() -> None:
    pad = Gamepad(GamepadSettings(LAYOUTS["xpad"], LONG_S))
    pad.take([0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])  # triggers rest at 1
    assert motion(pad.wish()) == {"x": 1.0}


def test_a_mapping_changes_what_it_names() -> None:
    mapping = GamepadMapping.read(yaml.safe_load("{layout: xpad, deadman: 5, motions: {x: {axis: 2, scale: -1}}}"))
    assert (mapping.deadman, mapping.motions["x"], mapping.motions["y"]) == (5, Axis(2, -1), Axis(0))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"layout": "ps9"}, "unknown layout of the gamepad 'ps9'; valid: game_controller, xpad"),
        ({"deadmen": 3}, "unknown entry of the gamepad's mapping 'deadmen'.*did you mean 'deadman'"),
        ({"deadman": "left"}, "deadman of the gamepad's mapping must be a number, got 'left'"),
        ({"deadman": 1}, "gives one button two meanings"),
        ({"deadman": -1}, "count from 0"),
        ({"dead_zone": 1.0}, "dead_zone must be"),
        ({"motions": {"w": {"axis": 1}}}, "unknown motion of the gamepad's mapping 'w'; valid: pitch"),
        ({"motions": {"x": {"axle": 1}}}, "motion x of the gamepad's mapping must be"),
        ({"motions": {"x": 1}}, "motion x of the gamepad's mapping must be"),
        ([], "must be a mapping"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(raw: Any, message: str) -> None:
    with pytest.raises(ProphRLError, match=message):
        GamepadMapping.read(raw)
