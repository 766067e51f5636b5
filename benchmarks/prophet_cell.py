"""One training of Prophet in a study, and what is measured on it."""

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.study_data import dataset
from learning.data_sources import Dataset
from learning.episode import Episode
from learning.hydra_entry import build, compose, robot_spec
from learning.seeding import derive_seed
from robot_stack.core.robot_spec import RobotSpec
from world_model.checkpoint import MANIFEST as PROPHET_MANIFEST
from world_model.checkpoint import Prophet, load_prophet, save_prophet
from world_model.judge import Judge
from world_model.judge_calibration import area_under_curve
from world_model.judge_train import real_videos, replayed_videos, scores_of
from world_model.measure import compare_videos, imagined_videos, true_video
from world_model.probe import MANIFEST, Probe, ProbeSettings, load_probe, save_probe, train_probe
from world_model.probe_figures import probe_figures
from world_model.sampler import SamplerSettings
from world_model.settings import WorldModelSettings
from world_model.train import beginning, read_weights, train_prophet

VIDEO = ("psnr", "psnr_copy", "epe", "epe_copy", "epe_moving", "epe_moving_copy", "cos")
Figures = dict[str, float | int | str | None]


@dataclass(frozen=True)
class Trained:
    """A Prophet of a cell.

    Attributes:
        prophet: adapted, or trained from nothing.
        settings: with which.
    """

    prophet: Prophet
    settings: WorldModelSettings


def settings_of(overrides: Sequence[str]) -> tuple[WorldModelSettings, RobotSpec, Any]:
    """Settings of the world model, the robot and the whole configuration, as ``prophrl adapt`` composes them."""
    config = compose(list(overrides), "adapt")
    torch.set_num_threads(config.threads)
    return build(config.world_model), robot_spec(config), config


def train_cell(
    overrides: Sequence[str],
    episodes: Sequence[Episode],
    seed: int,
    out: Path,
    *,
    keep: bool = False,
    shared_tokenizer: Path | None = None,
) -> Trained:
    """What `prophrl adapt <overrides>` would make of ``episodes``; resumable in ``out``.

    Args:
        keep: write the checkpoint to ``out``.
        shared_tokenizer: folder of the tokenizer of all cells that begin alike and learn from these episodes with this seed: it
            depends on no setting of the transformer. Trained by the first that needs it.
    """
    settings, spec, _ = settings_of(overrides)
    data = [dataset(spec, episodes)]
    from_nothing = settings.weights == "none"
    start = beginning(settings, data, seed, None if from_nothing else read_weights(settings.weights))
    if shared_tokenizer is not None:
        start, from_nothing = _with_tokenizer(start, data, settings, seed, shared_tokenizer, from_nothing), False
        settings = replace(settings, adapt=replace(settings.adapt, autoencoder=replace(settings.adapt.autoencoder, steps=0)))
    with _alone(out):
        prophet = train_prophet(
            start, data, settings, settings.adapt, out, run=seed, note="study", from_nothing=from_nothing, progress=False
        )
        if keep:
            save_prophet(prophet, out)
    return Trained(prophet, settings)


def video_figures(
    prophet: Prophet, episodes: Sequence[Episode], sampler: SamplerSettings, horizons: Sequence[int] = (8, 25)
) -> Figures:
    """Figures of the videos imagined for the episodes' own actions, see ``world_model.measure``."""
    compared = compare_videos(
        [true_video(prophet, episode) for episode in episodes], imagined_videos(prophet, episodes, sampler), horizons
    )
    wanted = [f"{name}_{label}" for name in VIDEO for label in (*horizons, "last")]
    return {name: compared[name] for name in wanted if name in compared}


def contact_figures(trained: Trained, judge: Judge, episodes: Sequence[Episode], probe: Probe, seed: int) -> Figures:
    """Where the object is (probe, cm) and whether success can be told (judge, AUC), on imagined and on true video.

    Args:
        judge: of ``trained``, taught on episodes apart.
    """
    prophet, sampler = trained.prophet, trained.settings.sampler
    read = probe_figures(probe, episodes, imagined_videos(prophet, episodes, sampler), (25,))
    figures: Figures = {f"{thing}_{name}_cm": value for thing, values in read.items() for name, value in values.items()}
    videos = {
        "true": real_videos(prophet, episodes),
        "imagined": replayed_videos(prophet, episodes, sampler, derive_seed(seed, "judged in a study")),
    }
    for name, judged in videos.items():
        outcomes = np.array([video.success for video in judged], dtype=bool)
        figures[f"auc_{name}"] = area_under_curve(scores_of(judge, judged), outcomes)
    figures["successes"] = sum(episode.success is True for episode in episodes)
    return figures


def taught_probe(prophet: Prophet, episodes: Sequence[Episode], folder: Path) -> Probe:
    """A probe for the pictures that ``prophet`` sees, taught once and kept in ``folder``; locked against others who want it."""
    size = prophet.latent_shape.image_size
    place = folder / f"{prophet.domain.camera}-{size}"
    with _alone(folder):
        if not (place / MANIFEST).exists():
            probe = train_probe(episodes, prophet.domain.camera, size, ProbeSettings(), run=0, progress=False)
            save_probe(probe, place)
    return load_probe(place)


def mean_and_range(values: Sequence[float]) -> str:
    """Mean of some seeds and how far they lie apart, for people."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return "-"
    spread = f" ({min(known):.2f} to {max(known):.2f})" if len(known) > 1 else ""
    return f"{np.mean(known):.2f}{spread}"


def _with_tokenizer(
    start: Prophet, data: Sequence[Dataset], settings: WorldModelSettings, seed: int, folder: Path, from_nothing: bool
) -> Prophet:
    """``start`` with the tokenizer in ``folder``, trained where it is missing."""
    phase = replace(settings.adapt, prophet=replace(settings.adapt.prophet, steps=0))
    with _alone(folder):
        if not (folder / PROPHET_MANIFEST).exists():
            taught = train_prophet(
                start, data, settings, phase, folder, run=seed, note="study", from_nothing=from_nothing, progress=False
            )
            save_prophet(taught, folder)
    seen = load_prophet(folder)
    return start.replace(tokenizer=seen.tokenizer, scale=seen.scale)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process works in ``folder``: two rows may need the same training."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def flat(figures: Mapping[str, Any], prefix: str = "") -> Figures:
    """Nested figures as one level, names joined by underscores."""
    result: Figures = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}_")
        else:
            result[f"{prefix}{name}"] = value
    return result
