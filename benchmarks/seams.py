"""Seams between chunks under inference that is slow, uneven and cold at first: what curve the arm is commanded along."""

import itertools
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.cell import Cell, running_cell
from benchmarks.cell_processes import CellSetup
from benchmarks.measuring import Repetition, Repetitions, load, quantile, rate, table
from benchmarks.scripted_policy import Script
from benchmarks.stopping import STILL, curve_extremes
from benchmarks.wire import commands_of, curve_of, wait_until
from robot_stack.core.errors import ProphRLError
from robot_stack.core.execution import ExecutionMode
from robot_stack.ros import topics

NAME = "chunk seams"
LATENCIES_MS = ((0, 0), (100, 50), (200, 100), (350, 150), (500, 200))  # mean and jitter
COLD_MS = 1000
SECONDS = 20.0
REPETITIONS = 3
REFILL, PREFIX = 20, 20  # targets of 50 ms: one second, which covers an inference
ROUND_OFF = 1e-3


@dataclass(frozen=True)
class Setting:
    """One way to be slow, and one way to execute chunks."""

    mode: ExecutionMode
    latency_ms: int
    jitter_ms: int

    @property
    def name(self) -> str:
        return f"{self.mode.value} {self.latency_ms} ms"

    def cell(self, folder: Path, seed: int) -> CellSetup:
        """The cell for one repetition."""
        script = Script(50, self.latency_ms, self.jitter_ms, COLD_MS, seed)
        execution = {"execution": self.mode.value, "refill": REFILL}
        policy = {"prefix": PREFIX} if self.mode is ExecutionMode.REAL_TIME_CHUNKING else {}
        return CellSetup(folder, script=script, execution=execution, policy=policy, relays=False)


SETTINGS = tuple(Setting(mode, *latency) for mode, latency in itertools.product(ExecutionMode, LATENCIES_MS))


def make(work: Path, quick: bool) -> None:
    """Make the repetitions that are missing."""
    settings = (
        [s for s in SETTINGS if s.latency_ms in (100, 500) and s.mode is not ExecutionMode.SYNCHRONOUS] if quick else SETTINGS
    )
    todo = [
        (setting, seed)
        for setting in settings
        for seed in range(len(Repetitions(work, _file(setting)).read()), 1 if quick else REPETITIONS)
    ]
    for setting, seed in tqdm(todo, desc=NAME, unit="run", file=sys.stderr):
        try:
            with running_cell(setting.cell(work / "cells" / "seams", seed)) as cell:
                found = measure(cell, SECONDS / 2 if quick else SECONDS)
        except ProphRLError as error:
            found = {"failed": str(error)}
        Repetitions(work, _file(setting)).add({"seed": seed, **found})


def measure(cell: Cell, seconds: float) -> Repetition:
    """Follow the policy for a while."""
    wait_until(lambda: cell.commanded_speed() > STILL, "motion")
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        time.sleep(0.2)
        cell.children.check()
    commands = commands_of(cell.wire, cell.arm_topic)
    joints = commands.velocities.shape[1]
    limits = cell.spec.max_velocity[:joints], cell.spec.max_acceleration[:joints]
    extremes = curve_extremes(curve_of(cell.wire, cell.arm_topic), *limits)
    speed = np.abs(commands.velocities).max(axis=1)
    rests = int(((speed[1:] <= STILL) & (speed[:-1] > STILL)).sum())
    way = float(np.linalg.norm(commands.velocities, axis=1).sum() / cell.spec.command_rate_hz)
    chunks = cell.wire.count(topics.ACTION_CHUNK)
    largest = {"velocity": round(extremes.velocity, 4), "acceleration": round(extremes.acceleration, 4)}
    return {"chunks": chunks, "commands": len(speed), "rests": rests, "way_rad": round(way, 3), **largest, "load": load()}


def page(work: Path) -> Iterable[str]:
    """Lines of the results page."""
    rows = [row(setting, found) for setting in SETTINGS for found in [_good(work, setting)] if found]
    if not rows:
        return
    yield "## Seams between chunks"
    yield ""
    yield "A chunk is 50 targets of 50 ms. Inference takes the time that is given, evenly spread by its jitter, and"
    yield f"{COLD_MS} ms more at first. The curve is the one that the arm's controller interpolates; wanted: within the limits"
    yield "of velocity and acceleration everywhere. A rest is a standstill that the arm was commanded to because nothing was"
    yield f"known to go on with. A chunk is asked for when {REFILL} targets wait."
    yield ""
    header = (
        "execution",
        "inference, ms",
        "chunks",
        "within the limits",
        "velocity",
        "acceleration",
        "rests a minute",
        "rad a minute",
    )
    yield from table(header, rows)
    yield ""
    failed = [e for setting in SETTINGS for e in Repetitions(work, _file(setting)).read() if "failed" in e]
    if failed:
        yield f"{len(failed)} runs failed: {failed[0]['failed'].splitlines()[0]}"
        yield ""


def row(setting: Setting, found: Sequence[Repetition]) -> tuple[str, ...]:
    """One line of the table; velocity and acceleration in % of the limit."""
    within = sum(within_limits(entry) for entry in found)
    minutes = sum(entry["commands"] for entry in found) / 6000
    fastest, hardest = (f"{100 * quantile([e[key] for e in found], 1.0):.1f} %" for key in ("velocity", "acceleration"))
    chunks, rests, way = (sum(entry[key] for entry in found) for key in ("chunks", "rests", "way_rad"))
    inference = f"{setting.latency_ms} ± {setting.jitter_ms}"
    return (
        setting.mode.value,
        inference,
        str(chunks),
        rate(within, len(found)),
        fastest,
        hardest,
        f"{rests / minutes:.1f}",
        f"{way / minutes:.1f}",
    )


def within_limits(entry: Repetition) -> bool:
    return max(entry["velocity"], entry["acceleration"]) <= 1 + ROUND_OFF


def figures(work: Path) -> dict[str, Any]:
    """Everything that was measured."""
    return {setting.name: Repetitions(work, _file(setting)).read() for setting in SETTINGS}


def _file(setting: Setting) -> str:
    return f"seams {setting.name}"


def _good(work: Path, setting: Setting) -> list[Repetition]:
    return [entry for entry in Repetitions(work, _file(setting)).read() if "failed" not in entry]
