"""A deterministic autoencoder of single frames, small enough for a CPU: pixels to a grid of latents and back.

Shapes: B = frames, [B, 3, H, H] images in 0..1 float32, [B, C, h, h] latents with h = H / patch.

A linear part (principal components of patches around a mean colour) carries most of the picture from the first step on; two
small convolutional branches, zero at the start, add what a linear map cannot. Because the basis is orthonormal up to one common
scale, a squared error of latents is close to a squared error of pixels, which is the error that Prophet is to make small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from world_model.tokenizer import LatentShape, Tokenizer

COARSE = 2  # fine cells a latent cell is wide
GROUPS = 8
SMALLEST_PATCH = 4


@dataclass(frozen=True)
class AutoencoderSettings:
    """Size of the autoencoder.

    Attributes:
        image_size: height and width of the images [px]; a multiple of ``patch``.
        patch: pixels a latent cell is wide, even.
        channels: C, numbers in a latent cell.
        fine_width, coarse_width: channels at half a patch and at a patch a cell; multiples of 8.
        fine_blocks, coarse_blocks: residual blocks at either, in the encoder and again in the decoder.
    """

    image_size: int = 64
    patch: int = 4
    channels: int = 16
    fine_width: int = 32
    coarse_width: int = 64
    fine_blocks: int = 1
    coarse_blocks: int = 2

    def __post_init__(self) -> None:
        if self.patch < SMALLEST_PATCH or self.patch % COARSE:
            raise ValueError(f"patch must be even and at least {SMALLEST_PATCH}, got {self.patch}")
        if self.image_size < self.patch or self.image_size % self.patch:
            raise ValueError(f"image_size must be a multiple of {self.patch}, got {self.image_size}")
        if self.fine_width % GROUPS or self.coarse_width % GROUPS:
            raise ValueError(f"widths must be multiples of {GROUPS}, got {self.fine_width} and {self.coarse_width}")
        if not 0 < self.channels <= 3 * self.patch**2:
            raise ValueError(f"channels must lie in 1..{3 * self.patch**2}, got {self.channels}")


class Autoencoder(Tokenizer):
    """Pixels <-> latents of about unit size, frame by frame."""

    def __init__(self, settings: AutoencoderSettings) -> None:
        super().__init__()
        self.settings = settings
        fine, coarse, channels = settings.fine_width, settings.coarse_width, settings.channels
        cell = settings.patch // COARSE
        self.mean_colour = nn.Parameter(torch.full((3, 1, 1), 0.5))
        basis = torch.linalg.qr(torch.randn(3 * settings.patch**2, channels))[0]
        self.analysis = nn.Parameter(basis.T.contiguous())
        self.synthesis = nn.Parameter(basis.contiguous())
        self.encode_fine = nn.Sequential(
            nn.PixelUnshuffle(cell), nn.Conv2d(3 * cell**2, fine, 3, padding=1), *_blocks(fine, settings.fine_blocks)
        )
        self.encode_coarse = nn.Sequential(
            nn.PixelUnshuffle(COARSE),
            nn.Conv2d(fine * COARSE**2, coarse, 1),
            *_blocks(coarse, settings.coarse_blocks),
            nn.Conv2d(coarse, channels, 1),
        )
        self.decode_coarse = nn.Sequential(
            nn.Conv2d(channels, coarse, 3, padding=1),
            *_blocks(coarse, settings.coarse_blocks),
            nn.Conv2d(coarse, fine * COARSE**2, 1),
        )
        self.decode_fine = nn.Sequential(
            nn.PixelShuffle(COARSE),
            *_blocks(fine, settings.fine_blocks),
            nn.Conv2d(fine, 3 * cell**2, 3, padding=1),
            nn.PixelShuffle(cell),
        )
        for last in (self.encode_coarse[-1], self.decode_fine[-2]):
            assert isinstance(last, nn.Conv2d)
            _zero(last)

    @property
    def shape(self) -> LatentShape:
        settings = self.settings
        return LatentShape(settings.image_size, settings.channels, settings.image_size // settings.patch)

    def encode(self, videos: Tensor) -> Tensor:
        self.check_videos(videos)
        return self.encode_frames(videos.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(videos), -1)).transpose(1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decode_frames(latents.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(latents), -1)).transpose(1, 2)

    def encode_frames(self, images: Tensor) -> Tensor:
        self.check_videos(images[:, :, None])
        centred = images - self.mean_colour
        residual: Tensor = self.encode_coarse(self.encode_fine(4.0 * centred))  # 4: centred pixels to about unit size
        return self._linear(centred) + residual

    def encode_drawings(self, videos: Tensor) -> Tensor:
        self.check_videos(videos)
        centred = videos.transpose(1, 2).flatten(0, 1) - self.mean_colour
        return self._linear(centred).unflatten(0, (len(videos), -1)).transpose(1, 2)

    def _linear(self, centred: Tensor) -> Tensor:
        return F.conv2d(F.pixel_unshuffle(centred, self.settings.patch), self.analysis[:, :, None, None])

    def decode_frames(self, latents: Tensor) -> Tensor:
        linear = F.pixel_shuffle(F.conv2d(latents, self.synthesis[:, :, None, None]), self.settings.patch)
        residual: Tensor = self.decode_fine(self.decode_coarse(latents))
        return self.mean_colour + linear + residual

    @torch.no_grad()
    def start_linear(self, images: Tensor) -> None:
        """Set the linear part to the principal components of ``images`` [B, 3, H, H], scaled to latents of about unit size."""
        self.mean_colour.copy_(images.mean(dim=(0, 2, 3))[:, None, None])
        patches = F.pixel_unshuffle(images - self.mean_colour, self.settings.patch).permute(0, 2, 3, 1).flatten(0, 2)
        eigenvalues, vectors = torch.linalg.eigh((patches.T @ patches / len(patches)).double())  # ascending
        basis = vectors.flip(1)[:, : self.settings.channels].float()
        scale = eigenvalues.flip(0)[: self.settings.channels].mean().clamp_min(1e-8).sqrt().float()
        self.analysis.copy_(basis.T / scale)
        self.synthesis.copy_(basis * scale)


class _ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(norm(x))))), the identity at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.conv_in = nn.Conv2d(width, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, width, 3, padding=1)
        _zero(self.conv_out)

    def forward(self, x: Tensor) -> Tensor:
        update: Tensor = self.conv_out(F.silu(self.conv_in(F.silu(self.norm(x)))))
        return x + update


def _blocks(width: int, count: int) -> Sequence[nn.Module]:
    return [_ResidualBlock(width) for _ in range(count)]


def _zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
