"""The learning loop in a world with a known optimum: it learns, returns nothing worse, survives a kill, and stops in time."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from learning.metrics_log import read_metrics
from rl.evaluation import Evaluation, evaluate
from rl.fa_grpo import FaGrpoSettings, FlowScale
from rl.learner import Learner, LearnerSettings
from rl.rollout import RolloutSettings
from rl.state import FILE
from rl.stopping import StopSettings, UpdateRecord, reason_to_stop
from rl.train import RlSettings, train
from robot_stack.core.errors import SpecMismatchError, UnknownNameError
from tests.rl.point_reach import PointReach

SETTINGS = RlSettings(updates=8, check_every=4, lr=1e-3, rollout=RolloutSettings(starts=8, group_size=8, batch=64))
SHORT = replace(SETTINGS, updates=3, check_every=1, rollout=RolloutSettings(starts=4, group_size=4, batch=16))
POOL, SELECTION, REPORTED = range(200, 264), range(300, 340), range(1000, 1200)


def checked(episodes, starts=SELECTION):
    return lambda policy: evaluate(policy, PointReach(), starts, episodes, len(starts))


@pytest.mark.parametrize("scored", [True, False], ids=["judged imagination", "true simulator"])
def test_success_rises_significantly_on_unseen_starts(policy, episodes, tmp_path, scored):
    before = checked(episodes, REPORTED)(policy)
    quiet = {"practice_is_true": not scored, "progress": False}
    result = train(policy, PointReach(scored), POOL, episodes, checked(episodes), SETTINGS, tmp_path, **quiet)
    comparison = checked(episodes, REPORTED)(result.policy).against(before)
    assert comparison.difference.lower > 0.15
    assert result.state.best_update > 0
    assert result.state.true_episodes["selection"] == 3 * len(SELECTION)
    assert ("practice" in result.state.true_episodes) is not scored


def test_metrics_hold_what_finds_bugs(policy, episodes, tmp_path):
    train(policy, PointReach(scored=True), POOL, episodes, checked(episodes), SHORT, tmp_path, progress=False)
    logged = {}
    for step, name, value in read_metrics(tmp_path / "metrics.csv"):
        logged.setdefault(name, {})[step] = value
    expected = {
        "true_success", "imagined_success", "gap", "practice_success", "practice_reward", "signal_share", "kl", "kl_last",
        "clip_fraction", "drift", "gradient_norm", "step_norm_spread", "step_norm_spread_unweighted", "valid_share",
        "practice_seconds", "learn_seconds", "check_seconds", *(f"step_norm_{k}" for k in range(5)),
    }  # fmt: skip
    assert expected <= logged.keys()
    assert sorted(logged["true_success"]) == [0, 1, 2, 3] and sorted(logged["kl"]) == [1, 2, 3]
    assert logged["step_norm_spread"][1] < logged["step_norm_spread_unweighted"][1]


class KilledError(Exception):
    """Stands for a kill: nothing of the loop catches it."""


class KilledDuringUpdate(PointReach):
    def __init__(self, resets: int) -> None:
        super().__init__(scored=True)
        self.left = resets

    def reset(self, starts, noise_seeds=None):
        self.left -= 1
        if self.left < 0:
            raise KilledError
        return super().reset(starts, noise_seeds)


def test_run_continues_after_a_kill_as_if_nothing_had_happened(policy, episodes, tmp_path):
    start = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    whole = train(policy, PointReach(scored=True), POOL, episodes, checked(episodes), SHORT, tmp_path / "whole", progress=False)
    expected = {name: tensor.clone() for name, tensor in whole.policy.state_dict().items()}

    policy.load_state_dict(start)
    with pytest.raises(KilledError):
        train(policy, KilledDuringUpdate(4), POOL, episodes, checked(episodes), SHORT, tmp_path / "cut", progress=False)
    policy.load_state_dict(start)
    again = train(policy, PointReach(scored=True), POOL, episodes, checked(episodes), SHORT, tmp_path / "cut", progress=False)
    for name, tensor in again.policy.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0)
    assert again.state.true_episodes == whole.state.true_episodes

    def curve(folder):
        return [row for row in read_metrics(tmp_path / folder / "metrics.csv") if not row[1].endswith("seconds")]

    assert curve("cut") == curve("whole")
    finished = train(policy, KilledDuringUpdate(0), POOL, episodes, checked(episodes), SHORT, tmp_path / "cut", progress=False)
    assert finished.state.update == 3  # nothing is done again


def test_saved_run_with_other_settings_is_refused(policy, episodes, tmp_path):
    one = replace(SHORT, updates=1)
    train(policy, PointReach(scored=True), POOL, episodes, None, one, tmp_path, progress=False)
    assert (tmp_path / FILE).is_file() and not list(tmp_path.glob("*.partial"))
    with pytest.raises(SpecMismatchError, match=r"lr=0\.001.*lr=0\.002"):
        train(policy, PointReach(scored=True), POOL, episodes, None, replace(one, lr=2e-3), tmp_path, progress=False)


def test_policy_that_gets_worse_is_not_returned(policy, episodes, tmp_path):
    class WrongJudge(PointReach):
        def step(self, deltas):
            seen = super().step(deltas)
            distance = np.linalg.norm(self.position - self.target, axis=1)  # pays for going away
            return replace(seen, info={"scores": np.repeat(np.minimum(distance, 1.0)[:, None], deltas.shape[1], axis=1)})

    start = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    before = checked(episodes)(policy).rate
    result = train(policy, WrongJudge(scored=True), POOL, episodes, checked(episodes), SHORT, tmp_path, progress=False)
    true = [value for _, name, value in read_metrics(tmp_path / "metrics.csv") if name == "true_success"]
    assert true[0] == pytest.approx(before) and max(true[1:]) < before
    assert result.state.best_update == 0 and result.state.best_success == before
    assert all(torch.equal(tensor, start[name]) for name, tensor in result.policy.state_dict().items())


def test_reference_that_is_better_than_everything_else_is_returned(policy, episodes, tmp_path):
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        for tensor in policy.parameters():
            tensor.mul_(0.9)  # what training starts from is another policy

    def reference_is_best(candidate, rates=iter([0.5, 0.0, 0.0, 0.5, 0.0])):  # noqa: B008 - one list for all calls
        return Evaluation((1, 2), (next(rates) > 0, False), (1, 1), 0.0)

    loose = replace(SHORT, stop=StopSettings(max_gap_growth=2.0))
    result = train(
        policy, PointReach(scored=True), POOL, episodes, reference_is_best, loose, tmp_path, reference=reference, progress=False
    )
    assert result.state.update == 3 and result.state.best_update is None
    assert result.facts["true_success"] == {"reference": 0.5, "start": 0.0, "best": 0.5}
    assert result.state.true_episodes["selection"] == 5 * 2
    expected = reference.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in result.policy.state_dict().items())


def test_last_policy_is_kept_where_it_is_asked_for_even_led_astray(policy, episodes, tmp_path):
    def worse_each_time(_, rates=iter([0.5, 0.0, 0.0, 0.0])):  # noqa: B008 - one list for all calls is what is wanted
        return Evaluation((1, 2), (next(rates) > 0, False), (1, 1), 0.0)

    start = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    last = replace(SHORT, keep="last", stop=StopSettings(max_gap_growth=2.0))
    result = train(policy, PointReach(scored=True), POOL, episodes, worse_each_time, last, tmp_path, progress=False)
    assert result.state.update == 3 and result.state.best_update == 0
    assert any(not torch.equal(tensor, start[name]) for name, tensor in result.policy.state_dict().items())
    with pytest.raises(UnknownNameError, match="best, last"):
        replace(SHORT, keep="first")


def test_of_equal_policies_the_one_that_practised_longest_is_returned(policy, episodes, tmp_path):
    def half_then_nothing_then_half(_, rates=iter([0.5, 0.0, 0.5, 0.0])):  # noqa: B008 - one list for all calls
        return Evaluation((1, 2), (next(rates) > 0, False), (1, 1), 0.0)

    loose = replace(SHORT, stop=StopSettings(max_gap_growth=2.0))
    start = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    check = half_then_nothing_then_half
    result = train(policy, PointReach(scored=True), POOL, episodes, check, loose, tmp_path, progress=False)
    assert result.state.update == 3 and result.state.best_update == 2
    assert any(not torch.equal(tensor, start[name]) for name, tensor in result.policy.state_dict().items())


def test_growing_gap_between_imagined_and_true_success_stops_the_run(policy, episodes, tmp_path):
    rates = iter([0.8, 0.1, 0.0, 0.0])

    def check(_):
        return Evaluation(tuple(range(10)), tuple(np.arange(10) < round(10 * next(rates))), (1,) * 10, 0.0)

    result = train(policy, PointReach(scored=True), POOL, episodes, check, SHORT, tmp_path, progress=False)
    assert result.state.update == 1 and "imagined minus true success grew" in result.state.stopped
    assert result.state.best_update == 0


def test_learning_rate_falls_over_the_last_updates(policy, episodes, tmp_path, monkeypatch):
    falling = replace(SETTINGS, updates=10, lr=1e-3, decay=0.4)
    rates = [falling.lr_at(update) for update in range(10)]
    assert rates[:7] == [1e-3] * 7
    np.testing.assert_allclose(rates[7:], [0.75e-3, 0.5e-3, 0.25e-3])
    assert [SETTINGS.lr_at(update) for update in range(8)] == [SETTINGS.lr] * 8
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\], got 1.5"):
        replace(SETTINGS, decay=1.5)

    used = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda adam: used.append(adam.param_groups[0]["lr"]) or step(adam))
    short = replace(SHORT, decay=1.0)
    train(policy, PointReach(scored=True), POOL, episodes, None, short, tmp_path, progress=False)
    assert sorted(set(used), reverse=True) == [short.lr_at(update) for update in range(3)]


def record(**changes):
    return replace(UpdateRecord(success=0.5, signal_share=0.5, kl=0.1), **changes)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([record()], None),
        ([record(kl=5.0)], "KL 5.00"),
        ([record(signal_share=0.0, success=1.0)] * 2, None),
        ([record(signal_share=0.0, success=1.0)] * 3, "100 % of them"),
        ([record(gap=0.25)], None),
        ([record(gap=0.5)], "grew from"),
        ([record(gap=0.5), record()], None),  # not checked at the last update
    ],
)
def test_reasons_to_stop(records, expected):
    reason = reason_to_stop(0.1, records, StopSettings(max_gap_growth=0.3, max_kl=2.0, dull_updates=3))
    assert (reason is None) if expected is None else (expected in reason)


def test_several_learners_divide_by_the_summed_count(policy, episodes):
    """With a hook that doubles the count, as an all-reduce over two equal learners would, every gradient is halved."""
    from policy.sde_step import FlowGrpoStep
    from rl.advantages import AdvantageSettings, group_advantages
    from rl.flow_sde import SdeSampler
    from rl.rollout import by_group, roll_out

    sampler, norms = SdeSampler(FlowGrpoStep(0.7), 5), []
    rollouts = roll_out(policy, PointReach(scored=True), sampler, [1, 2], episodes, 0, SHORT.rollout)
    advantages = group_advantages(by_group(rollouts.rewards, SHORT.rollout), AdvantageSettings()).reshape(-1)
    settings = LearnerSettings(epochs=1, minibatches=1, probe=0, loss=FaGrpoSettings(flow_scale=FlowScale(alpha=1.0)))
    start = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    for factor in (1, 2):
        policy.load_state_dict(start)
        learner = Learner(policy, None, sampler, episodes.instruction, 1e-4, settings, lambda count, n=factor: count * n)
        norms.append(learner.update(rollouts, advantages, run=0, update=0)["gradient_norm"])
    assert norms[1] == pytest.approx(norms[0] / 2, rel=1e-4)
