"""What Prophet sees instead of pixels: one interface for the small autoencoder of single frames and for causal video ones.

Shapes: B = clips, F = frames of a clip, f = temporal factor, [B, 3, F, H, H] videos in 0..1, [B, C, 1 + (F - 1) / f, h, h]
latents.
"""

import abc
from dataclasses import dataclass

from torch import Tensor, nn

from robot_stack.core.errors import ShapeError


@dataclass(frozen=True)
class LatentShape:
    """What a tokenizer makes of videos.

    Attributes:
        image_size: height and width of the frames [px].
        channels, size: C and h.
        temporal_factor: f; the first frame of a clip is always a latent frame of its own, as in causal video tokenizers.
    """

    image_size: int
    channels: int
    size: int
    temporal_factor: int = 1

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip of ``frames``.

        Raises:
            ShapeError: the clip does not fit the temporal factor.
        """
        if frames < 1 or (frames - 1) % self.temporal_factor:
            raise ShapeError("frames of a clip", (frames,), f"1 + a multiple of {self.temporal_factor}")
        return 1 + (frames - 1) // self.temporal_factor


class Tokenizer(nn.Module, abc.ABC):
    """Videos <-> latents, without normalisation (see ``checkpoint.LatentScale``)."""

    @property
    @abc.abstractmethod
    def shape(self) -> LatentShape:
        """What it makes of videos."""

    @abc.abstractmethod
    def encode(self, videos: Tensor) -> Tensor:
        """Latents of ``videos``."""

    @abc.abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Videos of ``latents``; may leave 0..1 a little, clip where it matters."""

    def encode_frames(self, images: Tensor) -> Tensor:
        """Each image [B, 3, H, H] as a clip of its own: [B, C, h, h]."""
        return self.encode(images[:, :, None])[:, :, 0]

    def decode_frames(self, latents: Tensor) -> Tensor:
        """Inverse of ``encode_frames``."""
        return self.decode(latents[:, :, None])[:, :, 0]

    def encode_drawings(self, videos: Tensor) -> Tensor:
        """Latents of drawn action frames, which have no texture; a cheaper encoding may do."""
        return self.encode(videos)

    def check_videos(self, videos: Tensor) -> None:
        """Raise ``ShapeError`` for videos of another size."""
        size = self.shape.image_size
        if videos.ndim != 5 or videos.shape[1] != 3 or videos.shape[3:] != (size, size):
            raise ShapeError("videos to encode", tuple(videos.shape), f"[B, 3, F, {size}, {size}]")
