"""The flow sampler as a stochastic process, so that actions have log-probabilities.

Shapes: K = flow steps, S = random ones among them, B = chunks, H = actions in a chunk, A = numbers in an action.
Time runs from t = 1 (noise) to t = 0 (action): x_t = t noise + (1 - t) action, v = noise - action. A velocity predicts both
ends: x0 = x - t v (the action) and x1 = x + (1 - t) v (the noise). Everything here is float32: log-probabilities are sums of
K H A terms whose ratio is exponentiated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# (x_t [B, H, A], t [B, H]) -> v [B, H, A]; a policy with its prefix bound.
Velocity = Callable[[Tensor, Tensor], Tensor]

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class SdeStep(Protocol):
    """One step of the sampler from t to t_next: a Gaussian with this mean and standard deviation."""

    def mean(self, x_t: Tensor, velocity: Tensor, t: float, t_next: float) -> Tensor:
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

    def mean(self, x_t: Tensor, velocity: Tensor, t: float, t_next: float) -> Tensor:
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

    def mean(self, x_t: Tensor, velocity: Tensor, t: float, t_next: float) -> Tensor:
        x0, x1 = _ends(x_t, velocity, t)
        return x0 * (1 - t_next) + x1 * (t_next * math.cos(self.noise * math.pi / 2))

    def std(self, t: float, t_next: float) -> float:
        return t_next * math.sin(self.noise * math.pi / 2)


@dataclass(frozen=True)
class FlowPath:
    """Sampled chunks with every state on the way.

    Attributes:
        states: x at each time [K + 1, B, H, A]; the first is the initial noise, the last the normalised actions.
        log_prob: of each random step and number [S, B, H, A].
    """

    states: Tensor
    log_prob: Tensor

    @property
    def actions(self) -> Tensor:
        """Normalised actions [B, H, A]."""
        return self.states[-1]


class SdeSampler:
    """K equal steps of one kind; samples chunks, and gives the step means of recorded chunks under other weights.

    Args:
        step: kind of step and its noise level.
        steps: K; the policy's number of flow steps.

    Raises:
        ValueError: no step is random, so that there would be no log-probabilities.
    """

    def __init__(self, step: SdeStep, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"need at least one flow step, got {steps}")
        self.step = step
        self.times = tuple(1 - k / steps for k in range(steps + 1))
        stds = [step.std(t, t_next) for t, t_next in zip(self.times, self.times[1:], strict=False)]
        self.random_steps = tuple(k for k, std in enumerate(stds) if std > 0)
        if not self.random_steps:
            raise ValueError(f"{step} with {steps} steps is deterministic: raise its noise level (or the number of steps)")
        self.stds = torch.tensor([stds[k] for k in self.random_steps], dtype=torch.float32)  # [S]

    def sample(self, velocity: Velocity, noise: Tensor) -> FlowPath:
        """Draw chunks.

        Args:
            velocity: the policy with its prefix bound.
            noise: standard normal numbers [K + 1, B, H, A]: the initial noise, then that of each step. Given from outside so
                that a chunk depends on its own seed only, not on what else is in the batch.
        """
        states, means = [noise[0].float()], []
        for k, (t, t_next) in enumerate(zip(self.times, self.times[1:], strict=False)):
            mean = self._mean(velocity, states[-1], t, t_next)
            states.append(mean + self.step.std(t, t_next) * noise[k + 1].float())
            means.append(mean)
        path = torch.stack(states)
        return FlowPath(path, self.log_prob(torch.stack([means[k] for k in self.random_steps]), path))

    def means(self, velocity: Velocity, states: Tensor) -> Tensor:
        """Means of the random steps [S, B, H, A] from recorded ``states`` [K + 1, B, H, A]; differentiable in the policy."""
        return torch.stack([self._mean(velocity, states[k], self.times[k], self.times[k + 1]) for k in self.random_steps])

    def log_prob(self, means: Tensor, states: Tensor) -> Tensor:
        """Log-probability of the recorded ``states`` [K + 1, B, H, A] under ``means`` [S, B, H, A], each number apart."""
        reached = states[[k + 1 for k in self.random_steps]]
        return gaussian_log_prob(reached, means, self.step_std(means))

    def step_std(self, like: Tensor) -> Tensor:
        """Standard deviations of the random steps, shaped to go with ``like`` [S, ...]."""
        return self.stds.to(like.device).reshape(-1, *(1 for _ in like.shape[1:]))

    def _mean(self, velocity: Velocity, x_t: Tensor, t: float, t_next: float) -> Tensor:
        times = torch.full(x_t.shape[:2], t, device=x_t.device)
        return self.step.mean(x_t, velocity(x_t, times).float(), t, t_next)


def gaussian_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log density of each number of ``x``."""
    return -0.5 * ((x - mean) / std) ** 2 - torch.log(std) - _LOG_SQRT_2PI


def gaussian_kl(mean: Tensor, std: Tensor, mean_ref: Tensor, std_ref: Tensor) -> Tensor:
    """KL(N(mean, std) || N(mean_ref, std_ref)) of each number; with equal std it is (mean - mean_ref)^2 / (2 std^2)."""
    return torch.log(std_ref / std) + (std**2 + (mean - mean_ref) ** 2) / (2 * std_ref**2) - 0.5


def _ends(x_t: Tensor, velocity: Tensor, t: float) -> tuple[Tensor, Tensor]:
    return x_t - t * velocity, x_t + (1 - t) * velocity
