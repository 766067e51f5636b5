"""Splicing: no target is sent twice or left out, however late chunks come."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robot_stack.core.chunk_buffer import ChunkBuffer
from robot_stack.core.types import ActionChunk

PERIOD = 50_000_000


def chunk(stamp: int, first: float, length: int = 5) -> ActionChunk:
    """Targets first, first + 1, ..."""
    return ActionChunk(stamp, PERIOD, first + np.arange(length, dtype=float)[:, None])


def test_in_step_every_target_is_sent_once_in_order() -> None:
    buffer = ChunkBuffer(1)
    sent = []
    for tick in range(12):
        now = tick * PERIOD
        if not len(buffer):
            assert buffer.push(chunk(now, first=tick), received_ns=now) == 5
        target = buffer.pop(now)
        assert target is not None
        sent.append(target.item())
    assert sent == list(range(12))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 3))
def test_late_chunks_continue_where_the_arm_is(delays: list[int], hold_every: int) -> None:
    """A world in which target k is the k-th step of one path: a chunk computed at step s holds s, s + 1, ...

    Whatever the delay between observation and receipt, and however often a tick is skipped, what is sent goes up by one.
    """
    buffer = ChunkBuffer(1)
    sent: list[float] = []
    now = 0
    for delay in delays:
        pending = chunk(now + 1, first=len(sent))  # seen just after the tick
        for _ in range(delay):  # the old chunk goes on while the new one is computed
            now += PERIOD
            if hold_every and (now // PERIOD) % hold_every == 0:
                continue  # a tick in which the arm held: nothing is consumed
            target = buffer.pop(now)
            if target is not None:
                sent.append(target.item())
        buffer.push(pending, now)
        now += PERIOD
        target = buffer.pop(now)
        if target is not None:
            sent.append(target.item())
    assert sent == list(range(len(sent)))


def test_a_chunk_that_is_older_or_done_is_dropped() -> None:
    buffer = ChunkBuffer(1)
    buffer.push(chunk(10 * PERIOD, first=0), 0)
    assert buffer.push(chunk(9 * PERIOD, first=100), 0) == 0
    for tick in range(5):
        buffer.pop((10 + tick) * PERIOD)
    assert buffer.push(chunk(10 * PERIOD, first=0), 0) == 0
    assert buffer.pop(16 * PERIOD) is None


def test_upcoming_is_what_will_be_popped() -> None:
    buffer = ChunkBuffer(2)
    assert buffer.upcoming.shape == (0, 2)
    buffer.replace(ActionChunk(0, PERIOD, np.arange(6.0).reshape(3, 2)), 0)
    expected = buffer.upcoming
    np.testing.assert_array_equal(expected, np.stack([buffer.pop(tick * PERIOD) for tick in range(3)]))
    buffer.replace(ActionChunk(0, PERIOD, np.ones((3, 2))), 0)
    buffer.clear()
    assert buffer.pop(0) is None
