"""How chunks are executed: when a new one is asked for, and what it does to those before it."""

import enum
from dataclasses import dataclass

from robot_stack.core.chunk_buffer import ChunkBuffer, EnsemblingBuffer
from robot_stack.core.robot_spec import RobotSpec


class ExecutionMode(enum.StrEnum):
    """Ways to execute chunks."""

    SYNCHRONOUS = "synchronous"  # to its end; the arm rests until the next one comes
    ASYNCHRONOUS = "asynchronous"  # the next one is asked for in time and takes over by the steps that were really consumed
    REAL_TIME_CHUNKING = "real_time_chunking"  # the same, and it continues the actions that will be sent in any case
    TEMPORAL_ENSEMBLING = "temporal_ensembling"  # asked for at every action; the chunks that overlap are averaged (ACT)


@dataclass(frozen=True)
class ExecutionSettings:
    """Settings of an execution mode.

    Attributes:
        mode: see ``ExecutionMode``.
        refill: asynchronous and real-time chunking: targets that still wait when the next chunk is asked for. It has to cover
            the time of an inference.
        decay: temporal ensembling: a chunk weighs exp(-decay i), i = 0 for the oldest (Zhao et al., "Learning Fine-Grained
            Bimanual Manipulation with Low-Cost Hardware", arXiv 2304.13705).
    """

    mode: ExecutionMode = ExecutionMode.SYNCHRONOUS
    refill: int = 5
    decay: float = 0.01

    def __post_init__(self) -> None:
        if self.refill < 1:
            raise ValueError(f"refill must be at least 1, got {self.refill}")
        if self.decay < 0:
            raise ValueError(f"decay must not be negative, got {self.decay}")

    def make_buffer(self, spec: RobotSpec) -> ChunkBuffer:
        """An empty buffer for chunks of a robot."""
        if self.mode is ExecutionMode.TEMPORAL_ENSEMBLING:
            return EnsemblingBuffer(spec.action_kinds, self.decay)
        return ChunkBuffer(len(spec.actions))

    def asks(self, waiting: int, under_way: bool) -> bool:
        """Whether a new chunk is wanted while ``waiting`` targets wait and the arm is on its way to one (or rests)."""
        if self.mode is ExecutionMode.TEMPORAL_ENSEMBLING:
            return True
        if self.mode is ExecutionMode.SYNCHRONOUS:
            return waiting == 0 and not under_way
        return waiting <= self.refill
