"""Networks of the small VLA: image encoder, instruction and state as tokens, action expert over the chunk.

Shapes: B = batch, C = cameras, M = context tokens, D = width, L = layers, H = actions in a chunk, A = numbers in an action,
S = numbers in the state, E = numbers in an instruction's embedding.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the small VLA.

    Attributes:
        image_size: side of the pictures that the encoder sees [px]; a multiple of 8.
        channels: of the encoder's three stages, each halving the picture.
        image_tokens: tokens into which a picture is summarised.
        width: D of the action expert; a multiple of ``heads``.
        depth: L, its layers.
        heads: of its attention.
        chunk_length: H.
        longest_prefix: committed actions from which it learns to continue, below H.
        flow_steps: K, Euler steps from noise to actions.
        use_state: whether it sees the measured state; a policy that practises in imagination sees pictures only.
    """

    image_size: int = 64
    channels: tuple[int, int, int] = (32, 64, 64)
    image_tokens: int = 4
    width: int = 128
    depth: int = 3
    heads: int = 4
    chunk_length: int = 5
    longest_prefix: int = 3
    flow_steps: int = 5
    use_state: bool = False

    def __post_init__(self) -> None:
        if self.image_size % 8 or self.image_size <= 0:
            raise ValueError(f"image_size must be a positive multiple of 8, got {self.image_size}")
        if len(self.channels) != 3 or any(channels % 8 for channels in self.channels):
            raise ValueError(f"channels must be three multiples of 8, got {self.channels}")
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width must be an even multiple of heads, got {self.width} with {self.heads} heads")
        if not 0 <= self.longest_prefix < self.chunk_length:
            raise ValueError(f"longest_prefix must be 0..{self.chunk_length - 1} for chunk_length {self.chunk_length}")
        if min(self.image_tokens, self.depth, self.flow_steps) < 1:
            raise ValueError("image_tokens, depth and flow_steps must be at least 1")


class ImageEncoder(nn.Module):
    """One picture to ``image_tokens`` tokens. The last map is flattened, not pooled: where things are is what matters."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        first, second, third = settings.channels
        self.tokens, self.width = settings.image_tokens, settings.width
        self.stages = nn.Sequential(
            *_stage(3, first, kernel=5),
            *_stage(first, second),
            *_stage(second, third),
            nn.Conv2d(third, third // 2, kernel_size=1),
        )
        side = settings.image_size // 8
        self.summary = nn.Linear(third // 2 * side * side, self.tokens * self.width)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, height, width], 0..1, to [B, tokens, D]."""
        features = self.stages(2.0 * images - 1.0)
        return self.summary(F.gelu(features.flatten(1))).unflatten(1, (self.tokens, self.width))


def _stage(channels_in: int, channels_out: int, kernel: int = 3) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride=2, padding=kernel // 2)
    return [convolution, nn.GroupNorm(8, channels_out), nn.GELU()]


class ContextEncoder(nn.Module):
    """Everything that stays the same along the flow, as keys and values for each layer of the action expert."""

    def __init__(self, settings: NetworkSettings, cameras: int, state_dim: int, embedding_size: int) -> None:
        super().__init__()
        width = settings.width
        self.layers = settings.depth
        self.image = ImageEncoder(settings)
        self.camera = nn.Parameter(0.02 * torch.randn(cameras, settings.image_tokens, width))
        self.instruction = nn.Linear(embedding_size, width)
        self.state = nn.Sequential(nn.Linear(state_dim, width), nn.GELU(), nn.Linear(width, width)) if state_dim else None
        self.norm = nn.LayerNorm(width)
        self.keys_values = nn.Linear(width, settings.depth * 2 * width)

    def forward(self, images: Tensor, state: Tensor | None, instruction: Tensor) -> Tensor:
        """Images [B, C, 3, h, w], normalised state [B, S] or None, instruction [B, E] to keys and values [B, L, 2, M, D]."""
        cameras = images.shape[1]
        tokens = self.image(images.flatten(0, 1)).unflatten(0, (-1, cameras)) + self.camera
        parts = [tokens.flatten(1, 2), self.instruction(instruction)[:, None]]
        if self.state is not None:
            assert state is not None, "a policy with state was given none"
            parts.append(self.state(state)[:, None])
        context = self.norm(torch.cat(parts, dim=1))
        return self.keys_values(context).unflatten(2, (self.layers, 2, -1)).permute(0, 2, 3, 1, 4)


class ActionExpert(nn.Module):
    """Velocity of the chunk's actions: a transformer over H tokens, each modulated by its own time."""

    def __init__(self, settings: NetworkSettings, action_dim: int) -> None:
        super().__init__()
        width = settings.width
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.action = nn.Linear(action_dim, width)
        self.position = nn.Parameter(0.02 * torch.randn(settings.chunk_length, width))
        self.blocks = nn.ModuleList(_Block(width, settings.heads) for _ in range(settings.depth))
        self.norm = _AdaptiveNorm(width)
        self.velocity = nn.Linear(width, action_dim)
        nn.init.zeros_(self.velocity.weight)
        nn.init.zeros_(self.velocity.bias)
        # Periods from one hundredth of the flow to four times its length.
        self.frequencies: Tensor
        self.register_buffer("frequencies", 2 * math.pi * torch.logspace(-math.log10(4.0), 2.0, width // 2), persistent=False)

    def forward(self, context: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Keys and values [B, L, 2, M, D], x_t [B, H, A], t [B, H] to the velocity [B, H, A]."""
        angles = t[..., None] * self.frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=-1))
        tokens = self.action(x_t) + self.position
        for layer, block in enumerate(self.blocks):
            tokens = block(tokens, context[:, layer, 0], context[:, layer, 1], time)
        normed, _ = self.norm(tokens, time)
        return self.velocity(normed)


class _AdaptiveNorm(nn.Module):
    """LayerNorm whose scale, shift and gate follow the time (AdaLN-Zero, arXiv 2212.09748): the gate begins at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 3 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, tokens: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Modulated tokens and the gate of what is computed from them, both [B, H, D]."""
        scale, shift, gate = self.modulation(time).chunk(3, dim=-1)
        return self.norm(tokens) * (1.0 + scale) + shift, gate


class _Block(nn.Module):
    """Self-attention over the chunk, cross-attention to the context, and an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(_AdaptiveNorm(width) for _ in range(3))
        self.self_in = nn.Linear(width, 3 * width)
        self.self_out = nn.Linear(width, width)
        self.cross_in = nn.Linear(width, width)
        self.cross_out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, keys: Tensor, values: Tensor, time: Tensor) -> Tensor:
        normed, gate = self.norms[0](tokens, time)
        tokens = tokens + gate * self.self_out(self._attend(*self.self_in(normed).chunk(3, dim=-1)))
        normed, gate = self.norms[1](tokens, time)
        tokens = tokens + gate * self.cross_out(self._attend(self.cross_in(normed), keys, values))
        normed, gate = self.norms[2](tokens, time)
        return tokens + gate * self.mlp(normed)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        split = [tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2) for tensor in (queries, keys, values)]
        return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
