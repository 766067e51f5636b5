"""All settings of the world model; ``config/world_model/*.yaml`` fills them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from world_model.autoencoder import AutoencoderSettings
from world_model.autoencoder_training import AutoencoderLossSettings
from world_model.denoiser import DenoiserSettings
from world_model.fitting import FitSettings
from world_model.prophet import ProphetSettings
from world_model.sampler import SamplerSettings


@dataclass(frozen=True)
class Phase:
    """One training of both networks, one after the other.

    Attributes:
        autoencoder: frames a batch; 0 steps leave it as it is.
        prophet: windows a batch.
    """

    autoencoder: FitSettings
    prophet: FitSettings


@dataclass(frozen=True)
class WorldModelSettings:
    """Prophet from pretraining to imagination.

    Attributes:
        weights: folder of the pretrained weights that ``adapt`` starts from, "shipped" for those that come with the package, or
            "none" to start from nothing.
        camera: the camera that Prophet sees; null for the robot's first.
        autoencoder, transformer: sizes, where weights start from nothing.
        autoencoder_loss, denoiser: losses.
        sampler: how frames are drawn in imagination.
        pretrain, adapt: trainings.
        validation_every: every so many-th episode of the data is kept out of training to measure it.
        collect: makes the data of pretraining, see ``robot_stack.drivers.pretraining.collect_many``.
        perturb: makes pairs of episodes with and without a perturbation of the actions, see
            ``robot_stack.drivers.pretraining.perturbed_pairs``; null where there is no simulator.
        following_episodes: pairs on which action following is measured; 0 leaves it out.
    """

    autoencoder: AutoencoderSettings
    transformer: ProphetSettings
    pretrain: Phase
    adapt: Phase
    weights: str = "shipped"
    camera: str | None = None
    autoencoder_loss: AutoencoderLossSettings = field(default_factory=AutoencoderLossSettings)
    denoiser: DenoiserSettings = field(default_factory=DenoiserSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    validation_every: int = 15
    collect: Callable[..., Any] | None = None
    perturb: Callable[..., Any] | None = None
    following_episodes: int = 8
