"""Instructions through the base model's own encoder: as its pipeline embeds them, once, and kept."""

import logging

import pytest
import torch
from diffusers import Cosmos2VideoToWorldPipeline, FlowMatchEulerDiscreteScheduler
from transformers import AutoTokenizer, T5EncoderModel

from robot_stack.core.errors import BadFileError, ProphRLError
from tests.world_model.tiny_base import save_text, tiny_transformer, tiny_vae
from world_model.text import LENGTH, TextEncoder, read_text_encoder

WIDTH = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_text(tmp_path_factory.mktemp("base"))


@pytest.fixture
def count(monkeypatch):
    """How often the encoder runs."""
    calls, forward = [], T5EncoderModel.forward

    def counted(self, *arguments, **named):
        calls.append(1)
        return forward(self, *arguments, **named)

    monkeypatch.setattr(T5EncoderModel, "forward", counted)
    return calls


def test_embeddings_are_those_of_the_base_models_pipeline(folder):
    pipeline = Cosmos2VideoToWorldPipeline(
        text_encoder=T5EncoderModel.from_pretrained(folder / "text_encoder"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        transformer=tiny_transformer(),
        vae=tiny_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        safety_checker=tiny_vae(),
    )
    for instruction in ("push the button", "open the drawer"):
        expected, _ = pipeline.encode_prompt(instruction, do_classifier_free_guidance=False)
        torch.testing.assert_close(TextEncoder(folder, WIDTH)(instruction), expected.detach(), rtol=1e-4, atol=1e-5)
        assert expected.shape == (1, LENGTH, WIDTH)


def test_an_instruction_is_encoded_once_and_kept(folder, tmp_path, count):
    encoder = TextEncoder(folder, WIDTH, tmp_path)
    first = encoder("push the button")
    assert torch.equal(encoder("push the button"), first)
    assert torch.equal(TextEncoder(folder, WIDTH, tmp_path)("push the button"), first)
    assert len(count) == 1
    assert not torch.equal(encoder("open the drawer"), first)
    assert len(count) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_another_encoder_does_not_read_what_was_kept(folder, tmp_path, count):
    first = TextEncoder(folder, WIDTH, tmp_path / "kept")("push the button")
    other = TextEncoder(save_text(tmp_path / "other", seed=1), WIDTH, tmp_path / "kept")("push the button")
    assert len(count) == 2
    assert not torch.allclose(first, other)


def test_a_damaged_file_is_made_anew_with_one_warning(folder, tmp_path, caplog):
    first = TextEncoder(folder, WIDTH, tmp_path)("push the button")
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(TextEncoder(folder, WIDTH, tmp_path)("push the button"), first)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_base_without_text_encoder_is_said_and_others_are_refused(folder, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert read_text_encoder(tmp_path, WIDTH) is None
    assert "learned constant" in caplog.text
    with pytest.raises(BadFileError, match="24 numbers, the transformer takes 25"):
        read_text_encoder(folder, WIDTH + 1)
    with pytest.raises(ProphRLError, match="at most 512"):
        TextEncoder(folder, WIDTH)("push " * LENGTH)
    broken = save_text(tmp_path)
    (broken / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(BadFileError, match="safetensors are read only"):
        read_text_encoder(broken, WIDTH)
