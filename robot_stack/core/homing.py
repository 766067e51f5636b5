"""The way home between episodes: through the same path, limits and guard as everything else."""

import enum

import numpy as np

from robot_stack.core.types import FloatArray

NEAR = 1e-6  # m, rad or opening within which the arm is home
PATIENCE_NS = 2_000_000_000  # without progress, after which the way is given up


class HomingStep(enum.Enum):
    """What is to be done in a tick."""

    ASK = "ask"  # for the target: nothing is under way
    GO_ON = "go on"
    DONE = "done"
    STUCK = "stuck"


class Homing:
    """One way home.

    Args:
        home: where to [A].
    """

    def __init__(self, home: FloatArray) -> None:
        self.home = np.asarray(home, dtype=np.float64)
        self._last: FloatArray | None = None
        self._moved_ns = 0

    def step(self, in_force: FloatArray, at_rest: bool, executes: bool, steady_ns: int) -> HomingStep:
        """What is to be done now.

        Args:
            in_force: the target in force [A].
            at_rest: whether it stands still.
            executes: whether a target waits or is under way.
            steady_ns: steady clock [ns].
        """
        if np.abs(in_force - self.home).max() <= NEAR:
            return HomingStep.DONE if at_rest else HomingStep.GO_ON
        if self._last is None or np.abs(in_force - self._last).max() > NEAR:
            self._last, self._moved_ns = in_force.copy(), steady_ns
        elif steady_ns - self._moved_ns > PATIENCE_NS:
            return HomingStep.STUCK
        return HomingStep.GO_ON if executes else HomingStep.ASK
