"""What ``config/policy/*.yaml`` fills."""

from dataclasses import dataclass, field

from policy.export import ExportSettings
from policy.networks import NetworkSettings
from policy.train import Score, TrainSettings


@dataclass(frozen=True)
class PolicyConfig:
    """Settings of the policy's stages.

    Attributes:
        network: sizes.
        train: supervised training.
        export: ONNX.
        selection: scores a policy on seeds kept apart, to choose the checkpoint; null keeps the last one.
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    selection: Score | None = None
