"""Choosing starts: reproducible, without repetition, by what they promise."""

import numpy as np
import pytest

from rl.starts import UNSEEN, StartMemory

POOL = range(100, 164)
HOPE = 0.3


@pytest.fixture
def memory() -> StartMemory:
    known = StartMemory()
    known.learn([100, 101, 102], np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]]))
    return known


def test_starts_are_drawn_by_run_and_update_without_repetition() -> None:
    memory = StartMemory()
    first = memory.draw(POOL, 10, run=0, update=0)
    assert first == memory.draw(POOL, 10, run=0, update=0)
    assert len(set(first)) == 10 and set(first) <= set(POOL)
    assert first != memory.draw(POOL, 10, run=0, update=1)
    assert first != memory.draw(POOL, 10, run=1, update=0)
    assert not set(first) & set(memory.draw(POOL, 10, run=0, update=0, avoid=first))


def test_an_undecided_start_promises_most_and_a_solved_one_nothing(memory: StartMemory) -> None:
    assert memory.weight(100, HOPE) == 0.0
    assert memory.weight(101, HOPE) == pytest.approx(HOPE)
    assert memory.weight(102, HOPE) == pytest.approx(0.5 + HOPE / 2)
    assert memory.weight(103, HOPE) == UNSEEN


def test_the_last_group_counts(memory: StartMemory) -> None:
    memory.learn([102], np.ones((1, 4)))
    assert memory.weight(102, HOPE) == 0.0


def test_draws_follow_the_weights(memory: StartMemory) -> None:
    drawn = [memory.draw([100, 101, 102], 1, run=0, update=update, focus=1.0, hope=HOPE)[0] for update in range(2000)]
    expected = np.array([0.0, HOPE, 0.5 + HOPE / 2])
    shares = [drawn.count(start) / len(drawn) for start in (100, 101, 102)]
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.035)


def test_without_focus_all_starts_are_alike(memory: StartMemory) -> None:
    drawn = [memory.draw([100, 101, 102], 1, run=0, update=update, focus=0.0)[0] for update in range(2000)]
    np.testing.assert_allclose([drawn.count(start) / 2000 for start in (100, 101, 102)], 1 / 3, atol=0.04)


def test_a_small_or_solved_pool_gives_what_it_has(memory: StartMemory) -> None:
    assert memory.draw([100], 5, run=0, update=0, focus=1.0) == [100]
    assert sorted(memory.draw([100, 101, 102], 5, run=0, update=0, focus=0.9)) == [100, 101, 102]
    assert memory.draw([100, 101], 5, run=0, update=0, avoid=[100, 101]) == []


def test_it_survives_a_file(memory: StartMemory) -> None:
    assert StartMemory.of_facts(memory.facts()) == memory
