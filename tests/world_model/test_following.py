"""Action following on videos made by hand: one that obeys, one that ignores the actions, and truths that are alike."""

import dataclasses

import numpy as np
import pytest

from robot_stack.core.errors import ProphRLError, ShapeError
from tests.world_model.conftest import square_episode
from tests.world_model.test_metrics import moving
from world_model.following import UNCHANGED, clip_distances, following_figures, following_table, measure_following
from world_model.metrics import psnr
from world_model.sampler import SamplerSettings

RIGHT, LEFT = moving(6), moving(6, dx=-1)
NOISE = np.random.Generator(np.random.Philox(0)).integers(0, 9, size=RIGHT.shape).astype(np.uint8)


def blurred(video: np.ndarray) -> np.ndarray:
    """As a model would show it: right, but not quite."""
    return (video // 8 * 8 + NOISE).astype(np.uint8)


def test_video_that_obeys_is_closer_to_its_own_truth():
    obeys = clip_distances(blurred(LEFT), LEFT, RIGHT)
    assert obeys.closer == (True, True, True)
    assert obeys.psnr[0] > obeys.psnr_truths
    assert obeys.psnr[0] == pytest.approx(psnr(LEFT[1:], blurred(LEFT)[1:]).mean())
    ignores = clip_distances(blurred(RIGHT), LEFT, RIGHT)
    assert ignores.closer == (False, False, False)
    assert ignores.psnr == pytest.approx(obeys.psnr[::-1], abs=2.0)


def test_end_point_errors_have_the_size_of_the_motion():
    exact = clip_distances(LEFT, LEFT, RIGHT)
    assert exact.epe[0] == exact.epe_moving[0] == 0.0
    assert exact.epe[1] == pytest.approx(2.0, abs=0.4)  # one pixel to the left instead of one to the right
    still = np.repeat(LEFT[:1], 6, axis=0)
    frozen = clip_distances(still, still, RIGHT)
    assert frozen.closer == (True, True, True)
    assert frozen.epe_moving[1] == pytest.approx(1.0, abs=0.2)  # pixels that move in either truth count


def test_clips_whose_truths_are_alike_do_not_count():
    obeys, ignores = clip_distances(blurred(LEFT), LEFT, RIGHT), clip_distances(blurred(RIGHT), LEFT, RIGHT)
    alike = clip_distances(blurred(RIGHT), RIGHT, RIGHT)
    assert alike.difference == 0.0 and obeys.difference > 0.1
    figures = following_figures([obeys, obeys, obeys, ignores, alike])
    assert (figures.clips, figures.skipped) == (4, 1)
    assert figures.closer.estimate == figures.closer_psnr.estimate == figures.closer_epe_moving.estimate == 0.75
    assert figures.closer.lower == pytest.approx(0.3006, abs=1e-3)  # Wilson, 3 of 4
    assert figures.psnr == pytest.approx((3 * obeys.psnr[0] + ignores.psnr[0]) / 4)


def test_nothing_to_follow():
    alike = clip_distances(blurred(RIGHT), RIGHT, RIGHT)
    figures = following_figures([alike, alike])
    assert figures.clips == 0 and figures.closer is None and np.isnan(figures.psnr)
    assert "alike" in following_table({"frozen_gripper": figures})


def test_both_must_agree():
    one = clip_distances(blurred(LEFT), LEFT, RIGHT)
    torn = dataclasses.replace(one, epe=(2.0, 1.0))
    figures = following_figures([torn, one])
    assert figures.closer_psnr.estimate == 1.0 and figures.closer_epe.estimate == figures.closer.estimate == 0.5


def test_true_video_must_last_as_long():
    with pytest.raises(ShapeError, match="true video"):
        clip_distances(RIGHT, RIGHT[:3], RIGHT)
    assert clip_distances(RIGHT[:3], RIGHT, LEFT).psnr[0] == 100.0


def test_each_perturbation_is_measured_on_all_starts(prophet):
    starts = [
        {UNCHANGED: square_episode(i), "biased": square_episode(i + 50), "mirrored": square_episode(i + 90)} for i in range(3)
    ]
    figures = measure_following(prophet, starts, SamplerSettings())
    assert list(figures) == ["biased", "mirrored"]
    assert all(row.clips + row.skipped == 3 for row in figures.values())
    assert len(following_table(figures).splitlines()) == 3
    with pytest.raises(ProphRLError, match="perturbed"):
        measure_following(prophet, [], SamplerSettings())
