"""``prophrl evaluate-world-model``: imagined against true video on episodes kept apart, as a table and as pictures."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from learning.episode import Episode
from learning.episode_store import load_all
from learning.metrics_log import write_figures
from learning.seeding import derive_seed
from robot_stack.core.errors import ProphRLError
from world_model.checkpoint import Prophet
from world_model.following import FollowingFigures, measure_following
from world_model.frames import camera_frames
from world_model.judge import load_judge
from world_model.judge_calibration import JudgeFigures, judge_figures
from world_model.judge_train import real_videos, replayed_videos, scores_of
from world_model.measure import FRAMES_AHEAD, compare_videos, imagined_videos, measure_autoencoder, without_nan
from world_model.sampler import SamplerSettings
from world_model.settings import WorldModelSettings
from world_model.train import read_weights

SHOWN = 8  # episodes of which pictures are written
STRIP_FRAMES = (0, 1, 4, 8, 12, 16, 20, 25)
GAP = 2  # white pixels between pictures
FILM_QUALITY = 80  # of WebP; a film is then 0.2 MB instead of the 2 MB of a GIF
FRAME_MS = 100  # an animation at half speed
_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Read the episodes in ``data`` and ``checkpoint.world_model`` (and ``checkpoint.judge`` where given); write to ``out``."""
    from learning.hydra_entry import build, compose, data_paths, robot_spec
    from robot_stack.run_dir import stage_dir

    config = compose(argv, "evaluate-world-model")
    torch.set_num_threads(config.threads)
    settings: WorldModelSettings = build(config.world_model)
    spec, paths, out = robot_spec(config), data_paths(config), Path(config.out)
    if not paths:
        raise ProphRLError("nothing to compare with: name episodes the world model has not seen, data=<dataset folder>")
    prophet = read_weights(config.checkpoint.world_model or stage_dir(config.run.dir, config.run.round, "adapt"))
    prophet.check_robot(spec)
    episodes = load_all(paths, spec)
    camera = prophet.manifest.camera
    imagined = imagined_videos(prophet, episodes, settings.sampler)
    true = [camera_frames(episode, camera) for episode in episodes]
    video = compare_videos(true, imagined)
    autoencoder = measure_autoencoder(prophet.autoencoder, episodes, camera)
    figures: dict[str, Any] = {"episodes": len(episodes), "video": video, "autoencoder": autoencoder}
    lines = [
        video_table(video),
        f"autoencoder: {autoencoder['psnr']:.1f} dB, moving pixels {autoencoder['psnr_moving']:.1f} dB",
    ]
    if config.checkpoint.judge:
        verdicts = _judge(prophet, episodes, Path(config.checkpoint.judge), settings.sampler, config.seed)
        figures["judge"] = {name: dataclasses.asdict(figure) for name, figure in verdicts.items()}
        lines += [
            f"judge on {name} video: precision {figure.precision:.2f}, recall {figure.recall:.2f}, AUC {figure.auc:.3f}"
            for name, figure in verdicts.items()
        ]
    if settings.perturb is not None and settings.following_episodes:
        following = measure_following(
            prophet, settings.perturb(spec, config.task.name, episodes=settings.following_episodes), settings.sampler
        )
        figures["following"] = dataclasses.asdict(following)
        lines.append(following_text(following))
    write_figures(out / "figures.json", without_nan(figures))
    write_pictures(true, imagined, [episode.name for episode in episodes], out)
    print("\n".join(lines))
    return 0


def video_table(figures: Mapping[str, float]) -> str:
    """PSNR and flow errors of Prophet and of a video that never moves, as text."""
    lines = ["frames   PSNR [dB]  (copy)   EPE [px]  (copy)   EPE moving   cos moving"]
    for ahead in FRAMES_AHEAD:
        if f"psnr_{ahead}" not in figures:
            continue
        psnr, copy, epe, still = (figures[f"{name}_{ahead}"] for name in ("psnr", "psnr_copy", "epe", "epe_copy"))
        moving, cosine = (figures.get(f"{name}_{ahead}", float("nan")) for name in ("epe_moving", "cos"))
        lines.append(f"{ahead:>6} {psnr:>11.1f} {copy:>8.1f} {epe:>10.2f} {still:>8.2f} {moving:>12.2f} {cosine:>12.2f}")
    return "\n".join(lines)


def following_text(figures: FollowingFigures) -> str:
    """Whether video imagined for perturbed actions follows them, as text."""
    return (
        f"perturbed actions, {figures.episodes} episodes: imagined video against the perturbed truth "
        f"{figures.psnr_perturbed:.1f} dB, against the unperturbed one {figures.psnr_unperturbed:.1f} dB; "
        f"closer to its own truth in {figures.closer:.0%}"
    )


def write_pictures(
    true: Sequence[npt.NDArray[np.uint8]], imagined: Sequence[npt.NDArray[np.uint8]], names: Sequence[str], out: Path
) -> None:
    """``pictures/<name>.png``, true frames above imagined ones, and ``<name>.webp``, true left of imagined."""
    folder = out / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for real, dreamt, name in list(zip(true, imagined, names, strict=True))[:SHOWN]:
        length = min(len(real), len(dreamt))
        rows = [frame for frame in STRIP_FRAMES if frame < length]
        strip = np.concatenate([_row(real[rows]), _gap(_row(real[rows]), 0), _row(dreamt[rows])], axis=0)
        Image.fromarray(strip).save(folder / f"{name}.png")
        frames = [
            Image.fromarray(_row(np.stack([left, right]))).resize((4 * (2 * left.shape[1] + GAP), 4 * left.shape[0]))
            for left, right in zip(real[:length], dreamt[:length], strict=True)
        ]
        film = folder / f"{name}.webp"
        frames[0].save(film, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=FILM_QUALITY)


def _judge(
    prophet: Prophet, episodes: Sequence[Episode], folder: Path, sampler: SamplerSettings, seed: int
) -> dict[str, JudgeFigures]:
    judge = load_judge(folder)
    judge.check(prophet)
    labelled = [episode for episode in episodes if episode.success is not None]
    videos = {
        "true": real_videos(prophet, labelled),
        "imagined": replayed_videos(prophet, labelled, sampler, derive_seed(seed, "evaluation")),
    }
    return {
        name: judge_figures(scores_of(judge, judged), np.array([v.success for v in judged], dtype=bool), judge.threshold)
        for name, judged in videos.items()
    }


def _row(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Images [N, H, W, 3] beside each other, with gaps."""
    parts: list[npt.NDArray[np.uint8]] = [images[0]]
    for image in images[1:]:
        parts += [_gap(image, 1), image]
    return np.concatenate(parts, axis=1)


def _gap(image: npt.NDArray[np.uint8], axis: int) -> npt.NDArray[np.uint8]:
    shape = list(image.shape)
    shape[axis] = GAP
    return np.full(shape, 255, dtype=np.uint8)
