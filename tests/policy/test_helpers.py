"""Shared helpers of the learners: normalisation, batches, averages, metrics, language."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from learning.batching import ChunkSampler
from learning.ema import Ema
from learning.episode import Episode
from learning.language import EMBEDDING_SIZE, _encoder, embed
from learning.metrics_log import MetricsLog, read_metrics
from learning.normalisation import Normaliser
from robot_stack.core.errors import BadFileError, ProphRLError, ShapeError, SpecMismatchError

VALUES = st.floats(-100.0, 100.0)


@given(arrays(float, (6, 3), elements=VALUES), arrays(float, (2, 5, 3), elements=VALUES))
def test_normalisation_there_and_back(rows: np.ndarray, physical: np.ndarray) -> None:
    normaliser = Normaliser.fit(rows, 0.01)
    np.testing.assert_allclose(normaliser.denormalise(normaliser.normalise(physical)), physical, atol=1e-9)
    tensor = torch.from_numpy(physical)
    np.testing.assert_allclose(normaliser.normalise(tensor).numpy(), normaliser.normalise(physical), rtol=1e-12, atol=1e-12)
    assert normaliser.normalise(tensor.float()).dtype == torch.float32
    assert normaliser.normalise(physical.astype(np.float32)).dtype == np.float32


def test_normalised_rows_have_unit_size_unless_they_hardly_vary() -> None:
    rows = np.random.default_rng(0).normal([1.0, 5.0], [2.0, 1e-6], (1000, 2))
    normaliser = Normaliser.fit(rows, np.array([0.1, 0.5]))
    normalised = normaliser.normalise(rows)
    np.testing.assert_allclose(normalised.mean(axis=0), 0.0, atol=1e-9)
    assert normalised.std(axis=0)[0] == pytest.approx(1.0)
    assert normaliser.std[1] == 0.5
    with pytest.raises(ShapeError):
        Normaliser.fit(np.zeros((0, 2)), 0.1)
    with pytest.raises(ValueError, match="positive std"):
        Normaliser(np.zeros(2), np.array([1.0, 0.0]))


def test_a_batch_holds_the_frame_and_the_actions_that_follow_it(episodes: list[Episode]) -> None:
    sampler = ChunkSampler(episodes, ["front"], 5, 64)
    assert len(sampler) == 36
    batch = sampler.gather([0, 10, 12])
    assert np.array_equal(batch.images[1, 0], episodes[0].images["front"][10])
    assert np.array_equal(batch.deltas[0], episodes[0].deltas[:5])
    assert np.array_equal(batch.deltas[1, :2], episodes[0].deltas[10:12])
    assert batch.valid.tolist() == [[True] * 5, [True, True, False, False, False], [True] * 5]
    assert not batch.deltas[1, 2:].any()
    assert np.array_equal(batch.state[2], episodes[1].state[0])
    assert batch.instructions == tuple(episodes[i].instruction for i in (0, 0, 1))


def test_draws_follow_the_weights_and_the_generator_alone(episodes: list[Episode]) -> None:
    sampler = ChunkSampler(episodes, ["front"], 5, 64, weights=[1.0, 1.0, 6.0])
    first, again = (sampler.draw(2000, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first.deltas, again.deltas)
    from_third = [(frame == episodes[2].images["front"]).all(axis=(1, 2, 3)).any() for frame in first.images[:, 0]]
    assert np.mean(from_third) == pytest.approx(0.75, abs=0.04)


def test_batches_refuse_what_they_cannot_use(episodes: list[Episode]) -> None:
    with pytest.raises(ProphRLError, match="no episodes"):
        ChunkSampler([], ["front"], 5, 64)
    with pytest.raises(SpecMismatchError, match="'wrist' is needed; the episode has \\['front'\\]"):
        ChunkSampler(episodes, ["wrist"], 5, 64)
    for weights in ([1.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0]):
        with pytest.raises(ProphRLError, match="positive weights"):
            ChunkSampler(episodes, ["front"], 5, 64, weights)


def test_fingerprint_changes_with_content(episodes: list[Episode]) -> None:
    def fingerprint(changed: Episode, weights: list[float] | None = None) -> str:
        return ChunkSampler([changed, *episodes[1:]], ["front"], 5, 64, weights).fingerprint

    first = episodes[0]
    same = fingerprint(first)
    assert fingerprint(dataclasses.replace(first)) == same
    images = {"front": first.images["front"] ^ np.uint8(1)}
    others = [
        fingerprint(dataclasses.replace(first, deltas=first.deltas + np.float32(1e-4))),
        fingerprint(dataclasses.replace(first, images=images)),
        fingerprint(dataclasses.replace(first, instruction="other")),
        fingerprint(first, [2.0, 1.0, 1.0]),
    ]
    assert len({same, *others}) == 5


def test_average_follows_the_closed_form() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = Ema(module, 0.9)
    nn.init.ones_(module.weight)
    expected = 0.0
    for n in range(200):
        average.update(module)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + 1.0 - decay
        assert float(average.module.weight) == pytest.approx(expected, abs=1e-6)
    assert not average.module.weight.requires_grad
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        Ema(module, 1.0)


def test_metrics_are_appended_continued_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "stage" / "metrics.csv"
    log = MetricsLog(path)
    for step in (10, 20, 30):
        log.add(step, {"loss": 1.0 / step, "lr": 1e-3})
    with path.open("a") as file:
        file.write("40,lo")  # killed while writing
    MetricsLog(path, resume_step=20).add(30, {"loss": 0.5})
    assert read_metrics(path) == [
        (10, "loss", 0.1),
        (10, "lr", 0.001),
        (20, "loss", 0.05),
        (20, "lr", 0.001),
        (30, "loss", 0.5),
    ]
    MetricsLog(path)
    assert read_metrics(path) == []
    path.write_text("time,reward\n1,2\n")
    with pytest.raises(BadFileError, match="step,name,value"):
        MetricsLog(path, resume_step=5)


def test_instructions_of_like_meaning_lie_close() -> None:
    texts = ["press the button", "push the button down", "open the drawer"]
    table = embed(texts)
    press, push, drawer = (table[text] for text in texts)
    assert press.shape == (EMBEDDING_SIZE,) and press.dtype == np.float32
    assert np.linalg.norm(press) == pytest.approx(1.0, abs=1e-5)
    assert press @ push > press @ drawer + 0.2
    assert np.array_equal(embed(texts[:1])[texts[0]], press)
    with pytest.raises(ProphRLError, match="empty"):
        embed(["  "])
    with pytest.raises(ProphRLError, match="at most 256"):
        embed(["button " * 300])


def test_embeddings_are_those_of_transformers() -> None:
    """Numbers written down from transformers 5.5 (AutoModel, mean pooling), whose import takes longer than all these tests."""
    text = "Press the button from above, then wait!"
    vector = embed([text])[text]
    known = [0.0055335, -0.0949640, -0.0603760, 0.0089343, 0.0397243, 0.0397883]
    np.testing.assert_allclose(vector[:6], known, atol=1e-6)
    assert float(vector.sum()) == pytest.approx(0.0171104, abs=1e-5)


def test_the_encoder_leaves_the_global_generator_alone() -> None:
    """A first policy's weights must not depend on whether the encoder was already loaded."""
    before = torch.random.get_rng_state()
    _encoder.cache_clear()
    embed(["push"])
    assert torch.equal(torch.random.get_rng_state(), before)
