"""Few-shot adaptation: low-rank changes of attention and feed-forward layers (LoRA, by PEFT), the new streams as they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from robot_stack.core.errors import ProphRLError
from world_model.precision import kept_in, precision_of
from world_model.prophet import ProphetTransformer

LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")  # of both attentions and of the feed-forward part
NEW_PARTS = (
    *("chunk_actions", "frame_actions", "drawn_actions", "drawn_patches"),
    *("history_tokens", "history_gates", "null_text", "transport"),
)
ENDS = ("patch_embed", "proj_out", "norm_out", "learnable_pos_embed")
ADAPTER = "default"  # PEFT's name


@dataclass(frozen=True)
class LoraSettings:
    """Size of the change.

    Attributes:
        rank: of each layer's change; the paper takes 16. 0: all weights are trained.
        alpha: the change counts alpha / rank.
        ends: the layers that read and write latents are trained as well: another camera and robot look different.
        merge: the change is worked into the weights when it has been learnt: the checkpoint needs nothing else, and is as large
            as the model. Otherwise the checkpoint holds the change, the new parts and the ends alone (2B: about 0.3 GB instead
            of 4) and names its base model, which has to be there, unchanged, when it is loaded.
    """

    rank: int = 16
    alpha: float = 16.0
    ends: bool = True
    merge: bool = True

    def __post_init__(self) -> None:
        if self.rank < 0 or not self.alpha > 0:
            raise ValueError(f"rank must be at least 0 and alpha positive, got {self.rank} and {self.alpha}")


def make_trainable(network: ProphetTransformer, settings: LoraSettings) -> None:
    """Say what of ``network`` is trained: everything, or low-rank changes, what the base model lacks, and its ends.

    What is trained becomes float32: small updates would be lost in 16 bits.

    Raises:
        ProphRLError: it has low-rank changes of another size.
    """
    if settings.rank == 0:
        merged(network)
        _in_float32(network.requires_grad_(True))
        return
    known = low_rank_of(network)
    if known is None:
        add_low_rank(network, settings.rank, settings.alpha)
    elif known != (settings.rank, settings.alpha):
        raise ProphRLError(
            f"the world model has low-rank changes of rank {known[0]}, alpha {known[1]:g}: go on with these, "
            f"not with rank {settings.rank}, alpha {settings.alpha:g}"
        )
    parts = (*NEW_PARTS, *(ENDS if settings.ends else ()))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in parts or _is_low_rank(name))
    _in_float32(network)


def add_low_rank(network: ProphetTransformer, rank: int, alpha: float) -> None:
    """Low-rank changes of ``network``, zero at the start."""
    network.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(LAYERS)), ADAPTER)


def low_rank_of(network: ProphetTransformer) -> tuple[int, float] | None:
    """Rank and alpha of the low-rank changes that ``network`` has beside its weights; None without."""
    adapters: dict[str, Any] = getattr(network, "peft_config", None) or {}
    return (adapters[ADAPTER].r, float(adapters[ADAPTER].lora_alpha)) if adapters else None


def merged(network: ProphetTransformer) -> ProphetTransformer:
    """``network`` with its low-rank changes worked into its weights, in place; as it is where there are none."""
    if low_rank_of(network) is not None:
        network.fuse_lora()
        network.unload_lora()
        network.peft_config = {}
    kept_in(network, precision_of(network))  # what was trained is float32
    return network.requires_grad_(False).eval()


class ChangedPart(nn.Module):
    """What adaptation changes of ``network``, to be saved and loaded by itself: low-rank changes, new parts and ends."""

    def __init__(self, network: ProphetTransformer) -> None:
        super().__init__()
        self.network = network

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:  # type: ignore[override]  # a part, under the whole's names
        return {name: value for name, value in self.network.state_dict().items() if _is_changed(name)}

    def load_state_dict(self, state: Mapping[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Fill the part.

        Raises:
            RuntimeError: other names or shapes, as torch's own.
        """
        own = self.state_dict()
        if own.keys() != state.keys():
            odd = sorted(own.keys() ^ state.keys())
            raise RuntimeError(f"{odd[0]} is {'missing' if odd[0] in own else 'unknown'} ({len(odd)} such)")
        _in_float32(self.network, [name for name, value in state.items() if value.dtype == torch.float32])
        self.network.load_state_dict(dict(state), strict=False)


def _is_low_rank(name: str) -> bool:
    return ".lora_" in name


def _is_changed(name: str) -> bool:
    return _is_low_rank(name) or name.split(".", maxsplit=1)[0] in (*NEW_PARTS, *ENDS)


def _in_float32(network: nn.Module, names: list[str] | None = None) -> None:
    """Make what is trained float32, or what ``names`` say."""
    for name, parameter in network.named_parameters():
        if parameter.requires_grad if names is None else name in names:
            parameter.data = parameter.data.float()
