"""Correlated noise: what stays standard normal, what hangs together, and what it depends on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.exploration_noise import NoiseCorrelation

EPISODES, CHUNKS, STEPS, LENGTH, NUMBERS = 1500, 2, 2, 3, 2
SPREAD = 5 / np.sqrt(EPISODES)  # five standard deviations of an estimated correlation


def draw(correlation: NoiseCorrelation, key: tuple[int | str, ...]) -> np.ndarray:
    """[chunks, K, H, A] of one episode."""
    return np.stack([correlation.draw(key, chunk, (STEPS, LENGTH, NUMBERS)) for chunk in range(CHUNKS)])


@pytest.mark.parametrize(("chunk", "episode"), [(0.0, 0.0), (0.3, 0.5), (0.6, 0.0), (0.0, 0.9)])
def test_each_number_is_standard_normal_and_shares_what_is_asked_for(chunk: float, episode: float) -> None:
    correlation = NoiseCorrelation(chunk, episode)
    noise = np.stack([draw(correlation, ("test", seed)) for seed in range(EPISODES)])
    assert noise.dtype == np.float32
    covariance = np.cov(noise.reshape(EPISODES, -1).T).reshape(2 * (CHUNKS, STEPS, LENGTH, NUMBERS))
    for c, k, h, a in np.ndindex(CHUNKS, STEPS, LENGTH, NUMBERS):
        expected = np.zeros((CHUNKS, STEPS, LENGTH, NUMBERS))
        expected[:, k, :, a] = episode
        expected[c, k, :, a] = episode + chunk
        expected[c, k, h, a] = 1.0
        assert np.abs(covariance[c, k, h, a] - expected).max() < 1.5 * SPREAD
    assert np.abs(noise.mean(axis=0)).max() < SPREAD


@given(st.integers(0, 2**31), st.integers(0, 100))
def test_the_same_key_draws_the_same_noise_and_another_draws_another(seed: int, chunk: int) -> None:
    correlation, shape = NoiseCorrelation(), (STEPS, LENGTH, NUMBERS)
    noise = correlation.draw(("a", seed), chunk, shape)
    assert (noise == correlation.draw(("a", seed), chunk, shape)).all()
    for other in (correlation.draw(("b", seed), chunk, shape), correlation.draw(("a", seed), chunk + 1, shape)):
        assert (noise != other).any()


@pytest.mark.parametrize(("chunk", "episode"), [(-0.1, 0.5), (0.5, 0.5), (0.9, 0.2), (float("nan"), 0.1)])
def test_shares_that_leave_nothing_are_refused(chunk: float, episode: float) -> None:
    with pytest.raises(ValueError, match="shares of the noise"):
        NoiseCorrelation(chunk, episode)
