"""Random changes of training pictures, so that three demonstrations are not learnt by heart."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AugmentationSettings:
    """Strength of the changes; zeros switch them off.

    Attributes:
        shift: largest shift in either direction [px]; the border is repeated.
        brightness, contrast: largest change, as a share.
    """

    shift: int = 2
    brightness: float = 0.1
    contrast: float = 0.1

    def __post_init__(self) -> None:
        if min(self.shift, self.brightness, self.contrast) < 0:
            raise ValueError(f"augmentation must not be negative, got {self}")


def augment(images: Tensor, settings: AugmentationSettings, random: torch.Generator) -> Tensor:
    """Changed pictures [B, C, 3, height, width], 0..1; cameras of one observation change alike in light, not in shift."""
    batch, cameras = images.shape[:2]
    light = torch.rand(2, batch, 1, 1, 1, 1, generator=random) * 2.0 - 1.0
    mean = images.mean(dim=(-3, -2, -1), keepdim=True)
    changed = (images - mean) * (1.0 + settings.contrast * light[0]) + mean + settings.brightness * light[1]
    changed = changed.clamp(0.0, 1.0)
    if settings.shift == 0:
        return changed
    height, width = images.shape[-2:]
    padded = F.pad(changed.flatten(0, 1), (settings.shift,) * 4, mode="replicate")
    offsets = torch.randint(0, 2 * settings.shift + 1, (2, batch * cameras, 1), generator=random)
    rows = (offsets[0] + torch.arange(height))[:, None, :, None]
    columns = (offsets[1] + torch.arange(width))[:, None, None, :]
    sample = torch.arange(batch * cameras)[:, None, None, None]
    channel = torch.arange(3)[None, :, None, None]
    return padded[sample, channel, rows, columns].unflatten(0, (batch, cameras))
