"""What a stream of pictures looks like from outside: whether it is frozen, how fast it comes and what is missing.

Times are integer nanoseconds.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from robot_stack.core.types import ImageArray

WINDOW_NS = 2_000_000_000  # over which the rate is measured


class FrozenPictures:
    """Tells a camera that serves one picture again and again; only for cameras whose healthy pictures always differ.

    Args:
        limit_ns: longest time that identical pictures may come [ns].
    """

    def __init__(self, limit_ns: int) -> None:
        self._limit_ns = limit_ns
        self._picture: ImageArray | None = None
        self._since_ns = 0

    def frozen(self, stamp_ns: int, image: ImageArray) -> bool:
        """Whether the pictures up to this one, the next in time, have been identical for longer than the limit."""
        if self._picture is None or not np.array_equal(image, self._picture):
            self._picture, self._since_ns = image, stamp_ns
        return stamp_ns - self._since_ns > self._limit_ns


@dataclass(frozen=True)
class StreamHealth:
    """How a stream does.

    Attributes:
        rate_hz: achieved lately; 0 before the second picture.
        received: pictures since the start.
        dropped: pictures since the start that must have been made and never came, by the gaps between stamps.
        age_ns: time since the last stamp [ns]; None before the first picture.
    """

    rate_hz: float
    received: int
    dropped: int
    age_ns: int | None


class StreamMeter:
    """Measures ``StreamHealth``.

    Args:
        rate_hz: nominal rate of the stream.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = 1e9 / rate_hz
        self._stamps: deque[int] = deque()
        self._received = self._dropped = 0

    def add(self, stamp_ns: int) -> None:
        """A picture came."""
        if self._stamps:
            self._dropped += max(0, round((stamp_ns - self._stamps[-1]) / self._period_ns) - 1)
        self._stamps.append(stamp_ns)
        self._received += 1
        self._forget(stamp_ns)

    def health(self, now_ns: int) -> StreamHealth:
        """How the stream does at ``now_ns``."""
        if not self._stamps:
            return StreamHealth(0.0, 0, 0, None)
        last_ns = self._stamps[-1]
        self._forget(now_ns)
        span_ns = last_ns - self._stamps[0]
        rate = (len(self._stamps) - 1) * 1e9 / span_ns if span_ns > 0 else 0.0
        return StreamHealth(rate, self._received, self._dropped, now_ns - last_ns)

    def _forget(self, now_ns: int) -> None:
        """Leave out what is older than the window, but for the youngest stamp."""
        while len(self._stamps) > 1 and now_ns - self._stamps[0] > WINDOW_NS:
            self._stamps.popleft()
