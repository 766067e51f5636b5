"""A base model of the real classes with few random weights, saved as a diffusers folder."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, CosmosTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

CHANNELS, IMAGE, CELL = 8, 32, 8
SIZES = {
    "in_channels": CHANNELS + 1,
    "out_channels": CHANNELS,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "mlp_ratio": 2.0,
    "text_embed_dim": 24,
    "adaln_lora_dim": 8,
    "max_size": (16, 16, 16),
    "patch_size": (1, 2, 2),
    "rope_scale": (1.0, 3.0, 3.0),
    "concat_padding_mask": True,
    "extra_pos_embed_type": None,
}


def tiny_transformer(seed: int = 0, **changes) -> CosmosTransformer3DModel:
    torch.manual_seed(seed)
    return CosmosTransformer3DModel(**SIZES | changes).eval()


def tiny_vae(seed: int = 0, **changes) -> AutoencoderKLWan:
    torch.manual_seed(seed)
    statistics = {"latents_mean": [0.1 * i for i in range(CHANNELS)], "latents_std": [0.5 + 0.1 * i for i in range(CHANNELS)]}
    return AutoencoderKLWan(**{"base_dim": 16, "z_dim": CHANNELS, "num_res_blocks": 1} | statistics | changes).eval()


def save_base(folder: Path, seed: int = 0, shard: str = "10GB", **changes) -> Path:
    """``changes`` are of the transformer."""
    tiny_transformer(seed, **changes).save_pretrained(folder / "transformer", max_shard_size=shard)
    tiny_vae(seed).save_pretrained(folder / "vae")
    return folder


def save_text(folder: Path, seed: int = 0, width: int = SIZES["text_embed_dim"]) -> Path:
    """A text encoder and its tokenizer, beside the base model."""
    words = ["<pad>", "</s>", "<unk>", "push", "the", "button", "open", "drawer"]
    known = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    known.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=known, **special).save_pretrained(folder / "tokenizer")
    torch.manual_seed(seed)
    sizes = {"vocab_size": 16, "d_model": width, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu")).save_pretrained(folder / "text_encoder")
    return folder
