"""Rows of studies: made once, kept whole, with the columns that come later."""

import argparse
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import ablation, bridge, contact, few_shot, perturbed, picture_size, regression
from benchmarks.cells import CODE, MACHINE, Rows, figure, made_on, run_study, study_options
from benchmarks.measuring import machine
from benchmarks.prophet_cell import flat, mean_and_range
from benchmarks.study_data import mixed
from robot_stack.core.errors import BadFileError
from tests.world_model.conftest import square_episode

CELLS = [{"task": task, "seed": seed} for task in ("a", "b") for seed in (0, 1)]


def measure(folder: Path, cell) -> dict[str, float | int | str | None]:
    (folder / f"{cell['task']}-{cell['seed']}").touch(exist_ok=False)  # a row that is made twice fails here
    return {"error": 0.123456789, "count": 7, "note": "x", "nothing": None}


def options_of(folder: Path) -> argparse.Namespace:
    return study_options("study", None, seeds=1).parse_args(["--out", str(folder / "study.md")])


def page_of(rows) -> list[str]:
    return [f"{len(rows)} rows"]


def test_each_row_is_made_once_and_the_rest_goes_on(tmp_path):
    rows = Rows(tmp_path / "study.csv", ("task", "seed"))
    rows.add(CELLS[0], {"error": 1.0})
    run_study(options_of(tmp_path), ("task", "seed"), CELLS, partial(measure, tmp_path), page_of)
    found = rows.read()
    assert sorted((row["task"], row["seed"]) for row in found) == [("a", "0"), ("a", "1"), ("b", "0"), ("b", "1")]
    assert list(found[0])[:2] == ["task", "seed"] and list(found[0])[-1] == CODE
    assert figure(found[0], "error") == 1.0 and found[0]["note"] == ""
    assert {(row["error"], row["count"], row["note"], row["nothing"]) for row in found[1:]} == {("0.12346", "7", "x", "")}
    run_study(options_of(tmp_path), ("task", "seed"), CELLS, partial(measure, tmp_path), page_of)
    assert len(rows.read()) == 4
    assert (tmp_path / "study.md").read_text() == "4 rows\n"
    assert not list(tmp_path.glob("*.tmp"))


def fail_one(cell) -> dict[str, float | int | str | None]:
    if cell == CELLS[0]:
        raise ValueError("no such thing")
    return {"error": 1.0}


def test_a_row_that_fails_is_named_and_costs_no_other_row(tmp_path):
    rows = Rows(tmp_path / "study.csv", ("task", "seed"))
    with pytest.raises(ExceptionGroup, match="1 of 2 rows failed") as caught:
        run_study(options_of(tmp_path), ("task", "seed"), CELLS[:2], fail_one, page_of)
    assert caught.value.exceptions[0].__notes__ == ["in the row of {'task': 'a', 'seed': 0}"]
    assert [rows.done(cell) for cell in CELLS[:2]] == [False, True]
    assert (tmp_path / "study.md").read_text() == "1 rows\n\n1 of 2 rows are still to be made.\n"


def failing_page(rows) -> list[str]:
    raise ModuleNotFoundError("No module named 'matplotlib'")


def test_a_page_that_cannot_be_written_is_told_before_the_work(tmp_path):
    with pytest.raises(ModuleNotFoundError):
        run_study(options_of(tmp_path), ("task", "seed"), CELLS, partial(measure, tmp_path), failing_page)
    assert not list(tmp_path.iterdir())


def page_that_fails_later(rows) -> list[str]:
    if rows:
        raise OSError("no space left")
    return []


def test_an_error_while_rows_are_made_cancels_those_that_nobody_would_write_down(tmp_path):
    options = study_options("study", None, seeds=1).parse_args(["--out", str(tmp_path / "study.md"), "--jobs", "1"])
    cells = [{"task": "a", "seed": seed} for seed in range(40)]
    with pytest.raises(OSError, match="no space left"):
        run_study(options, ("task", "seed"), cells, partial(measure, tmp_path), page_that_fails_later)
    assert len(Rows(tmp_path / "study.csv", ("task", "seed")).read()) == 1
    assert len(list(tmp_path.glob("a-*"))) < 10


def test_a_file_of_another_study_is_refused(tmp_path):
    (tmp_path / "study.csv").write_text("other,columns\n1,2\n")
    with pytest.raises(BadFileError, match="task"):
        Rows(tmp_path / "study.csv", ("task",)).read()


def test_missing_figures_are_not_numbers_and_means_leave_them_out():
    assert figure({"a": ""}, "a") != figure({"a": ""}, "a")
    assert mean_and_range([1.0, float("nan"), 3.0]) == "2.00 (1.00 to 3.00)"
    assert mean_and_range([1.5]) == "1.50"
    assert mean_and_range([float("nan")]) == "-"
    assert flat({"a": {"b": 1.0, "c": {"d": 2}}, "e": "x"}) == {"a_b": 1.0, "a_c_d": 2, "e": "x"}


def test_few_episodes_are_among_the_many_of_the_same_draw():
    episodes = [square_episode(seed) for seed in range(12)]
    few, many = (mixed(episodes, count, seed=3) for count in (4, 9))
    assert [e.name for e in few] == [e.name for e in many[:4]]
    assert {e.name for e in mixed(episodes, 4, seed=4)} != {e.name for e in few}


def rows_of(keys: dict[str, str], **figures: float) -> dict[str, str]:
    return keys | {name: str(value) for name, value in figures.items()}


def test_page_of_few_episodes_says_where_ten_beat_fifty():
    rows = []
    for task, better in (("push-v3", True), ("door-lock-v3", False)):
        for size, start, good in ((10, few_shot.LORA, better), (50, few_shot.SCRATCH, not better)):
            figures = {name: (0.1 if name.startswith("epe") else 9.0) if good else 0.5 for name in few_shot.MEASURES}
            rows.append(rows_of({"task": task, "episodes": str(size), "start": start, "seed": "0"}, **figures))
    page = "\n".join(few_shot.page(rows, steps=5))
    assert "- push-v3: better in EPE 8, EPE 25, cos 8, cos 25, PSNR 8, PSNR 25; worse in nothing" in page
    assert "- door-lock-v3: better in nothing; worse in EPE 8, EPE 25" in page


@pytest.mark.parametrize("study", [ablation, bridge, contact, few_shot, perturbed, picture_size, regression])
def test_there_is_a_page_before_the_first_row(study):
    assert next(iter(study.page([], 5))).startswith("# ")


def test_few_shot_draws_what_there_is(tmp_path):
    few_shot.draw([], tmp_path / "none.png")
    few_shot.draw(
        [rows_of({"task": "push-v3", "episodes": "5", "start": few_shot.LORA}, epe_moving_25=0.4)], tmp_path / "one.png"
    )
    for name in ("none.png", "one.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size[1] > 200


def test_few_shot_has_every_cell_that_is_wanted():
    cells = few_shot.cells(seeds=2)
    assert len({tuple(cell.values()) for cell in cells}) == len(cells)
    for task in few_shot.TASKS:
        for start in (few_shot.LORA, few_shot.SCRATCH):
            sizes = {c["episodes"] for c in cells if c["task"] == task and c["start"] == start and c["seed"] == 1}
            assert sizes == {5, 10, 25, 50}
    assert {c["task"] for c in cells if c["start"] == few_shot.FULL} == {few_shot.FULL_TASK}


def test_page_of_the_real_robot_compares_fold_by_fold():
    rows = []
    for fold in range(3):
        for start, epe in ((bridge.ADAPTED, 0.3), (bridge.BEFORE, 0.5), (bridge.SCRATCH, 0.2 if fold == 0 else 0.6)):
            figures = {name: epe if name.startswith("epe") else 1.0 - epe for name in bridge.MEASURES}
            figures |= {bridge.copy_of(name): 0.8 if name.startswith("epe") else 0.0 for name in bridge.MEASURES}
            for seed, shift in (("0", 0.05), ("1", -0.05)):  # trainings of a fold count once
                moved = {name: value + shift for name, value in figures.items()}
                rows.append(rows_of({"fold": str(fold), "start": start, "seed": seed, "clip": "all"}, **moved))
    page = "\n".join(bridge.page(rows, folds=3))
    assert "- copy: PSNR [dB] 0.7 [0.7, 0.7], better in 3 of 3; EPE, all pixels -0.5 [-0.5, -0.5], better in 3 of 3" in page
    assert "- from nothing: PSNR [dB] 0.1667 [-0.407, 0.7404], better in 2 of 3" in page
    assert bridge.copy_of("epe_moving_last") == "epe_moving_copy_last"


def test_other_pages_have_a_line_for_every_kind_that_was_run():
    page = "\n".join(
        ablation.page([rows_of({"variant": "without history", "seed": "0"}, **dict.fromkeys(ablation.MEASURES, 0.25))], 10)
    )
    assert f"| without history | {' | '.join(['0.25'] * len(ablation.MEASURES))} |" in page
    figures = {f"{kind}_{name}": 0.25 if kind == "seeing" else 0.75 for kind in contact.TESTED for name in contact.MEASURES}
    figures |= {f"{kind}_successes": 40 for kind in contact.TESTED}
    page = "\n".join(contact.page([rows_of({"task": "push-v3", "remedy": "before", "seed": "0"}, **figures)], 10))
    for value in ("0.25", "0.75"):
        assert f"| before | {' | '.join([value] * len(contact.MEASURES))} |" in page
    keys = {"task": "push-v3", "family": "regression", "steps": "1", "seed": "0"}
    page = "\n".join(regression.page([rows_of(keys, **dict.fromkeys(regression.MEASURES, 0.5))], 10))
    assert "| push-v3 | regression | 1 | 0.50" in page


def test_rows_say_on_which_machine_they_were_made(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.csv", ["seed"])
    rows.add({"seed": 0}, {"psnr": 1.0})
    [row] = rows.read()
    assert row[MACHINE] == made_on([row]) == machine()
    assert made_on([row, row, row | {MACHINE: "a GPU"}]) == f"{machine()}: 2 rows; a GPU: 1 rows"
