"""FA-GRPO and FlowScale (ProphRL, arXiv 2511.20633): the loss, and nothing of how rollouts come about.

Shapes: S = random flow steps (index k), B = chunks (rollout and observation step s), H = actions in a chunk (index c),
A = numbers in an action (index d).
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rl.flow_sde import gaussian_kl
from robot_stack.core.errors import ProphRLError

# exp() of more is not a usable ratio and would overflow to inf, whose gradient is NaN even where it is clipped away.
_MAX_LOG_RATIO = 20.0


@dataclass(frozen=True)
class FlowScale:
    """Weights w_k of the flow steps' gradients.

    The score of a Gaussian step grows like 1 / std_k: without weights the steps of least noise, which decide least, dominate.
    w~_k = (std_k^2 + eps)^power, w_k = clip((1 - alpha) w~_k / mean_j(w~_j) + alpha, w_min, w_max).

    Attributes:
        alpha: share of equal weights: 1 switches FlowScale off, 0 weights by the steps' noise alone.
        w_min, w_max: limits of a weight, around 1. The paper does not publish alpha, w_min and w_max.
        power: p; with 0.5 the weights cancel the growth of the score exactly.
        eps: keeps w~ defined for vanishing noise.
    """

    alpha: float = 0.0
    w_min: float = 0.2
    w_max: float = 3.0
    power: float = 0.5
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"FlowScale alpha must lie in 0..1, got {self.alpha}")
        if not 0 <= self.w_min <= 1 <= self.w_max < math.inf:
            raise ValueError(f"FlowScale needs 0 <= w_min <= 1 <= w_max, got {self.w_min} and {self.w_max}")
        if not (math.isfinite(self.power) and self.eps > 0):
            raise ValueError(f"FlowScale needs a finite power and a positive eps, got {self.power} and {self.eps}")

    def weights(self, stds: Tensor) -> Tensor:
        """Weights [S] of steps with these standard deviations [S]; no gradient flows through them."""
        raw = (stds.detach() ** 2 + self.eps) ** self.power
        return ((1 - self.alpha) * raw / raw.mean() + self.alpha).clamp(self.w_min, self.w_max)


@dataclass(frozen=True)
class FaGrpoSettings:
    """Settings of the loss.

    Attributes:
        clip_low, clip_high: the ratio counts within 1 - clip_low .. 1 + clip_high.
        kl: beta, weight of the KL divergence from the reference policy.
        flow_scale: weights of the flow steps; alpha = 1 is FA-GRPO without FlowScale.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.03
    flow_scale: FlowScale = field(default_factory=FlowScale)

    def __post_init__(self) -> None:
        if not (0 < self.clip_low < 1 and self.clip_high > 0):
            raise ValueError(f"need 0 < clip_low < 1 and clip_high > 0, got {self.clip_low} and {self.clip_high}")
        if not self.kl >= 0:
            raise ValueError(f"kl must not be negative, got {self.kl}")


@dataclass(frozen=True)
class FaGrpoLoss:
    """The loss and what to watch; all are means over the valid numbers.

    Attributes:
        total: to be minimised; differentiable.
        policy: its clipped part.
        kl: from the reference, summed over the flow steps.
        clip_fraction: share of ratios outside the clip range.
        drift: (r - 1) - log r, an unbiased, non-negative estimate of the KL from the policy that acted.
    """

    total: Tensor
    policy: Tensor
    kl: Tensor
    clip_fraction: Tensor
    drift: Tensor


def weight_gradients(log_prob: Tensor, weights: Tensor) -> Tensor:
    """Sum of ``log_prob`` [S, ...] over the flow steps, whose k-th gradient is weighted by w_k.

    l~ = sum_k stop(l_k) + w_k (l_k - stop(l_k)): its value does not know w. The ratio has no index k, and
    f_clip(r, w A) = w f_clip(r, A); so weights on the advantage would do nothing once they are averaged over k.
    """
    fixed = log_prob.detach()
    return (fixed + weights.reshape(-1, *(1 for _ in log_prob.shape[1:])) * (log_prob - fixed)).sum(dim=0)


def clipped_surrogate(ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """f_clip(r, A) = min(r A, clip(r, 1 - low, 1 + high) A)."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def fa_grpo_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    kl: Tensor,
    advantage: Tensor,
    mask: Tensor,
    weights: Tensor,
    settings: FaGrpoSettings,
    count: Tensor | None = None,
) -> FaGrpoLoss:
    """One ratio per action and dimension, from the sum over flow steps, clipped, plus KL.

    Args:
        log_prob: of the recorded flow steps under the policy in training [S, B, H, A].
        old_log_prob: under the policy that acted, summed over the flow steps [B, H, A].
        kl: of each step from the reference policy [S, B, H, A]; see ``step_kl``.
        advantage: of each chunk's rollout [B].
        mask: True for actions that were executed before the episode ended [B, H].
        weights: of the flow steps [S]; see ``FlowScale.weights``.
        settings: clip range and KL weight.
        count: number of valid (s, c, d) to divide by; by default those of this batch. With several learners, their sum: then
            the sum of their gradients is the gradient of one learner with all the data.

    Raises:
        ProphRLError: nothing is valid, or the loss is not finite.
    """
    valid = mask[..., None].expand_as(old_log_prob)
    count = valid.sum() if count is None else count
    if not count > 0:
        raise ProphRLError("no valid action in the batch: every episode ended before its first chunk")

    def mean(values: Tensor) -> Tensor:
        return torch.where(valid, values, 0.0).sum() / count

    log_ratio = (weight_gradients(log_prob, weights) - old_log_prob).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    surrogate = clipped_surrogate(ratio, advantage[:, None, None], settings.clip_low, settings.clip_high)
    policy_loss, kl_loss = -mean(surrogate), mean(kl.sum(dim=0))
    total = policy_loss + settings.kl * kl_loss
    if not torch.isfinite(total):
        raise ProphRLError(f"FA-GRPO loss is {total.item()}: policy part {policy_loss.item()}, KL {kl_loss.item()}")
    with torch.no_grad():
        outside = (ratio < 1 - settings.clip_low) | (ratio > 1 + settings.clip_high)
        return FaGrpoLoss(total, policy_loss.detach(), kl_loss.detach(), mean(outside.float()), mean(ratio - 1 - log_ratio))


def step_kl(means: Tensor, reference_means: Tensor, std: Tensor) -> Tensor:
    """KL of each flow step from the reference, both with standard deviation ``std``; sums over k to that of the whole path."""
    return gaussian_kl(means, std, reference_means, std)
