"""``prophrl doctor``: runs the checks and prints what they find."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from robot_stack.bringup import Robot
from robot_stack.core.errors import ProphRLError
from robot_stack.doctor import clocks, devices, live, permissions, robot, storage, system
from robot_stack.doctor.finding import Finding, Findings, Level, fail, ok
from robot_stack.ros.processes import wanted_domain

LIVE_S = 2.0


def main(argv: list[str]) -> int:
    """Look at everything; the exit status is 1 where something fails."""
    parser = argparse.ArgumentParser(
        prog="prophrl doctor", description="What is wrong with this machine, the robot's devices and files, and what to do."
    )
    parser.add_argument("robot", help="a robot file in config/robot, or a path to one")
    parser.add_argument("--cell", default="", help="cell file (default: the environment variable PROPHRL_CELL)")
    parser.add_argument("--policy", type=Path, help="folder of an exported policy")
    parser.add_argument("--out", type=Path, default=Path("episodes"), help="where episodes go (default: %(default)s)")
    parser.add_argument("--live", action="store_true", help=f"listen to the running robot's topics for {LIVE_S:g} s")
    parser.add_argument("--json", action="store_true", help="for programs: a list of findings")
    options = parser.parse_args(argv)
    found = []
    for finding in examine(options):
        found.append(finding)
        if not options.json:
            print(finding.line(), flush=True)
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=1))
    else:
        print(summary(found))
    return int(any(finding.level is Level.FAIL for finding in found))


def examine(options: argparse.Namespace) -> Findings:
    """Everything that the options ask for; what needs the robot's files is left out where they are bad."""
    yield from system.python(sys.version_info[:2])
    yield from system.ros(os.environ)
    yield from system.transport(os.environ)
    yield from system.peers(os.environ)
    yield from clocks.clock(clocks.kernel_clock(), os.environ)
    try:
        known = robot.load(options.robot, options.cell)
    except ProphRLError as error:
        yield fail("robot", str(error), "the rest of the checks needs the robot's files")
        return
    yield ok("robot", f"{known.spec.name}{f', cell {known.cell.source}' if known.cell else ', simulated'}")
    yield from robot.limits(known.spec)
    yield from robot.model(known.spec)
    yield from robot.latency(known)
    yield from system.domain(os.environ, known.driver.elsewhere) if not options.live else ()
    if known.cell is not None:
        yield from devices.arm(known.cell)
        yield from devices.cameras(known.cell, known.spec)
        yield from permissions.groups(known.cell, permissions.own_groups())
        yield from permissions.udev_rules(known.cell)
    if known.driver.elsewhere:
        yield from permissions.realtime()
    yield from storage.disk(options.out, known.spec)
    if options.policy is not None:
        yield from robot.policy(options.policy, known.spec)
    if options.live:
        yield from _live(known)


def summary(found: Iterable[Finding]) -> str:
    """The last line."""
    levels = [finding.level for finding in found]
    return f"{levels.count(Level.FAIL)} failed, {levels.count(Level.WARN)} warnings, {levels.count(Level.OK)} in order"


def _live(known: Robot) -> Findings:
    from robot_stack.ros.graph_check import look

    looks, commanded = look(known.spec, wanted_domain(os.environ) or 0, LIVE_S)
    yield from live.streams(looks, known.spec)
    yield from live.commands(commanded)
