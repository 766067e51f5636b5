"""Prophet as a simulator of latents: N clips that go on chunk by chunk.

Shapes: N = clips, L = frames remembered, H = actions in a chunk, A = numbers in an action, C, h, w = latent grid.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learning.allocator import keep_freed_memory
from learning.episode import Episode
from learning.images import resize_square
from learning.seeding import Key
from robot_stack.core.camera import CameraModel
from robot_stack.core.errors import ProphRLError, ShapeError
from robot_stack.core.types import FloatArray
from world_model.checkpoint import Prophet
from world_model.condition import Condition
from world_model.frames import camera_frames
from world_model.history import History
from world_model.sampler import SamplerSettings, sample, sample_noise


@dataclass(frozen=True)
class StartContext:
    """A real moment from which imagination begins.

    Attributes:
        images: the last frames, oldest first, the present one last [l, height, width, 3] uint8; l is at least 1 and at
            most what Prophet remembers. Before the first of them nothing has moved.
        commanded: targets in force at them [l, A].
        deltas: actions between them [l - 1, A].
        camera: that made the images; None where it is not calibrated.
        instruction: the task in words, for a Prophet that reads it.
    """

    images: npt.NDArray[np.uint8]
    commanded: FloatArray
    deltas: FloatArray
    camera: CameraModel | None = None
    instruction: str = ""

    @classmethod
    def of_episode(cls, episode: Episode, camera: str, frame: int, span: int) -> "StartContext":
        """Frame ``frame`` of ``episode`` with as much of the past as there is, at most ``span`` frames in all."""
        rows = slice(max(0, frame + 1 - span), frame + 1)
        return cls(
            images=camera_frames(episode, camera)[rows],
            commanded=np.asarray(episode.commanded[rows], dtype=np.float64),
            deltas=np.asarray(episode.deltas[rows][:-1], dtype=np.float64),
            camera=episode.cameras.get(camera),
            instruction=episode.instruction,
        )

    @classmethod
    def at_rest(
        cls,
        image: npt.NDArray[np.uint8],
        commanded: FloatArray,
        camera: CameraModel | None = None,
        instruction: str = "",
    ) -> "StartContext":
        """The beginning of an episode: one image [height, width, 3] and one target [A]."""
        return cls(image[None], commanded[None], np.zeros((0, len(commanded))), camera, instruction)


@dataclass(frozen=True)
class EncodedStart:
    """A start as Prophet remembers it.

    Attributes:
        frames: [L, C, h, w].
        poses: [L, S].
        arcs, exist: [L], see ``History``.
        present: target in force at the last frame [A].
        camera: see ``StartContext``.
        text: embedded instruction [L, width], None for the learned constant.
    """

    frames: Tensor
    poses: Tensor
    arcs: Tensor
    exist: Tensor
    present: FloatArray
    camera: CameraModel | None
    text: Tensor | None = None


class Imagination:
    """N clips under way.

    Args:
        prophet: the world model.
        sampler: how frames are drawn.
        starts: moments to begin from [N].
        seeds: noise seed of each clip.
    """

    def __init__(
        self, prophet: Prophet, sampler: SamplerSettings, starts: Sequence[EncodedStart], seeds: Sequence[Key]
    ) -> None:
        keep_freed_memory()  # every chunk needs what the one before has freed
        self._prophet, self._sampler = prophet, _of_domain(sampler, prophet)
        self._past = History(
            prophet.settings,
            torch.stack([start.frames for start in starts]),
            torch.stack([start.poses for start in starts]),
            torch.stack([start.arcs for start in starts]),
            torch.stack([start.exist for start in starts]),
        )
        texts = [start.text for start in starts if start.text is not None]
        self._text = torch.stack(texts) if len(texts) == len(starts) else None
        self._seeds = tuple(seeds)
        self._cameras = [start.camera for start in starts]
        self._targets = np.stack([start.present for start in starts])
        self._chunks = 0

    @torch.inference_mode()
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
        length = prophet.settings.chunk_length
        if deltas.shape[:2] != (len(self._seeds), length) or deltas.shape != targets.shape:
            raise ShapeError("chunk of delta actions", deltas.shape, f"[{len(self._seeds)}, {length}, A]")
        to_come = prophet.normalise_poses(targets)
        context = self._past.context()
        frames = context[:, :, -1:].repeat(1, 1, length, 1, 1).transpose(1, 2)
        rows = torch.arange(len(frames)) if alive is None else torch.from_numpy(np.flatnonzero(alive))
        if len(rows):
            going = rows.tolist()
            condition = Condition(
                deltas=prophet.normalise_deltas(deltas),
                poses=torch.cat([self._past.poses(), to_come], dim=1),
                mask=prophet.mask.expand(len(frames), -1),
                history=self._past.looked_back(),
                origin=self._past.origin(),
                path=self._past.path(),
                text=self._text,
                rate_hz=prophet.domain.rate_hz,
            ).rows(rows)
            if prophet.settings.draws:
                condition = dataclasses.replace(condition, action_frames=self._draw(targets, going, context[rows]))
            shape = prophet.latent_shape
            keys = [(self._seeds[row], "imagined chunk", self._chunks) for row in going]
            drawn_frames = length // shape.temporal_factor
            noise = sample_noise(keys, (shape.channels, drawn_frames, shape.size, shape.size)).to(prophet.device)
            drawn = sample(prophet.transformer, prophet.settings, noise, context[rows], condition, self._sampler)
            frames[rows] = prophet.frames_of(context[rows, :, -1], drawn)
        self._past.push(frames, to_come, prophet.way(deltas))
        self._targets = targets[:, -1]
        self._chunks += 1
        return frames

    def _draw(self, targets: FloatArray, rows: Sequence[int], context: Tensor) -> Tensor:
        """Action frames of the clips ``rows`` [B, C, T, h, w]; blank where frames are given."""
        drawn = []
        for row in rows:
            camera = self._cameras[row]
            if camera is None:
                raise ProphRLError("this world model sees action frames, but the camera of a start is not calibrated")
            drawn.append(self._prophet.draw(np.concatenate([self._targets[row : row + 1], targets[row]]), camera))
        return torch.cat([torch.zeros_like(context), torch.stack(drawn).transpose(1, 2)], dim=2)


def encode_starts(prophet: Prophet, starts: Sequence[StartContext]) -> list[EncodedStart]:
    """The starts as Prophet remembers them; before the first frame of each its picture stands in."""
    size = prophet.latent_shape.image_size
    images = np.concatenate([resize_square(start.images, size) for start in starts])
    latents = prophet.encode(images).split([len(start.images) for start in starts])
    encoded = []
    for start, frames in zip(starts, latents, strict=True):
        missing = prophet.settings.span - len(frames)
        poses = prophet.normalise_poses(start.commanded)
        arcs = torch.nn.functional.pad(torch.cumsum(prophet.way(start.deltas), dim=0), (1, 0))
        exist = torch.ones_like(arcs, dtype=torch.bool)
        led = _led(frames, missing), _led(poses, missing), _led(arcs, missing), _led(exist, missing, fill=False)
        encoded.append(EncodedStart(*led, start.commanded[-1], start.camera, prophet.text_of(start.instruction)))
    return encoded


def _of_domain(sampler: SamplerSettings, prophet: Prophet) -> SamplerSettings:
    """``sampler`` with what it leaves to the domain."""
    alone = prophet.latent_shape.temporal_factor == 1
    return sampler if sampler.still is not None or not alone else dataclasses.replace(sampler, still=prophet.domain.still)


def replay_all(prophet: Prophet, episodes: Sequence[Episode], sampler: SamplerSettings, run: int = 0) -> list[Tensor]:
    """``replay`` of episodes of any lengths: for each, its latents [F, C, h, w]."""
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

    Where the last chunk is not full, the arm is told to stand still after the last action and what follows is left out.

    Args:
        episodes: of equal length F.
        run: seed of the noise.
        deltas, commanded: actions [F, A] and targets in force [F, A] to replay instead of the episodes' own.

    Returns:
        Latents [N, F, C, h, w], the real first frame included.
    """
    length = prophet.settings.chunk_length
    camera = prophet.domain.camera
    starts = encode_starts(prophet, [StartContext.of_episode(episode, camera, 0, 1) for episode in episodes])
    actions = np.stack([np.asarray(e.deltas, dtype=np.float64) for e in episodes] if deltas is None else list(deltas))
    targets = np.stack([np.asarray(e.commanded, dtype=np.float64) for e in episodes] if commanded is None else list(commanded))
    steps = actions.shape[1] - 1
    missing = -steps % length
    standing = np.where(prophet.domain.additive, 0.0, targets[:, -1:])
    actions = np.concatenate([actions[:, :steps], np.repeat(standing, missing, axis=1)], axis=1)
    targets = np.concatenate([targets[:, 1:], np.repeat(targets[:, -1:], missing, axis=1)], axis=1)
    imagination = Imagination(prophet, sampler, starts, [f"replay {run} {episode.name}" for episode in episodes])
    chunks = [
        imagination.step(actions[:, first : first + length], targets[:, first : first + length])
        for first in range(0, steps, length)
    ]
    begin = torch.stack([start.frames[-1:] for start in starts])
    return torch.cat([begin, *chunks], dim=1)[:, : steps + 1]


def _led(values: Tensor, missing: int, fill: bool | None = None) -> Tensor:
    """``values`` [l, ...] with ``missing`` rows before them: the first one again, or ``fill``."""
    lead = values[:1].expand(missing, *values.shape[1:])
    return torch.cat([lead if fill is None else torch.full_like(lead, fill), values])
