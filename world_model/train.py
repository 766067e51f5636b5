"""``prophrl train-world-model``, ``pretrain-world-model`` and ``adapt``: the tokenizer first, then Prophet on its latents."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learning.data_sources import Dataset
from learning.episode import Episode
from learning.fitting import training_device
from learning.metrics_log import write_figures
from learning.seeding import derive_seed
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from world_model.acquaintance import acquainted, new_domain
from world_model.autoencoder import Autoencoder
from world_model.autoencoder_training import fit_autoencoder
from world_model.base_model import BaseModel, find_base
from world_model.checkpoint import Manifest, Prophet, load_prophet, save_prophet
from world_model.checkpoint_parts import transformer_for
from world_model.cosmos import CosmosSettings, on_base, read_cosmos
from world_model.domain import Domain
from world_model.frames import FrameSet, camera_frames
from world_model.growth import grown
from world_model.held_out import is_held_out, refuse_held_out
from world_model.latent_cache import LatentCache, encode_all
from world_model.latent_scale import LatentScale
from world_model.latents import WindowSampler
from world_model.lora import LoraSettings, make_trainable, merged
from world_model.measure import measure_autoencoder, measure_prophet, without_nan
from world_model.prophet_training import Source, fit_prophet
from world_model.settings import Phase, WorldModelSettings
from world_model.sizes import ProphetSettings
from world_model.text import TEXT_PARTS, read_text_encoder
from world_model.views import with_views

SHIPPED = Path(__file__).resolve().parent / "weights"
SCALE_FRAMES = 4096  # of which the latents' statistics are taken
MEASURED_EPISODES = 64  # of those kept out of training, at most
_log = logging.getLogger(__name__)


def collect_main(argv: Sequence[str]) -> int:
    """Collect what ``pretrain-world-model`` needs into ``out``; with ``checkpoint.policy``, an exported one, also its own."""
    from learning.hydra_entry import build, compose, robot_spec

    config = compose(argv, "collect-pretraining")
    _collect(build(config.world_model), robot_spec(config), Path(config.out), config.checkpoint.policy)
    return 0


def train_main(argv: Sequence[str]) -> int:
    """Train from nothing, or from a base model, into ``out``: on ``data``, or on what ``world_model.collect`` makes."""
    return _from_nothing(argv, "train-world-model", to_ship=False)


def pretrain_main(argv: Sequence[str]) -> int:
    """The same for weights that are to be shipped: no held-out task enters them, and the tasks they saw are listed."""
    return _from_nothing(argv, "pretrain-world-model", to_ship=True)


def _from_nothing(argv: Sequence[str], stage: str, to_ship: bool) -> int:
    from learning.hydra_entry import build, compose, load_data, robot_spec

    config = compose(argv, stage)
    torch.set_num_threads(config.threads)
    settings: WorldModelSettings = build(config.world_model)
    spec, out = robot_spec(config), Path(config.out)
    least = settings.transformer.chunk_length + 1
    datasets = load_data(config, least)
    if not datasets:
        config.data.path = [str(path) for path in _collect(settings, spec, out / "data", config.checkpoint.policy)]
        datasets = load_data(config, least)
    if to_ship:
        refuse_held_out(episode.task for dataset in datasets for episode in dataset.episodes)
    command = f"prophrl {stage} seed={config.seed}"
    blank = new_prophet(settings, datasets, config.seed)
    prophet = train_prophet(blank, datasets, settings, settings.pretrain, out, run=config.seed, note=command, from_nothing=True)
    save_prophet(prophet, out)
    if to_ship:
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
    from learning.hydra_entry import build, compose, load_data

    config = compose(argv, "adapt")
    torch.set_num_threads(config.threads)
    settings: WorldModelSettings = build(config.world_model)
    out = Path(config.out)
    weights = config.checkpoint.world_model or (None if settings.weights == "none" else settings.weights)
    known = None if weights is None else read_weights(weights)
    datasets = load_data(config, (known.settings if known else settings.transformer).chunk_length + 1)
    if not datasets:
        raise ProphRLError("nothing to adapt to: name the recorded episodes, data=<dataset folder> or data=[<folder>,<folder>]")
    start = beginning(settings, datasets, config.seed, known)
    note = f"adapted to {sum(len(d.episodes) for d in datasets)} episodes, seed {config.seed}"
    prophet = train_prophet(
        start, datasets, settings, settings.adapt, out, run=config.seed, note=note, from_nothing=weights is None
    )
    save_prophet(prophet, out)
    return 0


def read_weights(weights: str | Path) -> Prophet:
    """Prophet of a folder, or the shipped one for "shipped"."""
    return load_prophet(SHIPPED if str(weights) == "shipped" else Path(weights))


def beginning(settings: WorldModelSettings, datasets: Sequence[Dataset], seed: int, known: Prophet | None) -> Prophet:
    """What a training begins with: ``known`` and the streams that ``settings`` add to it, or else untrained networks."""
    return new_prophet(settings, datasets, seed) if known is None else grown(known, settings.transformer, seed)


def new_prophet(settings: WorldModelSettings, datasets: Sequence[Dataset], seed: int) -> Prophet:
    """Untrained networks that know the actions of ``datasets``, or those of the base model."""
    torch.manual_seed(derive_seed(seed, "world model weights"))  # modules draw their weights from torch's own generator
    domains = [new_domain(dataset, settings.camera) for dataset in datasets]
    if settings.base is not None:
        texts = None if settings.latents is None else Path(settings.latents)
        return _new_on_base(settings.base, settings.transformer, domains, texts)
    if settings.autoencoder is None:
        raise ProphRLError(
            "nothing to start from: world_model.autoencoder or world_model.base has to say what encodes pictures"
        )
    tokenizer = Autoencoder(settings.autoencoder)
    return Prophet(
        tokenizer=tokenizer,
        transformer=transformer_for(settings.transformer, tokenizer),
        settings=settings.transformer,
        scale=LatentScale((0.0,) * tokenizer.shape.channels, (1.0,)),
        domains={domain.name: domain for domain in domains},
        active=domains[0].name,
    )


def _new_on_base(
    settings: CosmosSettings, transformer: ProphetSettings, domains: Sequence[Domain], texts: Path | None
) -> Prophet:
    base, text = BaseModel.of_place(settings.place), None
    folder = find_base(settings.place)
    sizes = on_base(transformer, folder)
    tokenizer, network = read_cosmos(folder, sizes, settings.image_size, settings.precision)
    if settings.text:
        text = read_text_encoder(find_base(settings.place, TEXT_PARTS), sizes.backbone.text_width, texts)
    return Prophet(
        tokenizer=tokenizer,
        transformer=network,
        settings=sizes,
        scale=LatentScale(*tokenizer.statistics),
        domains={domain.name: domain for domain in domains},
        active=domains[0].name,
        base=base,
        text=text,
    )


def train_prophet(
    start: Prophet,
    datasets: Sequence[Dataset],
    settings: WorldModelSettings,
    phase: Phase,
    out: Path,
    *,
    run: int,
    note: str,
    from_nothing: bool,
    progress: bool = True,
) -> Prophet:
    """Train both networks of ``start`` on ``datasets``; curves, state and ``figures.json`` go to ``out``.

    Args:
        note: what is done, for the manifest's history.
        from_nothing: the networks are untrained: begin with principal components and take new latent statistics.

    Raises:
        ProphRLError: low-rank changes are to be kept apart from a base model, but there is none.
    """
    if phase.lora is not None and not phase.lora.merge and start.base is None:
        raise ProphRLError("lora.merge=false keeps the change apart from a base model, but this world model stands on none")
    prophet, names = acquainted(start.to(training_device()), datasets, settings.camera)
    parts = [split(dataset.episodes, settings.validation_every) for dataset in datasets]
    takes = [
        [
            take
            for seen in with_views(taught, dataset.action_kinds, dataset.views)
            for take in _takes(seen, prophet.using(name), phase.all_cameras)
        ]
        for dataset, (taught, _), name in zip(datasets, parts, names, strict=True)
    ]
    taught_by = describe(episode for recorded in takes for episode, _ in recorded)
    identity = f"{taught_by} {settings.autoencoder if prophet.base is None else prophet.base}"
    prophet = _train_autoencoder(prophet, takes, settings, phase, out, run, identity, from_nothing, progress)
    held_back = list(parts[0][1])[:MEASURED_EPISODES]
    figures: dict[str, Any] = {"episodes": sum(len(taught) for taught, _ in parts)}
    figures["autoencoder"] = measure_autoencoder(prophet, held_back)
    _log.info("autoencoder on held-back episodes: %s", figures["autoencoder"])
    cache = None if settings.latents is None else LatentCache(Path(settings.latents), prophet)
    factor = prophet.latent_shape.temporal_factor
    sources = [
        Source(
            WindowSampler(encode_all(prophet.using(name), recorded, cache, progress), prophet.settings, factor, prophet.device),
            dataset.weight,
        )
        for dataset, name, recorded in zip(datasets, names, takes, strict=True)
    ]
    lora = phase.lora or LoraSettings(rank=0)
    make_trainable(prophet.transformer, lora)
    if phase.gradient_checkpointing:
        prophet.transformer.enable_gradient_checkpointing()
    transformer = fit_prophet(
        prophet.transformer,
        sources,
        prophet.settings,
        phase.prophet,
        settings.denoiser,
        prophet.frames_of,
        self_forcing_after=phase.self_forcing_after,
        run=run,
        folder=out,
        identity=f"{identity} {prophet.settings} {phase.lora}",
        progress=progress,
    )
    transformer.disable_gradient_checkpointing()
    if lora.merge:
        transformer = merged(transformer)
    manifest = Manifest(
        tasks=tuple(sorted({*start.manifest.tasks, *(e.task or "(unnamed)" for d in datasets for e in d.episodes)})),
        history=(*start.manifest.history, note),
    )
    prophet = prophet.replace(transformer=transformer, manifest=manifest)
    figures["prophet"] = measure_prophet(prophet, held_back, settings.sampler)
    _log.info("prophet on held-back episodes: %s", figures["prophet"])
    write_figures(out / "figures.json", without_nan(figures))
    return prophet


def _train_autoencoder(
    prophet: Prophet,
    takes: Sequence[Sequence[tuple[Episode, str]]],
    settings: WorldModelSettings,
    phase: Phase,
    out: Path,
    run: int,
    identity: str,
    from_nothing: bool,
    progress: bool,
) -> Prophet:
    network, size = prophet.tokenizer, prophet.latent_shape.image_size
    if not isinstance(network, Autoencoder) or (phase.autoencoder.steps == 0 and not from_nothing):
        return prophet
    by_camera: dict[tuple[int, str], list[Any]] = {}
    for number, recorded in enumerate(takes):
        for episode, camera in recorded:
            by_camera.setdefault((number, camera), []).append(camera_frames(episode, camera, size))
    frames = FrameSet.join([FrameSet.of_videos(videos) for videos in by_camera.values()])
    taught = fit_autoencoder(
        network.requires_grad_(True),
        frames,
        phase.autoencoder,
        settings.autoencoder_loss,
        run=run,
        folder=out,
        identity=identity,
        linear_start=from_nothing,
        progress=progress,
    ).requires_grad_(False)
    prophet = prophet.replace(tokenizer=taught)
    if from_nothing:
        chosen = frames.images[:: max(1, len(frames) // SCALE_FRAMES)]
        prophet = prophet.replace(scale=LatentScale.fit(prophet.encode(chosen)))  # its scale is the identity still
    return prophet


def _takes(episode: Episode, prophet: Prophet, all_cameras: bool) -> list[tuple[Episode, str]]:
    return [(episode, camera) for camera in (sorted(episode.images) if all_cameras else [prophet.domain.camera])]


def split[T](episodes: Sequence[T], every: int) -> tuple[list[T], list[T]]:
    """Episodes to learn from and every ``every``-th one, held back to measure; a handful of episodes all teach."""
    if every < 2 or len(episodes) < every:
        return list(episodes), []
    middle = every // 2
    taught = [episode for i, episode in enumerate(episodes) if i % every != middle]
    return taught, [episode for i, episode in enumerate(episodes) if i % every == middle]


def describe(episodes: Iterable[Episode]) -> str:
    """A hash of the episodes' names and actions: whether two trainings have the same data."""
    parts = [f"{episode.name}:{derive_seed(np.ascontiguousarray(episode.deltas).tobytes().hex())}" for episode in episodes]
    return f"{len(parts)} episodes {derive_seed(*parts):016x}"
