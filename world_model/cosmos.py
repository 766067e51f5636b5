"""Prophet on Cosmos-Predict2-Video2World: its sizes read from the base model's configuration, its weights key for key.

What is true of the base but stands in none of its files is told here; it was read from diffusers' pipeline of the model
(``Cosmos2VideoToWorldPipeline``). Time goes from t = 1 noise to t = 0 data, x_t = (1 - t) x_0 + t noise, the network is told t
itself and predicts the velocity noise - x_0 (with sigma = t / (1 - t) and the latents scaled by 1 + sigma, the pipeline's
x_0 = (1 - t) latents - t velocity is our x_t - t velocity). Given frames are clean and carry sigma = 1e-4. An instruction of no
words is tokens of zeros, which is what our learned constant begins with.
"""

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import CosmosTransformer3DModel

from robot_stack.core.errors import BadFileError, ProphRLError
from world_model.base_model import TRANSFORMER, check_fit, read_config, read_weights
from world_model.lora import NEW_PARTS
from world_model.precision import BFLOAT16, FLOAT32, PRECISIONS
from world_model.prophet import ProphetTransformer
from world_model.sizes import VELOCITY, BackboneSettings, ProphetSettings, make_transformer
from world_model.tokenizer import Tokenizer
from world_model.wan_tokenizer import WanTokenizer, read_wan

GIVEN_SIGMA = 1e-4
UNSUPPORTED = {
    "img_context_dim_in": "looks at pictures beside the video",
    "controlnet_block_every_n": "takes residuals of a control network",
    "use_crossattn_projection": "projects the features of another text encoder",
    "extra_pos_embed_type": "has learned positions (Cosmos 1.0)",
}


@dataclass(frozen=True)
class CosmosSettings:
    """Which base model, and how it is used.

    Attributes:
        place: local diffusers folder, or a hub name, which is fetched when it is first needed.
        image_size: height and width of the frames [px].
        precision: "bfloat16": half the memory, for GPUs; "float32": for CPUs.
        text: instructions are embedded by the base model's text encoder; otherwise a learned constant stands for all of them.
    """

    place: str
    image_size: int = 256
    precision: str = BFLOAT16
    text: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")


def read_backbone(folder: Path) -> BackboneSettings:
    """Sizes of the transformer in ``folder`` of a base model (its ``transformer/``).

    Raises:
        BadFileError: no such configuration, or of a kind that Prophet cannot stand on.
    """
    path = folder / TRANSFORMER / "config.json"
    given = read_config(folder / TRANSFORMER, CosmosTransformer3DModel.__name__)
    standard = {name: entry.default for name, entry in inspect.signature(CosmosTransformer3DModel.__init__).parameters.items()}
    config: dict[str, Any] = {name: given.get(name, value) for name, value in standard.items()}
    problems = [f"it {what}" for name, what in UNSUPPORTED.items() if config[name]]
    time, rows, columns = config["patch_size"]
    if time != 1 or rows != columns:
        problems.append(f"its patches are {config['patch_size']}, expected [1, p, p]")
    if config["in_channels"] != config["out_channels"] + 1:
        problems.append(
            f"it takes {config['in_channels']} channels, expected {config['out_channels'] + 1}: latents and which frames are "
            "given (a video2world model)"
        )
    if problems:
        raise BadFileError(path, f"Prophet cannot stand on this model: {'; '.join(problems)}")
    try:
        return BackboneSettings(
            heads=config["num_attention_heads"],
            head_width=config["attention_head_dim"],
            layers=config["num_layers"],
            lora_width=config["adaln_lora_dim"],
            mlp_ratio=config["mlp_ratio"],
            text_width=config["text_embed_dim"],
            patch=rows,
            rope_scale=tuple(config["rope_scale"]),
            padding_mask=config["concat_padding_mask"],
            learned_positions=False,
            time_scale=1.0,
            given_time=GIVEN_SIGMA / (1.0 + GIVEN_SIGMA),
            knows_rate=True,
        )
    except (TypeError, ValueError) as error:
        raise BadFileError(path, f"describes no transformer: {error}") from error


def on_base(settings: ProphetSettings, folder: Path) -> ProphetSettings:
    """``settings`` with the base model's sizes in place of their own.

    Raises:
        ProphRLError: they ask for what the base model was not trained for.
    """
    if settings.prediction != VELOCITY or settings.anchor:
        raise ProphRLError(f"a Prophet on Cosmos needs prediction={VELOCITY} and anchor=false: so it was trained")
    return dataclasses.replace(settings, backbone=read_backbone(folder))


def read_cosmos(
    folder: Path, settings: ProphetSettings, image_size: int, precision: str = FLOAT32
) -> tuple[WanTokenizer, ProphetTransformer]:
    """Tokenizer and transformer of a base model; what is new in the transformer is as for any untrained Prophet.

    Args:
        settings: see ``on_base``.

    Raises:
        BadFileError: files that are missing, damaged or do not fit each other.
    """
    tokenizer = read_wan(folder, image_size)
    return tokenizer, read_transformer(folder, settings, tokenizer, precision)


def read_transformer(folder: Path, settings: ProphetSettings, tokenizer: Tokenizer, precision: str) -> ProphetTransformer:
    """The transformer in ``folder``; see ``read_cosmos``."""
    shape = tokenizer.shape
    sizes = (shape.channels, shape.size, shape.temporal_factor, precision)
    with torch.device("meta"):  # the base's random weights would only be replaced
        network = make_transformer(settings, *sizes)
    expected = {name: value.shape for name, value in network.state_dict().items()}
    weights = read_weights(folder / TRANSFORMER, PRECISIONS[precision])
    check_fit(folder / TRANSFORMER, expected, weights, NEW_PARTS)
    network.load_state_dict(weights | _new_parts(settings, sizes, expected), assign=True)
    return network.requires_grad_(False).eval()


def _new_parts(
    settings: ProphetSettings, sizes: tuple[int, int, int, str], expected: dict[str, torch.Size]
) -> dict[str, torch.Tensor]:
    """What the base model lacks, drawn in a network of one layer: only the gates, which are zero, know how many there are."""
    small = dataclasses.replace(settings, backbone=dataclasses.replace(settings.backbone, layers=1))
    drawn = {name: v for name, v in make_transformer(small, *sizes).state_dict().items() if name.split(".")[0] in NEW_PARTS}
    return {name: value if value.shape == expected[name] else value.new_zeros(expected[name]) for name, value in drawn.items()}
