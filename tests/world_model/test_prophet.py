"""Laws of the action-conditioned transformer and of the sampler."""

import dataclasses
import shutil
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import CosmosTransformer3DModel

from robot_stack.core.errors import ProphRLError, ShapeError
from world_model.action_layout import SLOTS
from world_model.condition import Condition, HistoryFrames
from world_model.denoiser import DenoiserSettings, denoising_loss, estimate, predict_clean
from world_model.latents import Windows, WindowSampler
from world_model.lora import LoraSettings, make_trainable, merged
from world_model.sampler import SamplerSettings, sample, sample_noise
from world_model.sizes import VELOCITY, BackboneSettings, HistorySettings, ProphetSettings, make_transformer
from world_model.transport import Transport

CHANNELS, SIZE, ACTIONS, PAST = 4, 8, 5, 3
BACKBONE = BackboneSettings(heads=2, head_width=16, layers=2, lora_width=8, text_width=12)
SMALL = ProphetSettings(
    backbone=BACKBONE,
    context_offsets=(-1, 0),
    history=HistorySettings(PAST, span=8),
    action_width=16,
    action_frames=True,
    action_patches=True,
    origin=True,
    path=True,
    transport=1,
)
BARE = dataclasses.replace(
    SMALL,
    history=HistorySettings(0, span=8),
    chunk_stream=False,
    frame_stream=False,
    pose_condition=False,
    action_frames=False,
    action_patches=False,
    origin=False,
    path=False,
    transport=0,
)
PARTS = ("chunk_stream", "frame_stream", "action_frames", "action_patches", "history", "origin", "path")
MASK = torch.tensor([1.0, 1, 1, 0, 0, 0, 1] + [0.0] * 7)


def network_of(settings: ProphetSettings, seed: int = 0):
    torch.manual_seed(seed)
    network = make_transformer(settings, CHANNELS, SIZE)
    torch.nn.init.normal_(network.proj_out.weight, std=0.3)  # zero at the start, which would hide everything
    return network.eval()


def awake(network):
    """The network with numbers in every layer that is zero at the start."""
    torch.manual_seed(9)
    for name, parameter in network.named_parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
        assert parameter.any(), name
    return network


def inputs(batch: int, seed: int = 0, given: int = 2):
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random)  # noqa: E731
    latents = (CHANNELS, given + ACTIONS, SIZE, SIZE)
    history = HistoryFrames(
        draw(batch, PAST, CHANNELS, SIZE, SIZE),
        torch.arange(2, 2 + PAST).expand(batch, -1),
        torch.ones(batch, PAST, dtype=torch.bool),
    )
    condition = Condition(
        deltas=draw(batch, ACTIONS, SLOTS),
        poses=draw(batch, given + ACTIONS, SLOTS),
        mask=MASK.expand(batch, -1),
        action_frames=draw(batch, *latents),
        history=history,
        origin=draw(batch, CHANNELS, SIZE, SIZE),
        path=draw(batch, SMALL.span, SLOTS + 1),
    )
    x_t, context = draw(batch, CHANNELS, ACTIONS, SIZE, SIZE), draw(batch, CHANNELS, given, SIZE, SIZE)
    return x_t, torch.rand(batch, generator=random), context, condition


def test_the_base_model_itself_is_diffusers_own():
    cosmos = dataclasses.replace(
        BACKBONE,
        padding_mask=True,
        learned_positions=False,
        rope_scale=(1.0, 3.0, 3.0),
        time_scale=1.0,
        given_time=1e-4,
        knows_rate=True,
    )
    ours = network_of(dataclasses.replace(BARE, backbone=cosmos, prediction=VELOCITY, anchor=False))
    torch.manual_seed(1)
    theirs = CosmosTransformer3DModel(
        in_channels=CHANNELS + 1,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        text_embed_dim=12,
        adaln_lora_dim=8,
        rope_scale=(1.0, 3.0, 3.0),
        extra_pos_embed_type=None,
    ).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert (missing, unexpected) == (["null_text"], [])
    x_t, t, context, condition = inputs(3)
    text = torch.randn(3, 6, 12)
    given = torch.zeros(3, 1, 2 + ACTIONS, SIZE, SIZE)
    given[:, :, :2] = 1.0
    times = torch.cat([torch.full((3, 2), 1e-4), t[:, None].expand(-1, ACTIONS)], dim=1)
    with torch.no_grad():
        expected = theirs(
            torch.cat([context, x_t], dim=2),
            times[:, None, :, None, None],
            text,
            fps=10,
            condition_mask=given,
            padding_mask=torch.zeros(1, 1, 8 * SIZE, 8 * SIZE),
            return_dict=False,
        )[0][:, :, 2:]
        found = ours(x_t, t, context, dataclasses.replace(condition, text=text, rate_hz=10.0))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", [*PARTS, "transport"])
def test_what_is_new_leaves_the_base_model_unchanged_at_the_start(part):
    with_part = {"history": SMALL.history, "transport": 2}
    with_part = {part: with_part.get(part, True)}
    conditioned, base = network_of(dataclasses.replace(BARE, **with_part)), network_of(BARE)
    missing, unexpected = conditioned.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected
    prefix = {
        "chunk_stream": "chunk_actions",
        "frame_stream": "frame_actions",
        "action_frames": "drawn_actions",
        "action_patches": "drawn_patches",
        "origin": "origin_patches",
        "path": "past_path",
        "transport": "transport",
    }
    assert missing and all(name.startswith(prefix.get(part, "history_")) for name in missing)
    arguments = inputs(2)
    torch.testing.assert_close(conditioned(*arguments), base(*arguments), rtol=0, atol=0)


@pytest.mark.parametrize(
    "part", ["chunk_stream", "frame_stream", "action_frames", "action_patches", "history", "origin", "path"]
)
def test_each_part_carries_what_it_is_told_to_the_output_once_it_has_weights(part):
    with_part = {"history": SMALL.history, "transport": 2}
    with_part = {part: with_part.get(part, True)}
    network = awake(network_of(dataclasses.replace(BARE, **with_part)))
    x_t, t, context, condition = inputs(1)
    past = condition.history
    changes = {
        "chunk_stream": {"deltas": condition.deltas.flip(1)},
        "frame_stream": {"deltas": condition.deltas.flip(1)},
        "action_frames": {"action_frames": condition.action_frames.flip(3)},
        "action_patches": {"action_frames": condition.action_frames.flip(4)},
        "history": {"history": dataclasses.replace(past, latents=past.latents.flip(3))},
        "origin": {"origin": condition.origin.flip(2)},
        "path": {"path": condition.path.flip(1)},
    }
    other = dataclasses.replace(condition, **changes[part])
    assert (network(x_t, t, context, condition) - network(x_t, t, context, other)).abs().max() > 1e-3


def test_pose_condition_adds_the_commanded_pose():
    x_t, t, context, condition = inputs(1)
    other = dataclasses.replace(condition, poses=condition.poses + 0.3)
    blind = awake(network_of(dataclasses.replace(BARE, frame_stream=True)))
    torch.testing.assert_close(blind(x_t, t, context, condition), blind(x_t, t, context, other), rtol=0, atol=0)
    seeing = awake(network_of(dataclasses.replace(BARE, frame_stream=True, pose_condition=True)))
    assert (seeing(x_t, t, context, condition) - seeing(x_t, t, context, other)).abs().max() > 1e-3


def test_masked_slots_have_no_influence():
    network = awake(network_of(SMALL))
    x_t, t, context, condition = inputs(1)
    noise = 10.0 * (1.0 - MASK)
    other = dataclasses.replace(condition, deltas=condition.deltas + noise, poses=condition.poses + noise)
    torch.testing.assert_close(network(x_t, t, context, condition), network(x_t, t, context, other), rtol=0, atol=0)


def test_action_frames_of_given_frames_are_masked_out():
    network = awake(network_of(SMALL))
    x_t, t, context, condition = inputs(1)
    drawn = condition.action_frames.clone()
    drawn[:, :, :2] = 5.0
    other = dataclasses.replace(condition, action_frames=drawn)
    torch.testing.assert_close(network(x_t, t, context, condition), network(x_t, t, context, other), rtol=0, atol=0)


def test_a_past_that_is_not_there_has_no_influence():
    network = awake(network_of(SMALL))
    x_t, t, context, condition = inputs(2)
    past = condition.history
    some = torch.tensor([[True, False, False], [False, False, False]])
    with_some = dataclasses.replace(condition, history=dataclasses.replace(past, valid=some))
    changed = past.latents.clone()
    changed[~some] = 7.0
    other = dataclasses.replace(condition, history=HistoryFrames(changed, past.ages, some))
    found, expected = network(x_t, t, context, with_some), network(x_t, t, context, other)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    bare = network_of(dataclasses.replace(SMALL, history=HistorySettings(0, span=8)))
    bare.load_state_dict(network.state_dict(), strict=False)
    torch.testing.assert_close(found[1], bare(x_t, t, context, condition)[1], rtol=1e-5, atol=1e-5)


def test_what_is_prepared_once_gives_the_same():
    network = awake(network_of(SMALL))
    x_t, t, context, condition = inputs(2)
    prepared = network.prepare(condition, context)
    for level in (t, torch.rand(2)):
        torch.testing.assert_close(network(x_t, level, context, prepared), network(x_t, level, context, condition))


def test_untrained_network_with_anchor_predicts_the_present_frame():
    network = make_transformer(SMALL, CHANNELS, SIZE).eval()
    x_t, t, context, condition = inputs(2)
    x_0 = predict_clean(network, SMALL, x_t, t, context, condition)
    torch.testing.assert_close(x_0, context[:, :, -1:].expand_as(x_0))


def test_clean_frames_of_a_velocity_are_those_that_it_leads_to():
    settings = dataclasses.replace(SMALL, prediction=VELOCITY, anchor=False, transport=0)
    network = network_of(settings)
    x_t, t, context, condition = inputs(2)
    velocity = network(x_t, t, context, condition)
    x_0 = predict_clean(network, settings, x_t, t, context, condition)
    torch.testing.assert_close(x_0 + t[:, None, None, None, None] * velocity, x_t)


def test_what_noisy_frames_tell_by_themselves_is_bayes_rule():
    random = torch.Generator().manual_seed(0)
    expected, spread = 0.3, 0.5
    x_0 = expected + spread * torch.randn(200_000, generator=random)
    for t in (0.2, 0.5, 0.9):
        surprise = t * torch.randn(200_000, generator=random) + (1 - t) * (x_0 - expected)  # x_t - (1 - t) expected
        told, left = estimate(torch.tensor(t), spread)
        best = (surprise * (x_0 - expected)).mean() / surprise.square().mean()
        assert told.item() == pytest.approx(best.item(), abs=0.01)
        remaining = (x_0 - expected - told * surprise).std()
        assert left.item() == pytest.approx(remaining.item() / spread, abs=0.01)
    ends = estimate(torch.tensor([0.0, 1.0]), spread)
    torch.testing.assert_close(torch.stack(ends), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), atol=1e-6, rtol=0)


def test_a_spread_changes_nothing_for_pure_noise():
    x_t, _, context, condition = inputs(2)
    network, spread = awake(network_of(SMALL)), dataclasses.replace(SMALL, spread=0.5)
    for t, same in ((torch.ones(2), True), (torch.full((2,), 0.5), False)):
        plain, told = (predict_clean(network, settings, x_t, t, context, condition) for settings in (SMALL, spread))
        assert torch.allclose(plain, told, atol=1e-5) == same


def test_wrong_numbers_of_frames_and_missing_conditions_are_refused():
    network = network_of(SMALL)
    x_t, t, context, condition = inputs(1)
    with pytest.raises(ShapeError):
        network(x_t[:, :, :4], t, context, condition)
    with pytest.raises(ShapeError):
        network(x_t, t, context, dataclasses.replace(condition, deltas=condition.deltas[:, :4]))
    with pytest.raises(ProphRLError, match="history"):
        network(x_t, t, context, dataclasses.replace(condition, history=None))
    with pytest.raises(ProphRLError, match="calibrated"):
        network(x_t, t, context, dataclasses.replace(condition, action_frames=None))
    with pytest.raises(ValueError, match="multiple of 4"):
        make_transformer(SMALL, CHANNELS, SIZE, actions_per_frame=4)
    with pytest.raises(ValueError, match="1024"):
        make_transformer(dataclasses.replace(SMALL, history=HistorySettings(40, span=60)), CHANNELS, 64)


def test_a_chunk_of_several_actions_a_latent_frame():
    network = awake(network_of(dataclasses.replace(SMALL, chunk_length=8)))
    assert network.config.actions_per_frame == 1
    torch.manual_seed(0)
    network = awake(make_transformer(dataclasses.replace(SMALL, chunk_length=8), CHANNELS, SIZE, actions_per_frame=4)).eval()
    x_t, t, context, condition = inputs(2)
    condition = dataclasses.replace(
        condition,
        deltas=torch.randn(2, 8, SLOTS),
        poses=torch.randn(2, 10, SLOTS),
        action_frames=torch.randn(2, CHANNELS, 4, SIZE, SIZE),
    )
    output = network(x_t[:, :, :2], t, context, condition)
    assert output.shape == (2, CHANNELS, 2, SIZE, SIZE)
    later = condition.deltas.clone()
    later[:, 4:] += 1.0
    features = (
        network.frame_actions._features(condition, 2),
        network.frame_actions._features(dataclasses.replace(condition, deltas=later), 2),
    )
    torch.testing.assert_close(features[0][:, :3], features[1][:, :3])  # the first latent frame has the first four actions
    assert (features[0][:, 3] != features[1][:, 3]).any()


def test_low_rank_changes_begin_as_nothing_and_merge_into_the_weights():
    network = awake(network_of(SMALL))
    names = set(network.state_dict())
    arguments = inputs(2)
    before = network(*arguments)
    make_trainable(network, LoraSettings(rank=4))
    torch.testing.assert_close(network(*arguments), before, rtol=1e-4, atol=1e-5)
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert any("lora_A" in name and ".ff." in name for name in trainable)
    assert any("lora_B" in name and ".attn2.to_out" in name for name in trainable)
    assert not [name for name in trainable if "transformer_blocks" in name and "lora" not in name]
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    changed = network(*arguments)
    assert (changed - before).abs().max() > 1e-3
    whole = merged(network)
    assert set(whole.state_dict()) == names
    torch.testing.assert_close(whole(*arguments), changed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 3])
def test_samples_are_repeatable_and_do_not_depend_on_their_batch(steps):
    network = awake(network_of(SMALL))
    _, _, context, condition = inputs(5)
    noise = sample_noise([(7, "test", i) for i in range(5)], (CHANNELS, ACTIONS, SIZE, SIZE))
    together = sample(network, SMALL, noise, context, condition, SamplerSettings(steps, batch_size=2))
    again = sample(network, SMALL, noise, context, condition, SamplerSettings(steps, batch_size=2))
    torch.testing.assert_close(together, again, rtol=0, atol=0)
    for i in (4, 1):
        own_noise = sample_noise([(7, "test", i)], (CHANNELS, ACTIONS, SIZE, SIZE))
        one = slice(i, i + 1)
        alone = sample(network, SMALL, own_noise, context[one], condition.rows(one), SamplerSettings(steps))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-3, atol=1e-4)


def test_samples_of_half_precision_are_nearly_the_same():
    network = awake(network_of(SMALL))
    _, _, context, condition = inputs(3)
    noise = sample_noise([(7, "test", i) for i in range(3)], (CHANNELS, ACTIONS, SIZE, SIZE))
    whole = sample(network, SMALL, noise, context, condition, SamplerSettings(2))
    half = sample(network, SMALL, noise, context, condition, SamplerSettings(2, precision="bfloat16"))
    assert half.dtype == torch.float32
    assert 0.0 < (half - whole).abs().max() < 0.05 * (whole - context[:, :, -1:]).abs().max()
    with pytest.raises(ValueError, match="one of float32, bfloat16, got 'int8'"):
        SamplerSettings(precision="int8")


@pytest.mark.skipif(
    shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason="torch.compile needs a C++ compiler and Python's headers",
)
def test_samples_of_a_compiled_network_are_the_same():
    network = awake(network_of(SMALL))
    _, _, context, condition = inputs(3)
    noise = sample_noise([(7, "test", i) for i in range(3)], (CHANNELS, ACTIONS, SIZE, SIZE))
    plain = sample(network, SMALL, noise, context, condition, SamplerSettings(2))
    compiled = sample(network, SMALL, noise, context, condition, SamplerSettings(2, batch_size=2, compiled=True))
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-4)
    frames = torch._dynamo.utils.counters["frames"]
    assert frames["ok"] > 0, "nothing was compiled"


def test_a_machine_without_a_compiler_is_told_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    _, _, context, condition = inputs(1)
    noise = torch.zeros(1, CHANNELS, ACTIONS, SIZE, SIZE)
    with pytest.raises(ProphRLError, match=r"there is no no-such-compiler.* here: install g"):
        sample(network_of(SMALL), SMALL, noise, context, condition, SamplerSettings(compiled=True))


def test_sampler_with_a_perfect_predictor_ends_at_the_data(monkeypatch):
    data = torch.randn(2, CHANNELS, ACTIONS, SIZE, SIZE)
    monkeypatch.setattr("world_model.sampler.predict_clean", lambda *_: data)
    _, _, context, condition = inputs(2)
    for steps in (1, 2, 4):
        drawn = sample(network_of(SMALL), SMALL, torch.randn_like(data), context, condition, SamplerSettings(steps))
        torch.testing.assert_close(drawn, data, rtol=1e-4, atol=1e-5)


def test_what_hardly_changes_stays_exactly_as_it_is(monkeypatch):
    _, _, context, condition = inputs(2)
    present = context[:, :, -1:]
    change = torch.full((2, CHANNELS, ACTIONS, SIZE, SIZE), 0.05)
    change[:, :, :, :2] = -0.5
    change[:, :, :, -1, -1] = 0.3  # one cell alone: a fleck
    monkeypatch.setattr("world_model.sampler.predict_clean", lambda *_: present + change)
    drawn = sample(network_of(SMALL), SMALL, torch.randn_like(change), context, condition, SamplerSettings(still=0.2))
    torch.testing.assert_close(drawn[:, :, :, 3:], present.expand_as(drawn)[:, :, :, 3:], rtol=0, atol=0)
    torch.testing.assert_close(drawn[:, :, :, :2], (present + change)[:, :, :, :2])


def test_a_cell_that_moves_later_in_the_chunk_moves_from_its_beginning(monkeypatch):
    _, _, context, condition = inputs(1)
    present = context[:, :, -1:]
    change = torch.linspace(0.0, 1.0, ACTIONS)[None, None, :, None, None].expand(1, CHANNELS, -1, SIZE, SIZE)
    monkeypatch.setattr("world_model.sampler.predict_clean", lambda *_: present + change)
    drawn = sample(network_of(SMALL), SMALL, torch.randn_like(change), context, condition, SamplerSettings(still=0.4))
    torch.testing.assert_close(drawn, present + change)


@pytest.mark.parametrize("settings", [SMALL, dataclasses.replace(SMALL, prediction=VELOCITY, transport=0)])
def test_loss_of_an_untrained_network_with_anchor_is_that_of_copying(settings):
    network = make_transformer(settings, CHANNELS, SIZE)
    _, _, context, condition = inputs(3)
    cells = torch.zeros(3, 1, ACTIONS, SIZE, SIZE)
    windows = Windows(context, torch.randn(3, CHANNELS, ACTIONS, SIZE, SIZE), cells, cells, condition)
    chosen = DenoiserSettings(context_noise=0.0, pure_noise=1.0)
    losses = denoising_loss(network, settings, windows, chosen, torch.Generator().manual_seed(0))
    if settings.prediction == VELOCITY:  # its zero stands for x_0 = x_t, pure noise: no better than a variance of 2
        assert losses["error"].item() == pytest.approx(2.0, rel=0.2)
    else:
        torch.testing.assert_close(losses["loss"], losses["error_of_copy"])


def test_weights_of_the_loss_lie_on_what_moves_and_changes():
    network = make_transformer(SMALL, CHANNELS, SIZE)
    _, _, context, condition = inputs(1)
    future = context[:, :, -1:].repeat(1, 1, ACTIONS, 1, 1)
    future[..., 0, 0] += 10.0  # one cell changes
    moving = torch.zeros(1, 1, ACTIONS, SIZE, SIZE)
    moving[..., 0, 0] = 0.5
    windows = Windows(context, future, moving, moving / 2.0, condition)

    def loss(**weights: float) -> torch.Tensor:
        settings = DenoiserSettings(context_noise=0.0, pure_noise=1.0, **weights)
        return denoising_loss(network, SMALL, windows, settings, torch.Generator().manual_seed(0))["loss"]

    plain = loss(moving_weight=0.0)
    torch.testing.assert_close(loss(moving_weight=4.0), plain * (1 + 4.0 * 0.5))
    torch.testing.assert_close(loss(moving_weight=0.0, change_weight=3.0), plain * (1 + 3.0))
    torch.testing.assert_close(loss(moving_weight=0.0, object_weight=8.0), plain * (1 + 8.0 * 0.25))
    # One cell of 64 holds all of the error, 64 times the mean: with the third power it has 8 times the weight of a mean one.
    emphasis = torch.tensor([8.0] + [0.1] * 63)  # no error counts as less than a hundredth of the mean one
    torch.testing.assert_close(loss(moving_weight=0.0, error_power=3.0), plain * 8.0 / emphasis.mean())


@pytest.mark.parametrize(("power", "learnt"), [(2.0, 0.3), (1.0, 0.0)])
def test_the_power_of_the_error_chooses_between_the_mean_and_the_likeliest(monkeypatch, power, learnt):
    _, _, context, condition = inputs(10)
    future = torch.zeros(10, CHANNELS, ACTIONS, SIZE, SIZE)
    future[:3] = 1.0  # three of ten clips end differently
    cells = torch.zeros(10, 1, ACTIONS, SIZE, SIZE)
    windows = Windows(context, future, cells, cells, condition)
    guess = torch.tensor(0.6, requires_grad=True)
    monkeypatch.setattr("world_model.denoiser.predict_clean", lambda *_: guess.expand_as(future))
    chosen = DenoiserSettings(pure_noise=1.0, error_power=power)
    optimiser = torch.optim.Adam([guess], lr=0.01)
    for _ in range(400):
        optimiser.zero_grad()
        denoising_loss(network_of(SMALL), SMALL, windows, chosen, torch.Generator().manual_seed(0))["loss"].backward()
        optimiser.step()
    assert guess.item() == pytest.approx(learnt, abs=0.04)


def test_windows_hold_the_frames_and_actions_that_belong_together(prophet, episodes):
    encoded = [prophet.encode_episode(episode) for episode in episodes[:3]]
    settings = dataclasses.replace(
        prophet.settings, context_offsets=(-2, -1, 0), history=HistorySettings(2, "time", 1.0, span=4), origin=True, path=True
    )
    sampler = WindowSampler(encoded, settings)
    window = sampler.cut(np.array([1]), np.array([4]))
    frames = encoded[1].frames
    kept = {"rtol": 1e-3, "atol": 1e-3}  # in 16 bits
    torch.testing.assert_close(window.context[0].transpose(0, 1), frames[[2, 3, 4]], **kept)
    torch.testing.assert_close(window.future[0].transpose(0, 1), frames[5:10], **kept)
    torch.testing.assert_close(window.condition.deltas[0], encoded[1].deltas[4:9])
    torch.testing.assert_close(window.condition.poses[0], encoded[1].poses[[2, 3, 4, 5, 6, 7, 8, 9]])
    torch.testing.assert_close(window.condition.history.latents[0], frames[[1, 0]], **kept)
    assert window.condition.history.ages.tolist() == [[3, 4]]
    torch.testing.assert_close(window.condition.origin[0], frames[0], **kept)  # as far back as it remembers
    late = sampler.cut(np.array([1]), np.array([6]))
    torch.testing.assert_close(late.condition.origin[0], frames[2], **kept)
    early = sampler.cut(np.array([1]), np.array([1]))
    torch.testing.assert_close(early.condition.origin[0], frames[0], **kept)
    torch.testing.assert_close(early.context[0].transpose(0, 1), frames[[0, 0, 1]], **kept)  # before it, its first
    assert not early.condition.history.valid.any()
    remembered = sampler.remember(np.array([1]), np.array([4]))
    torch.testing.assert_close(remembered.context(), window.context)
    torch.testing.assert_close(remembered.looked_back().latents, window.condition.history.latents)
    torch.testing.assert_close(remembered.origin(), window.condition.origin)
    torch.testing.assert_close(remembered.path(), window.condition.path)
    torch.testing.assert_close(window.condition.path[0, :, :-1], encoded[1].poses[:5])
    early_path = early.condition.path[0]
    assert early_path[:, -1].tolist() == [0, 0, 0, 1, 1] and not early_path[:3].any()
    torch.testing.assert_close(early_path[3:, :-1], encoded[1].poses[:2])
    torch.testing.assert_close(sampler.steps(np.array([1]), np.array([4]))[0], encoded[1].arcs[4:10].diff())


def test_transport_carries_cells_to_where_its_weights_say():
    transport = Transport(width=3, patch=2, reach=1)
    present, tokens = torch.randn(2, CHANNELS, SIZE, SIZE), torch.randn(2, ACTIONS, 16, 3)
    assert transport(tokens, present).abs().max() == 0.0
    with torch.no_grad():
        transport.gate.fill_(20.0)
        transport.to_logits.bias.fill_(-50.0)
        transport.to_logits.bias.view(4, 9)[:, 3] = 50.0  # row 1 of 3, column 0: what is left of each cell
    carried = transport(tokens, present) + present[:, :, None]
    expected = present.roll(1, dims=-1)[:, :, None].expand_as(carried)
    torch.testing.assert_close(carried[..., 1:], expected[..., 1:])
    torch.testing.assert_close(carried[..., 0], present[..., 0][:, :, None].expand_as(carried[..., 0]))  # the edge goes on


def test_transport_reads_the_token_of_its_own_cell():
    transport = Transport(width=1, patch=2, reach=1)
    present, tokens = torch.randn(1, CHANNELS, SIZE, SIZE), torch.zeros(1, ACTIONS, 16, 1)
    tokens[0, 2, 6] = 1.0  # third frame, patch in row 1 and column 2: cells 2-3, 4-5
    with torch.no_grad():
        transport.gate.fill_(20.0)
        transport.to_logits.bias.view(4, 9)[:, 4] = 50.0
        transport.to_logits.weight.view(4, 9)[:, 5] = 200.0
    change = transport(tokens, present)
    assert set(map(tuple, change[0].abs().amax(dim=0).nonzero().tolist())) <= {(2, r, c) for r in (2, 3) for c in (4, 5)}
    torch.testing.assert_close(change[0, :, 2, 2, 4], present[0, :, 2, 5] - present[0, :, 2, 4])
