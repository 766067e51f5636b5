"""A vector environment whose episodes end after a given time: imagination is trusted only so far.

Shapes: N = environments, H = actions in a chunk, A = numbers in an action.
"""

from collections.abc import Sequence
from dataclasses import replace

from robot_stack.core.errors import ProphRLError
from robot_stack.core.ports import EnvironmentStep, VectorEnvironment
from robot_stack.core.types import FloatArray


class HorizonGuard:
    """Passes everything on until the horizon; the step that reaches it is ``truncated``, and a further one is refused.

    Args:
        environment: true or imagined.
        horizon: ticks of an episode.

    Raises:
        ProphRLError: the horizon is not positive.
    """

    def __init__(self, environment: VectorEnvironment, horizon: int) -> None:
        if horizon < 1:
            raise ProphRLError(f"a horizon must be at least one tick, got {horizon}")
        self._environment, self._horizon, self._ticks = environment, horizon, 0

    def reset(self, starts: Sequence[int], noise_seeds: Sequence[int] | None = None) -> EnvironmentStep:
        """Begin N episodes."""
        self._ticks = 0
        return self._environment.reset(starts, noise_seeds)

    def step(self, deltas: FloatArray) -> EnvironmentStep:
        """Execute chunks of delta actions [N, H, A].

        Raises:
            ProphRLError: the chunk would end behind the horizon.
        """
        ticks = self._ticks + deltas.shape[1]
        if ticks > self._horizon:
            raise ProphRLError(
                f"a chunk of {deltas.shape[1]} ticks after {self._ticks} would pass the horizon of {self._horizon}; reset first"
            )
        seen = self._environment.step(deltas)
        self._ticks = ticks
        return replace(seen, truncated=ticks == self._horizon)

    def close(self) -> None:
        """Free what the environment holds."""
        self._environment.close()
