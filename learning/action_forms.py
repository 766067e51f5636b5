"""Actions as other people's data state them -> ours: absolute commands and the deltas between them (``core.actions``).

Shapes: T = frames, A = numbers in an action. Positions [m] in the base frame; roll, pitch, yaw turn about
fixed axes, R = Rz Ry Rx.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from robot_stack.core.actions import decompose
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import ActionKind
from robot_stack.core.types import FloatArray

THREE = 3


class ActionSpace(enum.StrEnum):
    """What the action of frame t says."""

    ABSOLUTE = "absolute"  # where tool or joints shall be at frame t + 1
    JOINT = "joint"  # the same, of joints and grippers alone
    DELTA_BASE = "delta_base"  # change of the tool's pose from frame t on, in the base frame: p + dp, Exp(dr) R
    DELTA_TOOL = "delta_tool"  # the same in the tool's own frame: p + R dp, R Exp(dr)
    DELTA_JOINT = "delta_joint"  # change of the joints from frame t on

    @property
    def is_delta(self) -> bool:
        return self in (ActionSpace.DELTA_BASE, ActionSpace.DELTA_TOOL, ActionSpace.DELTA_JOINT)

    @property
    def is_of_joints(self) -> bool:
        return self in (ActionSpace.JOINT, ActionSpace.DELTA_JOINT)


class RotationForm(enum.StrEnum):
    """How three numbers give a rotation [rad]."""

    VECTOR = "vector"  # axis times angle
    EULER_XYZ = "euler_xyz"  # roll, pitch, yaw


@dataclass(frozen=True)
class GripperScale:
    """Which numbers stand for a closed and for an open gripper."""

    closed: float = 0.0
    open: float = 1.0

    def __post_init__(self) -> None:
        for value in (self.closed, self.open):
            if not isinstance(value, int | float):
                raise ProphRLError(f"a gripper's closed and open must be numbers, got {value!r}")
        if self.closed == self.open:
            raise ProphRLError(f"a gripper needs different numbers for closed and open, got {self.closed:g} for both")

    def opening(self, numbers: FloatArray) -> FloatArray:
        """0 closed to 1 open."""
        return (numbers - self.closed) / (self.open - self.closed)


@dataclass(frozen=True)
class ActionForm:
    """How a dataset states its actions.

    Attributes:
        space: see ``ActionSpace``.
        kinds: kind of each number of an action [A]; grippers are always absolute.
        rotation: form of the rotations in actions.
        gripper: scale of the grippers in actions.
        measured_rotation: form of the rotations that are measured.
        measured_gripper: scale of the grippers that are measured.

    Raises:
        ProphRLError: kinds that do not go together, or not with ``space``.
    """

    space: ActionSpace
    kinds: tuple[ActionKind, ...]
    rotation: RotationForm = RotationForm.VECTOR
    gripper: GripperScale = GripperScale()
    measured_rotation: RotationForm = RotationForm.VECTOR
    measured_gripper: GripperScale = GripperScale()

    def __post_init__(self) -> None:
        told = f"numbers [{', '.join(self.kinds)}] of an action"
        blocks = self._blocks(ActionKind.ROTATION)
        if any(block != list(range(block[0], block[0] + THREE)) for block in blocks):
            raise ProphRLError(f"{told}: rotations must come in threes, next to each other")
        moved = {kind for kind in self.kinds if kind is not ActionKind.GRIPPER}
        allowed = {ActionKind.JOINT} if self.space.is_of_joints else {ActionKind.POSITION, ActionKind.ROTATION}
        if self.space is not ActionSpace.ABSOLUTE and not moved <= allowed:
            names = ", ".join(sorted([*allowed, ActionKind.GRIPPER]))
            raise ProphRLError(f"{told}: with action_space={self.space} there can only be {names}")
        if self.space is ActionSpace.DELTA_TOOL:
            places = self._blocks(ActionKind.POSITION)
            if [block[0] + THREE for block in places] != [block[0] for block in blocks] or any(
                block != list(range(block[0], block[0] + THREE)) for block in places
            ):
                raise ProphRLError(f"{told}: with action_space={self.space} three rotations must follow each three positions")

    def read(self, measured: FloatArray | None, actions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(commanded, deltas) as ``Episode`` wants them, each [T, A].

        Args:
            measured: what each number of an action moves, as measured at each frame [T, A]. Deltas count from it: it stands in
                for the target in force, which such data do not tell. Targets need it for the first frame only; without it the
                arm stands at its first target.
            actions: as the dataset states them [T, A].

        Raises:
            ProphRLError: deltas without ``measured``.
        """
        place = None if measured is None else self._plain(measured, self.measured_rotation, self.measured_gripper)
        if not self.space.is_delta:
            targets = self._plain(actions, self.rotation, self.gripper)
            commanded = np.concatenate([targets[:1] if place is None else place[:1], targets[:-1]])
            return commanded, decompose(commanded, targets[:, None], self.kinds)[:, 0]
        if place is None:
            raise ProphRLError(f"action_space={self.space} counts from what is measured, which the data do not tell")
        deltas = self._plain(actions, self.rotation, self.gripper)
        places = self._blocks(ActionKind.POSITION)
        for number, block in enumerate(self._blocks(ActionKind.ROTATION)):
            rotation_base_tool = Rotation.from_rotvec(place[:, block])
            if self.space is ActionSpace.DELTA_BASE:
                deltas[:, block] = rotation_base_tool.inv().apply(deltas[:, block])
            else:
                deltas[:, places[number]] = rotation_base_tool.apply(deltas[:, places[number]])
        return place, deltas

    def _plain(self, numbers: FloatArray, rotation: RotationForm, gripper: GripperScale) -> FloatArray:
        """With rotation vectors and openings."""
        plain = np.array(numbers, dtype=np.float64)
        if rotation is RotationForm.EULER_XYZ:
            for block in self._blocks(ActionKind.ROTATION):
                plain[:, block] = Rotation.from_euler("xyz", plain[:, block]).as_rotvec()
        grippers = [i for i, kind in enumerate(self.kinds) if kind is ActionKind.GRIPPER]
        plain[:, grippers] = gripper.opening(plain[:, grippers])
        return plain

    def _blocks(self, kind: ActionKind) -> list[list[int]]:
        """The numbers of a kind by threes; the last one may be short."""
        indices = [i for i, each in enumerate(self.kinds) if each is kind]
        return [indices[i : i + THREE] for i in range(0, len(indices), THREE)]


def kinds_of(numbers: Sequence[str]) -> tuple[ActionKind, ...]:
    """Kinds from words such as "position" or "3*rotation".

    Raises:
        ProphRLError: a word that is none.
    """
    kinds: list[ActionKind] = []
    for word in numbers:
        count, star, name = str(word).rpartition("*")
        if name.strip() not in [kind.value for kind in ActionKind] or (star and not count.strip().isdigit()):
            valid = ", ".join(ActionKind)
            raise ProphRLError(f"numbers of an action: {word!r} is none of {valid}, nor such a word as 3*rotation")
        kinds += [ActionKind(name.strip())] * (int(count) if star else 1)
    return tuple(kinds)
