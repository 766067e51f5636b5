"""Episodes as latents, and windows of them for training Prophet.

Shapes as in ``condition.py``, F = frames of an episode, f = temporal factor of the tokenizer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robot_stack.core.errors import ProphRLError
from world_model.condition import Condition, HistoryFrames
from world_model.history import History, choose, path_of
from world_model.sizes import ProphetSettings

FOREGROUND_LATENT = 0.5  # root mean square distance from the median latent at which a cell counts as fully moving
POOLS = {
    "frames": torch.float16,
    "clips": torch.float16,
    "drawn": torch.float16,
    "moving": torch.float16,
    "objects": torch.float16,
    "deltas": torch.float32,
    "poses": torch.float32,
    "arcs": torch.float32,
    "masks": torch.float32,
}
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LatentEpisode:
    """One episode of one camera, encoded.

    Attributes:
        name: of the episode.
        frames: each frame as a clip of its own [F, C, h, w], normalised.
        deltas, poses: [F, S] float32, normalised, in slots; row t as in ``learning.episode``.
        mask: slots in use [S].
        arcs: way travelled until each frame [F], in frames of average motion.
        clips: what follows each frame, where the tokenizer takes several frames together [F - H, n, C, h, w]; None for f = 1,
            where it is ``frames`` themselves.
        drawn: latents of the action frames that follow, as ``frames`` or ``clips`` are; None without a calibrated camera.
        objects: how much each cell belongs to an object [F, h, w]; None where that is not known, see ``object_cells``.
        rate_hz: frames a second, None where unknown.
        text: embedded instruction [L, width], None for the learned constant.
    """

    name: str
    frames: Tensor
    deltas: Tensor
    poses: Tensor
    mask: Tensor
    arcs: Tensor
    clips: Tensor | None = None
    drawn: Tensor | None = None
    objects: Tensor | None = None
    rate_hz: float | None = None
    text: Tensor | None = None

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Windows:
    """Clips cut from episodes.

    Attributes:
        context: given frames [B, C, K, h, w].
        future: [B, C, n, h, w].
        moving: importance of each cell to come [B, 1, n, h, w]; 0 for the background to 1 for what moves.
        objects: how much each cell belongs to an object then, or did at the present frame [B, 1, n, h, w]; 0 where not known.
        condition: the rest.
    """

    context: Tensor
    future: Tensor
    moving: Tensor
    objects: Tensor
    condition: Condition

    def to(self, device: torch.device) -> "Windows":
        """On another device."""
        return Windows(
            context=self.context.to(device),
            future=self.future.to(device),
            moving=self.moving.to(device),
            objects=self.objects.to(device),
            condition=self.condition.to(device),
        )


class WindowSampler:
    """Draws windows at random, or cuts given ones. All episodes have one rate.

    Latents are kept in 16 bits: of a hundred thousand frames that is a gigabyte and a half.

    Args:
        episodes: where from, gone through once; those too short for one window are left out.
        settings: of the transformer.
        actions_per_frame: f.
        device: where windows are wanted; the latents stay on the CPU.

    Raises:
        ProphRLError: no episode is long enough, or only some have action frames.
    """

    def __init__(
        self,
        episodes: Iterable[LatentEpisode],
        settings: ProphetSettings,
        actions_per_frame: int = 1,
        device: torch.device | None = None,
    ) -> None:
        self._settings, self._stride = settings, actions_per_frame
        self._device = device or torch.device("cpu")
        self.chunk_length = settings.chunk_length
        pools = {name: _Pool(kind) for name, kind in POOLS.items()}
        lengths, texts, numbers = [], list[Tensor | None](), []
        self._rate_hz: float | None = None
        for episode in episodes:
            if len(episode) <= settings.chunk_length:
                continue
            if settings.draws and episode.drawn is None:
                raise ProphRLError(f"episode {episode.name} has no action frames: its camera is not calibrated")
            pools["frames"].add(episode.frames)
            pools["moving"].add(moving_cells(episode.frames))
            unknown = torch.zeros_like(episode.frames[:, 0])
            pools["objects"].add(unknown if episode.objects is None else episode.objects)
            pools["deltas"].add(episode.deltas)
            pools["poses"].add(episode.poses)
            pools["arcs"].add(episode.arcs)
            pools["masks"].add(episode.mask[None])
            if actions_per_frame > 1:
                pools["clips"].add(_padded(episode, episode.clips))
            if settings.draws:
                pools["drawn"].add(_padded(episode, episode.drawn))
            if not any(known is episode.text for known in texts):  # few: episodes of one task share theirs
                texts.append(episode.text)
            numbers.append(next(i for i, known in enumerate(texts) if known is episode.text))
            lengths.append(len(episode))
            self._rate_hz = episode.rate_hz
        if not lengths:
            raise ProphRLError(f"no episode has more than {settings.chunk_length} frames, the least that a window needs")
        self._frames, self._moving, self._objects, self._deltas, self._poses, self._arcs, self._masks = (
            pools[name].values for name in ("frames", "moving", "objects", "deltas", "poses", "arcs", "masks")
        )
        self._clips = pools["clips"].values if actions_per_frame > 1 else None
        self._drawn = pools["drawn"].values if settings.draws else None
        told = [text for text in texts if text is not None]
        self._texts = torch.stack(told) if len(told) == len(texts) else None
        self._text = torch.tensor(numbers)
        self._lengths = torch.tensor(lengths)
        self._starts = torch.cumsum(self._lengths, 0) - self._lengths

    def __len__(self) -> int:
        """Frames altogether."""
        return len(self._frames)

    def draw(self, count: int, random: np.random.Generator, chunks_before: int = 0) -> tuple[Rows, Rows]:
        """Episodes and present frames of ``count`` windows with ``chunks_before`` chunks before; frames equally likely.

        Where no episode is long enough for so many chunks, as many as fit the longest.
        """
        lengths = self._lengths.numpy()
        chunks_before = min(chunks_before, (int(lengths.max()) - 1) // self.chunk_length - 1)
        first = chunks_before * self.chunk_length
        room = np.maximum(lengths - self.chunk_length - first, 0)
        chosen = random.choice(len(room), size=count, p=room / room.sum())
        return chosen, first + random.integers(room[chosen])

    def cut(self, episodes: Rows, present: Rows) -> Windows:
        """The windows whose present frame is ``present`` [B] of ``episodes`` [B]."""
        start, now = self._starts[torch.from_numpy(episodes)], torch.from_numpy(np.asarray(present))
        offsets = torch.tensor(self._settings.context_offsets)
        context = start[:, None] + (now[:, None] + offsets).clamp_min(0)
        steps = torch.arange(self.chunk_length)
        following = start[:, None] + now[:, None] + 1 + steps
        arrivals = following[:, self._stride - 1 :: self._stride]
        future = self._to_come(self._frames, self._clips, start + now, arrivals)
        given = self._frames[context].float().transpose(1, 2)
        windows = Windows(
            context=given,
            future=future,
            moving=self._moving[arrivals].float()[:, None],
            objects=torch.maximum(self._objects[arrivals], self._objects[start + now][:, None]).float()[:, None],
            condition=Condition(
                deltas=self._deltas[following - 1],
                poses=torch.cat([self._poses[context], self._poses[following]], dim=1),
                mask=self._masks[torch.from_numpy(episodes)],
                action_frames=self._action_frames(given, start + now, arrivals),
                history=self._history(start, now),
                origin=self._origin(start, now),
                path=self._path(start, now),
                text=None if self._texts is None else self._texts[self._text[torch.from_numpy(episodes)]],
                rate_hz=self._rate_hz,
            ),
        )
        return windows.to(self._device)

    def remember(self, episodes: Rows, present: Rows) -> History:
        """What is known at the frame ``present`` [B] of ``episodes`` [B]: imagination goes on from there."""
        start, now = self._starts[torch.from_numpy(episodes)], torch.from_numpy(np.asarray(present))
        ages, exist = self._ages(now)
        rows = start[:, None] + ages
        kept = [values.to(self._device) for values in (self._frames[rows].float(), self._poses[rows], self._arcs[rows], exist)]
        return History(self._settings, *kept)

    def steps(self, episodes: Rows, present: Rows) -> Tensor:
        """The way from each frame of the chunk after ``present`` to the next [B, H]."""
        start, now = self._starts[torch.from_numpy(episodes)], torch.from_numpy(np.asarray(present))
        rows = start[:, None] + now[:, None] + torch.arange(self.chunk_length + 1)
        return self._arcs[rows].diff(dim=1).to(self._device)

    def _ages(self, now: Tensor) -> tuple[Tensor, Tensor]:
        """Frames of the last L ones within their episode [B, L], its first where there is none, and whether they exist."""
        wanted = now[:, None] + torch.arange(1 - self._settings.span, 1)
        return wanted.clamp_min(0), wanted >= 0

    def _history(self, start: Tensor, now: Tensor) -> HistoryFrames | None:
        settings = self._settings
        if not settings.history.frames:
            return None
        within, exist = self._ages(now)
        rows = start[:, None] + within
        columns, valid = choose(self._arcs[rows], exist, settings.context_offsets, settings.history)
        return HistoryFrames(self._frames[rows.gather(1, columns)].float(), settings.span - 1 - columns, valid)

    def _origin(self, start: Tensor, now: Tensor) -> Tensor | None:
        if not self._settings.origin:
            return None
        return self._frames[start + (now + 1 - self._settings.span).clamp_min(0)].float()

    def _path(self, start: Tensor, now: Tensor) -> Tensor | None:
        if not self._settings.path:
            return None
        within, exist = self._ages(now)
        return path_of(self._poses[start[:, None] + within], exist)

    def _to_come(self, frames: Tensor, clips: Tensor | None, present: Tensor, arrivals: Tensor) -> Tensor:
        """[B, C, n, h, w]."""
        return (frames[arrivals] if clips is None else clips[present]).float().transpose(1, 2)

    def _action_frames(self, given: Tensor, present: Tensor, arrivals: Tensor) -> Tensor | None:
        if self._drawn is None:
            return None
        clips = None if self._clips is None else self._drawn
        return torch.cat([torch.zeros_like(given), self._to_come(self._drawn, clips, present, arrivals)], dim=2)


def moving_cells(frames: Tensor) -> Tensor:
    """How much each cell differs from the episode's median, 0 to 1 [F, h, w], of ``frames`` [F, C, h, w]."""
    distance = (frames - frames.median(dim=0).values).square().mean(dim=1).sqrt()
    return (distance / FOREGROUND_LATENT).clamp_max(1.0)


class _Pool:
    """Rows that grow in few large steps: thousands of tensors of episodes would leave memory in pieces that nobody can use.

    Args:
        dtype: of the rows.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._rows = torch.empty(0, dtype=dtype)
        self._filled = 0

    def add(self, part: Tensor) -> None:
        """Append ``part`` [n, ...]."""
        wanted = self._filled + len(part)
        if wanted > len(self._rows):
            larger = torch.empty((max(wanted, 3 * len(self._rows) // 2), *part.shape[1:]), dtype=self._rows.dtype)
            if self._filled:
                larger[: self._filled] = self.values
            self._rows = larger
        self._rows[self._filled : wanted] = part
        self._filled = wanted

    @property
    def values(self) -> Tensor:
        """All rows."""
        return self._rows[: self._filled]


def _padded(episode: LatentEpisode, clips: Tensor | None) -> Tensor:
    """``clips`` with one row a frame, so that rows of all tensors belong together; the rows that are added are never used."""
    if clips is None:
        raise ProphRLError(f"episode {episode.name} was encoded for another tokenizer: its clips are missing")
    missing = len(episode) - len(clips)
    return torch.cat([clips, clips[-1:].expand(missing, *clips.shape[1:])]) if missing else clips
