"""Identities of FA-GRPO and FlowScale (ProphRL), checked on a small flow in float64 where differences are taken."""

import dataclasses

import pytest
import torch
from torch import Tensor

from policy.sde_step import FlowGrpoStep
from rl.fa_grpo import FaGrpoSettings, FlowScale, clipped_surrogate, fa_grpo_loss, step_kl, weight_gradients
from rl.flow_sde import SdeSampler, gaussian_log_prob
from robot_stack.core.errors import ProphRLError

OFF = FlowScale(alpha=1.0)
ON = FlowScale(alpha=0.1)


class SmallFlow(torch.nn.Module):
    """Velocity of 3 actions of 2 numbers, with enough parameters to make gradients interesting."""

    def __init__(self, steps: int = 5, chunks: int = 24) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.inner = torch.nn.Parameter(torch.randn(7, 8, generator=random) * 0.5)
        self.outer = torch.nn.Parameter(torch.randn(8, 6, generator=random) * 0.5)
        self.sampler = SdeSampler(FlowGrpoStep(0.7), steps)
        with torch.no_grad():
            path = self.sampler.sample(self.velocity, torch.randn((steps + 1, chunks, 3, 2), generator=random))
        self.states, self.old = path.states, path.log_prob.sum(dim=0)
        self.reference = self.sampler.means(self.velocity, path.states).detach()
        self.advantage = torch.randn(chunks, generator=random)
        self.mask = torch.rand((chunks, 3), generator=random) > 0.2
        with torch.no_grad():  # away from the policy that acted, so that ratios differ from one and some are clipped
            self.inner += 0.02 * torch.randn(self.inner.shape, generator=random)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        inputs = torch.cat([x.flatten(1), t[:, :1].to(x.dtype)], dim=1)
        return (torch.tanh(inputs @ self.inner.to(x.dtype)) @ self.outer.to(x.dtype)).reshape(x.shape)

    def loss(self, settings: FaGrpoSettings, weights: Tensor | None = None, rows: slice | Tensor = slice(None), count=None):
        means = self.sampler.means(self.velocity, self.states[:, rows])
        return fa_grpo_loss(
            log_prob=self.sampler.log_prob(means, self.states[:, rows]),
            old_log_prob=self.old[rows],
            kl=step_kl(means, self.reference[:, rows], self.sampler.step_std(means)),
            advantage=self.advantage[rows],
            mask=self.mask[rows],
            weights=settings.flow_scale.weights(self.sampler.stds) if weights is None else weights,
            settings=settings,
            count=count,
        )

    def gradient(self, *args, **kwargs) -> Tensor:
        grads = torch.autograd.grad(self.loss(*args, **kwargs).total, [self.inner, self.outer])
        return torch.cat([g.flatten() for g in grads])


def test_alpha_one_is_fa_grpo():
    flow, settings = SmallFlow(), FaGrpoSettings(flow_scale=OFF)
    torch.testing.assert_close(OFF.weights(flow.sampler.stds), torch.ones(5))
    # FA-GRPO written out: ratio of the summed log-probabilities, no weights anywhere.
    means = flow.sampler.means(flow.velocity, flow.states)
    ratio = (flow.sampler.log_prob(means, flow.states).sum(dim=0) - flow.old).exp()
    surrogate = clipped_surrogate(ratio, flow.advantage[:, None, None], 0.2, 0.2)
    kl = ((means - flow.reference) ** 2 / (2 * flow.sampler.step_std(means) ** 2)).sum(dim=0)
    written_out = (-surrogate + 0.03 * kl)[flow.mask].mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(written_out, [flow.inner, flow.outer])])
    torch.testing.assert_close(flow.loss(settings).total, written_out)
    torch.testing.assert_close(flow.gradient(settings), expected)


def test_weights_leave_the_loss_value_alone():
    flow, settings = SmallFlow(), FaGrpoSettings()
    values = [flow.loss(settings, weights).total for weights in (torch.ones(5), torch.tensor([3.0, 0.2, 1.0, 0.0, 2.0]))]
    torch.testing.assert_close(values[0], values[1])


def test_gradient_is_the_weighted_sum_of_each_steps_own_gradient():
    flow, settings = SmallFlow(), FaGrpoSettings(kl=0.0)
    weights = torch.tensor([1.9, 1.4, 0.9, 0.5, 0.3])
    own = [flow.gradient(settings, torch.eye(5)[k]) for k in range(5)]
    expected = sum(w * g for w, g in zip(weights, own, strict=True))
    torch.testing.assert_close(flow.gradient(settings, weights), expected)
    assert (flow.gradient(settings, weights) - flow.gradient(settings, torch.ones(5))).norm() > 0.05 * expected.norm()


def test_weights_on_the_advantage_would_do_nothing():
    """The trap: f_clip(r, w A) = w f_clip(r, A), so averaging over k with weights of mean one gives back FA-GRPO."""
    ratio, advantage = torch.linspace(0.5, 1.5, 11), torch.linspace(-1, 1, 11)
    weights = torch.tensor([1.9, 1.4, 0.9, 0.5, 0.3])
    weighted = torch.stack([clipped_surrogate(ratio, w * advantage, 0.2, 0.2) for w in weights / weights.mean()]).mean(dim=0)
    torch.testing.assert_close(weighted, clipped_surrogate(ratio, advantage, 0.2, 0.2))


def test_one_flow_step_equals_flow_grpo_with_a_ratio_per_dimension():
    flow, settings = SmallFlow(steps=1), FaGrpoSettings()
    means = flow.sampler.means(flow.velocity, flow.states)
    old = gaussian_log_prob(flow.states[1], flow.reference[0], flow.sampler.stds[0])
    terms = []
    for k in range(1):  # Flow-GRPO: a ratio for each flow step, then the mean over steps
        ratio = (gaussian_log_prob(flow.states[k + 1], means[k], flow.sampler.stds[k]) - old).exp()
        kl = (means[k] - flow.reference[k]) ** 2 / (2 * flow.sampler.stds[k] ** 2)
        terms.append((-clipped_surrogate(ratio, flow.advantage[:, None, None], 0.2, 0.2) + settings.kl * kl)[flow.mask].mean())
    flow_grpo = torch.stack(terms).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(flow_grpo, [flow.inner, flow.outer])])
    torch.testing.assert_close(flow.loss(settings).total, flow_grpo)
    torch.testing.assert_close(flow.gradient(settings), expected)


def test_flow_scale_shrinks_the_spread_of_per_step_gradient_norms():
    flow = SmallFlow(chunks=512)

    def spread(scale: FlowScale) -> float:
        settings, weights = FaGrpoSettings(kl=0.0, flow_scale=scale), scale.weights(flow.sampler.stds)
        norms = torch.stack([flow.gradient(settings, weights * torch.eye(5)[k]).norm() for k in range(5)])
        return float(norms.max() / norms.min())

    assert spread(ON) < 0.6 * spread(OFF)


def test_finite_differences_agree_with_the_gradient_of_fa_grpo():
    flow, settings = SmallFlow(), FaGrpoSettings(kl=0.5, flow_scale=OFF)
    gradient = torch.autograd.grad(flow.loss(settings).total, flow.outer)[0]
    step = 1e-2
    for i, j in ((0, 0), (3, 2), (7, 5)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                flow.outer[i, j] += sign * step
                values.append(flow.loss(settings).total.item())
                flow.outer[i, j] -= sign * step
        assert gradient[i, j].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.05, abs=2e-3)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),  # inside the range: r A
        (1.5, 2.0, 2.4, 0.0),  # too likely already: clipped
        (0.5, 2.0, 1.0, 2.0),  # good but unlikely: not clipped
        (1.5, -2.0, -3.0, -2.0),  # bad and likely: not clipped
        (0.5, -2.0, -1.4, 0.0),  # bad and unlikely already: clipped at 1 - low
    ],
)
def test_known_answers_of_the_clip(ratio, advantage, expected, slope):
    r = torch.tensor(ratio, requires_grad=True)
    value = clipped_surrogate(r, torch.tensor(advantage), low=0.3, high=0.2)
    value.backward()
    assert value.item() == pytest.approx(expected)
    assert r.grad.item() == pytest.approx(slope)


def test_at_the_acting_policy_ratio_is_one_and_nothing_is_clipped():
    flow = SmallFlow()
    means = flow.reference
    loss = fa_grpo_loss(
        flow.sampler.log_prob(means, flow.states), flow.old, step_kl(means, means, flow.sampler.step_std(means)),
        flow.advantage, flow.mask, torch.ones(5), FaGrpoSettings(),
    )  # fmt: skip
    valid = flow.mask.sum(dim=1)
    assert loss.policy.item() == pytest.approx(-(flow.advantage * valid).sum().item() / valid.sum().item(), abs=1e-5)
    assert loss.kl == 0 and loss.clip_fraction == 0 and loss.drift.abs() < 1e-6


def test_masked_actions_do_not_count():
    flow, settings = SmallFlow(), FaGrpoSettings()
    before = flow.gradient(settings)
    hidden = ~flow.mask[..., None].expand_as(flow.old)
    flow.old = torch.where(hidden, flow.old + 1000.0, flow.old)
    torch.testing.assert_close(flow.gradient(settings), before)


def test_order_of_chunks_does_not_matter():
    flow, settings = SmallFlow(), FaGrpoSettings()
    torch.testing.assert_close(flow.gradient(settings, rows=torch.arange(23, -1, -1)), flow.gradient(settings))


def test_with_the_summed_count_two_learners_equal_one():
    flow, settings = SmallFlow(), FaGrpoSettings()
    count = (flow.mask.sum() * 2).float()  # valid (s, c, d), as an all-reduce would sum it
    halves = [flow.gradient(settings, rows=rows, count=count) for rows in (slice(0, 5), slice(5, None))]
    torch.testing.assert_close(halves[0] + halves[1], flow.gradient(settings))
    rank_by_rank = (flow.gradient(settings, rows=slice(0, 5)) + flow.gradient(settings, rows=slice(5, None))) / 2
    assert (rank_by_rank - flow.gradient(settings)).norm() > 1e-3


def test_flow_scale_weights_have_known_values_and_limits():
    stds = torch.tensor([0.6, 0.4, 0.2])
    torch.testing.assert_close(FlowScale(alpha=0.0, w_min=0.0).weights(stds), torch.tensor([1.5, 1.0, 0.5]), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        FlowScale(alpha=0.5, w_min=0.0).weights(stds), torch.tensor([1.25, 1.0, 0.75]), atol=1e-4, rtol=0
    )
    limited = FlowScale(alpha=0.0, w_min=0.8, w_max=1.1).weights(stds)
    torch.testing.assert_close(limited, torch.tensor([1.1, 1.0, 0.8]), atol=1e-4, rtol=0)


def test_weighted_sum_keeps_the_value():
    log_prob = torch.randn((5, 7), generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.tensor([2.0, 1.0, 0.5, 0.0, 1.5])
    total = weight_gradients(log_prob, weights)
    torch.testing.assert_close(total, log_prob.sum(dim=0))
    total.sum().backward()
    torch.testing.assert_close(log_prob.grad, weights[:, None].expand(5, 7))


@pytest.mark.parametrize("bad", [{"alpha": 1.2}, {"alpha": -0.1}, {"w_min": 1.1}, {"w_max": 0.9}, {"eps": 0.0}])
def test_bad_flow_scale_settings_are_refused(bad):
    with pytest.raises(ValueError, match="FlowScale"):
        dataclasses.replace(FlowScale(), **bad)


def test_loss_without_valid_actions_or_with_nan_is_refused():
    flow, settings = SmallFlow(), FaGrpoSettings()
    flow.advantage[0] = float("nan")
    flow.mask[0] = True
    with pytest.raises(ProphRLError, match="loss is nan"):
        flow.loss(settings)
    flow.mask[:] = False
    with pytest.raises(ProphRLError, match="no valid action"):
        flow.loss(settings)
