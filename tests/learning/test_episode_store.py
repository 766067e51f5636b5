"""Episodes on disk and back: npz, BRIDGE clips, and datasets that ``prophrl convert`` wrote."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from learning.episode import Episode
from learning.episode_store import fingerprint_of, load_episodes, save_episode
from robot_stack.core.actions import compose
from robot_stack.core.camera import CameraModel, Pose
from robot_stack.core.errors import BadFileError, ProphRLError, ShapeError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.paths import robot_file
from tests.episodes.fake_robot import FakeEpisode, spec

CLIPS = Path(__file__).parents[1] / "data" / "bridge_clips"
POSE_KINDS = (*[ActionKind.POSITION] * 3, *[ActionKind.ROTATION] * 3, ActionKind.GRIPPER)


def other_robot() -> RobotSpec:
    return replace(RobotSpec.load(robot_file("sim_metaworld")), name="other")


def camera_model(width: int, height: int, focal_px: float = 50.0) -> CameraModel:
    k = np.array([[focal_px, 0.0, (width - 1) / 2], [0.0, focal_px, (height - 1) / 2], [0.0, 0.0, 1.0]])
    pose = Pose((0.1, -0.2, 1.0 / 3.0), (1.0, 0.0, 0.0, 0.0))
    return CameraModel(width, height, k, pose, "plumb_bob", (0.1, 0.0, 0.0, 0.0, 0.0))


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    length, actions, states = draw(st.integers(1, 4)), draw(st.integers(1, 7)), draw(st.integers(0, 7))
    numbers = st.floats(-1e6, 1e6, width=32)
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    tracks = hnp.arrays(np.float32, (length, 3), elements=numbers)
    return Episode(
        name=draw(st.from_regex(r"[A-Za-z0-9_@][A-Za-z0-9_@ .-]{0,20}", fullmatch=True)),
        images={
            camera: draw(hnp.arrays(np.uint8, (length, height, width, 3)))
            for camera in draw(st.sets(st.sampled_from(["front", "wrist", "left.hand"]), min_size=1))
        },
        state=draw(hnp.arrays(np.float32, (length, states), elements=numbers)),
        commanded=draw(hnp.arrays(np.float32, (length, actions), elements=numbers)),
        deltas=draw(hnp.arrays(np.float32, (length, actions), elements=numbers)),
        instruction=draw(text),
        task=draw(text),
        source=draw(text),
        success=draw(st.sampled_from([True, False, None])),
        first_success=draw(st.none() | st.integers(0, length - 1)),
        rate_hz=draw(st.none() | st.floats(0.1, 1000.0)),
        cameras={
            camera: camera_model(width, height, draw(st.floats(1.0, 1e4)))
            for camera in draw(st.sets(st.sampled_from(["front", "wrist", "left.hand"])))
        },
        positions=draw(st.dictionaries(st.sampled_from(["tool", "object", "goal"]), tracks)),
    )


def assert_equal(found: Episode, expected: Episode) -> None:
    for name in ("name", "instruction", "task", "source", "success", "first_success", "rate_hz", "cameras"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.images.keys() == expected.images.keys()
    assert found.positions.keys() == expected.positions.keys()
    pairs = [(found.images[camera], expected.images[camera]) for camera in expected.images]
    pairs += [(found.positions[thing], expected.positions[thing]) for thing in expected.positions]
    pairs += [(getattr(found, name), getattr(expected, name)) for name in ("state", "commanded", "deltas")]
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(episode=episodes())
def test_npz_round_trip(episode: Episode, tmp_path: Path) -> None:
    path = save_episode(tmp_path, episode, "0123")
    assert path.name == f"{episode.name}.npz"
    [found] = load_episodes(path)
    assert_equal(found, episode)
    assert fingerprint_of(path) == "0123"


def simple(name: str = "one", length: int = 3) -> Episode:
    zeros = np.zeros((length, 4), np.float32)
    images = {camera: np.zeros((length, 8, 8, 3), np.uint8) for camera in ("front", "wrist")}
    return Episode(name, images, zeros, zeros, zeros, "do it")


def test_files_from_before_cameras_and_positions_still_load(tmp_path: Path) -> None:
    """Such files have exactly the entries of an episode of which none of these is known."""
    path = save_episode(tmp_path, simple())
    with np.load(path) as archive:
        assert not {name.split(".")[0] for name in archive.files} & {"rate_hz", "cameras", "positions"}
    [found] = load_episodes(path)
    assert (found.rate_hz, found.cameras, found.positions) == (None, {}, {})


def test_one_camera_keeps_its_parameters_and_loses_those_of_others(tmp_path: Path) -> None:
    models = {"front": camera_model(8, 8), "wrist": camera_model(8, 8, 70.0)}
    tracks = {"object": np.ones((3, 3), np.float32)}
    save_episode(tmp_path, replace(simple(), cameras=models, positions=tracks, rate_hz=20.0))
    [found] = load_episodes(tmp_path, camera="wrist")
    assert found.cameras == {"wrist": models["wrist"]}
    assert (found.rate_hz, list(found.positions)) == (20.0, ["object"])


def test_what_does_not_fit_the_episode_is_refused_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ShapeError, match=r"positions of mug in episode one has shape \[2, 3\], expected \[3, 3\]"):
        replace(simple(), positions={"mug": np.zeros((2, 3), np.float32)})
    with pytest.raises(ShapeError, match=r"camera wrist in episode one has shape \[8, 8\], expected \[16, 16\] as its calib"):
        replace(simple(), cameras={"wrist": camera_model(16, 16)})
    with pytest.raises(ProphRLError, match="rate_hz of episode one must be positive"):
        replace(simple(), rate_hz=0.0)
    with np.load(save_episode(tmp_path, replace(simple("two"), cameras={"front": camera_model(8, 8)}))) as archive:
        arrays = {**archive}
    for name, cameras in (("text", "{no JSON"), ("camera", '{"front": {"width": 8}}'), ("list", "[]")):
        np.savez(tmp_path / f"{name}.npz", **arrays | {"cameras": np.array(cameras)})
    with caplog.at_level(logging.WARNING):
        assert [episode.name for episode in load_episodes(tmp_path)] == ["two"]
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "text.npz: cameras is not JSON" in told
    assert "camera.npz: cameras.front.height is missing" in told
    assert "list.npz: cameras must be a mapping from name to camera, got list" in told


def test_a_folder_is_read_in_the_order_of_names_and_one_camera_can_be_chosen(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        save_episode(tmp_path, simple(name))
    found = load_episodes(tmp_path, camera="wrist")
    assert [(episode.name, list(episode.images)) for episode in found] == [(name, ["wrist"]) for name in "abc"]
    assert fingerprint_of(tmp_path) is None
    with pytest.raises(UnknownNameError, match="valid: front, wrist"):
        load_episodes(tmp_path, camera="rear")


def test_broken_files_are_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = save_episode(tmp_path, simple("good")).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.npz").write_bytes(b"not a zip file")
    np.savez(tmp_path / "incomplete.npz", state=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", format=np.array([{"a": 1}], dtype=object))
    save_episode(tmp_path, replace(simple("nan"), deltas=np.full((3, 4), np.nan, np.float32)))
    with caplog.at_level(logging.WARNING):
        assert [episode.name for episode in load_episodes(tmp_path)] == ["good"]
    named = " ".join(record.getMessage() for record in caplog.records)
    assert all(f"{name}.npz" in named for name in ("cut", "noise", "incomplete", "pickled", "nan"))


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="neither a LeRobot dataset nor a folder"):
        load_episodes(tmp_path)
    with pytest.raises(BadFileError, match="plain file name"):
        save_episode(tmp_path, simple("../escape"))


def test_npz_of_another_robot_is_refused(tmp_path: Path) -> None:
    save_episode(tmp_path, simple(), spec().fingerprint)
    assert len(load_episodes(tmp_path, spec=spec())) == 1
    with pytest.raises(SpecMismatchError, match=spec().fingerprint):
        load_episodes(tmp_path, spec=other_robot())
    save_episode(tmp_path, simple("two"), other_robot().fingerprint)
    with pytest.raises(SpecMismatchError, match=r"two\.npz"):
        fingerprint_of(tmp_path)


def test_bridge_clips_follow_our_convention_of_actions() -> None:
    """One tick ahead, the composed targets come nearer to the next measured pose than standing still does."""
    clips = load_episodes(CLIPS)
    assert len(clips) == 4
    moved, missed = np.zeros(2), np.zeros(2)
    for clip in clips:
        assert clip.images["front"].shape == (10, 64, 64, 3)
        assert clip.deltas.shape == clip.commanded.shape == (10, 7)
        assert clip.instruction
        assert clip.success is None
        pose = clip.commanded.astype(np.float64)
        predicted = compose(pose, clip.deltas[:, None].astype(np.float64), POSE_KINDS)[:, 0]
        moved += _distance(pose[:-1], pose[1:])
        missed += _distance(predicted[:-1], pose[1:])
    assert (missed < 0.6 * moved).all()


def _distance(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Summed distance of positions [m] and of orientations [rad]."""
    turn = Rotation.from_rotvec(ours[:, 3:6]).inv() * Rotation.from_rotvec(theirs[:, 3:6])
    return np.array([np.linalg.norm(ours[:, :3] - theirs[:, :3], axis=1).sum(), turn.magnitude().sum()])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[FakeEpisode]]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    pytest.importorskip("lerobot")
    from robot_stack.episodes.to_lerobot import convert

    folder = tmp_path_factory.mktemp("converted")
    happened = [FakeEpisode.random(7, seed=number, first_success=number + 2) for number in range(2)]
    for number, episode in enumerate(happened):
        episode.record(folder / "logs", f"episode-{number}", ("failure", "success")[number], source="noisy")
    convert([folder / "logs"], folder / "data")
    return folder / "data", happened


def test_a_converted_dataset_gives_the_deltas_that_were_executed(dataset: tuple[Path, list[FakeEpisode]]) -> None:
    root, happened = dataset
    found = load_episodes(root, spec=spec())
    assert [(e.name, e.success, e.first_success) for e in found] == [("episode-0", False, 2), ("episode-1", True, 3)]
    for ours, theirs in zip(found, happened, strict=True):
        assert np.array_equal(ours.images["front"], theirs.images)
        np.testing.assert_allclose(ours.state, theirs.state, atol=1e-6)
        targets = compose(ours.commanded.astype(np.float64), ours.deltas[:, None].astype(np.float64), spec().action_kinds)[:, 0]
        np.testing.assert_allclose(targets, theirs.sent, atol=1e-6)
        whole = compose(ours.commanded[0].astype(np.float64), ours.deltas.astype(np.float64), spec().action_kinds)
        np.testing.assert_allclose(whole, theirs.sent, atol=1e-5)  # deltas of successive rows add up
        assert (ours.task, ours.source, ours.instruction) == ("button-press-topdown-v3", "noisy", "press the button")


def test_a_converted_dataset_of_another_robot_is_refused(dataset: tuple[Path, list[FakeEpisode]]) -> None:
    root, _ = dataset
    assert fingerprint_of(root) == spec().fingerprint
    with pytest.raises(SpecMismatchError, match="robot sim_metaworld .* there, other"):
        load_episodes(root, spec=other_robot())
    with pytest.raises(UnknownNameError, match="valid: front"):
        load_episodes(root, camera="rear")


def test_npz_and_dataset_say_the_same(dataset: tuple[Path, list[FakeEpisode]], tmp_path: Path) -> None:
    root, _ = dataset
    converted = load_episodes(root)
    for episode in converted:
        save_episode(tmp_path, episode, spec().fingerprint)
    for ours, theirs in zip(load_episodes(tmp_path), converted, strict=True):
        assert_equal(ours, theirs)
