"""Keys through a real pseudo-terminal."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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


def test_a_terminal_that_is_gone_is_told_and_holds_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    told: list[str] = []
    with os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        keyboard = Keyboard(KeyboardSettings(deadman_s=1000.0), tell=told.append)
        keyboard.open()
        os.write(ours, b"a")
        until(keyboard.wish, "motion")
        os.close(ours)
        until(lambda: told, "word of the lost terminal")
        assert "the arm holds" in told[0] and keyboard.wish() is None
        keyboard.close()


# Prints what the keyboard says to the key "d", with a pipe as standard input.
THROUGH_A_PIPE = """
import time
from robot_stack.core.errors import ProphRLError
from robot_stack.drivers.keyboard import Keyboard, KeyboardSettings
try:
    keyboard = Keyboard(KeyboardSettings(deadman_s=60.0))
    keyboard.open()
    print("ready", flush=True)
    while keyboard.wish() is None:
        time.sleep(0.01)
    print(keyboard.wish().motion.tolist()[:3], flush=True)
    keyboard.close()
except ProphRLError as error:
    print(error, flush=True)
"""


def start_through_a_pipe(session: Callable[[], None]) -> subprocess.Popen[str]:
    """As ``ros2 launch`` starts its processes; ``session`` runs in the child first."""
    command, root = [sys.executable, "-c", THROUGH_A_PIPE], Path(__file__).parents[2]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, text=True, preexec_fn=session)  # noqa: PLW1509


def test_launch_s_processes_read_the_terminal_of_their_session() -> None:
    ours, theirs = pty.openpty()

    def session() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    child = start_through_a_pipe(session)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    os.write(ours, b"d")
    assert child.communicate(timeout=20)[0] == "[1.0, 0.0, 0.0]\n"
    os.close(ours)
    os.close(theirs)


def test_without_a_terminal_or_in_its_background_there_is_one_clear_message() -> None:
    assert start_through_a_pipe(os.setsid).communicate(timeout=20)[0] == (
        "keyboard teleoperation needs a terminal; start it in one\n"
    )
    ours, theirs = pty.openpty()

    def background() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        if os.fork():  # the leader stays in the foreground
            os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
        os.setpgid(0, 0)

    assert "runs in the background" in start_through_a_pipe(background).communicate(timeout=20)[0]
    os.close(ours)
    os.close(theirs)
