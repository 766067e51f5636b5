"""When the executor's ticks are due: an even grid, so that a timer that jitters does not make the arm's velocity jitter.

A tick is given to the call of the timer that comes nearest to it, which may be a little before its time. Otherwise a grid that
began with a call that was late would have each of its ticks missed by the call that is meant for it, by a hair, and given a
whole period late.
"""

from dataclasses import dataclass

LOST_NS = 1_000_000_000  # lateness after which a grid is given up


@dataclass(frozen=True)
class DueTicks:
    """Ticks whose time has come.

    Attributes:
        missed: those that are too late to be told to the arm [ns].
        due: the others [ns].
        lost: the grid is over: the process slept, or the clock has jumped.
    """

    missed: tuple[int, ...] = ()
    due: tuple[int, ...] = ()
    lost: bool = False


class TickGrid:
    """Ticks one period apart.

    Args:
        period_ns: their distance [ns].
        slack_ns: how late a tick may be told to the arm [ns].
    """

    def __init__(self, period_ns: int, slack_ns: int) -> None:
        self._period_ns, self._slack_ns = period_ns, slack_ns
        self._next_ns = 0

    def start(self, now_ns: int) -> None:
        """The first tick is now."""
        self._next_ns = now_ns

    def take(self, now_ns: int) -> DueTicks:
        """The ticks that have come due by ``now_ns``, or will within half a period; they are not given again."""
        late_ns = now_ns - self._next_ns
        if late_ns > LOST_NS or late_ns < -LOST_NS:
            return DueTicks(lost=True)
        ticks = tuple(range(self._next_ns, now_ns + self._period_ns // 2 + 1, self._period_ns))
        self._next_ns += len(ticks) * self._period_ns
        latest_missed = now_ns - self._slack_ns
        return DueTicks(tuple(t for t in ticks if t < latest_missed), tuple(t for t in ticks if t >= latest_missed))
