"""Rollouts: seeds, masks, rewards, drawing again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policy.sampling import encode_batch
from policy.sde_step import FlowGrpoStep
from rl.advantages import AdvantageSettings
from rl.flow_sde import SdeSampler
from rl.rollout import RolloutSettings, by_group, practise, roll_out, soft_reward
from rl.starts import StartMemory
from robot_stack.core.errors import ProphRLError
from tests.rl.point_reach import PointReach

SAMPLER = SdeSampler(FlowGrpoStep(0.7), 5)
SETTINGS = RolloutSettings(starts=4, group_size=3, batch=12)


def test_rollouts_do_not_depend_on_batching_or_on_the_other_starts(policy, episodes):
    together = roll_out(policy, PointReach(), SAMPLER, [5, 6, 7, 8], episodes, 3, SETTINGS)
    in_pieces = roll_out(policy, PointReach(), SAMPLER, [8, 6], episodes, 3, replace(SETTINGS, batch=2))
    for start in (6, 8):
        ours, theirs = (r.select(np.flatnonzero(r.starts == start)) for r in (together, in_pieces))
        torch.testing.assert_close(ours.states, theirs.states, atol=1e-4, rtol=1e-4)
        np.testing.assert_array_equal(ours.success, theirs.success)


def test_members_updates_and_runs_differ(policy, episodes):
    def first_states(run, update):
        return roll_out(policy, PointReach(), SAMPLER, [5], replace(episodes, run=run), update, SETTINGS).states[:, 0, 0]

    states = torch.cat([first_states(0, 0), first_states(0, 1), first_states(1, 0)])
    assert torch.cdist(states.flatten(1), states.flatten(1)).fill_diagonal_(1.0).min() > 0.1


def test_recorded_log_prob_is_that_of_the_policy(policy, episodes):
    rollouts = roll_out(policy, PointReach(), SAMPLER, [1, 2], episodes, 0, SETTINGS)
    states = rollouts.states[:, 1].transpose(0, 1)
    with torch.no_grad():
        prefix = encode_batch(policy, rollouts.images[:, 1], [episodes.instruction] * len(rollouts))
        means = SAMPLER.means(lambda x, t: policy.velocity(prefix, x, t), states)
    again = SAMPLER.log_prob(means, states).sum(dim=0)
    assert (again.exp() / rollouts.log_prob[:, 1].exp() - 1).abs().max() < 1e-2
    assert (again - rollouts.log_prob[:, 1]).abs().max() < 1e-3


def test_images_are_those_before_each_chunk_and_kept_as_bytes(policy, episodes):
    world = PointReach()
    rollouts = roll_out(policy, world, SAMPLER, [4], episodes, 0, SETTINGS)
    assert rollouts.images.dtype == np.uint8 and rollouts.images.shape[:2] == (3, 2)
    np.testing.assert_array_equal(rollouts.images[:, 0], world.reset([4, 4, 4]).images)
    assert (rollouts.images[:, 1] != rollouts.images[:, 0]).any()


def test_chunks_after_the_success_are_masked(policy, episodes):
    class SolvedByFirstChunk(PointReach):
        def step(self, deltas):
            seen = super().step(deltas)
            self.success |= np.arange(len(deltas)) % 2 == 0
            return replace(seen, success=self.success.copy())

    rollouts = roll_out(policy, SolvedByFirstChunk(), SAMPLER, [1, 2], episodes, 0, SETTINGS)
    assert rollouts.mask[:, 0].all()  # the chunk that brought the success is learnt from
    assert not rollouts.mask[0::2, 1].any()
    assert rollouts.mask[1, 1].all()


def test_soft_reward_is_the_best_window():
    scores = np.array([[0.0, 0.9, 0.1, 0.5, 0.7], [0.2, 0.2, 0.2, 0.2, 1.0]])
    np.testing.assert_allclose(soft_reward(scores, 2), [0.6, 0.6])
    np.testing.assert_allclose(soft_reward(scores, 1), [0.9, 1.0])
    with pytest.raises(ProphRLError, match="only 5"):
        soft_reward(scores, 6)


def test_reward_is_the_judges_score_in_imagination_and_success_in_the_simulator(policy, episodes):
    soft = roll_out(policy, PointReach(scored=True), SAMPLER, [1, 2], episodes, 0, SETTINGS)
    hard = roll_out(policy, PointReach(), SAMPLER, [1, 2], episodes, 0, SETTINGS)
    assert ((soft.rewards > 0) & (soft.rewards < 1)).all()
    np.testing.assert_array_equal(hard.rewards, hard.success.astype(float))


class Decided(PointReach):
    """Even starts always fail and odd ones succeed half the time: only groups of odd starts carry a signal."""

    def step(self, deltas):
        seen = super().step(deltas)
        member = np.arange(len(deltas))
        self.success = (np.asarray(self.starts) % 2 == 1) & (member % 2 == 1)
        return replace(seen, success=self.success.copy())

    def reset(self, starts, noise_seeds=None):
        self.starts = starts
        return super().reset(starts, noise_seeds)


def test_starts_without_signal_are_drawn_again(policy, episodes):
    settings = RolloutSettings(starts=6, group_size=4, batch=64, redraws=3)
    world = Decided()
    result = practise(policy, world, SAMPLER, range(64), episodes, 0, settings, AdvantageSettings(), StartMemory())
    first = StartMemory().draw(range(64), 6, episodes.run, 0, focus=settings.focus)
    odd = sum(start % 2 for start in first)
    assert result.signal_share == pytest.approx(odd / 6)
    assert result.success == pytest.approx(odd / 12)  # as first drawn, not as chosen
    starts = by_group(result.rollouts.starts, settings)
    assert len(result.rollouts) == 24 and (starts == starts[:, :1]).all() and len(set(starts[:, 0].tolist())) == 6
    assert (starts[:, 0] % 2).sum() > odd
    assert result.used_share == pytest.approx((starts[:, 0] % 2).sum() / 6)
    assert result.episodes == world.episodes


def test_practice_moves_to_the_starts_that_tell_rollouts_apart(policy, episodes):
    settings = RolloutSettings(starts=6, group_size=4, batch=64, redraws=0)
    memory = StartMemory()
    shares = [
        practise(policy, Decided(), SAMPLER, range(24), episodes, update, settings, AdvantageSettings(), memory).signal_share
        for update in range(30)
    ]
    assert set(memory.reward) == set(range(24)), "every start is tried"
    assert np.mean(shares[6:]) > 0.65, "drawn evenly it would be a half"


def test_pool_that_is_used_up_ends_the_drawing(policy, episodes):
    settings = RolloutSettings(starts=4, group_size=2, batch=64, redraws=5)
    result = practise(policy, Decided(), SAMPLER, [0, 2, 4, 6, 8], episodes, 0, settings, AdvantageSettings(), StartMemory())
    assert result.episodes == (4 + 1) * 2 and result.signal_share == 0


def test_bad_settings_are_refused(policy, episodes):
    with pytest.raises(ValueError, match="group_size"):
        RolloutSettings(group_size=1)
    with pytest.raises(ProphRLError, match="only 2 to draw from"):
        practise(policy, PointReach(), SAMPLER, [1, 2], episodes, 0, SETTINGS, AdvantageSettings(), StartMemory())
    with pytest.raises(ProphRLError, match="no multiple"):
        roll_out(policy, PointReach(), SAMPLER, [1], replace(episodes, horizon=12), 0, SETTINGS)
