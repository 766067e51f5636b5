"""Two cameras and an arm recorded at full rate beside the executor: what is lost, what it costs, how even the ticks are."""

import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from std_srvs.srv import Trigger
from tqdm import tqdm

from benchmarks.cell import activate
from benchmarks.cell_processes import ROS, BenchmarkProcess, camera_process
from benchmarks.film import dropped, moving_texture, number_of, with_number, write_film
from benchmarks.measuring import code, load, quantile
from benchmarks.plain_arm import MARKS, number_of_mark
from benchmarks.scripted_policy import Script
from benchmarks.wire import Wire, wait_until
from robot_stack.bringup import LIVE_DEPTH, NodeProcess
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.episodes.log_reader import EpisodeLog
from robot_stack.episodes.messages import image_array
from robot_stack.episodes.ticks import deserialise, relative
from robot_stack.paths import robot_file
from robot_stack.ros import topics
from robot_stack.ros.episode_runner import own_nodes
from robot_stack.ros.processes import Processes, reserved_domain

WIDTH, HEIGHT, RATE_HZ, CYCLE = 640, 480, 30.0, 150
JOINTS_HZ = 100.0
WARM_S = 10.0  # left out of the memory's slope: buffers fill
SAMPLE_S = 1.0
MIB = 2**20
LATE_PERIODS = 2  # after which the arm of ``sim_arm`` has begun the brake of the message before: the executor then begins anew


def prepare(folder: Path, rate_hz: float = 20.0, command_rate_hz: float = 100.0) -> Path:
    """Films, and the robot file of a robot with two large cameras and actions at ``rate_hz``; the file."""
    raw = yaml.safe_load(robot_file("sim_arm").read_text(encoding="utf-8"))
    for seed, camera in enumerate(raw["cameras"]):
        camera |= {"width": WIDTH, "height": HEIGHT, "rate_hz": RATE_HZ, "compression": "jpeg"}
        film = folder / f"{camera['name']}-large.avi"
        if not film.is_file():
            pictures = moving_texture(WIDTH, HEIGHT, CYCLE, seed)
            write_film(film, [with_number(picture, k) for k, picture in enumerate(pictures)], RATE_HZ)
    raw["rate_hz"], raw["command_rate_hz"] = rate_hz, command_rate_hz
    raw["actions"][-1]["max_velocity"] = 1000.0  # the gripper bears marks, which must not be smoothed
    if command_rate_hz == rate_hz:  # no path is laid through the targets, which then may begin at full speed
        for action in raw["actions"][:-1]:
            action["max_acceleration"] = 200.0
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"pc-{rate_hz:g}.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path


def processes(
    folder: Path, robot: Path, script: Script, refill: int, *, recorder: bool, realtime_priority: int = 0
) -> tuple[NodeProcess, ...]:
    """Arm, cameras, executor, policy and, where it is wanted, the recorder; cameras and policy have the priority."""
    spec = RobotSpec.load(robot)
    shared = {"robot": str(robot), "lock_step": False}
    live = {**shared, "sensor_depth": LIVE_DEPTH}
    arm = {"robot": str(robot), "rate_hz": JOINTS_HZ, "notes": str(folder / "robots-end.json")}
    execution = {"execution": "asynchronous", "refill": refill}
    nodes: list[NodeProcess] = [BenchmarkProcess("plain_arm", "benchmarks.plain_arm", arm)]
    films = {camera.name: folder / f"{camera.name}-large.avi" for camera in spec.cameras}
    nodes += [camera_process(robot, name, film, {}, realtime_priority=realtime_priority) for name, film in films.items()]
    nodes.append(BenchmarkProcess("executor", f"{ROS}.executor_node", {**live, **execution}, file="executor"))
    policy = {**live, "policy": str(script), "realtime_priority": realtime_priority}
    nodes.append(BenchmarkProcess("policy", "benchmarks.scripted_policy", policy, file="policy"))
    if recorder:
        where = {**shared, "folder": str(folder / "episodes")}
        nodes.append(BenchmarkProcess("recorder", f"{ROS}.recorder_node", where, file="recorder"))
    return tuple(nodes)


def measure(folder: Path, minutes: float) -> dict[str, Any]:
    """Record for a while, then read the log back.

    Raises:
        ProphRLError: a process does not work.
    """
    robot = prepare(folder)
    shutil.rmtree(folder / "episodes", ignore_errors=True)
    spec = RobotSpec.load(robot)
    nodes = processes(folder, robot, Script(), 40, recorder=True)
    with reserved_domain() as domain, own_nodes(domain), Processes(nodes, domain, folder / "logs") as children:
        wire = Wire()
        try:
            for topic in (topics.JOINT_STATES, topics.SENT_ACTION):
                wire.listen(topic, topics_of(spec)[topic])
            wait_until(lambda: wire.count(topics.JOINT_STATES) > 10, "joint states", 90.0)
            activate(wire)
            wait_until(lambda: wire.count(topics.SENT_ACTION) > 100, "commands")
            _ask(wire, "start")
            wire.clear()
            used = watch(children, minutes)
            ticks = [(sent.sent_ns, sent.stamp_ns) for sent in wire.heard(topics.SENT_ACTION)]
            log = Path(_ask(wire, "success"))
        finally:
            wire.close()
    found = {
        "code": code(),
        **used,
        **evenness(ticks, spec.command_period_ns),
        **read_back(log),
        "minutes": minutes,
        "load": load(),
    }
    log.unlink()  # it is large
    return found


def topics_of(spec: RobotSpec) -> dict[str, Any]:
    """Message type of each topic of a robot."""
    return {entry.name: entry.message for entry in topics.contract(spec)}


def watch(children: Processes, minutes: float) -> dict[str, Any]:
    """Processor time and memory of each process while they run."""
    watched = {name: psutil.Process(pid) for name, pid in children.pids.items()}
    begin_s, before = time.monotonic(), {name: _seconds(process) for name, process in watched.items()}
    memory: list[tuple[float, int]] = []
    with tqdm(total=round(minutes * 60), desc="recording", unit="s", file=sys.stderr) as progress:
        while time.monotonic() - begin_s < minutes * 60:
            time.sleep(SAMPLE_S)
            children.check()
            memory.append((time.monotonic() - begin_s, watched["recorder"].memory_info().rss))
            progress.update(min(round(time.monotonic() - begin_s), progress.total) - progress.n)
    seconds = time.monotonic() - begin_s
    cores = {name: round((_seconds(process) - before[name]) / seconds, 3) for name, process in watched.items()}
    return {"cores": cores, "memory": memory_facts(memory)}


def memory_facts(samples: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Of (seconds, bytes): MiB after the warm-up and at the end, and the slope between them by least squares [MiB/min]."""
    settled = [(s, rss) for s, rss in samples if s >= min(WARM_S, samples[-1][0] / 2)]
    times, sizes = np.array(settled, dtype=np.float64).T
    slope = float(np.polyfit(times, sizes, 1)[0]) if len(settled) > 1 else 0.0
    return {"begin_mib": sizes[0] / MIB, "end_mib": sizes[-1] / MIB, "slope_mib_per_min": 60 * slope / MIB}


def evenness(ticks: Sequence[tuple[int, int]], period_ns: int) -> dict[str, Any]:
    """Of (sent, tick) of each command: how long after its tick it was sent; ticks for which none was, or only a late one."""
    late_ms = [(sent_ns - tick_ns) / 1e6 for sent_ns, tick_ns in ticks]
    stamps = sorted(tick_ns for _, tick_ns in ticks)
    count = round((stamps[-1] - stamps[0]) / period_ns) + 1
    quantiles = {name: round(quantile(late_ms, q), 3) for name, q in (("p50", 0.5), ("p99", 0.99), ("most", 1.0))}
    late = sum(lateness > LATE_PERIODS * period_ns / 1e6 for lateness in late_ms)
    return {"ticks": count, "missed": count - len(set(stamps)) + late, "jitter_ms": quantiles}


def read_back(log: Path) -> dict[str, Any]:
    """The numbers that pictures and joint states of a log bear: how many came, how many are missing between them."""
    numbers: dict[str, list[int | None]] = {}
    stamps: dict[str, list[int]] = {}
    episode = EpisodeLog.open(log)
    names = {f"{topics.image_raw(name)}/compressed": CYCLE for name in episode.meta.spec.camera_names} | {
        topics.JOINT_STATES: MARKS
    }
    wanted = tuple(names)
    for logged in tqdm(
        episode.messages(lambda t: relative(t, wanted) is not None), desc="reading", unit="message", file=sys.stderr
    ):
        name = str(relative(logged.topic, wanted))
        message = deserialise(logged)
        joints = name == topics.JOINT_STATES
        number = number_of_mark(message.position[-1]) if joints else number_of(image_array(message, name))
        numbers.setdefault(name, []).append(number)
        stamps.setdefault(name, []).append(logged.stamp_ns)
    streams = {}
    for name, cycle in names.items():
        times = stamps[name]
        streams[name] = {
            "came": len(times),
            "unreadable": sum(number is None for number in numbers[name]),
            "dropped": dropped(numbers[name], cycle),
            "rate_hz": round((len(times) - 1) / (times[-1] - times[0]) * 1e9, 3),
            "longest_gap_ms": round(float(np.diff(times).max()) / 1e6, 1),
        }
    return {"streams": streams, "log_mib": round(log.stat().st_size / MIB, 1)}


def page(found: dict[str, Any]) -> Iterable[str]:
    """Lines of the results page."""
    recorder, memory, jitter = found["cores"]["recorder"], found["memory"], found["jitter_ms"]
    lost = sum(stream["dropped"] + stream["unreadable"] for stream in found["streams"].values())
    yield f"{found['minutes']:g} minutes, two cameras of {WIDTH}x{HEIGHT} at {RATE_HZ:g} Hz as JPEG (textured films, numbered,"
    yield f"through camera nodes), joint states at {JOINTS_HZ:g} Hz (numbered), and a policy that moves the arm."
    yield f"{found['log_mib']:g} MiB of log. Made with {found['code']}."
    yield ""
    for name, stream in found["streams"].items():
        yield f"- `{name}`: {stream['came']} came, {stream['dropped']} dropped, {stream['unreadable']} unreadable,"
        yield f"  {stream['rate_hz']:.2f} Hz, longest gap {stream['longest_gap_ms']:g} ms."
    yield f"- Dropped in all: {lost}. Wanted: 0. **{_word(lost == 0)}.**"
    yield f"- Recorder: {recorder:.2f} of a core. Wanted: less than 0.5. **{_word(recorder < 0.5)}.**"
    yield f"- Recorder's memory: {memory['begin_mib']:.1f} MiB at first, {memory['end_mib']:.1f} MiB at the end,"
    yield f"  slope {memory['slope_mib_per_min']:+.2f} MiB a minute."
    others = ", ".join(f"{name} {cores:.2f}" for name, cores in found["cores"].items() if name != "recorder")
    yield f"- Cores that the others used: {others}."
    spread = f"{jitter['p50']:.2f} ms (median), {jitter['p99']:.2f} ms (99 %), {jitter['most']:.1f} ms (at most)"
    yield f"- Executor's ticks of 10 ms: sent {spread} after their time."
    yield f"  Wanted: 99 % under 5 ms. **{_word(jitter['p99'] < 5.0)}.**"
    yield f"- Ticks missed (no command, or more than {LATE_PERIODS} periods late): {found['missed']} of {found['ticks']}."


def _word(reached: bool) -> str:
    return "Reached" if reached else "Missed"


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _ask(wire: Wire, service: str) -> str:
    response = wire.ask(f"recorder/{service}", Trigger, Trigger.Request(), timeout_s=30.0)
    if response is None or not response.success:
        raise ProphRLError(f"recorder/{service}: {'no answer' if response is None else response.message}")
    return str(response.message)
