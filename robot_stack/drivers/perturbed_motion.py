"""A recorded motion with a perturbation, replayed open loop: nobody corrects for it.

In most episodes whoever acts sees what happened, and the actions tell the outcome: after a missed grasp the hand goes back.
Open loop they do not: whether the object came along has to be read from where it stood, which is what a world model must learn.
Shapes: T = ticks, A = numbers in one action.
"""

from dataclasses import dataclass

import numpy as np

from robot_stack.core.actions import compose
from robot_stack.core.errors import UnknownNameError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray

KINDS = ("replayed", "biased", "shifted", "mirrored", "frozen_gripper", "frozen", "random")
MIRRORED_AXIS = "y"


@dataclass(frozen=True)
class PerturbationSettings:
    """How large the perturbations are.

    Attributes:
        bias: of "biased", a constant motion in a random direction, as a share of full speed.
        shift: of "shifted": the whole motion happens so far [m] beside the original, in a random horizontal direction.
        shift_ticks: over so many ticks the hand leaves the original for the shifted path.
        horizon: ticks an episode.
    """

    bias: float = 0.35
    shift: float = 0.05
    shift_ticks: int = 5
    horizon: int = 30

    def __post_init__(self) -> None:
        if min(self.shift_ticks, self.horizon) < 1 or min(self.bias, self.shift) < 0:
            raise ValueError("shift_ticks and horizon must be at least 1, bias and shift at least 0")


class OpenLoop:
    """Delta actions [T, A], whatever comes of them."""

    def __init__(self, spec: RobotSpec, deltas: FloatArray) -> None:
        self._spec, self._deltas, self._tick = spec, deltas, 0

    def target(self, commanded: FloatArray, privileged_state: FloatArray) -> FloatArray:
        delta = self._deltas[self._tick]
        self._tick += 1
        return np.clip(compose(commanded, delta[None], self._spec.action_kinds)[0], self._spec.lower, self._spec.upper)


def perturbed_deltas(
    kind: str,
    deltas: FloatArray,
    first: FloatArray,
    spec: RobotSpec,
    settings: PerturbationSettings,
    random: np.random.Generator,
) -> FloatArray:
    """The delta actions [T, A] that perturbation ``kind`` makes of ``deltas`` [T, A].

    Args:
        first: target in force at the start [A].

    Raises:
        UnknownNameError: no such kind, or "mirrored" of a robot without an action "y".
    """
    positions = np.array([action is ActionKind.POSITION for action in spec.action_kinds])
    grippers = np.array([action is ActionKind.GRIPPER for action in spec.action_kinds])
    changed = np.array(deltas, dtype=np.float64)
    if kind == "biased":
        changed += settings.bias * spec.max_step * _direction(positions, random)
    elif kind == "shifted":
        horizontal = positions & np.array([name != "z" for name in spec.action_names])
        ticks = min(settings.shift_ticks, len(changed))
        changed[:ticks] += settings.shift / ticks * _direction(horizontal, random)
    elif kind == "mirrored":
        if MIRRORED_AXIS not in spec.action_names:
            raise UnknownNameError("action to mirror", MIRRORED_AXIS, spec.action_names)
        changed[:, spec.action_names.index(MIRRORED_AXIS)] *= -1.0
    elif kind == "frozen_gripper":
        changed[:, grippers] = first[grippers]
    elif kind == "frozen":
        changed[:] = np.where(grippers, first, 0.0)
    elif kind != "replayed":
        raise UnknownNameError("perturbation", kind, KINDS)
    return changed


def _direction(dimensions: np.ndarray, random: np.random.Generator) -> FloatArray:
    """A random unit vector [A] over some of the dimensions."""
    vector = random.normal(size=len(dimensions)) * dimensions
    return np.asarray(vector / np.linalg.norm(vector))
