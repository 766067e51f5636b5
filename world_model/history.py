"""The past that Prophet looks back on, in training and in imagination."""

from collections.abc import Sequence

import torch
from torch import Tensor


class History:
    """The last frames of B clips, from which the context is picked by age.

    Args:
        frames: [B, L, ...], oldest first, L = 1 + the oldest age looked back on.
        offsets: ages of the context frames as negative numbers, the present (0) last.
    """

    def __init__(self, frames: Tensor, offsets: Sequence[int]) -> None:
        self._columns = [span(offsets) - 1 + offset for offset in offsets]
        assert frames.shape[1] == span(offsets)
        self._frames = frames

    def push(self, frames: Tensor) -> None:
        """Time goes on by the frames [B, H, ...]."""
        length = self._frames.shape[1]
        self._frames = torch.cat([self._frames, frames], dim=1)[:, -length:]

    def context(self) -> Tensor:
        """The context of the present moment [B, K, ...]."""
        return self._frames[:, self._columns]


def span(offsets: Sequence[int]) -> int:
    """Frames that a history with these offsets holds."""
    return 1 - min(offsets)
