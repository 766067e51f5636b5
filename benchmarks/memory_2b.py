"""What memory Prophet 2B needs, computed, not measured: `python -m benchmarks.memory_2b` writes docs/results/memory-2b.md.

The full-size network is traced with tensors that have shapes but no content, so the figures are those of the code as it is.
With P parameters, of which T are trained (G = 2^30 bytes):

- inference: 2 P;
- low-rank adaptation: 2 (P - T) + 4 T for the weights, 2 T for copies of what is trained in 16 bits, 4 T gradients, 8 T of
  Adam's moments, 4 T for the average of what is trained;
- full training in mixed precision: 4 P weights, 2 P their copies in 16 bits, 4 P gradients, 8 P moments, 4 P average;
- full training in 32 bits: the same without the copies in 16 bits;
- activations of a clip: the bytes that backpropagation keeps, every storage counted once, parameters left out; they grow
  linearly with the clips. With gradient checkpointing, what is kept between blocks and, while a block is computed again, what
  that one keeps.

Not counted: the temporary results of single layers, what the allocator loses, and the driver's own memory.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from world_model.action_layout import SLOTS
from world_model.condition import Condition, HistoryFrames
from world_model.cosmos import GIVEN_SIGMA
from world_model.history_tokens import token_count
from world_model.lora import NEW_PARTS, LoraSettings, make_trainable
from world_model.precision import BFLOAT16, FLOAT32
from world_model.prophet import ProphetTransformer
from world_model.sizes import VELOCITY, BackboneSettings, HistorySettings, ProphetSettings, make_transformer

IMAGE, CELL, FACTOR, CHANNELS = 256, 8, 4, 16  # of pictures [px], of a latent cell [px], frames together, channels
# Cosmos-Predict2-2B-Video2World; diffusers' scripts/convert_cosmos_to_diffusers.py.
BACKBONE_2B = BackboneSettings(
    heads=16,
    head_width=128,
    layers=28,
    lora_width=256,
    text_width=1024,
    rope_scale=(1.0, 3.0, 3.0),
    padding_mask=True,
    learned_positions=False,
    time_scale=1.0,
    given_time=GIVEN_SIGMA / (1.0 + GIVEN_SIGMA),
    knows_rate=True,
)
PROPHET_2B = ProphetSettings(
    backbone=BACKBONE_2B,
    chunk_length=20,
    history=HistorySettings(frames=6, step=8.0, span=96),
    action_width=1024,
    prediction=VELOCITY,
    anchor=False,
)
WORDS = 512
GIB = 2**30
PAGE = """# Memory of Prophet 2B

Computed by `python -m benchmarks.memory_2b`, **not measured on a GPU**: the network of full size is traced with tensors without
content; the formulas stand in that file. Tests hold the tracing against what a small network really keeps.

Pictures of {image} x {image} px, {actions} actions to {pictures} frames: {frames} latent frames of {size} x {size} cells,
{tokens} tokens in patches of {patch}; {remembered} frames of the past, {past} tokens. Parameters: {base:.1f} M of
Cosmos-Predict2-2B, {new:.1f} M that Prophet adds, {vae:.1f} M of Wan's tokenizer.

| GiB | trained [M] | weights | gradients | Adam | average | clip | clip (c) | batch 1 | batch 8 | batch 8 (c) |
|---|---|---|---|---|---|---|---|---|---|---|
| inference, 16 bits | 0 | {inference:.2f} | | | | | | {inference:.2f} | | |
{rows}

(c): with gradient checkpointing. "weights" holds the copies in 16 bits that mixed precision makes; "average" is that of
what is trained, which is the result; it shares the other weights. Batches are the sum of the columns before.
Instructions of {words} tokens, as the base model takes them, add {told:.2f} GiB to a clip of the second row.

Wan's tokenizer comes beside this: {of_vae:.2f} GiB of weights in 32 bits, and while it decodes a clip a few results as large as
its largest layer's, {largest:.2f} GiB a clip. In inference the transformer's largest is {layer:.3f} GiB a clip.
"""


@dataclass(frozen=True)
class Training:
    """One way to train.

    Attributes:
        name: in words.
        rank: of low-rank changes; 0: everything.
        mixed: computed in 16 bits.
    """

    name: str
    rank: int
    mixed: bool


TRAININGS = (
    Training("low-rank changes, rank 16, base in 16 bits", 16, True),
    Training("everything, mixed precision", 0, True),
    Training("everything, 32 bits", 0, False),
)


@dataclass(frozen=True)
class Need:
    """Bytes of one training.

    Attributes:
        trained: parameters that are trained.
        weights, gradients, moments, average: of the whole.
        clip, clip_saving: activations of a clip, without and with gradient checkpointing.
    """

    trained: int
    weights: int
    gradients: int
    moments: int
    average: int
    clip: int
    clip_saving: int


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_2b", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results/memory-2b.md"), help="(default: %(default)s)")
    options = parser.parse_args(argv)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(), encoding="utf-8")
    print(options.out)
    return 0


def need(
    settings: ProphetSettings, training: Training, size: int = IMAGE // CELL, channels: int = CHANNELS, words: int = 0
) -> Need:
    """What ``training`` needs, for latents of ``size`` x ``size`` cells and instructions of ``words`` tokens."""

    def clip(layers: int, saving: bool = False) -> int:
        """What one clip more keeps: copies of weights in 16 bits, which all clips share, are not its own."""
        changed = dataclasses.replace(settings, backbone=dataclasses.replace(settings.backbone, layers=layers))
        network = hollow(mode, lambda: trained_network(changed, training, size, channels))
        if saving:
            network.enable_gradient_checkpointing()
        # Of a single clip, parts are views where of several they are copies: the growth is even from two on.
        two = saved_bytes(network, lambda: loss_of(network, changed, size, channels, 2, words))
        return saved_bytes(network, lambda: loss_of(network, changed, size, channels, 3, words)) - two

    with FakeTensorMode() as mode:
        own = list(hollow(mode, lambda: trained_network(settings, training, size, channels)).parameters())
        taught = sum(p.numel() for p in own if p.requires_grad)
        stored = sum(p.numel() * p.element_size() for p in own)
        copies = 2 * taught if training.mixed else 0  # made anew in every forward pass, kept until backpropagation
        layers = settings.backbone.layers
        saving = clip(layers, saving=True) + clip(2) - clip(1)
        return Need(taught, stored + copies, 4 * taught, 8 * taught, 4 * taught, clip(layers), saving)


def hollow[Module: nn.Module](mode: FakeTensorMode, make: Callable[[], Module]) -> Module:
    """The network that ``make`` makes, with weights that claim to be in memory but have no content."""
    with unset_fake_temporarily(), torch.device("meta"):
        network = make()
    for module in network.modules():
        owned: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for entries in owned:
            for name, value in entries.items():
                if value is not None:
                    with unset_fake_temporarily():
                        bare = value.detach()
                    empty = mode.fake_tensor_converter.from_meta_and_device(mode, bare, torch.device("cpu"))
                    entries[name] = nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty
    return network


def trained_network(settings: ProphetSettings, training: Training, size: int, channels: int) -> ProphetTransformer:
    """The network as it is trained."""
    network = make_transformer(settings, channels, size, FACTOR, BFLOAT16 if training.mixed else FLOAT32)
    make_trainable(network, LoraSettings(rank=training.rank))
    return network.train()


def loss_of(
    network: ProphetTransformer, settings: ProphetSettings, size: int, channels: int, clips: int = 1, words: int = 0
) -> Tensor:
    """A number to backpropagate, of clips of the right shapes; without ``words`` the learned constant is the instruction."""
    frames, given = settings.chunk_length // FACTOR, len(settings.context_offsets)
    past = settings.history.frames
    condition = Condition(
        deltas=torch.randn(clips, settings.chunk_length, SLOTS),
        poses=torch.randn(clips, given + settings.chunk_length, SLOTS),
        mask=torch.ones(clips, SLOTS),
        history=HistoryFrames(
            torch.randn(clips, past, channels, size, size),
            torch.arange(1, past + 1).expand(clips, -1),
            torch.ones(clips, past, dtype=torch.bool),
        )
        if past
        else None,
        text=torch.randn(clips, words, settings.backbone.text_width) if words else None,
        rate_hz=10.0,
    )
    x_t, context = torch.randn(clips, channels, frames, size, size), torch.randn(clips, channels, given, size, size)
    return network(x_t, torch.rand(clips), context, condition).square().mean()


def saved_bytes(network: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes that ``forward`` keeps for backpropagation, besides the parameters; every storage counts once."""
    known = {_storage(parameter) for parameter in network.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}  # with the tensors, so that no storage is given to another

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in known and not isinstance(tensor, nn.Parameter):
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(size for size, _ in kept.values())


def page() -> str:
    """The results page."""
    frames, size = 1 + PROPHET_2B.chunk_length // FACTOR, IMAGE // CELL
    needs = [need(PROPHET_2B, training) for training in TRAININGS]
    told = need(PROPHET_2B, TRAININGS[0], words=WORDS)
    base, new, vae, largest, layer = _counts()
    return PAGE.format(
        image=IMAGE,
        actions=PROPHET_2B.chunk_length,
        pictures=1 + PROPHET_2B.chunk_length,
        frames=frames,
        size=size,
        tokens=frames * (size // BACKBONE_2B.patch) ** 2,
        patch=BACKBONE_2B.patch,
        remembered=PROPHET_2B.history.frames,
        past=token_count(PROPHET_2B.history.frames, size, size),
        base=base / 1e6,
        new=new / 1e6,
        vae=vae / 1e6,
        inference=2 * (base + new) / GIB,
        rows="\n".join(_row(training.name, n) for training, n in zip(TRAININGS, needs, strict=True)),
        words=WORDS,
        told=(told.clip - needs[0].clip) / GIB,
        of_vae=4 * vae / GIB,
        largest=largest / GIB,
        layer=layer / GIB,
    )


def _row(name: str, n: Need) -> str:
    fixed = n.weights + n.gradients + n.moments + n.average
    columns = (n.weights, n.gradients, n.moments, n.average, n.clip, n.clip_saving)
    totals = (fixed + n.clip, fixed + 8 * n.clip, fixed + 8 * n.clip_saving)
    return f"| {name} | {n.trained / 1e6:.1f} | " + " | ".join(f"{value / GIB:.2f}" for value in (*columns, *totals)) + " |"


def _counts() -> tuple[int, int, int, int, int]:
    """Parameters of base, new parts and tokenizer; bytes of the largest layer's output of a clip, tokenizer and transformer."""
    with FakeTensorMode() as mode, torch.no_grad():
        network = hollow(mode, lambda: make_transformer(PROPHET_2B, CHANNELS, IMAGE // CELL, FACTOR, BFLOAT16).eval())
        counts = [(name.split(".")[0] in NEW_PARTS, p.numel()) for name, p in network.named_parameters()]
        vae = hollow(mode, lambda: AutoencoderKLWan().eval())
        latents = torch.randn(1, CHANNELS, 1 + PROPHET_2B.chunk_length // FACTOR, IMAGE // CELL, IMAGE // CELL)
        largest = largest_output(vae, lambda: vae.decode(latents))
        layer = largest_output(network, lambda: loss_of(network, PROPHET_2B, IMAGE // CELL, CHANNELS))
        of_vae = sum(p.numel() for p in vae.parameters())
    return sum(n for new, n in counts if not new), sum(n for new, n in counts if new), of_vae, largest, layer


def largest_output(network: nn.Module, forward: Callable[[], Any]) -> int:
    """Bytes of the largest result of a single layer in ``forward``."""
    sizes = [0]

    def note(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size())

    hooks = [module.register_forward_hook(note) for module in network.modules() if not list(module.children())]
    forward()
    for hook in hooks:
        hook.remove()
    return max(sizes)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


if __name__ == "__main__":
    raise SystemExit(main())
