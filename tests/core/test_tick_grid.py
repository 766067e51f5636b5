"""No tick is given twice or left out, and ticks lie on one grid however the timer jitters."""

from hypothesis import given
from hypothesis import strategies as st

from robot_stack.core.tick_grid import LOST_NS, TickGrid

PERIOD = 10_000_000
START = 7_000_000_123


@given(st.lists(st.integers(0, 5 * PERIOD), min_size=1, max_size=50), st.integers(0, 3))
def test_every_tick_once_on_the_grid_and_missed_if_it_is_too_late(waits: list[int], periods: int) -> None:
    slack = periods * PERIOD
    grid = TickGrid(PERIOD, slack)
    grid.start(START)
    now, given_ticks = START, []
    for wait in waits:
        now += wait
        ticks = grid.take(now)
        assert not ticks.lost
        assert all(now - tick > slack for tick in ticks.missed)
        assert all(0 <= now - tick <= slack for tick in ticks.due)
        given_ticks += [*ticks.missed, *ticks.due]
    expected = list(range(START, now + 1, PERIOD))
    assert given_ticks == expected


def test_a_jump_of_the_clock_ends_the_grid() -> None:
    for jump in (LOST_NS + 1, -LOST_NS - 1):
        grid = TickGrid(PERIOD, PERIOD)
        grid.start(START)
        assert grid.take(START).due == (START,)
        assert grid.take(START + PERIOD + jump).lost
