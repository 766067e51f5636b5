"""The flow sampler as a stochastic process, so that actions have log-probabilities.

Shapes: K = flow steps, S = random ones among them, B = chunks, H = actions in a chunk, A = numbers in an action.
The steps themselves are in ``policy.sde_step``, so that an exported policy explores by the very same formula. Everything here
is float32: log-probabilities are sums of K H A terms whose ratio is exponentiated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from policy.sde_step import SdeStep

# (x_t [B, H, A], t [B, H]) -> v [B, H, A]; a policy with its prefix bound.
Velocity = Callable[[Tensor, Tensor], Tensor]

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


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
