"""Prophet as a simulator of latents: N clips that go on chunk by chunk.

Shapes: N = clips, L = frames looked back on, H = actions in a chunk, A = numbers in an action, C, h, w = latent grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learning.episode import Episode
from learning.seeding import Key
from robot_stack.core.errors import ShapeError
from robot_stack.core.types import FloatArray
from world_model.checkpoint import Prophet
from world_model.frames import camera_frames
from world_model.history import History, span
from world_model.prophet import ActionCondition
from world_model.sampler import SamplerSettings, sample, sample_noise


@dataclass(frozen=True)
class StartContext:
    """A real moment from which imagination begins.

    Attributes:
        images: the last frames, oldest first, the present one last [L, H, W, 3] uint8.
        commanded: targets in force at them [L, A].
    """

    images: npt.NDArray[np.uint8]
    commanded: FloatArray

    @classmethod
    def of_episode(cls, episode: Episode, camera: str, frame: int, offsets: Sequence[int]) -> "StartContext":
        """Frame ``frame`` of ``episode`` with the past that ``offsets`` look back on; before the episode, its first frame."""
        rows = np.maximum(np.arange(frame + 1 - span(offsets), frame + 1), 0)
        return cls(
            images=camera_frames(episode, camera)[rows],
            commanded=np.asarray(episode.commanded[rows], dtype=np.float64),
        )

    @classmethod
    def at_rest(cls, image: npt.NDArray[np.uint8], commanded: FloatArray, offsets: Sequence[int]) -> "StartContext":
        """The beginning of an episode: one image [H, W, 3] and one target [A], which have stood since before it began."""
        length = span(offsets)
        return cls(images=np.repeat(image[None], length, axis=0), commanded=np.repeat(commanded[None], length, axis=0))


class Imagination:
    """N clips under way.

    Args:
        prophet: the world model.
        sampler: how frames are drawn.
        latents: of the starts' frames [N, L, C, h, w], normalised.
        commanded: targets in force at them [N, L, A].
        seeds: noise seed of each clip.
    """

    def __init__(
        self, prophet: Prophet, sampler: SamplerSettings, latents: Tensor, commanded: FloatArray, seeds: Sequence[Key]
    ) -> None:
        self._prophet, self._sampler = prophet, sampler
        self._frames = History(latents, prophet.settings.context_offsets)
        self._poses = History(prophet.normalise_poses(commanded), prophet.settings.context_offsets)
        self._seeds = tuple(seeds)
        self._chunks = 0

    def step(self, deltas: FloatArray, targets: FloatArray, alive: npt.NDArray[np.bool_] | None = None) -> Tensor:
        """Latents [N, H, C, h, w] of the frames after each action.

        Args:
            deltas: delta actions [N, H, A], physical.
            targets: the absolute targets they amount to [N, H, A].
            alive: clips [N] that go on; the others stand still at their last frame, at no cost. By default all.

        Raises:
            ShapeError: not N clips, or a chunk of another length than Prophet's.
        """
        prophet = self._prophet
        expected = (len(self._seeds), prophet.settings.chunk_length)
        if deltas.shape[:2] != expected or deltas.shape != targets.shape:
            raise ShapeError("chunk of delta actions", deltas.shape, f"[{expected[0]}, {expected[1]}, A]")
        to_come = prophet.normalise_poses(targets)
        condition = ActionCondition(
            deltas=prophet.normalise_deltas(deltas), poses=torch.cat([self._poses.context(), to_come], dim=1), mask=prophet.mask
        )
        channels, height, width = prophet.latent_shape
        context = self._frames.context()
        frames = context[:, -1:].repeat(1, prophet.settings.chunk_length, 1, 1, 1)
        rows = torch.arange(len(frames)) if alive is None else torch.from_numpy(np.flatnonzero(alive))
        if len(rows):
            keys = [(self._seeds[row], "imagined chunk", self._chunks) for row in rows.tolist()]
            noise = sample_noise(keys, (channels, prophet.settings.chunk_length, height, width))
            going = ActionCondition(condition.deltas[rows], condition.poses[rows], condition.mask)
            drawn = sample(prophet.transformer, noise, context[rows].transpose(1, 2), going, self._sampler)
            frames[rows] = drawn.transpose(1, 2)
        self._frames.push(frames)
        self._poses.push(to_come)
        self._chunks += 1
        return frames


def encode_starts(prophet: Prophet, starts: Sequence[StartContext]) -> Tensor:
    """Latents [N, L, C, h, w] of the starts' frames."""
    images = np.stack([start.images for start in starts])
    latents = prophet.encode(images.reshape(-1, *images.shape[2:]))
    return latents.view(len(starts), -1, *latents.shape[1:])


def replay_all(prophet: Prophet, episodes: Sequence[Episode], sampler: SamplerSettings, run: int = 0) -> list[Tensor]:
    """``replay`` of episodes of any lengths: for each, its latents [T', C, h, w]."""
    by_length: dict[int, list[int]] = {}
    for index, episode in enumerate(episodes):
        by_length.setdefault(len(episode), []).append(index)
    videos: dict[int, Tensor] = {}
    for rows in by_length.values():
        videos |= zip(rows, replay(prophet, [episodes[row] for row in rows], sampler, run=run), strict=True)
    return [videos[index] for index in range(len(episodes))]


def replay(
    prophet: Prophet,
    episodes: Sequence[Episode],
    sampler: SamplerSettings,
    *,
    run: int = 0,
    deltas: Sequence[FloatArray] | None = None,
    commanded: Sequence[FloatArray] | None = None,
) -> Tensor:
    """The frames that Prophet imagines for the episodes' own actions from their first frame on.

    Args:
        episodes: of equal length T.
        run: seed of the noise.
        deltas, commanded: actions [T, A] and targets in force [T, A] to replay instead of the episodes' own.

    Returns:
        Latents [N, 1 + H floor((T - 1) / H), C, h, w], the real first frame included.
    """
    offsets, horizon = prophet.settings.context_offsets, prophet.settings.chunk_length
    starts = [StartContext.of_episode(episode, prophet.manifest.camera, 0, offsets) for episode in episodes]
    actions = np.stack([np.asarray(e.deltas, dtype=np.float64) for e in episodes] if deltas is None else list(deltas))
    targets = np.stack([np.asarray(e.commanded, dtype=np.float64) for e in episodes] if commanded is None else list(commanded))
    latents = encode_starts(prophet, starts)
    seeds = [f"replay {run} {episode.name}" for episode in episodes]
    imagination = Imagination(prophet, sampler, latents, np.stack([start.commanded for start in starts]), seeds)
    chunks = [
        imagination.step(actions[:, first : first + horizon], targets[:, first + 1 : first + 1 + horizon])
        for first in range(0, actions.shape[1] - horizon, horizon)
    ]
    return torch.cat([latents[:, -1:], *chunks], dim=1)
