"""The causal video tokenizer of Wan 2.1, which Cosmos-Predict2 was trained on: four frames together, an eighth of the size.

Shapes as in ``tokenizer.py``. It is used as it is, never trained, and deterministic: latents are the mode of the posterior.
Checkpoints do not copy it, they name the base model that brings it (``base_model``).
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from robot_stack.core.errors import BadFileError, ProphRLError
from world_model.base_model import VAE, check_fit, read_config, read_weights
from world_model.tokenizer import LatentShape, Tokenizer

FRAMES_TOGETHER = 4  # AutoencoderKLWan goes through a clip in steps of four frames, whatever its configuration says
PIXELS_AT_ONCE = 2**22  # of all clips of a batch and four frames, a bound on memory: 16 clips of 256 px


class WanTokenizer(Tokenizer):
    """Pixels 0..1 <-> latents before normalisation.

    Args:
        vae: the network; it is not trained.
        image_size: height and width of the frames [px].

    Raises:
        ProphRLError: a kind of this tokenizer that is not supported, or pictures that it cannot cut into cells.
    """

    def __init__(self, vae: AutoencoderKLWan, image_size: int) -> None:
        super().__init__()
        config = vae.config
        factor, cell = 2 ** sum(config.temperal_downsample), 2 ** len(config.temperal_downsample)
        problems = [
            *(
                [f"the tokenizer takes {factor} frames together, only {FRAMES_TOGETHER} are supported"]
                if factor != FRAMES_TOGETHER
                else []
            ),
            *(["the tokenizer cuts pixels into patches, which is not supported"] if config.patch_size is not None else []),
            *([f"the tokenizer has {config.in_channels} colours, expected 3"] if config.in_channels != 3 else []),
        ]
        if problems:
            raise ProphRLError("; ".join(problems))
        if image_size < cell or image_size % cell:
            raise ProphRLError(f"pictures must be a multiple of {cell} px wide, got {image_size}")
        self.vae = vae.eval().requires_grad_(False)
        self._shape = LatentShape(image_size, config.z_dim, image_size // cell, factor)

    @property
    def shape(self) -> LatentShape:
        return self._shape

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std of each latent channel, as the model knows them."""
        return tuple(self.vae.config.latents_mean), tuple(self.vae.config.latents_std)

    def encode(self, videos: Tensor) -> Tensor:
        self.check_videos(videos)
        self._shape.latent_frames(videos.shape[2])
        parts = videos.split(self._at_once)
        return torch.cat([self.vae.encode(self._taken(2.0 * part - 1.0)).latent_dist.mode() for part in parts]).to(videos)

    def decode(self, latents: Tensor) -> Tensor:
        parts = latents.split(self._at_once)
        return (torch.cat([self.vae.decode(self._taken(part)).sample for part in parts]).to(latents) + 1.0) / 2.0

    def train(self, mode: bool = True) -> "WanTokenizer":
        """Stays in evaluation mode."""
        return super().train(False)

    @property
    def _at_once(self) -> int:
        return max(1, PIXELS_AT_ONCE // (FRAMES_TOGETHER * self._shape.image_size**2))

    def _taken(self, values: Tensor) -> Tensor:
        return values.to(next(self.vae.parameters()).dtype)


def read_wan(folder: Path, image_size: int) -> WanTokenizer:
    """The tokenizer in ``folder`` of a base model (its ``vae/``).

    Raises:
        BadFileError: it is none, is damaged or of a kind that is not supported.
    """
    part = folder / VAE
    config: dict[str, Any] = read_config(part, "AutoencoderKLWan")
    try:
        vae = AutoencoderKLWan.from_config(config)
        channels = {len(vae.config.latents_mean), len(vae.config.latents_std)}
    except (TypeError, ValueError) as error:
        raise BadFileError(part / "config.json", f"describes no tokenizer: {error}") from error
    if channels != {vae.config.z_dim}:
        raise BadFileError(part / "config.json", f"latents_mean and latents_std must hold {vae.config.z_dim} numbers each")
    weights = read_weights(part, torch.float32)
    check_fit(part, {name: value.shape for name, value in vae.state_dict().items()}, weights)
    vae.load_state_dict(weights)
    try:
        return WanTokenizer(vae, image_size)
    except ProphRLError as error:
        raise BadFileError(part, str(error)) from error
