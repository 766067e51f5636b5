"""What Prophet is told about a clip besides its present frames: the actions, where it looks back, and the task in words.

Shapes: B = clips, K = given frames, H = actions in a chunk, n = latent frames to come (H / the tokenizer's temporal factor),
T = K + n, M = history frames, R = remembered frames, C, h, w = latent grid, S = 14 action slots, L = text tokens.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HistoryFrames:
    """Frames of the past that lie before the given ones, the youngest first.

    Attributes:
        latents: [B, M, C, h, w].
        ages: frames before the present one [B, M].
        valid: whether there is such a frame [B, M]; an episode has no past before its beginning.
    """

    latents: Tensor
    ages: Tensor
    valid: Tensor

    def rows(self, chosen: slice | Tensor) -> "HistoryFrames":
        """The clips ``chosen``."""
        return HistoryFrames(self.latents[chosen], self.ages[chosen], self.valid[chosen])

    def to(self, device: torch.device) -> "HistoryFrames":
        """On another device."""
        return HistoryFrames(self.latents.to(device), self.ages.to(device), self.valid.to(device))


@dataclass(frozen=True)
class Condition:
    """What the arm is told to do, normalised, and what is known of the past.

    Attributes:
        deltas: [B, H, S]; action i moves frame i to frame i + 1.
        poses: commanded targets in force at each frame, given ones first [B, K + H, S].
        mask: slots in use [B, S], 0 or 1.
        action_frames: latents of the drawn action frames [B, C, T, h, w], None where no camera is calibrated.
        history: None where Prophet does not look back further than the given frames.
        origin: the oldest remembered frame [B, C, h, w], None where Prophet does not see it.
        path: targets in force at the remembered frames, the present one last, and a 1 where there is such a frame, else zeros
            [B, R, S + 1]; None where Prophet does not know them.
        text: embedded instruction [B, L, width], None for the learned constant.
        rate_hz: frames a second, for base models that know time in seconds; None: one frame is one unit.
    """

    deltas: Tensor
    poses: Tensor
    mask: Tensor
    action_frames: Tensor | None = None
    history: HistoryFrames | None = None
    origin: Tensor | None = None
    path: Tensor | None = None
    text: Tensor | None = None
    rate_hz: float | None = None

    def rows(self, chosen: slice | Tensor) -> "Condition":
        """The clips ``chosen``."""
        return dataclasses.replace(
            self,
            deltas=self.deltas[chosen],
            poses=self.poses[chosen],
            mask=self.mask[chosen],
            action_frames=None if self.action_frames is None else self.action_frames[chosen],
            history=None if self.history is None else self.history.rows(chosen),
            origin=None if self.origin is None else self.origin[chosen],
            path=None if self.path is None else self.path[chosen],
            text=None if self.text is None else self.text[chosen],
        )

    def to(self, device: torch.device) -> "Condition":
        """On another device."""
        return dataclasses.replace(
            self,
            deltas=self.deltas.to(device),
            poses=self.poses.to(device),
            mask=self.mask.to(device),
            action_frames=None if self.action_frames is None else self.action_frames.to(device),
            history=None if self.history is None else self.history.to(device),
            origin=None if self.origin is None else self.origin.to(device),
            path=None if self.path is None else self.path.to(device),
            text=None if self.text is None else self.text.to(device),
        )
