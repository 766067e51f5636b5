"""One step of a flow sampler as a Gaussian: how a policy explores, in practice and on the robot alike.

Shapes: B = chunks, H = actions in a chunk, A = numbers in an action. Torch-free: arrays and tensors both go in.
Time runs from t = 1 (noise) to t = 0 (action): x_t = t noise + (1 - t) action, v = noise - action. A velocity predicts both
ends: x0 = x - t v (the action) and x1 = x + (1 - t) v (the noise).
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Array = TypeVar("Array", bound=Any)  # a numpy array or a torch tensor


class SdeStep(Protocol):
    """One step of the sampler from t to t_next: a Gaussian with this mean and standard deviation."""

    def mean(self, x_t: Array, velocity: Array, t: float, t_next: float) -> Array:
        """Mean of x at ``t_next`` [B, H, A]."""
        ...

    def std(self, t: float, t_next: float) -> float:
        """Standard deviation of x at ``t_next``; zero where the step is deterministic."""
        ...


@dataclass(frozen=True)
class FlowGrpoStep:
    """Euler-Maruyama step of the reverse SDE with diffusion g(t) = noise sqrt(t / (1 - t)) (Liu et al., Flow-GRPO, 2025).

    It keeps the flow's marginals only as the step vanishes: with K = 5 and noise 0.7 the share of noise after the first step is
    0.89 instead of 0.80, and 0.18 is left at the end.

    Attributes:
        noise: the level, called eta in the derivation and a in Flow-GRPO; 0 gives the ODE.
    """

    noise: float = 0.7

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"noise level must be finite and at least 0, got {self.noise}")

    def mean(self, x_t: Array, velocity: Array, t: float, t_next: float) -> Array:
        x0, x1 = _ends(x_t, velocity, t)
        drift = self._diffusion(t, t_next) ** 2 * (t - t_next) / (2 * t)
        return x0 * (1 - t_next) + x1 * (t_next - drift)

    def std(self, t: float, t_next: float) -> float:
        return self._diffusion(t, t_next) * math.sqrt(t - t_next)

    def _diffusion(self, t: float, t_next: float) -> float:
        # g is infinite at t = 1, so the first step takes the next t in the denominator.
        return self.noise * math.sqrt(t / (1 - (t_next if t == 1.0 else t)))


@dataclass(frozen=True)
class CoefficientPreservingStep:
    """A step whose share of noise is that of the flow at any K (Wang and Yu, Coefficients-Preserving Sampling, 2025).

    Of the noise t' the part t' sin(phi) is drawn anew and t' cos(phi) is kept, phi = noise pi / 2. The last step (t' = 0) is
    therefore deterministic and carries no probability.

    Attributes:
        noise: 0 gives the ODE, 1 renews all noise in every step.
    """

    noise: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise level of the coefficient-preserving step must lie in 0..1, got {self.noise}")

    def mean(self, x_t: Array, velocity: Array, t: float, t_next: float) -> Array:
        x0, x1 = _ends(x_t, velocity, t)
        return x0 * (1 - t_next) + x1 * (t_next * math.cos(self.noise * math.pi / 2))

    def std(self, t: float, t_next: float) -> float:
        return t_next * math.sin(self.noise * math.pi / 2)


def _ends(x_t: Array, velocity: Array, t: float) -> tuple[Array, Array]:
    return x_t - t * velocity, x_t + (1 - t) * velocity
