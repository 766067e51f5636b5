"""The past as few tokens: the older a frame, the coarser (FramePack: Zhang and Agrawala, arXiv 2504.12626; ProphRL).

Shapes as in ``condition.py``, D = width of the transformer, R = tokens of all history frames together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from world_model.condition import HistoryFrames
from world_model.rotary import grid_positions

KERNELS = (2, 4, 8)  # latent cells that are averaged into one, by level
MOST_TOKENS = 1024


def level_of(index: int) -> int:
    """Level of the ``index``-th youngest history frame (from 0): it grows with log2 of the age."""
    return min((index + 1).bit_length() - 1, len(KERNELS) - 1)


def token_count(frames: int, height: int, width: int) -> int:
    """R for ``frames`` history frames of ``height`` x ``width`` latent cells."""
    kernels = [KERNELS[level_of(index)] for index in range(frames)]
    return sum(-(-height // kernel) * -(-width // kernel) for kernel in kernels)


class HistoryTokens(nn.Module):
    """History frames as tokens with a place in time and space."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Linear(channels, width) for _ in KERNELS)
        self.norm = nn.LayerNorm(width)

    def forward(self, history: HistoryFrames, present: float, unit: float, patch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [B, R, D], their places [B, R, 3] as in ``rotary`` and whether they exist [B, R].

        Args:
            present: place in time of the present frame.
            unit: of one frame, in places.
            patch: latent cells that a place of the sequence is wide.
        """
        tokens, places, valid = [], [], []
        for index in range(history.latents.shape[1]):
            kernel = KERNELS[level_of(index)]
            pooled = F.avg_pool2d(history.latents[:, index], kernel, ceil_mode=True)
            rows, columns = (_centres(size, kernel, patch, pooled) for size in pooled.shape[-2:])
            zero = torch.zeros(1, device=pooled.device)
            grid = grid_positions(zero, rows, columns).expand(len(pooled), -1, -1).clone()
            grid[..., 0] = present - unit * history.ages[:, index, None]
            tokens.append(self.levels[level_of(index)](pooled.flatten(2).transpose(1, 2)))
            places.append(grid)
            valid.append(history.valid[:, index, None].expand(-1, grid.shape[1]))
        normed: Tensor = self.norm(torch.cat(tokens, dim=1))
        return normed, torch.cat(places, dim=1), torch.cat(valid, dim=1)


def _centres(count: int, kernel: int, patch: int, like: Tensor) -> Tensor:
    """Places of the middle of pooled cells, where place 0 is the middle of the sequence's first patch."""
    cells = kernel * torch.arange(count, device=like.device, dtype=torch.float32) + (kernel - 1) / 2
    return (cells - (patch - 1) / 2) / patch


def check_tokens(frames: int, shapes: Sequence[int]) -> None:
    """Raise ``ValueError`` if the history would be longer than the paper's bound."""
    count = token_count(frames, *shapes)
    if count > MOST_TOKENS:
        raise ValueError(
            f"{frames} history frames of {list(shapes)} cells make {count} tokens, at most {MOST_TOKENS} are wanted"
        )
