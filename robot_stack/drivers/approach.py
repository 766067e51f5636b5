"""Follows a pose that somebody else holds (a leader arm) without ever asking for a jump.

Shapes: A = numbers in one action.
"""

import numpy as np

from robot_stack.core.actions import compose, decompose
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray


class Approach:
    """Goes to where the leader is at a part of the largest speed; once there, follows it at up to the largest speed.

    When somebody engages, leader and arm stand apart, and a guard refuses jumps. Every step is a piece of the straight way, one
    scale for all joints; a gripper keeps its own pace.

    Args:
        spec: the robot file.
        speed: part of the largest speed until the leader is reached, above 0 and up to 1.
    """

    def __init__(self, spec: RobotSpec, speed: float) -> None:
        self._kinds, self._largest, self._speed = spec.action_kinds, spec.max_step, speed
        self._lower, self._upper = spec.lower, spec.upper
        self._gripper = np.array([kind is ActionKind.GRIPPER for kind in spec.action_kinds])
        self.following = False

    def reset(self) -> None:
        """The leader may have moved while nobody followed it: approach it again."""
        self.following = False

    def target(self, reference: FloatArray, leader: FloatArray) -> FloatArray:
        """The next target [A] from ``reference`` [A] on the way to ``leader`` [A], within the limits of position."""
        wanted = np.clip(leader, self._lower, self._upper)
        largest = self._largest if self.following else self._speed * self._largest
        way = decompose(reference, wanted[None], self._kinds)[0]
        way[self._gripper] = wanted[self._gripper] - reference[self._gripper]
        path = ~self._gripper
        longest = float(np.max(np.abs(way[path]) / largest[path], initial=0.0))
        self.following |= longest <= 1.0
        step = way / max(longest, 1.0)
        step[self._gripper] = reference[self._gripper] + np.clip(way, -largest, largest)[self._gripper]
        return compose(reference, step[None], self._kinds)[0]
