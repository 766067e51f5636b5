"""What is refused or told instead of moving an arm or losing data: wrong robot files, two cameras on one topic, a full disk."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from std_srvs.srv import Trigger
from tqdm import tqdm

from benchmarks.cell import BACK_S, Cell, running_cell
from benchmarks.cell_processes import DISK, EPISODES, BenchmarkProcess, CellSetup, camera_process, processes
from benchmarks.measuring import Repetition, Repetitions, rate, table
from benchmarks.wire import wait_until
from robot_stack.episodes.log_reader import EpisodeLog, find_logs
from robot_stack.paths import robot_file
from robot_stack.ros.connections import SERVICE
from robot_stack.ros.processes import Processes

NAME = "refusals"
REPETITIONS = 20
LEFT_BYTES = 3_000_000
NOTICE_S = 10.0
NODES = ("executor", "policy", "recorder", "camera_front")


def _invert(raw: Any) -> None:
    raw["actions"][0]["limits"].reverse()


def _unknown_action(raw: Any) -> None:
    raw["commands"][0]["actions"][0] = "no_such_joint"


def _endless(raw: Any) -> None:
    raw["actions"][1]["max_velocity"] = float("inf")


ROBOT_FILES: Mapping[str, tuple[Callable[[Any], None], str]] = {
    "inverted limits": (_invert, "limits"),
    "a command for an unknown joint": (_unknown_action, "no_such_joint"),
    "an infinite velocity": (_endless, "max_velocity"),
}


def make(work: Path, quick: bool) -> None:
    """Make the repetitions that are missing."""
    wanted = 1 if quick else REPETITIONS
    for name in ROBOT_FILES:
        kept = Repetitions(work, f"robot file {name}")
        if not kept.read():  # no chance is in it
            kept.add({"nodes": wrong_robot_file(work / "cells" / "refusals", name)})
    for name, repeat, recorder in (("two cameras", two_cameras, False), ("full disk", full_disk, True)):
        kept = Repetitions(work, name)
        missing = range(len(kept.read()), wanted)
        if not missing:
            continue
        with running_cell(_setup(work, recorder)) as cell:
            for number in tqdm(missing, desc=name, unit="time", file=sys.stderr):
                kept.add({"number": number, **repeat(cell, work)})


def _setup(work: Path, recorder: bool) -> CellSetup:
    return CellSetup(
        work / "cells" / "refusals", relays=False, recorder=work / "unused" if recorder else None, small_disk=recorder
    )


def wrong_robot_file(folder: Path, name: str) -> dict[str, bool]:
    """Which nodes end with status 2 and name the entry of the file that is wrong."""
    spoil, entry = ROBOT_FILES[name]
    raw = yaml.safe_load(robot_file("sim_arm").read_text(encoding="utf-8"))
    spoil(raw)
    wrong = folder / "wrong.yaml"
    outcome = {}
    for node in processes(CellSetup(folder, recorder=folder / "episodes")):
        if node.name not in NODES:
            continue
        wrong.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        given = BenchmarkProcess(
            node.name, node.module, {**node.parameters, "robot": str(wrong)}, file=node.name.partition("_")[0]
        )
        done = subprocess.run(given.command(), capture_output=True, text=True, timeout=60, check=False)
        outcome[node.name] = done.returncode == 2 and entry in done.stderr and wrong.name in done.stderr
    return outcome


def two_cameras(cell: Cell, work: Path) -> Repetition:
    """A second camera node on the topic of another: whether one of them says so or ends."""
    second = camera_process(cell.setup.folder / "cell.yaml", "wrist", cell.setup.folder / "wrist.avi", {}, "camera_second")
    begin = time.monotonic()
    with Processes([second], cell.children.domain, work / "cells" / "refusals" / "second") as others:
        logs = [cell.children.log("camera_wrist"), others.log("camera_second")]
        before = sum(_words(log) for log in logs)
        while time.monotonic() - begin < NOTICE_S:
            if sum(_words(log) for log in logs) > before:
                return {"noticed_s": round(time.monotonic() - begin, 2)}
            time.sleep(0.05)
    return {"noticed_s": None}


def _words(log: Path) -> int:
    return log.read_text(encoding="utf-8").count("another node publishes") if log.exists() else 0


def full_disk(cell: Cell, _: Path) -> Repetition:
    """Record onto a small disk of its own until it is full; what is left, and whether recording goes on once there is room."""
    recorder = cell.children.pids["recorder"]
    disk = Path(f"/proc/{recorder}/root{cell.setup.folder.resolve()}") / DISK / EPISODES
    wait_until(lambda: _ask(cell, SERVICE), "the recorder", BACK_S)
    whole = _episode(cell, 0.5)
    _ask(cell, "start")
    time.sleep(0.3)
    filler = disk.parent / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, _free(disk) - LEFT_BYTES))
    log = cell.children.log("recorder")
    told_before = log.read_text(encoding="utf-8").count("recording ended")
    wait_until(lambda: log.read_text(encoding="utf-8").count("recording ended") > told_before, "the full disk to be told", 30.0)
    cut = [path for path in find_logs(disk) if path.name.endswith(".active")]
    kept = sum(1 for path in cut for _ in EpisodeLog.open(path).messages())
    alive, moving = cell.children.pids["recorder"] == recorder, cell.commanded_speed() > 0
    filler.unlink()
    after = _episode(cell, 0.5)
    loads = all(sum(1 for _ in EpisodeLog.open(disk / Path(name).name).messages()) > 0 for name in (whole, after) if name)
    for path in find_logs(disk):
        path.unlink()
    return {"told": True, "kept": kept, "alive": alive, "moving": moving, "others": loads and bool(whole) and bool(after)}


def _episode(cell: Cell, seconds: float) -> str | None:
    if _ask(cell, "start") is None:
        return None
    time.sleep(seconds)
    return _ask(cell, "success")


def _ask(cell: Cell, service: str) -> str | None:
    response = cell.wire.ask(f"recorder/{service}", Trigger, Trigger.Request(), timeout_s=5.0)
    return str(response.message) if response is not None and response.success else None


def _free(folder: Path) -> int:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


@dataclass(frozen=True)
class _Row:
    what: str
    wanted: str
    good: int
    count: int


def page(work: Path) -> Iterable[str]:
    """Lines of the results page."""
    rows = [row for row in _rows(work) if row.count]
    if not rows:
        return
    yield "## What is refused or told"
    yield ""
    yield from table(("fault", "wanted", "as wanted"), ((row.what, row.wanted, rate(row.good, row.count)) for row in rows))
    yield ""


def _rows(work: Path) -> Iterable[_Row]:
    for name in ROBOT_FILES:
        nodes = [good for entry in Repetitions(work, f"robot file {name}").read() for good in entry["nodes"].values()]
        yield _Row(f"robot file with {name}", "every node ends and names the entry", sum(nodes), len(nodes))
    found = Repetitions(work, "two cameras").read()
    seen = sum(entry["noticed_s"] is not None for entry in found)
    yield _Row("two cameras on one topic", f"told within {NOTICE_S:.0f} s", seen, len(found))
    found = Repetitions(work, "full disk").read()
    wanted = "told; the log keeps its beginning, other episodes are whole, the arm moves on, recording goes on with room"
    yield _Row("disk full while recording", wanted, sum(map(_well, found)), len(found))


def _well(entry: Repetition) -> bool:
    return bool(entry["told"] and entry["kept"] and entry["alive"] and entry["moving"] and entry["others"])


def figures(work: Path) -> dict[str, Sequence[Repetition]]:
    """Everything that was measured."""
    names = [*(f"robot file {name}" for name in ROBOT_FILES), "two cameras", "full disk"]
    return {name: Repetitions(work, name).read() for name in names}
