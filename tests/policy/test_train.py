"""Training: it learns, it continues on the same curve after a kill, it returns what was chosen."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from learning.episode import Episode
from learning.episode_store import save_episode
from learning.metrics_log import read_metrics
from policy import checkpoint
from policy.augmentation import AugmentationSettings, augment
from policy.flow_policy import FlowPolicy
from policy.inputs import chunk_noise
from policy.sampling import plan
from policy.train import TrainSettings, fit, main
from robot_stack.core.errors import ProphRLError, SpecMismatchError
from robot_stack.core.robot_spec import RobotSpec
from tests.policy.conftest import INSTRUCTIONS, SMALL, make_policy

QUICK = TrainSettings(steps=12, batch_size=8, warmup=2, log_every=1, checkpoint_every=4, candidates=3)


def weights_of(policy: FlowPolicy) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


def test_it_learns_to_go_where_the_picture_says(spec: RobotSpec, episodes: list[Episode]) -> None:
    """A white block left, in the middle or right says which way to go."""
    ways, taught = np.array([-0.03, 0.0, 0.03], np.float32), []
    for way, column, episode in zip(ways, (4, 28, 52), episodes, strict=True):
        images = episode.images["front"] // 4
        images[:, 24:40, column : column + 8] = 255
        deltas = np.tile(np.float32([way, 0.0, 0.0, 1.0]), (len(episode), 1))
        taught.append(dataclasses.replace(episode, images={"front": images}, deltas=deltas, instruction=INSTRUCTIONS[0]))
    settings = dataclasses.replace(QUICK, steps=150, batch_size=16, lr=3e-3, checkpoint_every=150, ema_decay=0.9)
    policy = make_policy(spec, noise=0.0)
    fit(policy, taught, settings, progress=False)
    images = np.stack([episode.images["front"][0] for episode in taught]).repeat(10, axis=0)
    deltas = plan(policy, images, INSTRUCTIONS[:1] * 30, chunk_noise(range(30), 0, 5, 4))
    wanted = np.stack([episode.deltas[:5] for episode in taught]).repeat(10, axis=0)
    assert np.abs(deltas - wanted)[..., :3].mean() < 0.003  # [m]; the ways lie 0.03 apart, and noise alone is 0.02
    assert np.abs(deltas - wanted)[..., 3].mean() < 0.1


def test_an_interrupted_training_continues_on_the_same_curve(spec: RobotSpec, episodes: list[Episode], tmp_path: Path) -> None:
    whole = make_policy(spec)
    fit(whole, episodes, QUICK, folder=tmp_path / "whole", score=lambda policy: 0.0, progress=False)

    class KilledError(Exception):
        pass

    calls = []

    def dies_at_the_second_checkpoint(policy: FlowPolicy) -> float:
        calls.append(policy)
        if len(calls) == 2:
            raise KilledError
        return 0.0

    cut = make_policy(spec)
    with pytest.raises(KilledError):
        fit(cut, episodes, QUICK, folder=tmp_path / "cut", score=dies_at_the_second_checkpoint, progress=False)
    assert read_metrics(tmp_path / "cut" / "metrics.csv")[-1][0] == 8  # rows behind the saved step 4, to be dropped
    continued = make_policy(spec)
    fit(continued, episodes, QUICK, folder=tmp_path / "cut", score=lambda policy: 0.0, progress=False)
    assert torch.equal(weights_of(whole), weights_of(continued))
    curves = [
        [row for row in read_metrics(tmp_path / name / "metrics.csv") if row[1] in ("loss", "average_loss")]
        for name in ("whole", "cut")
    ]
    assert curves[0] == curves[1]
    assert [row[0] for row in curves[0] if row[1] == "average_loss"] == [4, 8, 12]


def test_a_finished_training_returns_its_result_at_once(spec: RobotSpec, episodes: list[Episode], tmp_path: Path) -> None:
    first = fit(make_policy(spec), episodes, QUICK, folder=tmp_path, progress=False)
    again = fit(make_policy(spec), episodes, QUICK, folder=tmp_path, progress=False)
    assert torch.equal(weights_of(first.policy), weights_of(again.policy))
    assert json.loads((tmp_path / "figures.json").read_text())["best_step"] == 12


def test_the_state_of_another_training_is_refused(spec: RobotSpec, episodes: list[Episode], tmp_path: Path) -> None:
    fit(make_policy(spec), episodes, QUICK, folder=tmp_path, progress=False)
    with pytest.raises(SpecMismatchError, match="lr=0.5"):
        fit(make_policy(spec), episodes, dataclasses.replace(QUICK, lr=0.5), folder=tmp_path, progress=False)
    with pytest.raises(SpecMismatchError, match="start: state"):
        fit(make_policy(spec, seed=1), episodes, QUICK, folder=tmp_path, progress=False)
    with pytest.raises(SpecMismatchError, match="data: state"):
        fit(make_policy(spec), episodes[:2], QUICK, folder=tmp_path, progress=False)


def test_the_best_scored_candidate_is_returned_and_the_later_of_equals(spec: RobotSpec, episodes: list[Episode]) -> None:
    for scores, best in (([0.2, 0.9, 0.5], 8), ([0.5, 0.5, 0.1], 8), ([0.1, 0.2, 0.3], 12)):
        seen, remaining = [], list(scores)

        def score(policy: FlowPolicy, seen: list = seen, remaining: list = remaining) -> float:
            seen.append(weights_of(policy))
            return remaining.pop(0)

        result = fit(make_policy(spec), episodes, QUICK, score=score, progress=False)
        assert result.best_step == best
        assert result.best_score == max(scores)
        assert torch.equal(weights_of(result.policy), seen[best // 4 - 1])


def test_only_the_last_checkpoints_are_scored(spec: RobotSpec, episodes: list[Episode]) -> None:
    scored = []
    settings = dataclasses.replace(QUICK, candidates=1)
    result = fit(make_policy(spec), episodes, settings, score=lambda policy: scored.append(1) or 0.0, progress=False)
    assert len(scored) == 1
    assert result.best_step == 12


def test_validation_loss_is_of_the_episodes_held_out(spec: RobotSpec, episodes: list[Episode], tmp_path: Path) -> None:
    fit(make_policy(spec), episodes[:2], QUICK, validation=episodes[2:], folder=tmp_path, progress=False)
    names = {row[1] for row in read_metrics(tmp_path / "metrics.csv")}
    assert names == {"loss", "gradient_norm", "lr", "average_loss", "validation_loss"}


def test_a_loss_that_is_not_a_number_stops_with_a_message(spec: RobotSpec, episodes: list[Episode]) -> None:
    broken = dataclasses.replace(episodes[0], deltas=np.full_like(episodes[0].deltas, np.nan))
    with pytest.raises(ProphRLError, match="check the data for NaN"):
        fit(make_policy(spec), [broken], QUICK, progress=False)


def test_learning_rate_warms_up_and_decays() -> None:
    settings = TrainSettings(steps=100, warmup=10, lr=1.0)
    rates = [settings.lr_at(step) for step in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == rates[9] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=0.001)


def test_augmentation_keeps_the_size_moves_at_most_so_far_and_can_be_off() -> None:
    images = torch.rand(16, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(1)
    torch.testing.assert_close(augment(images, AugmentationSettings(0, 0.0, 0.0), random), images)
    moved = augment(images, AugmentationSettings(2, 0.0, 0.0), random)
    found = set()
    for before, after in zip(images.flatten(0, 1), moved.flatten(0, 1), strict=True):
        shifts = [
            (y, x)
            for y in range(-2, 3)
            for x in range(-2, 3)
            if torch.allclose(after[:, 2:-2, 2:-2], before[:, 2 + y : 14 + y, 2 + x : 14 + x], atol=1e-6)
        ]
        assert len(shifts) == 1
        found.update(shifts)
    assert len(found) > 8
    lit = augment(images, AugmentationSettings(0, 0.3, 0.3), random)
    assert lit.min() >= 0.0 and lit.max() <= 1.0 and not torch.equal(lit, images)


OVERRIDES = ["policy.network.channels=[8,8,16]", "policy.network.width=32", "policy.network.depth=1"]


def train_command(data: Path, out: Path, *more: str) -> list[str]:
    code = "import sys; from policy.train import main; raise SystemExit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, f"data={data}", f"out={out}", *OVERRIDES, *more]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_killed_half_way_ends_as_if_it_had_not_been(
    spec: RobotSpec, episodes: list[Episode], tmp_path: Path
) -> None:
    for episode in episodes:
        save_episode(tmp_path / "data", episode, spec.fingerprint)
    more = ("policy.train.steps=30", "policy.train.batch_size=8", "policy.train.checkpoint_every=5")
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = train_command(tmp_path / "data", tmp_path / "cut", *more)
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    while not (tmp_path / "cut" / "training_state.safetensors").is_file():
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "manifest.json").exists()
    for out in ("cut", "whole"):
        assert main([f"data={tmp_path / 'data'}", f"out={tmp_path / out}", *OVERRIDES, *more]) == 0
    cut, whole = (checkpoint.load(tmp_path / out, spec) for out in ("cut", "whole"))
    curves = [read_metrics(tmp_path / out / "metrics.csv") for out in ("cut", "whole")]
    assert [row[:2] for row in curves[0]] == [row[:2] for row in curves[1]]
    # Not to the last bit: between processes, sums of floats depend on where the memory lies.
    np.testing.assert_allclose([row[2] for row in curves[0]], [row[2] for row in curves[1]], rtol=1e-3)
    assert list(cut.manifest.instructions) == [INSTRUCTIONS[0]]  # the other episode failed and is not imitated
    assert cut.manifest.dataset_hash == whole.manifest.dataset_hash != ""


def test_no_data_and_too_little_data_say_what_to_do(spec: RobotSpec, episodes: list[Episode], tmp_path: Path) -> None:
    with pytest.raises(ProphRLError, match="data=<dataset folder>"):
        main([f"out={tmp_path / 'out'}"])
    save_episode(tmp_path / "data", episodes[1], spec.fingerprint)  # a failure
    with pytest.raises(ProphRLError, match="0 of 1 episodes did not fail"):
        main([f"data={tmp_path / 'data'}", f"out={tmp_path / 'out'}"])
    save_episode(tmp_path / "foreign", episodes[0], "0123456789abcdef")
    with pytest.raises(SpecMismatchError, match="0123456789abcdef"):
        main([f"data={tmp_path / 'foreign'}", f"out={tmp_path / 'out'}"])


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TrainSettings(steps=0)
    with pytest.raises(ValueError, match="prefix_probability"):
        TrainSettings(prefix_probability=1.5)
    with pytest.raises(ValueError, match="longest_prefix"):
        dataclasses.replace(SMALL, longest_prefix=5)
    with pytest.raises(ValueError, match="multiple of 8"):
        dataclasses.replace(SMALL, image_size=60)
