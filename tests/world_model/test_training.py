"""Training: resumes on the same curve, refuses held-out tasks, survives its own checkpoint."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from learning.episode_store import load_all, save_episode
from learning.fitting import FitSettings, fit
from robot_stack.core.errors import BadFileError, SpecMismatchError
from robot_stack.core.robot_spec import ActionKind
from robot_stack.drivers.sim_metaworld import task_names
from tests.world_model.conftest import dataset_of, square_episode
from world_model.action_layout import ActionLayout
from world_model.checkpoint import load_prophet, save_prophet
from world_model.held_out import HeldOutTaskError, is_held_out, refuse_held_out
from world_model.train import new_prophet, split, train_prophet

HELD_OUT = [
    f"{name}-v3"
    for line in (
        "button-press-topdown button-press-topdown-wall button-press button-press-wall coffee-button coffee-pull coffee-push",
        "lever-pull soccer door-lock door-unlock push push-back push-wall",
        "handle-pull handle-pull-side handle-press handle-press-side",
    )
    for name in line.split()
]


def test_held_out_tasks_are_refused_and_others_are_not():
    pytest.importorskip("metaworld")
    assert sorted(task for task in task_names() if is_held_out(task)) == sorted(HELD_OUT)
    refuse_held_out(["reach-v3", "stick-push-v3", "door-open-v3"])
    with pytest.raises(HeldOutTaskError, match="push-wall-v3"):
        refuse_held_out(["reach-v3", "push-wall-v3"])
    with pytest.raises(HeldOutTaskError, match="no task name"):
        refuse_held_out([""])


def test_pretraining_refuses_episodes_of_a_held_out_task(tmp_path):
    from world_model.train import pretrain_main

    save_episode(tmp_path / "data" / "push-v3", square_episode(0, task="push-v3"))
    with pytest.raises(HeldOutTaskError):
        pretrain_main([f"data={tmp_path / 'data'}", f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_interrupted_training_continues_on_the_same_curve(tmp_path):
    settings = FitSettings(steps=8, batch_size=4, lr=1e-2, warmup=2, save_every_s=0.0, log_every=1)

    def run(folder, stop_at=None):
        torch.manual_seed(0)
        network = torch.nn.Linear(3, 1)

        def loss_of_step(network, seeds):
            if seeds.step == stop_at:
                raise KeyboardInterrupt
            x = torch.from_numpy(seeds.draw.normal(size=(4, 3)).astype(np.float32))
            noise = torch.randn(4, 1, generator=seeds.noise)
            return {"loss": (network(x) - x.sum(dim=1, keepdim=True) + 0.1 * noise).square().mean()}

        return fit(network, loss_of_step, settings, purpose="line", run=3, folder=folder, identity="a", progress=False)

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_at=5)
    continued = run(tmp_path / "cut")
    for a, b in zip(whole.parameters(), continued.parameters(), strict=True):
        assert torch.equal(a, b)
    curves = [(tmp_path / name / "line" / "metrics.csv").read_text() for name in ("whole", "cut")]
    assert curves[0] == curves[1]


def test_state_of_other_data_is_refused(tmp_path):
    settings = FitSettings(steps=1, batch_size=1, lr=1e-2)
    network = torch.nn.Linear(1, 1)
    arguments = {"purpose": "line", "run": 0, "folder": tmp_path, "progress": False}
    fit(network, lambda learner, _: {"loss": learner.weight.sum()}, settings, identity="a", **arguments)
    with pytest.raises(SpecMismatchError, match="remove it"):
        fit(network, lambda learner, _: {"loss": learner.weight.sum()}, settings, identity="b", **arguments)


def test_training_writes_what_loading_reads(settings, spec, episodes, tmp_path):
    data = [dataset_of(episodes, spec)]
    start = new_prophet(settings, data, seed=0)
    phase = dataclasses.replace(settings.adapt, self_forcing_after=2)
    quick = dataclasses.replace(settings, denoiser=dataclasses.replace(settings.denoiser, self_forcing=1.0))
    trained = train_prophet(start, data, quick, phase, tmp_path, run=0, note="test", from_nothing=True, progress=False)
    save_prophet(trained, tmp_path)
    loaded = load_prophet(tmp_path)
    assert loaded.manifest == trained.manifest
    assert loaded.manifest.tasks == ("reach-v3",)
    assert (loaded.scale, loaded.settings, loaded.active) == (trained.scale, trained.settings, trained.active)
    images = episodes[0].images["front"]
    torch.testing.assert_close(loaded.encode(images), trained.encode(images))
    np.testing.assert_array_equal(loaded.decode(loaded.encode(images)), trained.decode(trained.encode(images)))
    for a, b in zip(loaded.transformer.parameters(), trained.transformer.parameters(), strict=True):
        assert torch.equal(a, b)
    [weights] = tmp_path.glob("prophet.*.safetensors")
    weights.write_bytes(b"cut")
    with pytest.raises(BadFileError):
        load_prophet(tmp_path)


def test_views_of_few_episodes_are_learnt_from_but_do_not_measure(settings, spec, episodes, tmp_path):
    data = [dataclasses.replace(dataset_of(episodes, spec), views=2)]
    kept = dataclasses.replace(settings, latents=str(tmp_path / "latents"))
    train_prophet(new_prophet(kept, data, seed=0), data, kept, kept.adapt, tmp_path, run=0, note="test", from_nothing=True)
    taught, held_back = split(episodes, settings.validation_every)
    assert len(list((tmp_path / "latents").glob("*.safetensors"))) == 3 * len(taught)
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert (figures["episodes"], figures["prophet"]["clips_1"]) == (len(taught), len(held_back))


def test_world_model_of_another_robot_is_refused(prophet, spec):
    prophet.check_robot(spec)
    stranger = dataclasses.replace(prophet.domain, fingerprint="0" * 16)
    with pytest.raises(SpecMismatchError, match="fingerprint"):
        prophet.replace(domains={"square": stranger}).check_robot(spec)


def test_principal_components_rebuild_better_than_the_mean(prophet, episodes):
    images = torch.from_numpy(np.concatenate([episode.images["front"] for episode in episodes])).permute(0, 3, 1, 2) / 255.0
    network = prophet.tokenizer
    network.start_linear(images)
    with torch.no_grad():
        latents = network.encode_frames(images)
        error = (network.decode_frames(latents) - images).square().mean()
    assert error < 0.3 * (images - images.mean(dim=0)).square().mean()
    assert latents.square().mean().sqrt() == pytest.approx(1.0, abs=0.2)


def test_layout_of_actions():
    position, rotation, joint, gripper = ActionKind.POSITION, ActionKind.ROTATION, ActionKind.JOINT, ActionKind.GRIPPER
    assert ActionLayout.of_kinds([position] * 3 + [gripper]).slots == (0, 1, 2, 6)
    full = [position] * 3 + [rotation] * 3 + [gripper]
    assert ActionLayout.of_kinds(full * 2).slots == tuple(range(14))
    assert ActionLayout.of_kinds([joint] * 6 + [gripper]).slots == (0, 1, 2, 3, 4, 5, 6)
    slotted = ActionLayout.of_kinds([position] * 3 + [gripper]).to_slots(np.array([[1.0, 2, 3, 4]]))
    assert slotted[0].tolist() == [1, 2, 3, 0, 0, 0, 4] + [0] * 7
    for too_much in ([position] * 4, full * 2 + [position], [joint] * 7):
        with pytest.raises(Exception, match="do not fit"):
            ActionLayout.of_kinds(too_much)


def test_validation_episodes_are_spread_and_apart():
    items = [square_episode(seed) for seed in range(9)]
    taught, held_back = split(items, 4)
    assert [episode.name for episode in held_back] == ["square.0002", "square.0006"]
    assert {e.name for e in taught} | {e.name for e in held_back} == {e.name for e in items}
    assert split(items[:3], 4) == (items[:3], [])


def test_folders_of_folders_are_read_however_deep(tmp_path):
    for seed, task in enumerate(("reach-v3", "sweep-v3")):
        save_episode(tmp_path / "expert" / task, square_episode(seed, task))
    save_episode(tmp_path / "random", square_episode(2, "push-v3"))
    assert [episode.task for episode in load_all([tmp_path])] == ["reach-v3", "sweep-v3", "push-v3"]
