"""The demo with several seeds, and ``docs/results/closed-loop.md`` from what they left: `python -m benchmarks.five_seeds`.

Runs that have finished are not run again; each run continues where it was interrupted.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from robot_stack.core.statistics import Interval, mean_interval
from robot_stack.loop import clock
from robot_stack.report_data import Outcome, RunFiles
from robot_stack.run_dir import run_dir
from robot_stack.stages import code_version

POLICIES = {
    "sft": "SFT",
    "filtered-bc-first": "filtered BC, round 0",
    "filtered-bc": "filtered BC",
    "rl": "RL in Prophet",
}
WANTED_POINTS, WANTED_RUNS = 15.0, 4  # mean gain, and runs whose interval lies above 0
RUNS = 5
SHOWN = re.compile(
    r"episodes|threshold|(video )(psnr|psnr_copy|epe_moving|cos)_(1|8|25)|autoencoder .*"
    r"|(judge |)(true|real|imagined) (successes|precision|recall|auc)"
)  # of the figures of world model and judge
NEAR_POINTS = 5.0  # between the direct evaluation and the one through ROS and ONNX


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.five_seeds", description=__doc__)
    parser.add_argument("--seeds", type=int, default=RUNS, help="runs, with the seeds 0, 1, ... (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time (default: %(default)s)")
    parser.add_argument("--recipe", default="demo", help="as for `prophrl loop` (default: %(default)s)")
    parser.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/closed-loop.md"), help="(default: %(default)s)")
    parser.add_argument("--table-only", action="store_true", help="of the runs that are there; run nothing")
    options = parser.parse_args(argv)
    names = [f"{options.recipe}-seed-{seed}" for seed in range(options.seeds)]
    if not options.table_only:
        with ThreadPoolExecutor(options.jobs) as pool:
            failed = [name for name, status in zip(names, pool.map(lambda n: _run(n, options), names), strict=True) if status]
        if failed:
            print(f"did not finish: {', '.join(failed)}; the same command continues them", file=sys.stderr)
            return 1
    runs = [RunFiles(run_dir(name, options.runs)) for name in names if run_dir(name, options.runs).is_dir()]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(page(runs)) + "\n", encoding="utf-8")
    print(options.out)
    return 0


def _run(name: str, options: argparse.Namespace) -> int:
    seed = name.rpartition("-")[2]
    command = [sys.executable, "-m", "robot_stack.cli", "loop", "--name", name, "--seed", seed]
    command += ["--recipe", options.recipe, "--runs", options.runs]
    if options.jobs > 1:
        command.append("threads=1")  # the runs have the cores to share
    return subprocess.run(command, check=False).returncode


def page(runs: Sequence[RunFiles]) -> Iterable[str]:
    """The lines of the results page."""
    yield "# The closed loop, measured"
    yield ""
    yield f"Written by `python -m benchmarks.five_seeds`. {_machine()}."
    yield ""
    yield "## Success"
    yield ""
    yield from success_table(runs)
    yield ""
    yield "## Stage times (min:s) and peak memory"
    yield ""
    yield from times(runs)
    yield ""
    yield "## The world model and the judge"
    yield ""
    yield "On episodes that the world model was not trained on, by frames ahead; `copy` repeats the last frame that was given."
    yield ""
    yield from world_model(runs)


def success_table(runs: Sequence[RunFiles]) -> Iterable[str]:
    """Success of each policy, the paired difference, the gap between ROS and direct, and the verdict on the targets."""
    yield "Success in the true simulator in %, with Wilson 95 % intervals; one set of unseen starts a row; paired difference."
    yield "Filtered BC imitates the successes among the same true episodes; those of round 1 are by the policy that practised,"
    yield "and with those of round 0 alone it has nothing from RL."
    yield ""
    yield "| run | " + " | ".join(POLICIES.values()) + " | RL - SFT | ROS + ONNX: SFT | ROS + ONNX: RL |"
    yield "|---" * (len(POLICIES) + 4) + "|"
    gains: list[Interval] = []
    rivals: list[Interval] = []
    gaps: list[float] = []
    for run in runs:
        direct = {key: run.outcome(f"evaluate-{key}") for key in POLICIES}
        robot = {key: run.outcome(f"deploy-{key}") for key in ("sft", "rl")}
        cells = [_rate(direct[key]) for key in POLICIES]
        if direct["sft"] and direct["rl"]:
            gains.append(direct["rl"].minus(direct["sft"]).difference)
            cells.append(str(gains[-1]))
        else:
            cells.append("not run")
        if direct["sft"] and direct["filtered-bc"]:
            rivals.append(direct["filtered-bc"].minus(direct["sft"]).difference)
        for key in ("sft", "rl"):
            on_robot, on_simulator = robot[key], direct[key]
            cells.append(_rate(on_robot))
            if on_robot and on_simulator:
                gaps.append(100 * on_robot.minus(on_simulator).difference.estimate)
        yield f"| {run.run.name} | {' | '.join(cells)} |"
    yield ""
    yield "True episodes that each policy needed, those by which its checkpoint was chosen among them:"
    yield ""
    yield "| run | " + " | ".join(POLICIES.values()) + " |"
    yield "|---" * (len(POLICIES) + 1) + "|"
    for run in runs:
        yield f"| {run.run.name} | {' | '.join(str(sum(run.true_episodes(key).values())) for key in POLICIES)} |"
    yield ""
    yield from verdict(gains, rivals, gaps)


def verdict(gains: Sequence[Interval], rivals: Sequence[Interval], gaps: Sequence[float]) -> Iterable[str]:
    """What was wanted and whether it was reached."""
    if gains:
        mean = 100 * sum(gain.estimate for gain in gains) / len(gains)
        above = sum(gain.lower > 0 for gain in gains)
        met = _word(mean >= WANTED_POINTS and above >= WANTED_RUNS) if len(gains) >= RUNS else f"Open, {RUNS} runs are needed"
        yield f"- Gain of RL over SFT: mean {mean:+.1f} points{_spread(gains)}."
        yield f"  The paired interval lies above 0 in {above} of {len(gains)} runs."
        yield f"  Wanted: at least {WANTED_POINTS:.0f} points, and {WANTED_RUNS} runs of {RUNS}. **{met}.**"
    if rivals:
        mean = 100 * sum(rival.estimate for rival in rivals) / len(rivals)
        yield f"- Filtered behaviour cloning over SFT, on the same episodes: mean {mean:+.1f} points{_spread(rivals)}."
    if gaps:
        widest = max(gaps, key=abs)
        yield f"- Through ROS and ONNX minus direct, on the same starts: widest {widest:+.1f} points."
        yield f"  Wanted: within {NEAR_POINTS:.0f}. **{_word(abs(widest) <= NEAR_POINTS)}.**"


def _spread(gains: Sequence[Interval]) -> str:
    if len(gains) < 2:
        return ""
    over_runs = mean_interval([gain.estimate for gain in gains])
    return f", 95 % interval over runs {100 * over_runs.lower:+.1f} to {100 * over_runs.upper:+.1f}"


def _word(reached: bool) -> str:
    return "Reached" if reached else "Missed"


def times(runs: Sequence[RunFiles]) -> Iterable[str]:
    """Seconds of each stage in each run."""
    yield "| round | stage | " + " | ".join(run.run.name for run in runs) + " | memory |"
    yield "|---" * (len(runs) + 3) + "|"
    stages = dict.fromkeys((m.round_index, m.stage) for run in runs for m in run.manifests)
    found = [{(m.round_index, m.stage): m for m in run.manifests} for run in runs]
    for round_index, stage in stages:
        manifests = [by_stage.get((round_index, stage)) for by_stage in found]
        memory = max(manifest.peak_memory for manifest in manifests if manifest)
        cells = [clock(manifest.seconds) if manifest else "" for manifest in manifests]
        yield f"| {round_index} | {stage} | {' | '.join(cells)} | {memory / 2**20:.0f} MiB |"
    totals = [clock(sum(m.seconds for m in run.manifests)) for run in runs]
    peak = max(m.peak_memory for run in runs for m in run.manifests)
    yield f"| | **all** | {' | '.join(totals)} | {peak / 2**20:.0f} MiB |"
    yield f"| | threads | {' | '.join(_threads(run) for run in runs)} | |"
    yield ""
    yield "A run with one thread shared the cores with another one."


def _threads(run: RunFiles) -> str:
    """Threads of its learning stages."""
    configurations = [manifest.configuration or {} for manifest in run.manifests]
    found = {str(configuration["threads"]) for configuration in configurations if "threads" in configuration}
    return " or ".join(sorted(found))


def world_model(runs: Sequence[RunFiles]) -> Iterable[str]:
    """The main figures of Prophet and of the judge, a column for each run; all of them are in the runs' reports."""
    for stage in ("evaluate-world-model", "train-judge"):
        columns = [dict(_shown(manifest.figures)) if (manifest := run.last(stage)) else {} for run in runs]
        names = dict.fromkeys(name for column in columns for name in column)
        if not names:
            continue
        yield f"`{stage}`, last round:"
        yield ""
        yield "| figure | " + " | ".join(run.run.name for run in runs) + " |"
        yield "|---" * (len(runs) + 1) + "|"
        yield from (f"| {name} | {' | '.join(column.get(name, '') for column in columns)} |" for name in names)
        yield ""


def _shown(figures: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    return (entry for entry in _flat(figures) if SHOWN.fullmatch(entry[0]))


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)


def _rate(outcome: Outcome | None) -> str:
    return "not run" if outcome is None else f"{outcome.interval} ({len(outcome.success)})"


def _machine() -> str:
    code = ", ".join(f"{name} {version}" for name, version in code_version().items())
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; {code}"


if __name__ == "__main__":
    sys.exit(main())
