"""ProphetTransformer: diffusers' Cosmos video transformer with actions as a further condition.

Shapes: B = clips, K = context frames, H = frames to come = actions in a chunk, T = K + H, C = latent channels, h, w = latent
grid, D = width of the transformer, S = 14 action slots. Time of flows: t = 1 noise, t = 0 data; context frames carry t = 0.

The scalar stream of ProphRL (arXiv 2511.20633): the flattened chunk through one MLP is added to the timestep embedding (D),
through a second MLP of three times the width to the AdaLN-LoRA term (3 D). Beside it, each frame may get its own action and its
commanded pose the same way, through the per-frame timestep. All last layers are zero at the start, so the base model's output
is unchanged.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import CosmosTransformer3DModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from robot_stack.core.errors import ShapeError
from world_model.action_layout import SLOTS

TIME_SCALE = 1000.0  # the base model's timesteps run to 1000
POSE_FREQUENCIES = (1.0, 2.0, 4.0)  # of sines of the normalised pose: about 1 px at the highest
FRAME_FEATURES = SLOTS * (3 + 2 * len(POSE_FREQUENCIES)) + 1


@dataclass(frozen=True)
class ProphetSettings:
    """Size and conditioning of the transformer.

    Attributes:
        context_offsets: frames given, counted from the present one (0), oldest first; the past before the episode is its first.
        chunk_length: H.
        heads, head_width, layers: D = heads * head_width.
        lora_width: hidden width of the AdaLN-LoRA layers.
        mlp_ratio: hidden width of the feed-forward layers, in D.
        action_width: hidden width of the action MLPs.
        chunk_stream: the paper's scalar stream.
        frame_stream: each frame also gets its own action.
        pose_condition: and the absolute commanded pose (needs ``frame_stream``).
        anchor: every frame also sees the present frame's latents, and what is predicted is the change from them.
    """

    context_offsets: tuple[int, ...] = (-5, -1, 0)
    chunk_length: int = 5
    heads: int = 4
    head_width: int = 32
    layers: int = 6
    lora_width: int = 32
    mlp_ratio: float = 4.0
    action_width: int = 256
    chunk_stream: bool = True
    frame_stream: bool = True
    pose_condition: bool = True
    anchor: bool = True

    def __post_init__(self) -> None:
        offsets = tuple(self.context_offsets)
        object.__setattr__(self, "context_offsets", offsets)  # a list where it comes from a file
        if len(offsets) < 2 or offsets[-1] != 0 or list(offsets) != sorted(set(offsets)):
            raise ValueError(f"context_offsets must rise to 0 and hold at least two frames, got {list(offsets)}")
        if self.chunk_length < 1:
            raise ValueError("chunk_length must be at least 1")
        if self.pose_condition and not self.frame_stream:
            raise ValueError("pose_condition needs frame_stream")

    @property
    def context_length(self) -> int:
        """K."""
        return len(self.context_offsets)


@dataclass(frozen=True)
class ActionCondition:
    """What the arm is told to do, normalised.

    Attributes:
        deltas: [B, H, S]; action i moves frame i to frame i + 1.
        poses: commanded targets in force at each frame, context first [B, T, S].
        mask: slots in use [S], 0 or 1.
    """

    deltas: Tensor
    poses: Tensor
    mask: Tensor


class ProphetTransformer(CosmosTransformer3DModel):
    """Latents with noise and actions in; the model's output field out."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        latent_size: int = 8,
        context_length: int = 3,
        chunk_length: int = 5,
        num_attention_heads: int = 4,
        attention_head_dim: int = 32,
        num_layers: int = 6,
        mlp_ratio: float = 4.0,
        adaln_lora_dim: int = 32,
        text_embed_dim: int = 32,
        action_width: int = 256,
        chunk_stream: bool = True,
        frame_stream: bool = True,
        pose_condition: bool = True,
        anchor: bool = True,
    ) -> None:
        # The base class reads these of its own config, which here is ours.
        self.register_to_config(
            patch_size=(1, 2, 2),
            concat_padding_mask=False,
            extra_pos_embed_type="learnable",
            use_crossattn_projection=False,
            img_context_dim_in=None,
            controlnet_block_every_n=None,
        )
        frames = context_length + chunk_length
        CosmosTransformer3DModel.__init__.__wrapped__(
            self,
            in_channels=latent_channels * (2 if anchor else 1) + 1,  # + which frames are given
            out_channels=latent_channels,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            num_layers=num_layers,
            mlp_ratio=mlp_ratio,
            text_embed_dim=text_embed_dim,
            adaln_lora_dim=adaln_lora_dim,
            max_size=(frames, latent_size, latent_size),
            patch_size=(1, 2, 2),
            rope_scale=(1.0, 1.0, 1.0),
            concat_padding_mask=False,
            extra_pos_embed_type="learnable",
        )
        width = num_attention_heads * attention_head_dim
        for positions in self.learnable_pos_embed.parameters():
            nn.init.normal_(positions, std=0.02)  # zero would be divided by its own norm
        nn.init.zeros_(self.proj_out.weight)  # the first prediction is the present frame
        self.null_text = nn.Parameter(torch.zeros(1, 1, text_embed_dim))
        self.chunk_to_time = _action_mlp(chunk_length * SLOTS + SLOTS, action_width, width) if chunk_stream else None
        self.chunk_to_adaln = _action_mlp(chunk_length * SLOTS + SLOTS, 3 * action_width, 3 * width) if chunk_stream else None
        self.frame_to_time = _action_mlp(FRAME_FEATURES, action_width, width) if frame_stream else None
        self.frame_to_adaln = _action_mlp(FRAME_FEATURES, 3 * action_width, 3 * width) if frame_stream else None

    def forward(
        self, x_t: Tensor, t: Tensor, context: Tensor, condition: ActionCondition, text: Tensor | None = None
    ) -> Tensor:
        """Output field for the frames to come.

        Args:
            x_t: frames to come with noise [B, C, H, h, w].
            t: noise level of each clip [B].
            context: clean past frames, the present one last [B, C, K, h, w].
            condition: the actions.
            text: instruction tokens [B, L, text_embed_dim]; a learned constant by default.

        Returns:
            [B, C, H, h, w].

        Raises:
            ShapeError: frames or actions of another number than the network was made for.
        """
        batch, _, count = x_t.shape[:3]
        given = context.shape[2]
        if (given, count) != (self.config.context_length, self.config.chunk_length):
            raise ShapeError("context and chunk", (given, count), f"[{self.config.context_length}, {self.config.chunk_length}]")
        frames = torch.cat([context, x_t], dim=2)
        if self.config.anchor:
            frames = torch.cat([frames, context[:, :, -1:].expand_as(frames)], dim=1)
        is_given = torch.zeros_like(frames[:, :1])
        is_given[:, :, :given] = 1.0
        times = torch.cat([t.new_zeros(batch, given), t[:, None].expand(-1, count)], dim=1) * TIME_SCALE
        to_time, to_adaln = self._action_terms(condition, given)

        def add_actions(_module: nn.Module, _inputs: Any, terms: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            adaln, embedded_time = terms  # one row a frame, all clips one after another
            return adaln + to_adaln.flatten(0, 1), embedded_time + to_time.flatten(0, 1)

        tokens = self.null_text.expand(batch, -1, -1) if text is None else text
        with self.time_embed.register_forward_hook(add_actions):
            output = super().forward(
                hidden_states=frames,
                timestep=times[:, None, :, None, None],
                encoder_hidden_states=tokens,
                condition_mask=is_given,
                return_dict=False,
            )[0]
        return output[:, :, given:]

    def _action_terms(self, condition: ActionCondition, given: int) -> tuple[Tensor, Tensor]:
        """Terms for the timestep embedding [B, T, D] and for AdaLN [B, T, 3 D]."""
        deltas = condition.deltas * condition.mask
        batch, frames = condition.poses.shape[:2]
        width = self.config.num_attention_heads * self.config.attention_head_dim
        to_time = deltas.new_zeros(batch, frames, width)
        to_adaln = deltas.new_zeros(batch, frames, 3 * width)
        if self.chunk_to_time is not None and self.chunk_to_adaln is not None:
            chunk = torch.cat([deltas.flatten(1), condition.mask.expand(batch, -1)], dim=1)
            to_time = to_time + self.chunk_to_time(chunk)[:, None]
            to_adaln = to_adaln + self.chunk_to_adaln(chunk)[:, None]
        if self.frame_to_time is not None and self.frame_to_adaln is not None:
            features = self._frame_features(deltas, condition, given)
            to_time = to_time + self.frame_to_time(features)
            to_adaln = to_adaln + self.frame_to_adaln(features)
        return to_time, to_adaln

    def _frame_features(self, deltas: Tensor, condition: ActionCondition, given: int) -> Tensor:
        """Each frame's own action, its pose and the way from the present pose [B, T, FRAME_FEATURES]."""
        own = torch.cat([deltas.new_zeros(len(deltas), given, SLOTS), deltas], dim=1)
        poses = condition.poses * condition.mask * (1.0 if self.config.pose_condition else 0.0)
        way = 3.0 * (poses - poses[:, given - 1 : given])  # 3: a chunk moves by a third of the workspace's spread
        waves = [
            wave * condition.mask
            for frequency in POSE_FREQUENCIES
            for wave in (torch.sin(0.5 * math.pi * frequency * poses), torch.cos(0.5 * math.pi * frequency * poses))
        ]
        to_come = torch.zeros_like(own[..., :1])
        to_come[:, given:] = 1.0
        return torch.cat([own, poses, way, *waves, to_come], dim=-1)


def make_transformer(settings: ProphetSettings, latent_channels: int, latent_size: int) -> ProphetTransformer:
    """The transformer that ``settings`` describe, untrained."""
    return ProphetTransformer(
        latent_channels=latent_channels,
        latent_size=latent_size,
        context_length=settings.context_length,
        chunk_length=settings.chunk_length,
        num_attention_heads=settings.heads,
        attention_head_dim=settings.head_width,
        num_layers=settings.layers,
        mlp_ratio=settings.mlp_ratio,
        adaln_lora_dim=settings.lora_width,
        action_width=settings.action_width,
        chunk_stream=settings.chunk_stream,
        frame_stream=settings.frame_stream,
        pose_condition=settings.pose_condition,
        anchor=settings.anchor,
    )


def _action_mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), last)
