"""Which weights a checkpoint of Prophet holds itself, and which it takes from the base model that it names.

The tokenizer of a base model stays where it is. Of a transformer whose low-rank changes were not merged, only what was changed
is kept (see ``LoraSettings.merge``). Everything else is in the checkpoint.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from world_model.autoencoder import Autoencoder, AutoencoderSettings
from world_model.base_model import BaseModel, find_base
from world_model.cosmos import read_transformer
from world_model.lora import ChangedPart, add_low_rank, low_rank_of
from world_model.precision import FLOAT32, precision_of
from world_model.prophet import ProphetTransformer
from world_model.sizes import ProphetSettings, make_transformer
from world_model.text import TEXT_PARTS, TextEncoder
from world_model.tokenizer import Tokenizer
from world_model.wan_tokenizer import WanTokenizer, read_wan

TOKENIZER = "tokenizer"
TRANSFORMER = "prophet"
STEMS = (TOKENIZER, TRANSFORMER)


@dataclass(frozen=True)
class Networks:
    """Both networks, and where what they do not keep themselves comes from.

    Attributes:
        tokenizer, transformer: see ``Prophet``.
        base: None where there is none.
        text: reads instructions; None without.
    """

    tokenizer: Tokenizer
    transformer: ProphetTransformer
    base: BaseModel | None
    text: TextEncoder | None = None

    def kept(self) -> dict[str, nn.Module]:
        """What the checkpoint itself holds, by the stem of its file."""
        apart = self.base is not None and low_rank_of(self.transformer) is not None
        kept: dict[str, nn.Module] = {TRANSFORMER: ChangedPart(self.transformer) if apart else self.transformer}
        return kept if self.base is not None else {TOKENIZER: self.tokenizer, **kept}

    def as_mapping(self) -> dict[str, Any]:
        """Plain data, for the manifest."""
        described: dict[str, Any] = {"precision": precision_of(self.transformer)}
        if isinstance(self.tokenizer, Autoencoder):
            described["autoencoder"] = dataclasses.asdict(self.tokenizer.settings)
        if self.base is not None:
            assert isinstance(self.tokenizer, WanTokenizer)
            described["base"] = dataclasses.asdict(self.base) | {"image_size": self.tokenizer.shape.image_size}
            described["text"] = self.text is not None
            if (size := low_rank_of(self.transformer)) is not None:
                described["lora"] = {"rank": size[0], "alpha": size[1]}
        return described

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], settings: ProphetSettings, texts: Path) -> "Networks":
        """Networks into which what ``kept`` names still has to be read; the rest is there.

        Args:
            texts: folder where embedded instructions are kept.

        Raises:
            BadFileError: the base model is nowhere.
            SpecMismatchError: it is another one now.
        """
        precision = mapping.get("precision", FLOAT32)
        if mapping.get("base") is None:
            tokenizer: Tokenizer = Autoencoder(AutoencoderSettings(**mapping["autoencoder"]))
            return cls(tokenizer, transformer_for(settings, tokenizer, precision), None)
        described = dict(mapping["base"])
        image_size = described.pop("image_size")
        base = BaseModel(**described)
        folder = base.folder()
        tokenizer = read_wan(folder, image_size)
        text = None
        if mapping.get("text"):
            text = TextEncoder(find_base(base.place, TEXT_PARTS), settings.backbone.text_width, texts)
        if mapping.get("lora") is None:
            return cls(tokenizer, transformer_for(settings, tokenizer, precision), base, text)
        transformer = read_transformer(folder, settings, tokenizer, precision)
        add_low_rank(transformer, **mapping["lora"])
        return cls(tokenizer, transformer, base, text)


def transformer_for(settings: ProphetSettings, tokenizer: Tokenizer, precision: str = FLOAT32) -> ProphetTransformer:
    """An untrained transformer for the latents of ``tokenizer``."""
    shape = tokenizer.shape
    return make_transformer(settings, shape.channels, shape.size, shape.temporal_factor, precision)
