"""``prophrl pretrain-world-model`` and ``prophrl adapt``: autoencoder first, then Prophet on its latents."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learning.episode import Episode
from learning.episode_store import load_all
from learning.metrics_log import write_figures
from learning.seeding import derive_seed
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from world_model.action_layout import ActionLayout
from world_model.autoencoder import Autoencoder
from world_model.autoencoder_training import fit_autoencoder
from world_model.checkpoint import LatentScale, Manifest, Prophet, load_prophet, save_prophet
from world_model.frames import FrameSet, camera_frames
from world_model.held_out import is_held_out, refuse_held_out
from world_model.measure import measure_autoencoder, measure_prophet, without_nan
from world_model.prophet import make_transformer
from world_model.prophet_training import fit_prophet
from world_model.settings import Phase, WorldModelSettings

SHIPPED = Path(__file__).resolve().parent / "weights"
SCALE_FRAMES = 4096  # of which the latents' statistics are taken
_log = logging.getLogger(__name__)


def collect_main(argv: Sequence[str]) -> int:
    """Collect what ``pretrain-world-model`` needs into ``out``; with ``checkpoint.policy``, an exported one, also its own."""
    from learning.hydra_entry import build, compose, robot_spec

    config = compose(argv, "collect-pretraining")
    _collect(build(config.world_model), robot_spec(config), Path(config.out), config.checkpoint.policy)
    return 0


def pretrain_main(argv: Sequence[str]) -> int:
    """Train from nothing into ``out``, on ``data`` or on episodes of every task that is not held out, collected first."""
    from learning.hydra_entry import build, compose, data_paths, robot_spec

    config = compose(argv, "pretrain-world-model")
    torch.set_num_threads(config.threads)
    settings: WorldModelSettings = build(config.world_model)
    spec, out = robot_spec(config), Path(config.out)
    paths = data_paths(config) or _collect(settings, spec, out / "data", config.checkpoint.policy)
    episodes = load_all(paths, spec)
    refuse_held_out(episode.task for episode in episodes)
    blank = new_prophet(settings, spec, episodes, config.seed)
    command = f"prophrl pretrain-world-model seed={config.seed}"
    prophet = train_prophet(blank, episodes, settings, settings.pretrain, out, run=config.seed, note=command, from_nothing=True)
    save_prophet(prophet, out)
    (out / "tasks_seen.txt").write_text("\n".join(prophet.manifest.tasks) + "\n", encoding="utf-8")
    return 0


def _collect(settings: WorldModelSettings, spec: RobotSpec, out: Path, policy: str | None) -> list[Path]:
    if settings.collect is None:
        raise ProphRLError("nothing to train on: give data=<folder>, or world_model.collect that makes the data")
    absent = {} if policy else {"policy": None}
    folders: list[Path] = settings.collect(spec, out, allowed=lambda task: not is_held_out(task), **absent)
    return folders


def adapt_main(argv: Sequence[str]) -> int:
    """Adapt the world model (``checkpoint.world_model``, else ``world_model.weights``) to the episodes in ``data``."""
    from learning.hydra_entry import build, compose, data_paths, robot_spec

    config = compose(argv, "adapt")
    torch.set_num_threads(config.threads)
    settings: WorldModelSettings = build(config.world_model)
    spec, paths, out = robot_spec(config), data_paths(config), Path(config.out)
    if not paths:
        raise ProphRLError("nothing to adapt to: name the recorded episodes, data=<dataset folder> or data=[<folder>,<folder>]")
    episodes = load_all(paths, spec)
    weights = config.checkpoint.world_model or (None if settings.weights == "none" else settings.weights)
    start = new_prophet(settings, spec, episodes, config.seed) if weights is None else read_weights(weights)
    start.check_robot(spec)
    note = f"adapted to {len(episodes)} episodes, seed {config.seed}"
    prophet = train_prophet(
        start, episodes, settings, settings.adapt, out, run=config.seed, note=note, from_nothing=weights is None
    )
    save_prophet(prophet, out)
    return 0


def read_weights(weights: str | Path) -> Prophet:
    """Prophet of a folder, or the shipped one for "shipped"."""
    return load_prophet(SHIPPED if str(weights) == "shipped" else Path(weights))


def new_prophet(settings: WorldModelSettings, spec: RobotSpec, episodes: Sequence[Episode], seed: int) -> Prophet:
    """Untrained networks with the action statistics of ``episodes``."""
    torch.manual_seed(derive_seed(seed, "world model weights"))  # modules draw their weights from torch's own generator
    layout = ActionLayout.of_kinds(spec.action_kinds)
    return Prophet(
        autoencoder=Autoencoder(settings.autoencoder),
        transformer=make_transformer(settings.transformer, settings.autoencoder.channels, settings.autoencoder.latent_size),
        settings=settings.transformer,
        scale=LatentScale((0.0,) * settings.autoencoder.channels, 1.0),
        layout=layout,
        deltas=layout.fit_normaliser(np.concatenate([episode.deltas for episode in episodes])),
        poses=layout.fit_normaliser(np.concatenate([episode.commanded for episode in episodes])),
        manifest=Manifest(spec.name, spec.fingerprint, settings.camera or spec.camera_names[0]),
    )


def train_prophet(
    start: Prophet,
    episodes: Sequence[Episode],
    settings: WorldModelSettings,
    phase: Phase,
    out: Path,
    *,
    run: int,
    note: str,
    from_nothing: bool,
    progress: bool = True,
) -> Prophet:
    """Train both networks of ``start`` on ``episodes``; curves, state and ``figures.json`` go to ``out``.

    Args:
        note: what is done, for the manifest's history.
        from_nothing: the networks are untrained: begin with principal components and take new latent statistics.
    """
    taught, held_back = split(episodes, settings.validation_every)
    camera = start.manifest.camera
    identity = f"{describe(episodes)} {dataclasses.asdict(start.autoencoder.settings)} {dataclasses.asdict(start.settings)}"
    start.autoencoder.requires_grad_(True)
    autoencoder = fit_autoencoder(
        start.autoencoder,
        FrameSet.of_episodes(taught, camera),
        phase.autoencoder,
        settings.autoencoder_loss,
        run=run,
        folder=out,
        identity=identity,
        linear_start=from_nothing,
        progress=progress,
    ).requires_grad_(False)
    figures: dict[str, Any] = {"episodes": len(taught), "autoencoder": measure_autoencoder(autoencoder, held_back, camera)}
    _log.info("autoencoder on held-back episodes: %s", figures["autoencoder"])
    prophet = start.replace(autoencoder=autoencoder)
    if from_nothing:
        prophet = prophet.replace(scale=_latent_scale(prophet, taught))
    transformer = fit_prophet(
        prophet.transformer,
        [prophet.encode_episode(episode) for episode in taught],
        prophet.settings,
        phase.prophet,
        settings.denoiser,
        prophet.mask,
        run=run,
        folder=out,
        identity=identity,
        progress=progress,
    ).requires_grad_(False)
    known = start.manifest
    manifest = dataclasses.replace(
        known,
        tasks=tuple(sorted({*known.tasks, *(episode.task or "(unnamed)" for episode in episodes)})),
        history=(*known.history, note),
    )
    prophet = prophet.replace(transformer=transformer, manifest=manifest)
    figures["prophet"] = measure_prophet(prophet, held_back, settings.sampler)
    _log.info("prophet on held-back episodes: %s", figures["prophet"])
    write_figures(out / "figures.json", without_nan(figures))
    return prophet


def split(episodes: Sequence[Episode], every: int) -> tuple[list[Episode], list[Episode]]:
    """Episodes to learn from and every ``every``-th one, held back to measure; a handful of episodes all teach."""
    if every < 2 or len(episodes) < every:
        return list(episodes), []
    middle = every // 2
    taught = [episode for i, episode in enumerate(episodes) if i % every != middle]
    return taught, [episode for i, episode in enumerate(episodes) if i % every == middle]


def describe(episodes: Sequence[Episode]) -> str:
    """A hash of the episodes' names and actions: whether two trainings have the same data."""
    parts = [f"{episode.name}:{derive_seed(np.ascontiguousarray(episode.deltas).tobytes().hex())}" for episode in episodes]
    return f"{len(episodes)} episodes {derive_seed(*parts):016x}"


def _latent_scale(prophet: Prophet, episodes: Sequence[Episode]) -> LatentScale:
    frames = np.concatenate([camera_frames(episode, prophet.manifest.camera) for episode in episodes])
    chosen = frames[:: max(1, len(frames) // SCALE_FRAMES)]
    return LatentScale.fit(prophet.encode(chosen))  # its scale is the identity still
