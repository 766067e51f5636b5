"""Laws of the SDE sampler: closed forms, limits, and how well it keeps a known flow's marginals."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from policy.sde_step import CoefficientPreservingStep, FlowGrpoStep, SdeStep
from rl.flow_sde import SdeSampler, gaussian_kl, gaussian_log_prob


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gaussian_flow(spread: float):
    """Exact velocity of the flow from N(0, 1) to N(0, spread): E[noise - action | x_t]."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        t = t[..., None]
        return x * (t - (1 - t) * spread**2) / (t**2 + (1 - t) ** 2 * spread**2).clamp_min(1e-12)

    return velocity


def sampled_std(step: SdeStep, steps: int, spread: float, count: int = 200_000) -> list[float]:
    path = SdeSampler(step, steps).sample(gaussian_flow(spread), noise(steps + 1, count, 1, 1))
    return path.states.std(dim=(1, 2, 3)).tolist()


def test_first_and_last_noise_of_the_flow_grpo_step_are_the_known_ones():
    stds = sampled_std(FlowGrpoStep(0.7), 5, spread=0.0)
    assert stds[1] == pytest.approx(0.89, abs=0.005)  # the flow itself has 0.80
    assert stds[-1] == pytest.approx(0.18, abs=0.005)  # the flow itself has 0
    x_t = torch.tensor([0.2])  # one standard deviation of the flow's own noise before the last step
    last = math.hypot(FlowGrpoStep(0.7).mean(x_t, x_t / 0.2, 0.2, 0.0).item(), FlowGrpoStep(0.7).std(0.2, 0.0))
    assert last == pytest.approx(0.17, abs=0.005)  # without the error that earlier steps left


def test_flow_grpo_marginals_approach_the_flow_as_steps_grow():
    target = 0.5
    errors = [abs(sampled_std(FlowGrpoStep(0.7), steps, target)[-1] - target) for steps in (5, 20, 80)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize("steps", [2, 5, 13])
def test_coefficient_preserving_step_keeps_the_share_of_noise_at_any_number_of_steps(steps):
    stds = sampled_std(CoefficientPreservingStep(0.7), steps, spread=0.0)
    assert stds == pytest.approx([1 - k / steps for k in range(steps + 1)], abs=0.005)


@pytest.mark.parametrize("form", [FlowGrpoStep, CoefficientPreservingStep])
def test_without_noise_both_forms_are_the_euler_step_of_the_ode(form):
    x, v = noise(3, 4, 2), noise(3, 4, 2, seed=1)
    for t, t_next in ((1.0, 0.8), (0.6, 0.4), (0.2, 0.0)):
        torch.testing.assert_close(form(1e-6).mean(x, v, t, t_next), x + (t_next - t) * v)
        assert form(1e-6).std(t, t_next) < 1e-5


def test_log_prob_and_kl_agree_with_torch_distributions():
    mean, reference, x = noise(5, 4), noise(5, 4, seed=1), noise(5, 4, seed=2)
    std, std_ref = noise(5, 4, seed=3).exp(), noise(5, 4, seed=4).exp()
    torch.testing.assert_close(gaussian_log_prob(x, mean, std), Normal(mean, std).log_prob(x))
    kl = gaussian_kl(mean, std, reference, std_ref)
    torch.testing.assert_close(kl, kl_divergence(Normal(mean, std), Normal(reference, std_ref)))
    torch.testing.assert_close(gaussian_kl(mean, std, reference, std), (mean - reference) ** 2 / (2 * std**2))


def test_closed_form_kl_of_the_whole_path_agrees_with_monte_carlo():
    sampler = SdeSampler(FlowGrpoStep(0.7), 5)

    def policy(x: Tensor, t: Tensor) -> Tensor:
        return x * (0.6 + 0.3 * t[..., None])

    def reference(x: Tensor, t: Tensor) -> Tensor:
        return x * (0.8 + 0.1 * t[..., None]) + 0.2

    path = sampler.sample(policy, noise(6, 200_000, 1, 1))
    means = sampler.means(reference, path.states)
    monte_carlo = (path.log_prob - sampler.log_prob(means, path.states)).sum(dim=0)
    std = sampler.step_std(means)
    closed = gaussian_kl(sampler.means(policy, path.states), std, means, std).sum(dim=0)
    error = 4 * monte_carlo.std().item() / math.sqrt(200_000)
    assert monte_carlo.mean().item() == pytest.approx(closed.mean().item(), abs=error)
    assert closed.mean() > 10 * error


@pytest.mark.parametrize("form", [FlowGrpoStep(0.7), CoefficientPreservingStep(0.7)])
def test_recomputed_log_prob_equals_the_sampled_one(form):
    network = torch.nn.Linear(4, 4)
    sampler = SdeSampler(form, 5)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(network(x)) + t[..., None]

    with torch.no_grad():
        path = sampler.sample(velocity, noise(6, 64, 5, 4))
    again = sampler.log_prob(sampler.means(velocity, path.states), path.states)
    assert again.shape == path.log_prob.shape == (len(sampler.random_steps), 64, 5, 4)
    assert (again.sum(0) - path.log_prob.sum(0)).abs().max() < 1e-4
    assert again.requires_grad


def test_chunks_do_not_depend_on_what_else_is_in_the_batch():
    sampler, numbers = SdeSampler(FlowGrpoStep(0.7), 5), noise(6, 7, 5, 4)
    together = sampler.sample(gaussian_flow(0.5), numbers)
    alone = sampler.sample(gaussian_flow(0.5), numbers[:, 3:4])
    torch.testing.assert_close(together.states[:, 3:4], alone.states)
    torch.testing.assert_close(together.log_prob[:, 3:4], alone.log_prob)


def test_last_coefficient_preserving_step_is_deterministic_and_carries_no_probability():
    assert SdeSampler(CoefficientPreservingStep(0.7), 5).random_steps == (0, 1, 2, 3)
    assert SdeSampler(FlowGrpoStep(0.7), 5).random_steps == (0, 1, 2, 3, 4)


def test_settings_without_randomness_are_refused():
    with pytest.raises(ValueError, match="deterministic"):
        SdeSampler(FlowGrpoStep(0.0), 5)
    with pytest.raises(ValueError, match="deterministic"):
        SdeSampler(CoefficientPreservingStep(0.7), 1)
    with pytest.raises(ValueError, match="0..1"):
        CoefficientPreservingStep(1.5)
    with pytest.raises(ValueError, match="finite"):
        FlowGrpoStep(math.nan)
