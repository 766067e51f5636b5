"""Episodes as latents, and windows of them for training Prophet.

Shapes: N = rows (frames of all episodes), B = windows, K = context frames, H = frames to come, T = K + H, C, h, w = latent
grid, S = 14 action slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robot_stack.core.errors import ProphRLError
from world_model.history import span

FOREGROUND_LATENT = 0.5  # root mean square distance from the median latent at which a cell counts as fully moving


@dataclass(frozen=True)
class LatentEpisode:
    """One episode, encoded.

    Attributes:
        name: of the episode.
        latents: [T, C, h, w] float32, normalised.
        deltas, poses: [T, S] float32, normalised, in slots; row t as in ``learning.episode``.
    """

    name: str
    latents: Tensor
    deltas: Tensor
    poses: Tensor

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True)
class Windows:
    """Clips cut from episodes.

    Attributes:
        context: [B, C, K, h, w].
        future: [B, C, H, h, w].
        weight: importance of each cell to come [B, 1, H, h, w]; 0 for the background to 1 for what moves.
        deltas: [B, H, S].
        poses: [B, T, S].
    """

    context: Tensor
    future: Tensor
    weight: Tensor
    deltas: Tensor
    poses: Tensor


class WindowSampler:
    """Draws windows at random, or cuts given ones.

    Args:
        episodes: where from; those too short for one window are left out.
        context_offsets: see ``ProphetSettings``.
        chunk_length: H.

    Raises:
        ProphRLError: no episode is long enough.
    """

    def __init__(self, episodes: Sequence[LatentEpisode], context_offsets: Sequence[int], chunk_length: int) -> None:
        usable = [episode for episode in episodes if len(episode) > chunk_length]
        if not usable:
            raise ProphRLError(f"no episode has more than {chunk_length} frames, the least that a window needs")
        self._offsets = torch.tensor(context_offsets)
        self.chunk_length = chunk_length
        self._latents = torch.cat([episode.latents for episode in usable])
        self._deltas = torch.cat([episode.deltas for episode in usable])
        self._poses = torch.cat([episode.poses for episode in usable])
        self._moving = torch.cat([moving_cells(episode.latents) for episode in usable])
        self._lengths = torch.tensor([len(episode) for episode in usable])
        self._starts = torch.cumsum(self._lengths, 0) - self._lengths

    def __len__(self) -> int:
        """Frames altogether."""
        return len(self._latents)

    def draw(
        self, count: int, random: np.random.Generator, chunks_before: int = 0
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Episodes and present frames of ``count`` windows with ``chunks_before`` chunks before; frames equally likely."""
        first = chunks_before * self.chunk_length
        room = np.maximum(self._lengths.numpy() - self.chunk_length - first, 0)
        if not room.any():
            raise ProphRLError(f"no episode is long enough for {chunks_before + 1} chunks of {self.chunk_length}")
        chosen = random.choice(len(room), size=count, p=room / room.sum())
        return chosen, first + random.integers(room[chosen])

    def cut(self, episodes: npt.NDArray[np.int64], present: npt.NDArray[np.int64]) -> Windows:
        """The windows whose present frame is ``present`` [B] of ``episodes`` [B]."""
        start = self._starts[episodes]
        now = torch.from_numpy(np.asarray(present))
        context = start[:, None] + (now[:, None] + self._offsets).clamp_min(0)
        steps = torch.arange(self.chunk_length)
        future = start[:, None] + now[:, None] + 1 + steps
        return Windows(
            context=self._latents[context].transpose(1, 2),
            future=self._latents[future].transpose(1, 2),
            weight=self._moving[future][:, None],
            deltas=self._deltas[start[:, None] + now[:, None] + steps],
            poses=torch.cat([self._poses[context], self._poses[future]], dim=1),
        )

    def history(self, episodes: npt.NDArray[np.int64], present: npt.NDArray[np.int64]) -> Tensor:
        """All frames that the context looks back on, oldest first, the present one last [B, L, C, h, w]."""
        ages = torch.arange(1 - span(self._offsets.tolist()), 1)
        rows = self._starts[episodes][:, None] + (torch.from_numpy(np.asarray(present))[:, None] + ages).clamp_min(0)
        return self._latents[rows]


def moving_cells(latents: Tensor) -> Tensor:
    """How much each cell differs from the episode's median, 0 to 1 [T, h, w], of ``latents`` [T, C, h, w]."""
    distance = (latents - latents.median(dim=0).values).square().mean(dim=1).sqrt()
    return (distance / FOREGROUND_LATENT).clamp_max(1.0)
