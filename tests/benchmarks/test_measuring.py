"""Repetitions are kept through a kill; tables say what was measured."""

from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.fault_cases import CASES
from benchmarks.measuring import Repetitions, code, made_with, quantile, rate, table


def test_repetitions_are_kept_and_a_cut_line_is_not_one(tmp_path: Path) -> None:
    kept = Repetitions(tmp_path, "policy killed")
    for number in range(3):
        kept.add({"number": number, "hold_ms": 12.5})
    file = tmp_path / "policy-killed.jsonl"
    file.write_text(file.read_text() + '{"number": 3, "hold')
    again = Repetitions(tmp_path, "policy killed")
    assert [entry["number"] for entry in again.read()] == [0, 1, 2]
    again.add({"number": 3})
    assert [entry["number"] for entry in Repetitions(tmp_path, "policy killed").read()] == [0, 1, 2, 3]
    assert Repetitions(tmp_path, "policy stopped").read() == []


def test_every_repetition_names_its_code(tmp_path: Path) -> None:
    assert made_with(tmp_path) == ""
    for case in ("policy killed", "policy stopped"):
        Repetitions(tmp_path, case).add({"number": 0})
    assert made_with(tmp_path) == code()
    (tmp_path / "older.jsonl").write_text('{"number": 0, "code": "robot_stack 0, commit a"}\n')
    assert made_with(tmp_path) == f"{code()}: 2; robot_stack 0, commit a: 1"


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantile(list(range(1, 101)), 0.99) == 99
    assert quantile([5.0, 1.0], 0.5) == 1.0
    assert quantile([5.0, 1.0, 3.0], 1.0) == 5.0


def test_tables() -> None:
    assert list(table(("a", "b"), [("1", "x|y")])) == ["| a | b |", "|---|---|", "| 1 | x/y |"]
    with pytest.raises(ValueError, match="a row of 1 cells"):
        list(table(("a", "b"), [("1",)]))
    assert rate(20, 20).startswith("20 of 20, 100.0 [83.9, 100.0]")
    assert rate(0, 0) == "none"


def entry(hold_ms: float, rested: bool = True, **more: object) -> dict[str, object]:
    whole = {"hold_ms": hold_ms, "rested": rested, "stop_ms": 150.0, "velocity": 0.5, "acceleration": 0.99}
    return whole | {"blind": 0, "commands": 100} | more


def test_the_page_tells_hits_from_misses(tmp_path: Path) -> None:
    by_name = {case.name: case for case in CASES}
    assert len(by_name) == len(CASES), "two cases of one name would share a file"
    found = [entry(100.0), entry(250.0), entry(120.0, rested=False), {"failed": "the arm does not move.\nMore"}]
    for number, repetition in enumerate(found):
        Repetitions(tmp_path, "tool pose silent").add({"number": number, **repetition})
    Repetitions(tmp_path, "joint states in another order").add(entry(0.0, rested=False, blind=2))
    Repetitions(tmp_path, "clock leaps by 5000 ms").add(entry(0.0, rested=False, step=1.5))
    page = "\n".join(faults.page(tmp_path))
    assert f"Made with {code()}." in page
    assert "| tool pose silent | 200 | 1 of 4, 25.0 " in page and "| 100 | 250 | 250 | 150 to 150 |" in page
    assert "| joint states in another order | motion goes on | 1 of 1" in page
    assert "| clock leaps by 5000 ms | no step | 0 of 1" in page and "| 1.50 |" in page
    assert "In all 5 repetitions, 500 commands" in page and "had expired: 2." in page
    assert "brought up anew: 1." in page and "tool pose silent: the arm does not move." in page
