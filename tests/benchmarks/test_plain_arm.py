"""What a robot notes about marked commands, and what follows from it: known answers."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plain_arm import MARKS, UNIT_NS, RobotsEnd, mark_of, mark_of_stamp, number_of_mark

MS = 1_000_000


@given(st.integers(0, 10 * MARKS))
def test_a_mark_is_an_opening_that_bears_its_number(number: int) -> None:
    assert 0.0 < mark_of(number) < 1.0
    assert number_of_mark(mark_of(number)) == number % MARKS


def test_reactions_are_the_ages_of_first_commands_less_the_models_time(tmp_path: Path) -> None:
    first, second = mark_of_stamp(10 * MS), mark_of_stamp(30 * MS)
    commands = [(35 * MS, mark_of_stamp(0)), (45 * MS, first), (55 * MS, first), (65 * MS, second), (75 * MS, second)]
    RobotsEnd(commands).write(tmp_path / "notes.json")
    end = RobotsEnd.read(tmp_path / "notes.json")
    assert end.reactions_ms(30.0) == [4.75, 4.75]  # to the middle of half a millisecond
    assert end.ages_ms(30.0) == [4.75, 4.75, 14.75, 4.75, 14.75]


@given(st.integers(0, 10 * MARKS * UNIT_NS), st.integers(1, (MARKS - 1) * UNIT_NS))
def test_an_age_is_known_to_half_a_unit_however_often_the_marks_have_begun_again(stamp_ns: int, age_ns: int) -> None:
    end = RobotsEnd([(stamp_ns + age_ns, mark_of_stamp(stamp_ns))])
    assert end.ages_ms(0.0)[0] == pytest.approx(age_ns / 1e6, abs=UNIT_NS / 2e6 + 1e-6)
