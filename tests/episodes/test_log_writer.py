"""The log: what goes in comes out of stock readers, names tell what is finished, and a full disk harms nothing finished."""

import errno
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.episodes import log_writer
from robot_stack.episodes.errors import DiskFullError, EpisodeInUseError
from robot_stack.episodes.log_reader import EpisodeLog, find_logs
from robot_stack.episodes.log_writer import EpisodeLogWriter, LogSettings, is_in_use
from robot_stack.episodes.meta import Label, write_label
from robot_stack.episodes.repair import repair
from tests.episodes.fake_robot import SETTINGS, STORE, FakeEpisode, Wire, meta


def test_a_stock_reader_reads_it_with_the_embedded_definitions(tmp_path: Path) -> None:
    episode = FakeEpisode.random(8)
    path = episode.record(tmp_path)
    written = list(episode.wire())
    with AnyReader([path]) as reader:  # no typestore given: the definitions in the file have to do
        read = [(c.topic, c.msgtype, bytes(raw), t) for c, t, raw in reader.messages()]
        images = [
            reader.deserialize(raw, c.msgtype).data.reshape(64, 64, 3)
            for c, _, raw in reader.messages()
            if c.topic == "/camera/front/image_raw"
        ]
    assert sorted(read) == sorted(("/" + topic.lstrip("/"), *rest) for topic, *rest in written)
    assert np.array_equal(images, episode.images)


def test_meta_and_label_come_back(tmp_path: Path) -> None:
    path = FakeEpisode.random(2).record(tmp_path, label="failure", seed=3, policy_hash="abc", source="policy:abc")
    log = EpisodeLog.open(path)
    assert log.meta == meta(seed=3, policy_hash="abc", source="policy:abc")
    assert (log.label, log.finished) == (Label.FAILURE, True)
    assert log.meta.spec.fingerprint == log.meta.fingerprint


def test_a_later_label_wins_and_survives_being_changed_again(tmp_path: Path) -> None:
    path = FakeEpisode.random(2).record(tmp_path)
    for label in (Label.FAILURE, Label.DISCARD):
        write_label(path, label)
        assert EpisodeLog.open(path).label is label
    assert find_logs(tmp_path) == [path]


def test_a_spoilt_label_file_is_named(tmp_path: Path) -> None:
    path = FakeEpisode.random(2).record(tmp_path)
    (tmp_path / "episode.label.json").write_text("{")
    with pytest.raises(BadFileError, match=r"episode\.label\.json.*prophrl episodes label"):
        EpisodeLog.open(path)


def test_in_flight_it_has_another_name_and_is_locked(tmp_path: Path) -> None:
    writer = EpisodeLogWriter(tmp_path, meta(), SETTINGS)
    writer.write(*next(FakeEpisode.random(1).wire()))
    assert writer.path.name == "episode.mcap.active"
    assert is_in_use(writer.path)
    with pytest.raises(EpisodeInUseError, match="being recorded"):
        repair(writer.path)
    path = writer.close(Label.SUCCESS)
    assert (path.name, find_logs(tmp_path)) == ("episode.mcap", [path])
    assert not is_in_use(path)


def test_nothing_finished_or_in_flight_is_overwritten(tmp_path: Path) -> None:
    first = FakeEpisode.random(2, seed=1).record(tmp_path)
    before = first.read_bytes()
    with EpisodeLogWriter(tmp_path, meta(), SETTINGS) as second:
        third = FakeEpisode.random(2, seed=2).record(tmp_path)
        assert (second.path.name, third.name) == ("episode-2.mcap.active", "episode-3.mcap")
    assert first.read_bytes() == before
    assert EpisodeLog.open(third).name == "episode-3"


def test_an_episode_recorded_again_after_a_kill_gets_its_name_and_the_cut_one_is_kept(tmp_path: Path) -> None:
    for seed in range(2):
        killed = EpisodeLogWriter(tmp_path, meta(), SETTINGS)
        for entry in FakeEpisode.random(3, seed=seed).wire():
            killed.write(*entry)
        killed.abort()
    path = FakeEpisode.random(2).record(tmp_path)
    assert [log.name for log in find_logs(tmp_path)] == [
        "episode.cut-1.mcap.active",
        "episode.cut-2.mcap.active",
        "episode.mcap",
    ]
    assert path.name == "episode.mcap"
    repaired = EpisodeLog.open(repair(tmp_path / "episode.cut-1.mcap.active").path)
    assert (repaired.name, repaired.meta.seed) == ("episode.cut-1", 7)


def test_messages_reach_the_disk_though_nothing_follows(tmp_path: Path) -> None:
    with EpisodeLogWriter(tmp_path, meta(), SETTINGS) as writer:
        writer.write(*next(FakeEpisode.random(1).wire()))
        deadline = time.monotonic() + 5
        while not (saved := list(_as_if_killed(writer.path).messages())) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert [message.topic for message in saved] == ["/task"]


def test_without_room_no_episode_begins(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="are needed to begin"):
        EpisodeLogWriter(tmp_path, meta(), LogSettings(min_free_bytes=1 << 60))
    assert find_logs(tmp_path) == []


def test_a_disk_that_fills_up_keeps_what_was_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = FakeEpisode.random(3).record(tmp_path, "finished")
    before = finished.read_bytes()
    room = 150_000  # about twelve pictures
    real_write = os.write

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real_write(descriptor, data[:room])  # the last one is short, as on a real disk
        room -= written
        return written

    monkeypatch.setattr(log_writer.os, "write", write)
    episode = FakeEpisode.random(60, seed=1)
    entries = list(episode.wire())
    writer = EpisodeLogWriter(tmp_path, meta("cut"), LogSettings(flush_s=10, chunk_bytes=30_000, min_free_bytes=1))
    with pytest.raises(DiskFullError, match="Finished episodes are intact"):
        _write_all(writer, entries)
    with pytest.raises(DiskFullError):
        writer.close(Label.SUCCESS)
    writer.abort()
    monkeypatch.setattr(log_writer.os, "write", real_write)

    assert finished.read_bytes() == before
    repaired = repair(tmp_path / "cut.mcap.active")
    saved = [message.data for message in EpisodeLog.open(repaired.path).messages()]
    assert len(saved) > 40
    assert saved == [entry[2] for entry in entries[: len(saved)]]
    assert EpisodeLog.open(repaired.path).label is Label.UNLABELLED


def test_names_that_do_not_exist_are_refused_with_those_that_do(tmp_path: Path) -> None:
    with EpisodeLogWriter(tmp_path, meta(), SETTINGS) as writer:
        with pytest.raises(UnknownNameError, match="unknown message type 'std_msgs/msg/Boole'; valid: .*std_msgs/msg/Bool"):
            writer.write("a", "std_msgs/msg/Boole", b"", 0)
        with pytest.raises(UnknownNameError, match="valid: discard, failure, success, unlabelled"):
            writer.close("good")
    with pytest.raises(BadFileError, match="plain file name"):
        meta("../escape")
    assert STORE.types  # the refusals above come from the same store as the messages


def _write_all(writer: EpisodeLogWriter, entries: list[Wire]) -> None:
    for entry in entries:
        writer.write(*entry)


def _as_if_killed(path: Path) -> EpisodeLog:
    """What a reader would find had the recorder died now."""
    copy = path.with_name("copy.mcap.active")
    shutil.copyfile(path, copy)
    return EpisodeLog.open(copy)
