"""What a robot notes about marked commands, and what follows from it: known answers."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plain_arm import MARKS, RobotsEnd, mark_of, number_of_mark

MS = 1_000_000


@given(st.integers(0, 10 * MARKS))
def test_a_mark_is_an_opening_that_bears_its_number(number: int) -> None:
    assert 0.0 < mark_of(number) < 1.0
    assert number_of_mark(mark_of(number)) == number % MARKS


def test_reactions_are_the_ages_of_first_commands_less_the_models_time(tmp_path: Path) -> None:
    told = [k * 10 * MS for k in range(10)]
    commands = [(45 * MS, mark_of(1)), (55 * MS, mark_of(1)), (65 * MS, mark_of(3)), (75 * MS, mark_of(3))]
    RobotsEnd(told, commands).write(tmp_path / "notes.json")
    end = RobotsEnd.read(tmp_path / "notes.json")
    assert end.reactions_ms(30.0) == [5.0, 5.0]
    assert end.ages_ms(30.0) == [5.0, 15.0, 5.0, 15.0]


def test_a_number_that_has_begun_again_means_the_youngest_observation_that_bears_it() -> None:
    told = [k * 10 * MS for k in range(MARKS + 20)]
    at_ns = told[-1] + 2 * MS
    assert RobotsEnd(told, [(at_ns, mark_of(5))]).reactions_ms(0.0) == [142.0], "number 4101, not number 5"
    assert RobotsEnd(told, [(at_ns, mark_of(4000))]).reactions_ms(0.0) == [(MARKS + 19 - 4000) * 10.0 + 2.0]


def test_a_command_from_before_any_observation_counts_for_nothing() -> None:
    assert RobotsEnd([10 * MS], [(5 * MS, mark_of(0)), (20 * MS, mark_of(7))]).ages_ms(0.0) == []
