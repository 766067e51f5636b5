"""The scripted policy as a LeRobot policy: the same function, behind LeRobot's interface; the module's name is its convention.

Shapes: states and actions [B, A] in degrees but for the gripper, as LeRobot's arms speak; chunks [B, H, A].
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import OBS_STATE

from benchmarks.lerobot_side.configuration_circle import CircleConfig
from benchmarks.plain_arm import UNIT_NS, number_of_mark
from benchmarks.scripted_policy import Script, ScriptedPolicy
from robot_stack.core.types import FloatArray, Observation


def in_degrees(values: FloatArray) -> FloatArray:
    """``values`` [..., A] with joints in degrees instead of radians."""
    return np.concatenate([np.degrees(values[..., :-1]), values[..., -1:]], axis=-1)


def in_radians(values: FloatArray) -> FloatArray:
    """Inverse of ``in_degrees``."""
    return np.concatenate([np.radians(values[..., :-1]), values[..., -1:]], axis=-1)


class CirclePolicy(PreTrainedPolicy):
    """See the module."""

    config_class = CircleConfig
    name = "circle"

    def __init__(self, config: CircleConfig, **_: Any) -> None:
        super().__init__(config)
        self._policy = ScriptedPolicy(Script.parse(config.script), round(1e9 / config.rate_hz))

    @classmethod
    def from_pretrained(cls, pretrained_name_or_path: str | Path, **_: Any) -> "CirclePolicy":
        """From a folder that holds its settings; there are no weights."""
        return cls(PreTrainedConfig.from_pretrained(pretrained_name_or_path))

    def predict_action_chunk(self, batch: dict[str, Any], **_: Any) -> torch.Tensor:
        """A chunk [1, H, A] for the state in ``batch``."""
        state = in_radians(batch[OBS_STATE][0].double().numpy())
        stamp_ns = number_of_mark(state[-1]) * UNIT_NS
        chunk = self._policy.infer(Observation(stamp_ns, {}, state, state), np.zeros((0, len(state))))
        return torch.from_numpy(in_degrees(chunk.targets)).float()[None]

    def select_action(self, batch: dict[str, Any], **_: Any) -> torch.Tensor:
        """The first action of a chunk."""
        return self.predict_action_chunk(batch)[:, 0]

    def reset(self) -> None:
        """It has no state that matters."""

    def get_optim_params(self) -> dict[str, Any]:
        """Nothing is trained."""
        return {}

    def forward(self, batch: dict[str, Any]) -> tuple[torch.Tensor, None]:
        """Nothing is trained."""
        raise NotImplementedError("a circle is drawn, not learnt")
