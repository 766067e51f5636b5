"""The whole loop with a toy budget, through the robot's processes, killed once on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robot_stack.loop import closed_loop
from robot_stack.paths import config_dir
from robot_stack.recipe import Recipe
from robot_stack.report_data import RunFiles

ROOT = Path(__file__).parents[2]
SECONDS = 900
NAME = "smoke"


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "robot_stack.cli", "loop", "--recipe", NAME, "--name", NAME]
    log = (folder / "loop.log").open("ab")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=environment)


@pytest.mark.smoke
@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_the_loop_runs_to_its_report_and_survives_a_kill(tmp_path: Path) -> None:
    run = Path("runs") / NAME
    stages = closed_loop(Recipe.load(config_dir() / "loop", NAME), run, 0)
    first = tmp_path / run / "round-00" / "record-demonstrations.manifest.json"

    loop = start(tmp_path)
    while not first.exists() and loop.poll() is None:
        time.sleep(0.05)
    time.sleep(1.0)  # into the second stage
    loop.send_signal(signal.SIGKILL)
    loop.wait()
    assert first.exists(), (tmp_path / "loop.log").read_text(errors="replace")[-4000:]
    before = first.read_bytes()

    assert start(tmp_path).wait() == 0, (tmp_path / "loop.log").read_text(errors="replace")[-4000:]

    assert first.read_bytes() == before, "a finished stage was run again"
    files = RunFiles(tmp_path / run)
    assert [(m.round_index, m.stage) for m in files.manifests] == [(s.round_index, s.name) for s in stages]
    assert all(m.peak_memory < 6 << 30 for m in files.manifests)
    page = (tmp_path / run / "report.html").read_text()
    assert "after practising in imagination" in page
    assert "What Prophet imagines" in page
    for name in ("evaluate-sft", "evaluate-filtered-bc", "evaluate-rl", "deploy-sft", "deploy-rl"):
        outcome = files.outcome(name)
        assert outcome is not None
        assert outcome.starts[0] == 10_000
