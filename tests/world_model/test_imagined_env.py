"""The imagined environment keeps the promises of ``VectorEnvironment``."""

import dataclasses

import numpy as np
import pytest

from robot_stack.core.errors import ProphRLError, ShapeError, SpecMismatchError
from robot_stack.core.horizon import HorizonGuard
from robot_stack.core.ports import VectorEnvironment
from robot_stack.drivers.gym_vector import GymVectorEnv
from world_model.imagination import StartContext, replay, replay_all
from world_model.imagined_env import DoubtSettings, ImaginedEnv
from world_model.sampler import SamplerSettings


@pytest.fixture
def starts(episodes, prophet):
    return [StartContext.of_episode(episode, "front", 4, prophet.settings.span) for episode in episodes[:4]]


@pytest.fixture
def env(prophet, judge, starts, spec):
    return ImaginedEnv(prophet, judge, starts, spec, SamplerSettings(steps=2, batch_size=2))


def chunks(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.Generator(np.random.Philox(seed))
    deltas = 0.01 * random.normal(size=(count, 5, 4))
    deltas[..., 3] = 1.0
    return deltas


def test_reset_shows_the_recorded_moment(env, starts):
    environment: VectorEnvironment = env
    step = environment.reset([2, 0])
    np.testing.assert_array_equal(step.images[0], starts[2].images[-1])
    np.testing.assert_array_equal(step.commanded, [starts[2].commanded[-1], starts[0].commanded[-1]])
    assert step.success.dtype == bool
    assert step.info["scores"].shape == (2, 1)


def test_step_moves_the_target_and_shows_new_frames(env, starts):
    env.reset([1, 3])
    deltas = chunks(2)
    step = env.step(deltas)
    expected = np.stack([starts[i].commanded[-1, :3] for i in (1, 3)]) + deltas[..., :3].sum(axis=1)
    np.testing.assert_allclose(step.commanded[:, :3], expected, atol=1e-9)
    assert step.images.shape == (2, 32, 32, 3)
    assert step.images.dtype == np.uint8
    assert step.info["scores"].shape == (2, 5)
    assert step.info["latents"].shape[:2] == (2, 5)


def test_targets_pass_through_the_guard(env, starts, spec):
    env.reset([0])
    deltas = np.zeros((1, 5, 4))
    deltas[..., 0] = 1.2 * spec.max_step[0]  # faster than the robot may go
    step = env.step(deltas)
    assert step.commanded[0, 0] - starts[0].commanded[-1, 0] <= 5 * spec.max_step[0] + 1e-6


def test_a_rollout_depends_on_its_own_seed_and_actions_only(env):
    deltas = chunks(3)
    env.reset([0, 1, 2], noise_seeds=[10, 11, 12])
    together = [env.step(deltas), env.step(deltas)]
    env.reset([2, 0], noise_seeds=[12, 10])
    apart = [env.step(deltas[[2, 0]]), env.step(deltas[[2, 0]])]
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a.info["latents"][[2, 0]], b.info["latents"], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(a.info["scores"][[2, 0]], b.info["scores"], rtol=1e-3, atol=1e-4)
    env.reset([0, 1, 2], noise_seeds=[10, 11, 99])
    other = env.step(deltas)
    np.testing.assert_allclose(other.info["latents"][:2], together[0].info["latents"][:2], rtol=1e-3, atol=1e-4)
    assert np.abs(other.info["latents"][2] - together[0].info["latents"][2]).max() > 1e-3


def test_no_rollout_begins_as_a_success_whatever_the_judge_says(env, judge, monkeypatch):
    scores = iter([np.ones((1, 1)), np.array([[0.9, 0, 0, 0, 0]]), np.ones((1, 5))])
    monkeypatch.setattr(type(judge), "score_frames", lambda *_: next(scores))
    assert not env.reset([0]).success[0]
    assert not env.step(chunks(1)).success[0], "the start frame is no part of the verdict"
    assert env.step(chunks(1)).success[0]


def test_success_is_latched(env, judge, monkeypatch):
    scores = iter([np.zeros((1, 1)), np.array([[0, 0.9, 0.9, 0, 0]]), np.zeros((1, 5))])
    monkeypatch.setattr(type(judge), "score_frames", lambda *_: next(scores))
    assert not env.reset([0]).success[0]
    assert env.step(chunks(1)).success[0]
    assert env.step(chunks(1)).success[0]


def test_a_verdict_may_span_chunks_and_is_kept(prophet, judge, starts, spec, monkeypatch):
    patient = dataclasses.replace(judge, settings=dataclasses.replace(judge.settings, verdict_frames=7), threshold=0.6)
    scores = iter([np.zeros((2, 1)), *(np.array([[first] * 5, [0.8] * 5]) for first in (0.0, 0.8, 0.2))])
    monkeypatch.setattr(type(judge), "score_frames", lambda *_: next(scores))
    env = ImaginedEnv(prophet, patient, starts, spec)
    env.reset([0, 1])
    assert env.step(chunks(2)).success.tolist() == [False, True], "a video shorter than a verdict is averaged whole"
    assert env.step(chunks(2)).success.tolist() == [False, True], "two frames of 0 and five of 0.8"
    assert env.step(chunks(2)).success.tolist() == [True, True], "five frames of 0.8 and two of 0.2"


def test_a_rollout_that_has_succeeded_stands_still_and_the_others_go_on(env, judge, monkeypatch):
    scores = iter([np.zeros((2, 1)), np.array([[0.9] * 5, [0.1] * 5]), np.full((2, 5), 0.1)])
    monkeypatch.setattr(type(judge), "score_frames", lambda *_: next(scores))
    env.reset([0, 1])
    first, second = env.step(chunks(2)), env.step(chunks(2))
    assert first.success.tolist() == second.success.tolist() == [True, False]
    np.testing.assert_array_equal(second.info["latents"][0], np.repeat(first.info["latents"][0, -1:], 5, axis=0))
    np.testing.assert_array_equal(second.images[0], first.images[0])
    assert (second.info["scores"][0] == 0.9).all() and (second.info["scores"][1] == 0.1).all()
    assert np.abs(second.info["latents"][1] - first.info["latents"][1, -1:]).max() > 1e-3
    assert (second.images[1] != first.images[1]).any()


def test_env_agrees_with_the_replay_of_an_episode(prophet, judge, episodes, spec):
    episode = episodes[0]
    begin = StartContext.of_episode(episode, "front", 0, prophet.settings.span)
    env = ImaginedEnv(prophet, judge, [begin], spec)
    one_seed = f"replay 0 {episode.name}"
    env.reset([0], noise_seeds=[one_seed])
    first = env.step(np.asarray(episode.deltas[None, :5], dtype=np.float64)).info["latents"]
    np.testing.assert_allclose(first[0], replay(prophet, [episode], SamplerSettings())[0, 1:6], rtol=1e-3, atol=1e-4)


def test_start_at_rest_repeats_its_frame(prophet, episodes):
    image, target = episodes[0].images["front"][0], episodes[0].commanded[0].astype(np.float64)
    rest = StartContext.at_rest(image, target)
    recorded = StartContext.of_episode(episodes[0], "front", 0, prophet.settings.span)
    np.testing.assert_array_equal(rest.images, recorded.images)
    np.testing.assert_array_equal(rest.commanded, recorded.commanded)


def test_bad_calls_are_refused(env, prophet, judge, starts, spec):
    with pytest.raises(ProphRLError, match="reset"):
        env.step(chunks(1))
    with pytest.raises(ProphRLError, match="start 9"):
        env.reset([9])
    with pytest.raises(ShapeError):
        env.reset([0, 1], noise_seeds=[1])
    env.reset([0, 1])
    with pytest.raises(ShapeError):
        env.step(chunks(3))
    with pytest.raises(ProphRLError, match="at least one start"):
        ImaginedEnv(prophet, judge, [], spec)
    stranger = prophet.replace(domains={"square": dataclasses.replace(prophet.domain, fingerprint="other")})
    with pytest.raises(SpecMismatchError):
        ImaginedEnv(stranger, judge, starts, spec)


def test_replay_keeps_the_order_of_episodes_of_any_length(prophet, episodes):
    short = dataclasses.replace(
        episodes[1],
        images={"front": episodes[1].images["front"][:8]},
        **{name: getattr(episodes[1], name)[:8] for name in ("state", "commanded", "deltas")},
    )
    videos = replay_all(prophet, [episodes[0], short, episodes[2]], SamplerSettings())
    assert [len(video) for video in videos] == [16, 8, 16]
    for video, episode in zip(videos, episodes, strict=False):
        np.testing.assert_allclose(video[0], prophet.encode(episode.images["front"][:1])[0], rtol=1e-4, atol=1e-5)


def test_a_second_draw_tells_how_much_it_differs_and_may_break_a_rollout_off(prophet, judge, starts, spec):
    sampler = SamplerSettings(steps=2)
    plain = ImaginedEnv(prophet, judge, starts, spec, sampler)
    plain.reset([0, 1])
    without = plain.step(chunks(2))
    measured = ImaginedEnv(prophet, judge, starts, spec, sampler, DoubtSettings(penalty=0.5))
    measured.reset([0, 1])
    seen = measured.step(chunks(2))
    np.testing.assert_array_equal(seen.info["latents"], without.info["latents"])
    assert seen.info["uncertainty"].shape == (2, 5)
    assert (seen.info["uncertainty"] > 0).all()
    expected = np.clip(without.info["scores"] - 0.5 * seen.info["uncertainty"], 0, 1)
    np.testing.assert_allclose(seen.info["scores"], expected)
    between = float(np.sort(seen.info["uncertainty"].max(axis=1)).mean())
    careful = ImaginedEnv(prophet, judge, starts, spec, sampler, DoubtSettings(limit=between))
    careful.reset([0, 1])
    first, second = careful.step(chunks(2)), careful.step(chunks(2))
    doubted = first.info["doubted"]
    assert sorted(doubted.tolist()) == [False, True]
    np.testing.assert_array_equal(first.info["scores"][doubted], 0.0)  # nothing that can be trusted came before
    last = first.info["latents"][doubted][:, -1:]
    np.testing.assert_array_equal(second.info["latents"][doubted], np.repeat(last, 5, axis=1))
    assert (second.info["latents"][~doubted] != first.info["latents"][~doubted]).any()


def test_imagination_ends_at_its_horizon(env):
    guarded: VectorEnvironment = HorizonGuard(env, 10)
    guarded.reset([0, 1])
    assert not guarded.step(chunks(2)).truncated
    assert guarded.step(chunks(2)).truncated
    with pytest.raises(ProphRLError, match="horizon of 10"):
        guarded.step(chunks(2))
    guarded.reset([0, 1])
    assert not guarded.step(chunks(2)).truncated


def test_imagination_as_a_gymnasium_vector_environment(env, spec):
    gym = GymVectorEnv(HorizonGuard(env, 10), spec, range(len(env)), num_envs=2, chunk_length=5, image_size=32)
    seen, info = gym.reset(seed=3)
    assert gym.observation_space.contains(seen)
    again, _ = gym.reset(seed=3)
    np.testing.assert_array_equal(seen["images"], again["images"])
    assert gym.action_space.contains(chunks(2))
    gym.reset(options={"starts": [1, 2]})
    seen, reward, terminated, truncated, info = gym.step(chunks(2))
    assert gym.observation_space.contains(seen)
    assert reward.shape == terminated.shape == truncated.shape == (2,)
    assert not truncated.any() and info["scores"].shape == (2, 5)
    env.reset([1, 2])
    np.testing.assert_array_equal(env.step(chunks(2)).images, seen["images"])
    with pytest.raises(ShapeError):
        gym.reset(options={"starts": [1]})


def test_a_success_is_rewarded_once_and_is_not_truncated(env, judge, monkeypatch, spec):
    scores = iter([np.zeros((2, 1)), np.array([[0.9] * 5, [0.1] * 5]), np.full((2, 5), 0.1)])
    monkeypatch.setattr(type(judge), "score_frames", lambda *_: next(scores))
    gym = GymVectorEnv(HorizonGuard(env, 10), spec, range(len(env)), num_envs=2, chunk_length=5, image_size=32)
    gym.reset(options={"starts": [0, 1]})
    _, first, terminated, _, _ = gym.step(chunks(2))
    _, second, _, truncated, _ = gym.step(chunks(2))
    assert first.tolist() == [1.0, 0.0] and second.tolist() == [0.0, 0.0]
    assert terminated.tolist() == [True, False] and truncated.tolist() == [False, True]
