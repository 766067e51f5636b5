"""How Prophet's transformer learns: windows of episodes, part of them with the model's own output as context.

Shapes as in ``prophet.py``.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from world_model.denoiser import DenoiserSettings, denoising_loss
from world_model.fitting import FitSettings, StepSeeds, fit
from world_model.history import History
from world_model.latents import LatentEpisode, Windows, WindowSampler
from world_model.prophet import ActionCondition, ProphetSettings, ProphetTransformer
from world_model.sampler import SamplerSettings, sample


def fit_prophet(
    network: ProphetTransformer,
    episodes: Sequence[LatentEpisode],
    shape: ProphetSettings,
    settings: FitSettings,
    denoiser: DenoiserSettings,
    mask: Tensor,
    *,
    run: int,
    folder: Path | None,
    identity: str = "",
    progress: bool = True,
) -> ProphetTransformer:
    """Train ``network`` on windows of ``episodes``; returns the averaged copy."""
    windows = WindowSampler(episodes, shape.context_offsets, shape.chunk_length)
    network.requires_grad_(True)

    def loss_of_step(seeds: StepSeeds) -> Mapping[str, Tensor]:
        chunks = 0
        if seeds.step >= denoiser.self_forcing_after and seeds.draw.random() < denoiser.self_forcing:
            chunks = int(seeds.draw.integers(1, denoiser.self_forcing_chunks + 1))
        batch = draw_windows(network, windows, shape, settings.batch_size, chunks, mask, seeds)
        return denoising_loss(network, batch, mask, denoiser, seeds.noise)

    return fit(network, loss_of_step, settings, purpose="prophet", run=run, folder=folder, identity=identity, progress=progress)


def draw_windows(
    network: ProphetTransformer,
    windows: WindowSampler,
    shape: ProphetSettings,
    count: int,
    chunks: int,
    mask: Tensor,
    seeds: StepSeeds,
) -> Windows:
    """``count`` windows whose context is real (``chunks`` = 0) or ends in so many chunks of the model's own (self-forcing)."""
    episode, present = windows.draw(count, seeds.draw, chunks)
    batch = windows.cut(episode, present)
    if chunks == 0:
        return batch
    start = present - chunks * windows.chunk_length
    history = History(windows.history(episode, start), shape.context_offsets)
    network.eval()
    for chunk in range(chunks):
        actual = windows.cut(episode, start + chunk * windows.chunk_length)
        noise = torch.randn(actual.future.shape, generator=seeds.noise)
        condition = ActionCondition(actual.deltas, actual.poses, mask)
        context = history.context().transpose(1, 2)
        history.push(sample(network, noise, context, condition, SamplerSettings(batch_size=count)).transpose(1, 2))
    network.train()
    return dataclasses.replace(batch, context=history.context().transpose(1, 2).clone())
