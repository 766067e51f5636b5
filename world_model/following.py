"""Does imagined video follow the actions where they leave the data? The same start, with and without a perturbation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from learning.episode import Episode
from robot_stack.core.errors import ProphRLError
from world_model.checkpoint import Prophet
from world_model.frames import camera_frames
from world_model.measure import imagined_videos
from world_model.metrics import psnr
from world_model.sampler import SamplerSettings


@dataclass(frozen=True)
class FollowingFigures:
    """How well video imagined for the perturbed actions follows them.

    Attributes:
        episodes: pairs.
        psnr_perturbed: against the perturbed truth, mean over frames and pairs [dB].
        psnr_unperturbed: against the unperturbed truth: higher than the former means that the actions were ignored.
        psnr_truths: of the two truths against each other: how far apart they are.
        closer: share of the pairs whose imagined video is closer to the perturbed truth.
    """

    episodes: int
    psnr_perturbed: float
    psnr_unperturbed: float
    psnr_truths: float
    closer: float


def measure_following(prophet: Prophet, pairs: Sequence[tuple[Episode, Episode]], sampler: SamplerSettings) -> FollowingFigures:
    """Replay the perturbed actions in Prophet and compare with both truths.

    Args:
        pairs: (original, perturbed) episodes from the same starts.

    Raises:
        ProphRLError: no pairs.
    """
    if not pairs:
        raise ProphRLError("no perturbed episodes to measure action following on")
    camera = prophet.manifest.camera
    imagined = imagined_videos(prophet, [perturbed for _, perturbed in pairs], sampler)
    own, other, apart = [], [], []
    for (original, perturbed), video in zip(pairs, imagined, strict=True):
        truth, base = (camera_frames(episode, camera)[: len(video)] for episode in (perturbed, original))
        own.append(psnr(truth[1:], video[1:]).mean())
        other.append(psnr(base[1:], video[1:]).mean())
        apart.append(psnr(base[1:], truth[1:]).mean())
    return FollowingFigures(
        episodes=len(pairs),
        psnr_perturbed=float(np.mean(own)),
        psnr_unperturbed=float(np.mean(other)),
        psnr_truths=float(np.mean(apart)),
        closer=float(np.mean(np.array(own) > np.array(other))),
    )
