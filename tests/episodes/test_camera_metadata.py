"""What a log says of its cameras: from the recorder's record to the episodes that policies and the world model read."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learning.episode_store import load_episodes
from robot_stack.core.camera import CameraModel, Pose
from robot_stack.core.camera_facts import CameraFacts, facts_to_record
from robot_stack.core.errors import BadFileError
from robot_stack.core.types import CameraInfoValues
from robot_stack.episodes.decoder import EpisodeDecoder
from robot_stack.episodes.log_reader import EpisodeLog
from robot_stack.episodes.log_writer import EpisodeLogWriter
from robot_stack.episodes.repair import repair
from tests.episodes.fake_robot import SETTINGS, FakeEpisode, meta

os.environ.setdefault("HF_HUB_OFFLINE", "1")
K = np.array([[154.0, 0.0, 63.5], [0.0, 154.0, 63.5], [0.0, 0.0, 1.0]])
LENS = CameraInfoValues(128, 128, K, "plumb_bob", (0.1, 0.0, 0.0, 0.0, 0.0))  # twice the size of the pictures
PLACE = Pose((0.9, 0.0, 0.6), (0.614, 0.614, -0.350, -0.350))
FACTS = CameraFacts(LENS, PLACE)


def logged(folder: Path, facts: CameraFacts | None, name: str = "episode") -> Path:
    return FakeEpisode.random(4, seed=1).record(folder, name, cameras=None if facts is None else {"front": facts})


def test_lens_and_place_become_a_camera_of_the_pictures_size(tmp_path: Path) -> None:
    decoder = EpisodeDecoder(EpisodeLog.open(logged(tmp_path, FACTS)))
    assert decoder.cameras == {"front": CameraModel(128, 128, K, PLACE, "plumb_bob", LENS.distortion).scaled(64, 64)}
    assert len(list(decoder.rows())) == 4


@pytest.mark.parametrize("facts", [None, CameraFacts(lens=LENS), CameraFacts(T_base_camera=PLACE)])
def test_where_one_of_both_is_missing_there_is_no_camera(facts: CameraFacts | None, tmp_path: Path) -> None:
    log = EpisodeLog.open(logged(tmp_path, facts))
    assert log.camera_facts().keys() == (set() if facts is None else {"front"})
    assert EpisodeDecoder(log).cameras == {}


def test_a_lens_of_an_unknown_model_is_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = logged(tmp_path, CameraFacts(replace(LENS, distortion_model="inverse_brown_conrady"), PLACE))
    with caplog.at_level(logging.WARNING):
        assert EpisodeDecoder(EpisodeLog.open(path)).cameras == {}
    assert "camera front is left out of the calibrated ones: camera: distortion_model must be one of" in caplog.text


def test_a_cut_log_and_its_repair_keep_what_was_said(tmp_path: Path) -> None:
    writer = EpisodeLogWriter(tmp_path, meta("cut"), SETTINGS)
    wire = list(FakeEpisode.random(4, seed=1).wire())
    for entry in wire[:6]:
        writer.write(*entry)
    writer.describe_cameras(facts_to_record({"front": FACTS}))
    for entry in wire[6:]:
        writer.write(*entry)
    writer.abort()
    expected = {"front": FACTS.model(64, 64)}
    cut = EpisodeLog.open(writer.path)
    assert not cut.finished
    assert EpisodeDecoder(cut).cameras == expected
    whole = EpisodeLog.open(repair(writer.path).path)
    assert whole.finished
    assert EpisodeDecoder(whole).cameras == expected
    assert len(list(whole.messages())) == len(wire)


def test_datasets_tell_the_cameras_of_each_episode(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The camera was moved between two episodes, and nobody had calibrated it for the first."""
    pytest.importorskip("lerobot")
    from robot_stack.episodes.to_lerobot import convert

    moved = CameraFacts(LENS, replace(PLACE, position=(0.8, 0.1, 0.6)))
    for name, facts in (("a", None), ("b", FACTS), ("c", moved)):
        logged(tmp_path / "logs", facts, name)
    convert([tmp_path / "logs"], tmp_path / "data")
    logged(tmp_path / "logs", FACTS, "d")
    convert([tmp_path / "logs"], tmp_path / "data")
    episodes = load_episodes(tmp_path / "data")
    expected = [{}, *({"front": facts.model(64, 64)} for facts in (FACTS, moved, FACTS))]
    assert [episode.cameras for episode in episodes] == expected
    assert [episode.rate_hz for episode in episodes] == [20.0] * 4
    path = tmp_path / "data" / "meta" / "cameras.json"
    assert len(json.loads(path.read_text())["rigs"]) == 2

    path.write_text("{")
    with pytest.raises(BadFileError, match=r"cameras\.json: not a list of cameras"):
        load_episodes(tmp_path / "data")
    logged(tmp_path / "logs", FACTS, "e")
    with caplog.at_level(logging.WARNING):
        done = convert([tmp_path / "logs"], tmp_path / "data")
    assert "remove it to go on" in done.skipped["e.mcap"]
    path.unlink()  # as in a dataset of an earlier version
    assert [episode.cameras for episode in load_episodes(tmp_path / "data")] == [{}] * 4
