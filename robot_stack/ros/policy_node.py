"""A policy as a lifecycle node: configure loads and warms up, activate begins an episode, deactivate falls silent.

It infers when the executor asks (``committed_actions`` with the frame id "request"); in real time as soon as the next picture
has come, because the last may be a whole period old. The executor asks at every action until it has its answer, which
therefore answers all requests before it. The reference of deltas is the target that was in force at the observation.
Inference runs in a worker thread, never in a callback. Heartbeats come from that worker, so that one that hangs is silent;
while it infers they come from the node and say so: how long that may last the executor knows. In real time it is silent, too,
and infers nothing, while one of its observations has expired: it may be the only node that a picture does not reach.
"""

import dataclasses
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Header, String
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.errors import ProphRLError
from robot_stack.core.ports import Policy
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import check_ages
from robot_stack.core.stream_buffer import RobotStreams, StreamBuffer
from robot_stack.core.types import ActionChunk, FloatArray
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections, watch_types
from robot_stack.ros.inference_worker import InferenceWorker, Job
from robot_stack.ros.node import Complaints, declare_parameters, hurry, keep_what_is_there, run_node
from robot_stack.ros.policies import PolicyAddress
from robot_stack.ros.stream_bridge import StreamBridge


@dataclass(frozen=True)
class PolicySettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        policy: "onnx:<folder of an exported policy>" or "replay:<log of an episode>".
        prefix: targets that a chunk has to begin with, as they will be sent while it is computed (real-time chunking); else 0.
        exploration: noise level with which it acts; 0 is the policy as it is evaluated.
        seed: of the noise of the next episode; read on activation.
        lock_step: answer with the observation of exactly the tick that asks.
        heartbeat_s: longest time between two heartbeats [s].
        realtime_priority: see ``node.hurry``; in real time only. Inference on the processor then goes before all else, too.
        sensor_reliability, sensor_depth: quality of service of the observation streams.
    """

    robot: str = "sim_metaworld"
    policy: str = ""
    prefix: int = 0
    exploration: float = 0.0
    seed: int = 0
    lock_step: bool = True
    heartbeat_s: float = 0.03
    realtime_priority: int = 0
    sensor_reliability: str = "reliable"
    sensor_depth: int = 100


@dataclass(frozen=True)
class Request:
    """What the executor asks for.

    Attributes:
        stamp_ns: time of the tick [ns].
        since_ns: when the first request since the last answer came, steady clock.
    """

    stamp_ns: int
    since_ns: int


class PolicyNode(LifecycleNode):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("policy")
        self._settings = declare_parameters(self, PolicySettings)
        self._spec = RobotSpec.load(robot_file(self._settings.robot))
        self._policy: Policy | None = None
        self._worker: InferenceWorker | None = None
        self._failure: BaseException | None = None
        self._streams = RobotStreams(self._spec, self._settings.lock_step)
        self._committed: StreamBuffer[FloatArray] = StreamBuffer(topics.COMMITTED_ACTIONS)
        self._asked: Request | None = None
        self._instruction = ""
        self._active = False
        self._episode = 0
        self._complaints = Complaints(self.get_logger())
        self._chunk_out = self.create_publisher(JointTrajectory, topics.ACTION_CHUNK, topics.COMMANDS)
        self._heartbeat_out = self.create_publisher(Header, topics.HEARTBEAT, topics.COMMANDS)
        StreamBridge(
            *(self, self._spec, self._streams, self._complaints, self._try_infer),
            pixels=True,
            reliability=self._settings.sensor_reliability,
            depth=self._settings.sensor_depth,
        )
        self.create_subscription(String, topics.TASK, self._on_task, topics.LATCHED)
        self.create_subscription(JointTrajectory, topics.COMMITTED_ACTIONS, self._on_committed, topics.COMMANDS)
        self.create_timer(self._settings.heartbeat_s, self._on_busy, clock=RosClock(clock_type=ClockType.STEADY_TIME))
        tell_connections(self)
        watch_types(self, self._complaints)
        # A request may have come that the last answer does not answer: of the next episode.
        self._worker_free = self.create_guard_condition(self._try_infer)
        self._worker_failed = self.create_guard_condition(self._on_failed)
        if not self._settings.lock_step:
            hurry(self, self._settings.realtime_priority)

    def load(self) -> Policy:
        """The policy that the parameters name, ready to answer in time.

        Raises:
            ProphRLError: see ``PolicyAddress``.
        """
        return PolicyAddress.parse(self._settings.policy).load(self._spec, self._settings.exploration)

    # Life

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._policy = self.load()
        except ProphRLError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(f"{self._settings.policy} ready")
        told = (self._answer, self._worker_free.trigger, self._beat, self._fail)
        self._worker = InferenceWorker(self._policy, *told, self._settings.heartbeat_s)
        self._worker.start()
        keep_what_is_there()
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._policy is not None
        self._policy.reset(int(self.get_parameter("seed").value))
        self._asked = None
        self._committed.clear()
        self._episode += 1
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._end_worker()
        self._policy = None
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        self._active = False
        self._end_worker()

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    # Inputs

    def _on_task(self, message: String) -> None:
        self._instruction = message.data

    def _on_committed(self, message: JointTrajectory) -> None:
        if not self._active:
            return
        with self._complaints.about(topics.COMMITTED_ACTIONS):
            targets = convert.trajectory_targets(message, self._spec, topics.COMMITTED_ACTIONS)
            stamp_ns, received_ns = convert.to_ns(message.header.stamp), time.monotonic_ns()
            self._committed.push(stamp_ns, received_ns, targets)
            if message.header.frame_id == topics.REQUEST:
                self._asked = Request(stamp_ns, received_ns if self._asked is None else self._asked.since_ns)
        self._try_infer()

    # Inference

    def _try_infer(self) -> None:
        """Begin to infer once everything that the request needs is here."""
        asked, worker = self._asked, self._worker
        if asked is None or not self._active or worker is None or worker.busy:
            return
        if self._settings.lock_step:
            job = self._job(asked.stamp_ns) if self._streams.complete(asked.stamp_ns) else None
        else:
            now_ns = int(self.get_clock().now().nanoseconds)
            job = self._job(now_ns) if self._sees() and self._fresh(asked.since_ns) else None
        if job is not None:
            self._beat(topics.INFERRING)  # first: the worker would wait for the interpreter meanwhile
            worker.ask(job)

    def _on_busy(self) -> None:
        if self._worker is not None and self._worker.busy:
            self._beat(topics.INFERRING)

    def _sees(self) -> bool:
        """Whether no observation has expired; in lock-step the request names the tick whose observations it wants."""
        if self._settings.lock_step:
            return True
        now_ns = self.get_clock().now().nanoseconds
        return not check_ages(self._streams.ages(), now_ns, time.monotonic_ns())

    def _fresh(self, asked_ns: int) -> bool:
        """Whether a picture has come since the request (steady clock)."""
        pictures = [stream.latest for stream in self._streams.cameras.values()]
        return any(picture is not None and picture.received_ns >= asked_ns for picture in pictures)

    def _job(self, now_ns: int) -> Job | None:
        """What there is to infer from at ``now_ns``; None while something is missing."""
        blank = np.zeros(len(self._spec.actions))
        observation = self._streams.observe(now_ns, blank, self._instruction)
        latest = self._committed.latest
        if observation is None or latest is None:
            return None
        told = self._committed.since(observation.stamp_ns)
        if told is not None:
            in_force, *others = told.value
        else:  # it was made after the last tick, whose target is in force by then
            in_force, *others = latest.value[1:] if len(latest.value) > 1 else latest.value
        prefix = np.array(others[: self._settings.prefix]).reshape(-1, len(in_force))
        return Job(self._episode, dataclasses.replace(observation, commanded=in_force), prefix)

    def _answer(self, episode: int, chunk: ActionChunk) -> None:
        if self._active and episode == self._episode:
            self._asked = None
            self._chunk_out.publish(convert.chunk_message(chunk, self._spec))

    def _beat(self, state: str = "") -> None:
        if self._active and self._sees():
            self._heartbeat_out.publish(convert.header(self.get_clock().now().nanoseconds, state))

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._worker_failed.trigger()

    def _on_failed(self) -> None:
        """Raises: ProphRLError: the policy has failed, which is why the node ends."""
        raise ProphRLError(f"inference failed, {type(self._failure).__name__}: {self._failure}") from self._failure


def main(_: Any = None) -> int:
    return run_node(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
