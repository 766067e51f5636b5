"""A Prophet on a base model from training to imagination: what is saved, what is named, what is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from learning.fitting import FitSettings
from robot_stack.core.errors import BadFileError, ProphRLError, SpecMismatchError
from tests.world_model.conftest import dataset_of
from tests.world_model.tiny_base import CHANNELS, IMAGE, save_base, save_text
from world_model.checkpoint import Prophet, load_prophet, save_prophet, weights_hash
from world_model.cosmos import CosmosSettings
from world_model.denoiser import DenoiserSettings
from world_model.imagination import StartContext, replay
from world_model.imagined_env import ImaginedEnv
from world_model.judge import Judge, JudgeSettings, SuccessClassifier, tokenizer_hash
from world_model.latents import WindowSampler
from world_model.lora import LoraSettings
from world_model.precision import BFLOAT16, FLOAT32
from world_model.sampler import SamplerSettings
from world_model.settings import Phase, WorldModelSettings
from world_model.sizes import VELOCITY, HistorySettings, ProphetSettings
from world_model.train import new_prophet, train_prophet

FIT = FitSettings(steps=2, batch_size=2, lr=1e-2, warmup=0, log_every=1, ema_decay=0.5)
APART = LoraSettings(rank=2, alpha=2.0, merge=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"))


def settings_of(place, lora=APART, precision=FLOAT32, **changes) -> WorldModelSettings:
    phase = Phase(dataclasses.replace(FIT, steps=0), FIT, lora, self_forcing_after=1, **changes)
    return WorldModelSettings(
        autoencoder=None,
        transformer=ProphetSettings(
            chunk_length=4, history=HistorySettings(frames=2, span=6), action_width=16, prediction=VELOCITY, anchor=False
        ),
        pretrain=phase,
        adapt=phase,
        base=CosmosSettings(str(place), IMAGE, precision),
        denoiser=DenoiserSettings(self_forcing=1.0, self_forcing_chunks=1),
        sampler=SamplerSettings(steps=2),
        validation_every=4,
    )


def adapted(settings, spec, episodes, out):
    data = [dataset_of(episodes[:4], spec)]
    start = new_prophet(settings, data, seed=0)
    return train_prophet(start, data, settings, settings.adapt, out, run=0, note="test", from_nothing=True, progress=False)


def film(prophet, episodes):
    return replay(prophet, episodes[:2], SamplerSettings(steps=2))


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16])
@pytest.mark.parametrize("lora", [APART, LoraSettings(rank=2, alpha=2.0), None], ids=["apart", "merged", "full"])
def test_what_was_learnt_is_saved_and_loaded(lora, precision, place, spec, episodes, tmp_path):
    settings = settings_of(place, lora, precision)
    trained = adapted(settings, spec, episodes, tmp_path / "out")
    before = film(new_prophet(settings, [dataset_of(episodes[:4], spec)], seed=0), episodes)
    save_prophet(trained, tmp_path / "saved")
    loaded = load_prophet(tmp_path / "saved")
    imagined = film(loaded, episodes)
    assert imagined.dtype == torch.float32
    assert torch.equal(imagined, film(trained, episodes))
    assert (imagined - before).abs().max() > 1e-3
    assert loaded.base == trained.base
    kept = sum(file.stat().st_size for file in (tmp_path / "saved").glob("*.safetensors"))
    whole = sum(value.numel() * value.element_size() for value in trained.transformer.state_dict().values())
    assert not list((tmp_path / "saved").glob("tokenizer*"))
    assert (kept < 0.7 * whole) == (lora is APART)


def test_imagined_environment_steps_on_it(place, spec, episodes, tmp_path):
    """Trained as ``config/world_model/prophet_2b.yaml`` says: mixed precision, gradient checkpointing, changes kept apart."""
    settings = settings_of(place, precision=BFLOAT16, gradient_checkpointing=True)
    phase = dataclasses.replace(settings.adapt, prophet=dataclasses.replace(FIT, precision="bf16"))
    save_prophet(adapted(dataclasses.replace(settings, adapt=phase), spec, episodes, tmp_path), tmp_path)
    prophet = load_prophet(tmp_path)
    classifier = SuccessClassifier(JudgeSettings(width=8), CHANNELS, IMAGE // 8).eval()
    judge = Judge(classifier, JudgeSettings(width=8), 2.0, tokenizer_hash(prophet))
    starts = [StartContext.of_episode(episode, "front", 5, prophet.settings.span) for episode in episodes[:3]]
    env = ImaginedEnv(prophet, judge, starts, spec, SamplerSettings(steps=2))
    env.reset([0, 2])
    step = env.step(np.zeros((2, 4, len(spec.actions))))
    assert step.info["latents"].shape == (2, 4, CHANNELS, IMAGE // 8, IMAGE // 8)
    assert step.info["latents"].dtype == np.float32
    assert step.images.shape == (2, IMAGE, IMAGE, 3)
    assert np.isfinite(env.step(np.zeros((2, 4, len(spec.actions)))).info["scores"]).all()


def test_kept_latents_of_clips_teach_the_same_again(place, spec, episodes, tmp_path, monkeypatch):
    settings = dataclasses.replace(settings_of(place), latents=str(tmp_path / "latents"), validation_every=0)
    first = adapted(settings, spec, episodes, tmp_path / "first")
    assert len(list((tmp_path / "latents").iterdir())) == 4
    monkeypatch.setattr(Prophet, "encode_clips", None)  # nothing is encoded any more
    second = adapted(settings, spec, episodes, tmp_path / "second")
    for a, b in zip(first.transformer.parameters(), second.transformer.parameters(), strict=True):
        assert torch.equal(a, b)


def test_adaptation_goes_on_from_changes_kept_apart(place, spec, episodes, tmp_path):
    settings = settings_of(place)
    save_prophet(adapted(settings, spec, episodes, tmp_path / "first"), tmp_path / "first")
    data, start = [dataset_of(episodes[4:8], spec)], load_prophet(tmp_path / "first")
    before = film(start, episodes)
    again = train_prophet(start, data, settings, settings.adapt, tmp_path, run=1, note="", from_nothing=False, progress=False)
    assert not torch.equal(film(again, episodes), before)
    other = dataclasses.replace(settings.adapt, lora=dataclasses.replace(APART, rank=3))
    with pytest.raises(ProphRLError, match="rank 2"):
        train_prophet(again, data, settings, other, tmp_path / "x", run=1, note="", from_nothing=False, progress=False)


def test_another_base_or_none_is_refused_by_name(place, spec, episodes, tmp_path):
    copy = shutil.copytree(place, tmp_path / "base")
    save_prophet(new_prophet(settings_of(copy), [dataset_of(episodes[:4], spec)], seed=0), tmp_path / "new")
    save_prophet(adapted(settings_of(copy), spec, episodes, tmp_path / "out"), tmp_path / "apart")
    known = weights_hash(tmp_path / "apart")
    for folder in ("new", "apart"):
        save_base(copy, seed=1)
        with pytest.raises(SpecMismatchError, match=f"{copy}(.|\n)*transformer"):
            load_prophet(tmp_path / folder)
        shutil.rmtree(copy)
        with pytest.raises(BadFileError, match="no such folder"):
            load_prophet(tmp_path / folder)
        save_base(copy)
        load_prophet(tmp_path / folder)
    assert weights_hash(tmp_path / "apart") == known != weights_hash(tmp_path / "new")


def test_an_interrupted_save_leaves_the_checkpoint_before(place, spec, episodes, tmp_path, monkeypatch):
    settings = settings_of(place)
    first = adapted(settings, spec, episodes, tmp_path / "out")
    save_prophet(first, tmp_path / "saved")
    imagined = film(first, episodes)
    with torch.no_grad():
        for parameter in first.transformer.parameters():
            parameter.add_(0.1)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("world_model.checkpoint.replace_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_prophet(first, tmp_path / "saved")
    monkeypatch.undo()
    assert torch.equal(film(load_prophet(tmp_path / "saved"), episodes), imagined)
    manifest = json.loads((tmp_path / "saved" / "manifest.json").read_text())
    assert manifest["lora"] == {"rank": 2, "alpha": 2.0}


def test_a_damaged_or_foreign_change_is_refused(place, spec, episodes, tmp_path):
    save_prophet(adapted(settings_of(place), spec, episodes, tmp_path), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"lora": {"rank": 3, "alpha": 2.0}}))
    with pytest.raises(BadFileError, match="does not hold the weights"):
        load_prophet(tmp_path)


def test_changes_apart_from_nothing_are_refused(settings, spec, episodes, tmp_path):
    data = [dataset_of(episodes[:4], spec)]
    phase = dataclasses.replace(settings.adapt, lora=APART)
    with pytest.raises(ProphRLError, match="merge=false"):
        train_prophet(new_prophet(settings, data, 0), data, settings, phase, tmp_path, run=0, note="", from_nothing=True)


def test_gradient_checkpointing_gives_the_same_training(place, spec, episodes, tmp_path):
    results = [
        adapted(settings_of(place, lora, gradient_checkpointing=on), spec, episodes, tmp_path / f"{on}{lora is None}")
        for lora in (APART, None)
        for on in (False, True)
    ]
    for plain, saving in (results[:2], results[2:]):
        for (name, a), b in zip(plain.transformer.named_parameters(), saving.transformer.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


def test_instructions_are_read_in_training_and_imagination(place, spec, episodes, tmp_path):
    folder = save_text(shutil.copytree(place, tmp_path / "base"))
    settings = settings_of(folder)
    settings = dataclasses.replace(
        settings, base=dataclasses.replace(settings.base, text=True), latents=str(tmp_path / "latents"), validation_every=0
    )
    words = ("push the button", "open the drawer")
    told = [dataclasses.replace(episode, instruction=words[i % 2]) for i, episode in enumerate(episodes)]
    trained = adapted(settings, spec, told, tmp_path / "out")
    save_prophet(trained, tmp_path / "saved")
    loaded = load_prophet(tmp_path / "saved")
    imagined = film(loaded, told)
    assert torch.equal(imagined, film(trained, told))
    swapped = [dataclasses.replace(episode, instruction=words[(i + 1) % 2]) for i, episode in enumerate(told)]
    assert not torch.equal(film(loaded, swapped), imagined)
    window = WindowSampler([loaded.encode_episode(e) for e in told[:3]], loaded.settings, 4).cut(
        np.array([1, 2]), np.array([3, 3])
    )
    assert torch.equal(window.condition.text, torch.cat([loaded.text(words[1]), loaded.text(words[0])]))
    again = train_prophet(
        loaded, [dataset_of(told, spec)], settings, settings.adapt, tmp_path, run=1, note="", from_nothing=False, progress=False
    )
    assert again.text is not None
