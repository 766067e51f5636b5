"""Figures of the world model on episodes kept apart.

Shapes: N = episodes, T = frames, videos [T, H, W, 3] uint8.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from learning.episode import Episode
from world_model.checkpoint import Prophet
from world_model.frames import camera_frames, foreground
from world_model.imagination import replay_all
from world_model.metrics import error_of_flow, psnr, ssim, tssim, video_flow
from world_model.sampler import SamplerSettings

Video = npt.NDArray[np.uint8]
HORIZONS = (1, 8, 25)  # frames ahead at which the error is told, and at the last frame of each clip
FRAME_STRIDE = 3  # every so many-th frame measures the autoencoder


@torch.inference_mode()
def measure_autoencoder(prophet: Prophet, episodes: Sequence[Episode]) -> dict[str, float]:
    """Mean PSNR [dB] of whole frames and of moving pixels that only went through the tokenizer; empty without episodes."""
    if not episodes:
        return {}
    whole, moving = [], []
    for episode in episodes:
        video = true_video(prophet, episode)
        rebuilt = prophet.decode(prophet.encode(video[::FRAME_STRIDE]))
        true, mask = video[::FRAME_STRIDE], foreground(video)[::FRAME_STRIDE]
        whole.append(psnr(true, rebuilt))
        moving.append((true.astype(np.float64) - rebuilt)[mask].ravel() ** 2)
    squared = np.concatenate(moving)
    mean = float(np.concatenate(whole).mean())
    return {"psnr": mean, "psnr_moving": float(10 * np.log10(255.0**2 / squared.mean())) if squared.size else float("nan")}


def true_video(prophet: Prophet, episode: Episode) -> Video:
    """The frames that Prophet would see [T, H, H, 3]."""
    return camera_frames(episode, prophet.domain.camera, prophet.latent_shape.image_size)


def imagined_videos(prophet: Prophet, episodes: Sequence[Episode], sampler: SamplerSettings) -> list[Video]:
    """What Prophet imagines for each episode's own actions; the real first frame, decoded as well."""
    return [prophet.decode(latents) for latents in replay_all(prophet, episodes, sampler)]


def measure_prophet(
    prophet: Prophet, episodes: Sequence[Episode], sampler: SamplerSettings, horizons: Sequence[int] = HORIZONS
) -> dict[str, float]:
    """Figures of videos imagined from the first frame, see ``compare_videos``; empty without episodes."""
    if not episodes:
        return {}
    true = [true_video(prophet, episode) for episode in episodes]
    return compare_videos(true, imagined_videos(prophet, episodes, sampler), horizons)


def compare_videos(true: Sequence[Video], imagined: Sequence[Video], horizons: Sequence[int] = HORIZONS) -> dict[str, float]:
    """Mean figures over clips, see ``clip_figures``, and ``clips_<k>``: how many clips reach each horizon.

    A figure that some clips lack (cosine without motion) is the mean of the others; one that all lack is absent.
    """
    rows = [clip_figures(t, i, horizons) for t, i in zip(true, imagined, strict=True)]
    figures: dict[str, float] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if not np.isnan(row.get(name, np.nan))]
        if values:
            figures[name] = float(np.mean(values))
    for label in dict.fromkeys(name.removeprefix("psnr_") for name in figures if name.startswith("psnr_")):
        if not label.startswith("copy_"):
            figures[f"clips_{label}"] = float(sum(f"psnr_{label}" in row for row in rows))
    return figures


def clip_figures(true: Video, imagined: Video, horizons: Sequence[int] = HORIZONS) -> dict[str, float]:
    """Figures of one imagined video [T', H, W, 3] against the true one [T, H, W, 3], of which the first T' frames count.

    ``<figure>_<k>`` for each horizon k that the clip reaches, ``<figure>_last`` at its last imagined frame whatever its length:
    ``psnr`` [dB] and ``ssim`` of frame k; ``tssim``, ``epe``, ``epe_moving`` [px a frame] and ``cos`` of the video up to
    frame k. ``<figure>_copy_<k>`` is the same of a video that repeats the true first frame. NaN where nothing moves.

    Raises:
        ShapeError: pictures of different sizes, or fewer than two frames.
    """
    length = min(len(true), len(imagined))
    true, imagined = true[:length], imagined[:length]
    still = np.repeat(true[:1], length, axis=0)
    flows = video_flow(true), video_flow(imagined), video_flow(still)
    labels = [(str(ahead), ahead) for ahead in horizons if ahead < length] + [("last", length - 1)]
    figures: dict[str, float] = {}
    for label, ahead in labels:
        for suffix, video, flow in ((label, imagined, flows[1]), (f"copy_{label}", still, flows[2])):
            error = error_of_flow(flows[0][:ahead], flow[:ahead])
            figures[f"psnr_{suffix}"] = float(psnr(true[ahead], video[ahead]))
            figures[f"ssim_{suffix}"] = ssim(true[ahead], video[ahead])
            figures[f"tssim_{suffix}"] = tssim(true[: ahead + 1], video[: ahead + 1])
            figures[f"epe_{suffix}"] = error.epe
            figures[f"epe_moving_{suffix}"] = error.epe_moving
            figures[f"cos_{suffix}"] = error.cosine
    return figures


def video_table(figures: Mapping[str, float], horizons: Sequence[int] = HORIZONS) -> str:
    """The figures of ``compare_videos`` as text: those of a video that never moves in brackets."""
    names = {"psnr": "PSNR [dB]", "ssim": "SSIM", "tssim": "tSSIM", "epe": "EPE [px]", "epe_moving": "EPE moving", "cos": "cos"}
    lines = ["frames  clips" + "".join(f"{title + ' (copy)':>20}" for title in names.values())]
    for label in [*map(str, horizons), "last"]:
        if f"psnr_{label}" not in figures:
            continue
        cells = [(figures.get(f"{n}_{label}", np.nan), figures.get(f"{n}_copy_{label}", np.nan)) for n in names]
        texts = [f"{own:.2f} ({copy:.2f})" if abs(own) < 10 else f"{own:.1f} ({copy:.1f})" for own, copy in cells]
        lines.append(f"{label:>6} {figures[f'clips_{label}']:>6.0f}" + "".join(f"{text:>20}" for text in texts))
    return "\n".join(lines)


def without_nan(figures: Any) -> Any:
    """NaN, which JSON lacks, as None, in nested mappings and lists."""
    if isinstance(figures, Mapping):
        return {key: without_nan(value) for key, value in figures.items()}
    if isinstance(figures, list | tuple):
        return [without_nan(value) for value in figures]
    return None if isinstance(figures, float) and np.isnan(figures) else figures
