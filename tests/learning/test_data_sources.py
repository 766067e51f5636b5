"""Datasets of learning: every kind of source, what is left out and why, and names that stay unique."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learning.clip_source import ClipSource
from learning.data_sources import Dataset, check_rate, check_robot, load_sources
from learning.episode import Episode
from learning.episode_store import load_episodes, save_episode
from learning.hydra_entry import compose, data_paths, load_data
from robot_stack.core.errors import BadFileError, ProphRLError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.episodes.meta import Label, write_label
from robot_stack.paths import robot_file
from tests.episodes.fake_robot import FakeEpisode, spec

CLIPS = Path(__file__).parents[1] / "data" / "bridge_clips"
CLIP_KINDS = (*[ActionKind.POSITION] * 3, *[ActionKind.ROTATION] * 3, ActionKind.GRIPPER)


def load(*overrides: str, least_frames: int = 1) -> list[Dataset]:
    return load_data(compose(overrides, "adapt"), least_frames)


def episode(name: str = "one", length: int = 6, actions: int = 4, cameras: Sequence[str] = ("front",)) -> Episode:
    draw = np.random.default_rng(length)
    numbers = draw.normal(0, 1, (3, length, actions)).astype(np.float32)
    images = {camera: draw.integers(0, 256, (length, 8, 8, 3), dtype=np.uint8) for camera in cameras}
    return Episode(name, images, numbers[0], numbers[1], numbers[2], "do it")


def names(dataset: Dataset) -> list[str]:
    return [each.name for each in dataset.episodes]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CLIPS, tmp_path / "clips"))


def respoil(file: Path, **changed: np.ndarray) -> None:
    """The clip again, with some of its arrays changed."""
    with np.load(file, allow_pickle=False) as arrays:
        kept = {key: arrays[key] for key in arrays.files}
    np.savez(file, **(kept | changed))


def test_clips_are_a_dataset_of_their_own_kind() -> None:
    [dataset] = load("data=npz_clips", f"data.path={CLIPS}")
    assert (dataset.name, dataset.robot, dataset.rate_hz, dataset.weight) == ("widowx", "widowx", 5.0, 1.0)
    assert (dataset.action_kinds, dataset.cameras, dataset.fingerprint) == (CLIP_KINDS, ("front",), "")
    assert names(dataset) == ["clip_000", "clip_005", "clip_010", "clip_015"]
    assert all(each.rate_hz == 5.0 for each in dataset.episodes)
    [recognised] = load(f"data={CLIPS}")
    assert replace(recognised, episodes=()) == replace(dataset, episodes=())
    for ours, theirs in zip(dataset.episodes, load_episodes(CLIPS), strict=True):
        assert np.array_equal(ours.deltas, theirs.deltas)
        assert np.array_equal(ours.images["front"], theirs.images["front"])
    assert data_paths(compose(["data=npz_clips", f"data.path={CLIPS}"], "adapt")) == [CLIPS]


def test_broken_clips_are_named_and_left_out(clips: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = sorted(clips.glob("*.npz"))
    with np.load(files[0], allow_pickle=False) as arrays:
        frames, action = arrays["frames"], arrays["action"]
    for number in range(6):
        shutil.copy(files[0], clips / f"more_{number}.npz")
    respoil(clips / "more_0.npz", action=np.where(np.arange(70).reshape(10, 7) == 30, np.nan, action).astype(np.float32))
    respoil(clips / "more_1.npz", frames=frames.astype(np.float32) / 255)
    respoil(clips / "more_2.npz", action=action[:, :6], state=action[:, :6])
    respoil(clips / "more_3.npz", frames=frames[:5])
    (clips / "more_4.npz").write_bytes(files[0].read_bytes()[:5000])
    respoil(clips / "more_5.npz", frames=frames[..., 0])
    save_episode(clips, episode("ours"))
    [dataset] = load("data=npz_clips", f"data.path={clips}", least_frames=10)
    assert names(dataset) == [file.stem for file in files]
    reasons = {
        "more_0": "action holds NaN",
        "more_1": "frames are float32, expected uint8",
        "more_2": "must both be [T, 7]",
        "more_3": "front of episode more_3 has shape [5, 64, 64, 3], expected [10, ...]",
        "more_4": "not a readable .npz",
        "more_5": "pictures of camera front are uint8 [10, 64, 64], expected uint8 [T, H, W, 3]",
        "ours": "no clip, which has action, frames, instruction, source, state; read it with data=episodes",
    }
    assert dataset.skipped.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in dataset.skipped[name]
        assert f"episode {name} skipped" in caplog.text
    assert "dataset widowx: 7 of 11 episodes skipped" in caplog.text


def test_too_short_for_a_clip_names_the_least_length(clips: Path) -> None:
    with pytest.raises(ProphRLError, match=r"at least 11 frames are needed:\n  - clip_000: 10 frames, at least 11"):
        load("data=npz_clips", f"data.path={clips}", least_frames=11)
    save_episode(clips / "ours", episode("long", 12), spec().fingerprint)
    save_episode(clips / "ours", episode("short", 9), spec().fingerprint)
    (dataset,) = load(f"data=[{clips / 'ours'},{clips}]", least_frames=11)  # what is left of other data goes on
    assert (names(dataset), dataset.robot, set(dataset.skipped)) == (["long"], "sim_metaworld", {"short"})


@pytest.mark.parametrize("kind", ["episodes", "npz_clips", "lerobot", "logs"])
def test_nothing_there_is_an_error_that_names_the_folder(kind: str, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=str(tmp_path / "none")):
        load(f"data={kind}", f"data.path={tmp_path / 'none'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFileError, match=str(tmp_path / "empty")):
        load(f"data={kind}", f"data.path={tmp_path / 'empty'}")


def test_a_mistyped_kind_is_told_from_a_folder() -> None:
    with pytest.raises(
        BadFileError, match=r"npz_clip: no such file .* kind of data \(episodes, lerobot, logs, mixture, npz_clips\)"
    ):
        load("data=npz_clip")
    with pytest.raises(ProphRLError, match=r"adapt needs a value for data\.path"):
        load("data=npz_clips")
    assert load() == []


def test_an_option_wins_over_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_episode(tmp_path / "logs", episode())
    with pytest.raises(ProphRLError, match=r"needs a value for data\.path"):
        load("data=logs")
    [dataset] = load("data=./logs")
    assert names(dataset) == ["one"]


def test_episodes_are_told_apart_by_their_robot(tmp_path: Path) -> None:
    ur5e = RobotSpec.load(robot_file("ur5e"))
    save_episode(tmp_path / "a" / "deep", episode("a1"), spec().fingerprint)
    save_episode(tmp_path / "a", episode("a2"))  # of the configured robot, as it does not say
    save_episode(tmp_path / "b", episode("b", 18, len(ur5e.actions), ur5e.camera_names), ur5e.fingerprint)
    ours, theirs = load(f"data=[{tmp_path / 'a' / 'deep'},{tmp_path / 'a'},{tmp_path / 'b'}]")
    assert (ours.name, names(ours), ours.fingerprint) == ("sim_metaworld", ["a1", "a2"], spec().fingerprint)
    assert (ours.rate_hz, ours.action_kinds) == (spec().rate_hz, spec().action_kinds)
    assert (theirs.name, theirs.rate_hz, theirs.action_kinds) == ("ur5e", ur5e.rate_hz, ur5e.action_kinds)
    assert theirs.cameras == ur5e.camera_names
    assert (ours.weight, theirs.weight) == (pytest.approx(12 / 30), pytest.approx(18 / 30))  # each frame counts alike
    check_robot([ours], spec())
    with pytest.raises(SpecMismatchError, match=f"robot ur5e .{ur5e.fingerprint}. there, sim_metaworld"):
        check_robot([ours, theirs], spec())
    [named] = load(f"data={tmp_path / 'b'}", "data.name=mine")
    assert named.name == "mine"


def test_episodes_at_another_rate_than_their_robot_s_are_a_dataset_of_their_own(tmp_path: Path) -> None:
    save_episode(tmp_path, episode("usual"), spec().fingerprint)
    save_episode(tmp_path, replace(episode("slow"), rate_hz=12.5), spec().fingerprint)
    slow, usual = load(f"data={tmp_path}")
    assert (slow.name, slow.rate_hz, names(slow)) == ("sim_metaworld", 12.5, ["slow"])
    assert (usual.name, usual.rate_hz, names(usual)) == ("sim_metaworld-2", 20.0, ["usual"])


def test_an_unknown_robot_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    save_episode(tmp_path, episode(), "feedfeedfeedfeed")
    with pytest.raises(SpecMismatchError, match=r"one\.npz(.|\n)*feedfeedfeedfeed there(.|\n)*fr3, sim_arm"):
        load(f"data={tmp_path}")


def test_an_action_of_another_length_is_named_with_what_was_expected(tmp_path: Path) -> None:
    for name, actions in (("good", 4), ("seven", 7)):
        save_episode(tmp_path, episode(name, 6, actions), spec().fingerprint)
    [dataset] = load(f"data={tmp_path}")
    assert names(dataset) == ["good"]
    assert dataset.skipped == {"seven": "deltas of shape [6, 7], expected [6, 4]: position, position, position, gripper"}


def test_clips_do_not_fit_a_robot_of_other_actions() -> None:
    with pytest.raises(SpecMismatchError, match=r"widowx does not fit robot sim_metaworld:\n  - actions there: position"):
        check_robot(load("data=npz_clips", f"data.path={CLIPS}"), spec())


def test_a_camera_that_some_lack(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_episode(tmp_path, episode("both", cameras=("front", "wrist")))
    save_episode(tmp_path, episode("one", cameras=("front",)))
    [dataset] = load(f"data={tmp_path}")
    assert (dataset.cameras, names(dataset)) == (("front", "wrist"), ["both", "one"])
    assert names(dataset.of_camera("front")) == ["both", "one"]
    narrowed = dataset.of_camera("wrist")
    assert names(narrowed) == ["both"]
    assert narrowed.skipped["one"] == "has no camera 'wrist', only front"
    assert "episode one skipped" in caplog.text
    with pytest.raises(UnknownNameError, match="unknown camera of dataset sim_metaworld 'rear'; valid: front, wrist"):
        dataset.of_camera("rear")


def test_a_rate_that_differs_is_refused_and_a_film_s_is_not() -> None:
    dataset = Dataset("mine", (), 1.0, 29.97, (), "robot")
    check_rate(dataset, 30.0, "checkpoint x")
    with pytest.raises(SpecMismatchError, match=r"mine does not fit checkpoint x:\n  - rate 29.97 Hz .* 20 Hz expected"):
        check_rate(dataset, 20.0, "checkpoint x")
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ProphRLError, match="weight of dataset mine must be positive"):
            replace(dataset, weight=wrong)
        with pytest.raises(ProphRLError, match="rate_hz of dataset mine must be positive"):
            replace(dataset, rate_hz=wrong)


def test_names_are_unique_within_and_across_datasets(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save_episode(tmp_path / folder, episode("one"))
    save_episode(tmp_path / "b", episode("two"))
    [together] = load(f"data=[{tmp_path / 'a'},{tmp_path / 'b'}]")
    assert names(together) == ["one", "one-2", "two"]
    sources = f"data.sources=[{{kind:episodes,path:{tmp_path / 'a'}}},{{kind:episodes,path:{tmp_path / 'b'}}}]"
    first, second = load("data=mixture", sources)
    assert (first.name, second.name) == ("sim_metaworld", "sim_metaworld-2")
    assert names(first) == ["one@sim_metaworld"]
    assert names(second) == ["one@sim_metaworld-2", "two"]


def test_a_mixture_of_kinds_with_weights_from_the_command_line_and_from_a_file(tmp_path: Path) -> None:
    FakeEpisode.random(6).record(tmp_path / "logs", "walk")
    entries = [
        f"{{kind:npz_clips,name:bridge,path:{CLIPS},weight:2}}",
        f"{{kind:logs,path:[{tmp_path / 'logs'}],weight:0.5}}",
    ]
    mixed = load("data=mixture", f"data.sources=[{','.join(entries)}]")
    assert [(each.name, each.weight, each.rate_hz) for each in mixed] == [("bridge", 2.0, 5.0), ("sim_metaworld", 0.5, 20.0)]
    file = tmp_path / "sources.yaml"
    file.write_text(
        f"- {{kind: npz_clips, name: bridge, path: {CLIPS}, weight: 2}}\n- {{kind: logs, path: {tmp_path}, weight: 0.5}}\n"
    )
    again = load("data=mixture", f"data.sources={file}")
    assert [(each.name, each.weight, names(each)) for each in again] == [(m.name, m.weight, names(m)) for m in mixed]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("[{kind:npz,path:x}]", "unknown kind of data.sources.0. 'npz'; valid: episodes, lerobot, logs, npz_clips"),
        ("[{kind:logs,path:x},{path:x}]", r"data\.sources\[1\] must tell its kind \(episodes, lerobot, logs, npz_clips\)"),
        (
            "[{kind:npz_clips,pth:x}]",
            r"data\.sources\[0\] 'pth'; valid: name, path, rate_hz, robot, still, views, weight",
        ),
        ("[{kind:npz_clips}]", r"data\.sources\[0\] \(npz_clips\) needs a path"),
        ("[{kind:episodes,name:x}]", r"data\.sources\[0\] \(episodes\) needs a path"),
        ("[]", "must be a list of sources"),
        ("{kind:episodes}", "must be a list of sources"),
        ("none.yaml", r"none\.yaml: cannot be read as YAML"),
        ("[{kind:npz_clips,path:x,weight:much}]", r"ClipSource\.weight must be float, got 'much'"),
    ],
)
def test_a_mixture_that_is_none_says_what_it_should_be(sources: str, message: str) -> None:
    with pytest.raises(ProphRLError, match=message):
        load("data=mixture", f"data.sources={sources}")


def test_a_weight_must_be_positive() -> None:
    with pytest.raises(ProphRLError, match="weight of dataset widowx must be positive, got 0"):
        load("data=npz_clips", f"data.path={CLIPS}", "data.weight=0")


@pytest.mark.parametrize("kind", ["logs", "lerobot", "mixture"])
def test_a_stage_that_wants_folders_of_episodes_says_so(kind: str) -> None:
    wanted = "data.sources=[{kind:logs,path:x}]" if kind == "mixture" else "data.path=x"
    with pytest.raises(ProphRLError, match=f"does not read data={kind}, only data=<folder>"):
        data_paths(compose([f"data={kind}", wanted], "train-policy"))


def test_logs_are_the_episodes_that_conversion_makes(tmp_path: Path) -> None:
    pytest.importorskip("lerobot")
    from robot_stack.episodes.to_lerobot import convert

    logs = tmp_path / "logs"
    happened = [FakeEpisode.random(7, seed=number, first_success=number + 2) for number in range(2)]
    for number, each in enumerate(happened):
        each.record(logs, f"episode-{number}", ("failure", "success")[number], source="noisy")
    convert([logs], tmp_path / "data")
    [direct], [detour] = load("data=logs", f"data.path={logs}"), load(f"data={tmp_path / 'data'}")
    assert replace(direct, episodes=()) == replace(detour, episodes=())
    assert direct.fingerprint == spec().fingerprint
    for ours, theirs in zip(direct.episodes, detour.episodes, strict=True):
        for field in ("name", "instruction", "task", "source", "success", "first_success", "rate_hz"):
            assert getattr(ours, field) == getattr(theirs, field), field
        assert np.array_equal(ours.images["front"], theirs.images["front"])
        for field in ("state", "commanded", "deltas"):
            np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), atol=1e-6)
    [small] = load("data=logs", f"data.path={logs}", "data.image_size=16")
    assert small.episodes[0].images["front"].shape == (7, 16, 16, 3)


def test_broken_and_discarded_logs_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(4):
        FakeEpisode.random(6, seed=number).record(tmp_path / "round-0", f"episode-{number}")
    whole = (tmp_path / "round-0" / "episode-1.mcap").read_bytes()
    (tmp_path / "round-0" / "episode-1.mcap").write_bytes(whole[: len(whole) // 2])
    write_label(tmp_path / "round-0" / "episode-2.mcap", Label.DISCARD)
    (tmp_path / "round-0" / "episode-3.mcap").rename(tmp_path / "round-0" / "episode-3.mcap.active")
    with caplog.at_level(logging.WARNING):
        [dataset] = load("data=logs", f"data.path={tmp_path}")
    assert names(dataset) == ["episode-0"]
    reasons = {"episode-1": "is damaged", "episode-2": "labelled discard", "episode-3": "is unfinished"}
    assert dataset.skipped.keys() == reasons.keys()
    assert all(reason in dataset.skipped[name] for name, reason in reasons.items())
    with pytest.raises(BadFileError, match=r"holds logs: read them with data=logs data\.path="):
        load(f"data={tmp_path}")


def test_nan_in_a_log_costs_that_episode(tmp_path: Path) -> None:
    walk = FakeEpisode.random(6)
    walk.record(tmp_path, "good")
    walk.sent[3, 1] = np.nan
    walk.record(tmp_path, "bad")
    [dataset] = load("data=logs", f"data.path={tmp_path}")
    assert names(dataset) == ["good"]
    assert set(dataset.skipped) == {"bad"}


def test_sources_can_be_read_without_a_configuration(tmp_path: Path) -> None:
    from learning.clip_source import ClipSource

    one, two = load_sources([ClipSource(str(CLIPS), name="a"), ClipSource((str(CLIPS),), name="b", weight=3.0)], spec(), 10)
    assert (one.weight, two.weight) == (1.0, 3.0)
    assert names(two)[0] == "clip_000@b"


def test_a_negative_number_of_views_is_refused():
    with pytest.raises(ProphRLError, match="views of dataset widowx must be at least 0, got -1"):
        ClipSource(path=str(CLIPS), views=-1).read(RobotSpec.load(robot_file("sim_metaworld")))
