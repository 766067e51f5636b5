"""Conversion: LeRobot loads the result, running it again changes nothing, and no kill costs more than the episode in hand."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytest.importorskip("lerobot")
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from learning.episode_store import fingerprint_of, load_episodes
from robot_stack.core.errors import BadFileError, ProphRLError, SpecMismatchError
from robot_stack.episodes import lerobot_folder
from robot_stack.episodes.lerobot_folder import DatasetFolder
from robot_stack.episodes.log_writer import EpisodeLogWriter
from robot_stack.episodes.meta import EpisodeMeta, Label, write_label
from robot_stack.episodes.to_lerobot import convert, main
from robot_stack.paths import robot_file
from tests.episodes.fake_robot import SETTINGS, FakeEpisode, picture, spec

LENGTH = 6


def record(folder: Path, *numbers: int) -> list[FakeEpisode]:
    """Episodes number 0, 1, ... of a fixed sequence."""
    episodes = [FakeEpisode.random(LENGTH, seed=number, first_success=number % LENGTH or None) for number in numbers]
    for number, episode in zip(numbers, episodes, strict=True):
        label = "success" if number % LENGTH else "failure"
        episode.record(folder, f"episode-{number:02d}", label, seed=number)
    return episodes


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def load(root: Path) -> LeRobotDataset:
    return LeRobotDataset(f"local/{root.name}", root=root, video_backend="pyav")


def names_in(root: Path) -> list[str]:
    return [row["episode/name"] for row in load(root).meta.episodes]


def check_content(root: Path, episodes: list[FakeEpisode]) -> None:
    loaded = load_episodes(root)
    assert len(loaded) == len(episodes)
    for ours, happened in zip(loaded, episodes, strict=True):
        assert np.array_equal(ours.images["front"], happened.images)
        np.testing.assert_allclose(ours.commanded, happened.commanded, atol=1e-6)


def test_lerobot_loads_every_number_and_pixel(tmp_path: Path) -> None:
    episodes = record(tmp_path / "logs", 0, 1, 2)
    episodes[1].interventions = [k in (2, 3) for k in range(LENGTH)]
    (tmp_path / "logs" / "episode-01.mcap").unlink()
    episodes[1].record(tmp_path / "logs", "episode-01", "success", seed=1)
    done = convert([tmp_path / "logs"], tmp_path / "data")
    assert done.added == ("episode-00", "episode-01", "episode-02")
    dataset = load(tmp_path / "data")
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (3, 3 * LENGTH, 20)
    assert dataset.features["action"]["names"] == list(spec().action_names)
    for index in range(len(dataset)):
        frame, episode, k = dataset[index], episodes[index // LENGTH], index % LENGTH
        pixels = (frame["observation.images.front"].numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0)
        assert np.array_equal(pixels, episode.images[k])
        for key, expected in {
            "observation.state": episode.state,
            "observation.commanded": episode.commanded,
            "action": episode.sent,
            "action.commanded": episode.wanted,
        }.items():
            np.testing.assert_allclose(frame[key].numpy(), expected[k], atol=1e-6)
        assert bool(frame["next.success"]) == episode.success[k + 1]
        assert bool(frame["intervention"]) == (index // LENGTH == 1 and k in (2, 3))
        assert float(frame["age.front"]) == float(frame["skew"]) == 0.0
        assert (frame["task"], int(frame["frame_index"])) == ("press the button", k)
        assert float(frame["timestamp"]) == pytest.approx(k / 20)
    row = dataset.meta.episodes[2]
    facts = {"name": "episode-02", "label": "success", "source": "expert", "seed": 2, "first_success": 2, "flags": ""}
    assert {key: row[f"episode/{key}"] for key in facts} == facts
    assert row["episode/robot_fingerprint"] == spec().fingerprint == fingerprint_of(tmp_path / "data")
    np.testing.assert_allclose(
        dataset.meta.stats["action"]["mean"], np.concatenate([e.sent for e in episodes]).mean(axis=0), atol=1e-6
    )


def test_again_changes_nothing_and_new_episodes_are_appended(tmp_path: Path) -> None:
    logs, data = tmp_path / "logs", tmp_path / "data"
    first = record(logs, 0, 1)
    convert([logs], data)
    before = hashes(data)
    again = convert([logs], data)
    assert (again.added, again.known) == ((), ("episode-00", "episode-01"))
    assert hashes(data) == before
    second = record(logs, 2)
    assert convert([logs], data).added == ("episode-02",)
    after = hashes(data)
    changed = {name for name, digest in before.items() if after[name] != digest}
    assert changed == {"meta/info.json", "meta/stats.json"}, "files of earlier episodes are never touched"
    check_content(data, first + second)
    assert len(load(data)) == 3 * LENGTH


def test_a_dataset_of_an_older_version_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    logs, data = tmp_path / "logs", tmp_path / "data"
    record(logs, 0)
    convert([logs], data)
    info = json.loads((data / "meta" / "info.json").read_text())
    del info["features"]["intervention"]
    (data / "meta" / "info.json").write_text(json.dumps(info))
    record(logs, 1)
    with pytest.raises(SpecMismatchError, match=r"convert into a new folder:\n  - no column intervention there"):
        convert([logs], data)
    assert [path.name for path in (data / "meta" / "episodes").rglob("*.parquet")] == ["file-000.parquet"]


def test_a_changed_label_reaches_the_dataset_without_a_new_episode(tmp_path: Path) -> None:
    logs, data = tmp_path / "logs", tmp_path / "data"
    record(logs, 0, 1, 2)
    convert([logs], data)
    write_label(logs / "episode-00.mcap", Label.SUCCESS)
    write_label(logs / "episode-01.mcap", Label.DISCARD)
    done = convert([logs], data)
    assert (done.added, done.relabelled) == ((), ("episode-00", "episode-01"))
    assert [row["episode/label"] for row in load(data).meta.episodes] == ["success", "discard", "success"]
    assert [(episode.name, episode.success) for episode in load_episodes(data)] == [("episode-00", True), ("episode-02", True)]


def test_cut_damaged_discarded_and_empty_logs_are_named_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs, data = tmp_path / "logs", tmp_path / "data"
    good = record(logs, 0, 1)
    whole = (logs / "episode-00.mcap").read_bytes()
    (logs / "damaged.mcap").write_bytes(whole[: len(whole) // 2])
    FakeEpisode.random(3).record(logs, "discarded", "discard")
    EpisodeLogWriter(logs, EpisodeMeta.for_robot(robot_file("sim_metaworld"), "empty"), SETTINGS).close()
    EpisodeLogWriter(logs, EpisodeMeta.for_robot(robot_file("sim_metaworld"), "cut"), SETTINGS).abort()
    assert main([str(logs), "--out", str(data)]) == 0
    told = capsys.readouterr().out
    assert "2 episodes added, 0 were there (0 relabelled), 4 skipped" in told
    for name, why in {
        "damaged.mcap": "is damaged",
        "discarded.mcap": "labelled discard",
        "empty.mcap": "nothing was executed",
        "cut.mcap.active": "prophrl episodes repair",
    }.items():
        assert any(name in line and why in line for line in told.splitlines()), name
    check_content(data, good)


def test_another_episode_of_the_same_name_is_no_repetition(tmp_path: Path) -> None:
    episodes = record(tmp_path / "round-00", 1)
    other = FakeEpisode.random(LENGTH, seed=99)
    other.record(tmp_path / "round-01", "episode-01")
    done = convert([tmp_path / "round-00", tmp_path / "round-01"], tmp_path / "data")
    assert done.added[0] == "episode-01"
    assert done.added[1].startswith("episode-01@")
    check_content(tmp_path / "data", [*episodes, other])


def test_another_robot_is_refused_and_so_is_a_dataset_of_others(tmp_path: Path) -> None:
    record(tmp_path / "logs", 0)
    convert([tmp_path / "logs"], tmp_path / "data")
    before = hashes(tmp_path / "data")
    other = _robot(tmp_path, name="other", rate_hz=10.0)
    writer = EpisodeLogWriter(tmp_path / "other", EpisodeMeta.for_robot(other, "episode"), SETTINGS)
    writer.close()
    with pytest.raises(SpecMismatchError, match=r"robot sim_metaworld .* there, other .* in the episode"):
        convert([tmp_path / "other"], tmp_path / "data")
    (tmp_path / "data" / "meta" / "robot.yaml").unlink()
    with pytest.raises(BadFileError, match="not made by `prophrl convert`"):
        convert([tmp_path / "logs"], tmp_path / "data")
    assert {name for name in before if name not in hashes(tmp_path / "data")} == {"meta/robot.yaml"}


def test_two_conversions_into_one_dataset_do_not_mix(tmp_path: Path) -> None:
    record(tmp_path / "logs", 0)
    with DatasetFolder(tmp_path / "data").locked(), pytest.raises(ProphRLError, match="being written by another"):
        convert([tmp_path / "logs"], tmp_path / "data")


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and the files stay as they are."""


def test_a_kill_at_any_move_of_a_commit_leaves_a_dataset_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = tmp_path / "logs"
    episodes = record(logs, 0, 1, 2)
    convert([logs / "episode-00.mcap", logs / "episode-01.mcap"], tmp_path / "before")
    whole: set[str] = set()
    killed = []
    while not whole:
        data = tmp_path / f"data-{len(killed)}"
        shutil.copytree(tmp_path / "before", data)
        with monkeypatch.context() as patch:
            _kill_at_move(patch, len(killed))
            try:
                convert([logs], data)
                whole = set(hashes(data))
            except Killed:
                killed.append(data)
    assert len(killed) >= 4  # data, facts, statistics, info
    for data in killed:
        assert len(load(data)) >= 2 * LENGTH, "LeRobot loads it as it was left"
        check_content(data, episodes[:2])
        assert convert([logs], data).added == ("episode-02",)
        assert set(hashes(data)) == whole
        check_content(data, episodes)
        assert load(data).meta.stats["action"]["count"] == [3 * LENGTH]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_killed_conversion_loses_nothing_and_goes_on_without_gaps(tmp_path: Path) -> None:
    logs, data = tmp_path / "logs", tmp_path / "data"
    numbers = range(12)
    episodes = record(logs, *numbers)
    child = multiprocessing.get_context("fork").Process(target=convert, args=([logs], data))  # LeRobot is imported already
    child.start()
    deadline = time.monotonic() + 60
    while child.is_alive() and len(list((data / "meta" / "episodes").glob("*/*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.07)  # somewhere in the next episode
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    survived = names_in(data)
    assert survived == [f"episode-{number:02d}" for number in range(len(survived))]
    assert 3 <= len(survived) < 12
    done = convert([logs], data)
    assert (len(done.known), len(done.added)) == (len(survived), 12 - len(survived))
    assert names_in(data) == [f"episode-{number:02d}" for number in numbers]
    check_content(data, episodes)


def test_large_cameras_become_video_of_every_frame(tmp_path: Path) -> None:
    robot = _robot(tmp_path, name="large", camera={"width": 320, "height": 240})
    pictures = _gradients(24, 240, 320)
    for number in range(2):
        writer = EpisodeLogWriter(tmp_path / "logs", EpisodeMeta.for_robot(robot, f"episode-{number}"), SETTINGS)
        episode = FakeEpisode.random(12, seed=number)
        for entry in episode.wire():
            if "image" not in entry[0]:
                writer.write(*entry)
        for image, stamp in zip(pictures[12 * number :], episode.stamps, strict=False):
            writer.write(*picture("front", image, stamp))
        writer.close()
    convert([tmp_path / "logs"], tmp_path / "data")
    dataset = load(tmp_path / "data")
    assert dataset.meta.video_keys == ["observation.images.front"]
    assert dataset[23]["observation.images.front"].shape == (3, 240, 320)
    ours = np.concatenate([episode.images["front"] for episode in load_episodes(tmp_path / "data")])
    nearest = [int(np.abs(pictures.astype(int) - frame).mean(axis=(1, 2, 3)).argmin()) for frame in ours]
    assert nearest == list(range(24)), "each frame at its place, none dropped"


def _kill_at_move(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let the process be "killed" before the ``number``-th move of a file into the dataset."""
    real, seen = Path.replace, 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal seen
        if lerobot_folder.INCOMING in path.parts:
            if seen == number:
                raise Killed
            seen += 1
        return real(path, target)

    patch.setattr(Path, "replace", replace)


def _robot(folder: Path, name: str, camera: dict[str, int] | None = None, **changes: object) -> Path:
    """A robot file like the shipped one but for ``changes``."""
    facts = yaml.safe_load(robot_file("sim_metaworld").read_text(encoding="utf-8")) | {"name": name} | changes
    facts["cameras"][0] |= {"rate_hz": facts["rate_hz"]} | (camera or {})
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(facts), encoding="utf-8")
    return path


def _gradients(count: int, height: int, width: int) -> np.ndarray:
    """Smooth pictures, no two alike, which video keeps well [N, H, W, 3]."""
    across = np.linspace(0, 120, width)[None, :, None]
    level = np.linspace(0, 130, count)[:, None, None, None]
    return np.broadcast_to(level + across[None], (count, height, width, 3)).astype(np.uint8)
