"""The runner of the loop, with real child processes."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from robot_stack import stages as runner
from robot_stack.core.errors import BadFileError, ProphRLError
from robot_stack.run_dir import round_dir
from robot_stack.stages import Manifest, StageFailedError, content_hash
from tests.house.toy_loop import run_toys, toy_stages

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "toy"
    folder.mkdir(parents=True)
    (folder / "source.txt").write_text("four")
    return folder


def journal(run: Path) -> list[str]:
    path = round_dir(run, 0) / "journal.txt"
    return path.read_text().splitlines() if path.exists() else []


def started(run: Path) -> list[str]:
    return [line.split()[0] for line in journal(run)]


def start_loop(run: Path, seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.house.toy_loop", str(run), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_each_stage_reads_what_the_one_before_wrote(run: Path) -> None:
    manifests = run_toys(run)
    assert [m.stage for m in manifests] == ["first", "second", "third"]
    assert (round_dir(run, 0) / "third" / "result.txt").read_text() == "third 8"  # len("second 7")
    assert manifests[1].figures == {"total": len("first 4")}
    assert manifests[2].inputs == {
        str(round_dir(run, 0) / "second" / "result.txt"): content_hash(round_dir(run, 0) / "second/result.txt")
    }
    assert "third is done" in (round_dir(run, 0) / "third.log").read_text()


def test_unchanged_stages_are_skipped_and_keep_their_manifest(run: Path) -> None:
    before = run_toys(run)
    after = run_toys(run)
    assert started(run) == ["first", "second", "third"]
    assert all(manifest.skipped for manifest in after)
    assert after == before


def test_a_changed_input_runs_what_depends_on_it_and_moves_the_old_output_aside(run: Path) -> None:
    run_toys(run)
    (run / "source.txt").write_text("three")  # one letter more: the first stage's result changes, by its number
    run_toys(run)
    assert started(run) == ["first", "second", "third", "first", "second"]  # "first 5" is as long as "first 4"
    assert (round_dir(run, 0) / "first.previous-1" / "result.txt").read_text() == "first 4"


def test_a_changed_command_runs_again(run: Path) -> None:
    run_toys(run, seconds=0.0)
    run_toys(run, seconds=0.01)
    assert started(run) == ["first", "second", "third"] * 2


def test_a_lost_output_is_made_again(run: Path) -> None:
    run_toys(run)
    (round_dir(run, 0) / "second").rename(run / "elsewhere")
    run_toys(run)
    assert started(run) == ["first", "second", "third", "second"]


def test_a_failing_stage_stops_the_loop_and_leaves_no_manifest(run: Path) -> None:
    with pytest.raises(StageFailedError, match=r"broken of round 0 ended with status 3.*broken\.log"):
        run_toys(run, names=("first", "broken", "third"))
    assert started(run) == ["first", "broken"]
    assert not (round_dir(run, 0) / "broken.manifest.json").exists()
    with pytest.raises(StageFailedError):
        run_toys(run, names=("first", "broken", "third"))
    assert started(run) == ["first", "broken", "broken"]  # the first is not run again


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_at_any_moment_loses_no_finished_stage_and_continues_the_cut_one(run: Path, seed: int) -> None:
    wait = random.Random(seed).uniform(0.2, 1.6)
    loop = start_loop(run, seconds=0.5)
    wait_for(lambda: bool(journal(run)) or loop.poll() is not None)
    time.sleep(wait)
    loop.send_signal(signal.SIGKILL)
    loop.wait()
    finished_before = {path.name: path.read_bytes() for path in round_dir(run, 0).glob("*.manifest.json")}
    child = psutil.pid_exists(int(journal(run)[-1].split()[-1]))

    run_toys(run, seconds=0.5)

    for name, content in finished_before.items():
        assert (round_dir(run, 0) / name).read_bytes() == content
        assert started(run).count(name.removesuffix(".manifest.json")) == 1
    assert (round_dir(run, 0) / "third" / "result.txt").read_text() == "third 8"
    assert not list(round_dir(run, 0).glob("*.previous-*")), "the cut stage's own work was moved aside"
    assert not list(round_dir(run, 0).glob("*.partial")), f"child alive after the kill: {child}"


def test_a_killed_loop_takes_its_stage_with_it(run: Path) -> None:
    loop = start_loop(run, seconds=60.0)
    wait_for(lambda: bool(journal(run)))
    stage = psutil.Process(int(journal(run)[-1].split()[-1]))
    loop.send_signal(signal.SIGKILL)
    assert loop.wait() == -signal.SIGKILL
    wait_for(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE)
    assert not (round_dir(run, 0) / "first" / "result.txt").exists()  # it was ended, not awaited


def test_ctrl_c_ends_the_stage_and_then_the_loop(run: Path) -> None:
    loop = start_loop(run, seconds=60.0)
    wait_for(lambda: bool(journal(run)))
    stage = psutil.Process(int(journal(run)[-1].split()[-1]))
    loop.send_signal(signal.SIGINT)
    assert loop.wait(timeout=20) != 0
    assert not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE
    assert not list(round_dir(run, 0).glob("*.pid"))


def test_a_lock_that_a_dying_child_holds_for_a_moment_is_waited_for(run: Path) -> None:
    held = (run / ".lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    release = threading.Timer(0.5, held.close)
    release.start()
    run_toys(run)
    release.join()
    assert started(run) == ["first", "second", "third"]


def test_a_second_loop_on_the_same_run_is_refused(run: Path) -> None:
    loop = start_loop(run, seconds=60.0)
    try:
        wait_for(lambda: bool(journal(run)))
        with pytest.raises(ProphRLError, match="another process works on"):
            run_toys(run)
    finally:
        loop.send_signal(signal.SIGKILL)
        loop.wait()


def test_a_full_disk_is_refused_before_the_stage_with_what_to_do(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda path: SimpleNamespace(free=5 << 20))
    with pytest.raises(ProphRLError, match="only 5 MiB are free .* Free some space and run the same command again"):
        run_toys(run)
    assert started(run) == []


def test_a_manifest_that_cannot_be_written_leaves_the_stage_unfinished(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run_toys(run)
    monkeypatch.undo()
    assert not list(round_dir(run, 0).glob("*.manifest.json"))
    run_toys(run)
    assert (round_dir(run, 0) / "third" / "result.txt").exists()


def test_missing_input_and_broken_manifest_are_named(run: Path) -> None:
    (run / "source.txt").rename(run / "gone.txt")
    with pytest.raises(BadFileError, match=r"source\.txt: is missing"):
        run_toys(run)
    (run / "gone.txt").rename(run / "source.txt")
    run_toys(run)
    path = round_dir(run, 0) / "first.manifest.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(BadFileError, match="is not the manifest of a stage"):
        run_toys(run)


def test_a_manifest_says_what_was_done(run: Path) -> None:
    run_toys(run)
    raw = json.loads((round_dir(run, 0) / "first.manifest.json").read_text())
    assert raw["argv"] == list(toy_stages(run)[0].argv)
    assert raw["seconds"] > 0
    assert raw["inputs"] == {str(run / "source.txt"): content_hash(run / "source.txt")}
    assert Manifest.load(round_dir(run, 0) / "first.manifest.json").stage == "first"


def test_hash_depends_on_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = content_hash(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    renamed = content_hash(tmp_path / "a")
    (tmp_path / "a" / "y").write_text("2")
    assert len({first, renamed, content_hash(tmp_path / "a")}) == 3
