"""How actions enter Prophet: terms that are added to the timestep embedding (D) and to the AdaLN-LoRA term (3 D) of each frame.

Shapes as in ``condition.py``, D = width of the transformer, f = actions a latent frame (the tokenizer's temporal factor).

Each is zero at the start, so that the base model's output is unchanged:

- the paper's scalar stream: the flattened chunk through one MLP (D) and a second of three times the width (3 D), the same for
  every frame of the clip (ProphRL, arXiv 2511.20633);
- the paper's action-frame stream: drawn end effectors, through the tokenizer, a zero-initialised 1x1x1 convolution, a
  depthwise 1x3x3 and a pointwise one, a spatial mean, a sinusoidal code of time, and two projections;
- ours: each frame's own actions and its commanded pose;
- ours: the targets of the remembered past;
- ours: what is drawn in each patch of an action frame, added to that patch's token; in the same way what was there in the
  oldest remembered frame.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from world_model.action_layout import SLOTS
from world_model.condition import Condition

POSE_FREQUENCIES = (1.0, 2.0, 4.0)  # of sines of the normalised pose: about 1 px at the highest
WAY_SCALE = 3.0  # a chunk moves by a third of the workspace's spread


class ChunkStream(nn.Module):
    """The flattened chunk, for all frames alike."""

    def __init__(self, chunk_length: int, hidden: int, width: int) -> None:
        super().__init__()
        self.to_time = _zero_ended(chunk_length * SLOTS + SLOTS, hidden, width)
        self.to_adaln = _zero_ended(chunk_length * SLOTS + SLOTS, 3 * hidden, 3 * width)

    def forward(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """[B, 1, D] and [B, 1, 3 D]."""
        deltas = condition.deltas * condition.mask[:, None]
        chunk = torch.cat([deltas.flatten(1), condition.mask], dim=1)[:, None]
        return self.to_time(chunk), self.to_adaln(chunk)


class FrameStream(nn.Module):
    """Each frame's own actions, its commanded pose and the way from the present pose.

    Args:
        actions: f.
        poses: the absolute pose counts as well as the actions.
    """

    def __init__(self, actions: int, hidden: int, width: int, poses: bool) -> None:
        super().__init__()
        self.actions, self.poses = actions, poses
        features = SLOTS * (actions + 2 + 2 * len(POSE_FREQUENCIES)) + 1
        self.to_time = _zero_ended(features, hidden, width)
        self.to_adaln = _zero_ended(features, 3 * hidden, 3 * width)

    def forward(self, condition: Condition, given: int) -> tuple[Tensor, Tensor]:
        """[B, T, D] and [B, T, 3 D]."""
        features = self._features(condition, given)
        return self.to_time(features), self.to_adaln(features)

    def _features(self, condition: Condition, given: int) -> Tensor:
        mask = condition.mask[:, None]
        to_come = (condition.deltas * mask).unflatten(1, (-1, self.actions)).flatten(2)  # [B, n, f S]
        own = F.pad(to_come, (0, 0, given, 0))
        arrived = torch.cat([condition.poses[:, :given], condition.poses[:, given + self.actions - 1 :: self.actions]], dim=1)
        poses = arrived * mask * (1.0 if self.poses else 0.0)
        way = WAY_SCALE * (poses - poses[:, given - 1 : given])
        waves = [
            wave * mask
            for frequency in POSE_FREQUENCIES
            for wave in (torch.sin(0.5 * math.pi * frequency * poses), torch.cos(0.5 * math.pi * frequency * poses))
        ]
        is_to_come = torch.ones_like(own[..., :1])
        is_to_come[:, :given] = 0.0
        return torch.cat([own, poses, way, *waves, is_to_come], dim=-1)


class ActionFrameStream(nn.Module):
    """Latents of drawn action frames; those of given frames are masked out, for there the arm itself is seen."""

    def __init__(self, channels: int, hidden: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv3d(channels, hidden, 1)
        self.depthwise = nn.Conv3d(hidden, hidden, (1, 3, 3), padding=(0, 1, 1), groups=hidden)
        self.pointwise = nn.Conv3d(hidden, hidden, 1)
        self.to_time = nn.Linear(hidden, width)
        self.to_adaln = nn.Linear(hidden, 3 * width)
        # The code of time passes the projections whatever the first convolution says, so they begin at zero as well.
        for layer in (self.enter, self.to_time, self.to_adaln):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, frames: Tensor, given: int) -> tuple[Tensor, Tensor]:
        """[B, T, D] and [B, T, 3 D] of ``frames`` [B, C, T, h, w]."""
        to_come = torch.ones_like(frames[:1, :1, :, :1, :1])
        to_come[:, :, :given] = 0.0
        features = self.pointwise(F.silu(self.depthwise(self.enter(frames * to_come))))
        pooled = features.mean(dim=(3, 4)).transpose(1, 2)
        coded = F.silu(pooled + time_code(pooled.shape[1], pooled.shape[2], pooled))
        return self.to_time(coded), self.to_adaln(coded)


class PathStream(nn.Module):
    """Where the tool has been and when its gripper closed, for all frames alike: what decided about the object is not forgotten
    when the pictures of it are coarse or blurred.

    Args:
        length: R.
    """

    def __init__(self, length: int, hidden: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(length * (SLOTS + 1), hidden)
        self.to_time, self.to_adaln = nn.Linear(hidden, width), nn.Linear(hidden, 3 * width)
        for layer in (self.to_time, self.to_adaln):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, path: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 1, D] and [B, 1, 3 D] of ``path`` [B, R, S + 1]; ``mask`` [B, S]."""
        known = torch.cat([path[..., :-1] * mask[:, None], path[..., -1:]], dim=-1)
        features = F.silu(self.enter(known.flatten(1)))[:, None]
        return self.to_time(features), self.to_adaln(features)


class OriginPatches(nn.Module):
    """What was in each patch of the oldest remembered frame, added to that patch's tokens of all frames."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, patch, stride=patch)
        nn.init.zeros_(self.enter.weight)
        assert self.enter.bias is not None
        nn.init.zeros_(self.enter.bias)

    def forward(self, frame: Tensor) -> Tensor:
        """[B, 1, P, D] of ``frame`` [B, C, h, w]."""
        patches: Tensor = self.enter(frame)
        return patches.flatten(2).transpose(1, 2)[:, None]


class DrawnPatches(nn.Module):
    """What is drawn in each patch of a frame to come, added to that patch's token: where in the picture the tool is to be.

    The paper's stream averages over the picture and loses the place; this keeps it, whatever camera looks on.
    """

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv3d(channels, width, (1, patch, patch), stride=(1, patch, patch))
        nn.init.zeros_(self.enter.weight)
        assert self.enter.bias is not None
        nn.init.zeros_(self.enter.bias)

    def forward(self, frames: Tensor, given: int) -> Tensor:
        """[B, T, P, D] of ``frames`` [B, C, T, h, w]; zero for given frames."""
        to_come: Tensor = self.enter(frames[:, :, given:]).flatten(3).permute(0, 2, 3, 1)
        return F.pad(to_come, (0, 0, 0, 0, given, 0))


def time_code(frames: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines of the frame's number [frames, width]; ``width`` is even."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2, device=like.device) / width)
    phases = torch.arange(frames, device=like.device)[:, None] * rates
    return torch.cat([phases.sin(), phases.cos()], dim=-1).to(like.dtype)


def _zero_ended(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), last)
