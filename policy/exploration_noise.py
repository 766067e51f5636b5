"""The noise with which a policy explores: partly the same for a whole chunk, and for a whole episode.

Noise that is drawn anew for every action averages out: over the 30 actions of an episode an arm wanders by 5.5 standard
deviations of one of them, while noise that stays carries it as far as 30. Whoever fails because the arm goes to the wrong place
learns from the latter only (Eberhard et al., "Pink Noise Is All You Need", ICLR 2023, on noise that is correlated in time).
What that is worth here is measured in docs/results/exploration.md.

Each number alone remains standard normal, so every log-probability of one action and dimension, and the first ratio of one,
remain what they were. Their gradients, summed over correlated numbers, estimate C grad J instead of grad J, with C the
correlation of the noise: a smoothed direction, still one of ascent, because C is positive definite.

Torch-free: practice and the exported policy draw by the very same formula. K = flow steps, H = actions in a chunk,
A = numbers in an action.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from learning.seeding import generator
from policy.inputs import Float32Array


@dataclass(frozen=True)
class NoiseCorrelation:
    """Shares of the variance of the noise; what remains is drawn anew for every action.

    Attributes:
        chunk: the same for all actions of a chunk.
        episode: the same for all chunks of an episode.
    """

    chunk: float = 0.3
    episode: float = 0.5

    def __post_init__(self) -> None:
        if not (min(self.chunk, self.episode) >= 0 and self.chunk + self.episode < 1):
            shares = f"chunk {self.chunk} and episode {self.episode}"
            raise ValueError(f"shares of the noise must not be negative and leave some for each action, got {shares}")

    def draw(self, key: Sequence[int | str], chunk: int, shape: tuple[int, int, int]) -> Float32Array:
        """Noise of the flow steps of one chunk.

        Args:
            key: seed of the episode.
            chunk: its number within the episode.
            shape: (K, H, A).

        Returns:
            Standard normal numbers [K, H, A]; independent between flow steps and dimensions.
        """
        steps, _, numbers = shape
        own = generator(*key, "chunk", chunk)
        each = own.standard_normal(shape, dtype="float32")
        in_chunk = own.standard_normal((steps, 1, numbers), dtype="float32")
        in_episode = generator(*key, "episode").standard_normal((steps, 1, numbers), dtype="float32")
        rest = 1.0 - self.chunk - self.episode
        noise: Float32Array = (
            math.sqrt(rest) * each + math.sqrt(self.chunk) * in_chunk + math.sqrt(self.episode) * in_episode
        ).astype("float32")
        return noise
