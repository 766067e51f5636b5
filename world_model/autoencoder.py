"""A deterministic autoencoder of single frames: pixels to a small grid of latents and back.

Shapes: B = frames, [B, 3, H, W] images in 0..1 float32, [B, C, h, w] latents with h = H / 8, w = W / 8.

A linear part (principal components of 8x8 patches around a mean image) carries most of the picture from the first step on; two
small convolutional branches, zero at the start, add what a linear map cannot. Because the basis is orthonormal up to one common
scale, a squared error of latents is close to a squared error of pixels, which is the error that Prophet is to make small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robot_stack.core.errors import ShapeError

PATCH = 8  # pixels a latent cell is wide
COARSE = 2  # fine cells (4 px) a latent cell is wide
FINE = PATCH // COARSE
GROUPS = 8


@dataclass(frozen=True)
class AutoencoderSettings:
    """Size of the autoencoder.

    Attributes:
        image_size: height and width of the images [px]; a multiple of 8.
        channels: C, numbers in a latent cell.
        fine_width, coarse_width: channels at 4 px and at 8 px a cell; multiples of 8.
        fine_blocks, coarse_blocks: residual blocks at either, in the encoder and again in the decoder.
    """

    image_size: int = 64
    channels: int = 16
    fine_width: int = 64
    coarse_width: int = 96
    fine_blocks: int = 1
    coarse_blocks: int = 2

    def __post_init__(self) -> None:
        if self.image_size % PATCH:
            raise ValueError(f"image_size must be a multiple of {PATCH}, got {self.image_size}")
        if self.fine_width % GROUPS or self.coarse_width % GROUPS:
            raise ValueError(f"widths must be multiples of {GROUPS}, got {self.fine_width} and {self.coarse_width}")
        if not 0 < self.channels <= 3 * PATCH * PATCH:
            raise ValueError(f"channels must lie in 1..{3 * PATCH * PATCH}, got {self.channels}")

    @property
    def latent_size(self) -> int:
        """H and w."""
        return self.image_size // PATCH


class Autoencoder(nn.Module):
    """Pixels [B, 3, H, W] <-> latents [B, C, h, w] of about unit size."""

    def __init__(self, settings: AutoencoderSettings) -> None:
        super().__init__()
        self.settings = settings
        fine, coarse, grid = settings.fine_width, settings.coarse_width, settings.latent_size
        patch_pixels = 3 * PATCH * PATCH
        self.mean_image = nn.Parameter(torch.full((3, settings.image_size, settings.image_size), 0.5))
        basis = torch.linalg.qr(torch.randn(patch_pixels, settings.channels))[0]
        self.analysis = nn.Parameter(basis.T.contiguous())
        self.synthesis = nn.Parameter(basis.contiguous())
        self.encode_fine = nn.Sequential(
            nn.PixelUnshuffle(FINE), nn.Conv2d(3 * FINE**2, fine, 3, padding=1), *_blocks(fine, settings.fine_blocks)
        )
        self.encode_down = nn.Sequential(nn.PixelUnshuffle(COARSE), nn.Conv2d(fine * COARSE**2, coarse, 1))
        self.encode_place = nn.Parameter(0.1 * torch.randn(coarse, grid, grid))
        self.encode_coarse = nn.Sequential(*_blocks(coarse, settings.coarse_blocks), nn.Conv2d(coarse, settings.channels, 1))
        self.decode_coarse_in = nn.Conv2d(settings.channels, coarse, 3, padding=1)
        self.decode_place = nn.Parameter(0.1 * torch.randn(coarse, grid, grid))
        self.decode_coarse = nn.Sequential(*_blocks(coarse, settings.coarse_blocks), nn.Conv2d(coarse, fine * COARSE**2, 1))
        self.decode_fine = nn.Sequential(
            nn.PixelShuffle(COARSE),
            *_blocks(fine, settings.fine_blocks),
            nn.Conv2d(fine, 3 * FINE**2, 3, padding=1),
        )
        for last in (self.encode_coarse[-1], self.decode_fine[-1]):
            assert isinstance(last, nn.Conv2d)
            _zero(last)

    def encode(self, images: Tensor) -> Tensor:
        """Latents [B, C, h, w] of ``images`` [B, 3, H, W] in 0..1.

        Raises:
            ShapeError: images of another size.
        """
        size = self.settings.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ShapeError("images to encode", tuple(images.shape), f"[B, 3, {size}, {size}]")
        centred = images - self.mean_image
        linear = F.conv2d(F.pixel_unshuffle(centred, PATCH), self.analysis[:, :, None, None])
        features = self.encode_down(self.encode_fine(4.0 * centred))  # 4: centred pixels to about unit size
        residual: Tensor = self.encode_coarse(features + self.encode_place)
        return linear + residual

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W] of ``latents`` [B, C, h, w]; may leave 0..1 a little, clip where it matters."""
        linear = F.pixel_shuffle(F.conv2d(latents, self.synthesis[:, :, None, None]), PATCH)
        features = self.decode_coarse(self.decode_coarse_in(latents) + self.decode_place)
        return self.mean_image + linear + F.pixel_shuffle(self.decode_fine(features), FINE)

    @torch.no_grad()
    def start_linear(self, images: Tensor) -> None:
        """Set the linear part to the principal components of ``images`` [B, 3, H, W], scaled to latents of about unit size."""
        self.mean_image.copy_(images.mean(dim=0))
        patches = F.pixel_unshuffle(images - self.mean_image, PATCH).permute(0, 2, 3, 1).flatten(0, 2)
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
