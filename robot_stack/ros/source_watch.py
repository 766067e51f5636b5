"""Whether the source of actions is still there: a policy by its heartbeat, a teleoperator by the age of its last target."""

import time
from typing import Any

from std_msgs.msg import Header

from robot_stack.core.chunk_buffer import ChunkBuffer
from robot_stack.core.safety import GuardReason, StreamAge
from robot_stack.ros import convert, topics


class SourceWatch:
    """Knows when the source was heard last.

    Args:
        node: that owns the subscription.
        source: "policy", which sends heartbeats, or "teleop".
        timeout_s: longest silence [s].
    """

    def __init__(self, node: Any, source: str, timeout_s: float) -> None:
        self._source, self._limit_ns = source, round(timeout_s * convert.SECOND_NS)
        self._heard: tuple[int, int] | None = None  # stamp, receipt [ns]
        if source == "policy":
            node.create_subscription(Header, topics.HEARTBEAT, self._on_heartbeat, topics.COMMANDS)

    def age(self, waiting: ChunkBuffer) -> StreamAge:
        """For ``safety.check_ages``; ``waiting`` holds what a teleoperator said last."""
        heard = self._heard if self._source == "policy" else (waiting.stamp_ns, waiting.received_ns)
        stamp_ns, received_ns = heard or (None, None)
        return StreamAge(self._source, stamp_ns, received_ns, self._limit_ns, GuardReason.SOURCE_SILENT)

    def _on_heartbeat(self, message: Header) -> None:
        self._heard = (convert.to_ns(message.stamp), time.monotonic_ns())
