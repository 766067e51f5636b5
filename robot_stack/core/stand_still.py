"""Whether an arm stands: one that still moves, by a brake of its own or by somebody's hand, is not told to begin at rest."""

import numpy as np

from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray

STILL_NS = 50_000_000  # for so long it has to stay where it is
STILL = 0.02  # of its largest velocity, by which it may drift meanwhile; sensors have noise


class StandStill:
    """Watches what an arm says about where it is.

    Args:
        spec: the robot file; grippers may move.
    """

    def __init__(self, spec: RobotSpec) -> None:
        drift = STILL * spec.max_velocity * STILL_NS / 1e9
        self._tolerance = np.where([kind is ActionKind.GRIPPER for kind in spec.action_kinds], np.inf, drift)
        self.reset()

    def reset(self) -> None:
        """Nothing is known."""
        self._since_ns: int | None = None
        self._origin: FloatArray = np.zeros(len(self._tolerance))

    def stands(self, position: FloatArray, received_ns: int) -> bool:
        """Whether it stands.

        Args:
            position: where it is [A].
            received_ns: when it said so, steady clock [ns]; silence is no standing still.
        """
        if self._since_ns is None or (np.abs(position - self._origin) > self._tolerance).any():
            self._since_ns, self._origin = received_ns, np.array(position)
        return received_ns - self._since_ns >= STILL_NS
