"""Batches of (frame, the chunk of actions that follows it) from episodes.

Shapes: B = batch, C = cameras, H = actions in a chunk, A = numbers in an action, S = numbers in the state.
Which frames a batch holds depends on the generator alone, never on workers or on earlier batches.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from learning.episode import Episode
from learning.images import resize_square
from robot_stack.core.errors import ProphRLError, SpecMismatchError


@dataclass(frozen=True)
class ChunkBatch:
    """Frames and what was done from them.

    Attributes:
        images: [B, C, image_size, image_size, 3] uint8 RGB, cameras in the order that was asked for.
        state: [B, S] float32, SI units.
        deltas: [B, H, A] float32 delta actions, physical units; zero behind the episode's end.
        valid: [B, H] bool; False behind the episode's end.
        instructions: B texts.
    """

    images: npt.NDArray[np.uint8]
    state: npt.NDArray[np.float32]
    deltas: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    instructions: tuple[str, ...]


class ChunkSampler:
    """Draws batches of chunks.

    Args:
        episodes: where from.
        cameras: names of the cameras, in the policy's order.
        chunk_length: H.
        image_size: side to which pictures are resized [px], so that cameras of different sizes share a batch.
        weights: one positive number for each episode; a frame is drawn in proportion to its episode's weight. Equal by default.

    Raises:
        ProphRLError: no episodes, or weights that do not fit them.
        SpecMismatchError: an episode lacks a camera.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        cameras: Sequence[str],
        chunk_length: int,
        image_size: int,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not episodes:
            raise ProphRLError("no episodes to train on: record demonstrations first, or check the path of the data")
        for episode in episodes:
            missing = [name for name in cameras if name not in episode.images]
            if missing:
                lines = [f"camera {name!r} is needed; the episode has {sorted(episode.images)}" for name in missing]
                raise SpecMismatchError("policy", f"episode {episode.name}", lines)
        per_episode = np.ones(len(episodes)) if weights is None else np.asarray(weights, dtype=np.float64)
        if per_episode.shape != (len(episodes),) or not (per_episode > 0).all() or not np.isfinite(per_episode).all():
            raise ProphRLError(f"{len(episodes)} episodes need as many positive weights, got {per_episode.tolist()}")
        self._episodes = tuple(episodes)
        self._cameras = tuple(cameras)
        self._chunk_length = chunk_length
        self._image_size = image_size
        self._index = [(e, t) for e, episode in enumerate(episodes) for t in range(len(episode))]
        per_frame = np.array([per_episode[e] for e, _ in self._index])
        self._probabilities = per_frame / per_frame.sum()

    def __len__(self) -> int:
        """Frames altogether."""
        return len(self._index)

    @property
    def fingerprint(self) -> str:
        """Hash of the episodes' content, order and weights: whether two samplers draw the same batches."""
        digest = hashlib.sha256(self._probabilities.tobytes())
        for episode in self._episodes:
            digest.update(f"{episode.name}\x1f{episode.instruction}".encode())
            for array in (episode.deltas, episode.state, *(episode.images[name] for name in self._cameras)):
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()[:16]

    def draw(self, batch_size: int, random: np.random.Generator) -> ChunkBatch:
        """A batch of frames drawn with replacement."""
        return self.gather(random.choice(len(self._index), size=batch_size, p=self._probabilities))

    def gather(self, frames: Sequence[int] | npt.NDArray[np.int64]) -> ChunkBatch:
        """The chunks that begin at ``frames``, counted through all episodes."""
        rows = [self._index[frame] for frame in frames]
        sources = [(self._episodes[e], t) for e, t in rows]
        deltas = np.zeros((len(rows), self._chunk_length, sources[0][0].deltas.shape[1]), dtype=np.float32)
        valid = np.zeros(deltas.shape[:2], dtype=np.bool_)
        for i, (episode, t) in enumerate(sources):
            chunk = episode.deltas[t : t + self._chunk_length]
            deltas[i, : len(chunk)] = chunk
            valid[i, : len(chunk)] = True
        return ChunkBatch(
            images=np.stack([self._pictures(episode, t) for episode, t in sources]),
            state=np.stack([episode.state[t] for episode, t in sources]).astype(np.float32),
            deltas=deltas,
            valid=valid,
            instructions=tuple(episode.instruction for episode, _ in sources),
        )

    def _pictures(self, episode: Episode, t: int) -> npt.NDArray[np.uint8]:
        return np.stack([resize_square(episode.images[name][t], self._image_size) for name in self._cameras])
