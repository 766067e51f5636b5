"""Group-relative advantages: a rollout is good when it beats the others from the same start.

Shapes: P = groups (start frames), G = rollouts in each.
"""

from dataclasses import dataclass

import numpy as np

from robot_stack.core.errors import ProphRLError, ShapeError
from robot_stack.core.types import FloatArray


@dataclass(frozen=True)
class AdvantageSettings:
    """How rewards become advantages.

    Attributes:
        std_floor: smallest standard deviation that a group is divided by: without it a group whose rewards differ by a hair
            would weigh as much as one in which half the rollouts failed.
        min_std: a group with a smaller spread carries no signal, and its start is drawn again.
    """

    std_floor: float = 0.15
    min_std: float = 0.01

    def __post_init__(self) -> None:
        if not self.std_floor > 0:
            raise ValueError(f"std_floor must be positive, got {self.std_floor}")
        if not self.min_std >= 0:
            raise ValueError(f"min_std must not be negative, got {self.min_std}")


def group_advantages(rewards: FloatArray, settings: AdvantageSettings) -> FloatArray:
    """(R - mean) / max(std, floor) within each group of ``rewards`` [P, G].

    Raises:
        ShapeError: not [P, G], or groups of one, which have nothing to be compared with.
        ProphRLError: a reward is not a number.
    """
    rewards = _checked(rewards)
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    return centred / np.maximum(rewards.std(axis=1, keepdims=True), settings.std_floor)


def has_signal(rewards: FloatArray, settings: AdvantageSettings) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each group of ``rewards`` [P, G] tells its rollouts apart [P]; raises as ``group_advantages``."""
    signal: np.ndarray[tuple[int], np.dtype[np.bool_]] = _checked(rewards).std(axis=1) > settings.min_std
    return signal


def _checked(rewards: FloatArray) -> FloatArray:
    rewards = np.asarray(rewards, dtype=np.float64)
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ShapeError("rewards", rewards.shape, "[groups, rollouts] with at least 2 rollouts in each group")
    if not np.isfinite(rewards).all():
        bad = np.argwhere(~np.isfinite(rewards))[0]
        raise ProphRLError(
            f"reward of group {bad[0]}, rollout {bad[1]} is {rewards[tuple(bad)]}: the judge or the world model diverged"
        )
    return rewards
