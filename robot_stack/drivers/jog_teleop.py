"""A person moves the tool by keyboard or gamepad: wishes become targets.

Shapes: A = numbers in one action.
"""

import numpy as np

from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.teleop_device import GripperWish, Hand, Requests, Wish
from robot_stack.drivers.tool_jog import ToolJog

HALF_OPEN = 0.5  # a gripper that is opened further than this is closed by the first toggle


class JogTeleop:
    """A ``TeleopDevice``.

    Args:
        hand: what the person holds.
        jog: moves the tool of the robot.
        spec: the robot file.
        speed: part of the tool's largest speed at full deflection.
    """

    def __init__(self, hand: Hand, jog: ToolJog, spec: RobotSpec, speed: float) -> None:
        self._hand, self._jog, self._speed = hand, jog, speed
        self._lower, self._upper = spec.lower, spec.upper
        self._grippers = np.array([kind is ActionKind.GRIPPER for kind in spec.action_kinds])
        self._opening: float | None = None  # asked for last; None: as it is

    def open(self) -> None:
        self._hand.open()

    def reset(self) -> None:
        self._opening = None

    def target(self, tick_ns: int, reference: FloatArray) -> FloatArray | None:
        wish = self._hand.wish()
        if wish is None:
            return None
        target = self._jog.moved(reference, wish.motion, self._speed)
        if self._grippers.any():
            self._opening = self._asked_opening(wish, reference)
            if self._opening is not None:
                target[self._grippers] = self._opening
        return np.clip(target, self._lower, self._upper)

    def requests(self) -> Requests:
        return self._hand.requests()

    def close(self) -> None:
        self._hand.close()

    def _asked_opening(self, wish: Wish, reference: FloatArray) -> float | None:
        if wish.gripper is GripperWish.OPEN:
            return 1.0
        if wish.gripper is GripperWish.CLOSE:
            return 0.0
        if wish.gripper is GripperWish.KEEP:
            return self._opening
        opening = float(reference[self._grippers][0]) if self._opening is None else self._opening
        return 0.0 if opening > HALF_OPEN else 1.0
