"""How large Prophet is and what it knows: one class of networks, described by settings, from tiny to 2B."""

from dataclasses import dataclass, field
from typing import Any

from world_model.history_tokens import check_tokens
from world_model.precision import FLOAT32, LeanTransformer, kept_in
from world_model.prophet import ProphetTransformer

VELOCITY, CLEAN = "velocity", "clean"  # what the network predicts: noise - x_0, or x_0
ARC, TIME = "arc", "time"


@dataclass(frozen=True)
class BackboneSettings:
    """The Cosmos transformer itself. What is not told in one of its checkpoints is marked.

    Attributes:
        heads, head_width, layers: D = heads * head_width.
        lora_width: hidden width of the AdaLN-LoRA layers.
        mlp_ratio: hidden width of the feed-forward layers, in D.
        text_width: of instruction tokens.
        patch: latent cells that a token is wide.
        rope_scale: NTK scaling of the rotary positions in time, rows and columns.
        padding_mask: a further input channel, zero.
        learned_positions: besides the rotary ones; for cameras that stand still.
        time_scale: what the network is told for t = 1 (not in a checkpoint; Cosmos-Predict2: 1).
        given_time: noise level that given frames carry (not in a checkpoint; Cosmos-Predict2: 0.0001).
        knows_rate: time in seconds rather than in frames (not in a checkpoint; Cosmos-Predict2: true).
    """

    heads: int = 4
    head_width: int = 32
    layers: int = 6
    lora_width: int = 32
    mlp_ratio: float = 4.0
    text_width: int = 32
    patch: int = 2
    rope_scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    padding_mask: bool = False
    learned_positions: bool = True
    time_scale: float = 1000.0
    given_time: float = 0.0
    knows_rate: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rope_scale", tuple(self.rope_scale))  # a list where it comes from a file
        if self.head_width < 6 or self.head_width % 2:
            raise ValueError(f"head_width must be even and at least 6, got {self.head_width}")
        if min(self.heads, self.layers, self.lora_width, self.text_width, self.patch) < 1:
            raise ValueError("heads, layers, lora_width, text_width and patch must be at least 1")


@dataclass(frozen=True)
class HistorySettings:
    """How far and how Prophet looks back beyond the given frames.

    Attributes:
        frames: M; 0 switches it off.
        chosen_by: "arc": history frame i is the youngest that lies at least i steps of motion back; "time": i steps of time.
        step: length of a step, in frames; for "arc" in frames of average motion.
        span: frames looked back on at most.
    """

    frames: int = 6
    chosen_by: str = ARC
    step: float = 2.0
    span: int = 32

    def __post_init__(self) -> None:
        if self.chosen_by not in (ARC, TIME):
            raise ValueError(f"history.chosen_by must be {ARC} or {TIME}, got {self.chosen_by!r}")
        if self.frames < 0 or not self.step > 0 or self.span < 1:
            raise ValueError("history.frames must be at least 0, step and span positive")


@dataclass(frozen=True)
class ProphetSettings:
    """Size and conditioning of the transformer.

    Attributes:
        backbone: the Cosmos transformer.
        context_offsets: frames given at full resolution, counted from the present one (0), oldest first; the past before the
            episode is its first frame.
        chunk_length: H, a multiple of the tokenizer's temporal factor.
        history: see ``HistorySettings``.
        origin: every token also sees what was in its place in the oldest remembered frame, at most ``history.span`` back: what
            an arm covers for a while is not forgotten.
        path: every frame also knows the targets of the remembered past: where the tool has been, and when its gripper closed.
        action_width: hidden width of the action streams.
        chunk_stream: the paper's scalar stream.
        frame_stream: each frame also gets its own actions.
        pose_condition: and the absolute commanded pose (needs ``frame_stream``).
        action_frames: the paper's action-frame stream; needs a calibrated camera.
        action_patches: action frames also tell each patch what is drawn there; needs a calibrated camera.
        prediction: "clean": x_0, or "velocity": noise - x_0, as Cosmos was trained.
        anchor: every frame also sees the present frame's latents, and a clean prediction is the change from them.
        spread: std of what is to come about the present frame (without anchor about 0) that a clean prediction supposes:
            from it and the noise follows by Bayes' rule what the network need not say, see ``denoiser.estimate``. It changes
            nothing for pure noise. 0: the network says everything.
        transport: cells around each one from which things may be carried there, see ``world_model.transport``; 0: none.
            Needs ``anchor`` and a clean prediction.
    """

    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    context_offsets: tuple[int, ...] = (0,)
    chunk_length: int = 5
    history: HistorySettings = field(default_factory=HistorySettings)
    origin: bool = False
    path: bool = False
    action_width: int = 256
    chunk_stream: bool = True
    frame_stream: bool = True
    pose_condition: bool = True
    action_frames: bool = False
    action_patches: bool = False
    prediction: str = CLEAN
    anchor: bool = True
    spread: float = 0.0
    transport: int = 0

    def __post_init__(self) -> None:
        offsets = tuple(self.context_offsets)
        object.__setattr__(self, "context_offsets", offsets)
        if not offsets or offsets[-1] != 0 or list(offsets) != sorted(set(offsets)):
            raise ValueError(f"context_offsets must rise to 0, got {list(offsets)}")
        if self.chunk_length < 1:
            raise ValueError("chunk_length must be at least 1")
        if self.pose_condition and not self.frame_stream:
            raise ValueError("pose_condition needs frame_stream")
        if self.prediction not in (CLEAN, VELOCITY):
            raise ValueError(f"prediction must be {CLEAN} or {VELOCITY}, got {self.prediction!r}")
        if self.spread < 0 or (self.spread and self.prediction != CLEAN):
            raise ValueError("spread must be at least 0, and needs a clean prediction")
        if self.transport < 0 or (self.transport and (not self.anchor or self.prediction != CLEAN)):
            raise ValueError("transport must be at least 0, and needs anchor and a clean prediction")

    @property
    def draws(self) -> bool:
        """Whether it wants action frames."""
        return self.action_frames or self.action_patches

    @property
    def span(self) -> int:
        """Frames that imagination has to remember, the present one included."""
        given = 1 - min(self.context_offsets)
        return max(given, 1 + self.history.span) if self.history.frames or self.origin or self.path else given

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> "ProphetSettings":
        """Inverse of ``dataclasses.asdict``."""
        nested = {
            "backbone": BackboneSettings(**mapping["backbone"]),
            "history": HistorySettings(**mapping["history"]),
        }
        return cls(**mapping | nested)


def make_transformer(
    settings: ProphetSettings, channels: int, size: int, actions_per_frame: int = 1, precision: str = FLOAT32
) -> ProphetTransformer:
    """The transformer that ``settings`` describe, untrained.

    Args:
        channels, size: C and h = w of the tokenizer's latents.
        actions_per_frame: the tokenizer's temporal factor.
        precision: of the weights, see ``precision``.

    Raises:
        ValueError: chunk, history or patches do not fit the latents.
    """
    backbone = settings.backbone
    if settings.chunk_length % actions_per_frame:
        raise ValueError(
            f"chunk_length must be a multiple of {actions_per_frame}, the tokenizer's temporal factor, "
            f"got {settings.chunk_length}"
        )
    if size % backbone.patch:
        raise ValueError(f"latents of {size} cells cannot be cut into patches of {backbone.patch}")
    check_tokens(settings.history.frames, (size, size))
    kind = ProphetTransformer if precision == FLOAT32 else LeanTransformer
    network = kind(
        latent_channels=channels,
        latent_size=size,
        given_frames=len(settings.context_offsets),
        chunk_length=settings.chunk_length,
        actions_per_frame=actions_per_frame,
        num_attention_heads=backbone.heads,
        attention_head_dim=backbone.head_width,
        num_layers=backbone.layers,
        mlp_ratio=backbone.mlp_ratio,
        adaln_lora_dim=backbone.lora_width,
        text_embed_dim=backbone.text_width,
        patch=backbone.patch,
        rope_scale=backbone.rope_scale,
        concat_padding_mask=backbone.padding_mask,
        learned_positions=backbone.learned_positions,
        time_scale=backbone.time_scale,
        given_time=backbone.given_time,
        knows_rate=backbone.knows_rate,
        anchor=settings.anchor,
        action_width=settings.action_width,
        chunk_stream=settings.chunk_stream,
        frame_stream=settings.frame_stream,
        pose_condition=settings.pose_condition,
        action_frames=settings.action_frames,
        action_patches=settings.action_patches,
        history=settings.history.frames > 0,
        origin=settings.origin,
        path_length=settings.span if settings.path else 0,
        transport_reach=settings.transport,
    )
    return kept_in(network, precision)
