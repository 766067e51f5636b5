"""LeRobot datasets of others, written by LeRobot itself: read by what the settings say, refused with what they hold."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.transform import Rotation

os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytest.importorskip("lerobot")
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from learning import hydra_entry
from learning.action_forms import GripperScale
from learning.data_sources import Dataset, load_sources
from learning.episode_source import EpisodeSource
from learning.lerobot_source import LeRobotSource
from robot_stack.core.actions import compose
from robot_stack.core.errors import BadFileError, ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import ActionKind
from tests.episodes.fake_robot import spec

FPS, LENGTHS, HEIGHT, WIDTH = 15, (6, 9), 48, 64
ARM_KINDS = (*[ActionKind.POSITION] * 3, *[ActionKind.ROTATION] * 3, ActionKind.GRIPPER)
ARM = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
NAMES = [f"{side}_{name}" for side in ("left", "right") for name in ARM]
TWO_ARMS = LeRobotSource("", rotation="euler_xyz", gripper=GripperScale(closed=1.0, open=0.0))


def film(length: int, seed: int) -> np.ndarray:
    """A bright square that moves over a dark ground, as lossy video keeps it [T, H, W, 3]."""
    frames = np.full((length, HEIGHT, WIDTH, 3), 30, np.uint8)
    for t, frame in enumerate(frames):
        frame[8 : 8 + 24, (3 * t + seed) % 40 : (3 * t + seed) % 40 + 20] = (220, 120 + 10 * seed, 40)
    return frames


def poses(length: int, seed: int) -> np.ndarray:
    """Two arms' poses with roll, pitch, yaw, and openings [T, 14]."""
    draw = np.random.default_rng(seed)
    walk = np.cumsum(draw.normal(0, 0.05, (length, 14)), axis=0)
    walk[:, [6, 13]] = draw.uniform(0, 1, (length, 2))
    return walk.astype(np.float32)


def write(root: Path, lengths: tuple[int, ...] = LENGTHS, names: Any = None, spoil: Callable[..., None] | None = None) -> Path:
    """A dataset of two arms whose actions are the poses of the next frame; grippers count from open (0) to closed (1)."""
    numbers = {"dtype": "float32", "shape": (14,), "names": names or NAMES}
    picture = {"shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    features = {
        "observation.images.top": {"dtype": "video", **picture},
        "observation.images.wrist": {"dtype": "image", **picture},
        "observation.state": numbers,
        "action": numbers,
    }
    dataset = LeRobotDataset.create("somebody/two_arms", FPS, features, root=root, robot_type="two_arms", video_backend="pyav")
    for number, length in enumerate(lengths):
        states, actions = split(length, number)
        if spoil is not None:
            spoil(number, states, actions)
        for t in range(length):
            pictures = {"observation.images.top": film(length, number)[t], "observation.images.wrist": film(length, 3)[t]}
            dataset.add_frame(pictures | {"observation.state": states[t], "action": actions[t], "task": f"task {number}"})
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return root


def split(length: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    walk = poses(length + 1, number)
    walk[:, [6, 13]] = 1.0 - walk[:, [6, 13]]
    return walk[:-1].copy(), walk[1:].copy()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("foreign") / "two_arms")


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def load(source: LeRobotSource, root: Path, least_frames: int = 1) -> Dataset:
    [dataset] = load_sources([replace(source, path=str(root))], spec(), least_frames)
    return dataset


def test_two_arms_with_video_and_pictures(written: Path) -> None:
    dataset = load(TWO_ARMS, written)
    assert (dataset.name, dataset.robot, dataset.rate_hz, dataset.fingerprint) == ("two_arms", "two_arms", FPS, "")
    assert (dataset.cameras, dataset.action_kinds) == (("top", "wrist"), (*ARM_KINDS, *ARM_KINDS))
    assert [len(episode) for episode in dataset.episodes] == list(LENGTHS)
    for number, episode in enumerate(dataset.episodes):
        length = LENGTHS[number]
        assert (episode.instruction, episode.rate_hz, episode.success) == (f"task {number}", FPS, None)
        assert np.array_equal(episode.images["wrist"], film(length, 3))
        error = episode.images["top"].astype(int) - film(length, number)
        assert np.abs(error).mean() < 6, "video is lossy, but shows the right frames"
        walk = poses(length + 1, number)
        targets = compose(episode.commanded[0].astype(np.float64), episode.deltas.astype(np.float64), dataset.action_kinds)
        for arm in (slice(0, 7), slice(7, 14)):
            ours, truth = targets[:, arm], walk[1:, arm]
            np.testing.assert_allclose(ours[:, :3], truth[:, :3], atol=1e-5)
            turn = Rotation.from_rotvec(ours[:, 3:6]).inv() * Rotation.from_euler("xyz", truth[:, 3:6])
            assert turn.magnitude().max() < 1e-4
            np.testing.assert_allclose(ours[:, 6], truth[:, 6], atol=1e-5)
        np.testing.assert_allclose(episode.state, split(length, number)[0])


def test_one_camera_and_one_arm_by_name_and_resized(written: Path) -> None:
    left = replace(TWO_ARMS, cameras=("observation.images.top",), action_columns=tuple(NAMES[:7]), image_size=32)
    dataset = load(left, written)
    assert (dataset.cameras, dataset.action_kinds) == (("top",), ARM_KINDS)
    whole = load(TWO_ARMS, written)
    for ours, both in zip(dataset.episodes, whole.episodes, strict=True):
        assert ours.images["top"].shape == (len(both), 32, 32, 3)
        np.testing.assert_allclose(ours.deltas, both.deltas[:, :7], atol=1e-6)
    right = replace(TWO_ARMS, cameras=("wrist",), action_columns=tuple(range(7, 14)), measured_by=tuple(NAMES[7:]))
    for ours, both in zip(load(right, written).episodes, whole.episodes, strict=True):
        np.testing.assert_allclose(ours.deltas, both.deltas[:, 7:], atol=1e-6)


def test_frames_of_a_later_episode_in_the_same_video_are_its_own(written: Path) -> None:
    """Both episodes lie in one file; their squares start at different places and differ in colour."""
    videos = list(written.rglob("*.mp4"))
    assert len(videos) == 1
    dataset = load(TWO_ARMS, written)
    for number, episode in enumerate(dataset.episodes):
        own, other = (film(LENGTHS[number], which) for which in (number, 1 - number))
        shown = episode.images["top"].astype(int)
        assert np.abs(shown - own).mean() < np.abs(shown - other).mean()


def test_the_command_line_says_the_same(written: Path) -> None:
    said = [
        "data=lerobot",
        f"data.path={written}",
        "data.numbers=[3*position,3*rotation,gripper,3*position,3*rotation,gripper]",
        "data.rotation=euler_xyz",
        "data.gripper.closed=1",
        "data.gripper.open=0",
        "data.cameras=[top]",
        "data.name=mine",
    ]
    [dataset] = hydra_entry.load_data(hydra_entry.compose(said, "adapt"), 5)
    expected = load(replace(TWO_ARMS, name="mine", cameras=("top",)), written)
    assert replace(dataset, episodes=()) == replace(expected, episodes=())
    for ours, theirs in zip(dataset.episodes, expected.episodes, strict=True):
        np.testing.assert_array_equal(ours.deltas, theirs.deltas)
        np.testing.assert_array_equal(ours.commanded, theirs.commanded)
    open_as_one = [*said, "data.measured_gripper.closed=0", "data.measured_gripper.open=1"]
    [other] = hydra_entry.load_data(hydra_entry.compose(open_as_one, "adapt"), 5)
    first, same = other.episodes[0].commanded[0], dataset.episodes[0].commanded[0]
    np.testing.assert_allclose(first[[6, 13]], 1.0 - same[[6, 13]], atol=1e-6)
    with pytest.raises(ProphRLError, match="closed and open must be numbers, got 'shut'"):
        hydra_entry.load_data(hydra_entry.compose([*said, "data.gripper.closed=shut"], "adapt"))


def test_names_in_a_mapping_and_the_reader_of_ours_points_here(tmp_path: Path) -> None:
    root = write(tmp_path / "named", (4,), names={"motors": NAMES})
    [right] = load(replace(TWO_ARMS, action_columns=("right_y",), numbers=("position",)), root).episodes
    np.testing.assert_allclose(right.deltas[:, 0], np.diff(poses(5, 0)[:, 8]), atol=1e-6)
    with pytest.raises(BadFileError, match=r"not made by `prophrl convert`; read it with data=lerobot data\.path="):
        EpisodeSource(str(root)).read(spec())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cameras": ("front",)}, r"unknown camera 'front'; valid: observation\.images\.top, observation\.images\.wrist"),
        ({"action": "actions"}, r"unknown action 'actions'"),
        ({"state": "observation.images.top"}, r"state 'observation\.images\.top' is video \[48, 64, 3\], expected floats"),
        ({"numbers": ("3*position", "gripper")}, "numbers tells 4 kinds, but 14 numbers of 'action' count"),
        ({"action_columns": ("left_x", "elbow")}, "unknown number in action_columns 'elbow'; valid: 0 to 13, left_gripper"),
        ({"action_columns": (14,)}, "unknown number in action_columns '14'"),
        ({"action_columns": (0, 1)}, r"2 numbers of an action: give the kind of each, numbers=\[...\], of position"),
        ({"measured_by": (0, 1)}, r"which number of 'observation\.state' measures .* or \[\] where none does; got 2"),
        ({"measured_by": (), "action_space": "delta_base"}, r"Give measured_by, a place or a name for each; got 0"),
        ({"numbers": ("14*joint",), "action_space": "delta_tool"}, "there can only be gripper, position, rotation"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_the_dataset_holds(
    written: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadFileError, match=message) as caught:
        load(replace(TWO_ARMS, **settings), written)
    told = str(caught.value)
    assert "two_arms" in told
    assert "observation.state: float32 [14] left_x, left_y" in told
    assert "observation.images.top: video [48, 64, 3]" in told


@pytest.mark.parametrize(
    ("settings", "valid"),
    [
        ({"action_space": "delta"}, "absolute, delta_base, delta_joint, delta_tool, joint"),
        ({"rotation": "euler"}, "euler_xyz, vector"),
        ({"measured_rotation": "quaternion"}, "euler_xyz, vector"),
    ],
)
def test_a_wrong_word_lists_the_valid_ones(settings: dict[str, str], valid: str) -> None:
    with pytest.raises(UnknownNameError, match=valid):
        replace(TWO_ARMS, **settings)


def test_an_old_a_broken_and_no_dataset(copied: Path, tmp_path: Path) -> None:
    info_file = copied / "meta" / "info.json"
    info = json.loads(info_file.read_text())
    info_file.write_text(json.dumps(info | {"codebase_version": "v2.1"}))
    with pytest.raises(BadFileError, match=r"version v2\.1, v3\.0 is needed; .*convert_dataset_v21_to_v30"):
        load(TWO_ARMS, copied)
    info_file.write_text(json.dumps(info)[:100])
    with pytest.raises(BadFileError, match=r"info\.json: cannot be read"):
        load(TWO_ARMS, copied)
    info_file.write_text(json.dumps({key: value for key, value in info.items() if key != "features"}))
    with pytest.raises(BadFileError, match="features"):
        load(TWO_ARMS, copied)
    info_file.write_text(json.dumps(info))
    shutil.rmtree(copied / "meta" / "episodes")
    with pytest.raises(BadFileError, match=r"no episode in meta/episodes, 2 expected"):
        load(TWO_ARMS, copied)
    with pytest.raises(BadFileError, match=r"no LeRobot dataset: it has no meta/info\.json"):
        load(TWO_ARMS, tmp_path)


def test_nan_and_short_episodes_are_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def spoil(number: int, states: np.ndarray, actions: np.ndarray) -> None:
        if number == 0:
            actions[3, 2] = np.nan
        if number == 2:
            states[1, 0] = np.inf

    root = write(tmp_path / "spoilt", (6, 9, 7, 3), spoil=spoil)
    dataset = load(TWO_ARMS, root, least_frames=5)
    assert [episode.name for episode in dataset.episodes] == ["episode_000001"]
    assert "action holds NaN or infinite numbers" in dataset.skipped["episode_000000"]
    assert "observation.state holds NaN or infinite numbers" in dataset.skipped["episode_000002"]
    assert dataset.skipped["episode_000003"] == "3 frames, at least 5 are needed"
    assert "dataset two_arms: 3 of 4 episodes skipped" in caplog.text
    with pytest.raises(ProphRLError, match="none of 4 episodes can be used; sound ones of at least 20 frames are needed"):
        load(TWO_ARMS, root, least_frames=20)


def spoil_video(root: Path, begin: float, end: float) -> None:
    """Overwrite a part of the only video with noise."""
    [video] = root.rglob("*.mp4")
    content = bytearray(video.read_bytes())
    part = slice(int(begin * len(content)), int(end * len(content)))
    content[part] = np.random.default_rng(0).bytes(len(content[part]))
    video.write_bytes(bytes(content))


def test_a_truncated_or_missing_video_costs_its_episodes_only(tmp_path: Path) -> None:
    """Each episode has a video file of its own; one is cut, one is gone, one is noise."""
    first, *others = (write(tmp_path / f"part{number}", (6,)) for number in range(4))
    videos = [next(root.rglob("*.mp4")) for root in others]
    videos[0].write_bytes(videos[0].read_bytes()[: videos[0].stat().st_size // 2])
    videos[1].unlink()
    spoil_video(others[2], 0.0, 1.0)
    several = replace(TWO_ARMS, path=(str(first), *map(str, others)))
    [dataset] = load_sources([several], spec())
    assert len(dataset.episodes) == 1
    told = list(dataset.skipped.values())
    assert len(told) == 3
    assert all(str(video) in reason for video, reason in zip(videos, told, strict=True))
    cameras = replace(several, cameras=("wrist",))
    [dataset] = load_sources([cameras], spec())
    assert len(dataset.episodes) == 4, "where the video is not wanted nothing is lost"


def test_damage_within_a_video_costs_the_episode_that_it_hits(tmp_path: Path) -> None:
    root = write(tmp_path / "hit", (30, 30))
    spoil_video(root, 0.75, 0.76)
    dataset = load(TWO_ARMS, root)
    assert [episode.name for episode in dataset.episodes] == ["episode_000000"]
    assert np.abs(dataset.episodes[0].images["top"].astype(int) - film(30, 0)).mean() < 6
    assert "file-000.mp4" in dataset.skipped["episode_000001"]


def test_a_video_with_a_gap_is_refused_instead_of_showing_later_frames(copied: Path) -> None:
    """The film as others might write it: 14 frames where 15 belong, the third one missing, at the right times."""
    import av

    [video] = copied.rglob("*.mp4")
    frames = np.concatenate([film(length, number) for number, length in enumerate(LENGTHS)])
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, width=WIDTH, height=HEIGHT, pix_fmt="yuv420p")
        for number, picture in enumerate(frames):
            if number == 2:
                continue
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    dataset = load(TWO_ARMS, copied)
    assert [episode.name for episode in dataset.episodes] == ["episode_000001"]
    assert np.abs(dataset.episodes[0].images["top"].astype(int) - film(LENGTHS[1], 1)).mean() < 6
    assert "2 sound frames from 0.00 s on, 6 expected" in dataset.skipped["episode_000000"]


def test_a_damaged_table_is_named(copied: Path) -> None:
    [file] = (copied / "data").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ProphRLError, match=r"none of 2 episodes can be used(.|\n)*episode_000000: .*file-000\.parquet"):
        load(TWO_ARMS, copied)


def test_actions_of_another_length_than_described_are_named(copied: Path) -> None:
    [file] = (copied / "data").rglob("*.parquet")
    table = pq.read_table(file)
    rows = table["action"].to_pylist()
    shorter = [row if t < LENGTHS[0] else row[:13] for t, row in enumerate(rows)]
    place = table.column_names.index("action")
    pq.write_table(table.set_column(place, "action", pa.array(shorter, pa.list_(pa.float32()))), file)
    dataset = load(TWO_ARMS, copied)
    assert [episode.name for episode in dataset.episodes] == ["episode_000000"]
    assert "13 numbers in action, 14 expected" in dataset.skipped["episode_000001"]


def test_a_table_that_lacks_frames_is_named(copied: Path) -> None:
    [file] = (copied / "data").rglob("*.parquet")
    pq.write_table(pq.read_table(file).slice(0, 10), file)
    dataset = load(TWO_ARMS, copied)
    assert [episode.name for episode in dataset.episodes] == ["episode_000000"]
    assert "4 frames, 9 expected" in dataset.skipped["episode_000001"]
