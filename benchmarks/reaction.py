"""From an observation to the first command that was computed from it: our nodes, and LeRobot's asynchronous inference.

The same robot (``plain_arm``), the same policy function, the same rate, the same length of chunks, a new one asked for when
half of it is left; the time is taken at the robot's end in both, by the mark that each command bears (the stamp of its
observation: of the youngest picture, or when LeRobot read the robot), and the model's time is taken off. One after the other,
in turn, on the same machine.
"""

import functools
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import recording
from benchmarks.cell import activate
from benchmarks.measuring import Repetition, Repetitions, load, quantile, table
from benchmarks.plain_arm import RobotsEnd
from benchmarks.scripted_policy import Script
from benchmarks.wire import Wire, wait_until
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.ros import topics
from robot_stack.ros.episode_runner import own_nodes
from robot_stack.ros.processes import Processes, log_tail, reserved_domain

NAME = "reaction"
RATES_HZ = (30, 100)
MODEL_MS = 30.0
LENGTH = 50
SCRIPT = Script(LENGTH, MODEL_MS, mark=1)
EXTRA_MS = 10.0  # wanted: within one tick and so much
OURS, HURRIED, LEROBOT = "ours", "ours, real-time priority", "LeRobot"
SIDES = (OURS, HURRIED, LEROBOT)
PRIORITY = 5  # of cameras and policy, below the executor's
PORT = 18080
START_S = 60.0  # longest start of LeRobot's server, which imports torch


def make(work: Path, seconds: float, repetitions: int) -> None:
    """Make the repetitions that are missing, ours and LeRobot's in turn."""
    sides: dict[str, Callable[[Path, int, float], RobotsEnd]] = {
        OURS: ours,
        HURRIED: functools.partial(ours, realtime_priority=PRIORITY),
    }
    if missing := [package for package in ("lerobot", "grpc") if importlib.util.find_spec(package) is None]:
        print(
            f"LeRobot is left out, as {', '.join(missing)} is missing: pip install 'robot_stack[train,bench]'", file=sys.stderr
        )
    else:
        sides[LEROBOT] = lerobot
    todo = [(side, rate, number) for number in range(repetitions) for rate in RATES_HZ for side in sides]
    for side, rate, number in tqdm(todo, desc=NAME, unit="run", file=sys.stderr):
        kept = Repetitions(work, f"{NAME} {side} {rate}")
        if number < len(kept.read()):
            continue
        end = sides[side](work / "cells" / f"{NAME}-{side.replace(', ', '-').replace(' ', '-')}", rate, seconds)
        kept.add({"number": number, "load": load(), **facts(end)})


def facts(end: RobotsEnd) -> Repetition:
    """Reactions and ages [ms], and how many commands a second came."""
    spans = [at_ns for at_ns, _ in end.commands]
    seconds = (spans[-1] - spans[0]) / 1e9
    reactions = [round(value, 3) for value in end.reactions_ms(MODEL_MS)]
    ages = end.ages_ms(MODEL_MS)
    quantiles = {"age_p50_ms": round(quantile(ages, 0.5), 2), "age_p99_ms": round(quantile(ages, 0.99), 2)}
    return {"reactions_ms": reactions, "commands_hz": round((len(spans) - 1) / seconds, 2), **quantiles}


def ours(folder: Path, rate_hz: int, seconds: float, realtime_priority: int = 0) -> RobotsEnd:
    """Our processes for a while.

    Raises:
        ProphRLError: one does not work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    robot = recording.prepare(folder, float(rate_hz), float(rate_hz))
    spec = RobotSpec.load(robot)
    priority = {"realtime_priority": realtime_priority}
    nodes = recording.processes(folder, robot, SCRIPT, LENGTH // 2, recorder=False, **priority)
    with reserved_domain() as domain, own_nodes(domain), Processes(nodes, domain, folder / "logs") as children:
        wire = Wire()
        try:
            wire.listen(topics.SENT_ACTION, recording.topics_of(spec)[topics.SENT_ACTION])
            wait_until(lambda: _woken(children, folder), "the policy", START_S)
            activate(wire)
            wait_until(lambda: wire.count(topics.SENT_ACTION) > rate_hz, "commands")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.2)
                children.check()
        finally:
            wire.close()
    return RobotsEnd.read(folder / "robots-end.json")


def _woken(children: Processes, folder: Path) -> bool:
    children.check()
    return "ready" in (folder / "logs" / "policy.log").read_text(encoding="utf-8")


def lerobot(folder: Path, rate_hz: int, seconds: float) -> RobotsEnd:
    """LeRobot's policy server and robot client for a while.

    Raises:
        ProphRLError: one does not work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recording.prepare(folder, float(rate_hz), float(rate_hz))
    notes = folder / "robots-end.json"
    notes.unlink(missing_ok=True)
    _run(folder, "prepare", "policy", str(SCRIPT), str(rate_hz))
    server_log = folder / "server.log"
    with server_log.open("w") as log:
        server = subprocess.Popen(_module("server", str(PORT), str(rate_hz)), **_where(folder), stdout=log, stderr=log)
    try:
        wait_until(lambda: server.poll() is not None or "ready" in server_log.read_text(), "LeRobot's policy server", START_S)
        _run(folder, "client", str(PORT), str(rate_hz), str(seconds), "policy", ".", notes.name)
    finally:
        server.terminate()
        server.wait()
    return RobotsEnd.read(notes)


def _run(folder: Path, module: str, *arguments: str) -> None:
    log = folder / f"{module}.log"
    with log.open("w") as file:
        done = subprocess.run(_module(module, *arguments), **_where(folder), stdout=file, stderr=file, check=False)
    if done.returncode:
        raise ProphRLError(f"LeRobot's {module} ended with status {done.returncode}. Its last output ({log}):\n{log_tail(log)}")


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.lerobot_side.{name}", *arguments]


def _where(folder: Path) -> Mapping[str, Any]:
    """LeRobot writes its logs into the working folder."""
    root = str(Path(__file__).parents[1])
    return {"cwd": folder, "env": {**os.environ, "PYTHONPATH": root, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}}


def page(work: Path) -> Iterable[str]:
    """Lines of the results page."""
    size = f"{recording.WIDTH}x{recording.HEIGHT}"
    yield f"A policy of {MODEL_MS:g} ms with chunks of {LENGTH}; two cameras of {size}. Ours: camera nodes with JPEG, policy"
    yield "and executor as processes over ROS. LeRobot: policy server and robot client over gRPC on this machine, raw pictures"
    yield "that are at hand at once, no other camera work, `latest_only`. The reaction is the age of an observation when the"
    yield "first command from it is sent to the robot, less the model's time; the age is that of every command. An"
    yield "observation is as old as its youngest picture, or as LeRobot's reading of the robot. The executor has real-time"
    yield "priority if it may; in the rows that say so, cameras and policy have it, too"
    yield f"(`realtime_priority: {PRIORITY}`; by default 0)."
    yield ""
    header = ("side", "rate, Hz", "wanted 99 %, ms", "reactions", "median, ms", "99 %, ms", "", "age 99 %, ms", "commands, Hz")
    rows = [row for rate in RATES_HZ for side in SIDES for row in _rows(work, side, rate)]
    yield from table(header, rows)
    yield ""
    for rate in RATES_HZ:
        theirs = _all(Repetitions(work, f"{NAME} {LEROBOT} {rate}").read())
        for side in SIDES[:-1]:
            own = _all(Repetitions(work, f"{NAME} {side} {rate}").read())
            if own and theirs:
                middle, most = (quantile(theirs, q) / quantile(own, q) for q in (0.5, 0.99))
                yield f"- At {rate} Hz LeRobot takes {middle:.2f} times the median of {side}, and {most:.2f} times its 99 %."


def _rows(work: Path, side: str, rate: int) -> Iterable[tuple[str, ...]]:
    found = Repetitions(work, f"{NAME} {side} {rate}").read()
    reactions = _all(found)
    if not reactions:
        return
    wanted, most = 1e3 / rate + EXTRA_MS, quantile(reactions, 0.99)
    verdict = "reached" if most <= wanted else "missed"
    numbers = (f"{quantile(reactions, 0.5):.1f}", f"{most:.1f}")
    ages = max(entry["age_p99_ms"] for entry in found)
    commands = sum(entry["commands_hz"] for entry in found) / len(found)
    yield (side, str(rate), f"{wanted:.0f}", str(len(reactions)), *numbers, verdict, f"{ages:.0f}", f"{commands:.1f}")


def _all(found: Sequence[Repetition]) -> list[float]:
    return [value for entry in found for value in entry["reactions_ms"]]


def figures(work: Path) -> dict[str, Any]:
    """Everything that was measured."""
    names = [f"{side} {rate}" for rate in RATES_HZ for side in SIDES]
    return {name: Repetitions(work, f"{NAME} {name}").read() for name in names}
