"""Encoded episodes on disk: read where they are known, never out of date, never half."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

from tests.world_model.conftest import square_episode
from world_model.latent_cache import LatentCache, encode_all
from world_model.latent_scale import LatentScale


@pytest.fixture
def count(monkeypatch):
    """How often pictures are encoded."""
    from world_model.checkpoint import Prophet

    calls, encode = [], Prophet.encode

    def counted(self, images):
        calls.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(Prophet, "encode", counted)
    return calls


def same(ours, theirs, tolerance: float) -> None:
    assert (ours.name, ours.rate_hz) == (theirs.name, theirs.rate_hz)
    for name in ("deltas", "poses", "mask", "arcs"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert ours.frames.dtype == torch.float32
    torch.testing.assert_close(ours.frames, theirs.frames, rtol=tolerance, atol=tolerance)
    assert ours.clips is None
    assert ours.drawn is None


def test_the_second_time_is_read_and_nearly_the_same(prophet, episodes, tmp_path, count):
    views = [(episode, "front") for episode in episodes[:3]]
    direct = list(encode_all(prophet, views, None, progress=False))
    first = list(encode_all(prophet, views, LatentCache(tmp_path / "made", prophet), progress=False))
    assert len(count) == 6
    read = list(encode_all(prophet, views, LatentCache(tmp_path / "made", prophet), progress=False))
    assert len(count) == 6
    for a, b, c in zip(direct, first, read, strict=True):
        same(b, a, 1e-3)
        same(c, b, 0.0)
    assert not list((tmp_path / "made").glob("*.partial"))


def test_whatever_changes_the_latents_is_encoded_anew(prophet, tmp_path, count):
    episode = square_episode(0)
    LatentCache(tmp_path, prophet).encode(prophet, episode, "front")
    painted = {"front": episode.images["front"].copy()}
    painted["front"][3, 0, 0, 0] ^= 1
    moved = episode.deltas.copy()
    moved[2, 1] += 1e-3
    changed = [
        (prophet, dataclasses.replace(episode, images=painted)),
        (prophet, dataclasses.replace(episode, deltas=moved)),
        (prophet, dataclasses.replace(episode, name="another")),
        (prophet.replace(scale=LatentScale((0.0,) * 8, (2.0,))), episode),
        (prophet.replace(settings=dataclasses.replace(prophet.settings, chunk_length=4)), episode),
        (prophet.replace(domains={"square": dataclasses.replace(prophet.domain, rate_hz=99.0)}), episode),
    ]
    for model, other in changed:
        LatentCache(tmp_path, model).encode(model, other, "front")
    with torch.no_grad():
        prophet.tokenizer.mean_colour.add_(0.1)
    LatentCache(tmp_path, prophet).encode(prophet, episode, "front")
    assert len(count) == 2 + len(changed)
    assert len(list(tmp_path.iterdir())) == 2 + len(changed)


@pytest.mark.parametrize("damage", ["cut", "emptied", "not numbers"])
def test_a_damaged_file_is_made_anew_with_one_warning(damage, prophet, tmp_path, caplog, count):
    episode = square_episode(0)
    cache = LatentCache(tmp_path, prophet)
    whole = cache.encode(prophet, episode, "front")
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    if damage == "not numbers":
        from world_model.latent_cache import _write

        _write(path, dataclasses.replace(whole, frames=torch.full_like(whole.frames, np.nan)))
    else:
        path.write_bytes(content[:-50] if damage == "cut" else b"")
    with caplog.at_level(logging.WARNING):
        same(cache.encode(prophet, episode, "front"), whole, 0.0)
        same(cache.encode(prophet, episode, "front"), whole, 0.0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "square.0000" in caplog.text
    assert path.read_bytes() == content
    assert len(count) == 2


def test_an_interrupted_write_leaves_nothing_that_is_read(prophet, tmp_path, monkeypatch, count):
    def interrupted(*_):
        raise KeyboardInterrupt

    cache, episode = LatentCache(tmp_path, prophet), square_episode(0)
    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.encode(prophet, episode, "front")
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.safetensors"))
