"""The report, from a run whose outcomes are known."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robot_stack.charts import Bar, Curve, interval_chart, line_chart, nice_ticks, rounded
from robot_stack.core.errors import BadFileError, ProphRLError
from robot_stack.report import write_report
from robot_stack.report_data import RunFiles
from robot_stack.run_dir import stage_dir
from robot_stack.stages import Manifest, write_json

STARTS = list(range(10_000, 10_200))


def add(run: Path, stage: str, command: str = "", round_index: int = 1, argv: tuple[str, ...] = (), **figures: Any) -> Path:
    out = stage_dir(run, round_index, stage)
    out.mkdir(parents=True, exist_ok=True)
    moment = f"2026-01-01T00:{len(list(run.rglob('*.manifest.json'))):02d}:00"
    manifest = Manifest(stage, round_index, (command or stage, *argv), "k", {}, None, {}, figures, 61.0, 2 << 30, moment)
    write_json(out.with_name(f"{stage}.manifest.json"), {k: v for k, v in vars(manifest).items() if k != "skipped"})
    return out


def evaluate(run: Path, label: str, successes: int) -> None:
    out = add(run, f"evaluate-{label}", "evaluate")
    success = [index < successes for index in range(len(STARTS))]
    (out / "evaluation.json").write_text(json.dumps({"starts": STARTS, "success": success}))


def deploy(run: Path, label: str, successes: int) -> None:
    out = add(run, f"deploy-{label}", "deploy")
    episodes = [{"seed": seed, "success": index < successes} for index, seed in enumerate(STARTS[:50])]
    (out / "results.json").write_text(json.dumps({"episodes": episodes}))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "known"
    add(folder, "record-noisy", "record", 0, ("--seeds", "1000:1020"))
    evaluate(folder, "sft", 140)
    evaluate(folder, "filtered-bc", 138)
    evaluate(folder, "rl", 190)
    deploy(folder, "sft", 36)
    deploy(folder, "rl", 47)
    rl = add(folder, "train-rl", true_episodes={"selection": 150})
    (rl / "metrics.csv").write_text("step,name,value\n0,true_success,0.7\n5,true_success,0.95\n1,kl_last,0.01\n2,kl_last,nan\n")
    world = add(
        folder, "evaluate-world-model", horizons={"8": {"psnr": 26.1, "copy": 18.6}, "25": {"psnr": 23.4, "copy": 16.4}}
    )
    frames = [Image.fromarray(np.full((16, 32, 3), shade, np.uint8)) for shade in (0, 100, 200)]
    frames[0].save(world / "episode-3.webp", save_all=True, append_images=frames[1:], duration=50)
    (world / "episode-4.mp4").write_bytes(b"a film")
    return folder


def test_the_page_says_what_happened(run: Path) -> None:
    page = write_report(run).read_text()
    assert "<h1>70 % before, 95 % after practising in imagination</h1>" in page
    assert "+25.0 points" in page
    assert "a gain: 50 starts were gained, 0 lost" in page
    assert "94 %" in page  # 47 of 50 through ROS
    assert ">170<" in page  # 20 recorded, 150 for selection
    assert "26.1" in page
    assert "data:image/webp;base64," in page
    assert '<video aria-label="episode 4" src="data:video/mp4;base64,' in page


def test_tables_of_the_evaluation_are_shown_as_they_were_printed(run: Path) -> None:
    folder = stage_dir(run, 1, "evaluate-world-model")
    (folder / "figures.txt").write_text("PSNR (copy)\n26.1 < 30", encoding="utf-8")
    page = write_report(run).read_text()
    assert "<pre>PSNR (copy)\n26.1 &lt; 30</pre>" in page


def test_each_policy_answers_for_the_true_episodes_it_needed(tmp_path: Path) -> None:
    add(tmp_path, "record-demonstrations", "record", 0, ("--seeds", "0:3"))
    add(tmp_path, "train-policy", round_index=0, true_episodes={"selection": 100})
    add(tmp_path, "record-noisy", "record", 0, ("--seeds", "1000:1020"))
    add(tmp_path, "train-rl", round_index=0, true_episodes={"selection": 7})
    add(tmp_path, "filtered-bc", round_index=0, true_episodes={"selection": 40})  # of when the run had one round
    add(tmp_path, "record-rl-0", "record", 1, ("--seeds", "1020:1050"))
    add(tmp_path, "train-rl", round_index=1, true_episodes={"selection": 200})
    add(tmp_path, "filtered-bc", round_index=1, true_episodes={"selection": 60})
    add(tmp_path, "filtered-bc-first", round_index=1, true_episodes={"selection": 50})
    add(tmp_path, "record-held-out", "record", 1, ("--seeds", "1050:1058"))
    files = RunFiles(tmp_path)
    needed = {policy: sum(files.true_episodes(policy).values()) for policy in ("sft", "filtered-bc-first", "filtered-bc", "rl")}
    shared = 3 + 100 + 20
    assert needed == {"sft": 103, "filtered-bc-first": shared + 50, "filtered-bc": shared + 7 + 30 + 60, "rl": shared + 7 + 230}
    assert sum(files.true_episodes().values()) == 3 + 100 + 20 + 7 + 40 + 30 + 200 + 60 + 50 + 8


def test_what_is_not_quite_all_does_not_look_so() -> None:
    assert [rounded(value) for value in (0.0, 0.4, 0.6, 71.5, 99.4, 99.5, 100.0)] == [
        "0",
        "0.4",
        "1",
        "72",
        "99",
        "99.5",
        "100",
    ]


def test_the_page_needs_nothing_else(run: Path) -> None:
    page = write_report(run).read_text()
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert all(link.startswith("data:") for link in links)
    assert "<script" not in page
    assert "$" not in re.sub(r"data:[^\"]+", "", page), "a placeholder was left"


def test_a_loss_is_called_a_loss(run: Path) -> None:
    evaluate(run, "rl", 90)
    page = write_report(run).read_text()
    assert "a loss: 0 starts were gained, 50 lost" in page


def test_an_unfinished_run_has_a_report_too(tmp_path: Path) -> None:
    add(tmp_path / "runs" / "half", "record-noisy", "record", 0, ("--seeds", "1000:1020"))
    assert "has not come to its end yet" in write_report(tmp_path / "runs" / "half").read_text()


def test_nothing_to_report_and_broken_outcomes_are_named(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ProphRLError, match="no finished stage"):
        write_report(tmp_path / "nothing")
    (stage_dir(run, 1, "evaluate-rl") / "evaluation.json").write_text('{"starts": [1, 2], "success": [true]}')
    with pytest.raises(BadFileError, match=r"evaluation\.json: does not hold the outcome"):
        write_report(run)


def test_names_from_outside_are_escaped(run: Path) -> None:
    add(run, "train-judge", note="<img src=x>")
    assert "<img src=x>" not in write_report(run).read_text()


def test_comparison_uses_common_starts_only(run: Path) -> None:
    files = RunFiles(run)
    robot, direct = files.outcome("deploy-rl"), files.outcome("evaluate-rl")
    assert robot is not None
    assert direct is not None
    assert robot.minus(direct).count == 50


def drawn(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def test_bars_are_as_long_as_they_say() -> None:
    chart = drawn(interval_chart([Bar("half", 50, 40, 60), Bar("all", 100, 95, 100)]))
    half, whole = (float(rect.get("width", "")) for rect in chart.iter("rect"))
    assert whole == pytest.approx(2 * half, abs=0.2)


def test_lines_go_where_the_points_are() -> None:
    chart = drawn(line_chart([Curve("a", [(0, 0), (5, 1), (10, 0.5)])], "x", "y", (0, 1)))
    path = next(p.get("d", "") for p in chart.iter("path") if "line" in p.get("class", ""))
    (x0, y0), (x1, y1), (x2, y2) = (tuple(map(float, point.split())) for point in path[1:].split("L"))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 < y2 < y0
    assert y0 - y2 == pytest.approx(y2 - y1, abs=0.2)


def test_a_chart_of_one_point_or_none(capsys: pytest.CaptureFixture[str]) -> None:
    drawn(line_chart([Curve("a", [(3, 2)])], "x", "y"))
    with pytest.raises(ValueError, match="no curve has a point"):
        line_chart([Curve("a", [])], "x", "y")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 100), (-3, 7), (0.001, 0.0042), (0, 1e6)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
