"""One Prophet, several robots: each knows its own actions, rate and camera."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from learning.clip_source import ClipSource
from learning.data_sources import Dataset, load_sources
from learning.fitting import FitSettings
from robot_stack.core.errors import ProphRLError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import ActionKind
from tests.world_model.conftest import SIZE, dataset_of
from world_model.acquaintance import acquainted, domain_of, knowing
from world_model.checkpoint import load_prophet, save_prophet
from world_model.domain import Domain
from world_model.evaluate import main as evaluate_main
from world_model.imagination import replay_all
from world_model.sampler import SamplerSettings
from world_model.settings import Phase
from world_model.train import adapt_main, train_prophet

CLIPS = Path(__file__).parents[1] / "data" / "bridge_clips"


@pytest.fixture(scope="module")
def clips(spec):
    [dataset] = load_sources([ClipSource(str(CLIPS))], spec, 6)
    return dataset


def test_another_robot_becomes_a_domain_and_the_first_stays(prophet, clips, settings, spec, episodes, tmp_path):
    phase = Phase(FitSettings(0, 2, 1e-3), FitSettings(2, 2, 1e-3, warmup=0))
    quick = dataclasses.replace(settings, validation_every=0)
    before = prophet.normalise_deltas(np.ones((1, 4)))
    adapted = train_prophet(prophet, [clips], quick, phase, tmp_path, run=0, note="x", from_nothing=False, progress=False)
    assert list(adapted.domains) == ["square", "widowx"]
    assert adapted.active == "widowx"
    assert adapted.domain.rate_hz == 5.0
    assert adapted.domain.still == clips.still > 0
    assert adapted.mask.tolist() == [1.0] * 7 + [0.0] * 7
    assert torch.equal(adapted.using("square").normalise_deltas(np.ones((1, 4))), before)
    save_prophet(adapted, tmp_path / "saved")
    loaded = load_prophet(tmp_path / "saved")
    assert list(loaded.domains) == ["square", "widowx"]
    np.testing.assert_allclose(loaded.domain.deltas.std, adapted.domain.deltas.std)
    for known, data in ((loaded, clips.episodes), (knowing(loaded, dataset_of(episodes, spec)), episodes)):
        videos = replay_all(known, data[:2], SamplerSettings())
        assert [len(video) for video in videos] == [len(episode) for episode in data[:2]]
        assert known.decode(videos[0][:1]).shape == (1, SIZE, SIZE, 3)  # whatever size the cameras' pictures have


def test_a_robot_that_is_known_keeps_its_normalisation(prophet, spec, episodes):
    others = [dataclasses.replace(e, deltas=10 * e.deltas) for e in episodes]
    known, names = acquainted(prophet, [dataset_of(others, spec, name="more")], None)
    assert names == ["square"]
    assert known.domain is prophet.domain


def test_data_of_another_rate_or_robot_is_refused(prophet, spec, episodes, clips):
    slow = dataclasses.replace(dataset_of(episodes, spec), rate_hz=5.0)
    with pytest.raises(SpecMismatchError, match="5 frames a second, it knows 20"):
        domain_of(prophet, slow)
    with pytest.raises(SpecMismatchError, match="prophrl adapt"):
        knowing(prophet, clips)
    with pytest.raises(UnknownNameError, match="domain"):
        prophet.using("widowx")
    with pytest.raises(UnknownNameError, match="wrist"):
        acquainted(prophet, [clips], "wrist")


def test_where_a_camera_flickers_what_hardly_changes_rests_unless_the_sampler_says_otherwise(prophet, episodes):
    assert prophet.domain.still == 0.0
    flickering = dataclasses.replace(prophet.domain, still=1e3)
    rigid = prophet.replace(domains={"square": flickering})

    def moves(known, **chosen: float) -> bool:
        [video] = replay_all(known, episodes[:1], SamplerSettings(**chosen))
        return not torch.equal(video, video[:1].expand_as(video))

    assert moves(prophet) and not moves(rigid)
    assert moves(rigid, still=0.0) and not moves(prophet, still=1e3)
    with pytest.raises(ProphRLError, match=r"still of dataset square must be at least 0, got -1"):
        Dataset("square", tuple(episodes), 1.0, 20.0, (), "x", still=-1.0)


def test_way_is_one_on_average_and_grippers_do_not_count(prophet, episodes):
    deltas = np.concatenate([episode.deltas for episode in episodes]).astype(np.float64)
    way = prophet.domain.way(deltas)
    assert np.sqrt((way**2).mean()) == pytest.approx(1.0, rel=1e-3)
    other = deltas.copy()
    other[:, 3] = 0.7
    np.testing.assert_allclose(prophet.domain.way(other), way)


def test_a_domain_comes_back_from_plain_data(clips):
    kinds = (*[ActionKind.POSITION] * 3, *[ActionKind.ROTATION] * 3, ActionKind.GRIPPER)
    domain = Domain.of_episodes("x", clips.episodes, kinds, "front", robot="widowx", rate_hz=5.0, still=0.4)
    back = Domain.from_mapping(json.loads(json.dumps(domain.as_mapping())))
    assert back.as_mapping() == domain.as_mapping()
    np.testing.assert_allclose(
        back.slotted_deltas(np.asarray(clips.episodes[0].deltas, dtype=np.float64)).mean(),
        domain.slotted_deltas(np.asarray(clips.episodes[0].deltas, dtype=np.float64)).mean(),
    )


def test_clips_of_a_real_robot_are_adapted_to_and_evaluated_by_command(prophet, tmp_path):
    save_prophet(prophet, tmp_path / "start")
    data = ["data=npz_clips", f"data.path={CLIPS}"]
    quick = ["world_model.adapt.prophet.steps=2", "world_model.adapt.autoencoder.steps=2"]
    assert adapt_main([*data, f"checkpoint.world_model={tmp_path / 'start'}", f"out={tmp_path / 'out'}", *quick]) == 0
    assert load_prophet(tmp_path / "out").active == "widowx"
    assert evaluate_main([*data, f"checkpoint.world_model={tmp_path / 'out'}", f"out={tmp_path / 'measured'}"]) == 0
    figures = json.loads((tmp_path / "measured" / "figures.json").read_text())
    assert figures["video"]["clips_last"] == 4
    assert (tmp_path / "measured" / "pictures" / "contact_sheet.png").exists()
