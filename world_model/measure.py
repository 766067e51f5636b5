"""Figures of the world model on episodes kept apart.

Shapes: N = episodes, T = frames, videos [T, H, W, 3] uint8.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from learning.episode import Episode
from world_model.autoencoder import Autoencoder
from world_model.checkpoint import Prophet
from world_model.frames import camera_frames, foreground, to_tensor, to_uint8
from world_model.imagination import replay_all
from world_model.metrics import flow_error, psnr
from world_model.sampler import SamplerSettings

FRAMES_AHEAD = (1, 8, 25)  # at which the error is told
FRAME_STRIDE = 3  # every so many-th frame measures the autoencoder


@torch.inference_mode()
def measure_autoencoder(autoencoder: Autoencoder, episodes: Sequence[Episode], camera: str) -> dict[str, float]:
    """Mean PSNR [dB] of whole frames and of moving pixels; empty without episodes."""
    if not episodes:
        return {}
    whole, moving = [], []
    for episode in episodes:
        video = camera_frames(episode, camera)
        rebuilt = to_uint8(autoencoder.decode(autoencoder.encode(to_tensor(video[::FRAME_STRIDE]))))
        true, mask = video[::FRAME_STRIDE], foreground(video)[::FRAME_STRIDE]
        whole.append(psnr(true, rebuilt))
        moving.append((true.astype(np.float64) - rebuilt)[mask].ravel() ** 2)
    squared = np.concatenate(moving)
    mean = float(np.concatenate(whole).mean())
    return {"psnr": mean, "psnr_moving": float(10 * np.log10(255.0**2 / squared.mean())) if squared.size else float("nan")}


def imagined_videos(prophet: Prophet, episodes: Sequence[Episode], sampler: SamplerSettings) -> list[npt.NDArray[np.uint8]]:
    """What Prophet imagines for each episode's own actions; the real first frame, decoded as well, then whole chunks."""
    return [prophet.decode(latents) for latents in replay_all(prophet, episodes, sampler)]


def measure_prophet(prophet: Prophet, episodes: Sequence[Episode], sampler: SamplerSettings) -> dict[str, float]:
    """Figures of videos imagined from the first frame, and of a video that never moves; empty without episodes.

    ``psnr_k`` and ``psnr_copy_k`` [dB] at k frames, ``epe_k`` and ``cos_k`` of the flow up to k frames (see ``metrics``).
    """
    if not episodes:
        return {}
    return compare_videos(
        [camera_frames(episode, prophet.manifest.camera) for episode in episodes], imagined_videos(prophet, episodes, sampler)
    )


def compare_videos(true: Sequence[npt.NDArray[np.uint8]], imagined: Sequence[npt.NDArray[np.uint8]]) -> dict[str, float]:
    """See ``measure_prophet``; videos that end before k frames do not count at k."""
    figures: dict[str, float] = {}
    for ahead in FRAMES_AHEAD:
        pairs = [(t, i) for t, i in zip(true, imagined, strict=True) if min(len(t), len(i)) > ahead]
        if not pairs:
            continue
        figures[f"psnr_{ahead}"] = float(np.mean([psnr(t[ahead], i[ahead]) for t, i in pairs]))
        figures[f"psnr_copy_{ahead}"] = float(np.mean([psnr(t[ahead], t[0]) for t, _ in pairs]))
        flows = [flow_error(t[: ahead + 1], i[: ahead + 1]) for t, i in pairs]
        copies = [flow_error(t[: ahead + 1], np.repeat(t[:1], ahead + 1, axis=0)) for t, _ in pairs]
        figures[f"epe_{ahead}"] = float(np.mean([flow.epe for flow in flows]))
        figures[f"epe_copy_{ahead}"] = float(np.mean([flow.epe for flow in copies]))
        moving = [flow for flow in flows if not np.isnan(flow.cosine)]
        if moving:
            figures[f"epe_moving_{ahead}"] = float(np.mean([flow.epe_moving for flow in moving]))
            figures[f"cos_{ahead}"] = float(np.mean([flow.cosine for flow in moving]))
    return figures


def without_nan(figures: Any) -> Any:
    """NaN, which JSON lacks, as None, in nested mappings."""
    if isinstance(figures, Mapping):
        return {key: without_nan(value) for key, value in figures.items()}
    return None if isinstance(figures, float) and np.isnan(figures) else figures
