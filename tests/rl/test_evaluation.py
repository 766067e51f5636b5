"""Evaluation: the same outcome in any batching, files, comparisons."""

import pytest

from rl.evaluation import Evaluation, evaluate
from robot_stack.core.errors import BadFileError, SpecMismatchError
from tests.rl.point_reach import HORIZON, PointReach


def test_outcome_is_a_function_of_policy_and_start(policy, episodes):
    together = evaluate(policy, PointReach(), range(30), episodes, batch=30)
    in_pieces = evaluate(policy, PointReach(), range(29, -1, -1), episodes, batch=7)
    assert together.success == in_pieces.success[::-1]
    assert together.ticks == in_pieces.ticks[::-1]
    assert 0 < together.rate < 1  # a policy that always or never succeeds would prove nothing here


def test_ticks_are_those_of_the_success(policy, episodes):
    result = evaluate(policy, PointReach(), range(30), episodes, batch=30)
    for success, ticks in zip(result.success, result.ticks, strict=True):
        assert 5 <= ticks <= HORIZON if success else ticks == HORIZON


def test_noise_belongs_to_the_seed(policy, episodes):
    default = evaluate(policy, PointReach(), range(10), episodes, batch=10)
    assert evaluate(policy, PointReach(), range(10), episodes, batch=10, noise_seeds=range(10)).ticks == default.ticks
    one_start = evaluate(policy, PointReach(), [1] * 20, episodes, batch=20, noise_seeds=range(20))
    assert len(set(one_start.ticks)) > 1


def test_file_keeps_every_outcome(policy, episodes, tmp_path):
    result = evaluate(policy, PointReach(), range(10), episodes, batch=10)
    result.write(tmp_path / "evaluation.json", task="reach")
    again = Evaluation.read(tmp_path / "evaluation.json")
    assert (again.starts, again.success, again.ticks) == (result.starts, result.success, result.ticks)
    (tmp_path / "cut.json").write_text('{"starts": [1')
    with pytest.raises(BadFileError, match="prophrl evaluate"):
        Evaluation.read(tmp_path / "cut.json")


def test_comparison_needs_the_same_starts():
    before = Evaluation((1, 2, 3, 4), (True, False, False, False), (9, 10, 10, 10), 1.0)
    after = Evaluation((1, 2, 3, 4), (False, True, True, True), (10, 8, 8, 8), 1.0)
    comparison = after.against(before)
    assert comparison.difference.estimate == 0.5 and (comparison.gained, comparison.lost) == (3, 1)
    with pytest.raises(SpecMismatchError, match="other starts"):
        after.against(Evaluation((1, 2, 3, 5), before.success, before.ticks, 1.0))
