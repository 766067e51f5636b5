"""Records every topic of the wire contract into one crash-safe log per episode.

Messages are stored as they came, unread. They are put in the order in which they were sent (source timestamps of one machine),
because topics overtake each other; so a message without a stamp of its own can be dated by the ``/clock`` sent before it.

Services: ``~/start``; ``~/success``, ``~/failure``, ``~/discard`` and ``~/stop`` (no label) end the episode, or label the last.
"""

import heapq
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from std_srvs.srv import Trigger

from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.episodes.log_writer import EpisodeLogWriter
from robot_stack.episodes.meta import EpisodeMeta, Label, write_label
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.camera_knowledge import CameraKnowledge
from robot_stack.ros.connections import tell_connections, watch_types
from robot_stack.ros.node import Complaints, declare_parameters, run_node

SETTLE_S = 0.1  # a message that was sent earlier arrives at most this much later than another
LABELS = {"stop": Label.UNLABELLED, "success": Label.SUCCESS, "failure": Label.FAILURE, "discard": Label.DISCARD}


@dataclass(frozen=True)
class RecorderSettings:
    """Parameters of the node; all but the first two and the last three are read at ``~/start``.

    Attributes:
        robot: name of the robot file, or a path to one.
        cell: path of the cell file, whose calibration files tell of the cameras; "": none.
        folder: where the logs go.
        name: of the episode; empty: the time of day.
        task, instruction, seed, source, policy_hash: see ``EpisodeMeta``; a negative seed stands for none.
        lock_step: date messages that have no stamp by ``/clock``; else by the time when they were sent.
        sensor_reliability, sensor_depth: quality of service of the observation streams.
    """

    robot: str = "sim_metaworld"
    cell: str = ""
    folder: str = "episodes"
    name: str = ""
    task: str = ""
    instruction: str = ""
    seed: int = -1
    source: str = ""
    policy_hash: str = ""
    lock_step: bool = True
    sensor_reliability: str = "reliable"
    sensor_depth: int = 200


@dataclass(frozen=True, order=True)
class SentMessage:
    """One message on its way into the log, ordered by when it was sent."""

    sent_ns: int
    number: int  # of its receipt, for messages sent in the same nanosecond
    entry_index: int
    cdr: bytes


class RecorderNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self._settings = declare_parameters(self, RecorderSettings)
        self._robot_file = robot_file(self._settings.robot)
        spec = RobotSpec.load(self._robot_file)
        self._entries = topics.contract(spec)
        self._cameras = CameraKnowledge(spec, self._settings.cell, self.get_logger().warning)
        self._cameras_logged = False
        self._log: EpisodeLogWriter | None = None
        self._last_path: Path | None = None
        self._waiting: list[SentMessage] = []  # a heap
        self._numbers = itertools.count()
        self._latched: dict[int, bytes] = {}
        self._clock_ns = 0
        self._steady = RosClock(clock_type=ClockType.STEADY_TIME)
        sensor = topics.sensor_qos(self._settings.sensor_reliability, self._settings.sensor_depth)
        reliable = topics.sensor_qos("reliable", self._settings.sensor_depth)
        for index, entry in enumerate(self._entries):
            qos = topics.LATCHED if entry.latched else sensor if entry.sensor else reliable
            self._subscribe(index, entry, qos)
        self.create_service(Trigger, "~/start", self._on_start)
        tell_connections(self)
        watch_types(self, Complaints(self.get_logger()))
        apart = MutuallyExclusiveCallbackGroup()  # these wait for messages, which come in by the node's own group
        for name, label in LABELS.items():
            self.create_service(Trigger, f"~/{name}", self._ender(label), callback_group=apart)
        self.create_timer(SETTLE_S, self._on_timer, clock=self._steady)

    def _subscribe(self, index: int, entry: topics.TopicEntry, qos: QoSProfile) -> None:
        def receive(cdr: bytes, info: dict[str, int]) -> None:
            if entry.latched:
                self._latched[index] = cdr
            self._cameras.hear(entry.name, cdr)
            if self._log is not None:
                heapq.heappush(self._waiting, SentMessage(info["source_timestamp"], next(self._numbers), index, cdr))
            elif entry.name == topics.CLOCK:
                self._clock_ns = convert.stamp_of_cdr(cdr)

        self.create_subscription(entry.message, entry.name, receive, qos, raw=True)

    def _on_start(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._log is not None:
            response.success, response.message = False, f"already recording {self._log.name}"
            return response
        value = {name: self.get_parameter(name).value for name in ("folder", "name", "seed")}
        facts = {name: self.get_parameter(name).value for name in ("task", "instruction", "source", "policy_hash")}
        try:
            self._cameras.read_files()
            meta = EpisodeMeta.for_robot(
                self._robot_file,
                value["name"] or time.strftime("%Y-%m-%d_%H-%M-%S"),
                seed=value["seed"] if value["seed"] >= 0 else None,
                **facts,
            )
            self._log = EpisodeLogWriter(Path(value["folder"]), meta)
            self._cameras_logged = False
            for index, cdr in self._latched.items():
                self._write(index, cdr, self._now_ns())
        except (ProphRLError, OSError) as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.message = True, self._log.name
        return response

    def _ender(self, label: Label) -> Callable[..., Any]:
        async def end(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            if self._log is not None:
                await self._settle()
            try:
                response.message = self._end(label)
                response.success = True
            except (ProphRLError, OSError) as error:
                response.success, response.message = False, str(error)
            return response

        return end

    def _end(self, label: Label) -> str:
        if self._log is None:
            if self._last_path is None:
                raise ProphRLError("nothing is being recorded, and nothing was")
            write_label(self._last_path, label)
            return str(self._last_path)
        log = self._log
        try:
            self._store(until_ns=None)
            self._log_cameras()
        finally:
            self._log = None
            self._waiting.clear()
        self._last_path = log.close(label)
        return str(self._last_path)

    async def _settle(self) -> None:
        """Let messages that are on their way arrive, without keeping this thread from taking them."""
        done = Future(executor=self.executor)
        timer = self.create_timer(SETTLE_S, lambda: done.set_result(None) if not done.done() else None, clock=self._steady)
        await done
        self.destroy_timer(timer)

    def _on_timer(self) -> None:
        try:
            self._store(until_ns=time.time_ns() - round(SETTLE_S * 1e9))
            if self._cameras.complete:
                self._log_cameras()
        except (ProphRLError, OSError) as error:
            self.get_logger().error(f"recording ended: {error}")
            if self._log is not None:
                self._log.abort()
            self._log = None
            self._waiting.clear()

    def _store(self, until_ns: int | None) -> None:
        """Write what was sent before ``until_ns``, or everything."""
        while self._log is not None and self._waiting and (until_ns is None or self._waiting[0].sent_ns < until_ns):
            message = heapq.heappop(self._waiting)
            entry = self._entries[message.entry_index]
            if entry.name == topics.CLOCK:
                self._clock_ns = convert.stamp_of_cdr(message.cdr)
            own_stamp = entry.stamped or entry.name == topics.CLOCK
            stamp_ns = convert.stamp_of_cdr(message.cdr) if own_stamp else self._date(message.sent_ns)
            self._write(message.entry_index, message.cdr, stamp_ns)

    def _log_cameras(self) -> None:
        """Once an episode: as soon as everything is known, at the latest at its end."""
        if self._log is not None and not self._cameras_logged:
            self._cameras_logged = True
            record = self._cameras.record()
            if record:
                self._log.describe_cameras(record)

    def _write(self, index: int, cdr: bytes, stamp_ns: int) -> None:
        assert self._log is not None
        entry = self._entries[index]
        self._log.write(entry.name, topics.type_name(entry.message), cdr, stamp_ns)

    def _date(self, sent_ns: int) -> int:
        return self._clock_ns if self._settings.lock_step else sent_ns

    def _now_ns(self) -> int:
        return self._date(time.time_ns())

    def close(self) -> None:
        """End an episode in flight without a label; it stays whole."""
        if self._log is not None:
            self._end(Label.UNLABELLED)


def main(_: Any = None) -> int:
    return run_node(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
