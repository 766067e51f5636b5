"""What the correlation of exploration noise is worth, in the true simulator: `python -m benchmarks.exploration RUN...`.

From the imitation policy of each finished run, GRPO practises in the true simulator itself, so that no world model has a part
in it, with independent noise and with noise that hangs together; the last policy is evaluated on the run's unseen starts.
Writes ``docs/results/exploration.md``. Where it was interrupted, the same command continues.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from robot_stack.core.errors import BadFileError
from robot_stack.core.statistics import Interval, mean_interval
from robot_stack.report_data import Outcome, RunFiles, read_outcome

VARIANTS = {
    "independent": ("rl.rollout.noise.chunk=0", "rl.rollout.noise.episode=0"),
    "a chunk in common": ("rl.rollout.noise.chunk=0.8", "rl.rollout.noise.episode=0"),
    "as configured": (),
}
KEPT = ("task=", "robot=", "seed=", "task.seeds.")  # of the arguments of a run's own evaluation


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploration", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs, e.g. runs/demo-seed-0")
    parser.add_argument("--updates", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/exploration"), help="folder of the policies")
    parser.add_argument("--out", type=Path, default=Path("docs/results/exploration.md"), help="(default: %(default)s)")
    options = parser.parse_args(argv)
    rows = [row(RunFiles(run), options.updates, options.work) for run in options.runs]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(page(rows, options.updates)) + "\n", encoding="utf-8")
    print(options.out)
    return 0


def row(run: RunFiles, updates: int, work: Path) -> tuple[str, list[Outcome]]:
    """Name of the run, and its outcomes: imitation, then each variant.

    Raises:
        BadFileError: the run has not evaluated its imitation policy.
    """
    evaluation, sft, before = run.last("evaluate-sft"), run.last("train-policy"), run.outcome("evaluate-sft")
    if evaluation is None or sft is None or before is None:
        raise BadFileError(run.run, "holds no evaluation of an imitation policy: finish the run first")
    shared = [argument for argument in evaluation.argv if argument.startswith(KEPT)]
    outcomes = [before]
    for name, overrides in VARIANTS.items():
        policy = work / run.run.name / name.replace(" ", "-")
        practice = ["rl=simulator", f"rl.updates={updates}", f"rl.check_every={updates}", "rl.keep=last", *overrides]
        _prophrl("train-rl", *shared, f"checkpoint.policy={run.folder(sft)}", f"out={policy}", *practice)
        _prophrl("evaluate", *shared, f"checkpoint.policy={policy}", f"out={policy}-evaluated")
        outcomes.append(read_outcome(name, Path(f"{policy}-evaluated")))
    return run.run.name, outcomes


def page(rows: Sequence[tuple[str, Sequence[Outcome]]], updates: int) -> Iterable[str]:
    """The lines of the results page."""
    yield "# Exploration noise, measured in the true simulator"
    yield ""
    yield "Written by `python -m benchmarks.exploration`."
    yield f"Success in % after {updates} updates of GRPO in the true simulator, from the imitation policy of each run, on the"
    yield "run's unseen starts, with Wilson 95 % intervals."
    yield ""
    yield "| run | imitation | " + " | ".join(VARIANTS) + " |"
    yield "|---" * (len(VARIANTS) + 2) + "|"
    for name, outcomes in rows:
        yield f"| {name} | {' | '.join(str(outcome.interval) for outcome in outcomes)} |"
    yield ""
    yield "Against independent noise, paired, with the mean over runs of one seed of practice each:"
    yield ""
    for index, variant in list(enumerate(VARIANTS, start=1))[1:]:
        differences = [outcomes[index].minus(outcomes[1]).difference for _, outcomes in rows]
        listed = ", ".join(str(difference) for difference in differences)
        yield f"- {variant}: {listed}{_mean(differences)}"


def _mean(differences: Sequence[Interval]) -> str:
    if len(differences) < 2:
        return ""
    mean = mean_interval([difference.estimate for difference in differences])
    verdict = "above" if mean.lower > 0 else "below" if mean.upper < 0 else "not distinguishable from"
    return f"; mean {mean} points, {verdict} 0"


def _prophrl(command: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "robot_stack.cli", command, *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
