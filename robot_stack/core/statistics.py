"""Intervals for success rates: one policy, and two policies on the same starts.

Numpy and scipy only. All intervals are two-sided with the given confidence; rates are in 0..1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    estimate: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{100 * self.estimate:.1f} [{100 * self.lower:.1f}, {100 * self.upper:.1f}]"


@dataclass(frozen=True)
class PairedComparison:
    """Two policies on the same starts.

    Attributes:
        difference: rate of the second minus rate of the first, with Newcombe's interval.
        gained: starts on which only the second succeeded.
        lost: starts on which only the first succeeded.
        p_value: exact two-sided McNemar test of "gained and lost are equally likely".
        count: number of starts.
    """

    difference: Interval
    gained: int
    lost: int
    p_value: float
    count: int


def wilson_interval(successes: int, count: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a binomial rate (Wilson 1927).

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= count or count == 0:
        raise ValueError(f"need 0 <= successes <= count and count > 0, got {successes} of {count}")
    z = _quantile(confidence)
    rate = successes / count
    centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    # At 0 and at count successes one bound is the rate itself; rounding must not move it past the rate.
    return Interval(rate, min(max(0.0, centre - half), rate), max(min(1.0, centre + half), rate))


def paired_comparison(
    first: Sequence[bool] | BoolArray, second: Sequence[bool] | BoolArray, confidence: float = 0.95
) -> PairedComparison:
    """Compare outcomes [N] of two policies start by start.

    The interval is Newcombe's square-and-add method for paired proportions with the continuity-corrected correlation
    (Newcombe, Statistics in Medicine 1998, 17:2635, method 10): it stays inside -1..1 and keeps its coverage near 0 and 1,
    where a Wald interval does not.

    Raises:
        ValueError: empty, or of different lengths.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"need two equally long, non-empty lists of outcomes, got {a.shape} and {b.shape}")
    count = len(a)
    both, neither = int(np.sum(a & b)), int(np.sum(~a & ~b))
    gained, lost = int(np.sum(~a & b)), int(np.sum(a & ~b))
    before = wilson_interval(both + lost, count, confidence)
    after = wilson_interval(both + gained, count, confidence)
    phi = _correlation(both, gained, lost, neither)
    difference = (gained - lost) / count

    def reach(down: float, up: float) -> float:
        return math.sqrt(max(0.0, down * down - 2 * phi * down * up + up * up))

    interval = Interval(
        difference,
        difference - reach(after.estimate - after.lower, before.upper - before.estimate),
        difference + reach(after.upper - after.estimate, before.estimate - before.lower),
    )
    p_value = float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    return PairedComparison(interval, gained, lost, p_value, count)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's interval of the mean over independent runs.

    Raises:
        ValueError: fewer than two values, from which no spread can be estimated.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"need at least two runs, got shape {array.shape}")
    mean = float(array.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half)


def _correlation(both: int, gained: int, lost: int, neither: int) -> float:
    """Phi of the 2x2 table, pulled towards zero by half a table when positive, as Newcombe's method 10 asks."""
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    if margins == 0:
        return 0.0
    product = float(both * neither - gained * lost)
    if product > 0:
        product = max(0.0, product - (both + gained + lost + neither) / 2)
    return product / math.sqrt(margins)


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return float(stats.norm.ppf((1 + confidence) / 2))
