"""`kill -9` of the recorder at random moments: what is left of the episodes, and whether conversion goes on from there."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from std_srvs.srv import Trigger
from tqdm import tqdm

from benchmarks.cell import BACK_S, Cell, running_cell
from benchmarks.cell_processes import CellSetup
from benchmarks.measuring import Repetition, Repetitions, load, quantile, rate
from benchmarks.wire import wait_until
from robot_stack.core.errors import BadFileError, ProphRLError
from robot_stack.core.seeding import generator
from robot_stack.episodes.decoder import EpisodeDecoder
from robot_stack.episodes.lerobot_folder import EPISODES, FACT
from robot_stack.episodes.log_reader import EpisodeLog, find_logs
from robot_stack.episodes.repair import needs_repair, repair
from robot_stack.ros.connections import SERVICE

NAME = "recorder killed"
REPETITIONS, QUICK = 100, 3
CONVERT_EVERY = 10
NAMES = f"{FACT}name"
FACTS = ["episode_index", "length", NAMES]
LONGEST_S = 4.0  # from the first episode after a start to the kill
EPISODE_S = (0.6, 1.6)
SECOND_MS = 1000.0
WHOLE_MS = (
    300.0  # by how much the last message of a finished episode may be older than its end: a few periods of a busy machine
)


def make(work: Path, quick: bool) -> None:
    """Make the repetitions that are missing, then convert what was recorded."""
    wanted = QUICK if quick else REPETITIONS
    repetitions = Repetitions(work, NAME)
    done = len(repetitions.read())
    episodes, dataset = work / "episodes", work / "dataset"
    if done < wanted:
        with running_cell(CellSetup(work / "cells" / "recorder", relays=False, recorder=episodes)) as cell:
            cell.wait_for_motion()
            for number in tqdm(range(done, wanted), desc=NAME, unit="kill", file=sys.stderr):
                repetitions.add(kill(cell, episodes, number))
                if (number + 1) % CONVERT_EVERY == 0:
                    convert(episodes, dataset)
    if not (work / "conversion.json").exists() or done < wanted:
        outcome = json.dumps(converted(episodes, dataset), indent=2)
        (work / "conversion.json").write_text(outcome, encoding="utf-8")


def kill(cell: Cell, folder: Path, number: int) -> Repetition:
    """Record episodes until the recorder is killed, look at what is left, repair it, start the recorder again."""
    rng = generator("recorder kills", number)
    wait_until(lambda: _ask(cell, SERVICE) is not None, "the recorder", BACK_S)
    before = set(find_logs(folder)) if folder.is_dir() else set()
    killed: list[int] = []

    def strike() -> None:
        killed.append(time.time_ns())
        os.kill(cell.children.pids["recorder"], signal.SIGKILL)

    striker = threading.Timer(float(rng.uniform(0.05, LONGEST_S)), strike)
    striker.start()
    ended, begun_ns = _record_until(cell, killed, rng)
    striker.join()
    cell.children.kill("recorder")  # it is dead; collect it
    found = inspect(folder, before, ended, begun_ns, killed[0])
    cell.children.restart("recorder")
    return {"number": number, **found, "load": load()}


def _record_until(cell: Cell, killed: Sequence[int], rng: Any) -> tuple[dict[str, int], int]:
    """Episodes one after another; those whose end was confirmed (path -> when it was asked for), when the last began."""
    ended: dict[str, int] = {}
    begun_ns = time.time_ns()
    while not killed:
        if _ask(cell, "start") is None:
            continue
        begun_ns = time.time_ns()
        end = time.monotonic() + float(rng.uniform(*EPISODE_S))
        while time.monotonic() < end and not killed:
            time.sleep(0.005)
        if not killed:
            asked_ns = time.time_ns()
            path = _ask(cell, "success")
            if path is not None:
                ended[path] = asked_ns
    return ended, begun_ns


def inspect(folder: Path, before: set[Path], ended: Mapping[str, int], begun_ns: int, killed_ns: int) -> Repetition:
    """What the logs of one repetition hold, and what a repair makes of them.

    Returns:
        finished: episodes whose end was confirmed; whole: those of them that load and reach to their end; cut: logs in flight;
        lost_ms: what is missing of the cut one; repaired: whether its repair loads and holds the same messages.
    """
    logs = [path for path in find_logs(folder) if path not in before]
    confirmed = [Path(path) for path in ended]
    whole = sum(_reaches(path, ended[str(path)]) for path in confirmed)
    cut = [path for path in logs if needs_repair(path)]
    result: Repetition = {"finished": len(confirmed), "whole": whole, "cut": len(cut), "lost_ms": None, "repaired": True}
    for path in cut:
        kept = _stamps(path)
        result["lost_ms"] = round((killed_ns - max(kept, default=begun_ns)) / 1e6, 1)
        try:
            mended = repair(path).path
            result["repaired"] &= _stamps(mended) == kept
        except BadFileError as error:
            result["repaired"] = not kept
            result["refusal"] = str(error)
    return result


def convert(episodes: Path, dataset: Path) -> None:
    """As `prophrl convert` does.

    Raises:
        ProphRLError: it failed.
    """
    command = [sys.executable, "-m", "robot_stack.cli", "convert", str(episodes), "--out", str(dataset)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProphRLError(f"prophrl convert ended with status {done.returncode}:\n{done.stdout}{done.stderr}")


def converted(episodes: Path, dataset: Path) -> dict[str, Any]:
    """Convert the rest; what of the episodes the dataset then holds, with how many frames.

    Returns:
        episodes: logs with at least one row; missing: names that the dataset lacks; uneven: names whose number of frames is not
        that of the log's rows; gaps: whether the numbers of the dataset's episodes have one.
    """
    convert(episodes, dataset)
    facts = [
        row
        for path in sorted((dataset / EPISODES).glob("*/*.parquet"))
        for row in pq.read_table(path, columns=FACTS).to_pylist()
    ]
    held = {fact[NAMES]: fact["length"] for fact in facts}
    rows = {path.name.removesuffix(".mcap"): _rows(path) for path in find_logs(episodes)}
    expected = {name: count for name, count in rows.items() if count}
    return {
        "episodes": len(expected),
        "missing": sorted(set(expected) - set(held)),
        "uneven": sorted(name for name, count in expected.items() if held.get(name, count) != count),
        "gaps": sorted(fact["episode_index"] for fact in facts) != list(range(len(facts))),
    }


def page(work: Path) -> Iterable[str]:
    """Lines of the results page."""
    found = Repetitions(work, NAME).read()
    if not found:
        return
    yield "## The recorder killed while it records"
    yield ""
    yield "`kill -9` at random moments, also while an episode begins or ends."
    yield ""
    finished, whole = sum(e["finished"] for e in found), sum(e["whole"] for e in found)
    yield f"- Finished episodes that load and reach to their end: {rate(whole, finished)}."
    lost = [e["lost_ms"] for e in found if e["lost_ms"] is not None]
    yield f"- Kills that cut no more than one episode: {rate(sum(e['cut'] <= 1 for e in found), len(found))}."
    if lost:
        yield f"- Lost of the episode in flight: median {quantile(lost, 0.5):.0f} ms, longest {max(lost):.0f} ms;"
        yield f"  at most one second in {rate(sum(ms <= SECOND_MS for ms in lost), len(lost))}."
    yield f"- Repairs that keep every message that was saved: {rate(sum(e['repaired'] for e in found), len(found))}."
    conversion = work / "conversion.json"
    if conversion.exists():
        outcome = json.loads(conversion.read_text(encoding="utf-8"))
        yield f"- Conversion after every {CONVERT_EVERY} kills into one dataset: {outcome['episodes']} episodes,"
        yield f"  {len(outcome['missing'])} missing, {len(outcome['uneven'])} with other numbers of frames than rows,"
        yield f"  numbers {'with' if outcome['gaps'] else 'without'} gaps."
    yield ""


def figures(work: Path) -> dict[str, Any]:
    """Everything that was measured."""
    conversion = work / "conversion.json"
    return {
        "kills": Repetitions(work, NAME).read(),
        "conversion": json.loads(conversion.read_text(encoding="utf-8")) if conversion.exists() else None,
    }


def _ask(cell: Cell, service: str) -> str | None:
    """Message of a service that agreed; one that has just been killed does not."""
    response = cell.wire.ask(f"recorder/{service}", Trigger, Trigger.Request(), timeout_s=1.0)
    return str(response.message) if response is not None and response.success else None


def _reaches(path: Path, asked_ns: int) -> bool:
    """Whether a finished log loads to its end, with messages up to when its end was asked for."""
    try:
        log = EpisodeLog.open(path)
        return log.finished and asked_ns - max(_stamps(path), default=0) < WHOLE_MS * 1e6
    except BadFileError:
        return False


def _stamps(path: Path) -> list[int]:
    try:
        return [message.stamp_ns for message in EpisodeLog.open(path).messages()]
    except BadFileError:
        return []


def _rows(path: Path) -> int:
    try:
        return sum(1 for _ in EpisodeDecoder(EpisodeLog.open(path)).rows())
    except BadFileError:
        return 0
