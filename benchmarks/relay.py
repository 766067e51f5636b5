"""One stream through a process of its own that can spoil it: `python -m benchmarks.relay --ros-args -p topic:=... -p kind:=...`

It hears ``upstream/<topic>`` and tells ``<topic>``. The services ``~/<fault>`` begin a fault, ``~/healthy`` ends it; they
answer with the time at which they did [ns].
"""

import copy
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from robot_stack.core.errors import UnknownNameError
from robot_stack.ros import convert, topics
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import declare_parameters, run_node

KINDS: Mapping[str, Any] = {"joints": JointState, "pose": PoseStamped, "picture": Image}
LATE_NS = 400_000_000
LEAP_NS = 5_000_000_000  # of a stamp
UPSTREAM = "upstream"


@dataclass(frozen=True)
class RelaySettings:
    """Parameters of the node.

    Attributes:
        topic: relative name.
        kind: of its messages: "joints", "pose" or "picture".
    """

    topic: str = ""
    kind: str = ""


def with_nan(message: Any) -> Any:
    """The first number of a joint state or a pose is none."""
    if isinstance(message, JointState):
        message.position[0] = np.nan
    else:
        message.pose.position.x = np.nan
    return message


def unknown_joint(message: Any) -> Any:
    """One joint has another name."""
    message.name = ["somebody_elses_joint", *message.name[1:]]
    return message


def other_order(message: Any) -> Any:
    """The same values in another order."""
    message.name, message.position = message.name[::-1], message.position[::-1]
    message.velocity = message.velocity[::-1]
    return message


def cut(message: Any) -> Any:
    """Half of the bytes of a picture."""
    message.data = message.data[: len(message.data) // 2]
    return message


def leapt(shift_ns: int) -> Callable[[Any], Any]:
    """Stamped by a clock that is wrong."""

    def change(message: Any) -> Any:
        message.header.stamp = convert.to_stamp(convert.to_ns(message.header.stamp) + shift_ns)
        return message

    return change


CHANGES: Mapping[str, Callable[[Any], Any]] = {
    "nan": with_nan,
    "unknown_joint": unknown_joint,
    "other_order": other_order,
    "cut": cut,
    "ahead": leapt(LEAP_NS),
    "behind": leapt(-LEAP_NS),
}
FAULTS = ("healthy", "frozen", "late", "mute", *CHANGES)


class RelayNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("relay")
        settings = declare_parameters(self, RelaySettings)
        if settings.kind not in KINDS:
            raise UnknownNameError("kind of stream", settings.kind, KINDS)
        self._fault = "healthy"
        self._last: Any = None
        self._waiting: deque[tuple[int, Any]] = deque()
        qos = topics.sensor_qos("reliable", 20)
        self._out = self.create_publisher(KINDS[settings.kind], settings.topic, qos)
        self.create_subscription(KINDS[settings.kind], f"{UPSTREAM}/{settings.topic}", self._on_message, qos)
        for fault in FAULTS:
            self.create_service(Trigger, f"~/{fault}", self._switch(fault))
        tell_connections(self)

    def close(self) -> None:
        """Nothing to let go of."""

    def _switch(self, fault: str) -> Callable[..., Any]:
        def switch(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            self._fault = fault
            self._waiting.clear()
            response.success, response.message = True, str(time.time_ns())
            return response

        return switch

    def _on_message(self, message: Any) -> None:
        if self._fault == "healthy":
            self._last = message
            self._out.publish(message)
        elif self._fault == "frozen":
            self._out.publish(self._last)
        elif self._fault == "late":
            self._waiting.append((time.monotonic_ns(), message))
            while self._waiting and time.monotonic_ns() - self._waiting[0][0] >= LATE_NS:
                self._out.publish(self._waiting.popleft()[1])
        elif self._fault != "mute":
            self._out.publish(CHANGES[self._fault](copy.deepcopy(message)))


def main(_: Any = None) -> int:
    return run_node(RelayNode)


if __name__ == "__main__":
    sys.exit(main())
