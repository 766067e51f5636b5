"""The page about exploration noise, from outcomes that are known; what is asked of the commands."""

from pathlib import Path

import pytest

from benchmarks import exploration
from robot_stack.core.errors import BadFileError
from robot_stack.report_data import RunFiles
from robot_stack.stages import write_json
from tests.house.test_report import STARTS, add, evaluate


def test_each_variant_practises_from_the_runs_own_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked = tmp_path / "runs" / "demo-seed-3", []
    add(run, "train-policy", round_index=0)
    evaluate(run, "sft", 140)

    def prophrl(command: str, *arguments: str) -> None:
        asked.append((command, *arguments))
        if command == "evaluate":
            out = Path(next(a for a in arguments if a.startswith("out=")).removeprefix("out="))
            successes = 180 if "as-configured" in out.name else 150
            out.mkdir(parents=True)
            write_json(out / "evaluation.json", {"starts": STARTS, "success": [i < successes for i in range(len(STARTS))]})

    monkeypatch.setattr(exploration, "_prophrl", prophrl)
    out = tmp_path / "page.md"
    assert exploration.main([str(run), "--work", str(tmp_path / "work"), "--out", str(out)]) == 0
    page = out.read_text()
    assert "| demo-seed-3 | 70.0 " in page and "| 75.0 " in page and "| 90.0 " in page and "| 15.0 [" in page
    practised = [call for call in asked if call[0] == "train-rl"]
    assert len(practised) == len(exploration.VARIANTS)
    assert all("rl=simulator" in call and f"checkpoint.policy={run}/round-00/train-policy" in call for call in practised)
    assert "rl.rollout.noise.episode=0" in practised[0] and not any("noise" in part for part in practised[-1])


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    add(tmp_path, "train-policy", round_index=0)
    with pytest.raises(BadFileError, match="finish the run first"):
        exploration.row(RunFiles(tmp_path), 10, tmp_path)
