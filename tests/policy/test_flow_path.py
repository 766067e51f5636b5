"""Laws of the path between noise and actions, and of sampling along it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from policy import flow_path
from policy.flow_policy import FlowPolicy, Prefix
from policy.inputs import chunk_noise, clip_grippers, flow_times, prepare_images
from policy.sampling import sample_euler
from robot_stack.core.errors import ShapeError
from robot_stack.core.robot_spec import ActionKind


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def known_flow(velocity, steps: int, chunk_length: int = 5, action_dim: int = 4) -> SimpleNamespace:
    """What ``sample_euler`` needs of a policy, around a velocity field with a known solution."""
    return SimpleNamespace(
        velocity=lambda prefix, x_t, t: velocity(x_t, t), flow_steps=steps, chunk_length=chunk_length, action_dim=action_dim
    )


def test_path_begins_at_data_and_ends_at_noise() -> None:
    x_0, noise = rows(7, 5, 4), rows(7, 5, 4, seed=1)
    assert torch.equal(flow_path.interpolate(x_0, noise, torch.zeros(7, 5)), x_0)
    assert torch.equal(flow_path.interpolate(x_0, noise, torch.ones(7, 5)), noise)


def test_velocity_is_the_derivative_of_the_path() -> None:
    x_0, noise, t = rows(7, 5, 4).double(), rows(7, 5, 4, seed=1).double(), torch.rand(7, 5).double()
    step = 1e-6
    slope = (flow_path.interpolate(x_0, noise, t + step) - flow_path.interpolate(x_0, noise, t - step)) / (2 * step)
    torch.testing.assert_close(slope, flow_path.target_velocity(x_0, noise), atol=1e-8, rtol=1e-7)


def test_both_ends_are_recovered_from_any_point_and_its_velocity() -> None:
    x_0, noise, t = rows(7, 5, 4), rows(7, 5, 4, seed=1), torch.rand(7, 5)
    x_t, velocity = flow_path.interpolate(x_0, noise, t), flow_path.target_velocity(x_0, noise)
    torch.testing.assert_close(flow_path.data_from_velocity(x_t, velocity, t), x_0)
    torch.testing.assert_close(flow_path.noise_from_velocity(x_t, velocity, t), noise)


@pytest.mark.parametrize("steps", [1, 2, 5, 17])
def test_euler_is_exact_on_the_straight_flow_to_one_point(steps: int) -> None:
    """All data at c: the marginal velocity is (x - c) / t, whose integral curves are straight."""
    c = rows(5, 4)
    policy = known_flow(lambda x, t: (x - c) / t[..., None], steps)
    torch.testing.assert_close(sample_euler(policy, None, rows(3, 5, 4, seed=2)), c.expand(3, 5, 4), atol=1e-5, rtol=1e-5)


def test_euler_converges_at_first_order_to_the_solution_of_a_linear_field() -> None:
    """dx/dt = x from t = 1 to 0 gives x(0) = x(1) / e; halving the step halves the error."""
    noise = rows(3, 5, 4).double()
    errors = [
        float((sample_euler(known_flow(lambda x, t: x, steps), None, noise) - noise / np.e).abs().max())
        for steps in (20, 40, 80)
    ]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.05)


def test_loss_ignores_what_has_no_weight() -> None:
    velocity, target, weight = rows(2, 5, 4), rows(2, 5, 4, seed=1), torch.ones(2, 5)
    weight[0, 3:] = 0.0
    changed = velocity.clone()
    changed[0, 3:] = 1e3
    loss = flow_path.weighted_loss(velocity, target, weight)
    assert flow_path.weighted_loss(changed, target, weight) == loss
    expected = torch.cat([(velocity - target)[0, :3], (velocity - target)[1]]).square().mean()
    torch.testing.assert_close(loss, expected)
    assert float(flow_path.weighted_loss(velocity, target, torch.zeros(2, 5))) == 0.0


def test_prefixes_are_leading_and_as_frequent_as_asked() -> None:
    committed = flow_path.sample_prefix(4000, 5, 3, 0.25, torch.Generator().manual_seed(0))
    lengths = committed.sum(dim=1)
    assert torch.equal(committed, torch.arange(5) < lengths[:, None])
    assert int(lengths.max()) == 3
    assert float((lengths > 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert not flow_path.sample_prefix(100, 5, 3, 0.0, torch.Generator()).any()
    with pytest.raises(ValueError, match=r"0\.\.4"):
        flow_path.sample_prefix(1, 5, 5, 0.5, torch.Generator())


@pytest.mark.parametrize("committed", [1, 3, 4])
def test_committed_actions_come_back_unchanged_and_change_the_rest(policy: FlowPolicy, committed: int) -> None:
    prefix = Prefix(policy.encode(torch.rand(2, 1, 3, 64, 64), None, torch.randn(2, 384)).context.detach())
    noise = rows(2, 5, 4)
    given = rows(2, committed, 4, seed=3)
    with torch.no_grad():
        continued, free = sample_euler(policy, prefix, noise, given), sample_euler(policy, prefix, noise)
        other = sample_euler(policy, prefix, noise, given + 1.0)
    assert torch.equal(continued[:, :committed], given)
    assert not torch.allclose(continued[:, committed:], free[:, committed:])
    assert not torch.allclose(continued[:, committed:], other[:, committed:])


def test_an_empty_prefix_is_no_prefix_and_a_full_one_is_refused(policy: FlowPolicy) -> None:
    prefix = Prefix(torch.randn(2, 2, 2, 3, 32))
    noise = rows(2, 5, 4)
    with torch.no_grad():
        assert torch.equal(sample_euler(policy, prefix, noise, noise[:, :0]), sample_euler(policy, prefix, noise))
        with pytest.raises(ShapeError):
            sample_euler(policy, prefix, noise, noise)


def test_velocity_does_not_depend_on_what_shares_the_batch(policy: FlowPolicy) -> None:
    images, instruction, x_t, t = torch.rand(6, 1, 3, 64, 64), torch.randn(6, 384), rows(6, 5, 4), torch.rand(6, 5)
    with torch.no_grad():
        prefix = policy.encode(images, None, instruction)
        together = policy.velocity(prefix, x_t, t)
        chosen = torch.tensor([4, 1, 4])
        alone = policy.velocity(policy.encode(images[chosen], None, instruction[chosen]), x_t[chosen], t[chosen])
        torch.testing.assert_close(together[chosen], alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(policy.velocity(prefix.select(chosen), x_t[chosen], t[chosen]), alone, atol=1e-5, rtol=1e-5)
    assert len(prefix.repeat(3)) == 18


def test_velocity_is_differentiable_in_all_weights(policy: FlowPolicy) -> None:
    prefix = policy.encode(torch.rand(2, 1, 3, 64, 64), None, torch.randn(2, 384))
    policy.velocity(prefix, rows(2, 5, 4), torch.rand(2, 5)).square().sum().backward()
    without = [name for name, parameter in policy.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_noise_depends_on_seed_and_chunk_alone() -> None:
    together = chunk_noise([3, 8], 2, 5, 4)
    assert np.array_equal(together[1:], chunk_noise([8], 2, 5, 4))
    assert not np.array_equal(together[0], together[1])
    assert not np.array_equal(together, chunk_noise([3, 8], 3, 5, 4))
    many = chunk_noise(range(500), 0, 5, 4)
    assert abs(many.mean()) < 0.03
    assert many.std() == pytest.approx(1.0, abs=0.03)


def test_flow_times_run_from_noise_to_data() -> None:
    assert flow_times(5).tolist() == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    with pytest.raises(ValueError, match="at least 1"):
        flow_times(0)


def test_pictures_keep_place_and_colour() -> None:
    image = np.zeros((1, 2, 64, 64, 3), np.uint8)
    image[0, 1, 10, 20] = (255, 0, 51)
    prepared = prepare_images(image, 64)
    assert prepared.shape == (1, 2, 3, 64, 64)
    assert prepared[0, 1, :, 10, 20].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert prepared.sum() == pytest.approx(1.2)
    big = np.repeat(np.repeat(image, 4, axis=2), 4, axis=3)
    np.testing.assert_allclose(prepare_images(big, 64), prepared, atol=1e-6)
    with pytest.raises(ShapeError):
        prepare_images(image[0], 64)


def test_only_grippers_are_clipped() -> None:
    deltas = np.array([[[9.0, -9.0, 1.2], [0.0, 0.0, -0.2]]])
    kinds = [ActionKind.POSITION, ActionKind.JOINT, ActionKind.GRIPPER]
    assert clip_grippers(deltas, kinds).tolist() == [[[9.0, -9.0, 1.0], [0.0, 0.0, 0.0]]]
