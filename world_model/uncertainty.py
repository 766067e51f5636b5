"""Does Prophet know where it is wrong? A score for each imagined frame, and how well it tells large errors from small.

Shapes: N = episodes, T = imagined frames, scores and errors [N, T].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from torch import Tensor

from learning.episode import Episode
from learning.seeding import generator
from robot_stack.core.errors import ShapeError
from robot_stack.core.statistics import Interval
from robot_stack.core.types import FloatArray
from world_model.checkpoint import Prophet
from world_model.imagination import replay
from world_model.judge_calibration import area_under_curve
from world_model.measure import Video, true_video
from world_model.sampler import SamplerSettings

Score = Callable[[Prophet, Sequence[Episode], SamplerSettings], FloatArray]  # of episodes of one length: [N, T]
RESAMPLES = 500


@dataclass(frozen=True)
class UncertaintyFigures:
    """How well a score tells bad frames, with 95 % intervals by bootstrap over episodes.

    Attributes:
        frames: how many; the given first frame of each video does not count.
        auroc: probability that a frame whose error lies above the data's median scores higher than one below it.
        auroc_within: the same among frames of the same age only: errors and scores both grow with time, which alone makes an
            AUROC above 0.5 without telling which rollout is worse.
        spearman: rank correlation of score and error.
    """

    frames: int
    auroc: Interval
    auroc_within: Interval
    spearman: Interval


def noise_disagreement(
    prophet: Prophet, episodes: Sequence[Episode], sampler: SamplerSettings, runs: tuple[int, int] = (1, 2)
) -> FloatArray:
    """Score [N, T]: root mean square difference of the latents of two replays with different noise; 0 at the given frame.

    Args:
        episodes: of equal length.
        runs: the noise of both.
    """
    first, second = (replay(prophet, episodes, sampler, run=run) for run in runs)
    return disagreement(first, second)


def disagreement(first: Tensor, second: Tensor) -> FloatArray:
    """Root mean square difference [N, T] of latents [N, T, C, h, w]."""
    scores: FloatArray = (first - second).square().mean(dim=(2, 3, 4)).sqrt().double().cpu().numpy()
    return scores


def rollout_errors(prophet: Prophet, episodes: Sequence[Episode], imagined: Sequence[Video]) -> FloatArray:
    """True error [N, T]: root mean square difference of imagined and true pixels [grey levels]."""
    rows = []
    for episode, video in zip(episodes, imagined, strict=True):
        true = true_video(prophet, episode)[: len(video)]
        rows.append(np.sqrt(((true.astype(np.float64) - video) ** 2).mean(axis=(1, 2, 3))))
    return np.stack(rows)


def uncertainty_figures(scores: FloatArray, errors: FloatArray, *, run: int = 0) -> UncertaintyFigures:
    """Figures of ``scores`` [N, T] against true ``errors`` [N, T]; the first column, the given frame, does not count.

    Raises:
        ShapeError: other shapes, or fewer than two episodes or imagined frames.
    """
    if scores.shape != errors.shape or scores.ndim != 2 or scores.shape[0] < 2 or scores.shape[1] < 2:
        raise ShapeError("scores of imagined frames", scores.shape, f"{list(errors.shape)}, [N, T] with N and T at least 2")
    scores, errors = scores[:, 1:], errors[:, 1:]
    bad = errors > np.median(errors)
    worse = errors > np.median(errors, axis=0)  # than half of the rollouts at the same age
    random = generator(run, "bootstrap of uncertainty")
    drawn = [random.integers(len(scores), size=len(scores)) for _ in range(RESAMPLES)]

    def interval(figure: Callable[[np.ndarray], float]) -> Interval:
        values = np.array([figure(rows) for rows in drawn])
        lower, upper = np.nanquantile(values, [0.025, 0.975]) if np.isfinite(values).any() else (np.nan, np.nan)
        return Interval(figure(np.arange(len(scores))), float(lower), float(upper))

    def within(rows: np.ndarray) -> float:
        ages = [area_under_curve(scores[rows, t], worse[rows, t]) for t in range(scores.shape[1])]
        return float(np.nanmean(ages)) if np.isfinite(ages).any() else float("nan")

    return UncertaintyFigures(
        frames=scores.size,
        auroc=interval(lambda rows: area_under_curve(scores[rows].ravel(), bad[rows].ravel())),
        auroc_within=interval(within),
        spearman=interval(lambda rows: _spearman(scores[rows].ravel(), errors[rows].ravel())),
    )


def uncertainty_text(figures: UncertaintyFigures) -> str:
    """The figures as text."""
    same_age = f"among frames of the same age {_text(figures.auroc_within)}"
    return (
        f"uncertainty against true error, {figures.frames} frames: AUROC {_text(figures.auroc)}, {same_age}, "
        f"rank correlation {_text(figures.spearman)}"
    )


def _text(interval: Interval) -> str:
    return f"{interval.estimate:.2f} [{interval.lower:.2f}, {interval.upper:.2f}]"


def _spearman(first: FloatArray, second: FloatArray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)
