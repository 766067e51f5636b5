"""A person moves the tool by keyboard or gamepad: wishes become targets.

Shapes: A = numbers in one action.
"""

from collections.abc import Sequence

import numpy as np

from robot_stack.core.robot_parts import ToolSpec
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.teleop_device import GripperWish, Hand, Requests, Wish
from robot_stack.drivers.tool_jog import ToolJog

HALF_OPEN = 0.5  # a gripper that is opened further than this is closed by the first toggle


class JogTeleop:
    """A ``TeleopDevice``.

    Args:
        hand: what the person holds.
        jogs: one for each tool of the robot; the hand moves the first, and the next one when it asks to switch.
        spec: the robot file.
        speed: part of the tool's largest speed at full deflection.
    """

    def __init__(self, hand: Hand, jogs: Sequence[ToolJog], spec: RobotSpec, speed: float) -> None:
        self._hand, self._jogs, self._speed = hand, jogs, speed
        self._lower, self._upper = spec.lower, spec.upper
        self._arm = 0
        self._grippers = [_grippers(spec, tool) for tool in spec.tools]
        self._openings: list[float | None] = [None] * len(jogs)  # asked for last; None: as it is

    def open(self) -> None:
        self._hand.open()

    def reset(self) -> None:
        self._openings = [None] * len(self._jogs)

    def target(self, tick_ns: int, reference: FloatArray) -> FloatArray | None:
        wish = self._hand.wish()
        if wish is None:
            return None
        target = self._jogs[self._arm].moved(reference, wish.motion, self._speed)
        if self._grippers[self._arm]:
            self._openings[self._arm] = self._asked_opening(wish, reference)
        for grippers, opening in zip(self._grippers, self._openings, strict=True):
            if opening is not None:
                target[grippers] = opening
        return np.clip(target, self._lower, self._upper)

    def requests(self) -> Requests:
        requests = self._hand.requests()
        self._arm = (self._arm + requests.switches) % len(self._jogs)
        return requests

    def close(self) -> None:
        self._hand.close()

    def _asked_opening(self, wish: Wish, reference: FloatArray) -> float | None:
        if wish.gripper is GripperWish.OPEN:
            return 1.0
        if wish.gripper is GripperWish.CLOSE:
            return 0.0
        if wish.gripper is GripperWish.KEEP:
            return self._openings[self._arm]
        asked = self._openings[self._arm]
        opening = float(reference[self._grippers[self._arm]][0]) if asked is None else asked
        return 0.0 if opening > HALF_OPEN else 1.0


def _grippers(spec: RobotSpec, tool: ToolSpec) -> list[int]:
    """Which numbers of an action are grippers of an arm; with several arms, those that bear its name."""
    return [
        index
        for index, action in enumerate(spec.actions)
        if action.kind is ActionKind.GRIPPER and (not tool.name or action.name.startswith(f"{tool.name}_"))
    ]
