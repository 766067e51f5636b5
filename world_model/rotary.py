"""Rotary positions in time and space, for tokens on the grid and for history tokens between its places.

Shapes: S = tokens, d = width of a head. The same frequencies as diffusers' ``CosmosRotaryPosEmbed``, whose tables exist for
whole places of one grid only; a pooled cell of the past lies between them, and before time 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BASE = 10000.0
BASE_FPS = 24.0  # of the base model: one unit of time is 1/24 s where the rate is known


def rotary_tables(positions: Tensor, width: int, scale: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Cosines and sines [..., S, d] of ``positions`` [..., S, 3]: frame, row and column, in patches.

    Args:
        width: d, at least 6.
        scale: of time, rows and columns (NTK-aware scaling, as the base model was trained).
    """
    per_axis = (width - width // 6 * 4, width // 6 * 2, width // 6 * 2)
    angles = [_angles(positions[..., axis], size, scale[axis]) for axis, size in enumerate(per_axis)]
    halves = torch.cat(angles * 2, dim=-1)
    return halves.cos(), halves.sin()


def rotate(vectors: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """``vectors`` [..., S, d] turned by their places."""
    cosines, sines = tables
    first, second = vectors.chunk(2, dim=-1)
    turned: Tensor = vectors * cosines + torch.cat([-second, first], dim=-1) * sines
    return turned.type_as(vectors)


def grid_positions(frames: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Every combination of ``frames`` [T], ``rows`` [h], ``columns`` [w], frame first [T h w, 3]."""
    return torch.stack(torch.meshgrid(frames, rows, columns, indexing="ij"), dim=-1).flatten(0, 2)


def _angles(places: Tensor, size: int, scale: float) -> Tensor:
    """[..., S] -> [..., S, size / 2]."""
    theta = BASE * scale ** (size / (size - 2)) if size > 2 else BASE
    exponents = torch.arange(0, size, 2, device=places.device, dtype=torch.float32) / size
    return places.float()[..., None] / theta**exponents
