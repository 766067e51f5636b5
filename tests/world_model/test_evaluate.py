"""The command that measures: what it writes, and what it leaves out where it cannot know."""

import dataclasses
import json

import numpy as np
import pytest

from learning.episode_store import save_episode
from learning.fitting import FitSettings
from robot_stack.core.errors import ProphRLError, SpecMismatchError
from tests.world_model.conftest import SIZE, square_episode
from world_model.checkpoint import save_prophet
from world_model.evaluate import Findings, Subject, evaluate, main, tasks_to_perturb
from world_model.judge import save_judge
from world_model.measure_settings import MeasureSettings
from world_model.probe import ProbeSettings, save_probe, train_probe
from world_model.sampler import SamplerSettings

TASK = "reach-v3"
QUICK = ProbeSettings(width=8, validation_every=4, fit=FitSettings(steps=3, batch_size=8, lr=1e-3))


def known(seed):
    """An episode that says where its square is."""
    episode = square_episode(seed)
    places = episode.commanded[:, :3]
    return dataclasses.replace(episode, positions={"tool": places, "object": places})


def other_actions(spec, task, *, starts, out):
    """The world of squares under other actions: each is its own simulator."""
    return [{"unchanged": known(seed), "biased": known(seed + 7), "mirrored": known(seed + 9)} for seed in starts]


@pytest.fixture
def subject(prophet, judge, spec, tmp_path):
    settings = MeasureSettings(horizons=(1, 8), shown=2, perturb=other_actions, starts=4, first_start=0)
    return Subject(prophet, SamplerSettings(), spec, judge, settings, 0, tmp_path)


def measured(subject, episodes):
    findings = Findings()
    evaluate(subject, episodes, TASK, findings)
    return findings.figures


def test_everything_is_measured_where_everything_is_known(subject, tmp_path, capsys):
    episodes = [known(seed) for seed in range(5)]
    probe = train_probe(episodes, "front", SIZE, QUICK, run=0, progress=False)
    save_probe(probe, tmp_path / "kept")
    settings = dataclasses.replace(subject.settings, probe=str(tmp_path / "kept"))
    figures = measured(dataclasses.replace(subject, settings=settings), episodes)
    general = ["episodes", "video", "autoencoder", "probe", "uncertainty", "judge"]
    assert list(figures) == [*general, "following", "probe_perturbed", "counterfactual"]
    assert figures["video"]["clips_8"] == 5
    assert set(figures["following"][TASK]) == {"biased", "mirrored"}
    assert set(figures["counterfactual"]["tasks"][TASK]) == {"unchanged", "biased", "mirrored"}
    assert sum(figures["counterfactual"]["all"][name] for name in ("hits", "hallucinated", "missed", "failures")) == 12
    assert figures["probe"]["object"]["imagined_last"] > 0 < figures["probe"]["object"]["rebuilt_8"]
    assert figures["probe_perturbed"][TASK]["mirrored"]["tool"]["true_last"] > 0
    assert sorted(file.name for file in (tmp_path / "pictures").iterdir())[0] == "contact_sheet.png"
    assert len(list((tmp_path / "pictures").glob("*.mp4"))) == 2
    assert set(json.loads((tmp_path / "clips.json").read_text())) == {episode.name for episode in episodes}
    json.dumps(figures, allow_nan=False)
    printed = capsys.readouterr().out
    assert "PSNR" in printed and "hallucinated" in printed and "AUROC" in printed


def test_real_episodes_have_neither_probe_nor_simulator(subject):
    settings = dataclasses.replace(subject.settings, perturb=None)
    figures = measured(dataclasses.replace(subject, settings=settings, judge=None), [square_episode(0), square_episode(1)])
    assert list(figures) == ["episodes", "video", "autoencoder", "uncertainty"]


def test_a_probe_is_taught_where_data_for_it_are_named(subject, tmp_path):
    for seed in range(5):
        save_episode(tmp_path / "data", known(seed + 20))
    settings = dataclasses.replace(subject.settings, probe_data=str(tmp_path / "data"), probe_settings=QUICK, perturb=None)
    figures = measured(dataclasses.replace(subject, settings=settings), [known(0), known(1)])
    assert figures["probe"]["held_out_cm"]["tool"] > 0
    assert (tmp_path / "probe" / "probe.json").is_file()


def test_a_probe_of_another_camera_is_refused(subject, tmp_path):
    episodes = [known(0), known(1)]
    renamed = [dataclasses.replace(episode, images={"wrist": episode.images["front"]}) for episode in episodes]
    save_probe(train_probe(renamed, "wrist", SIZE, QUICK, run=0, progress=False), tmp_path / "kept")
    settings = dataclasses.replace(subject.settings, probe=str(tmp_path / "kept"))
    with pytest.raises(ProphRLError, match="wrist"):
        measured(dataclasses.replace(subject, settings=settings), episodes)


def test_which_tasks_are_perturbed():
    settings = MeasureSettings(perturb=other_actions)
    episodes = [square_episode(0, task="push-v3"), square_episode(1, task="reach-v3")]
    assert tasks_to_perturb(settings, episodes, "push-v3") == ("push-v3",)
    assert tasks_to_perturb(settings, episodes, "coffee-pull-v3") == ()
    assert tasks_to_perturb(dataclasses.replace(settings, tasks=("a", "b")), episodes, "push-v3") == ("a", "b")
    assert tasks_to_perturb(dataclasses.replace(settings, perturb=None), episodes, "push-v3") == ()


def test_the_command(prophet, judge, spec, tmp_path, monkeypatch):
    save_prophet(prophet, tmp_path / "world")
    save_judge(judge, tmp_path / "judge")
    for seed in range(3):
        save_episode(tmp_path / "data", square_episode(seed), spec.fingerprint)
    arguments = [
        f"data={tmp_path / 'data'}",
        f"checkpoint.world_model={tmp_path / 'world'}",
        f"checkpoint.judge={tmp_path / 'judge'}",
        f"out={tmp_path / 'out'}",
        "measure.horizons=[2,4]",
    ]
    assert main([*arguments, "world_model/measure=videos"]) == 0
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert {"psnr_2", "psnr_copy_4", "tssim_last"} <= figures["video"].keys()
    assert "tSSIM" in (tmp_path / "out" / "figures.txt").read_text()
    assert np.isfinite(figures["video"]["ssim_2"]) and "following" not in figures
    save_judge(dataclasses.replace(judge, tokenizer="another"), tmp_path / "judge")
    with pytest.raises(SpecMismatchError):
        main(arguments)
