"""The results page, from runs whose outcomes are known."""

from pathlib import Path

import pytest

from benchmarks import five_seeds
from robot_stack.report_data import RunFiles
from tests.house.test_report import add, deploy, evaluate


def make_run(folder: Path, rl: int, robot: int) -> RunFiles:
    add(folder, "record-noisy", "record", 0, ("--seeds", "1000:1020"))
    evaluate(folder, "sft", 140)
    evaluate(folder, "filtered-bc", 142)
    evaluate(folder, "rl", rl)
    deploy(folder, "sft", 50)  # the first 140 starts succeed, hence all 50
    deploy(folder, "rl", robot)
    add(folder, "evaluate-world-model", video={"psnr_8": 26.0 + rl / 1000, "tssim_8": 0.5})
    return RunFiles(folder)


def test_reached_targets_are_called_so(tmp_path: Path) -> None:
    page = "\n".join(five_seeds.page([make_run(tmp_path / f"demo-seed-{n}", 180 + n, 50) for n in range(5)]))
    assert "mean +21.0 points, 95 % interval over runs +20.0 to +22.0" in page
    assert "above 0 in 5 of 5 runs" in page
    assert page.count("**Reached.**") == 2
    assert "Filtered behaviour cloning over SFT, on the same episodes: mean +1.0 points" in page
    assert "| demo-seed-3 | 70.0" in page and "| demo-seed-3 | 0 | 20 | 20 | 20 |" in page, "20 true episodes were recorded"
    assert "| video psnr_8 | 26.18 | 26.18 | 26.18 | 26.18 | 26.18 |" in page
    assert "tssim" not in page, "only the main figures"


def test_missed_targets_are_called_so(tmp_path: Path) -> None:
    page = "\n".join(five_seeds.page([make_run(tmp_path / f"demo-seed-{n}", 141 + n, 46) for n in range(5)]))
    assert page.count("**Missed.**") == 2
    assert "widest -8.0 points" in page


def test_targets_of_five_runs_stay_open_with_fewer(tmp_path: Path) -> None:
    page = "\n".join(five_seeds.page([make_run(tmp_path / f"demo-seed-{n}", 180 + n, 50) for n in range(2)]))
    assert "4 runs of 5. **Open, 5 runs are needed.**" in page


def test_a_run_that_is_not_there_yet_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs" / "demo-seed-0", 180, 50)
    out = tmp_path / "page.md"
    assert five_seeds.main(["--runs", str(tmp_path / "runs"), "--table-only", "--out", str(out)]) == 0
    assert "demo-seed-0" in out.read_text() and "demo-seed-1" not in out.read_text()
    assert str(out) in capsys.readouterr().out
