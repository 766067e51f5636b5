"""The straight path between actions and noise, and its loss: the one place that says what time means.

t = 1 is noise, t = 0 is data: x_t = t noise + (1 - t) x_0, velocity v = dx_t/dt = noise - x_0.
Shapes: B = batch, H = actions in a chunk, A = numbers in an action; times are [B, H], one for each action.
"""

import torch
from torch import Tensor


def interpolate(x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t [B, H, A] at times t [B, H]."""
    return t[..., None] * noise + (1.0 - t[..., None]) * x_0


def target_velocity(x_0: Tensor, noise: Tensor) -> Tensor:
    """Velocity of the path [B, H, A], the same at all times."""
    return noise - x_0


def data_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The x_0 [B, H, A] to which ``velocity`` points from x_t."""
    return x_t - t[..., None] * velocity


def noise_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The noise x_1 [B, H, A] from which ``velocity`` comes to x_t."""
    return x_t + (1.0 - t[..., None]) * velocity


def sample_times(batch: int, chunk_length: int, random: torch.Generator) -> Tensor:
    """Training times [B, H]: uniform in (0, 1], one for all actions of a chunk."""
    return (1.0 - torch.rand(batch, 1, generator=random)).expand(batch, chunk_length)


def sample_prefix(batch: int, chunk_length: int, longest: int, probability: float, random: torch.Generator) -> Tensor:
    """Which actions are given as committed in training [B, H] bool: with ``probability`` the first 1..longest ones."""
    if not 0 <= longest < chunk_length:
        raise ValueError(f"longest prefix must be 0..{chunk_length - 1} for chunks of {chunk_length}, got {longest}")
    if longest == 0:
        return torch.zeros(batch, chunk_length, dtype=torch.bool)
    length = torch.randint(1, longest + 1, (batch, 1), generator=random)
    length = length * (torch.rand(batch, 1, generator=random) < probability)
    return torch.arange(chunk_length) < length


def weighted_loss(velocity: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean squared velocity error over the actions with weight.

    Args:
        velocity, target: [B, H, A].
        weight: [B, H], at least 0; 0 where an action was given (prefix) or lies behind the episode's end.
    """
    per_action = (velocity - target).square().mean(dim=-1)
    return (per_action * weight).sum() / weight.sum().clamp(min=1e-8)
