"""The scripted policy's settings as LeRobot wants them; the module's name is LeRobot's convention."""

from dataclasses import dataclass, field
from typing import Any

from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from benchmarks.recording import HEIGHT, WIDTH

CAMERAS = ("front", "wrist")
NUMBERS = 7  # of a state and of an action


def _inputs() -> dict[str, PolicyFeature]:
    pictures = {f"{OBS_IMAGES}.{name}": PolicyFeature(FeatureType.VISUAL, (3, HEIGHT, WIDTH)) for name in CAMERAS}
    return {OBS_STATE: PolicyFeature(FeatureType.STATE, (NUMBERS,)), **pictures}


@PreTrainedConfig.register_subclass("circle")
@dataclass
class CircleConfig(PreTrainedConfig):
    """See ``scripted_policy``.

    Attributes:
        script: text of a ``Script``.
        rate_hz: of actions.
    """

    script: str = ""
    rate_hz: float = 30.0
    input_features: dict[str, PolicyFeature] | None = field(default_factory=_inputs)
    output_features: dict[str, PolicyFeature] | None = field(
        default_factory=lambda: {ACTION: PolicyFeature(FeatureType.ACTION, (NUMBERS,))}
    )
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY)
    )
    device: str | None = "cpu"

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> None:
        return None

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> Any:
        """Nothing is trained."""
        raise NotImplementedError("a circle is drawn, not learnt")

    def get_scheduler_preset(self) -> None:
        """Nothing is trained."""

    def validate_features(self) -> None:
        """They are fixed."""
