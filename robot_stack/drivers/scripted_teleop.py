"""A script that sees the simulator's state as a teleoperation device: the embedded robot's experts (``drivers.behaviours``)."""

import time
from collections.abc import Callable

from robot_stack.core.stream_buffer import StreamBuffer
from robot_stack.core.types import FloatArray
from robot_stack.drivers.behaviours import Behaviour
from robot_stack.drivers.teleop_device import Requests


class ScriptedTeleop:
    """A ``TeleopDevice``. A script needs no deadman: it moves simulated arms only.

    Args:
        make: a fresh behaviour for one episode; raises our errors where there is none.
        lock_step: answer with the simulator's state of exactly the tick that asks.
    """

    def __init__(self, make: Callable[[], Behaviour], lock_step: bool) -> None:
        self._make, self._lock_step = make, lock_step
        self._behaviour: Behaviour | None = None
        self._simulator: StreamBuffer[FloatArray] = StreamBuffer("simulator's state")

    def open(self) -> None:
        self._behaviour = self._make()  # loads the simulator, which takes its time, before anything waits for it

    def reset(self) -> None:
        self._behaviour = self._make()

    def see(self, stamp_ns: int, state: FloatArray) -> None:
        """Take in the simulator's state [39]."""
        self._simulator.push(stamp_ns, time.monotonic_ns(), state)

    def target(self, tick_ns: int, reference: FloatArray) -> FloatArray | None:
        if self._behaviour is None or (self._lock_step and not self._simulator.reaches(tick_ns)):
            return None
        state = self._simulator.until(tick_ns)
        return None if state is None else self._behaviour.target(reference, state.value)

    def requests(self) -> Requests:
        return Requests()

    def close(self) -> None:
        self._behaviour = None
