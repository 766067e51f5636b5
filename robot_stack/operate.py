"""The robot's commands: ``prophrl up``, ``teleop``, ``record`` and ``deploy``."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from robot_stack.bringup import PERSONS, Setup, default_source, default_task
from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.episodes.meta import FINISHED_SUFFIX, current_versions
from robot_stack.paths import robot_file
from robot_stack.ros.node import require_ros
from robot_stack.ros.policies import PolicyAddress, address_of

DEFAULT_TASK = "button-press-topdown-v3"
HORIZON = 30  # ticks, as config/task/*.yaml
ONNX = "onnx:"
ROBOT_HELP = "a robot file in config/robot, or a path to one"
DEVICE_HELP = (
    "keyboard, gamepad (its topic is joy), lerobot:<a device file in config/lerobot, or a path to one> for a teleoperator of "
    "LeRobot, or a script: expert, careless, noisy, random (default: %(default)s)"
)
DEADMAN_HELP = (
    "for a teleoperator of LeRobot: what is held while the arm follows it: keyboard (space), gamepad, feature:<its own>"
)
TAKEOVER_HELP = "with --policy: how a person may take over from it: keyboard, gamepad, or lerobot:<device file>"
CELL_HELP = "cell file of a real robot, as config/cell/example.yaml (default: the environment variable PROPHRL_CELL)"
PRIORITY_HELP = (
    "real-time priority of cameras and policy, below the executor's 10, where inference leaves the processor free (GPU); "
    "default: none"
)
TASK_HELP = f"of the embedded robot (default: {DEFAULT_TASK}); of another one, its name in the episodes"
OUT_HELP = "where the recorder writes (default: %(default)s)"
LOGS_HELP = "where the processes' output goes (default: %(default)s)"


@dataclass(frozen=True)
class Actor:
    """Who moves the arm.

    Attributes:
        setup: what to bring up for it.
        source: its name in the episodes: "expert", "careless", "noisy", "random" or "policy:<hash>".
        policy_hash: "" where it is no policy.
    """

    setup: Setup
    source: str
    policy_hash: str = ""

    @property
    def label(self) -> str:
        """Part of an episode's name."""
        return self.source.replace(":", "-")


def record_main(argv: list[str]) -> int:
    """``prophrl record``: episodes of a behaviour or a policy on a simulated robot, through the ROS nodes, in lock-step."""
    text = "Record episodes on a simulated robot, through the ROS nodes. What is in --out already is not recorded again."
    parser = _parser("record", text)
    parser.add_argument("--behaviour", default="expert", help="expert, careless, noisy, random, or onnx:<exported policy>")
    parser.add_argument(
        "--noise",
        type=float,
        help="of the noisy expert, 1 is full speed (default: 1); or of a policy's sampler, as in practice (default: 0)",
    )
    _episode_arguments(parser, seeds="0:3")
    options = parser.parse_args(argv)
    actor = _actor(options, options.behaviour, options.noise)
    out = Path(options.out)
    missing = [seed for seed in _seeds(options.seeds) if not _log_path(out, actor, seed).exists()]
    if missing:
        setup = replace(actor.setup, record=True, folder=str(out))
        _run(setup, actor, missing, out, lambda _: None)
    print(f"{len(_seeds(options.seeds))} episodes of {actor.source} in {out} ({len(missing)} new)")
    return 0


def deploy_main(argv: list[str]) -> int:
    """``prophrl deploy``: run an exported policy on a simulated robot through the ROS nodes and count its successes."""
    parser = _parser("deploy", "Run an exported policy on a simulated robot, through the ROS nodes, and count its successes.")
    parser.add_argument("--policy", required=True, help="folder that `prophrl export` wrote")
    parser.add_argument("--record", action="store_true", help="record the episodes, too; they then run to their horizon")
    parser.add_argument("--episodes", type=int, help="only the first that many of --seeds")
    _episode_arguments(parser, seeds="10000:10050")
    options = parser.parse_args(argv)
    actor = _actor(options, ONNX + options.policy.removeprefix(ONNX))
    seeds = _seeds(options.seeds)[: options.episodes]
    results = _Results(Path(options.out), actor)
    missing = [seed for seed in seeds if not results.path(seed).exists()]
    if missing:
        setup = replace(actor.setup, record=options.record, folder=options.out, stop_at_success=not options.record)
        _run(setup, actor, missing, Path(options.out), results.keep)
    print(results.write(seeds))
    return 0


def up_main(argv: list[str]) -> int:
    """``prophrl up <robot>``: start a robot's processes and keep them running until ctrl-C."""
    text = "Start a robot's processes; ctrl-C stops them, the source first."
    parser = argparse.ArgumentParser(prog="prophrl up", description=text)
    parser.add_argument("robot", nargs="?", default="sim_metaworld", help=ROBOT_HELP)
    parser.add_argument("--cell", default="", help=CELL_HELP)
    parser.add_argument("--policy", help="folder of an exported policy, or replay:<log of an episode>")
    parser.add_argument("--takeover", default="", help=TAKEOVER_HELP)
    parser.add_argument("--deadman", default="keyboard", help=f"{DEADMAN_HELP} (default: %(default)s)")
    parser.add_argument("--activate", action="store_true", help="let the arm move at once; else it waits for executor/activate")
    parser.add_argument("--realtime-priority", type=int, default=0, help=PRIORITY_HELP)
    parser.add_argument(
        "--behaviour",
        help="expert, careless, noisy, random, keyboard, gamepad (default: expert on sim_metaworld; else nobody moves the arm)",
    )
    parser.add_argument("--task", help=TASK_HELP)
    parser.add_argument("--instruction", default="", help="the task in words, for policies and logs of a real robot")
    parser.add_argument("--out", default="episodes", help=OUT_HELP)
    parser.add_argument("--logs", default="logs", help=LOGS_HELP)
    options = parser.parse_args(argv)
    return _up(_live_setup(options), Path(options.logs), options.activate)


def teleop_main(argv: list[str]) -> int:
    """``prophrl teleop``: drive the arm in real time by hand or a scripted behaviour, until ctrl-C."""
    parser = argparse.ArgumentParser(prog="prophrl teleop", description="Drive the arm in real time, until ctrl-C.")
    parser.add_argument("--robot", default="sim_metaworld", help=ROBOT_HELP)
    parser.add_argument("--cell", default="", help=CELL_HELP)
    parser.add_argument("--device", dest="behaviour", default="keyboard", help=DEVICE_HELP)
    parser.add_argument("--deadman", default="keyboard", help=f"{DEADMAN_HELP} (default: %(default)s)")
    parser.add_argument("--task", help=TASK_HELP)
    parser.add_argument("--instruction", default="", help="the task in words, for policies and logs of a real robot")
    parser.add_argument("--out", default="episodes", help=OUT_HELP)
    parser.add_argument("--logs", default="logs", help=LOGS_HELP)
    options = parser.parse_args(argv)
    return _up(_live_setup(options), Path(options.logs), activate=True)


def _live_setup(options: argparse.Namespace) -> Setup:
    task = default_task(options.robot) if options.task is None else options.task
    facts = {"task": task, "instruction": options.instruction}
    priority = getattr(options, "realtime_priority", 0)
    shared = Setup(robot=options.robot, cell=options.cell, realtime_priority=priority, record=True, folder=options.out, **facts)
    policy = getattr(options, "policy", None)
    if policy:
        device, _, leader = options.takeover.partition(":")
        person = {"takeover": device, "leader": leader, "deadman": options.deadman}
        return replace(shared, source="policy", policy=address_of(policy), **person)
    if options.behaviour is None:
        return replace(shared, source=default_source(options.robot, ""))
    device, _, leader = options.behaviour.partition(":")
    if device in PERSONS:
        return replace(shared, source=device, leader=leader, deadman=getattr(options, "deadman", shared.deadman))
    return replace(shared, source="behaviour", behaviour=options.behaviour)


def _up(setup: Setup, logs: Path, activate: bool) -> int:
    require_ros()
    from robot_stack.ros.episode_runner import running_robot

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with running_robot(setup, logs) as robot:
        print(f"{setup.robot} is up in ROS domain {robot.processes.domain}, output in {logs}/; ctrl-C ends it")
        if activate:
            robot.activate()
        else:
            begin = (
                f"ros2 lifecycle set {robot.source} activate" if robot.source else "publish action_chunk and policy/heartbeat"
            )
            print(f"to move: {begin}, then call executor/activate")
        while not stop.wait(0.5):
            robot.processes.check()
    return 0


def _run(setup: Setup, actor: Actor, seeds: Sequence[int], out: Path, keep: Any) -> None:
    """Episodes of ``seeds`` one after another; ``keep`` is called with each outcome."""
    require_ros()
    from robot_stack.ros.episode_runner import running_robot

    _stop_on_sigterm()
    print(f"starting the robot's processes (output in {out / 'logs'}/)", file=sys.stderr)
    with (
        running_robot(setup, out / "logs") as robot,
        tqdm(total=len(seeds) * setup.horizon, unit="tick", desc=f"{setup.task} ({actor.label})") as bar,
    ):
        successes = 0
        for done, seed in enumerate(seeds, start=1):
            facts = {"name": _log_path(out, actor, seed).name.removesuffix(FINISHED_SUFFIX), "source": actor.source}
            record = {**facts, "task": setup.task, "policy_hash": actor.policy_hash} if setup.record else None
            outcome = robot.run(seed, record, on_tick=bar.update)
            keep(outcome)
            successes += outcome.success
            bar.update(done * setup.horizon - bar.n)
            bar.set_postfix_str(f"{successes}/{done} successful")


def _stop_on_sigterm() -> None:
    """End like ctrl-C, so that the children are stopped in order."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


class _Results:
    """Outcomes of a policy in a folder: one small file for each seed, and ``results.json`` made from them.

    Raises:
        ProphRLError: the folder holds results of something else.
    """

    def __init__(self, out: Path, actor: Actor) -> None:
        self._out = out
        self._folder = out / "outcomes"
        self._policy = actor.setup.policy.removeprefix(ONNX)
        setup = actor.setup
        self._facts = {"policy_hash": actor.policy_hash, "robot": setup.robot, "task": setup.task, "horizon": setup.horizon}
        described = self._folder / "what.json"
        if described.exists():
            found = json.loads(described.read_text(encoding="utf-8"))
            if found != self._facts:
                raise ProphRLError(f"{out} holds results of {found}, asked for are {self._facts}: choose another --out")
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_json(described, self._facts)

    def path(self, seed: int) -> Path:
        return self._folder / f"{seed:06d}.json"

    def keep(self, outcome: Any) -> None:
        entry = {name: getattr(outcome, name) for name in ("seed", "success", "ticks", "first_success")}
        _write_json(self.path(outcome.seed), entry)

    def write(self, seeds: Sequence[int]) -> str:
        """Write ``results.json`` for ``seeds``; returns a line for people."""
        from robot_stack.core.statistics import wilson_interval  # brings scipy, which takes a second to import

        episodes = [json.loads(self.path(seed).read_text(encoding="utf-8")) for seed in seeds]
        rate = wilson_interval(sum(episode["success"] for episode in episodes), len(episodes))
        report = {
            **self._facts,
            "policy": self._policy,
            "count": len(episodes),
            "successes": sum(episode["success"] for episode in episodes),
            "rate": rate.estimate,
            "interval_95": [rate.lower, rate.upper],
            "episodes": episodes,
            "versions": current_versions(),
        }
        _write_json(self._out / "results.json", report)
        successes = f"{report['successes']} of {report['count']} episodes successful"
        return f"{successes}: {rate} % (Wilson 95 %), in {self._out / 'results.json'}"


def _write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _parser(command: str, text: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"prophrl {command}", description=text)
    parser.add_argument("--robot", default="sim_metaworld", help=ROBOT_HELP)
    parser.add_argument("--task", default=DEFAULT_TASK, help="Meta-World task (default: %(default)s)")
    return parser


def _episode_arguments(parser: argparse.ArgumentParser, seeds: str) -> None:
    parser.add_argument("--seeds", default=seeds, help="start seeds A:B, B not included (default: %(default)s)")
    parser.add_argument("--horizon", type=int, default=HORIZON, help="ticks of an episode (default: %(default)s)")
    parser.add_argument("--out", required=True, help="folder of the episodes, the results and the nodes' output (logs/)")


def _seeds(text: str) -> range:
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise ProphRLError(f"--seeds {text}: expected A:B with 0 <= A < B, for example 0:3 for the seeds 0, 1 and 2")
    return range(int(first), int(last))


def _actor(options: argparse.Namespace, name: str, noise: float | None = None) -> Actor:
    """Who ``name`` ("expert", "onnx:<folder>") is, with how much noise; wrong names are refused before anything is started.

    Raises:
        UnknownNameError: no such robot, task or behaviour.
        BadFileError, SpecMismatchError: the policy cannot be used, or not on this robot.
    """
    from robot_stack.drivers.behaviours import BEHAVIOURS
    from robot_stack.drivers.sim_metaworld import task_names

    if options.horizon < 1:
        raise ProphRLError(f"--horizon {options.horizon}: an episode has at least one tick")
    spec = RobotSpec.load(robot_file(options.robot))
    if options.task not in task_names():
        raise UnknownNameError("task", options.task, task_names())
    shared = Setup(robot=options.robot, task=options.task, horizon=options.horizon, lock_step=True)
    if not name.startswith(ONNX):
        if name not in BEHAVIOURS:
            raise UnknownNameError("behaviour", name, [*BEHAVIOURS, "onnx:<folder>"])
        return Actor(replace(shared, source="behaviour", behaviour=name, noise=1.0 if noise is None else noise), name)
    address = PolicyAddress.parse(name)
    policy_hash = address.check(spec)
    setup = replace(shared, source="policy", policy=str(address), exploration=noise or 0.0)
    return Actor(setup, f"policy:{policy_hash[:12]}{f'+noise{noise:g}' if noise else ''}", policy_hash)


def _log_path(out: Path, actor: Actor, seed: int) -> Path:
    return out / f"{actor.setup.task}.{actor.label}.{seed:06d}{FINISHED_SUFFIX}"
