"""How Prophet's transformer learns: windows of episodes, part of them with the model's own output as context.

Shapes as in ``condition.py``.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from learning.fitting import FitSettings, StepSeeds, fit
from world_model.denoiser import DenoiserSettings, denoising_loss
from world_model.latents import Windows, WindowSampler
from world_model.prophet import ProphetTransformer
from world_model.sampler import SamplerSettings, sample
from world_model.sizes import ProphetSettings

FramesOf = Callable[[Tensor, Tensor], Tensor]  # present frame and drawn latents -> each frame's own latents, see ``Prophet``


@dataclasses.dataclass(frozen=True)
class Source:
    """Windows of one dataset and how often they are drawn.

    Attributes:
        windows: of its episodes.
        weight: batches are drawn from the sources in proportion to it.
    """

    windows: WindowSampler
    weight: float = 1.0


def fit_prophet(
    network: ProphetTransformer,
    sources: Sequence[Source],
    shape: ProphetSettings,
    settings: FitSettings,
    denoiser: DenoiserSettings,
    frames_of: FramesOf,
    *,
    self_forcing_after: int = 0,
    run: int,
    folder: Path | None,
    identity: str = "",
    progress: bool = True,
) -> ProphetTransformer:
    """Train what is trainable in ``network`` on windows of ``sources``; returns the averaged copy.

    Args:
        self_forcing_after: update from which on part of the batches has the model's own output as context.
    """
    shares = np.array([source.weight for source in sources])
    shares = shares / shares.sum()

    def loss_of_step(learner: ProphetTransformer, seeds: StepSeeds) -> Mapping[str, Tensor]:
        windows = sources[int(seeds.draw.choice(len(sources), p=shares))].windows
        chunks = 0
        if seeds.step >= self_forcing_after and seeds.draw.random() < denoiser.self_forcing:
            chunks = int(seeds.draw.integers(1, denoiser.self_forcing_chunks + 1))
        batch = draw_windows(network, windows, shape, frames_of, settings.batch_size, chunks, seeds)
        return denoising_loss(learner, shape, batch, denoiser, seeds.noise)

    return fit(network, loss_of_step, settings, purpose="prophet", run=run, folder=folder, identity=identity, progress=progress)


def draw_windows(
    network: ProphetTransformer,
    windows: WindowSampler,
    shape: ProphetSettings,
    frames_of: FramesOf,
    count: int,
    chunks: int,
    seeds: StepSeeds,
) -> Windows:
    """``count`` windows whose context is real (``chunks`` = 0) or ends in so many chunks of the model's own (self-forcing)."""
    episode, present = windows.draw(count, seeds.draw, chunks)
    batch = windows.cut(episode, present)
    own = min(chunks, int(present.min()) // windows.chunk_length)
    if own == 0:
        return batch
    start = present - own * windows.chunk_length
    history = windows.remember(episode, start)
    network.eval()
    for chunk in range(own):
        begin = start + chunk * windows.chunk_length
        actual = windows.cut(episode, begin)
        condition = dataclasses.replace(
            actual.condition, history=history.looked_back(), origin=history.origin(), path=history.path()
        )
        noise = torch.randn(actual.future.shape, generator=seeds.noise).to(actual.future)
        drawn = sample(network, shape, noise, history.context(), condition, SamplerSettings(batch_size=count))
        poses = actual.condition.poses[:, -windows.chunk_length :]
        history.push(frames_of(history.context()[:, :, -1], drawn), poses, windows.steps(episode, begin))
    network.train()
    # Clones, for what was made in inference mode takes no part in gradients.
    past, origin = history.looked_back(), history.origin()
    past = None if past is None else dataclasses.replace(past, latents=past.latents.clone())
    condition = dataclasses.replace(batch.condition, history=past, origin=None if origin is None else origin.clone())
    return dataclasses.replace(batch, context=history.context().clone(), condition=condition)
