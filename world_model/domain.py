"""One body of data that Prophet knows: a robot, how its actions lie in the slots, their scale, its rate and its camera.

Shapes: A = numbers in the robot's action, S = 14 slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from learning.episode import Episode
from learning.normalisation import Normaliser
from robot_stack.core.camera import CameraModel
from robot_stack.core.errors import SpecMismatchError
from robot_stack.core.robot_spec import ActionKind
from robot_stack.core.types import FloatArray, ImageArray
from world_model.action_frames import TOOL_DOWN, draw_action_frames, tool_path
from world_model.action_layout import GRIPPER_SLOT, SLOTS, SLOTS_PER_ARM, ActionLayout

RATE_TOLERANCE = 0.02  # relative


@dataclass(frozen=True)
class Domain:
    """Where actions come from and what they mean.

    Attributes:
        name: unique in a checkpoint.
        robot, fingerprint: of the robot file; "" where the data do not say.
        camera: the one that imagination shows.
        rate_hz: frames a second, None where the data do not say.
        kinds: of the numbers of an action.
        deltas, poses: normalisation of delta actions and of commanded targets, in slots [S].
        tool_rotation: rotation vector [rad] of tools whose orientation is not commanded, for action frames.
        still: how much latents of its pictures differ where nothing moves, by noise and compression of a real camera; imagined
            changes that are smaller are none, see ``sampler.keep_still``. 0: a simulator's pictures do not flicker.
    """

    name: str
    robot: str
    fingerprint: str
    camera: str
    rate_hz: float | None
    kinds: tuple[ActionKind, ...]
    deltas: Normaliser
    poses: Normaliser
    tool_rotation: tuple[float, float, float] = TOOL_DOWN
    still: float = 0.0

    @classmethod
    def of_episodes(
        cls,
        name: str,
        episodes: Sequence[Episode],
        kinds: Sequence[ActionKind],
        camera: str,
        *,
        robot: str = "",
        fingerprint: str = "",
        rate_hz: float | None = None,
        still: float = 0.0,
    ) -> Self:
        """A domain with the statistics of ``episodes``.

        Raises:
            ProphRLError: the actions do not fit Prophet's slots.
        """
        layout = ActionLayout.of_kinds(kinds)
        deltas = layout.fit_normaliser(np.concatenate([episode.deltas for episode in episodes]))
        poses = layout.fit_normaliser(np.concatenate([episode.commanded for episode in episodes]))
        return cls(name, robot, fingerprint, camera, rate_hz, tuple(kinds), deltas, poses, still=still)

    @property
    def layout(self) -> ActionLayout:
        """Which slot each number of the action takes."""
        return ActionLayout.of_kinds(self.kinds)

    @property
    def additive(self) -> npt.NDArray[np.bool_]:
        """Which numbers of a delta action are changes [A]; the others are targets themselves, as a gripper's opening is."""
        return np.array([kind is not ActionKind.GRIPPER for kind in self.kinds])

    def slotted_deltas(self, deltas: FloatArray) -> FloatArray:
        """Physical delta actions [..., A] -> normalised slots [..., S]."""
        return self._normalised(self.deltas, deltas)

    def slotted_poses(self, poses: FloatArray) -> FloatArray:
        """Commanded targets [..., A] -> normalised slots [..., S]."""
        return self._normalised(self.poses, poses)

    def way(self, deltas: FloatArray) -> FloatArray:
        """How far each delta action [..., A] moves the arms [...]; about 1 on average in the data. Grippers do not count."""
        layout = self.layout
        counted = layout.mask.copy()
        counted[GRIPPER_SLOT::SLOTS_PER_ARM] = 0.0
        size = np.sqrt(self.deltas.std**2 + self.deltas.mean**2)
        moved = layout.to_slots(deltas) / size * counted
        way: FloatArray = np.sqrt((moved**2).sum(axis=-1) / max(1.0, counted.sum()))
        return way

    def draw(self, targets: FloatArray, camera: CameraModel, size: int) -> ImageArray:
        """Action frames [F, size, size, 3] of absolute targets [F, A].

        Raises:
            ProphRLError: the robot is commanded by joints.
        """
        path = tool_path(targets, self.kinds, self.tool_rotation)
        return draw_action_frames(path.poses, path.openings, camera, size)

    def check_rate(self, rate_hz: float | None, what: str) -> None:
        """Refuse data of another rate: the same deltas would mean another speed.

        Raises:
            SpecMismatchError: names both.
        """
        if rate_hz is None or self.rate_hz is None or abs(rate_hz / self.rate_hz - 1.0) <= RATE_TOLERANCE:
            return
        raise SpecMismatchError(
            what, f"domain {self.name} of the world model", [f"{rate_hz:g} frames a second, it knows {self.rate_hz:g}"]
        )

    def as_mapping(self) -> dict[str, Any]:
        """Plain data, for the manifest."""
        return {
            "name": self.name,
            "robot": self.robot,
            "fingerprint": self.fingerprint,
            "camera": self.camera,
            "rate_hz": self.rate_hz,
            "kinds": [kind.value for kind in self.kinds],
            "deltas": self.deltas.as_mapping(),
            "poses": self.poses.as_mapping(),
            "tool_rotation": list(self.tool_rotation),
            "still": self.still,
        }

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> Self:
        """Inverse of ``as_mapping``."""
        parsed = {
            "kinds": tuple(ActionKind(kind) for kind in mapping["kinds"]),
            "deltas": Normaliser.from_mapping(mapping["deltas"]),
            "poses": Normaliser.from_mapping(mapping["poses"]),
            "tool_rotation": tuple(mapping["tool_rotation"]),
        }
        return cls(**mapping | parsed)

    def _normalised(self, normaliser: Normaliser, actions: FloatArray) -> FloatArray:
        values: FloatArray = normaliser.normalise(self.layout.to_slots(actions)) * self.layout.mask
        assert values.shape[-1] == SLOTS
        return values
