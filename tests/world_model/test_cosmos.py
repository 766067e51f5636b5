"""Prophet on a base model of Cosmos' own classes: the same weights, the same denoising, and what is refused."""

import dataclasses
import json

import pytest
import torch
from diffusers import Cosmos2VideoToWorldPipeline, CosmosTransformer3DModel, FlowMatchEulerDiscreteScheduler

from robot_stack.core.errors import BadFileError, ProphRLError, SpecMismatchError
from tests.world_model.tiny_base import CELL, CHANNELS, IMAGE, save_base, tiny_transformer, tiny_vae
from world_model.action_layout import SLOTS
from world_model.base_model import BaseModel, find_base
from world_model.condition import Condition, HistoryFrames
from world_model.cosmos import on_base, read_backbone, read_cosmos
from world_model.denoiser import predict_clean
from world_model.lora import NEW_PARTS
from world_model.precision import BFLOAT16
from world_model.sampler import SamplerSettings, sample
from world_model.sizes import VELOCITY, HistorySettings, ProphetSettings, make_transformer

CHUNK, TO_COME, RATE = 8, 2, 10.0
SETTINGS = ProphetSettings(
    chunk_length=CHUNK, history=HistorySettings(frames=3, span=8), action_width=16, prediction=VELOCITY, anchor=False
)
# Of Cosmos-Predict2-2B-Video2World, as diffusers' conversion script (scripts/convert_cosmos_to_diffusers.py) writes it.
FULL = {
    "in_channels": 17,
    "out_channels": 16,
    "num_attention_heads": 16,
    "attention_head_dim": 128,
    "num_layers": 28,
    "mlp_ratio": 4.0,
    "text_embed_dim": 1024,
    "adaln_lora_dim": 256,
    "max_size": [128, 240, 240],
    "patch_size": [1, 2, 2],
    "rope_scale": [1.0, 3.0, 3.0],
    "concat_padding_mask": True,
    "extra_pos_embed_type": None,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def base(folder):
    return read_cosmos(folder, on_base(SETTINGS, folder), IMAGE)


def a_condition(batch: int, text: torch.Tensor | None = None, history: bool = False) -> Condition:
    random = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=random)  # noqa: E731
    past = HistoryFrames(
        draw(batch, 3, CHANNELS, 4, 4), torch.tensor([[2, 4, 7]] * batch), torch.ones(batch, 3, dtype=torch.bool)
    )
    return Condition(
        draw(batch, CHUNK, SLOTS),
        draw(batch, 1 + CHUNK, SLOTS),
        torch.ones(batch, SLOTS),
        history=past,
        text=text,
        rate_hz=RATE,
    )


def test_weights_load_key_for_key_and_only_our_parts_are_new(base):
    ours, theirs = base[1].state_dict(), tiny_transformer().state_dict()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert {name.split(".")[0] for name in ours.keys() - theirs.keys()} <= set(NEW_PARTS)
    assert not any(value.is_meta for value in ours.values())


def test_shards_hold_the_same_weights(tmp_path):
    sharded = save_base(tmp_path, shard="100KB")
    assert len(list((sharded / "transformer").glob("*.safetensors"))) > 1
    ours = read_cosmos(sharded, on_base(SETTINGS, sharded), IMAGE)[1].state_dict()
    assert all(torch.equal(ours[name], value) for name, value in tiny_transformer().state_dict().items())


def test_denoising_equals_the_pipeline_of_the_base_model(base):
    """diffusers' own pipeline denoises; at every step our x_0 of its latents leads where it goes."""
    pipeline = Cosmos2VideoToWorldPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=tiny_transformer(),
        vae=tiny_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
        safety_checker=tiny_vae(),  # it wants any model there; latents are not looked at
    )
    pipeline.set_progress_bar_config(disable=True)
    text = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(1))
    picture = torch.rand(1, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(2))
    video = pipeline.video_processor.preprocess(picture, IMAGE, IMAGE).unsqueeze(2)
    begun, given, *_ = pipeline.prepare_latents(
        video, 1, CHANNELS, IMAGE, IMAGE, 1 + CHUNK, False, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(0)
    )
    passed = [begun]
    pipeline(
        image=picture,
        prompt_embeds=text,
        height=IMAGE,
        width=IMAGE,
        num_frames=1 + CHUNK,
        num_inference_steps=5,
        guidance_scale=1.0,
        fps=RATE,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        callback_on_step_end=lambda _, __, ___, kept: passed.append(kept["latents"]) or {},
    )
    sigmas = pipeline.scheduler.sigmas
    assert len(passed) == len(sigmas) == 6
    condition = a_condition(1, text)
    for i in range(5):
        t = sigmas[i] / (1.0 + sigmas[i])
        before, after = passed[i][:, :, 1:], passed[i + 1][:, :, 1:]
        x_0 = predict_clean(base[1], SETTINGS, before * (1.0 - t), t[None], given[:, :, :1], condition)
        expected = before + (sigmas[i + 1] - sigmas[i]) * (before - x_0) / sigmas[i]
        torch.testing.assert_close(after, expected, rtol=2e-4, atol=2e-5)
    assert (passed[1] - passed[0]).abs().max() > 1.0  # it moved


def test_few_steps_are_eulers_along_the_velocity(base):
    """Our sampler's steps, of x_0 and noise, are dx/dt = v for this parametrisation."""
    network = base[1]
    random = torch.Generator().manual_seed(0)
    noise, context = (
        torch.randn(2, CHANNELS, TO_COME, 4, 4, generator=random),
        torch.randn(2, CHANNELS, 1, 4, 4, generator=random),
    )
    condition = a_condition(2)
    drawn = sample(network, SETTINGS, noise, context, condition, SamplerSettings(steps=4))
    x_t = noise
    with torch.no_grad():
        for t in (1.0, 0.75, 0.5, 0.25):
            x_t = x_t - 0.25 * network(x_t, torch.full((2,), t), context, condition)
    torch.testing.assert_close(drawn, x_t, rtol=1e-4, atol=1e-5)


def test_actions_and_history_change_nothing_at_the_start(base):
    network = base[1]
    random = torch.Generator().manual_seed(0)
    x_t, context = (
        torch.randn(2, CHANNELS, TO_COME, 4, 4, generator=random),
        torch.randn(2, CHANNELS, 1, 4, 4, generator=random),
    )
    t, condition = torch.tensor([0.3, 0.9]), a_condition(2)
    other = dataclasses.replace(condition, deltas=-condition.deltas, poses=-condition.poses)
    with torch.no_grad():
        assert torch.equal(network(x_t, t, context, condition), network(x_t, t, context, other))


def test_sixteen_bits_take_and_give_float32_and_stay_close(folder, base):
    lean = read_cosmos(folder, on_base(SETTINGS, folder), IMAGE, BFLOAT16)[1]
    assert {value.dtype for value in lean.parameters()} == {torch.bfloat16}
    random = torch.Generator().manual_seed(0)
    x_t, context = (
        torch.randn(2, CHANNELS, TO_COME, 4, 4, generator=random),
        torch.randn(2, CHANNELS, 1, 4, 4, generator=random),
    )
    arguments = (x_t, torch.tensor([0.3, 0.9]), context, a_condition(2))
    with torch.no_grad():
        rounded, exact = lean(*arguments), base[1](*arguments)
        drawn = sample(lean, SETTINGS, x_t, context, a_condition(2), SamplerSettings(steps=2))
    assert rounded.dtype == drawn.dtype == torch.float32
    assert (rounded - exact).square().mean() < 1e-3 * exact.square().mean()


def test_the_full_model_has_the_base_models_shapes(tmp_path, capsys):
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"_class_name": "CosmosTransformer3DModel"} | FULL))
    settings = on_base(dataclasses.replace(SETTINGS, chunk_length=20), tmp_path)
    with torch.device("meta"):
        theirs = CosmosTransformer3DModel(**FULL)
        ours = make_transformer(settings, 16, 256 // CELL, 4)
    expected = {name: value.shape for name, value in theirs.state_dict().items()}
    found = {name: value.shape for name, value in ours.state_dict().items()}
    assert {name: found[name] for name in expected} == expected
    assert {name.split(".")[0] for name in found.keys() - expected.keys()} <= set(NEW_PARTS)
    count = sum(value.numel() for value in theirs.parameters())
    print(f"base model {count:,} parameters, Prophet {sum(value.numel() for value in ours.parameters()):,}")
    assert 1.9e9 < count < 2.1e9


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"in_channels": CHANNELS}, "channels"),
        ({"patch_size": (2, 2, 2), "in_channels": CHANNELS + 1}, "patches"),
        ({"img_context_dim_in": 8, "img_context_dim_out": 24}, "pictures"),
        ({"extra_pos_embed_type": "learnable"}, "learned positions"),
        ({"use_crossattn_projection": True}, "text encoder"),
        ({"controlnet_block_every_n": 1}, "control network"),
    ],
)
def test_other_kinds_of_transformers_are_refused(changes, problem, tmp_path):
    tiny_transformer(**changes).save_pretrained(tmp_path / "transformer")
    with pytest.raises(BadFileError, match=problem):
        read_backbone(tmp_path)


def test_settings_that_the_base_was_not_trained_for_are_refused(folder):
    with pytest.raises(ProphRLError, match="velocity"):
        on_base(dataclasses.replace(SETTINGS, anchor=True), folder)


def test_bad_folders_are_refused_by_name(tmp_path, folder):
    with pytest.raises(BadFileError, match="no such folder"):
        find_base(str(tmp_path / "nowhere" / "at" / "all"))
    whole = save_base(tmp_path / "whole")
    weights = whole / "transformer" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(BadFileError, match="safetensors"):
        read_cosmos(whole, on_base(SETTINGS, whole), IMAGE)
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(BadFileError, match="safetensors are read only"):
        read_cosmos(whole, on_base(SETTINGS, whole), IMAGE)
    weights.write_bytes(content)
    config = whole / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_layers": 3}))
    with pytest.raises(BadFileError, match=r"transformer_blocks\.2.* is missing"):
        read_cosmos(whole, on_base(SETTINGS, whole), IMAGE)


def test_the_hub_is_not_asked_where_that_is_forbidden(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadFileError, match="HF_HUB_OFFLINE"):
        find_base("nvidia/Cosmos-Predict2-2B-Video2World")


def test_another_base_model_is_told_apart(tmp_path):
    place = save_base(tmp_path / "base")
    known = BaseModel.of_place(str(place))
    assert known.folder() == place
    save_base(tmp_path / "base", seed=1)
    with pytest.raises(SpecMismatchError, match="transformer"):
        known.folder()


def test_what_the_hub_gave_before_is_found_without_it(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    known = tmp_path / "models--someone--a-model"
    save_base(known / "snapshots" / ("0" * 40))
    (known / "refs").mkdir()
    (known / "refs" / "main").write_text("0" * 40)
    folder = find_base("someone/a-model")
    assert read_backbone(folder).layers == 2
    assert BaseModel.of_place("someone/a-model").folder() == folder
