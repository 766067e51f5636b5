"""The closed loop as a list of stages: collect, imitate, adapt the world model, practise in it, collect again, redeploy.

The list is data; ``robot_stack.stages`` runs it. At least two rounds are wanted: a policy that practised in the first world
model finds its mistakes and comes to places that no episode showed; only its episodes, recorded and learned from, make the next
world model trustworthy there. Practice goes on from the policy of the round before.
"""

import argparse
import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robot_stack.core.errors import ProphRLError
from robot_stack.paths import config_dir, robot_file
from robot_stack.recipe import Recipe
from robot_stack.run_dir import run_dir, stage_dir
from robot_stack.stages import Manifest, Stage, finished, run_stages

RESOLVER = "learning.hydra_entry:resolved"
LOG = logging.getLogger(__name__)
# Start seeds of runs with different seeds lie apart, within the ranges of config/task. Selection seeds are shared.
SEED_STRIDE = {"demonstrations": 50, "collection": 400, "evaluation": 1000}
RUN_SEEDS = 10


def closed_loop(recipe: Recipe, run: Path, seed: int) -> list[Stage]:
    """All stages of a run, in order."""
    plan = _Plan(recipe, run, seed)

    taught = plan.record("demonstrations", "expert", recipe.demonstrations, purpose="demonstrations")
    demonstrations = plan.convert("demonstrations", [taught])
    sft = plan.learn("train-policy", data=[demonstrations])
    sft_onnx = plan.learn("export", name="export-sft", data=[demonstrations], policy=sft)
    logs = [plan.record(behaviour, behaviour, episodes) for behaviour, episodes in recipe.exploration]
    logs += plan.rollouts("sft", sft_onnx, recipe.sft_rollouts)
    known = first = [demonstrations, plan.convert("collection", logs)]

    world, judge, policy, exported = plan.practise(known, sft, demonstrations)
    for wanted in recipe.refresh:
        plan.round_index += 1
        known = [*known, plan.convert("refresh", plan.rollouts("rl", exported, wanted))]
        world, judge, policy, exported = plan.practise(known, policy, demonstrations, world, reference=sft)

    rivals = {"filtered-bc": known} | ({"filtered-bc-first": first} if recipe.refresh else {})
    cloned = {name: plan.learn("filtered-bc", name=name, data=data, policy=sft) for name, data in rivals.items()}
    for label, candidate in {"sft": sft, **cloned, "rl": policy}.items():
        plan.learn("evaluate", name=f"evaluate-{label}", policy=candidate)
    for label, onnx in (("sft", sft_onnx), ("rl", exported)):
        plan.deploy(f"deploy-{label}", onnx)
    held_out = plan.convert("held-out", [plan.record("held-out", "noisy", recipe.held_out)])
    plan.learn("evaluate-world-model", data=[held_out], world_model=world, judge=judge)
    return plan.stages


class _Plan:
    """Collects stages; each method adds what one step of the loop needs and returns where its result will be."""

    def __init__(self, recipe: Recipe, run: Path, seed: int) -> None:
        self.recipe, self.run, self.seed = recipe, run, seed
        self.round_index = 0
        self.stages: list[Stage] = []
        self._settings = _task_settings(recipe)
        self._collected = 0

    def record(
        self,
        name: str,
        behaviour: str,
        episodes: int,
        purpose: str = "collection",
        policy: Path | None = None,
        noise: float = 0.0,
    ) -> Path:
        """Record episodes through the robot's processes, each from a start of its own; the folder of logs."""
        first = self.first_seed(purpose)
        if purpose == "collection":
            first, self._collected = first + self._collected, self._collected + episodes
        actor = f"onnx:{policy}" if policy else behaviour
        disturbed = ["--noise", str(noise)] if noise else []
        return self._robot("record", f"record-{name}", ["--behaviour", actor, *_seeds(first, episodes), *disturbed], policy)

    def rollouts(self, name: str, policy: Path, wanted: Sequence[tuple[float, int]]) -> list[Path]:
        """Record episodes of an exported policy at several levels of noise; the folders of logs."""
        return [
            self.record(f"{name}-{number}", "policy", episodes, policy=policy, noise=noise)
            for number, (noise, episodes) in enumerate(wanted)
        ]

    def convert(self, name: str, logs: Sequence[Path]) -> Path:
        """Turn logs into one dataset; its folder."""
        out = self._out(f"convert-{name}")
        self._add(f"convert-{name}", ("convert", *map(str, logs), "--out", str(out)), out, logs)
        return out

    def practise(
        self,
        known: Sequence[Path],
        policy: Path,
        demonstrations: Path,
        world_model: Path | None = None,
        reference: Path | None = None,
    ) -> tuple[Path, Path, Path, Path]:
        """Adapt the world model to all that is known, teach the judge, practise; world model, judge, policy and its export."""
        world = self.learn("adapt", data=known, world_model=world_model)
        judge = self.learn("train-judge", data=known, world_model=world)
        better = self.learn("train-rl", data=known, policy=policy, world_model=world, judge=judge, reference=reference)
        return world, judge, better, self.learn("export", name="export-rl", data=[demonstrations], policy=better)

    def deploy(self, name: str, policy: Path) -> Path:
        """Run an exported policy through the robot's processes on the first seeds of the evaluation; its results."""
        seeds = _seeds(self.first_seed("evaluation"), self.recipe.deploy_episodes)
        return self._robot("deploy", name, ["--policy", str(policy), *seeds], policy)

    def learn(
        self,
        command: str,
        name: str = "",
        data: Sequence[Path] = (),
        policy: Path | None = None,
        world_model: Path | None = None,
        judge: Path | None = None,
        reference: Path | None = None,
    ) -> Path:
        """One learning stage; its output folder."""
        name = name or command
        out = self._out(name)
        checkpoints = {"policy": policy, "world_model": world_model, "judge": judge, "reference": reference}
        given = [f"checkpoint.{key}={path}" for key, path in checkpoints.items() if path]
        seeds = [f"task.seeds.{purpose}={self.first_seed(purpose)}" for purpose in SEED_STRIDE]
        overrides = [
            f"task={self.recipe.task}",
            f"robot={self.recipe.robot}",
            f"seed={self.seed}",
            f"run.name={self.run.name}",
            f"run.dir={self.run}",
            f"run.round={self.round_index}",
            f"out={out}",
            *([f"data=[{','.join(map(str, data))}]"] if data else []),
            *given,
            *seeds,
            *self.recipe.overrides(command, name, self.round_index),
        ]
        inputs = [*data, *(path for path in checkpoints.values() if path)]
        self._add(name, (command, *overrides), out, inputs, RESOLVER)
        return out

    def first_seed(self, purpose: str) -> int:
        """First start seed of this run for ``purpose``."""
        return int(self._settings["task"]["seeds"][purpose]) + SEED_STRIDE[purpose] * (self.seed % RUN_SEEDS)

    def _robot(self, command: str, name: str, arguments: list[str], policy: Path | None) -> Path:
        out = self._out(name)
        common = ["--robot", self.recipe.robot, "--task", self.recipe.task, "--horizon", str(self._settings["task"]["horizon"])]
        inputs = [robot_file(self.recipe.robot), *([policy] if policy else [])]
        self._add(name, (command, *common, *arguments, "--out", str(out)), out, inputs)
        return out

    def _out(self, name: str) -> Path:
        return stage_dir(self.run, self.round_index, name)

    def _add(self, name: str, argv: tuple[str, ...], out: Path, inputs: Sequence[Path], resolver: str = "") -> None:
        self.stages.append(Stage(name, self.round_index, argv, out, tuple(inputs), resolver))


def _seeds(first: int, episodes: int) -> list[str]:
    return ["--seeds", f"{first}:{first + episodes}"]


def _task_settings(recipe: Recipe) -> Any:
    """The task's horizon and seeds, composed by whoever owns the configuration."""
    module, function = RESOLVER.split(":")
    return getattr(importlib.import_module(module), function)([f"task={recipe.task}", f"robot={recipe.robot}"], "loop")


def demo_main(argv: Sequence[str]) -> int:
    """``prophrl demo``: the loop by its default recipe."""
    return main(["--name", "demo", *argv])


def main(argv: Sequence[str]) -> int:
    """``prophrl loop``: run or continue the closed loop and write its report."""
    arguments = _parser().parse_args(argv)
    recipe = Recipe.load(config_dir() / "loop", arguments.recipe).with_overrides(
        arguments.task, arguments.robot, arguments.override
    )
    run = run_dir(arguments.name, arguments.runs)
    stages = closed_loop(recipe, run, arguments.seed)
    if arguments.list:
        print("\n".join(_status(stage, run) for stage in stages))
        return 0
    manifests = run_stages(stages, run)
    print(times_table(manifests))
    report = importlib.import_module("robot_stack.report").write_report(run)
    print(f"\nReport: {report}")
    return 0


def times_table(manifests: Sequence[Manifest]) -> str:
    """Time and peak memory of each stage, as text."""
    width = max(len(manifest.stage) for manifest in manifests)
    lines = [f"{'round':>5}  {'stage':<{width}}  {'time':>8}  {'memory':>9}"]
    for manifest in manifests:
        note = "  (done before)" if manifest.skipped else ""
        memory = f"{manifest.peak_memory / 2**20:.0f} MiB"
        lines.append(f"{manifest.round_index:>5}  {manifest.stage:<{width}}  {clock(manifest.seconds):>8}  {memory:>9}{note}")
    total, peak = sum(manifest.seconds for manifest in manifests), max(manifest.peak_memory for manifest in manifests)
    lines.append(f"{'':>5}  {'all':<{width}}  {clock(total):>8}  {peak / 2**20:.0f} MiB at most".rstrip())
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. "3:07"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _status(stage: Stage, run: Path) -> str:
    try:
        state = "done" if finished(stage, run) else "to do"
    except ProphRLError:  # an input was removed
        state = "to do"
    return f"round {stage.round_index}  {stage.name:<26} {state:<6} prophrl {' '.join(stage.argv)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prophrl loop", description="Run or continue the closed loop and write its report.")
    parser.add_argument("--name", default="default", help="name of the run; the same name continues it (default: %(default)s)")
    parser.add_argument(
        "--recipe", default="demo", help="a file in config/loop, or a path to one of your own (default: %(default)s)"
    )
    parser.add_argument("--task", help="any Meta-World task, instead of the recipe's")
    parser.add_argument("--robot", help="a robot in config/robot or a path to a robot file, instead of the recipe's")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    parser.add_argument("--runs", default="runs", help="folder of all runs (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="show the stages and which are done, run nothing")
    parser.add_argument("override", nargs="*", metavar="key=value", help="settings of the learning stages, e.g. rl.lr=1e-4")
    return parser
