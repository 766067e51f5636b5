"""Action chunks in, one target per tick out.

A chunk was computed from an observation that is older than the chunk. The targets that were sent in between are already done:
they are dropped by counting what really was consumed since the observation, never by dividing an estimated delay by the period.
So a tick that held (nothing was consumed) loses no motion, and a late chunk never makes the arm go back. An observation with
the stamp of a tick was made before that tick's target was consumed.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot_stack.core.actions import compose, decompose
from robot_stack.core.robot_spec import ActionKind
from robot_stack.core.types import ActionChunk, FloatArray

HISTORY = 512  # ticks remembered; older than any chunk that may still be executed


class ChunkBuffer:
    """The targets that wait to be sent.

    Args:
        action_size: numbers in one target.
    """

    def __init__(self, action_size: int) -> None:
        self._action_size = action_size
        self._targets: deque[FloatArray] = deque()
        self._consumed_ns: deque[int] = deque(maxlen=HISTORY)
        self.stamp_ns: int | None = None  # observation behind the waiting targets
        self.received_ns: int | None = None  # steady clock at the chunk's receipt
        self.revision = 0  # changes whenever what waits is replaced or dropped, not when some of it is taken
        self.seam = False  # whether what waits is new: its first target continues nothing that was taken

    def __len__(self) -> int:
        return len(self._targets)

    def push(self, chunk: ActionChunk, received_ns: int) -> int:
        """Replace what waits by ``chunk``, less what was consumed since its observation.

        Returns:
            How many of its targets now wait; 0 where the chunk is older than the one in use or wholly consumed (it is dropped).
        """
        done = self._consumed_since(chunk)
        if done is None:
            return 0
        return self._take(chunk, chunk.targets[done:], received_ns)

    def replace(self, chunk: ActionChunk, received_ns: int) -> int:
        """Replace what waits by all of ``chunk``: for a source that speaks one target at a time, whose youngest word counts."""
        return self._take(chunk, chunk.targets, received_ns)

    def renew(self, stamp_ns: int, received_ns: int) -> None:
        """What waits, or was taken last, is still meant."""
        self.stamp_ns, self.received_ns = stamp_ns, received_ns

    def pop(self, tick_ns: int) -> FloatArray | None:
        """The target [A] for the tick at ``tick_ns``, or None where nothing waits."""
        if not self._targets:
            return None
        self._consumed_ns.append(tick_ns)
        self.seam = False
        return self._targets.popleft()

    @property
    def upcoming(self) -> FloatArray:
        """What waits [P, A], in the order in which it will be sent."""
        return np.array(self._targets).reshape(-1, self._action_size)

    def clear(self) -> None:
        """Drop what waits; what was consumed stays known."""
        self._targets.clear()
        self.revision += 1

    def _take(self, chunk: ActionChunk, targets: FloatArray, received_ns: int) -> int:
        self._targets = deque(np.array(target, dtype=np.float64) for target in targets)
        self._note(chunk, received_ns)
        return len(self._targets)

    def _note(self, chunk: ActionChunk, received_ns: int) -> None:
        self.stamp_ns, self.received_ns = chunk.stamp_ns, received_ns
        self.revision += 1
        self.seam = True

    def _consumed_since(self, chunk: ActionChunk) -> int | None:
        """Targets of ``chunk`` that are done; None where it is older than the one in use or wholly done."""
        if self.stamp_ns is not None and chunk.stamp_ns < self.stamp_ns:
            return None
        done = sum(tick_ns >= chunk.stamp_ns for tick_ns in self._consumed_ns)
        return done if done < len(chunk.targets) else None


@dataclass
class _Overlap:
    """A chunk and how many of its targets are done."""

    targets: FloatArray
    done: int

    @property
    def left(self) -> int:
        return len(self.targets) - self.done


class EnsemblingBuffer(ChunkBuffer):
    """Averages what several chunks say about the same step.

    Args:
        kinds: kind of each number of an action [A]; rotations are averaged on their turn from the oldest chunk's.
        decay: a chunk weighs exp(-decay i), i = 0 for the oldest.
    """

    def __init__(self, kinds: Sequence[ActionKind], decay: float) -> None:
        super().__init__(len(kinds))
        self._kinds, self._decay = tuple(kinds), decay
        self._chunks: list[_Overlap] = []

    def __len__(self) -> int:
        return max((chunk.left for chunk in self._chunks), default=0)

    def push(self, chunk: ActionChunk, received_ns: int) -> int:
        """Add ``chunk`` to those that are averaged; what was consumed since its observation is done."""
        done = self._consumed_since(chunk)
        if done is None:
            return 0
        self._chunks.append(_Overlap(np.array(chunk.targets, dtype=np.float64), done))
        self._note(chunk, received_ns)
        return len(self)

    def replace(self, chunk: ActionChunk, received_ns: int) -> int:
        self.clear()
        return self.push(chunk, received_ns)

    def pop(self, tick_ns: int) -> FloatArray | None:
        if not len(self):
            return None
        target = self._mean(0)
        self._consumed_ns.append(tick_ns)
        self.seam = False
        for chunk in self._chunks:
            chunk.done += 1
        self._chunks = [chunk for chunk in self._chunks if chunk.left > 0]
        return target

    @property
    def upcoming(self) -> FloatArray:
        return np.array([self._mean(ahead) for ahead in range(len(self))]).reshape(-1, self._action_size)

    def clear(self) -> None:
        self._chunks = []
        self.revision += 1

    def _mean(self, ahead: int) -> FloatArray:
        """Weighted mean [A] of what the chunks say about the step ``ahead`` of the next."""
        said = np.array([chunk.targets[chunk.done + ahead] for chunk in self._chunks if chunk.left > ahead])
        weights = np.exp(-self._decay * np.arange(len(said)))
        oldest = said[0]
        turns = decompose(np.broadcast_to(oldest, said.shape), said[:, None], self._kinds)[:, 0]
        mean = compose(oldest, (weights @ turns / weights.sum())[None], self._kinds)[0]
        grippers = [index for index, kind in enumerate(self._kinds) if kind is ActionKind.GRIPPER]
        mean[grippers] = weights @ said[:, grippers] / weights.sum()
        return mean
