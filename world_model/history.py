"""The past that Prophet looks back on, in training and in imagination.

Shapes as in ``condition.py``, L = frames remembered, the present one last.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from world_model.condition import HistoryFrames
from world_model.sizes import ARC, HistorySettings, ProphetSettings


class History:
    """The last L frames of B clips, with the targets in force at them and the way travelled so far.

    Args:
        settings: which of them are given at full resolution, and which as history.
        frames: [B, L, C, h, w].
        poses: [B, L, S].
        arcs: way travelled until each frame, in frames of average motion [B, L].
        exist: [B, L]; before an episode its first frame stands in, which is no past.
    """

    def __init__(self, settings: ProphetSettings, frames: Tensor, poses: Tensor, arcs: Tensor, exist: Tensor) -> None:
        assert frames.shape[1] == settings.span
        self._settings = settings
        self._given = [settings.span - 1 + offset for offset in settings.context_offsets]
        self._frames, self._poses, self._arcs, self._exist = frames, poses, arcs, exist

    def push(self, frames: Tensor, poses: Tensor, steps: Tensor) -> None:
        """Time goes on by H frames [B, H, ...], each ``steps`` [B, H] of the way after the one before."""
        last = self._settings.span
        arcs = self._arcs[:, -1:] + torch.cumsum(steps, dim=1)
        self._frames = torch.cat([self._frames, frames], dim=1)[:, -last:]
        self._poses = torch.cat([self._poses, poses], dim=1)[:, -last:]
        self._arcs = torch.cat([self._arcs, arcs], dim=1)[:, -last:]
        self._exist = torch.cat([self._exist, torch.ones_like(steps, dtype=torch.bool)], dim=1)[:, -last:]

    def context(self) -> Tensor:
        """Frames given at full resolution [B, C, K, h, w]."""
        return self._frames[:, self._given].transpose(1, 2)

    def poses(self) -> Tensor:
        """Targets in force at them [B, K, S]."""
        return self._poses[:, self._given]

    def origin(self) -> Tensor | None:
        """The oldest remembered frame [B, C, h, w]; None where Prophet does not see it."""
        if not self._settings.origin:
            return None
        oldest = self._exist.int().argmax(dim=1)
        return self._frames[torch.arange(len(oldest), device=oldest.device), oldest]

    def path(self) -> Tensor | None:
        """Targets in force since the oldest remembered frame, see ``Condition``; None where Prophet does not know them."""
        return path_of(self._poses, self._exist) if self._settings.path else None

    def looked_back(self) -> HistoryFrames | None:
        """Frames of the past beyond them; None where Prophet has no history."""
        settings = self._settings
        if not settings.history.frames:
            return None
        columns, valid = choose(self._arcs, self._exist, settings.context_offsets, settings.history)
        rows = torch.arange(len(columns), device=columns.device)[:, None]
        return HistoryFrames(self._frames[rows, columns], settings.span - 1 - columns, valid)


def path_of(poses: Tensor, exist: Tensor) -> Tensor:
    """``Condition.path`` [B, L, S + 1] of the last L targets [B, L, S] and whether there were such frames [B, L]."""
    there = exist[..., None].to(poses)
    return torch.cat([poses * there, there], dim=-1)


def choose(arcs: Tensor, exist: Tensor, offsets: Sequence[int], settings: HistorySettings) -> tuple[Tensor, Tensor]:
    """Columns of the history frames among the last L ones, the youngest first [B, M], and whether there are such [B, M].

    By way, frame i is the youngest that lies at least i steps of motion before the present (so a pause does not fill the memory
    with copies of one picture); by time, the one i steps of time before. Each is older than the one before it and than the
    given frames.

    Args:
        arcs: way travelled until each frame [B, L].
        exist: [B, L].
    """
    length = arcs.shape[1]
    columns, valid = [], []
    youngest = torch.full((len(arcs),), length - 1 + min(offsets) - 1, device=arcs.device)
    for index in range(1, settings.frames + 1):
        if settings.chosen_by == ARC:
            behind = arcs[:, -1:] - arcs >= index * settings.step - 1e-6
            found = behind.sum(dim=1) - 1  # arcs rise: all frames up to this one lie far enough back
        else:
            found = torch.full_like(youngest, length - 1 - max(1, round(index * settings.step)))
        column = torch.minimum(found, youngest)
        there = column >= 0
        column = column.clamp_min(0)
        valid.append(there & exist.gather(1, column[:, None])[:, 0])
        columns.append(column)
        youngest = torch.where(there, column - 1, youngest)
    return torch.stack(columns, dim=1), torch.stack(valid, dim=1)
