"""Laws of the judge: its scores, its threshold, its labels; and that it learns an easy task."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learning.fitting import FitSettings
from robot_stack.core.errors import BadFileError, ProphRLError, SpecMismatchError
from tests.world_model.conftest import square_episode
from world_model.judge import JudgeSettings, load_judge, save_judge, windows_of
from world_model.judge_calibration import HIGHEST, LOWEST, UNDECIDED, area_under_curve, calibrate_threshold, judge_figures
from world_model.judge_train import frame_labels, train_judge
from world_model.sampler import SamplerSettings

outcomes_and_scores = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=30)


def split_columns(rows):
    return np.array([score / 20 for _, score in rows]), np.array([outcome for outcome, _ in rows])


def many(scores, outcomes):
    """Ten episodes of each kind."""
    return np.repeat(np.array(scores), 10), np.repeat(np.array(outcomes), 10)


def f_measure(scores, outcomes, threshold):
    figures = judge_figures(scores, outcomes, threshold)
    if np.isnan(figures.precision) or figures.precision + figures.recall == 0:
        return 0.0
    return 2 * figures.precision * figures.recall / (figures.precision + figures.recall)


@given(outcomes_and_scores)
def test_no_other_threshold_is_better_by_more_than_one_verdict(rows):
    scores, outcomes = split_columns(rows)
    threshold = calibrate_threshold(scores, outcomes)
    if outcomes.all() or not outcomes.any():
        assert threshold == UNDECIDED
        return
    best = f_measure(scores, outcomes, threshold)
    assert LOWEST <= threshold <= HIGHEST
    one_verdict = 1 / (2 * outcomes.sum() - 1)  # a missed success: 1 - 2 (S - 1) / (2 S - 1)
    others = np.linspace(LOWEST, HIGHEST, 81)
    assert all(f_measure(scores, outcomes, other) <= best + one_verdict + 1e-8 for other in others)


def test_false_and_missed_successes_weigh_alike():
    scores, outcomes = many([0.1, 0.4, 0.6, 0.8, 0.9, 0.95], [False, True, False, True, True, True])
    # At 0.25 the precision is 4/5 and the recall 1: F1 0.89. At 0.7 it is 1 and 3/4: F1 0.86.
    assert calibrate_threshold(scores, outcomes) == pytest.approx(0.25)


def test_of_equal_thresholds_the_one_nearest_to_one_half_is_taken():
    scores, outcomes = many([0.1, 0.2, 0.8, 0.85], [False, True, False, True])
    # 0.15 (precision 2/3, recall 1) is best; without the third score, everything in 0.2 .. 0.85 would be as good.
    assert calibrate_threshold(scores, outcomes) == pytest.approx(0.15)
    assert calibrate_threshold(*many([0.05, 0.35, 0.95], [False, False, True])) == pytest.approx(0.65)
    assert calibrate_threshold(*many([0.05, 0.35, 0.95], [False, True, True])) == pytest.approx(0.2)


def test_one_episode_does_not_move_the_threshold_to_an_end():
    scores, outcomes = many([0.05, 0.9], [False, True])
    scores, outcomes = np.append(scores, 0.15), np.append(outcomes, True)  # a success that looks like a failure
    threshold = calibrate_threshold(scores, outcomes)
    assert threshold == pytest.approx(0.525)
    assert judge_figures(scores, outcomes, threshold).recall == pytest.approx(10 / 11)


def test_separable_scores_get_a_threshold_in_the_gap():
    scores, outcomes = np.array([0.1, 0.3, 0.7, 0.9]), np.array([False, False, True, True])
    threshold = calibrate_threshold(scores, outcomes)
    assert threshold == pytest.approx(0.5)
    figures = judge_figures(scores, outcomes, threshold)
    assert (figures.precision, figures.recall, figures.auc) == (1.0, 1.0, 1.0)


@given(outcomes_and_scores)
def test_area_under_curve_is_symmetric_and_ignores_monotone_maps(rows):
    scores, outcomes = split_columns(rows)
    area = area_under_curve(scores, outcomes)
    if np.isnan(area):
        assert outcomes.all() or not outcomes.any()
        return
    assert area + area_under_curve(-scores, outcomes) == pytest.approx(1.0)
    assert area == area_under_curve(np.exp(3 * scores), outcomes)


def test_scores_do_not_depend_on_how_a_video_is_cut_into_chunks(judge, prophet, episodes):
    video = prophet.encode_episode(episodes[0]).frames[None]
    whole = judge.score_frames(video)
    parts = [judge.score_frames(video[:, :4]), judge.score_frames(video[:, 4:], before=video[:, 3:4])]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-5)


def test_window_ends_at_its_frame():
    latents = torch.arange(4.0).view(1, 4, 1, 1, 1)
    assert windows_of(latents, 2).flatten(2)[0].tolist() == [[0, 0], [0, 1], [1, 2], [2, 3]]


def test_verdict_needs_successive_frames(judge):
    flicker, lasting = np.array([[0.0, 0.9, 0.0, 0.0]]), np.array([[0.0, 0.9, 0.8, 0.0]])
    assert judge.verdict(np.concatenate([flicker, lasting])).tolist() == [False, True]


def test_labels_of_frames():
    episode = square_episode(0)
    failed = dataclasses.replace(episode, success=False, first_success=None)
    done = dataclasses.replace(episode, success=True, first_success=3)
    only_verdict = dataclasses.replace(episode, success=True, first_success=None)
    unknown = dataclasses.replace(episode, success=None, first_success=None)
    assert not frame_labels(failed).any()
    assert frame_labels(done).tolist() == [0] * 3 + [1] * (len(episode) - 3)
    assert frame_labels(only_verdict).tolist() == [-1] * (len(episode) - 1) + [1]
    assert (frame_labels(unknown) == -1).all()


def test_judge_learns_where_the_square_is(prophet, settings):
    episodes = [square_episode(seed) for seed in range(60)]
    prophet.tokenizer.start_linear(
        torch.from_numpy(np.concatenate([e.images["front"] for e in episodes])).permute(0, 3, 1, 2) / 255.0
    )
    training = FitSettings(steps=60, batch_size=32, lr=3e-3, warmup=5, ema_decay=0.9)
    wanted = JudgeSettings(width=16, imagined_share=0.1, fit=training)
    report = train_judge(prophet, episodes, wanted, SamplerSettings(batch_size=64), run=0, progress=False)
    assert report.real.episodes == 15
    assert report.real.auc > 0.9


def test_judge_in_use_has_learnt_from_all_episodes(prophet):
    episodes = [square_episode(seed) for seed in range(12)]
    quick = JudgeSettings(width=8, validation_every=4, fit=FitSettings(steps=3, batch_size=8, lr=3e-3))
    apart, none = (
        train_judge(
            prophet, episodes, dataclasses.replace(quick, validation_every=every), SamplerSettings(), run=0, progress=False
        )
        for every in (4, 0)
    )
    assert (apart.real.episodes, none.real.episodes) == (3, 12)
    for name, weights in none.judge.network.state_dict().items():
        assert torch.equal(weights, apart.judge.network.state_dict()[name])


def test_judge_needs_both_outcomes(prophet, episodes):
    failures = [dataclasses.replace(episode, success=False) for episode in episodes]
    with pytest.raises(ProphRLError, match="both successes and failures"):
        train_judge(prophet, failures, JudgeSettings(), SamplerSettings(), run=0, progress=False)


def test_judge_comes_back_from_its_folder(judge, prophet, episodes, tmp_path):
    save_judge(judge, tmp_path)
    loaded = load_judge(tmp_path)
    video = prophet.encode_episode(episodes[0]).frames[None]
    np.testing.assert_array_equal(loaded.score_frames(video), judge.score_frames(video))
    assert (loaded.settings, loaded.threshold, loaded.tokenizer) == (judge.settings, judge.threshold, judge.tokenizer)
    [weights] = tmp_path.glob("judge.*.safetensors")
    weights.write_bytes(b"cut")
    with pytest.raises(BadFileError):
        load_judge(tmp_path)


def test_judge_refuses_latents_of_another_tokenizer(judge, prophet):
    judge.check(prophet)
    with torch.no_grad():
        prophet.tokenizer.mean_colour += 0.1
    with pytest.raises(SpecMismatchError, match="train-judge again"):
        judge.check(prophet)
