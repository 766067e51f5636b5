"""Keys through a real pseudo-terminal."""

import os
import pty
import sys
import termios
from collections.abc import Iterator

import pytest

from robot_stack.core.errors import ProphRLError
from robot_stack.drivers.keyboard import Keyboard, KeyboardSettings, KeyState
from tests.ros.conftest import until


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours
    os.close(ours)


def test_a_held_key_moves_and_letting_go_stops(terminal: int) -> None:
    before = termios.tcgetattr(sys.stdin.fileno())
    with Keyboard(KeyboardSettings(deadman_s=0.5)) as keyboard:
        seen: list[KeyState] = []

        def look() -> KeyState | None:
            state = keyboard.state()
            if state is not None:
                seen.append(state)
            return state

        assert look() is None
        os.write(terminal, b"a")
        until(look, "motion")
        assert seen[-1].direction.tolist() == [-1, 0, 0] and seen[-1].gripper == 1.0
        until(lambda: look() is None, "the stop", seconds=2.0)
        os.write(terminal, b" r")
        until(lambda: look() and seen[-1].direction[2] == 1, "motion upwards")
        assert seen[-1].gripper == 0.0
        os.write(terminal, b"e")
        until(lambda: look() and seen[-1].e_stop, "e-stop")
        told = sum(state.e_stop for state in seen)
        look()
        assert told == 1 == sum(state.e_stop for state in seen)
    assert termios.tcgetattr(sys.stdin.fileno()) == before


def test_a_pipe_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(ProphRLError, match="needs a terminal"):
            Keyboard()
    os.close(writing)
