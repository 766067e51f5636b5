"""How pictures travel between processes: `python -m benchmarks.transport`, which writes ``docs/results/transport.md``.

Two cameras of 640x480 at 30 Hz, raw, each to two listeners, over the robot's own profile, over the same with the room that
Ubuntu gives sockets by default, and over the middleware's shared memory. Every picture is numbered and stamped when it is sent.
What is finished is kept; the same command continues.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import environ
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from benchmarks.measuring import Repetitions, code, machine, made_with, quantile, table, write_page
from robot_stack.bringup import environment
from robot_stack.middleware import PROFILE_VARIABLES
from robot_stack.paths import config_dir
from robot_stack.ros.processes import reserved_domain

OURS, SMALL, SHARED = "ours", "sockets as Ubuntu has them", "shared memory"
TRANSPORTS = (OURS, SMALL, SHARED)
RELIABILITIES = ("best_effort", "reliable")
CAMERAS, RATE_HZ, PICTURE_BYTES = 2, 30.0, 640 * 480 * 3
UBUNTU_BYTES, OUR_BYTES, SEGMENT_BYTES = 212_992, 4 << 20, 32 << 20  # net.core.rmem_max, our profile, two dozen pictures
SHARED_MEMORY = f"""<dds xmlns="http://www.eprosima.com"><profiles>
<transport_descriptors><transport_descriptor><transport_id>memory</transport_id><type>SHM</type>
<segment_size>{SEGMENT_BYTES}</segment_size><port_queue_capacity>1024</port_queue_capacity>
</transport_descriptor></transport_descriptors>
<participant profile_name="memory" is_default_profile="true"><rtps>
<userTransports><transport_id>memory</transport_id></userTransports><useBuiltinTransports>false</useBuiltinTransports>
</rtps></participant></profiles></dds>"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each (default: %(default)g)")
    parser.add_argument("--work", type=Path, default=Path("runs/transport"), help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/transport.md"), help="(default: %(default)s)")
    options = parser.parse_args(argv)
    cases = [(transport, reliability) for transport in TRANSPORTS for reliability in RELIABILITIES]
    for number in tqdm(range(options.repetitions), desc="transport", unit="round"):
        for transport, reliability in cases:  # in turns, so that what slows the machine slows all of them
            kept = Repetitions(options.work, f"{transport} {reliability}")
            if len(kept.read()) <= number:
                kept.add(measure(transport, reliability, options.seconds, options.work))
    found = {f"{a}, {b}": Repetitions(options.work, f"{a} {b}").read() for a, b in cases}
    figures = {"machine": machine(), "code": code(), "found": found}
    write_page(options.out, page(options.work, found), figures, options.work / "transport.json")
    return 0


def measure(transport: str, reliability: str, seconds: float, work: Path) -> dict[str, Any]:
    """One repetition: pictures that came and that were lost, and how long they were on their way [ms]."""
    with reserved_domain() as domain:
        variables = {**environ, **environment(domain), **_profile(transport, work)}
        streams = [str(camera) for camera in range(CAMERAS)]
        with _running([["publish", camera, reliability] for camera in streams], variables):
            time.sleep(1.0)  # until all have found each other
            arguments = ["listen", *streams, reliability, str(seconds)]
            listeners = [_start(arguments, variables) for _ in range(2)]
            heard = [json.loads(listener.communicate()[0]) for listener in listeners]
    return {name: [value for one in heard for value in one[name]] for name in ("came", "lost", "late_ms")}


def page(work: Path, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterable[str]:
    """The lines of the results page."""
    yield "# How pictures travel, measured"
    yield ""
    yield f"Written by `python -m benchmarks.transport`. {machine()}. Made with {made_with(work)}."
    yield ""
    yield f"{CAMERAS} cameras of 640x480 at {RATE_HZ:g} Hz, raw, each to two listeners, every picture numbered. Time from"
    yield "before sending to the listener's callback; medians of the repetitions."
    yield ""
    yield f"- {OURS}: UDP on the loopback interface with {OUR_BYTES >> 20} MiB for each socket (config/dds/fastdds.xml);"
    yield f"- {SMALL}: with {UBUNTU_BYTES >> 10} KiB, all that the kernel gives until `net.core.rmem_max` is raised;"
    yield f"- {SHARED}: Fast DDS's, with {SEGMENT_BYTES >> 20} MiB for each process."
    yield ""
    yield from table(
        ("transport", "repetitions", "came", "lost", "median, ms", "99 %, ms", "longest, ms"), map(_row, found.items())
    )


def _row(case: tuple[str, Sequence[Mapping[str, Any]]]) -> Sequence[str]:
    name, repetitions = case
    came, lost = (round(sum(sum(entry[what]) for entry in repetitions)) for what in ("came", "lost"))
    spread = [f"{median(quantile(entry['late_ms'], q) for entry in repetitions):.1f}" for q in (0.5, 0.99, 1.0)]
    share = f"{lost} ({100 * lost / (came + lost):.1f} %)" if lost else "0"
    return (name.replace("_", " "), str(len(repetitions)), str(came), share, *spread)


def _profile(transport: str, work: Path) -> dict[str, str]:
    if transport == OURS:
        return {}
    ours = (config_dir() / "dds" / "fastdds.xml").read_text(encoding="utf-8")
    text = SHARED_MEMORY if transport == SHARED else ours.replace(f">{OUR_BYTES}<", f">{UBUNTU_BYTES}<")
    if text == ours:
        raise ValueError(f"config/dds/fastdds.xml no longer asks for {OUR_BYTES} bytes")
    path = work.absolute() / f"{transport.replace(' ', '-')}.xml"
    path.write_text(text, encoding="utf-8")
    return dict.fromkeys(PROFILE_VARIABLES, str(path))


def _start(arguments: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.transport_ends", *arguments]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)


@contextmanager
def _running(commands: Iterable[Sequence[str]], variables: Mapping[str, str]) -> Iterator[None]:
    processes = [_start(arguments, variables) for arguments in commands]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
