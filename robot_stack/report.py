"""``runs/<name>/report.html``: what a run of the loop achieved, on one page that needs no other file and no network."""

import argparse
import base64
import logging
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any

from robot_stack.charts import Bar, Curve, interval_chart, line_chart, rounded
from robot_stack.core.statistics import Interval
from robot_stack.report_data import Outcome, RunFiles
from robot_stack.run_dir import run_dir
from robot_stack.stages import Manifest

LOG = logging.getLogger(__name__)
LABELS = {
    "sft": "imitation (SFT)",
    "filtered-bc-first": "cloning, round 0",
    "filtered-bc": "filtered cloning",
    "rl": "after RL in Prophet",
}
COLOUR = {"sft": 0, "filtered-bc-first": 1, "filtered-bc": 1, "rl": 2}
VERSIONED = ("torch", "lerobot", "diffusers", "onnxruntime", "mujoco", "metaworld", "ros-jazzy-rclpy", "numpy")
MEDIA_LIMIT = 16 << 20  # bytes of pictures on the page
# Curves that are drawn: stage -> (chart title, x label, names in metrics.csv with their legends)
CURVES: dict[str, list[tuple[str, str, dict[str, str]]]] = {
    "train-policy": [("Imitation: loss", "step", {"loss": "batch", "average_loss": "averaged weights"})],
    "adapt": [
        ("Autoencoder: PSNR [dB]", "step", {"autoencoder/psnr": "training pictures"}),
        (
            "Prophet: error of the next latents",
            "step",
            {"prophet/error": "Prophet", "prophet/error_of_copy": "repeating the last frame"},
        ),
    ],
    "train-judge": [("Judge: accuracy", "step", {"judge/accuracy": "training windows"})],
    "train-rl": [
        (
            "RL: success",
            "update",
            {"imagined_success": "imagined", "true_success": "true", "practice_reward": "reward in practice"},
        ),
        ("RL: distance from the first policy (KL)", "update", {"kl_last": "KL"}),
    ],
}


def main(argv: Sequence[str]) -> int:
    """``prophrl report``: write the report of a run."""
    parser = argparse.ArgumentParser(prog="prophrl report", description="Write report.html of a run.")
    parser.add_argument("--name", default="demo", help="name of the run (default: %(default)s)")
    parser.add_argument("--runs", default="runs", help="folder of all runs (default: %(default)s)")
    arguments = parser.parse_args(argv)
    print(write_report(run_dir(arguments.name, arguments.runs)))
    return 0


def write_report(run: Path) -> Path:
    """Write the report of the run in folder ``run``; returns its path.

    Raises:
        ProphRLError: nothing of the run has finished.
    """
    files = RunFiles(run)
    direct = {key: outcome for key in LABELS if (outcome := files.outcome(f"evaluate-{key}"))}
    robot = {key: outcome for key in ("sft", "rl") if (outcome := files.outcome(f"deploy-{key}"))}
    headline, lead = _headline(direct)
    sections = [
        _success(direct, robot),
        _episodes(files),
        _curves(files),
        _imagination(files),
        _judge(files),
        _stages(files),
        _versions(files),
    ]
    page = Template(Path(__file__).with_name("report_template.html").read_text(encoding="utf-8")).substitute(
        name=escape(run.name),
        task=escape(_task(files)),
        headline=headline,
        lead=lead,
        tiles="".join(_tiles(files, direct, robot)),
        sections="\n".join(section for section in sections if section),
        footer=f"Written by prophrl report from the manifests of {len(files.manifests)} stages.",
    )
    path = run / "report.html"
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def _headline(direct: Mapping[str, Outcome]) -> tuple[str, str]:
    if "sft" not in direct or "rl" not in direct:
        return (
            "The loop has not come to its end yet",
            "This page shows what has finished so far; the same command continues it.",
        )
    before, after = direct["sft"].interval, direct["rl"].interval
    difference = direct["rl"].minus(direct["sft"])
    verdict = (
        "a gain" if difference.difference.lower > 0 else "a loss" if difference.difference.upper < 0 else "no clear change"
    )
    lead = (
        f"Success in the true simulator on the same {difference.count} start seeds, which no training and no choice of a "
        f"checkpoint has seen. Start by start the difference is {_points(difference.difference)}, {verdict}: "
        f"{difference.gained} starts were gained, {difference.lost} lost (exact McNemar p = {difference.p_value:.2g})."
    )
    return f"{_percent(before.estimate)} before, {_percent(after.estimate)} after practising in imagination", lead


def _tiles(files: RunFiles, direct: Mapping[str, Outcome], robot: Mapping[str, Outcome]) -> Iterable[str]:
    if "sft" in direct and "rl" in direct:
        gain = direct["rl"].minus(direct["sft"]).difference
        tone = "good" if gain.lower > 0 else "bad" if gain.upper < 0 else ""
        yield _tile(
            f"{100 * gain.estimate:+.0f}",
            f"points of success, 95 % interval {100 * gain.lower:+.0f} to {100 * gain.upper:+.0f}",
            tone,
        )
    if "rl" in direct and "rl" in robot:
        gap = robot["rl"].interval.estimate - direct["rl"].interval.estimate
        yield _tile(
            _percent(robot["rl"].interval.estimate), f"through ROS and ONNX ({100 * gap:+.0f} to the direct evaluation)"
        )
    yield _tile(str(sum(files.true_episodes().values())), "true episodes used for learning and choosing")
    yield _tile(_clock(sum(manifest.seconds for manifest in files.manifests)), "minutes of computing in all stages")
    yield _tile(f"{max(m.peak_memory for m in files.manifests) / 2**30:.1f} GiB", "memory of the largest stage")


def _success(direct: Mapping[str, Outcome], robot: Mapping[str, Outcome]) -> str:
    if not direct and not robot:
        return ""
    charts = [
        (f"Directly in the simulator, {_count(direct)} starts", direct),
        (f"Through ROS 2 and ONNX, {_count(robot)} episodes", robot),
    ]
    cards = [
        _card(title, interval_chart([_bar(key, outcome) for key, outcome in rows.items()])) for title, rows in charts if rows
    ]
    rows = []
    for key, label in LABELS.items():
        if key in direct and "sft" in direct and key != "sft":
            result = direct[key].minus(direct["sft"])
            rows.append([f"{label} minus SFT", _points(result.difference), result.gained, result.lost, f"{result.p_value:.2g}"])
    if "rl" in direct and "filtered-bc" in direct:
        result = direct["rl"].minus(direct["filtered-bc"])
        rows.append(
            ["RL minus filtered cloning", _points(result.difference), result.gained, result.lost, f"{result.p_value:.2g}"]
        )
    differences = _card("Differences, paired by start", _table(["", "difference", "gained", "lost", "p"], rows)) if rows else ""
    return _section(
        "Success",
        "Whiskers are 95 % intervals (Wilson). Filtered cloning is the honest rival of RL: it imitates the successful episodes "
        "among the same recordings. In later rounds the policy that practised made them; with those of round 0 alone, cloning "
        "has nothing from RL.",
        f'<div class="pair">{"".join(cards)}</div><br>{differences}',
    )


def _episodes(files: RunFiles) -> str:
    used = files.true_episodes()
    rows: list[list[Any]] = [[name, count] for name, count in used.items()]
    rows.append(["all", sum(used.values())])
    return _section(
        "True episodes",
        "Everything that was executed on the robot, or in the true simulator in its place, in order to learn or to choose a "
        "checkpoint. The evaluations reported above are not among them: nothing was learned from those.",
        _card("", _table(["stage", "episodes"], rows)),
    )


def _curves(files: RunFiles) -> str:
    cards = []
    for stage, charts in CURVES.items():
        for manifest in [m for m in files.manifests if m.argv[0] == stage]:
            found = files.curves(manifest)
            for title, x_label, names in charts:
                curves = [
                    Curve(legend, found[name], 2 + i) for i, (name, legend) in enumerate(names.items()) if found.get(name)
                ]
                if curves:
                    bounded = (0.0, 1.0) if "success" in title or "accuracy" in title else None
                    cards.append(
                        _card(
                            f"{title} ({manifest.stage}, round {manifest.round_index})",
                            line_chart(curves, x_label, "", bounded),
                        )
                    )
    return _section("Curves", "How each training went.", f'<div class="pair">{"".join(cards)}</div>') if cards else ""


def _imagination(files: RunFiles) -> str:
    manifest = files.last("evaluate-world-model")
    if manifest is None:
        return ""
    films, size = [], 0
    for path, mime in files.media(manifest):
        size += path.stat().st_size
        if size > MEDIA_LIMIT:
            LOG.warning("report: %s and what follows is left out, the page would grow beyond %d MiB", path, MEDIA_LIMIT >> 20)
            break
        source = f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"
        caption = escape(path.stem.replace("-", " ").replace("_", " "))
        wide = " wide" if path.suffix == ".png" else ""
        shown = (
            f'<video aria-label="{caption}" src="{source}" autoplay loop muted playsinline controls></video>'
            if mime.startswith("video/")
            else f'<img alt="{caption}" src="{source}">'
        )
        films.append(f'<figure class="card{wide}">{shown}<figcaption>{caption}</figcaption></figure>')
    return _section(
        "What Prophet imagines",
        "Episodes that Prophet was never trained on, played again in imagination from their first frame, with their actions.",
        f'<div class="films">{"".join(films)}</div><br>{_card("Figures", _figures_of_imagination(files, manifest))}',
    )


def _figures_of_imagination(files: RunFiles, manifest: Manifest) -> str:
    """The tables that the evaluation printed; of a run without them, its figures."""
    tables = files.folder(manifest) / "figures.txt"
    if not tables.is_file():
        return _figures_table(manifest.figures)
    return f"<pre>{escape(tables.read_text(encoding='utf-8'))}</pre>"


def _judge(files: RunFiles) -> str:
    cards = [_card(f"Round {m.round_index}", _figures_table(m.figures)) for m in files.all_of("train-judge") if m.figures]
    if not cards:
        return ""
    why = "How often its verdict is right (precision) and how many successes it sees (recall), on true and on imagined video."
    return _section("The judge", why, f'<div class="pair">{"".join(cards)}</div>')


def _stages(files: RunFiles) -> str:
    longest = max(manifest.seconds for manifest in files.manifests)
    rows: list[list[Any]] = []
    for manifest in files.manifests:
        share = f'<span class="share" style="width:{max(1, round(150 * manifest.seconds / longest))}px"></span>'
        memory = f"{manifest.peak_memory / 2**20:.0f} MiB"
        rows.append([manifest.round_index, manifest.stage, _clock(manifest.seconds), memory, Raw(share)])
    rows.append(["", "all", _clock(sum(manifest.seconds for manifest in files.manifests)), "", ""])
    return _section(
        "Stages", "Time (min:s) and peak memory of each.", _card("", _table(["round", "stage", "time", "memory", ""], rows))
    )


def _versions(files: RunFiles) -> str:
    codes = {tuple(manifest.code.items()) for manifest in files.manifests}
    rows: list[list[Any]] = [["code", "; ".join(sorted(" ".join(f"{k} {v}" for k, v in code) for code in codes))]]
    rows.append(["python", platform.python_version()])
    rows += [[package, version] for package in VERSIONED if (version := _version(package))]
    rows.append(["machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"])
    return _section("Versions", "", _card("", _table(["", ""], rows)))


class Raw(str):
    """Text that is HTML already."""

    __slots__ = ()


def _section(title: str, why: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p class='why'>{escape(why)}</p>{body}</section>"


def _card(title: str, body: str) -> str:
    return f'<div class="card">{f"<h3>{escape(title)}</h3>" if title else ""}{body}</div>'


def _tile(value: str, meaning: str, tone: str = "") -> str:
    return f'<div class="tile {tone}"><b>{escape(value)}</b><span>{escape(meaning)}</span></div>'


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cell(value: Any, tag: str = "td") -> str:
        number = isinstance(value, int | float)
        text = value if isinstance(value, Raw) else escape(_plain(value))
        return f"<{tag}{' class=n' if number else ''}>{text}</{tag}>"

    columns = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
    names = "".join(
        f"<th{' class=n' if number else ''}>{escape(name)}</th>" for name, number in zip(head, columns, strict=True)
    )
    body = "".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in rows)
    return f"<table>{f'<thead><tr>{names}</tr></thead>' if any(head) else ''}<tbody>{body}</tbody></table>"


def _plain(value: Any) -> str:
    if value is None:
        return "not defined"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figures_table(figures: Mapping[str, Any]) -> str:
    """Figures as rows; groups of figures with the same names, and figures counted in frames ahead, as a matrix."""
    groups = {name: value for name, value in figures.items() if isinstance(value, dict) and not _nested(value)}
    by_names: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for name, group in groups.items():
        by_horizon = _by_horizon(group)
        rows = {f"{name}, {horizon} frames ahead": values for horizon, values in by_horizon.items()} or {name: group}
        for row, values in rows.items():
            by_names.setdefault(tuple(values), {})[row] = values
    matrices = [(names, rows) for names, rows in by_names.items() if len(rows) > 1]
    in_matrix = {row.partition(",")[0] for _, rows in matrices for row in rows}
    plain = [[name, value] for name, value in _flat({k: v for k, v in figures.items() if k not in in_matrix})]
    tables = [
        _table(["", *(name.replace("_", " ") for name in names)], [[row, *values.values()] for row, values in rows.items()])
        for names, rows in matrices
    ]
    return "<br>".join([*tables, *([_table(["", ""], plain)] if plain else [])])


def _nested(value: Mapping[str, Any]) -> bool:
    return any(isinstance(entry, dict | list) for entry in value.values())


def _by_horizon(group: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{"8": {"psnr": ...}} from {"psnr_8": ...}; empty where not every figure is of that kind."""
    split = [name.rpartition("_") for name in group]
    if not split or not all(stem and horizon.isdigit() for stem, _, horizon in split):
        return {}
    table: dict[str, dict[str, Any]] = {}
    for (stem, _, horizon), value in zip(split, group.values(), strict=True):
        table.setdefault(horizon, {})[stem] = value
    return table


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in figures.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _flat(value, f"{label}: ")
        elif isinstance(value, list):
            yield label, ", ".join(map(_plain, value))
        else:
            yield label, value


def _bar(key: str, outcome: Outcome) -> Bar:
    interval = outcome.interval
    return Bar(LABELS[key], 100 * interval.estimate, 100 * interval.lower, 100 * interval.upper, colour=COLOUR[key])


def _count(outcomes: Mapping[str, Outcome]) -> int:
    return max((len(outcome.success) for outcome in outcomes.values()), default=0)


def _task(files: RunFiles) -> str:
    for manifest in files.manifests:
        if isinstance(manifest.configuration, dict) and "task" in manifest.configuration:
            return str(manifest.configuration["task"]["name"])
    return "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _percent(rate: float) -> str:
    return f"{rounded(100 * rate)} %"


def _points(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.1f} points [{100 * interval.lower:+.1f}, {100 * interval.upper:+.1f}]"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
