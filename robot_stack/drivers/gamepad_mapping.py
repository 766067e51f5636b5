"""Which axis and button of a gamepad does what, by their numbers in ``sensor_msgs/Joy``.

ROS 2's ``game_controller_node`` (package joy) gives every controller that SDL knows, Xbox and PlayStation alike, the same
numbers; its documentation lists them (docs.ros.org, jazzy, package joy). They are the layout "game_controller". ``joy_node``
passes on the device's own order; that of Xbox controllers under Linux (the kernel's xpad, as SDL counts) is the layout "xpad".
In both, axes are 1 to the left and forward, -1 to the right and back (joy, ``convertRawAxisValueToROS``).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.drivers.teleop_device import Mark

MOTIONS = ("x", "y", "z", "roll", "pitch", "yaw")  # along and about the axes of the base frame (REP 103)


class GamepadError(ProphRLError):
    """A mapping that makes no sense, or a message that does not fit it."""


@dataclass(frozen=True)
class Axis:
    """An axis of the gamepad: its number, and by what it is multiplied (-1 turns it round)."""

    axis: int
    scale: float = 1.0


@dataclass(frozen=True)
class ButtonPair:
    """Two buttons in place of an axis: their numbers."""

    plus: int
    minus: int


@dataclass(frozen=True)
class GamepadMapping:
    """Which axis and button does what; numbers count from 0.

    Attributes:
        motions: name in ``MOTIONS`` -> what moves it; those left out are not moved.
        deadman: button that has to be held.
        gripper_open, gripper_close, e_stop: buttons.
        start, success, failure, discard: buttons that mark an episode.
        hand_back: button that lets the policy go on after a takeover.
        switch: button for the other one of two arms.
        dead_zone: deflection up to which a stick counts as released; beyond it motion begins at 0.
    """

    motions: Mapping[str, Axis | ButtonPair]
    deadman: int
    gripper_open: int
    gripper_close: int
    e_stop: int
    start: int
    success: int
    failure: int
    discard: int
    hand_back: int
    switch: int
    dead_zone: float = 0.1

    def __post_init__(self) -> None:
        for name in self.motions:
            if name not in MOTIONS:
                raise UnknownNameError("motion of the gamepad's mapping", name, MOTIONS)
        numbers = [*self.buttons.values(), *(m.axis for m in self.motions.values() if isinstance(m, Axis))]
        if min(numbers) < 0:
            raise GamepadError(f"the gamepad's mapping names number {min(numbers)}; axes and buttons count from 0")
        if len(set(self.buttons.values())) != len(self.buttons):
            raise GamepadError(f"the gamepad's mapping gives one button two meanings: {self.buttons}")
        if not 0.0 <= self.dead_zone < 1.0:
            raise GamepadError(f"dead_zone must be from 0 to below 1, got {self.dead_zone}")

    @property
    def buttons(self) -> dict[str, int]:
        """Meaning -> button."""
        names = ("deadman", "gripper_open", "gripper_close", "e_stop", "switch", *(mark.value for mark in Mark))
        pairs = {
            f"{n} {s}": getattr(m, s) for n, m in self.motions.items() if isinstance(m, ButtonPair) for s in ("plus", "minus")
        }
        return {name: getattr(self, name) for name in names} | pairs

    @classmethod
    def read(cls, raw: Any) -> "GamepadMapping":
        """From plain data: ``layout``, and entries that replace those of the layout, motions one by one.

        Raises:
            GamepadError, UnknownNameError: an entry is unknown, or not a number.
        """
        if not isinstance(raw, Mapping):
            raise GamepadError(f"the gamepad's mapping must be a mapping of names to numbers, got {raw!r}")
        layout = raw.get("layout", "game_controller")
        if layout not in LAYOUTS:
            raise UnknownNameError("layout of the gamepad", str(layout), LAYOUTS)
        base, changes = LAYOUTS[layout], {key: value for key, value in raw.items() if key != "layout"}
        valid = [entry.name for entry in dataclasses.fields(cls) if entry.name != "motions"]
        for key, value in changes.items():
            if key == "motions":
                continue
            if key not in valid:
                raise UnknownNameError("entry of the gamepad's mapping", str(key), ["layout", "motions", *valid])
            kind = (int, float) if key == "dead_zone" else int
            if not isinstance(value, kind) or isinstance(value, bool):
                raise GamepadError(f"{key} of the gamepad's mapping must be a number, got {value!r}")
        motions = changes.pop("motions", {})
        if not isinstance(motions, Mapping):
            raise GamepadError(f"motions of the gamepad's mapping must be a mapping, got {motions!r}")
        return dataclasses.replace(
            base,
            motions={**base.motions, **{str(name): _motion(str(name), value) for name, value in motions.items()}},
            **changes,
        )


LAYOUTS: Mapping[str, GamepadMapping] = {
    "game_controller": GamepadMapping(
        motions={
            "x": Axis(1),  # left stick forward
            "y": Axis(0),  # left stick to the left
            "z": Axis(3),  # right stick forward
            "yaw": Axis(2),  # right stick to the left
            "pitch": ButtonPair(plus=11, minus=12),  # cross up and down
            "roll": ButtonPair(plus=14, minus=13),  # cross right and left
        },
        deadman=9,  # left shoulder
        gripper_open=3,  # Y (triangle)
        gripper_close=0,  # A (cross)
        e_stop=1,  # B (circle)
        start=6,  # start
        success=2,  # X (square)
        failure=4,  # back (select)
        discard=5,  # guide
        hand_back=8,  # right stick pressed
        switch=7,  # left stick pressed
    ),
    "xpad": GamepadMapping(
        motions={"x": Axis(1), "y": Axis(0), "z": Axis(4), "yaw": Axis(3), "pitch": Axis(7), "roll": Axis(6, -1.0)},
        deadman=4,
        gripper_open=3,
        gripper_close=0,
        e_stop=1,
        start=7,
        success=2,
        failure=6,
        discard=8,
        hand_back=10,
        switch=9,
    ),
}


def _motion(name: str, raw: Any) -> Axis | ButtonPair:
    """One entry of ``motions``: {axis, scale} or {plus, minus}."""
    numbers = raw if isinstance(raw, Mapping) and all(isinstance(value, int | float) for value in raw.values()) else {}
    try:
        if "axis" in numbers:
            return Axis(**numbers)
        return ButtonPair(**numbers)
    except TypeError as error:
        expected = "{axis: <number>, scale: <factor>} or {plus: <button>, minus: <button>}"
        raise GamepadError(f"motion {name} of the gamepad's mapping must be {expected}, got {raw!r}") from error
