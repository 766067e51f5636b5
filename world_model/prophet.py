"""ProphetTransformer: diffusers' Cosmos video transformer that also knows the actions and looks further back.

Shapes as in ``condition.py``, P = patches of a frame, D = width of the transformer, a = heads, d = width of a head. Time of
flows: t = 1 noise, t = 0 data; given frames carry t = 0 (or the base model's small constant).

All of the base model's layers are used as they are, under their own names, so its weights load key for key. What is new is zero
at the start: action streams (``action_streams``) and, in every block, attention to the past (``history_tokens``): its own
softmax over the history's keys, added through a gate of one number a head that begins at zero. (As further keys of the same
softmax the past would change the base model even if its values were zero.)
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import CosmosTransformer3DModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from robot_stack.core.errors import ProphRLError, ShapeError
from world_model.action_streams import ActionFrameStream, ChunkStream, DrawnPatches, FrameStream, OriginPatches, PathStream
from world_model.condition import Condition
from world_model.history_tokens import HistoryTokens
from world_model.rotary import BASE_FPS, grid_positions, rotary_tables, rotate
from world_model.transport import Transport

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Prepared:
    """What does not change while one chunk is drawn: computed once, used at every sampling step.

    Attributes:
        to_time, to_adaln: terms of the actions [B, T, D], [B, T, 3 D].
        text: keys and values of the instruction, for each block [B, a, L, d].
        history: the same of the past [B, a, R, d], and which of its tokens exist [B, 1, 1, R]; None without.
        rotary: tables of the sequence [T P, d].
        positions: learned ones [1, T, P, D], None without.
        patches: what is drawn in each patch, and what was there in the oldest frame [B, T, P, D], None without.
    """

    to_time: Tensor
    to_adaln: Tensor
    text: list[KeysValues]
    history: tuple[list[KeysValues], Tensor] | None
    rotary: tuple[Tensor, Tensor]
    positions: Tensor | None
    patches: Tensor | None


class ProphetTransformer(CosmosTransformer3DModel):
    """Latents with noise and a condition in; the model's output field out. Made by ``world_model.sizes.make_transformer``."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int,
        latent_size: int,
        given_frames: int,
        chunk_length: int,
        actions_per_frame: int,
        num_attention_heads: int,
        attention_head_dim: int,
        num_layers: int,
        mlp_ratio: float,
        adaln_lora_dim: int,
        text_embed_dim: int,
        patch: int,
        rope_scale: tuple[float, float, float],
        concat_padding_mask: bool,
        learned_positions: bool,
        time_scale: float,
        given_time: float,
        knows_rate: bool,
        anchor: bool,
        action_width: int,
        chunk_stream: bool,
        frame_stream: bool,
        pose_condition: bool,
        action_frames: bool,
        action_patches: bool,
        history: bool,
        origin: bool,
        path_length: int,
        transport_reach: int,
    ) -> None:
        frames = given_frames + chunk_length // actions_per_frame
        positions = "learnable" if learned_positions else None
        # The base class reads these of its own config, which here is ours.
        self.register_to_config(
            patch_size=(1, patch, patch),
            extra_pos_embed_type=positions,
            use_crossattn_projection=False,
            img_context_dim_in=None,
            controlnet_block_every_n=None,
        )
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
            patch_size=(1, patch, patch),
            rope_scale=rope_scale,
            concat_padding_mask=concat_padding_mask,
            extra_pos_embed_type=positions,
        )
        width = num_attention_heads * attention_head_dim
        if self.learnable_pos_embed is not None:
            for parameter in self.learnable_pos_embed.parameters():
                nn.init.normal_(parameter, std=0.02)  # zero would be divided by its own norm
        if anchor:
            nn.init.zeros_(self.proj_out.weight)  # the first prediction is the present frame
        self.null_text = nn.Parameter(torch.zeros(1, 1, text_embed_dim))
        self.chunk_actions = ChunkStream(chunk_length, action_width, width) if chunk_stream else None
        self.frame_actions = FrameStream(actions_per_frame, action_width, width, pose_condition) if frame_stream else None
        self.past_path = PathStream(path_length, action_width, width) if path_length else None
        self.drawn_actions = ActionFrameStream(latent_channels, action_width, width) if action_frames else None
        self.drawn_patches = DrawnPatches(latent_channels, patch, width) if action_patches else None
        self.origin_patches = OriginPatches(latent_channels, patch, width) if origin else None
        self.transport = Transport(width, patch, transport_reach) if transport_reach else None
        self.history_tokens = HistoryTokens(latent_channels, width) if history else None
        self.history_gates = nn.Parameter(torch.zeros(num_layers, num_attention_heads)) if history else None

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor, condition: Condition | Prepared) -> Tensor:
        """Output field for the frames to come.

        Args:
            x_t: frames to come with noise [B, C, n, h, w].
            t: noise level of each clip [B].
            context: given frames, the present one last [B, C, K, h, w].
            condition: actions, past and task; or what ``prepare`` made of them.

        Returns:
            [B, C, n, h, w].

        Raises:
            ShapeError: frames of another number than the network was made for.
        """
        given = context.shape[2]
        self._check(given, x_t.shape[2])
        prepared = condition if isinstance(condition, Prepared) else self.prepare(condition, context)
        tokens = self._embed(x_t, context)
        if prepared.patches is not None:
            tokens = tokens + prepared.patches
        levels = torch.cat([t.new_full((len(t), given), self.config.given_time), t[:, None].expand(-1, x_t.shape[2])], dim=1)
        to_adaln, to_time = self.time_embed(tokens, levels.flatten() * self.config.time_scale)
        adaln = (to_adaln.unflatten(0, levels.shape) + prepared.to_adaln)[:, :, None]
        time = (to_time.unflatten(0, levels.shape) + prepared.to_time)[:, :, None]
        last = len(self.transformer_blocks) - 1
        for index in range(last + 1):
            seen_only = given if index == last else 0  # nobody asks what the last block makes of given frames
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(self._block, index, tokens, time, adaln, prepared, seen_only)
            else:
                tokens = self._block(index, tokens, time, adaln, prepared, seen_only)
        to_come = self.norm_out(tokens, time[:, given:], adaln[:, given:])
        output = self._unpatch(self.proj_out(to_come), x_t.shape[-1])
        return output if self.transport is None else output + self.transport(to_come, context[:, :, -1])

    def prepare(self, condition: Condition, context: Tensor) -> Prepared:
        """Everything of ``condition`` that the sampling steps of one chunk share.

        Raises:
            ShapeError: a chunk of another length than the network was made for.
            ProphRLError: the network knows action frames, history, oldest frame or path, but the condition lacks them.
        """
        batch, given = len(context), context.shape[2]
        if condition.deltas.shape[1] != self.config.chunk_length:
            raise ShapeError("chunk of actions", tuple(condition.deltas.shape), f"[B, {self.config.chunk_length}, S]")
        frames = given + self.config.chunk_length // self.config.actions_per_frame
        to_time, to_adaln = self._action_terms(condition, given, frames)
        sizes = [size // self.config.patch for size in context.shape[-2:]]
        unit = 1.0 if condition.rate_hz is None or not self.config.knows_rate else BASE_FPS / condition.rate_hz
        rows, columns = (torch.arange(size, device=context.device, dtype=torch.float32) for size in sizes)
        times = torch.arange(frames, device=context.device, dtype=torch.float32) * unit
        width, scale = self.config.attention_head_dim, self.config.rope_scale
        text = self.null_text.expand(batch, -1, -1) if condition.text is None else condition.text
        return Prepared(
            to_time=to_time,
            to_adaln=to_adaln,
            text=[_keys_values(block.attn2, text) for block in self.transformer_blocks],
            history=self._history(condition, (given - 1) * unit, unit / self.config.actions_per_frame),
            rotary=rotary_tables(grid_positions(times, rows, columns), width, scale),
            positions=self._learned_positions(frames, *context.shape[-2:]),
            patches=self._patch_terms(condition, given),
        )

    def _check(self, given: int, to_come: int) -> None:
        expected = (self.config.given_frames, self.config.chunk_length // self.config.actions_per_frame)
        if (given, to_come) != expected:
            raise ShapeError("given frames and frames to come", (given, to_come), str(list(expected)))

    def _embed(self, x_t: Tensor, context: Tensor) -> Tensor:
        """Tokens [B, T, P, D]; channels in the base model's order: latents, which are given, padding."""
        frames = torch.cat([context, x_t], dim=2)
        is_given = torch.zeros_like(frames[:, :1])
        is_given[:, :, : context.shape[2]] = 1.0
        parts = [frames]
        if self.config.anchor:
            parts.append(context[:, :, -1:].expand_as(frames))
        parts.append(is_given)
        if self.config.concat_padding_mask:
            parts.append(torch.zeros_like(is_given))
        tokens: Tensor = self.patch_embed(torch.cat(parts, dim=1)).flatten(2, 3)
        return tokens

    def _unpatch(self, values: Tensor, width: int) -> Tensor:
        """[B, n, P, p p C] -> [B, C, n, h, w]; the base model lays out row in the patch, column, then channel."""
        patch = self.config.patch
        cells = values.unflatten(3, (patch, patch, -1)).unflatten(2, (-1, width // patch))
        return cells.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)

    def _block(self, index: int, tokens: Tensor, time: Tensor, adaln: Tensor, prepared: Prepared, seen_only: int) -> Tensor:
        """Tokens after block ``index``, without those of the first ``seen_only`` frames, at which the others only look."""
        block = self.transformer_blocks[index]
        if prepared.positions is not None:
            tokens = tokens + prepared.positions
        normed, gate = block.norm1(tokens, time, adaln)
        seen = self._look_around(index, normed, prepared, seen_only)
        tokens, gate, time, adaln = (values[:, seen_only:] for values in (tokens, gate, time, adaln))
        tokens = tokens + gate * seen
        normed, gate = block.norm2(tokens, time, adaln)
        tokens = tokens + gate * _look_at(block.attn2, normed, prepared.text[index])
        normed, gate = block.norm3(tokens, time, adaln)
        return tokens + gate * block.ff(normed)

    def _look_around(self, index: int, tokens: Tensor, prepared: Prepared, seen_only: int) -> Tensor:
        """Self-attention, and beside it attention to the past, of all frames but the first ``seen_only``."""
        attention = self.transformer_blocks[index].attn1
        looking = tokens[:, seen_only:]
        first = seen_only * tokens.shape[2]
        cosines, sines = prepared.rotary
        query = attention.norm_q(_heads(attention, attention.to_q(looking.flatten(1, 2))))
        key, value = _keys_values(attention, tokens.flatten(1, 2))
        turned = rotate(query, (cosines[first:], sines[first:]))
        seen = F.scaled_dot_product_attention(turned, rotate(key, prepared.rotary), value)
        if prepared.history is not None and self.history_gates is not None:
            (past_key, past_value), exists = prepared.history[0][index], prepared.history[1]
            past = F.scaled_dot_product_attention(turned, past_key, past_value, attn_mask=exists)
            seen = seen + self.history_gates[index][:, None, None] * past
        return _leave(attention, seen).view_as(looking)

    def _history(self, condition: Condition, present: float, unit: float) -> tuple[list[KeysValues], Tensor] | None:
        if self.history_tokens is None:
            return None
        if condition.history is None:
            raise ProphRLError("this world model looks back on its history, but was given none")
        tokens, places, exists = self.history_tokens(condition.history, present, unit, self.config.patch)
        tables = rotary_tables(places, self.config.attention_head_dim, self.config.rope_scale)
        tables = tables[0][:, None], tables[1][:, None]
        pairs = []
        for block in self.transformer_blocks:
            key, value = _keys_values(block.attn1, tokens)
            pairs.append((rotate(key, tables), value))
        # A clip without any past looks at whatever is there; what it sees is taken away again.
        none = ~exists.any(dim=1)
        pairs = [(key, value * ~none[:, None, None, None]) for key, value in pairs]
        return pairs, (exists | none[:, None])[:, None, None]

    def _learned_positions(self, frames: int, height: int, width: int) -> Tensor | None:
        if self.learnable_pos_embed is None:
            return None
        like = self.learnable_pos_embed.pos_emb_t.new_zeros(1, 1, frames, height, width)
        positions: Tensor = self.learnable_pos_embed(like)
        return positions.unflatten(1, (frames, -1))

    def _patch_terms(self, condition: Condition, given: int) -> Tensor | None:
        terms: list[Tensor] = []
        if self.drawn_patches is not None:
            terms.append(self.drawn_patches(_drawn(condition), given))
        if self.origin_patches is not None:
            if condition.origin is None:
                raise ProphRLError("this world model sees its oldest frame, but was given none")
            terms.append(self.origin_patches(condition.origin))
        return sum(terms[1:], terms[0]) if terms else None

    def _action_terms(self, condition: Condition, given: int, frames: int) -> tuple[Tensor, Tensor]:
        width = self.config.num_attention_heads * self.config.attention_head_dim
        to_time = condition.deltas.new_zeros(len(condition.deltas), frames, width)
        to_adaln = condition.deltas.new_zeros(len(condition.deltas), frames, 3 * width)
        terms = []
        if self.chunk_actions is not None:
            terms.append(self.chunk_actions(condition))
        if self.frame_actions is not None:
            terms.append(self.frame_actions(condition, given))
        if self.past_path is not None:
            if condition.path is None:
                raise ProphRLError("this world model knows the targets of the past, but was given none")
            terms.append(self.past_path(condition.path, condition.mask))
        if self.drawn_actions is not None:
            terms.append(self.drawn_actions(_drawn(condition), given))
        for time, adaln in terms:
            to_time, to_adaln = to_time + time, to_adaln + adaln
        return to_time, to_adaln


def _drawn(condition: Condition) -> Tensor:
    if condition.action_frames is None:
        raise ProphRLError("this world model sees action frames, but was given none: they need a calibrated camera")
    return condition.action_frames


def _heads(attention: Any, projected: Tensor) -> Tensor:
    """[B, S, D] -> [B, a, S, d]."""
    return projected.unflatten(2, (attention.heads, -1)).transpose(1, 2)


def _keys_values(attention: Any, tokens: Tensor) -> KeysValues:
    key, value = _heads(attention, attention.to_k(tokens)), _heads(attention, attention.to_v(tokens))
    return attention.norm_k(key), value


def _look_at(attention: Any, tokens: Tensor, pair: KeysValues) -> Tensor:
    """Cross-attention of ``tokens`` [B, T, P, D], or what to add to all of them [B, 1, 1, D]: of one key all see the same."""
    if pair[1].shape[2] == 1:
        return _leave(attention, pair[1])[:, None]
    query = attention.norm_q(_heads(attention, attention.to_q(tokens.flatten(1, 2))))
    return _leave(attention, F.scaled_dot_product_attention(query, *pair)).view_as(tokens)


def _leave(attention: Any, seen: Tensor) -> Tensor:
    """[B, a, S, d] -> [B, S, D] through the output projection."""
    left: Tensor = attention.to_out[0](seen.transpose(1, 2).flatten(2, 3))
    return left
