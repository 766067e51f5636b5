"""Practice in a real, though untrained, Prophet: starts, scores, checks of what belongs together, one whole update."""

from dataclasses import replace

import numpy as np
import pytest

from learning.data_sources import Dataset
from learning.fitting import FitSettings
from rl.calibrated import calibrated_scores
from rl.evaluation import evaluate
from rl.learner import LearnerSettings
from rl.practice import PracticeSettings, in_imagination, in_simulator, starts_from_episodes, starts_from_resets
from rl.rollout import RolloutSettings
from rl.train import RlSettings, train
from rl.trials import EvaluationSettings, Trials
from robot_stack.core.errors import ProphRLError, SpecMismatchError, UnknownNameError
from tests.rl.point_reach import INSTRUCTION, SIZE, PointReach, make_world, timid_demonstrations
from world_model.autoencoder import AutoencoderSettings
from world_model.checkpoint import save_prophet
from world_model.judge import Judge, JudgeSettings, SuccessClassifier, save_judge, tokenizer_hash
from world_model.sampler import SamplerSettings
from world_model.settings import Phase, WorldModelSettings
from world_model.sizes import BackboneSettings, ProphetSettings
from world_model.train import new_prophet

TASK = {"name": "point-reach", "instruction": INSTRUCTION, "horizon": 10, "seeds": {"rl_practice": 7000, "rl_selection": 6000}}


@pytest.fixture
def truth(spec):
    return Trials(EvaluationSettings(make_world, episodes=20, batch=5), spec, TASK, run=0)


def _dataset(spec, episodes) -> Dataset:
    return Dataset(
        "point", tuple(episodes), 1.0, spec.rate_hz, spec.action_kinds, spec.name, spec.fingerprint, spec.camera_names
    )


@pytest.fixture(scope="module")
def folders(spec, tmp_path_factory):
    """Checkpoints of a small Prophet and its judge."""
    nothing = FitSettings(steps=1, batch_size=1, lr=1e-3)
    backbone = BackboneSettings(heads=2, head_width=16, layers=1, lora_width=8)
    settings = WorldModelSettings(
        autoencoder=AutoencoderSettings(image_size=SIZE, channels=4, fine_width=8, coarse_width=8, coarse_blocks=1),
        transformer=ProphetSettings(backbone=backbone, action_width=16),
        pretrain=Phase(nothing, nothing),
        adapt=Phase(nothing, nothing),
    )
    prophet = new_prophet(settings, [_dataset(spec, timid_demonstrations(4))], seed=0)
    judging = JudgeSettings(width=8)
    network = SuccessClassifier(judging, prophet.latent_shape.channels, prophet.latent_shape.size).eval()
    world, judge = tmp_path_factory.mktemp("world"), tmp_path_factory.mktemp("judge")
    save_prophet(prophet, world)
    save_judge(Judge(network, judging, 0.5, tokenizer_hash(prophet)), judge)
    return world, judge


def test_resets_give_the_pictures_of_the_practice_seeds(truth, folders, spec):
    place = in_imagination(*folders, lambda prophet: starts_from_resets(truth, 12), spec, SamplerSettings())
    assert list(place.pool) == list(range(12)) and not place.is_true
    expected = PointReach().reset(range(7000, 7012)).images
    np.testing.assert_array_equal(place.environment.reset(range(12)).images, expected)
    assert len(place.identity["world model"]) == len(place.identity["judge"]) == 64


def test_episodes_give_their_first_frames(folders, spec, tmp_path):
    from learning.episode_store import save_episode

    episodes = timid_demonstrations(5)
    for episode in episodes:
        save_episode(tmp_path, episode)
    place = in_imagination(
        *folders, lambda prophet: starts_from_episodes([tmp_path], prophet, spec, 3, run=0), spec, SamplerSettings()
    )
    firsts = {episode.images["front"][0].tobytes() for episode in episodes}
    assert {image.tobytes() for image in place.environment.reset(range(3)).images} <= firsts
    with pytest.raises(ProphRLError, match="no episodes to start from"):
        in_imagination(*folders, lambda prophet: starts_from_episodes([], prophet, spec, 3, 0), spec, SamplerSettings())


def test_one_update_in_prophet_with_a_true_check(policy, truth, folders, spec, tmp_path):
    place = in_imagination(*folders, lambda prophet: starts_from_resets(truth, 8), spec, SamplerSettings())
    settings = RlSettings(
        updates=1,
        imagined_checks=4,
        rollout=RolloutSettings(starts=2, group_size=4, batch=8),
        learner=LearnerSettings(minibatches=2),
    )
    selection = truth.seeds("rl_selection", 10)
    result = train(
        policy, place.environment, place.pool, truth.episodes(policy), lambda p: truth.evaluate(p, selection), settings,
        tmp_path, identity=place.identity, progress=False,
    )  # fmt: skip
    assert result.state.update == 1 and result.state.true_episodes == {"selection": 20}
    assert result.state.start_gap is not None


def test_reward_is_one_half_where_the_verdict_turns():
    squeezed = np.array([[0.05, 0.90, 0.94, 0.96]])
    scores = calibrated_scores(squeezed, threshold=0.94, sharpness=2.0)
    assert scores[0, 2] == pytest.approx(0.5)
    assert (np.diff(scores) > 0).all() and scores[0, 3] - scores[0, 1] > 5 * (squeezed[0, 3] - squeezed[0, 1])
    np.testing.assert_allclose(calibrated_scores(squeezed, threshold=0.5, sharpness=1.0), squeezed)
    assert np.isfinite(calibrated_scores(np.array([[0.0, 1.0]]), threshold=1.0, sharpness=50.0)).all()


def test_imagination_gives_calibrated_scores_and_the_judges_own_verdict(truth, folders, spec):
    def play(sharpness, certainty=0.0):
        settings = PracticeSettings(sharpness=sharpness, certainty=certainty)
        place = in_imagination(*folders, lambda p: starts_from_resets(truth, 6), spec, SamplerSettings(), settings)
        place.environment.reset(range(6))
        return place.environment.step(np.zeros((6, 5, 4)))

    soft, sharp = play(1.0), play(4.0)
    np.testing.assert_array_equal(soft.success, sharp.success)
    np.testing.assert_allclose(sharp.info["scores"], calibrated_scores(soft.info["scores"], 0.5, 4.0))
    plain = play(1.0, certainty=0.3).info["scores"]  # less than the judge's threshold asks for nothing
    np.testing.assert_array_equal(plain, soft.info["scores"])


def test_success_in_practice_has_to_be_certain(truth, folders, spec):
    def play(certainty):
        settings = PracticeSettings(sharpness=1.0, certainty=certainty)
        place = in_imagination(*folders, lambda p: starts_from_resets(truth, 12), spec, SamplerSettings(), settings)
        place.environment.reset(range(12))
        return place.environment.step(np.zeros((12, 5, 4)))

    verdict = play(0.0)
    best = verdict.info["scores"].max()  # with sharpness 1 and threshold 0.5 the judge's own
    assert verdict.success.any()
    certain = play((1.0 + best) / 2.0)
    assert not certain.success.any() and (certain.info["scores"] < 0.5).all()


def test_simulator_is_the_true_environment_itself(policy, truth, episodes):
    place = in_simulator(PracticeSettings(where="simulator", starts=6), truth)
    assert place.is_true and place.pool == range(7000, 7006)
    ours = evaluate(policy, place.environment, place.pool, episodes, batch=6)
    assert ours.success == truth.evaluate(policy, place.pool).success


def test_world_model_of_another_robot_is_refused(folders, spec, truth):
    other = replace(spec, name="other")
    with pytest.raises(SpecMismatchError, match="other"):
        in_imagination(*folders, lambda prophet: starts_from_resets(truth, 2), other, SamplerSettings())


def test_bad_settings_list_the_valid_ones():
    with pytest.raises(UnknownNameError, match="imagination, simulator"):
        PracticeSettings(where="dream")
    with pytest.raises(UnknownNameError, match="episodes, resets"):
        PracticeSettings(starts_from="thin air")
    with pytest.raises(ValueError, match="certainty must be in"):
        PracticeSettings(certainty=1.0)


def test_policy_of_several_instructions_needs_one_named(policy, spec):
    unnamed = Trials(EvaluationSettings(make_world), spec, TASK | {"instruction": None}, run=0)
    assert unnamed.episodes(policy).instruction == INSTRUCTION
    policy.manifest = replace(policy.manifest, instructions={**policy.manifest.instructions, "push": np.zeros(384, np.float32)})
    with pytest.raises(ProphRLError, match=r"task\.instruction=.*push, reach"):
        unnamed.episodes(policy)
