"""Streams added to weights that lack them: nothing is lost, what was asked for is there and learns, the rest is told."""

import dataclasses

import numpy as np
import pytest
import torch

from robot_stack.core.camera import CameraModel, Pose
from robot_stack.core.errors import ProphRLError
from tests.world_model.conftest import SIZE, dataset_of
from world_model.base_model import BaseModel
from world_model.growth import STREAMS, grown
from world_model.imagination import replay
from world_model.sampler import SamplerSettings
from world_model.sizes import HistorySettings
from world_model.train import beginning, train_prophet

FROM_ABOVE = CameraModel(
    SIZE, SIZE, np.array([[40.0, 0.0, 15.5], [0.0, 40.0, 15.5], [0.0, 0.0, 1.0]]), Pose((0.0, 0.6, 1.0), (1.0, 0.0, 0.0, 0.0))
)


@pytest.fixture
def seen(episodes):
    return [dataclasses.replace(episode, cameras={"front": FROM_ABOVE}) for episode in episodes]


@pytest.fixture
def wanted(settings):
    return dataclasses.replace(settings.transformer, **dict.fromkeys(STREAMS, True))


def test_what_was_learnt_is_not_touched(prophet, wanted, seen):
    before = replay(prophet, seen[:3], SamplerSettings(steps=2))
    larger = grown(prophet, wanted, seed=0)
    assert all(getattr(larger.settings, name) and not getattr(prophet.settings, name) for name in STREAMS)
    torch.testing.assert_close(replay(larger, seen[:3], SamplerSettings(steps=2)), before, rtol=0, atol=0)


def test_added_streams_are_drawn_by_the_seed(prophet, wanted):
    first, same, other = (grown(prophet, wanted, seed).transformer.drawn_actions.depthwise.weight for seed in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_added_streams_learn(prophet, settings, spec, wanted, seen, tmp_path):
    data, larger = [dataset_of(seen, spec)], dataclasses.replace(settings, transformer=wanted)
    start = beginning(larger, data, 0, prophet)
    trained = train_prophet(start, data, larger, larger.adapt, tmp_path, run=0, note="", from_nothing=False, progress=False)
    for stream in (trained.transformer.drawn_patches.enter, trained.transformer.drawn_actions.to_time):
        assert stream.weight.abs().max() > 0


def test_weights_that_have_all_are_returned_as_they_are(prophet, settings, caplog):
    assert grown(prophet, settings.transformer, seed=0) is prophet
    assert not caplog.records


def test_settings_that_the_weights_decide_about_are_named(prophet, settings, caplog):
    asked = dataclasses.replace(settings.transformer, history=HistorySettings(frames=0), transport=2)
    assert grown(prophet, asked, seed=0).settings == prophet.settings
    assert "history=" in caplog.text and "transport=0 (not 2)" in caplog.text


def test_a_base_model_cannot_get_more(prophet, wanted):
    stands = prophet.replace(base=BaseModel("somewhere", "0" * 16, "0" * 16))
    with pytest.raises(ProphRLError, match="action_frames and action_patches cannot be added"):
        grown(stands, wanted, seed=0)
