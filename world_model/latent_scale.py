"""The size of latents, brought to about one.

Shapes: [..., C, h, w] latents, C = channels.
"""

from dataclasses import dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class LatentScale:
    """Normalisation of latents: a mean for each channel, and one std for all or one for each.

    The small autoencoder has one for all, because its basis is orthonormal up to a scale: errors of channels then count as they
    do in pixels.

    Attributes:
        mean: [C].
        std: [1] or [C].
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, latents: Tensor) -> Tensor:
        """Raw latents [..., C, h, w] to about unit size."""
        return (latents - latents.new_tensor(self.mean)[:, None, None]) / latents.new_tensor(self.std)[:, None, None]

    def denormalise(self, latents: Tensor) -> Tensor:
        """Inverse of ``normalise``."""
        return latents * latents.new_tensor(self.std)[:, None, None] + latents.new_tensor(self.mean)[:, None, None]

    @classmethod
    def fit(cls, latents: Tensor) -> Self:
        """Statistics of ``latents`` [N, C, h, w] with one std for all."""
        mean = latents.mean(dim=(0, 2, 3))
        std = float((latents - mean[:, None, None]).square().mean().sqrt().clamp_min(1e-6))
        return cls(tuple(mean.tolist()), (std,))
