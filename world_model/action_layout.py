"""Actions of any robot in Prophet's 14 slots: per arm x, y, z, roll, pitch, yaw and gripper; two arms, padded, with a mask.

Shapes: A = numbers in the robot's action, [..., 14] slots. A robot that is commanded by joints has its first six
joints of an arm in the first six slots. The third number of a rotation is that of the robot's own rotation vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from learning.normalisation import Normaliser
from robot_stack.core.errors import ProphRLError, ShapeError
from robot_stack.core.robot_spec import ActionKind
from robot_stack.core.types import FloatArray

SLOTS_PER_ARM = 7
ARMS = 2
SLOTS = SLOTS_PER_ARM * ARMS
GRIPPER_SLOT = 6
FIRST_SLOT = {ActionKind.POSITION: 0, ActionKind.ROTATION: 3, ActionKind.JOINT: 0, ActionKind.GRIPPER: GRIPPER_SLOT}
ROOM = {ActionKind.POSITION: 3, ActionKind.ROTATION: 3, ActionKind.JOINT: 6, ActionKind.GRIPPER: 1}
SMALLEST_STD = 1e-4  # metres, radians or opening: below this a slot does not vary in the data


@dataclass(frozen=True)
class ActionLayout:
    """Which slot each number of a robot's action takes.

    Attributes:
        slots: [A] slot of each action dimension.
    """

    slots: tuple[int, ...]

    @classmethod
    def of_kinds(cls, kinds: Sequence[ActionKind]) -> Self:
        """Layout of a robot whose actions are of ``kinds``; a gripper closes its arm.

        Raises:
            ProphRLError: the action does not fit two arms of seven numbers.
        """
        slots: list[int] = []
        arm, used = 0, dict.fromkeys(ActionKind, 0)
        for kind in kinds:
            if used[kind] == ROOM[kind] or arm == ARMS:
                raise ProphRLError(
                    f"actions {[str(k) for k in kinds]} do not fit Prophet's layout: {ARMS} arms, each with at most 3 position "
                    "and 3 rotation numbers (or 6 joints), then a gripper"
                )
            slots.append(SLOTS_PER_ARM * arm + FIRST_SLOT[kind] + used[kind])
            used[kind] += 1
            if kind is ActionKind.GRIPPER:
                arm, used = arm + 1, dict.fromkeys(ActionKind, 0)
        if len(set(slots)) != len(slots):
            raise ProphRLError("an arm is commanded either by pose or by joints, not by both")
        return cls(tuple(slots))

    @property
    def mask(self) -> FloatArray:
        """1 for the slots in use, else 0 [14]."""
        mask = np.zeros(SLOTS)
        mask[list(self.slots)] = 1.0
        return mask

    def to_slots(self, actions: FloatArray) -> FloatArray:
        """[..., A] -> [..., 14], zero where unused.

        Raises:
            ShapeError: another number of action dimensions.
        """
        actions = np.asarray(actions, dtype=np.float64)
        if actions.shape[-1:] != (len(self.slots),):
            raise ShapeError("actions for the world model", actions.shape, f"[..., {len(self.slots)}]")
        slotted = np.zeros((*actions.shape[:-1], SLOTS))
        slotted[..., list(self.slots)] = actions
        return slotted

    def fit_normaliser(self, actions: FloatArray) -> Normaliser:
        """Statistics of ``actions`` [N, A] in slots; unused slots keep mean 0 and std 1."""
        fitted = Normaliser.fit(self.to_slots(actions), SMALLEST_STD)
        used = self.mask > 0
        return Normaliser(np.where(used, fitted.mean, 0.0), np.where(used, fitted.std, 1.0))
