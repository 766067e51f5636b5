"""The page about exploration noise, from outcomes that are known; what is asked of the commands."""

from pathlib import Path

import pytest

from benchmarks import exploration
from robot_stack.core.errors import BadFileError
from robot_stack.report_data import Outcome, RunFiles
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
    assert "| demo-seed-3 | 70.0 " in page and "| 75.0 " in page and "| 90.0 " in page
    assert "- as configured: 15.0 [" in page and "- a chunk in common: 0.0 [" in page
    practised = [call for call in asked if call[0] == "train-rl"]
    assert len(practised) == len(exploration.VARIANTS)
    assert all("rl=simulator" in call and f"checkpoint.policy={run}/round-00/train-policy" in call for call in practised)
    assert "rl.rollout.noise.episode=0" in practised[0] and not any("noise" in part for part in practised[-1])


def outcome(successes: int) -> Outcome:
    return Outcome("policy", tuple(range(100)), tuple(k < successes for k in range(100)))


def test_the_mean_over_runs_says_whether_a_difference_is_one() -> None:
    rows = [(f"run-{k}", [outcome(50), outcome(60), outcome(60 + 5 * (-1) ** k), outcome(70 + k)]) for k in range(4)]
    page = list(exploration.page(rows, 10))
    assert any("a chunk in common" in line and "not distinguishable from 0" in line for line in page)
    assert any("as configured" in line and "mean 11.5 [" in line and "above 0" in line for line in page)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    add(tmp_path, "train-policy", round_index=0)
    with pytest.raises(BadFileError, match="finish the run first"):
        exploration.row(RunFiles(tmp_path), 10, tmp_path)
