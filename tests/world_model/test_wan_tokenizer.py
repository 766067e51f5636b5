"""Laws of the causal video tokenizer, on its real classes with few random weights."""

import json

import pytest
import torch

from robot_stack.core.errors import BadFileError, ProphRLError, ShapeError
from tests.world_model.tiny_base import CHANNELS, IMAGE, save_base, tiny_vae
from world_model.wan_tokenizer import WanTokenizer, read_wan


@pytest.fixture(scope="module")
def tokenizer():
    return WanTokenizer(tiny_vae(), IMAGE)


def videos(frames: int, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, frames, IMAGE, IMAGE, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("frames", [1, 5, 9])
@torch.no_grad()
def test_four_frames_make_one_and_the_first_stands_alone(tokenizer, frames):
    clip = videos(frames)
    latents = tokenizer.encode(clip)
    assert latents.shape == (2, CHANNELS, 1 + (frames - 1) // 4, IMAGE // 8, IMAGE // 8)
    assert latents.shape[2] == tokenizer.shape.latent_frames(frames)
    assert tokenizer.decode(latents).shape == clip.shape
    torch.testing.assert_close(latents[:, :, 0], tokenizer.encode_frames(clip[:, :, 0]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_comes_later_does_not_change_what_was(tokenizer):
    clip = videos(9)
    other = torch.cat([clip[:, :, :5], 1.0 - clip[:, :, 5:]], dim=2)
    ours, theirs = tokenizer.encode(clip), tokenizer.encode(other)
    torch.testing.assert_close(ours[:, :, :2], theirs[:, :, :2], rtol=1e-4, atol=1e-5)
    assert (ours[:, :, 2] - theirs[:, :, 2]).abs().max() > 1e-3


@torch.no_grad()
def test_latents_are_the_posteriors_mode_of_pixels_around_zero(tokenizer):
    clip = videos(5)
    expected = tiny_vae().encode(2.0 * clip - 1.0).latent_dist.mean
    torch.testing.assert_close(tokenizer.encode(clip), expected, rtol=1e-4, atol=1e-5)
    pixels = tokenizer.decode(expected)
    assert pixels.min() >= 0.0
    assert pixels.max() <= 1.0
    torch.testing.assert_close(2.0 * pixels - 1.0, tiny_vae().decode(expected).sample, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_batches_are_cut_to_bound_memory_without_a_trace(tokenizer, monkeypatch):
    clip = videos(5, batch=3)
    whole = tokenizer.encode(clip)
    monkeypatch.setattr("world_model.wan_tokenizer.PIXELS_AT_ONCE", 1)
    torch.testing.assert_close(tokenizer.encode(clip), whole, rtol=1e-4, atol=1e-5)
    assert tokenizer.decode(whole).shape == clip.shape


def test_clips_that_do_not_fit_are_refused(tokenizer):
    for frames in (2, 4, 8):
        with pytest.raises(ShapeError, match="multiple of 4"):
            tokenizer.encode(videos(frames))
    with pytest.raises(ShapeError, match="32"):
        tokenizer.encode(torch.zeros(1, 3, 1, IMAGE, IMAGE + 8))
    with pytest.raises(ProphRLError, match="multiple of 8"):
        WanTokenizer(tiny_vae(), IMAGE + 1)


def test_it_is_never_trained(tokenizer):
    assert not tokenizer.train().vae.training
    assert not any(parameter.requires_grad for parameter in tokenizer.parameters())


def test_other_kinds_and_damaged_files_are_refused(tmp_path):
    folder = save_base(tmp_path)
    assert read_wan(folder, IMAGE).statistics[1][1] == pytest.approx(0.6)
    path = folder / "vae" / "config.json"
    known = json.loads(path.read_text())
    for changes, problem in (
        ({"temperal_downsample": [False, False, True]}, "missing|unknown|2 frames"),
        ({"latents_std": [1.0]}, "8 numbers"),
        ({"_class_name": "AutoencoderKL"}, "expected a AutoencoderKLWan"),
        ({"base_dim": 24}, "shape"),
    ):
        path.write_text(json.dumps(known | changes))
        with pytest.raises(BadFileError, match=problem):
            read_wan(folder, IMAGE)
    path.write_text("{")
    with pytest.raises(BadFileError, match="config"):
        read_wan(folder, IMAGE)
