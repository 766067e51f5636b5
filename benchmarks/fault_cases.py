"""The faults that are made while the arm moves, each with what it asks of the stack and how it is mended.

A case is injected while the arm has moved for a while, at a moment that the seed of its repetition chooses.
"""

import enum
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from benchmarks.cell import Cell
from benchmarks.cell_processes import PICTURES, REFILL
from benchmarks.leaping_clock import LEAPS_MS, leap_service
from benchmarks.measuring import Repetition, load
from benchmarks.stopping import blind_commands, curve_extremes, stop_after, takeover_steps
from benchmarks.wire import commands_of, curve_of, wait_until
from robot_stack.core.errors import ProphRLError
from robot_stack.core.seeding import generator
from robot_stack.drivers.keyboard import KeyboardSettings
from robot_stack.ros import convert, topics

HOLD_MS = 200.0
COMMITTED_MS = 80.0  # of sim_arm: the action on its way (50 ms) and the lead of its trajectories (30 ms)
SILENT_MS = COMMITTED_MS + 100.0
HANGS_MS = SILENT_MS + 50.0 * REFILL  # what is executed during an inference in any case is committed, too
IDENTICAL_MS = 2 * HOLD_MS  # identical pictures may come for max_age, and the last of them then ages by as much
FEW, MANY = 20, 100
DEADMAN_MS = 1e3 * KeyboardSettings.deadman_s  # a terminal does not say that a key was let go
JUDGED_MS = 180.0  # time for which the camera node waits before it calls identical pictures a frozen camera
PAUSE_S = 0.5  # by at most which a fault comes later than the arm is ready for it
STOPS_S = 4.0  # within which an arm that holds stands
STANDS = 0.01  # rad/s measured
LATELY_S = 0.1
GOES_ON_S = 1.5  # after which an arm that is not to hold still moves
STEP = 1.01  # of the way that the velocity limits allow in a tick
KILL, STOP, HANG = signal.SIGKILL, signal.SIGSTOP, signal.SIGUSR1


class Wanted(enum.StrEnum):
    """What is asked of the stack in a fault."""

    HOLD = "hold"  # the arm brakes in time
    MOTION = "motion goes on"
    NO_STEP = "no step"  # it may brake or go on, but no trajectory takes over further away than the arm may go in a tick


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        name: for people, and of its file.
        inject: makes the fault; when it began [ns].
        mend: ends it, so that the arm moves again.
        wanted: see ``Wanted``.
        wanted_ms: longest time from the fault to the last command that does not brake.
        repetitions: of a full run.
        cell: on which it is made, see ``faults.CELLS``.
        after: what else to look at once the arm stands; figures by name.
    """

    name: str
    inject: Callable[[Cell], int]
    mend: Callable[[Cell], None]
    wanted: Wanted = Wanted.HOLD
    wanted_ms: float = HOLD_MS
    repetitions: int = FEW
    cell: str = "policy"
    after: Callable[[Cell, int], Mapping[str, Any]] = lambda *_: {}

    def passed(self, repetition: Repetition) -> bool:
        """Whether a repetition went as is wanted."""
        if "failed" in repetition:
            return False
        if self.wanted is Wanted.HOLD:
            return bool(repetition["rested"]) and repetition["hold_ms"] <= self.wanted_ms
        return not repetition["rested"] if self.wanted is Wanted.MOTION else repetition["step"] <= STEP


def repeat(case: Case, cell: Cell, number: int) -> Repetition:
    """One repetition: wait for motion, make the fault, look at the commands, mend it."""
    pause_s = float(generator("faults", case.name, number).uniform(0.0, PAUSE_S))
    keep_moving(cell, number, pause_s)
    fault_ns = case.inject(cell)
    if case.wanted is Wanted.HOLD:
        rested = cell.wait_for_rest(STOPS_S)
    else:
        time.sleep(GOES_ON_S)
        rested = cell.commanded_speed() < STANDS
    found: Repetition = {"number": number, "rested": rested, "load": round(load(), 2), **figures(cell, fault_ns)}
    found |= case.after(cell, fault_ns)
    case.mend(cell)
    return found


def keep_moving(cell: Cell, number: int, pause_s: float) -> None:
    """See to it that the arm has moved for a while and still does after ``pause_s``; what was heard lately is kept."""
    if cell.keys is not None:
        cell.keys.hold("ad"[number % 2])
    while True:
        cell.wait_for_motion()
        time.sleep(pause_s)
        cell.wire.clear()
        time.sleep(LATELY_S)
        if cell.moves:
            return


def figures(cell: Cell, fault_ns: int) -> dict[str, Any]:
    """What the wire says: milliseconds until the hold, and then until rest; the curve's extremes; commands sent blindly."""
    commands = commands_of(cell.wire, cell.arm_topic)
    stop = stop_after(commands, fault_ns)
    last_ns = stop.last_motion_ns or fault_ns
    joints = len(cell.spec.commands[0].actions)
    limits = cell.spec.max_velocity[:joints], cell.spec.max_acceleration[:joints]
    extremes = curve_extremes(curve_of(cell.wire, cell.arm_topic), *limits)
    return {
        "hold_ms": max(0.0, round((last_ns - fault_ns) / 1e6, 2)),
        "stop_ms": None if stop.rest_ns is None else max(0.0, round((stop.rest_ns - last_ns) / 1e6, 2)),
        "velocity": round(extremes.velocity, 4),
        "acceleration": round(extremes.acceleration, 4),
        "blind": blind_commands(cell.moving_commands(), *_streams(cell)),
        "commands": len(commands.sent_ns),
    }


def _streams(cell: Cell) -> tuple[dict[str, list[tuple[int, int]]], dict[str, int]]:
    """Stamps of the observation streams, and the oldest ones allowed."""
    spec = cell.spec
    limits = dict.fromkeys((topics.JOINT_STATES, spec.tools[0].pose_topic), spec.max_state_age_ns)
    limits |= {topics.image_raw(camera.name): camera.max_age_ns for camera in spec.cameras}
    return {topic: cell.wire.stamps(topic) for topic in limits}, limits


# Ways to make and to mend faults


def _nothing(cell: Cell) -> None:
    """The fault mends itself."""


def _spoilt(name: str, relay: str, fault: str, wanted: Wanted = Wanted.HOLD) -> Case:
    def mend(cell: Cell) -> None:
        cell.spoil(relay, "healthy")

    return Case(name, lambda cell: cell.spoil(relay, fault), mend, wanted)


def _killed(name: str, process: str, **more: Any) -> Case:
    return Case(name, lambda cell: cell.signal(process, KILL), _restart(process), **more)


def _stopped(name: str, process: str, **more: Any) -> Case:
    return Case(name, lambda cell: cell.signal(process, STOP), lambda cell: cell.thaw(process), **more)


def _restart(process: str) -> Callable[[Cell], None]:
    def mend(cell: Cell) -> None:
        cell.restart(process)

    return mend


def _hang(cell: Cell) -> int:
    log = cell.children.log("policy")
    before = log.read_text(encoding="utf-8").count("hangs at ")
    cell.signal("policy", HANG)
    wait_until(lambda: log.read_text(encoding="utf-8").count("hangs at ") > before, "the policy to hang")
    return int(log.read_text(encoding="utf-8").rpartition("hangs at ")[2].split()[0])


def _press_e_stop(cell: Cell) -> int:
    """At the moment at which a new chunk is on its way to the executor."""
    cell.say(topics.E_STOP, Bool(data=False))
    pressed: list[int] = []

    def press() -> None:
        if not pressed:
            pressed.append(cell.say(topics.E_STOP, Bool(data=True)))

    cell.wire.when(topics.ACTION_CHUNK, press)
    wait_until(lambda: pressed, "a chunk")
    cell.wire.when(topics.ACTION_CHUNK, None)
    return pressed[0]


def _release_e_stop(cell: Cell) -> None:
    time.sleep(0.5)
    if cell.commanded_speed() > STANDS:
        raise ProphRLError("the arm moves while the e-stop is latched")
    if cell.wire.ask("executor/reset_e_stop", Trigger, Trigger.Request(), timeout_s=20.0) is None:
        raise ProphRLError("executor/reset_e_stop: no answer")
    cell.activate()


def _where_it_stands(cell: Cell, fault_ns: int) -> dict[str, Any]:
    """How far the arm stands from the end of the brake that was sent last, and when it came to rest, as measured."""
    wait_until(lambda: np.abs(cell.joints()[1]).max() < STANDS, "the arm to stand", STOPS_S)
    time.sleep(0.3)
    promised = np.array(cell.wire.last(cell.arm_topic).points[-1].positions)
    off = float(np.abs(cell.joints()[0] - promised).max())
    count = len(cell.spec.joint_names)
    states = [(sent.stamp_ns, cell.wire.read(topics.JOINT_STATES, sent)) for sent in cell.wire.heard(topics.JOINT_STATES)]
    moving = [stamp_ns for stamp_ns, state in states if np.abs(state.velocity[:count]).max() > STANDS]
    return {"off_rad": round(off, 5), "stop_ms": round((max(moving, default=fault_ns) - fault_ns) / 1e6, 2)}


def _freeze_content(cell: Cell) -> int:
    """Play a film that stands still in its middle; when its first repeated picture was taken [ns]."""
    log = cell.children.log("camera_front")
    before = log.read_text(encoding="utf-8").count("is frozen")
    cell.wire.clear()
    wait_until(lambda: log.read_text(encoding="utf-8").count("is frozen") > before, "the film to stand still", 30.0)
    # What the node has published of it before it was sure: the identical pictures at the end of the stream.
    line = log.read_text(encoding="utf-8").rpartition("] [camera_front]: camera front is frozen")[0]
    noticed_ns = round(float(line.rpartition("[")[2]) * 1e9)
    return noticed_ns - round(JUDGED_MS * 1e6)  # it is sure once they have been identical for that long


def _let_go(cell: Cell) -> int:
    assert cell.keys is not None
    return cell.keys.let_go()


def _unplug(cell: Cell) -> int:
    assert cell.keys is not None
    return cell.keys.unplug()


def _plug_in(cell: Cell) -> None:
    assert cell.keys is not None
    cell.keys.plug_in()
    cell.restart("teleop")


def _foreign_chunk(names: Callable[[list[str]], list[str]]) -> Callable[[Cell], int]:
    """A chunk for joints that are not named as the robot's are, in the midst of good ones."""

    def say(cell: Cell) -> int:
        wait_until(lambda: cell.wire.count(topics.ACTION_CHUNK), "a chunk")
        message = cell.wire.last(topics.ACTION_CHUNK)
        message.joint_names = names(list(message.joint_names))
        return cell.say(topics.ACTION_CHUNK, message)

    return say


def _leap(leap_ms: int) -> Callable[[Cell], int]:
    def leap(cell: Cell) -> int:
        response = cell.wire.ask(f"clock/{leap_service(leap_ms)}", Trigger, Trigger.Request(), timeout_s=20.0)
        if response is None:
            raise ProphRLError("the clock does not answer")
        return int(response.message)

    return leap


def _largest_step(cell: Cell, _: int) -> dict[str, Any]:
    """Of the set point, where a trajectory takes over, as a multiple of what the velocity limits allow in a tick.

    The clock's leap itself takes the set point along the trajectory that is followed then; how far is told apart.
    """
    heard = [cell.wire.read(topics.SENT_ACTION, sent) for sent in cell.wire.heard(topics.SENT_ACTION)]
    targets = np.array([message.points[0].positions for message in heard])
    stamps = [convert.to_ns(message.header.stamp) for message in heard]
    joints = len(cell.spec.commands[0].actions)
    steps = takeover_steps(cell.trajectories()) / (cell.spec.max_velocity[:joints] / cell.spec.command_rate_hz)
    return {
        "step": round(float(steps.max()), 3),
        "along_rad": round(float(np.abs(np.diff(targets, axis=0))[:, :joints].max()), 4),
        "seen_ns": stamps[-1] - stamps[0],
    }


CASES: tuple[Case, ...] = (
    *(
        case
        for name, relay in (("joint states", "relay_joints"), ("tool pose", "relay_pose"))
        for case in (
            _spoilt(f"{name} frozen, old stamps again and again", relay, "frozen"),
            _spoilt(f"{name} silent", relay, "mute"),
            _spoilt(f"{name} 400 ms late", relay, "late"),
            _spoilt(f"{name} NaN", relay, "nan"),
            _spoilt(f"{name} stamped 5 s ahead", relay, "ahead"),
            _spoilt(f"{name} stamped 5 s behind", relay, "behind"),
            _killed(f"{name} unplugged, process killed", relay),
            _stopped(f"{name} unplugged, process stopped", relay),
        )
    ),
    _spoilt("joint states name an unknown joint", "relay_joints", "unknown_joint"),
    _spoilt("joint states in another order", "relay_joints", "other_order", Wanted.MOTION),
    _stopped("arm driver stopped", "sim_arm"),
    _killed("arm driver killed", "sim_arm"),
    _spoilt("camera frozen, old stamps again and again", PICTURES, "frozen"),
    _spoilt("camera 400 ms late", PICTURES, "late"),
    _spoilt("camera sends half pictures", PICTURES, "cut"),
    _spoilt("camera stamped 5 s ahead", PICTURES, "ahead"),
    _killed("camera node killed", "camera_wrist"),
    _stopped("camera node stopped", "camera_wrist"),
    Case("camera repeats one picture", _freeze_content, _nothing, wanted_ms=IDENTICAL_MS, cell="frozen film"),
    _killed("policy killed", "policy", wanted_ms=SILENT_MS, repetitions=MANY),
    _stopped("policy stopped", "policy", wanted_ms=SILENT_MS),
    Case("policy hangs in inference", _hang, _restart("policy"), wanted_ms=HANGS_MS),
    Case("chunk with joints in another order", _foreign_chunk(lambda n: n[::-1]), _nothing, Wanted.MOTION),
    Case("chunk with an unknown joint", _foreign_chunk(lambda n: ["other", *n[1:]]), _nothing, Wanted.MOTION),
    Case("executor killed", lambda cell: cell.signal("executor", KILL), _restart("executor"), after=_where_it_stands),
    Case("e-stop while a chunk comes in", _press_e_stop, _release_e_stop),
    Case("keys let go", _let_go, _nothing, wanted_ms=DEADMAN_MS + HOLD_MS, cell="keyboard"),
    Case("keyboard unplugged", _unplug, _plug_in, cell="keyboard"),
    _stopped("teleop node stopped", "teleop", cell="keyboard"),
    _killed("teleop node killed", "teleop", cell="keyboard"),
    *(
        Case(f"clock leaps by {leap_ms} ms", _leap(leap_ms), _nothing, Wanted.NO_STEP, cell="clock", after=_largest_step)
        for leap_ms in LEAPS_MS
    ),
)
