"""The commands on files, with the toy world in place of the simulator: outcomes, comparisons, ledgers, refusals."""

import json
from dataclasses import replace

import pytest
import yaml

from learning.episode_store import save_episode
from policy import checkpoint
from rl import evaluation, filtered_bc, train
from rl.trials import SuccessScore
from robot_stack.core.errors import ProphRLError, SpecMismatchError
from robot_stack.paths import robot_file
from tests.rl.point_reach import SIZE, timid_demonstrations

TOY = [
    "task=metaworld",
    "task.name=point-reach",
    "task.horizon=10",
    "evaluation.environment._target_=tests.rl.point_reach.make_world",
    "evaluation.batch=40",
]


@pytest.fixture
def command(policy, tmp_path):
    """Common arguments: the toy world, its robot and the policy after imitation."""
    robot = yaml.safe_load(robot_file("sim_metaworld").read_text())
    robot["cameras"][0] |= {"width": SIZE, "height": SIZE}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(robot))
    checkpoint.save(policy, tmp_path / "start")
    return [*TOY, f"robot={tmp_path / 'toy.yaml'}", f"checkpoint.policy={tmp_path / 'start'}"]


def read(path):
    return json.loads(path.read_text())


def test_evaluate_writes_every_outcome_and_compares(command, tmp_path):
    first = [*command, f"out={tmp_path / 'first'}", "evaluation.episodes=40"]
    assert evaluation.main(first) == 0
    result = read(tmp_path / "first" / "evaluation.json")
    assert result["starts"] == list(range(10_000, 10_040)) and len(result["success"]) == 40
    assert result["success_rate"] == sum(result["success"]) / 40
    assert result["wilson_95"][0] < result["success_rate"] < result["wilson_95"][1]

    again = [
        *command,
        f"out={tmp_path / 'again'}",
        "evaluation.episodes=40",
        f"evaluation.against={tmp_path}/first/evaluation.json",
    ]
    assert evaluation.main(again) == 0
    against = read(tmp_path / "again" / "figures.json")["against"]
    assert against["difference"] == 0 and against["gained"] == against["lost"] == 0 and against["mcnemar_p"] == 1


def test_train_rl_in_the_true_environment_returns_a_checkpoint_with_its_ledger(command, tmp_path):
    budget = ["rl=simulator", "rl.updates=2", "rl.check_every=1", "rl.check_episodes=20", "rl.lr=1e-3", "rl.rollout.redraws=0"]
    assert train.main([*command, *budget, f"out={tmp_path / 'rl'}"]) == 0
    figures = read(tmp_path / "rl" / "figures.json")
    assert figures["true_episodes"] == {"selection": 60, "practice": 160}
    assert figures["true_success"]["best"] >= figures["true_success"]["start"]
    better = checkpoint.load(tmp_path / "rl")
    assert better.manifest.extra["rl"]["best_update"] == figures["best_update"]


def test_filtered_cloning_takes_demonstrations_and_own_successes_only(command, tmp_path):
    demonstrations = timid_demonstrations(6)
    labelled = [
        replace(demonstrations[0], name="a"),
        replace(demonstrations[1], name="b", source="policy:1234", success=True),
        replace(demonstrations[2], name="c", source="policy:1234", success=False),
        replace(demonstrations[3], name="d", source="random", success=True),
        replace(demonstrations[4], name="e", source="teleop", success=False),
    ]
    assert [episode.name for episode in filtered_bc.worth_imitating(labelled)] == ["a", "b"]
    for episode in labelled:
        save_episode(tmp_path / "data", episode)
    short = ["policy.train.steps=4", "policy.train.checkpoint_every=2", "policy.train.candidates=1", "rl.check_episodes=10"]
    assert filtered_bc.main([*command, *short, f"data={tmp_path / 'data'}", f"out={tmp_path / 'bc'}"]) == 0
    figures = read(tmp_path / "bc" / "figures.json")
    assert (figures["demonstrations"], figures["own_successes"]) == (1, 1)
    assert figures["true_episodes"] == {"selection": 10}
    checkpoint.load(tmp_path / "bc")


def test_success_score_uses_its_own_seeds(policy, command, tmp_path):
    from learning.hydra_entry import build, compose

    score = build(
        compose([*command, "policy/selection=simulator", "policy.selection.episodes=30"], "train-policy").policy
    ).selection
    assert isinstance(score, SuccessScore)
    assert 0 < score(policy) < 1
    assert score.true_episodes == 30


def test_bad_input_is_refused_with_what_to_do(command, tmp_path):
    with pytest.raises(ProphRLError, match=r"prophrl train-policy.*checkpoint.policy"):
        evaluation.main([*TOY, f"run.dir={tmp_path / 'empty'}"])
    with pytest.raises(SpecMismatchError):
        evaluation.main([*command, "robot=sim_metaworld", f"out={tmp_path / 'x'}"])
    with pytest.raises(ProphRLError, match="imagination, simulator"):
        train.main([*command, "rl.practice.where=dream", f"out={tmp_path / 'x'}"])
    with pytest.raises(ProphRLError, match="group of one"):
        train.main([*command, "rl.rollout.group_size=1", f"out={tmp_path / 'x'}"])
    with pytest.raises(ProphRLError, match="none of 0 episodes"):
        filtered_bc.main([*command, f"out={tmp_path / 'x'}"])
