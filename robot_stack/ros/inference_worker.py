"""The thread in which a policy infers: a callback of its node would keep pictures and heartbeats waiting."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from robot_stack.core.ports import Policy
from robot_stack.core.types import ActionChunk, FloatArray, Observation


@dataclass(frozen=True)
class Job:
    """One inference.

    Attributes:
        episode: number of the episode.
        observation: with the target in force then.
        prefix: targets [P, A] after the one in force that will be sent in any case; the chunk begins with them.
    """

    episode: int
    observation: Observation
    prefix: FloatArray


class InferenceWorker(threading.Thread):
    """Infers what it is given, one observation at a time.

    Args:
        policy: whose ``infer`` is called.
        answer: called with the episode and each chunk of it.
        free: called when the worker is free again.
        beat: called whenever the worker shows that it is alive.
        fail: called once, with the error that ended the worker.
        heartbeat_s: longest time between two beats while idle [s].
    """

    def __init__(
        self,
        policy: Policy,
        answer: Callable[[int, ActionChunk], None],
        free: Callable[[], None],
        beat: Callable[[], None],
        fail: Callable[[BaseException], None],
        heartbeat_s: float,
    ) -> None:
        super().__init__(name="inference", daemon=True)
        self._policy, self._answer, self._free, self._beat, self._fail = policy, answer, free, beat, fail
        self._heartbeat_s = heartbeat_s
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._busy = threading.Event()

    @property
    def busy(self) -> bool:
        return self._busy.is_set()

    def ask(self, job: Job) -> None:
        self._busy.set()
        self._jobs.put(job)

    def stop(self) -> None:
        self._jobs.put(None)
        self.join(timeout=5.0)

    def run(self) -> None:
        try:
            while self._serve():
                self._beat()
        except Exception as error:  # noqa: BLE001  a runtime raises what it likes; a node without its worker must not look alive
            self._fail(error)

    def _serve(self) -> bool:
        """Wait for one job at most; False when it is time to end."""
        try:
            job = self._jobs.get(timeout=self._heartbeat_s)
        except queue.Empty:
            return True
        if job is None:
            return False
        self._answer(job.episode, self._policy.infer(job.observation, job.prefix))
        self._busy.clear()
        self._free()
        return True
