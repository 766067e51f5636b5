"""The small streams of a log (everything but pictures), and the ticks that they define."""

import itertools
import logging
import struct
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rosbags.serde import SerdeError

from robot_stack.core.errors import BadFileError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.episodes.log_reader import EpisodeLog, LoggedMessage
from robot_stack.episodes.log_writer import TYPESTORE
from robot_stack.episodes.messages import BadMessageError, joint_values, pose_values, trajectory_targets

SENT, REQUESTED, COMMITTED, IN_FORCE = "sent_action", "requested_action", "committed_actions", "target_in_force"
TASK, SUCCESS, JOINTS, INTERVENTION, GUARD = "task", "evaluation/success", "joint_states", "intervention", "guard"
SMALL = (SENT, REQUESTED, COMMITTED, IN_FORCE, TASK, SUCCESS, JOINTS, INTERVENTION, GUARD)  # and the poses of the tools
EVEN = 0.01  # ticks that keep the nominal period this well (relative) are taken as they are

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tick:
    """One action that was sent.

    Attributes:
        stamp_ns: t_k [ns].
        commanded: target in force before it [A].
        sent: what was sent, after the guard [A].
        wanted: what policy or teleop had asked for [A].
        intervention: whether a person had taken over from a policy.
        guarded: whether the guard changed or held what was asked for, at any time of the action.
        success: whether the task had been done by t_k; None where nobody published it.
        next_success: the same one tick later; for the last tick, at the end of the log.
    """

    stamp_ns: int
    commanded: FloatArray
    sent: FloatArray
    wanted: FloatArray
    intervention: bool
    guarded: bool
    success: bool | None
    next_success: bool | None


@dataclass
class SmallStreams:
    """What a log holds besides pictures, in the order of the log.

    Attributes:
        sent: stamp -> target sent.
        requested: (stamp, target asked for).
        references: (stamp, target in force) as told by the executor, or by the arm's driver.
        successes: (stamp, task done).
        interventions: (stamp, whether a person drives), one for each action.
        guards: (stamp, whether the guard acts from then on).
        states: (stamp, topic, value) of poses [6] and joints.
        instruction: as published.
    """

    sent: dict[int, FloatArray] = field(default_factory=dict)
    requested: list[tuple[int, FloatArray]] = field(default_factory=list)
    references: list[tuple[int, FloatArray]] = field(default_factory=list)
    successes: list[tuple[int, bool]] = field(default_factory=list)
    interventions: list[tuple[int, bool]] = field(default_factory=list)
    guards: list[tuple[int, bool]] = field(default_factory=list)
    states: list[tuple[int, str, Any]] = field(default_factory=list)
    instruction: str = ""


def read_small_streams(log: EpisodeLog, spec: RobotSpec) -> SmallStreams:
    """Read a log without its pictures; malformed messages are dropped, with one warning a topic.

    Raises:
        BadFileError: the log is damaged.
    """
    streams = SmallStreams()
    dropped: Counter[str] = Counter()
    # A controller's targets are those of the joints where actions are poses of a tool: the executor tells what they amount to.
    small = [name for name in SMALL if name != IN_FORCE or not spec.joints]
    names = (*small, *(tool.pose_topic for tool in spec.tools))
    for message in log.messages(lambda topic: relative(topic, names) is not None):
        name = relative(message.topic, names)
        assert name is not None
        try:
            _take(streams, name, message, spec)
        except BadMessageError as error:
            if not dropped[name]:
                _log.warning("%s: %s; dropped, as are further ones", log.path.name, error)
            dropped[name] += 1
    streams.states.sort(key=lambda entry: entry[0])
    streams.references.sort(key=lambda entry: entry[0])
    streams.requested.sort(key=lambda entry: entry[0])
    streams.interventions.sort(key=lambda entry: entry[0])
    streams.guards.sort(key=lambda entry: entry[0])
    return streams


def ticks_of(streams: SmallStreams, spec: RobotSpec, log: EpisodeLog) -> list[Tick]:
    """The ticks of an episode, one nominal period apart.

    Ticks that jitter (real time) are put on an even grid from the first to the last; a grid point takes what was sent last
    before the middle of its period, so a tick that was missed repeats the target in force. Where commands come more often than
    actions, it takes the last command of its period.

    Raises:
        BadFileError: no action was sent.
    """
    stamps = sorted(streams.sent)
    if not stamps:
        raise BadFileError(log.path, f"no {SENT} in it: nothing was executed")
    period = spec.period_ns
    often = spec.commands_per_action > 1
    until = period - spec.command_period_ns // 2 if often else period // 2
    if often or any(abs(after - before - period) > EVEN * period for before, after in itertools.pairwise(stamps)):
        count = round((stamps[-1] - stamps[0]) / period) + 1
        grid = [stamps[0] + k * period for k in range(count)]
        chosen = [stamps[bisect_right(stamps, stamp + until) - 1] for stamp in grid]
    else:
        grid = chosen = stamps
    known = bisect_right(streams.references, grid[0], key=lambda entry: entry[0])
    ticks: list[Tick] = []
    commanded = streams.references[known - 1][1] if known else None
    for stamp, source in zip(grid, chosen, strict=True):
        sent = streams.sent[source]
        wanted = _requested_at(streams.requested, source, sent, period if often else 0)
        if commanded is not None:  # else nobody told the first reference: the row would invent one
            done, done_next = (_success_at(streams.successes, at) for at in (stamp, stamp + period))
            intervention = _intervention_at(streams.interventions, source, spec.command_period_ns)
            guarded = _acts_within(streams.guards, stamp, period)
            ticks.append(Tick(stamp, commanded, sent, wanted, intervention, guarded, done, done_next))
        commanded = sent
    return ticks


def relative(topic: str, names: tuple[str, ...]) -> str | None:
    """Which of ``names`` a topic is, in whatever namespace; None where it is none of them."""
    return next((name for name in names if topic.endswith(f"/{name}")), None)


def deserialise(message: LoggedMessage) -> Any:
    """The message as an object.

    Raises:
        BadMessageError: its bytes are not one of its type.
    """
    try:
        return TYPESTORE.deserialize_cdr(message.data, message.msgtype)
    except (SerdeError, struct.error, ValueError, IndexError, KeyError, AssertionError, MemoryError) as error:
        raise BadMessageError(message.topic, f"not a {message.msgtype}: {error!r}") from error


def _take(streams: SmallStreams, name: str, logged: LoggedMessage, spec: RobotSpec) -> None:
    message, stamp = deserialise(logged), logged.stamp_ns
    if name == SENT:
        streams.sent[stamp] = trajectory_targets(message, spec, name)[0]
    elif name == REQUESTED:
        streams.requested.append((stamp, trajectory_targets(message, spec, name)[0]))
    elif name in (COMMITTED, IN_FORCE):
        streams.references.append((stamp, trajectory_targets(message, spec, name)[0]))
    elif name == JOINTS:
        streams.states.append((stamp, name, joint_values(message, name)))
    elif name == SUCCESS:
        streams.successes.append((stamp, bool(message.data)))
    elif name == INTERVENTION:
        streams.interventions.append((stamp, bool(message.data)))
    elif name == GUARD:
        streams.guards.append((stamp, any(status.message for status in message.status)))
    elif name == TASK:
        streams.instruction = str(message.data)
    else:
        streams.states.append((stamp, name, pose_values(message, name)))


def _requested_at(requests: list[tuple[int, FloatArray]], stamp_ns: int, sent: FloatArray, at_most_ns: int) -> FloatArray:
    """What was asked for when ``sent`` was sent: the last request, if it is not older than ``at_most_ns``; else just that."""
    at = bisect_right(requests, stamp_ns, key=lambda entry: entry[0]) - 1
    return requests[at][1] if at >= 0 and stamp_ns - requests[at][0] <= at_most_ns else sent


def _intervention_at(interventions: list[tuple[int, bool]], stamp_ns: int, period_ns: int) -> bool:
    """Whether a person had asked for what was sent at ``stamp_ns``, the commands being ``period_ns`` apart.

    The message of an action has no stamp. In lock-step it is dated by the tick; in real time by when it was sent, which is a
    little after the tick, but before half the time to the next command has passed. False where nobody told.
    """
    at = bisect_right(interventions, stamp_ns + period_ns // 2, key=lambda entry: entry[0])
    return interventions[at - 1][1] if at else False


def _success_at(successes: list[tuple[int, bool]], stamp_ns: int) -> bool | None:
    """Whether the task had been done by ``stamp_ns``.

    In lock-step the arm tells it once a tick, and once more after the last tick with that tick's stamp, as time has stopped. So
    of several with the very stamp asked for the first counts; past the last tick, the last of all.
    """
    at = bisect_left(successes, stamp_ns, key=lambda entry: entry[0])
    if at < len(successes) and successes[at][0] == stamp_ns:
        return successes[at][1]
    return successes[at - 1][1] if at else None


def _acts_within(guards: list[tuple[int, bool]], stamp_ns: int, period_ns: int) -> bool:
    """Whether the guard acted at any time of the period that begins at a tick; its stamps are those of ticks."""
    half_ns = int(EVEN * period_ns)
    before = bisect_right(guards, stamp_ns + half_ns, key=lambda entry: entry[0])
    until = bisect_left(guards, stamp_ns + period_ns - half_ns, key=lambda entry: entry[0])
    return (before > 0 and guards[before - 1][1]) or any(acts for _, acts in guards[before:until])
