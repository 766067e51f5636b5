"""The decoder finds in a log what happened, and says so where it is not what was meant to happen."""

import dataclasses
import io
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robot_stack.core.errors import BadFileError
from robot_stack.core.stream_buffer import RobotStreams
from robot_stack.episodes.decoder import EpisodeDecoder, EpisodeSummary, Row
from robot_stack.episodes.log_reader import EpisodeLog
from robot_stack.episodes.log_writer import EpisodeLogWriter
from robot_stack.episodes.messages import image_array, joint_values, pose_values
from robot_stack.episodes.ticks import SmallStreams, deserialise, ticks_of
from tests.episodes.fake_robot import (
    PERIOD_NS,
    SETTINGS,
    START_NS,
    FakeEpisode,
    Wire,
    header,
    message,
    meta,
    spec,
    trajectory,
)

MILLISECOND_NS = 1_000_000


def decoded(folder: Path, entries: Iterable[Wire]) -> tuple[EpisodeDecoder, list[Row], EpisodeSummary]:
    writer = EpisodeLogWriter(folder, meta(), SETTINGS)
    for entry in entries:
        writer.write(*entry)
    decoder = EpisodeDecoder(EpisodeLog.open(writer.close()))
    rows, summary = list(decoder.rows()), EpisodeSummary(decoder)
    for row in rows:
        summary.add(row)
    return decoder, rows, summary


@pytest.mark.parametrize("chunk", [1, 5])
def test_in_lock_step_rows_are_exactly_what_happened(tmp_path: Path, chunk: int) -> None:
    episode = FakeEpisode.random(12, first_success=7)
    _, rows, summary = decoded(tmp_path, episode.wire(chunk=chunk))
    assert [row.tick.stamp_ns for row in rows] == episode.stamps
    for k, row in enumerate(rows):
        assert np.array_equal(row.observation.images["front"], episode.images[k])
        np.testing.assert_allclose(row.observation.state, episode.state[k], atol=1e-12)
        assert np.array_equal(row.observation.commanded, episode.commanded[k])
        assert np.array_equal(row.tick.commanded, episode.commanded[k])
        assert np.array_equal(row.tick.sent, episode.sent[k])
        assert np.array_equal(row.tick.wanted, episode.wanted[k])
        assert (row.tick.success, row.tick.next_success) == (episode.success[k], episode.success[k + 1])
        assert (dict(row.ages_s), row.skew_s) == ({"front": 0.0}, 0.0)
    assert (summary.first_success, summary.flags) == (7, ())


def test_success_at_the_very_end_belongs_to_no_row_but_to_the_last_action(tmp_path: Path) -> None:
    _, rows, summary = decoded(tmp_path, FakeEpisode.random(5, first_success=5).wire())
    assert summary.first_success is None
    assert [row.tick.next_success for row in rows] == [False] * 4 + [True]


def test_rows_are_what_the_live_loop_observed(tmp_path: Path) -> None:
    """Push the messages as they arrive, as the nodes do, and observe at each tick; with pictures 30 ms late."""
    episode = FakeEpisode.random(10)
    entries = list(episode.wire(image_delay_ns=30 * MILLISECOND_NS))
    _, rows, _ = decoded(tmp_path, entries)
    live = RobotStreams(spec(), lock_step=True)
    unpack: dict[str, Callable] = {"joint_states": joint_values, "ee_pose": pose_values, "camera/front/image_raw": image_array}
    streams = {"joint_states": live.joints, "ee_pose": live.poses["ee_pose"], "camera/front/image_raw": live.cameras["front"]}
    observed = []
    reader = iter(EpisodeLog.open(tmp_path / "episode.mcap").messages())
    for entry in reader:
        topic = entry.topic.lstrip("/")
        if topic in streams:
            streams[topic].push(entry.stamp_ns, entry.stamp_ns, unpack[topic](deserialise(entry), topic))
        if topic == "sent_action":
            observed.append(live.observe(entry.stamp_ns, np.zeros(4), ""))
    assert len(observed) == len(rows) == 10
    for row, observation in zip(rows, observed, strict=True):
        assert observation is not None
        assert row.observation.stamp_ns == observation.stamp_ns == row.tick.stamp_ns - 30 * MILLISECOND_NS
        assert np.array_equal(row.observation.images["front"], observation.images["front"])
        assert np.array_equal(row.observation.state, observation.state)
        assert row.ages_s["front"] == pytest.approx(0.030)
        assert row.skew_s == pytest.approx(0.030)


def test_streams_that_lie_apart_are_flagged(tmp_path: Path) -> None:
    _, _, summary = decoded(tmp_path, FakeEpisode.random(10).wire(image_delay_ns=30 * MILLISECOND_NS))
    assert summary.flags == ("streams apart: 30 ms at the 99th percentile",)


def test_a_camera_that_stops_is_flagged_and_its_last_picture_kept(tmp_path: Path) -> None:
    episode = FakeEpisode.random(20)
    lost = START_NS + 5 * PERIOD_NS
    entries = [entry for entry in episode.wire() if "image" not in entry[0] or entry[3] <= lost]
    _, rows, summary = decoded(tmp_path, entries)
    assert all(np.array_equal(row.observation.images["front"], episode.images[5]) for row in rows[5:])
    assert "front: 10 stale pictures" in summary.flags  # older than the limit of 200 ms: rows 10 to 19


def test_in_real_time_jittered_ticks_are_put_on_an_even_grid(tmp_path: Path) -> None:
    episode = FakeEpisode.random(40)
    draw = np.random.default_rng(0)
    jitter = draw.integers(-15, 15, 40) * MILLISECOND_NS
    jitter[0] = jitter[-1] = 0
    moved = {stamp: stamp + int(shift) for stamp, shift in zip(episode.stamps, jitter, strict=True)}
    episode.stamps = [moved[stamp] for stamp in episode.stamps]
    _, rows, summary = decoded(tmp_path, episode.wire())
    assert [row.tick.stamp_ns for row in rows] == [START_NS + k * PERIOD_NS for k in range(40)]
    assert np.array_equal([row.tick.sent for row in rows], episode.sent)
    assert np.array_equal([row.tick.commanded for row in rows], episode.commanded)
    assert all(row.ages_s["front"] < 0.066 for row in rows)
    assert not [flag for flag in summary.flags if flag.startswith("slow")]


def test_exactly_the_rows_of_an_intervention_are_marked(tmp_path: Path) -> None:
    episode = FakeEpisode.random(12)
    assert not any(row.tick.intervention for row in decoded(tmp_path / "none", episode.wire())[1])
    episode.interventions = [4 <= k < 7 for k in range(12)]
    _, rows, _ = decoded(tmp_path / "some", episode.wire())
    assert [row.tick.intervention for row in rows] == episode.interventions


def test_the_rows_in_which_the_guard_acted_are_marked(tmp_path: Path) -> None:
    episode = FakeEpisode.random(12)
    episode.guards = {3: "velocity limit", 5: "velocity limit, gripper limit", 6: "", 11: "e-stop"}
    _, rows, _ = decoded(tmp_path, episode.wire())
    assert [row.tick.guarded for row in rows] == [k in (3, 4, 5, 11) for k in range(12)]


def test_a_guard_that_acts_between_two_actions_marks_the_one_under_way() -> None:
    fast = dataclasses.replace(spec(), command_rate_hz=5 * spec().rate_hz)
    command_ns = fast.command_period_ns
    streams = SmallStreams(references=[(START_NS, np.zeros(4))])
    streams.sent = {START_NS + i * command_ns: np.full(4, 0.1 * i) for i in range(26)}
    streams.guards = [(START_NS + 7 * command_ns, True), (START_NS + 8 * command_ns, False), (START_NS + 15 * command_ns, True)]
    streams.guards += [(START_NS + 20 * command_ns, False)]
    ticks = ticks_of(streams, fast, EpisodeLog.__new__(EpisodeLog))
    assert [tick.guarded for tick in ticks] == [False, True, False, True, False, False]


def test_in_real_time_an_intervention_is_told_a_little_after_its_tick(tmp_path: Path) -> None:
    episode = FakeEpisode.random(40)
    episode.interventions = [10 <= k < 14 or k == 30 for k in range(40)]
    draw = np.random.default_rng(0)
    jitter = draw.integers(-10, 10, 40) * MILLISECOND_NS
    jitter[0] = jitter[-1] = 0
    episode.stamps = [stamp + int(shift) for stamp, shift in zip(episode.stamps, jitter, strict=True)]
    entries = [
        (*entry[:3], entry[3] + int(draw.integers(0, 20)) * MILLISECOND_NS) if entry[0] == "intervention" else entry
        for entry in episode.wire()
    ]
    _, rows, _ = decoded(tmp_path, entries)
    assert [row.tick.intervention for row in rows] == episode.interventions


def test_where_commands_come_more_often_than_actions_an_intervention_counts_from_the_first_command_of_an_action() -> None:
    fast = dataclasses.replace(spec(), command_rate_hz=5 * spec().rate_hz)
    command_ns = fast.command_period_ns
    asked = [3 <= k < 6 for k in range(10)]
    streams = SmallStreams(references=[(START_NS, np.zeros(4))])
    for k, person in enumerate(asked):
        begin_ns = START_NS + k * PERIOD_NS
        streams.sent |= {begin_ns + i * command_ns: np.full(4, k + 0.1 * i) for i in range(5 if k < 9 else 1)}
        streams.interventions.append((begin_ns + 3 * MILLISECOND_NS, person))
    ticks = ticks_of(streams, fast, EpisodeLog.__new__(EpisodeLog))
    assert [tick.intervention for tick in ticks] == asked


def test_missed_ticks_repeat_the_target_in_force_and_a_slow_loop_is_flagged(tmp_path: Path) -> None:
    episode = FakeEpisode.random(20)
    missed = {START_NS + k * PERIOD_NS for k in (4, 5, 11)}
    entries = [
        entry for entry in episode.wire(chunk=1) if entry[0] not in ("sent_action", "action_chunk") or entry[3] not in missed
    ]
    decoder, rows, summary = decoded(tmp_path, entries)
    assert len(rows) == 20
    assert np.array_equal(rows[5].tick.sent, episode.sent[3])
    assert np.array_equal(rows[5].tick.commanded, episode.sent[3])
    assert decoder.achieved_rate_hz == pytest.approx(16 / (19 * 0.05))
    assert summary.flags == ("slow: 16.8 of 20 Hz",)


def test_without_a_first_reference_the_first_tick_is_left_out_not_invented(tmp_path: Path) -> None:
    episode = FakeEpisode.random(6)
    _, rows, _ = decoded(tmp_path, [entry for entry in episode.wire() if entry[0] != "committed_actions"])
    assert len(rows) == 5
    assert np.array_equal([row.tick.commanded for row in rows], episode.sent[:-1])


def test_the_driver_may_tell_the_first_reference(tmp_path: Path) -> None:
    episode = FakeEpisode.random(6)
    renamed = [("target_in_force", *entry[1:]) if entry[0] == "committed_actions" else entry for entry in episode.wire()]
    _, rows, _ = decoded(tmp_path, renamed)
    assert np.array_equal([row.tick.commanded for row in rows], episode.commanded)


def test_ticks_before_the_first_picture_are_left_out(tmp_path: Path) -> None:
    entries = [e for e in FakeEpisode.random(8).wire() if "image" not in e[0] or e[3] >= START_NS + 3 * PERIOD_NS]
    _, rows, summary = decoded(tmp_path, entries)
    assert [row.tick.stamp_ns for row in rows] == [START_NS + k * PERIOD_NS for k in range(3, 8)]
    assert summary.flags == ("3 ticks before the first observation",)


def test_a_namespace_and_compressed_pictures_make_no_difference(tmp_path: Path) -> None:
    episode = FakeEpisode.random(4)
    entries = [
        ("arm/" + entry[0], *entry[1:]) for entry in episode.wire() if "image" not in entry[0] and "clock" not in entry[0]
    ]
    for image, stamp in zip(episode.images, episode.stamps, strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="PNG")
        data = np.frombuffer(file.getvalue(), np.uint8)
        fields = {"header": header(stamp), "format": "png", "data": data}
        topic = "arm/camera/front/image_raw/compressed"
        entries.append(message(topic, "sensor_msgs/msg/CompressedImage", stamp, **fields))
    _, rows, _ = decoded(tmp_path, entries)
    assert np.array_equal([row.observation.images["front"] for row in rows], episode.images)


def test_malformed_messages_are_dropped_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    episode = FakeEpisode.random(5)
    entries = list(episode.wire())
    stamp = episode.stamps[2]
    bad = [
        ("joint_states", "sensor_msgs/msg/JointState", b"\x00\x01\x00\x00\xff\xff\xff\xff", stamp),
        ("joint_states", "sensor_msgs/msg/JointState", b"", stamp),
        ("ee_pose", "geometry_msgs/msg/PoseStamped", b"\x00\x01\x00\x00" + b"\x00" * 64, stamp),
        trajectory("sent_action", np.zeros((1, 3)), ["x", "y", "z"], stamp + 1),
        ("camera/front/image_raw", "sensor_msgs/msg/Image", b"\x00\x01\x00\x00", stamp - 1),
    ]
    with caplog.at_level(logging.WARNING):
        _, rows, _ = decoded(tmp_path, [*entries, *bad])
    assert np.array_equal([row.tick.sent for row in rows], episode.sent)
    assert np.array_equal([row.observation.images["front"] for row in rows], episode.images)
    assert sum("joint_states" in record.message for record in caplog.records) == 1


def test_a_log_in_which_nothing_was_executed_is_refused_by_name(tmp_path: Path) -> None:
    entries = [entry for entry in FakeEpisode.random(5).wire() if entry[0] != "sent_action"]
    with pytest.raises(BadFileError, match=r"episode\.mcap: no sent_action"):
        decoded(tmp_path, entries)
