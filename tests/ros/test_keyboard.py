"""Keys through a real pseudo-terminal."""

import os
import pty
import sys
import termios
from collections.abc import Iterator

import pytest

from robot_stack.core.errors import ProphRLError
from robot_stack.drivers.keyboard import Keyboard, KeyboardSettings
from robot_stack.drivers.teleop_device import GripperWish, Mark, Requests, Wish
from tests.ros.conftest import until


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours
    os.close(ours)


@pytest.fixture
def keyboard(terminal: int) -> Iterator[Keyboard]:
    before = termios.tcgetattr(sys.stdin.fileno())
    keyboard = Keyboard(KeyboardSettings(deadman_s=0.5))
    keyboard.open()
    yield keyboard
    keyboard.close()
    assert termios.tcgetattr(sys.stdin.fileno()) == before


def test_a_held_key_moves_and_letting_go_stops(terminal: int, keyboard: Keyboard) -> None:
    seen: list[Wish] = []

    def look() -> Wish | None:
        wish = keyboard.wish()
        if wish is not None:
            seen.append(wish)
        return wish

    assert look() is None
    os.write(terminal, b"a")
    until(look, "motion")
    assert seen[-1].motion.tolist() == [-1, 0, 0, 0, 0, 0] and seen[-1].gripper is GripperWish.KEEP
    until(lambda: look() is None, "the stop", seconds=2.0)
    os.write(terminal, b" r")
    until(lambda: look() and seen[-1].motion[2] == 1, "motion upwards")
    assert sum(wish.gripper is GripperWish.TOGGLE for wish in seen) == 1
    os.write(terminal, b"u")
    until(lambda: look() and seen[-1].motion[5] == 1, "a turn about z")
    os.write(terminal, b"e")
    until(lambda: look() is None, "the stop by the e-stop")


def test_marks_and_the_e_stop_are_told_once_and_move_nothing(terminal: int, keyboard: Keyboard) -> None:
    told: list[Requests] = []

    def all_told() -> bool:
        told.append(keyboard.requests())
        assert keyboard.wish() is None
        return any(requests.e_stop for requests in told)

    os.write(terminal, b"bynx?e")
    until(all_told, "marks and e-stop")
    assert [mark for requests in told for mark in requests.marks] == [Mark.START, Mark.SUCCESS, Mark.FAILURE, Mark.DISCARD]
    assert keyboard.requests() == Requests()


def test_a_terminal_that_is_gone_is_told_and_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    told: list[str] = []
    with os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        keyboard = Keyboard(KeyboardSettings(), tell=told.append)
        keyboard.open()
        os.close(ours)
        until(lambda: told, "word of the lost terminal")
        assert "the arm holds" in told[0] and keyboard.wish() is None
        keyboard.close()


def test_a_pipe_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(ProphRLError, match="needs a terminal"):
            Keyboard()
    os.close(writing)
