"""All settings of the world model; ``config/world_model/*.yaml`` fills them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from learning.fitting import FitSettings
from world_model.autoencoder import AutoencoderSettings
from world_model.autoencoder_training import AutoencoderLossSettings
from world_model.cosmos import CosmosSettings
from world_model.denoiser import DenoiserSettings
from world_model.lora import LoraSettings
from world_model.sampler import SamplerSettings
from world_model.sizes import ProphetSettings


@dataclass(frozen=True)
class Phase:
    """One training of both networks, one after the other.

    Attributes:
        autoencoder: frames a batch; 0 steps leave it as it is.
        prophet: windows a batch.
        lora: what of the transformer is trained; None: everything.
        gradient_checkpointing: the transformer's blocks are computed twice to keep less of them in memory.
        self_forcing_after: update from which on Prophet also learns from its own output.
        all_cameras: learn from every camera of the data; imagination still shows ``WorldModelSettings.camera``.
    """

    autoencoder: FitSettings
    prophet: FitSettings
    lora: LoraSettings | None = None
    gradient_checkpointing: bool = False
    self_forcing_after: int = 500
    all_cameras: bool = False


@dataclass(frozen=True)
class WorldModelSettings:
    """Prophet from pretraining to imagination.

    Attributes:
        weights: folder of the pretrained weights that ``adapt`` starts from, "shipped" for those that come with the package, or
            "none" to start from nothing.
        camera: the camera that Prophet sees; null for the robot's (or the data's) first.
        autoencoder, transformer: sizes, where weights start from nothing; with ``base``, which brings the sizes of both,
            ``autoencoder`` is None and ``transformer`` says the rest.
        base: a pretrained model that brings tokenizer and transformer, where ``weights`` is "none"; None: these start from
            nothing.
        latents: folder where encoded episodes are kept for the next time; None: they are encoded each time.
        autoencoder_loss, denoiser: losses.
        sampler: how frames are drawn in imagination.
        pretrain, adapt: trainings.
        validation_every: every so many-th episode of the data is kept out of training to measure it.
        collect: makes the data of pretraining, see ``robot_stack.drivers.pretraining.collect_many``.
    """

    autoencoder: AutoencoderSettings | None
    transformer: ProphetSettings
    pretrain: Phase
    adapt: Phase
    weights: str = "shipped"
    base: CosmosSettings | None = None
    latents: str | None = None
    camera: str | None = None
    autoencoder_loss: AutoencoderLossSettings = field(default_factory=AutoencoderLossSettings)
    denoiser: DenoiserSettings = field(default_factory=DenoiserSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    validation_every: int = 15
    collect: Callable[..., Any] | None = None
