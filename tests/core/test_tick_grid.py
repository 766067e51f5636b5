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
        assert all(-PERIOD // 2 <= now - tick <= slack for tick in ticks.due)
        given_ticks += [*ticks.missed, *ticks.due]
    expected = list(range(START, now + PERIOD // 2 + 1, PERIOD))
    assert given_ticks == expected


@given(st.integers(0, 4_000_000), st.lists(st.integers(0, 4_000_000), min_size=1, max_size=50))
def test_a_timer_that_jitters_gets_one_tick_at_each_call_though_the_first_was_late(first: int, later: list[int]) -> None:
    """A call is late by less than half a period, as is the first, with which the grid begins."""
    grid = TickGrid(PERIOD, PERIOD)
    grid.start(START + first)
    assert grid.take(START + first).due == (START + first,)
    for number, late in enumerate(later, start=1):
        ticks = grid.take(START + number * PERIOD + late)
        assert ticks.due == (START + first + number * PERIOD,) and not ticks.missed


def test_a_jump_of_the_clock_ends_the_grid() -> None:
    for jump in (LOST_NS + 1, -LOST_NS - 1):
        grid = TickGrid(PERIOD, PERIOD)
        grid.start(START)
        assert grid.take(START).due == (START,)
        assert grid.take(START + PERIOD + jump).lost
