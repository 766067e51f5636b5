"""Which starts to practise from: those that lately told good rollouts from bad, then those not solved yet, then the rest.

Most starts are always solved or never; a group in which all rollouts fare alike teaches nothing. What can be learnt lies at the
edge between them, and the edge moves as the policy gets better (prioritised level replay: Jiang et al., ICML 2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from learning.seeding import generator
from robot_stack.core.types import FloatArray

UNSEEN = 0.2  # weight of a start that was never tried: somewhat more than starts promise on average


@dataclass
class StartMemory:
    """What the last group from each start came to.

    Attributes:
        reward: start -> mean reward, 0..1.
        spread: start -> standard deviation of the rewards.
    """

    reward: dict[int, float] = field(default_factory=dict)
    spread: dict[int, float] = field(default_factory=dict)

    def learn(self, starts: Sequence[int], rewards: FloatArray) -> None:
        """Enter the rewards [P, G] of the groups from ``starts`` [P]."""
        for start, group in zip(starts, rewards, strict=True):
            self.reward[start], self.spread[start] = float(np.mean(group)), float(np.std(group))

    def weight(self, start: int, hope: float) -> float:
        """How much practice from ``start`` promises; ``hope`` where it always fails, 0 where it always succeeds."""
        return self.spread[start] + hope * (1.0 - self.reward[start]) if start in self.spread else UNSEEN

    def draw(
        self,
        pool: Sequence[int],
        count: int,
        run: int,
        update: int,
        avoid: Sequence[int] = (),
        *,
        focus: float = 0.0,
        hope: float = 0.0,
    ) -> list[int]:
        """Up to ``count`` different starts from ``pool`` without those in ``avoid``, drawn by (run, update).

        Args:
            focus: share of the probability that goes by ``weight``; the rest is equal for all.
            hope: see ``weight``.
        """
        free = [start for start in pool if start not in set(avoid)]
        if not free:
            return []
        weights = np.array([self.weight(start, hope) for start in free])
        by_weight = weights / weights.sum() if weights.sum() > 0 else np.full(len(free), 1.0 / len(free))
        probability = focus * by_weight + (1.0 - focus) / len(free)
        rng = generator(run, "starts", update, len(avoid))
        possible = min(count, len(free), int(np.count_nonzero(probability)))
        order = rng.choice(len(free), possible, replace=False, p=probability / probability.sum())
        return [free[i] for i in order]

    def facts(self) -> list[tuple[int, float, float]]:
        """As plain numbers, for a file."""
        return [(start, self.reward[start], self.spread[start]) for start in self.reward]

    @classmethod
    def of_facts(cls, facts: Sequence[Sequence[float]]) -> "StartMemory":
        """Back from ``facts``."""
        return cls({int(s): reward for s, reward, _ in facts}, {int(s): spread for s, _, spread in facts})
