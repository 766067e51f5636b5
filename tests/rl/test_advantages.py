"""Group advantages: known answers and refusals."""

import numpy as np
import pytest

from rl.advantages import AdvantageSettings, group_advantages, has_signal
from robot_stack.core.errors import ProphRLError, ShapeError

SETTINGS = AdvantageSettings(std_floor=0.15, min_std=0.02)


def test_each_group_is_centred_and_scaled_by_itself():
    advantages = group_advantages(np.array([[0.0, 1.0], [10.0, 14.0]]), SETTINGS)
    np.testing.assert_allclose(advantages, [[-1, 1], [-1, 1]])


def test_floor_keeps_small_differences_small():
    advantages = group_advantages(np.array([[0.50, 0.53]]), SETTINGS)
    np.testing.assert_allclose(advantages, [[-0.1, 0.1]])


def test_equal_rewards_give_no_advantage_and_no_signal():
    rewards = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    assert not group_advantages(rewards, SETTINGS)[0].any()
    assert has_signal(rewards, SETTINGS).tolist() == [False, True]


def test_group_of_one_is_refused():
    with pytest.raises(ShapeError, match="at least 2 rollouts"):
        group_advantages(np.zeros((4, 1)), SETTINGS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_reward_that_is_no_number_is_refused_by_name(bad):
    rewards = np.zeros((3, 2))
    rewards[2, 1] = bad
    with pytest.raises(ProphRLError, match="group 2, rollout 1"):
        group_advantages(rewards, SETTINGS)


def test_floor_must_be_positive():
    with pytest.raises(ValueError, match="std_floor"):
        AdvantageSettings(std_floor=0.0)
