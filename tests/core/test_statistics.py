"""Intervals against published examples and against their own promise (coverage)."""

import numpy as np
import pytest

from robot_stack.core.statistics import mean_interval, paired_comparison, wilson_interval


def outcomes(both: int, lost: int, gained: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + lost) + [False] * (gained + neither)
    second = [True] * both + [False] * lost + [True] * gained + [False] * neither
    return first, second


@pytest.mark.parametrize(
    ("successes", "count", "lower", "upper"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_published_examples(successes, count, lower, upper):
    interval = wilson_interval(successes, count)  # Newcombe, Statistics in Medicine 1998, 17:857, table I
    assert (interval.lower, interval.upper) == pytest.approx((lower, upper), abs=5e-5)
    assert interval.estimate == successes / count


def test_paired_interval_gives_the_published_examples():
    # Altman et al., Statistics with Confidence (2000), table 6.2: difference 0.122, interval 0.011 to 0.226.
    comparison = paired_comparison(*outcomes(14, 0, 5, 22))
    interval = comparison.difference
    assert (interval.estimate, interval.lower, interval.upper) == pytest.approx((0.122, 0.011, 0.226), abs=6e-4)
    assert (comparison.gained, comparison.lost, comparison.count) == (5, 0, 41)
    assert comparison.p_value == pytest.approx(2 * 0.5**5)
    # Fagerland et al., Recommended tests and confidence intervals for paired binomial proportions (2014): -0.507 to -0.026.
    interval = paired_comparison(*outcomes(1, 7, 1, 12)).difference
    assert (interval.lower, interval.upper) == pytest.approx((-0.507, -0.026), abs=6e-4)


def test_swapping_the_policies_mirrors_the_interval():
    first, second = outcomes(30, 4, 11, 5)
    forth, back = paired_comparison(first, second), paired_comparison(second, first)
    assert forth.difference.lower == pytest.approx(-back.difference.upper)
    assert (forth.gained, forth.lost) == (back.lost, back.gained)


def test_equal_policies_give_an_interval_around_zero():
    comparison = paired_comparison([True] * 50, [True] * 50)
    assert comparison.difference.lower < 0 < comparison.difference.upper
    assert comparison.p_value == 1.0


@pytest.mark.parametrize("rates", [(0.7, 0.85), (0.95, 0.98), (0.5, 0.5)])
def test_paired_interval_covers_the_true_difference(rates):
    random = np.random.Generator(np.random.Philox(7))
    common = random.random((1500, 100))  # the same start makes both policies' outcomes similar
    own = random.random((2, 1500, 100)) < 0.5
    a = np.where(own[0], random.random((1500, 100)), common) < rates[0]
    b = np.where(own[1], random.random((1500, 100)), common) < rates[1]
    intervals = [paired_comparison(x, y).difference for x, y in zip(a, b, strict=True)]
    covered = np.mean([i.lower <= rates[1] - rates[0] <= i.upper for i in intervals])
    assert 0.93 <= covered <= 0.985


def test_mean_interval_of_five_runs():
    interval = mean_interval([12.0, 18.0, 15.0, 21.0, 14.0])
    assert interval.estimate == 16.0
    assert interval.upper - interval.estimate == pytest.approx(2.776 * np.std([12, 18, 15, 21, 14], ddof=1) / 5**0.5, rel=1e-3)


def test_impossible_counts_are_refused():
    for call in (
        lambda: wilson_interval(3, 2),
        lambda: wilson_interval(0, 0),
        lambda: wilson_interval(1, 2, confidence=1.0),
        lambda: paired_comparison([True], [True, False]),
        lambda: paired_comparison([], []),
        lambda: mean_interval([1.0]),
    ):
        with pytest.raises(ValueError, match="need|confidence"):
            call()
