"""Scores with a known relation to the errors: the same order, the opposite one, none, and one that only knows the time."""

import numpy as np
import pytest

from robot_stack.core.errors import ShapeError
from world_model.imagination import replay
from world_model.measure import imagined_videos
from world_model.sampler import SamplerSettings
from world_model.uncertainty import noise_disagreement, rollout_errors, uncertainty_figures, uncertainty_text

RANDOM = np.random.Generator(np.random.Philox(3))
ERRORS = np.column_stack([np.zeros(40), RANDOM.uniform(1, 2, size=(40, 12)) * np.arange(1, 13)])


def test_a_score_in_the_order_of_the_errors_is_perfect_and_its_opposite_is_not():
    same, opposite = uncertainty_figures(ERRORS**3, ERRORS), uncertainty_figures(-ERRORS, ERRORS)
    assert same.auroc.estimate == same.auroc_within.estimate == 1.0
    assert same.spearman.estimate == pytest.approx(1.0)
    assert opposite.auroc.estimate == opposite.auroc_within.estimate == 0.0
    assert opposite.spearman.upper == pytest.approx(-1.0)
    assert same.frames == 40 * 12  # without the given frame


def test_a_score_without_relation_has_one_half_inside_its_interval():
    figures = uncertainty_figures(RANDOM.normal(size=ERRORS.shape), ERRORS)
    assert figures.auroc.lower < 0.5 < figures.auroc.upper
    assert figures.spearman.lower < 0.0 < figures.spearman.upper


def test_a_score_that_knows_only_the_time_is_found_out():
    figures = uncertainty_figures(np.tile(np.arange(13.0), (40, 1)), ERRORS)
    assert figures.auroc.estimate > 0.8
    assert figures.auroc_within.estimate == 0.5


def test_few_rollouts_have_wider_intervals():
    noisy = ERRORS + RANDOM.normal(0, 20, size=ERRORS.shape)
    few, many = uncertainty_figures(noisy[:5], ERRORS[:5]).auroc, uncertainty_figures(noisy, ERRORS).auroc
    assert few.upper - few.lower > 1.5 * (many.upper - many.lower)


def test_shapes_are_checked():
    with pytest.raises(ShapeError):
        uncertainty_figures(ERRORS[:, :5], ERRORS)


def test_disagreement_of_two_draws(prophet, episodes):
    sampler = SamplerSettings()
    scores = noise_disagreement(prophet, episodes[:4], sampler)
    imagined = imagined_videos(prophet, episodes[:4], sampler)
    assert scores.shape == (4, len(imagined[0]))
    assert (scores[:, 0] == 0).all() and (scores[:, 1:] > 0).all()
    assert (noise_disagreement(prophet, episodes[:4], sampler, runs=(5, 5)) == 0).all()
    first, second = replay(prophet, episodes[:1], sampler, run=1)[0], replay(prophet, episodes[:1], sampler, run=2)[0]
    assert scores[0, 3] == pytest.approx(float(np.sqrt(np.mean((first[3] - second[3]).numpy() ** 2))), rel=1e-4)
    errors = rollout_errors(prophet, episodes[:4], imagined)
    assert errors.shape == scores.shape
    assert "AUROC" in uncertainty_text(uncertainty_figures(scores, errors))


def test_error_of_a_constant_difference(prophet, episodes):
    video = np.clip(episodes[0].images["front"], 0, 200)
    darker = episodes[0].images["front"].astype(int) - 7
    errors = rollout_errors(prophet, episodes[:1], [darker.astype(np.uint8)])
    assert errors.shape == (1, len(video))
    np.testing.assert_allclose(errors, 7.0)
