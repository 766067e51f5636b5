"""How good a judge's scores are and where its threshold lies.

Shapes: N = episodes; scores [N], true outcomes [N] bool.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot_stack.core.types import FloatArray

BoolArray = npt.NDArray[np.bool_]
UNDECIDED = 0.5  # threshold where the data show only one outcome
LOWEST, HIGHEST = 0.1, 0.9  # beyond, with smoothed labels, scores of one outcome differ by noise alone


@dataclass(frozen=True)
class JudgeFigures:
    """Quality of verdicts.

    Attributes:
        episodes, successes: how many, and how many truly were successes.
        precision: share of judged successes that are true; NaN where none is judged so.
        recall: share of true successes that are judged so; NaN where there is none.
        auc: probability that a success scores above a failure; NaN where the data show only one outcome.
    """

    episodes: int
    successes: int
    precision: float
    recall: float
    auc: float


def judge_figures(scores: FloatArray, outcomes: BoolArray, threshold: float) -> JudgeFigures:
    """Figures of ``scores`` against ``outcomes`` at ``threshold``."""
    judged = scores >= threshold
    hits = int((judged & outcomes).sum())
    return JudgeFigures(
        episodes=len(scores),
        successes=int(outcomes.sum()),
        precision=_ratio(hits, int(judged.sum())),
        recall=_ratio(hits, int(outcomes.sum())),
        auc=area_under_curve(scores, outcomes),
    )


def area_under_curve(scores: FloatArray, outcomes: BoolArray) -> float:
    """Probability that a random success scores higher than a random failure, ties counting half (Mann-Whitney)."""
    successes, failures = scores[outcomes], scores[~outcomes]
    if not len(successes) or not len(failures):
        return math.nan
    difference = successes[:, None] - failures[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def calibrate_threshold(scores: FloatArray, outcomes: BoolArray) -> float:
    """The threshold nearest to 0.5 of those whose F-measure is the highest, or within one verdict of it.

    One episode more or less tells too little to move it far from the middle. A false success is found and repeated by practice;
    but a success that is missed is lost where it counts most, at the edge of what the policy can do: so precision and recall
    weigh alike. It lies halfway between two scores and within ``LOWEST`` .. ``HIGHEST``. Without a success and a failure among
    the data it is 0.5.
    """
    if not outcomes.any() or outcomes.all():
        return UNDECIDED
    ordered = np.unique(scores)
    candidates = np.concatenate([[ordered[0]], (ordered[:-1] + ordered[1:]) / 2.0]).clip(LOWEST, HIGHEST)
    measures = np.array([_f_measure(scores >= threshold, outcomes) for threshold in candidates])
    one_verdict = 1.0 / (2 * outcomes.sum() - 1)  # what one missed success among so many takes from a perfect measure
    good = candidates[measures >= measures.max() - one_verdict * (1 + 1e-9)]
    return float(good[np.abs(good - UNDECIDED).argmin()])


def _f_measure(judged: BoolArray, outcomes: BoolArray) -> float:
    """Harmonic mean of precision and recall."""
    return 2.0 * float((judged & outcomes).sum()) / float(outcomes.sum() + judged.sum())


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
