"""Crashes: a log cut anywhere gives back whole flushed messages; a killed recorder loses at most its last second."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot_stack.core.errors import BadFileError
from robot_stack.episodes.commands import main
from robot_stack.episodes.log_reader import EpisodeLog, LoggedMessage, find_logs
from robot_stack.episodes.log_writer import EpisodeLogWriter, LogSettings
from robot_stack.episodes.meta import Label
from robot_stack.episodes.repair import needs_repair, repair
from tests.episodes.fake_robot import FakeEpisode, meta

ROOT = Path(__file__).parents[2]
SECOND_NS = 1_000_000_000
RECORDER = """
import sys, time
from pathlib import Path
from robot_stack.episodes.log_writer import EpisodeLogWriter
from tests.episodes.fake_robot import FakeEpisode, meta
entries = list(FakeEpisode.random(30).wire())
print("ready", flush=True)
for number in range(1000):
    writer = EpisodeLogWriter(Path(sys.argv[1]), meta(f"episode-{number:03d}"))
    for topic, msgtype, data, _ in entries[: 20 + 37 * number % 200]:
        writer.write(topic, msgtype, data, time.time_ns())
        time.sleep(0.002)
    writer.close("success")
"""


@pytest.mark.parametrize("repetition", range(4))
def test_a_killed_recorder_loses_at_most_its_last_second(tmp_path: Path, repetition: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", RECORDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.6 + random.Random(repetition).uniform(0, 0.8))
    killed_ns = time.time_ns()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()

    logs = [EpisodeLog.open(path) for path in find_logs(tmp_path)]
    cut = [log for log in logs if not log.finished]
    assert len(cut) <= 1
    counts = [len(list(log.messages())) for log in logs if log.finished]
    assert counts == [20 + 37 * number % 200 for number in range(len(counts))], "a finished episode is whole"
    for log in cut:
        found = list(log.messages())
        assert main(["repair", str(tmp_path)]) == 0
        repaired = EpisodeLog.open(tmp_path / f"{log.name}.mcap")
        assert list(repaired.messages()) == found
    youngest = max(message.stamp_ns for path in find_logs(tmp_path) for message in EpisodeLog.open(path).messages())
    assert killed_ns - youngest < SECOND_NS


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, list[LoggedMessage], int]:
    """A log of several chunks: its path, bytes, messages, and the size of its smallest useful part."""
    folder = tmp_path_factory.mktemp("logged")
    writer = EpisodeLogWriter(folder, meta(), LogSettings(flush_s=60, chunk_bytes=20_000, min_free_bytes=1))
    beginning = writer.path.stat().st_size
    for entry in FakeEpisode.random(12).wire():
        writer.write(*entry)
    path = writer.close(Label.SUCCESS)
    return path, path.read_bytes(), list(EpisodeLog.open(path).messages()), beginning


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_anywhere_a_log_gives_a_whole_beginning(
    logged: tuple[Path, bytes, list[LoggedMessage], int], data: st.DataObject, tmp_path: Path
) -> None:
    _, content, messages, beginning = logged
    size = data.draw(st.integers(0, len(content)))
    cut = tmp_path / "cut.mcap.active"
    cut.write_bytes(content[:size])
    (tmp_path / "cut.mcap").unlink(missing_ok=True)
    if size < beginning:
        with pytest.raises(BadFileError):
            repair(cut)
        assert cut.exists()
        return
    found = list(EpisodeLog.open(cut).messages())
    assert found == messages[: len(found)]
    lost = sum(len(message.data) for message in messages[len(found) :])
    assert lost < len(content) - size + 2 * 20_000 + 13_000, "no more than the chunk that was cut"
    repaired = repair(cut)
    assert not cut.exists()
    assert not needs_repair(repaired.path)
    assert list(EpisodeLog.open(repaired.path).messages()) == found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255))
def test_a_damaged_log_is_refused_or_read_right(
    logged: tuple[Path, bytes, list[LoggedMessage], int], place: float, byte: int, tmp_path: Path
) -> None:
    _, content, messages, _ = logged
    spoilt = bytearray(content)
    spoilt[int(place * len(content))] ^= byte
    path = tmp_path / "spoilt.mcap"
    path.write_bytes(spoilt)
    try:
        found = list(EpisodeLog.open(path).messages())
    except BadFileError as error:
        refusal = str(error)
    else:
        assert [message.data for message in found] == [message.data for message in messages]
        return
    assert "spoilt.mcap" in refusal or "robot file" in refusal


def test_a_damaged_log_is_kept_beside_its_repair(logged: tuple[Path, bytes, list[LoggedMessage], int], tmp_path: Path) -> None:
    _, content, messages, _ = logged
    path = tmp_path / "short.mcap"
    path.write_bytes(content[: len(content) // 2])
    assert needs_repair(path)
    assert main(["repair", str(tmp_path)]) == 0
    assert (tmp_path / "short.mcap.damaged").stat().st_size == len(content) // 2
    found = list(EpisodeLog.open(path).messages())
    assert 0 < len(found) < len(messages)


def test_a_repair_killed_before_its_last_step_is_finished_by_the_next(
    logged: tuple[Path, bytes, list[LoggedMessage], int], tmp_path: Path
) -> None:
    _, content, messages, _ = logged
    (tmp_path / "episode.mcap").write_bytes(content)
    (tmp_path / "episode.mcap.active").write_bytes(content[: len(content) // 2])
    assert main(["repair", str(tmp_path)]) == 0
    assert [path.name for path in find_logs(tmp_path)] == ["episode.mcap"]
    assert list(EpisodeLog.open(tmp_path / "episode.mcap").messages()) == messages


def test_what_is_no_log_is_named_and_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = FakeEpisode.random(3).record(tmp_path, "good")
    (tmp_path / "noise.mcap").write_bytes(bytes(range(256)))
    (tmp_path / "empty.mcap.active").touch()
    assert main(["ls", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "good" in listed
    assert listed.count("broken:") == 2
    assert main(["repair", str(tmp_path)]) == 1
    assert capsys.readouterr().out.count("not repaired:") == 2
    assert len(list(EpisodeLog.open(good).messages())) > 0
    assert (tmp_path / "noise.mcap").exists()
