"""What Prophet's transformer predicts and the loss that teaches it.

Shapes as in ``condition.py``. x_t = t noise + (1 - t) x_0 with t = 1 noise, t = 0 data; the network predicts x_0 (with an
anchor as the change from the present frame), or the velocity noise - x_0, as its base model was trained.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from world_model.condition import Condition
from world_model.latents import FOREGROUND_LATENT, Windows
from world_model.prophet import Prepared, ProphetTransformer
from world_model.sizes import VELOCITY, ProphetSettings

ERROR_RANGE = 100.0  # squared errors of cells count as at most so many times, and at least such a part of, the mean one
SCALE_FLOOR = 1e-2


@dataclass(frozen=True)
class DenoiserSettings:
    """The loss and what makes it robust.

    Attributes:
        moving_weight: added weight of cells that move in the episode, at most.
        change_weight: added weight of cells that change within the clip, at most: the arm on its way and what it touches.
        object_weight: added weight of cells in which an object is, where that is known, at most: an object of a few pixels is
            missed by few in the picture's error, but by whoever judges success.
        error_power: errors of cells count by this power of their size (reweighted by the last error, as least squares are).
            2: the mean of all that may happen is learnt, which smears what is not certain; 1: its geometric median, which is
            sharp where one outcome is likelier than all others together.
            Less than 1: what is likeliest near where training begins.
        pure_noise: share of the clips trained at t = 1, where one sampling step begins; the others have t uniform in 0..1.
            With 1 the network is a one-step regression.
        context_noise: largest std of the noise on given and history latents; its level is uniform from 0.
        self_forcing: share of the batches whose context is the model's own output, after a phase's warm-up.
        self_forcing_chunks: chunks of own output before the window, at most.
    """

    moving_weight: float = 4.0
    change_weight: float = 0.0
    object_weight: float = 0.0
    error_power: float = 2.0
    pure_noise: float = 0.7
    context_noise: float = 0.1
    self_forcing: float = 0.4
    self_forcing_chunks: int = 2

    def __post_init__(self) -> None:
        if not 0.0 <= self.pure_noise <= 1.0 or not 0.0 <= self.self_forcing <= 1.0:
            raise ValueError("pure_noise and self_forcing must be in [0, 1]")
        if self.error_power <= 0.0:
            raise ValueError("error_power must be above 0")


def predict_clean(
    network: ProphetTransformer,
    settings: ProphetSettings,
    x_t: Tensor,
    t: Tensor,
    context: Tensor,
    condition: Condition | Prepared,
) -> Tensor:
    """The network's x_0 [B, C, n, h, w] of ``x_t`` at noise level ``t`` [B]."""
    output = network(x_t, t, context, condition).float()
    level = t[:, None, None, None, None]
    if settings.prediction == VELOCITY:
        return x_t - level * output
    expected = context[:, :, -1:] if settings.anchor else torch.zeros_like(context[:, :, -1:])
    told, left = estimate(level, settings.spread)
    return expected + told * (x_t - (1.0 - level) * expected) + left * output


def estimate(t: Tensor, spread: float) -> tuple[Tensor, Tensor]:
    """What x_t tells by itself of x_0, and what is left to the network: preconditioning (Karras et al. 2022, arXiv 2206.00364).

    Of x_0 ~ N(expected, spread^2) and x_t the expectation is expected + told (x_t - (1 - t) expected); the network's output is
    scaled by the std that remains, in units of spread. For t = 1: 0 and 1; for t = 0: 1 and 0.

    Args:
        t: noise levels above 0, or spread above 0.
    """
    clean = (1.0 - t) * spread
    variance = (t.square() + clean.square()).clamp_min(1e-12)
    return clean * spread / variance, t / variance.sqrt()


def denoising_loss(
    network: ProphetTransformer,
    shape: ProphetSettings,
    windows: Windows,
    settings: DenoiserSettings,
    noise: torch.Generator,
) -> dict[str, Tensor]:
    """Weighted squared error of x_0, or of the velocity.

    Args:
        shape: of the transformer.
        noise: for noise levels and noise; a CPU generator.
    """
    future = windows.future
    batch = len(future)
    pure = torch.rand(batch, generator=noise) < settings.pure_noise
    t = torch.where(pure, 1.0, torch.rand(batch, generator=noise)).to(future)
    epsilon = torch.randn(future.shape, generator=noise).to(future)
    level = t[:, None, None, None, None]
    x_t = level * epsilon + (1.0 - level) * future
    blurred = _with_noise(windows, settings.context_noise, noise)
    x_0 = predict_clean(network, shape, x_t, t, blurred.context, blurred.condition)
    squared = (x_0 - future).square()
    present = windows.context[:, :, -1:]
    changed = ((future - present).square().mean(dim=1, keepdim=True).sqrt() / FOREGROUND_LATENT).clamp_max(1.0)
    weights = 1.0 + settings.moving_weight * windows.moving + settings.change_weight * changed
    weights = weights + settings.object_weight * windows.objects
    own = squared.detach().mean(dim=1, keepdim=True)
    emphasis = (own / own.mean()).clamp(1.0 / ERROR_RANGE, ERROR_RANGE) ** (settings.error_power / 2.0 - 1.0)
    weights = weights * emphasis / emphasis.mean()
    scale = level if shape.prediction == VELOCITY else estimate(level, shape.spread)[1]  # of x_0's error against the output's
    weights = weights / scale.square().clamp_min(SCALE_FLOOR)
    still = (present - future).square().mean()
    return {"loss": (weights * squared).mean(), "error": squared.mean(), "error_of_copy": still}


def _with_noise(windows: Windows, largest: float, noise: torch.Generator) -> Windows:
    """Given and history frames with noise: the model's own output will not be perfect either."""
    level = largest * torch.rand(len(windows.context), 1, 1, 1, 1, generator=noise).to(windows.context)
    context = windows.context + level * torch.randn(windows.context.shape, generator=noise).to(windows.context)
    condition = windows.condition
    if condition.history is not None:
        latents = condition.history.latents
        latents = latents + level * torch.randn(latents.shape, generator=noise).to(latents)
        condition = dataclasses.replace(condition, history=dataclasses.replace(condition.history, latents=latents))
    return dataclasses.replace(windows, context=context, condition=condition)
