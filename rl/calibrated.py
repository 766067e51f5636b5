"""The judge's scores on a scale on which its own verdict lies at one half, so that they can serve as a reward.

A classifier's raw probabilities are often squeezed: with a threshold of 0.94, everything between hopeless and solved lies
within a few hundredths, and no group of rollouts would seem to differ.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit, logit

from robot_stack.core.ports import EnvironmentStep, VectorEnvironment
from robot_stack.core.types import FloatArray

SMALLEST = 1e-6  # keeps certain scores finite


def calibrated_scores(scores: FloatArray, threshold: float, sharpness: float) -> FloatArray:
    """expit(sharpness (logit p - logit threshold)): monotone, and 0.5 exactly where the verdict turns.

    Args:
        scores: probabilities of success.
        threshold: the judge's, between 0 and 1.
        sharpness: slope in logits; large values approach the verdict itself.
    """
    inside = np.clip(scores, SMALLEST, 1 - SMALLEST)
    result: FloatArray = expit(sharpness * (logit(inside) - logit(np.clip(threshold, SMALLEST, 1 - SMALLEST))))
    return result


class CalibratedScores:
    """A vector environment whose "scores" are calibrated; everything else is passed on.

    Args:
        environment: an imagination with a judge.
        threshold, sharpness: see ``calibrated_scores``.
    """

    def __init__(self, environment: VectorEnvironment, threshold: float, sharpness: float) -> None:
        self._environment, self._threshold, self._sharpness = environment, threshold, sharpness

    def reset(self, starts: Sequence[int], noise_seeds: Sequence[int] | None = None) -> EnvironmentStep:
        return self._calibrated(self._environment.reset(starts, noise_seeds))

    def step(self, deltas: FloatArray) -> EnvironmentStep:
        return self._calibrated(self._environment.step(deltas))

    def close(self) -> None:
        self._environment.close()

    def _calibrated(self, seen: EnvironmentStep) -> EnvironmentStep:
        scores = calibrated_scores(seen.info["scores"], self._threshold, self._sharpness)
        return replace(seen, info={**seen.info, "scores": scores})
