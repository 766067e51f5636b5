"""A clock for ``use_sim_time`` that can leap: `python -m benchmarks.leaping_clock`.

Services ``~/leap_<milliseconds>``, e.g. ``~/leap_5000`` and ``~/leap_back_5000``, answer with the time at which they did [ns].
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from robot_stack.ros import convert, topics
from robot_stack.ros.node import run_node

PERIOD_S = 0.002
LEAPS_MS = (5000, -5000, 300, -300)


def leap_service(leap_ms: int) -> str:
    """Name of the service that lets the clock leap."""
    return f"leap_{leap_ms}" if leap_ms > 0 else f"leap_back_{-leap_ms}"


class LeapingClockNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("clock")
        self._offset_ns = 0
        self._out = self.create_publisher(Clock, topics.CLOCK, topics.COMMANDS)
        for leap_ms in LEAPS_MS:
            self.create_service(Trigger, f"~/{leap_service(leap_ms)}", self._leaper(leap_ms))
        self.create_timer(PERIOD_S, self._tell, clock=RosClock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Nothing to let go of."""

    def _leaper(self, leap_ms: int) -> Callable[..., Any]:
        def leap(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            self._offset_ns += leap_ms * 1_000_000
            response.success, response.message = True, str(time.time_ns())
            return response

        return leap

    def _tell(self) -> None:
        self._out.publish(Clock(clock=convert.to_stamp(time.time_ns() + self._offset_ns)))


def main(_: Any = None) -> int:
    return run_node(LeapingClockNode)


if __name__ == "__main__":
    sys.exit(main())
