"""Where points of the arm may be: inside the workspace, outside keep-out boxes.

Shapes: N = targets, A = numbers in one action, K = points of the arm (tool, fingers, elbow), positions [m] in the base frame.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from robot_stack.core.ports import Kinematics
from robot_stack.core.types import FloatArray


@dataclass(frozen=True)
class Box:
    """A box along the axes of the base frame.

    Attributes:
        name: for messages.
        lower, upper: corners [3] [m].
        points: names of the points for which it counts; empty: all.
    """

    name: str
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    points: tuple[str, ...] = ()

    def depth(self, points: FloatArray) -> FloatArray:
        """How far points [..., 3] are inside, to the nearest face [m]; negative outside."""
        lower, upper = np.array(self.lower), np.array(self.upper)
        depth: FloatArray = np.minimum(points - lower, upper - points).min(axis=-1)
        return depth


@dataclass(frozen=True)
class Workspace:
    """What is allowed.

    Attributes:
        inside: box in which every watched point has to stay; None: no such box.
        keep_out: boxes that no watched point may enter.
        points: names of the watched points, in the order of the kinematics.
        margin_m: distance that is kept from every face [m]: for what lies between the points of a path that are looked at.
    """

    inside: Box | None
    keep_out: tuple[Box, ...]
    points: tuple[str, ...]
    margin_m: float

    def penetration(self, points: FloatArray) -> FloatArray:
        """How deep the worst of points [N, K, 3] is where it must not be [N] [m]; at most 0: everything is in order."""
        depths = [box.depth(points[:, self._columns(box)]).max(axis=-1) for box in self.keep_out]
        if self.inside is not None:
            depths.append(-self.inside.depth(points).min(axis=-1))
        worst: FloatArray = np.max(depths, axis=0) + self.margin_m
        return worst

    def _columns(self, box: Box) -> list[int]:
        return [index for index, name in enumerate(self.points) if not box.points or name in box.points]

    def of_joints(self, kinematics: Kinematics, columns: Sequence[int]) -> Callable[[FloatArray], FloatArray]:
        """The same for targets [N, A] whose ``columns`` are the joints of an arm, as the guard wants it."""
        chosen = list(columns)
        return lambda targets: self.penetration(kinematics.points(targets[:, chosen]))
