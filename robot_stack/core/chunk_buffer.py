"""Action chunks in, one target per tick out.

A chunk was computed from an observation that is older than the chunk. The targets that were sent in between are already done:
they are dropped by counting what really was consumed since the observation, never by dividing an estimated delay by the period.
So a tick that held (nothing was consumed) loses no motion, and a late chunk never makes the arm go back. An observation with
the stamp of a tick was made before that tick's target was consumed.
"""

from collections import deque

import numpy as np

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

    def __len__(self) -> int:
        return len(self._targets)

    def push(self, chunk: ActionChunk, received_ns: int) -> int:
        """Replace what waits by ``chunk``, less what was consumed since its observation.

        Returns:
            How many of its targets now wait; 0 where the chunk is older than the one in use or wholly consumed (it is dropped).
        """
        if self.stamp_ns is not None and chunk.stamp_ns < self.stamp_ns:
            return 0
        done = sum(tick_ns >= chunk.stamp_ns for tick_ns in self._consumed_ns)
        if done >= len(chunk.targets):
            return 0
        return self._take(chunk, chunk.targets[done:], received_ns)

    def replace(self, chunk: ActionChunk, received_ns: int) -> int:
        """Replace what waits by all of ``chunk``: for a source that speaks one target at a time, whose youngest word counts."""
        return self._take(chunk, chunk.targets, received_ns)

    def pop(self, tick_ns: int) -> FloatArray | None:
        """The target [A] for the tick at ``tick_ns``, or None where nothing waits."""
        if not self._targets:
            return None
        self._consumed_ns.append(tick_ns)
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
        self.stamp_ns, self.received_ns = chunk.stamp_ns, received_ns
        self.revision += 1
        return len(self._targets)
