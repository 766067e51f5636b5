"""Laws of the action-conditioned transformer and of the sampler."""

import numpy as np
import pytest
import torch

from robot_stack.core.errors import ShapeError
from world_model.action_layout import SLOTS
from world_model.denoiser import DenoiserSettings, denoising_loss, predict_clean
from world_model.latents import Windows, WindowSampler
from world_model.prophet import ActionCondition, ProphetSettings, make_transformer
from world_model.sampler import SamplerSettings, sample, sample_noise

SMALL = ProphetSettings(context_offsets=(-2, -1, 0), heads=2, head_width=16, layers=2, lora_width=8, action_width=16)
MASK = torch.tensor([1.0, 1, 1, 0, 0, 0, 1] + [0.0] * 7)


def small_network(**changes):
    torch.manual_seed(0)
    network = make_transformer(ProphetSettings(**{**SMALL.__dict__, **changes}), latent_channels=4, latent_size=4)
    torch.nn.init.normal_(network.proj_out.weight, std=0.3)  # zero at the start, which would hide everything
    return network.eval()


def inputs(batch: int, seed: int = 0):
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random)  # noqa: E731
    condition = ActionCondition(draw(batch, 5, SLOTS), draw(batch, 8, SLOTS), MASK)
    return draw(batch, 4, 5, 4, 4), torch.rand(batch, generator=random), draw(batch, 4, 3, 4, 4), condition


@pytest.mark.parametrize("stream", ["chunk_stream", "frame_stream"])
def test_action_streams_leave_the_base_model_unchanged_at_the_start(stream):
    streams = {"chunk_stream": False, "frame_stream": False, "pose_condition": False} | {stream: True}
    conditioned = small_network(**streams)
    base = small_network(chunk_stream=False, frame_stream=False, pose_condition=False)
    missing, unexpected = conditioned.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected
    assert all("_to_" in name for name in missing)  # base weights fit; only the streams are new
    x_t, t, context, condition = inputs(2)
    torch.testing.assert_close(conditioned(x_t, t, context, condition), base(x_t, t, context, condition), rtol=0, atol=0)


@pytest.mark.parametrize("stream", ["chunk_to_time", "chunk_to_adaln", "frame_to_time", "frame_to_adaln"])
def test_each_stream_carries_the_action_to_the_output_once_it_has_weights(stream):
    network = small_network()
    torch.nn.init.normal_(getattr(network, stream)[-1].weight, std=0.5)
    x_t, t, context, condition = inputs(1)
    other = ActionCondition(condition.deltas.flip(1), condition.poses, condition.mask)
    assert (network(x_t, t, context, condition) - network(x_t, t, context, other)).abs().max() > 1e-3


def test_masked_slots_have_no_influence():
    network = small_network()
    for stream in (network.chunk_to_time, network.frame_to_adaln):
        torch.nn.init.normal_(stream[-1].weight, std=0.5)
    x_t, t, context, condition = inputs(1)
    noise = 10.0 * (1.0 - MASK)
    other = ActionCondition(condition.deltas + noise, condition.poses + noise, MASK)
    torch.testing.assert_close(network(x_t, t, context, condition), network(x_t, t, context, other), rtol=0, atol=0)


def test_untrained_network_with_anchor_predicts_the_present_frame():
    network = make_transformer(SMALL, latent_channels=4, latent_size=4).eval()
    x_t, t, context, condition = inputs(2)
    x_0 = predict_clean(network, x_t, t, context, condition)
    torch.testing.assert_close(x_0, context[:, :, -1:].expand_as(x_0))


def test_chunk_of_another_length_is_refused():
    network = small_network()
    x_t, t, context, condition = inputs(1)
    with pytest.raises(ShapeError):
        network(x_t[:, :, :4], t, context, condition)


@pytest.mark.parametrize("steps", [1, 3])
def test_samples_are_repeatable_and_do_not_depend_on_their_batch(steps):
    network = small_network()
    torch.nn.init.normal_(network.frame_to_time[-1].weight, std=0.5)
    _, _, context, condition = inputs(5)
    noise = sample_noise([(7, "test", i) for i in range(5)], (4, 5, 4, 4))
    together = sample(network, noise, context, condition, SamplerSettings(steps, batch_size=2))
    again = sample(network, noise, context, condition, SamplerSettings(steps, batch_size=2))
    torch.testing.assert_close(together, again, rtol=0, atol=0)
    for i in (4, 1):
        one = ActionCondition(condition.deltas[i : i + 1], condition.poses[i : i + 1], MASK)
        alone = sample(network, sample_noise([(7, "test", i)], (4, 5, 4, 4)), context[i : i + 1], one, SamplerSettings(steps))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


def test_sampler_with_a_perfect_predictor_ends_at_the_data(monkeypatch):
    data = torch.randn(2, 4, 5, 4, 4)
    monkeypatch.setattr("world_model.sampler.predict_clean", lambda *_: data)
    _, _, context, condition = inputs(2)
    for steps in (1, 2, 4):
        drawn = sample(small_network(), torch.randn_like(data), context, condition, SamplerSettings(steps))
        torch.testing.assert_close(drawn, data, rtol=1e-4, atol=1e-5)


def test_loss_of_an_untrained_network_is_that_of_copying():
    network = make_transformer(SMALL, latent_channels=4, latent_size=4)
    _, _, context, condition = inputs(3)
    windows = Windows(context, torch.randn(3, 4, 5, 4, 4), torch.zeros(3, 1, 5, 4, 4), condition.deltas, condition.poses)
    settings = DenoiserSettings(context_noise=0.0)
    losses = denoising_loss(network, windows, MASK, settings, torch.Generator().manual_seed(0))
    torch.testing.assert_close(losses["loss"], losses["error_of_copy"])


def test_windows_hold_the_frames_and_actions_that_belong_together(prophet, episodes):
    encoded = [prophet.encode_episode(episode) for episode in episodes[:3]]
    sampler = WindowSampler(encoded, (-2, -1, 0), 5)
    window = sampler.cut(np.array([1]), np.array([1]))
    frames = encoded[1].latents
    torch.testing.assert_close(window.context[0].transpose(0, 1), frames[[0, 0, 1]])  # before the episode, its first frame
    torch.testing.assert_close(window.future[0].transpose(0, 1), frames[2:7])
    torch.testing.assert_close(window.deltas[0], encoded[1].deltas[1:6])
    torch.testing.assert_close(window.poses[0, -5:], encoded[1].poses[2:7])
    torch.testing.assert_close(sampler.history(np.array([1]), np.array([1]))[0], frames[[0, 0, 1]])
