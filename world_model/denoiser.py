"""What Prophet's transformer predicts and the loss that teaches it.

Shapes as in ``prophet.py``. x_t = t noise + (1 - t) x_0 with t = 1 noise, t = 0 data; the network predicts x_0, with an
anchor as the change from the present frame.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from world_model.latents import Windows
from world_model.prophet import ActionCondition, ProphetTransformer


@dataclass(frozen=True)
class DenoiserSettings:
    """The loss and what makes it robust.

    Attributes:
        moving_weight: added weight of cells that move, at most.
        pure_noise: share of the clips trained at t = 1, where one sampling step begins; the others have t uniform in 0..1.
        context_noise: largest std of the noise on context latents; its level is uniform from 0.
        self_forcing: share of the batches whose context is the model's own output.
        self_forcing_after: step from which on.
        self_forcing_chunks: chunks of own output before the window, at most.
    """

    moving_weight: float = 4.0
    pure_noise: float = 0.7
    context_noise: float = 0.1
    self_forcing: float = 0.4
    self_forcing_after: int = 500
    self_forcing_chunks: int = 2


def predict_clean(network: ProphetTransformer, x_t: Tensor, t: Tensor, context: Tensor, condition: ActionCondition) -> Tensor:
    """The network's x_0 [B, C, H, h, w] of ``x_t`` at noise level ``t`` [B]."""
    output = network(x_t, t, context, condition)
    return context[:, :, -1:] + output if network.config.anchor else output


def denoising_loss(
    network: ProphetTransformer, windows: Windows, mask: Tensor, settings: DenoiserSettings, noise: torch.Generator
) -> dict[str, Tensor]:
    """Weighted squared error of x_0.

    Args:
        mask: action slots in use [S].
        noise: for noise levels and noise.
    """
    batch = len(windows.future)
    pure = torch.rand(batch, generator=noise) < settings.pure_noise
    t = torch.where(pure, 1.0, torch.rand(batch, generator=noise))
    epsilon = torch.randn(windows.future.shape, generator=noise)
    level = t[:, None, None, None, None]
    x_t = level * epsilon + (1.0 - level) * windows.future
    context_std = settings.context_noise * torch.rand(batch, 1, 1, 1, 1, generator=noise)
    context = windows.context + context_std * torch.randn(windows.context.shape, generator=noise)
    x_0 = predict_clean(network, x_t, t, context, ActionCondition(windows.deltas, windows.poses, mask))
    squared = (x_0 - windows.future).square()
    weighted = (1.0 + settings.moving_weight * windows.weight) * squared
    still = (windows.context[:, :, -1:] - windows.future).square().mean()
    return {"loss": weighted.mean(), "error": squared.mean(), "error_of_copy": still}
