"""How the autoencoder learns: weighted squared and absolute error of pixels, with a little noise on the latents.

The noise makes the decoder forgive small errors of the latents, which Prophet will make.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from learning.fitting import FitSettings, StepSeeds, fit
from world_model.autoencoder import Autoencoder
from world_model.frames import FrameSet

LINEAR_START_FRAMES = 4096


@dataclass(frozen=True)
class AutoencoderLossSettings:
    """Weights of the loss.

    Attributes:
        moving_weight: added weight of pixels that differ from the episode's median frame.
        object_weight: added weight of what distinguishes the episode's scene from the others; static pucks vanish otherwise.
        absolute: weight of the absolute error beside the squared one: sharper edges.
        latent_noise: std of the noise on the latents, whose size is about one.
    """

    moving_weight: float = 4.0
    object_weight: float = 1.0
    absolute: float = 0.02
    latent_noise: float = 0.03


def autoencoder_loss(
    network: Autoencoder, images: Tensor, weights: Tensor, settings: AutoencoderLossSettings, noise: Tensor
) -> dict[str, Tensor]:
    """Losses of one batch.

    Args:
        images: [B, 3, H, W] in 0..1.
        weights: of the pixels [B, 1, H, W].
        noise: standard normal [B, C, h, w].
    """
    latents = network.encode_frames(images)
    error = network.decode_frames(latents + settings.latent_noise * noise) - images
    squared = error.square()
    loss = (weights * (squared + settings.absolute * error.abs())).mean()
    # Keeps the latents' size about one, so that noise levels keep their meaning.
    size = latents.square().mean()
    return {"loss": loss + 1e-4 * (size - 1.0).square(), "psnr": -10.0 * squared.mean().log10(), "latent_size": size}


def fit_autoencoder(
    network: Autoencoder,
    frames: FrameSet,
    settings: FitSettings,
    loss: AutoencoderLossSettings,
    *,
    run: int,
    folder: Path | None,
    identity: str = "",
    linear_start: bool = False,
    progress: bool = True,
) -> Autoencoder:
    """Train ``network`` on ``frames``; returns the averaged copy.

    Args:
        linear_start: begin from the principal components of the frames (for a network that has learnt nothing yet).
    """
    if linear_start:
        step = max(1, len(frames) // LINEAR_START_FRAMES)
        network.start_linear(frames.images_at(torch.arange(0, len(frames), step).numpy()))
    shape = network.shape
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU

    def loss_of_step(learner: Autoencoder, seeds: StepSeeds) -> Mapping[str, Tensor]:
        device = learner.mean_colour.device
        rows = seeds.draw.integers(len(frames), size=settings.batch_size)
        noise = torch.randn(len(rows), shape.channels, shape.size, shape.size, generator=seeds.noise).to(device)
        images = frames.images_at(rows).to(device).contiguous(memory_format=torch.channels_last)
        weights = frames.weights_at(rows, loss.moving_weight, loss.object_weight).to(device)
        return autoencoder_loss(learner, images, weights, loss, noise)

    return fit(
        network, loss_of_step, settings, purpose="autoencoder", run=run, folder=folder, identity=identity, progress=progress
    )
