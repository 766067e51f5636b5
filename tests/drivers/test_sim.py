"""The embedded robot: reproducible starts, targets followed, experts that succeed, arms side by side."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from learning.episode_store import load_episodes
from robot_stack.core.actions import compose
from robot_stack.core.errors import ProphRLError, ShapeError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import ActionChunk, FloatArray, Observation
from robot_stack.drivers import sim_collect
from robot_stack.drivers.behaviours import StuckGripper, make_behaviour
from robot_stack.drivers.blind import rehearse
from robot_stack.drivers.sim_collect import CollectionPlan, collect, collect_task, run_episode
from robot_stack.drivers.sim_metaworld import MetaWorldArm
from robot_stack.drivers.sim_vector_env import SimVectorEnv
from robot_stack.paths import robot_file

TASK = "button-press-topdown-v3"


@pytest.fixture(scope="module")
def spec() -> RobotSpec:
    return RobotSpec.load(robot_file("sim_metaworld"))


@pytest.fixture(scope="module")
def arm(spec: RobotSpec) -> MetaWorldArm:
    return MetaWorldArm(spec, TASK)


@pytest.fixture(scope="module")
def arm_push(spec: RobotSpec) -> MetaWorldArm:
    return MetaWorldArm(spec, "push-v3")


@pytest.fixture(scope="module")
def env(spec: RobotSpec) -> Iterator[SimVectorEnv]:
    with SimVectorEnv(spec, TASK, workers=2, envs_per_worker=2) as env:
        yield env


def _episode_at(arm: MetaWorldArm, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    behaviour = make_behaviour("noisy", arm.spec, arm.task, rng)
    return run_episode(arm, behaviour, "e", "noisy", seed, horizon=8).images["front"]


def test_a_seed_fixes_the_episode_whatever_came_before(spec: RobotSpec, arm: MetaWorldArm) -> None:
    first = _episode_at(arm, 7)
    other = _episode_at(arm, 8)
    assert not np.array_equal(first, other)
    assert np.array_equal(first, _episode_at(arm, 7))
    assert np.array_equal(first, _episode_at(MetaWorldArm(spec, TASK), 7))


@pytest.mark.parametrize("task", ["coffee-pull-v3", "lever-pull-v3", "peg-insert-side-v3", "window-open-v3", "push-v3"])
def test_the_first_picture_and_observation_show_the_scene_as_it_is(spec: RobotSpec, task: str) -> None:
    """Meta-World moves bodies after MuJoCo has computed the places of all: the first frame would show the scene before."""
    import mujoco

    arm = MetaWorldArm(spec, task)
    for seed in (3, 4):
        arm.reset(seed)
        picture, state = arm.render(), np.array(arm.privileged_state)
        marks = [(name, np.array(place)) for name, place in arm._env._target_site_config]
        mujoco.mj_forward(arm._env.model, arm._env.data)
        for mark in marks:
            arm._env._set_pos_site(*mark)
        np.testing.assert_array_equal(picture, arm.render())
        arm._env._prev_obs = arm._env._get_curr_obs_combined_no_goal()
        np.testing.assert_allclose(state, arm._env._get_obs(), atol=1e-9)


def test_reset_leaves_the_global_generator_alone(arm: MetaWorldArm) -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    arm.reset(11)
    assert np.random.random() == expected


def test_the_hand_arrives_at_its_target(arm: MetaWorldArm) -> None:
    arm.reset(0)
    target = arm.commanded + np.array([0.05, 0.10, 0.05, 0.0])
    for step in np.linspace(arm.commanded, target, 6)[1:]:
        arm.step(step)
    for _ in range(10):
        arm.step(target)
    assert np.abs(arm.state[:3] - target[:3]).max() < 0.01
    assert np.abs(arm.commanded - target).max() == 0


def test_an_arm_in_real_time_does_not_stop_after_an_episode(arm: MetaWorldArm) -> None:
    arm.reset(0)
    for _ in range(130):  # Meta-World ends an episode after 125 of our ticks
        arm.step(arm.commanded)
    assert np.isfinite(arm.state).all()


def test_gripper_closes_and_opens(arm: MetaWorldArm) -> None:
    arm.reset(0)
    opened = arm.state[3]
    for _ in range(10):
        arm.step(np.append(arm.commanded[:3], 0.0))
    closed = arm.state[3]
    for _ in range(10):
        arm.step(np.append(arm.commanded[:3], 1.0))
    assert closed < opened - 0.2
    assert arm.state[3] > closed + 0.2


def test_expert_succeeds_and_random_motion_does_not(arm: MetaWorldArm) -> None:
    outcomes = {
        name: [
            run_episode(arm, make_behaviour(name, arm.spec, TASK, np.random.default_rng(s)), "e", name, s, 30).success
            for s in range(5)
        ]
        for name in ("expert", "random")
    }
    assert all(outcomes["expert"])
    assert not all(outcomes["random"])


def test_a_stuck_gripper_does_not_follow_for_a_while_and_then_does() -> None:
    seen = set()
    for seed in range(12):
        gripper = StuckGripper(np.random.default_rng(seed))
        wanted = np.tile([0.0, 1.0], 30)
        sent = np.array([gripper.apply(np.array([0.1, 0.2, 0.3, opening]))[-1] for opening in wanted])
        others = gripper.apply(np.array([0.1, 0.2, 0.3, 0.5]))[:3]
        assert others.tolist() == [0.1, 0.2, 0.3]
        off = np.flatnonzero(sent != wanted)
        assert 0 < len(off) <= 10  # of a hold of at most 19 ticks, every second one differs
        held = sent[off[0] : off[-1] + 1]
        assert len(set(held)) == 1
        seen.add(float(held[0]))
        assert (sent[off[-1] + 2 :] == wanted[off[-1] + 2 :]).all()
    assert seen == {0.0, 1.0}


def test_the_careless_expert_succeeds_now_and_then(spec: RobotSpec) -> None:
    arm = MetaWorldArm(spec, "push-v3")
    outcomes = []
    for seed in range(12):
        behaviour = make_behaviour("careless", spec, "push-v3", np.random.default_rng(seed))
        outcomes.append(run_episode(arm, behaviour, "e", "careless", seed, 30).success)
    assert 0 < sum(map(bool, outcomes)) < len(outcomes)


def test_recorded_deltas_reproduce_the_targets(arm: MetaWorldArm) -> None:
    behaviour = make_behaviour("noisy", arm.spec, TASK, np.random.default_rng(0))
    episode = run_episode(arm, behaviour, "e", "noisy", 5, horizon=10)
    targets = compose(episode.commanded[0], episode.deltas, arm.spec.action_kinds)
    assert np.allclose(targets[:-1], episode.commanded[1:], atol=1e-5)


def test_vector_environment_equals_one_arm(spec: RobotSpec, arm: MetaWorldArm, env: SimVectorEnv) -> None:
    starts = [20, 21, 22]
    deltas = np.random.default_rng(0).uniform(-0.03, 0.03, (3, 5, 4))
    deltas[..., 3] = 1.0
    begun = env.reset(starts)
    ended = env.step(deltas)
    for i, start in enumerate(starts):
        arm.reset(start)
        assert np.array_equal(arm.render(), begun.images[i])
        for target in compose(arm.commanded, deltas[i], spec.action_kinds):
            arm.step(target)
        assert np.array_equal(arm.render(), ended.images[i])
        assert np.allclose(arm.commanded, ended.commanded[i])
    assert ended.info["ticks"].tolist() == [5, 5, 5]
    assert (ended.camera, ended.instruction) == (arm.camera_model(), arm.instruction)


def test_an_arm_that_has_succeeded_stands_still(spec: RobotSpec, arm: MetaWorldArm, env: SimVectorEnv) -> None:
    behaviour = make_behaviour("expert", arm.spec, TASK, np.random.default_rng(0))
    episode = run_episode(arm, behaviour, "e", "expert", 20, horizon=30)
    assert episode.success
    assert episode.first_success is not None
    env.reset([20, 21])
    way = np.stack([episode.deltas, np.zeros_like(episode.deltas)]).astype(np.float64)  # the second arm waits
    way[1, :, 3] = 1.0
    done = env.step(way)
    assert done.success.tolist() == [True, False]
    assert done.info["ticks"].tolist() == [episode.first_success, 30]
    up = np.zeros((2, 3, 4))
    up[:, :, 2], up[:, :, 3] = 0.01, 1.0
    after = env.step(up)
    assert np.array_equal(after.commanded[0], done.commanded[0])
    assert np.array_equal(after.images[0], done.images[0])
    assert after.info["ticks"].tolist() == [episode.first_success, 33]
    assert after.commanded[1, 2] > done.commanded[1, 2]


def test_vector_environment_guards_its_arms(spec: RobotSpec, env: SimVectorEnv) -> None:
    begun = env.reset([20])
    fast = np.zeros((1, 1, 4))
    fast[0, 0, 0] = 1.2 * spec.max_step[0]
    moved = env.step(fast).commanded[0] - begun.commanded[0]
    assert moved[0] == pytest.approx(spec.max_step[0])


def test_bad_requests_are_named(spec: RobotSpec, env: SimVectorEnv) -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'button-v3'; valid: .*button-press-topdown-v3"):
        MetaWorldArm(spec, "button-v3")
    with pytest.raises(UnknownNameError, match="unknown behaviour 'lazy'; valid: careless, expert, noisy, random"):
        make_behaviour("lazy", spec, TASK, np.random.default_rng(0))
    with pytest.raises(ShapeError, match="N <= 4"):
        env.reset(range(5))


def test_a_dead_simulator_process_is_reported(spec: RobotSpec) -> None:
    with SimVectorEnv(spec, TASK, workers=1, envs_per_worker=1) as env:
        env.reset([0])
        env._processes[0].kill()
        with pytest.raises(ProphRLError, match="process 0 of task button-press-topdown-v3 died"):
            env.step(np.zeros((1, 1, 4)))


class _Down:
    """A policy that goes down by five millimetres a tick, three ticks a chunk, and remembers what it was shown."""

    def __init__(self, spec: RobotSpec) -> None:
        self.period_ns = spec.period_ns
        self.seeds: list[int] = []
        self.seen: list[Observation] = []

    def reset(self, seed: int) -> None:
        self.seeds.append(seed)

    def infer(self, observation: Observation, prefix: FloatArray) -> ActionChunk:
        assert len(prefix) == 0
        self.seen.append(observation)
        down = np.array([0.0, 0.0, -0.005, 0.0]) * np.arange(1, 4)[:, None]
        return ActionChunk(observation.stamp_ns, self.period_ns, observation.commanded + down)


def test_a_policy_can_be_recorded_straight_from_the_simulator(spec: RobotSpec, tmp_path: Path) -> None:
    made: list[_Down] = []

    def load(spec: RobotSpec) -> _Down:
        made.append(_Down(spec))
        return made[-1]

    plan = CollectionPlan(TASK, {"policy": [7]}, horizon=7, policy=load)
    assert collect_task(spec, plan, tmp_path) == 1
    (policy,) = made
    (episode,) = load_episodes(tmp_path)
    assert policy.seeds == [7]
    assert len(policy.seen) == 3, "a chunk of three is asked for at ticks 0, 3 and 6"
    assert episode.source == "policy"
    np.testing.assert_allclose(episode.deltas[:, 2], -0.005, atol=1e-6)
    np.testing.assert_array_equal(policy.seen[1].images["front"], episode.images["front"][3])
    np.testing.assert_allclose(policy.seen[1].commanded, episode.commanded[3], atol=1e-6)


def test_episodes_of_a_policy_need_one() -> None:
    with pytest.raises(ProphRLError, match=r"no policy is given: checkpoint\.policy"):
        CollectionPlan(TASK, {"policy": [7]})


def test_collection_continues_where_it_stopped(spec: RobotSpec, tmp_path: Path) -> None:
    plan = CollectionPlan(TASK, {"expert": range(2), "random": range(1)}, horizon=4)
    assert collect_task(spec, plan, tmp_path) == 3
    (tmp_path / f"{TASK}.expert.000001.npz").unlink()
    assert collect_task(spec, plan, tmp_path) == 1
    episodes = load_episodes(tmp_path)
    assert sorted(episode.name for episode in episodes) == [
        f"{TASK}.expert.000000", f"{TASK}.expert.000001", f"{TASK}.random.000000",
    ]  # fmt: skip
    assert {episode.source for episode in episodes} == {"expert", "random"}


def test_a_collection_that_is_whole_starts_no_process(spec: RobotSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = CollectionPlan(TASK, {"expert": range(1)}, horizon=2)
    assert collect(spec, [plan], tmp_path, workers=1) == 1

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(sim_collect, "ProcessPoolExecutor", refuse)
    assert collect(spec, [plan], tmp_path) == 0


def test_the_blind_expert_repeats_its_motion_whatever_comes_of_it(
    spec: RobotSpec, arm_push: MetaWorldArm, tmp_path: Path
) -> None:
    seeds = range(8)
    assert collect_task(spec, CollectionPlan("push-v3", {"blind": seeds}, 30), tmp_path) == len(seeds)
    episodes = load_episodes(tmp_path, spec=spec)
    expert = make_behaviour("expert", spec, "push-v3", np.random.default_rng(0))
    rehearsals = [rehearse(arm_push, expert, seed, 30) for seed in seeds]
    beside = [np.allclose(e.deltas[7:], deltas[7:], atol=1e-5) for e, deltas in zip(episodes, rehearsals, strict=True)]
    assert sum(beside) >= 3, "most motions happen beside the original, and are the same from then on"
    assert not any(np.allclose(e.deltas, deltas) for e, deltas in zip(episodes, rehearsals, strict=True))
    assert {episode.success for episode, same in zip(episodes, beside, strict=True) if same} == {True, False}


class _Speechless:
    """A policy that knows no instruction."""

    def reset(self, seed: int) -> None:
        pass

    def infer(self, observation: Observation, committed: FloatArray) -> ActionChunk:
        raise UnknownNameError("instruction", observation.instruction, ["another"])


def test_a_task_that_the_policy_does_not_know_has_no_episodes_of_it(spec: RobotSpec, tmp_path: Path, caplog) -> None:
    plan = CollectionPlan(TASK, {"policy": range(2), "random": range(1)}, 5, policy=lambda spec: _Speechless())
    assert collect_task(spec, plan, tmp_path) == 1
    assert [episode.source for episode in load_episodes(tmp_path, spec=spec)] == ["random"]
    assert "unknown instruction" in caplog.text
