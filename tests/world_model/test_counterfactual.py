"""Confusions that can be counted by hand, and a judge that says the same of everything."""

import dataclasses

import numpy as np
import pytest

from robot_stack.core.errors import SpecMismatchError
from world_model.counterfactual import (
    Confusion,
    Verdicts,
    counterfactual_record,
    counterfactual_table,
    judge_counterfactuals,
)
from world_model.sampler import SamplerSettings


def bools(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def test_counts_and_rates():
    row = Confusion.of(bools("1110000000"), bools("1101100000"))
    assert row == Confusion(hits=2, hallucinated=2, missed=1, failures=5)
    assert row.hallucinated_success.estimate == pytest.approx(2 / 7)
    assert row.hallucinated_success.lower == pytest.approx(0.0822, abs=1e-3)  # Wilson, 2 of 7
    assert row.missed_success.estimate == pytest.approx(1 / 3)


def test_rates_need_something_to_count():
    assert Confusion.of(bools("11"), bools("10")).hallucinated_success is None
    assert Confusion.of(bools("00"), bools("10")).missed_success is None


def verdicts(outcomes: str, imagined: list[float], real: list[float]) -> Verdicts:
    return Verdicts(bools(outcomes), np.array(imagined), np.array(real), 0.5)


def test_all_is_the_sum_over_tasks_and_perturbations():
    found = {
        "push-v3": {
            "frozen": verdicts("0000", [0.9, 0.1, 0.1, 0.6], [0.1] * 4),
            "biased": verdicts("110", [0.8, 0.3, 0.7], [1, 1, 0]),
        },
        "coffee-pull-v3": {"frozen": verdicts("00", [0.1, 0.2], [0.9, 0.1])},
    }
    record = counterfactual_record(found)
    frozen = record["tasks"]["push-v3"]["frozen"]
    assert (frozen["hallucinated"], frozen["failures"], frozen["missed_success"]) == (2, 2, None)
    assert frozen["hallucinated_success"]["estimate"] == 0.5 and frozen["control"]["hallucinated"] == 0
    assert [record["all"][name] for name in ("hits", "hallucinated", "missed", "failures")] == [1, 3, 1, 4]
    assert record["all"]["control"]["hallucinated"] == 1  # on true video: the judge's own mistake
    # successes at 0.8 and 0.3 against failures at 0.9, 0.1, 0.1, 0.6, 0.7
    assert record["auc"]["push-v3"] == {"imagined": pytest.approx((4 + 2) / 10), "true": 1.0}
    lines = counterfactual_table(found).splitlines()
    assert len(lines) == 1 + 3 + 1 + 2
    assert lines[1].startswith("push-v3") and "50.0 [" in lines[1]
    assert lines[4].split()[1:7] == ["2", "1", "1", "7", "4", "3"]
    assert "imagined 0.600, true 1.000" in lines[5]


@pytest.mark.parametrize(("threshold", "verdict"), [(0.0, True), (1.1, False)])
def test_verdicts_meet_the_true_outcomes(prophet, judge, episodes, threshold, verdict):
    opinionated = dataclasses.replace(judge, threshold=threshold)
    starts = [{"unchanged": a, "biased": b} for a, b in zip(episodes[:5], episodes[5:10], strict=True)]
    found = judge_counterfactuals(prophet, opinionated, starts, SamplerSettings(), run=0)
    assert list(found) == ["unchanged", "biased"]
    imagined_frames = 1 + 5 * ((len(episodes[0]) - 1) // 5)
    for kind, row in found.items():
        done = sum(s[kind].first_success is not None and s[kind].first_success < imagined_frames for s in starts)
        expected = Confusion(done, 5 - done, 0, 0) if verdict else Confusion(0, 0, done, 5 - done)
        assert row.confusion == row.control == expected


def test_true_video_is_judged_by_what_it_shows(prophet, judge, episodes):
    starts = [{"unchanged": episode} for episode in episodes[:4]]
    found = judge_counterfactuals(prophet, judge, starts, SamplerSettings(), run=0)["unchanged"]
    latents = prophet.encode(episodes[2].images["front"])[:16]
    assert found.real[2] == pytest.approx(judge.episode_scores(judge.score_frames(latents[None]))[0], abs=1e-5)
    assert (found.real != found.imagined).any()


def test_a_judge_of_other_latents_is_refused(prophet, judge, episodes):
    with pytest.raises(SpecMismatchError):
        judge_counterfactuals(
            prophet, dataclasses.replace(judge, tokenizer="other"), [{"unchanged": episodes[0]}], SamplerSettings(), run=0
        )
