"""Life of a node's process: real processes and real signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from robot_stack.bringup import environment
from robot_stack.ros.processes import reserved_domain

ROOT = Path(__file__).parents[2]
NODE = """
import gc, sys, time, rclpy
from rclpy.node import Node
from std_msgs.msg import Header
from robot_stack.core.errors import ProphRLError
from robot_stack.ros.node import run_node
class Life(Node):
    def __init__(self):
        super().__init__("life")
        {make}
    def close(self):
        print("closed, the middleware", "works" if rclpy.ok() else "is gone", flush=True)
    {rest}
print("made", flush=True)
sys.exit(run_node(Life, {settle}))
"""
ENDED = "closed, the middleware works\n"
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def life(make: str = "print('ready', flush=True)", rest: str = "", settle: str = "None") -> str:
    return NODE.format(make=make, rest=rest, settle=settle)


def ended_by(number: int, code: str, after: str = "ready", wait_s: float = 0.0) -> tuple[int, str, str]:
    """Status, stdout after the line ``after``, and stderr of a process that gets a signal once it has said so."""
    with reserved_domain() as domain:
        variables = os.environ | environment(domain) | {"PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", code], env=variables, **pipes) as process:
            assert process.stdout is not None
            while process.stdout.readline() != f"{after}\n":
                assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(wait_s)
            process.send_signal(number)
            out, error = process.communicate(timeout=60)
    return process.returncode, out, error


@pytest.mark.ros
@pytest.mark.parametrize("number", SIGNALS)
def test_a_node_that_only_waits_ends(number: int) -> None:
    assert ended_by(number, life()) == (0, ENDED, "")


@pytest.mark.ros
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_a_node_is_made_ends_it_then(number: int) -> None:
    assert ended_by(number, life("print('begun', flush=True); time.sleep(1.0)"), after="begun") == (0, ENDED, "")


@pytest.mark.ros
def test_a_node_at_work_in_the_middleware_ends_in_order() -> None:
    """An exception of a signal handler inside the middleware would end the process otherwise, or break it."""
    make = """self.own = self.create_publisher(Header, "own", 10)
        self.create_subscription(Header, "own", self.own.publish, 10)
        self.create_timer(0.001, lambda: self.own.publish(Header()))
        self.create_timer(0.2, lambda: print("ready", flush=True))"""
    for trial in range(8):
        status, out, error = ended_by(signal.SIGINT, life(make), wait_s=0.02 * trial)
        assert (status, out.replace("ready\n", ""), error) == (0, ENDED, "")


@pytest.mark.ros
def test_another_signal_has_its_own_handler_and_ends_nothing() -> None:
    make = """import signal, os
        signal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))
        self.create_timer(0.1, lambda: None)
        self.create_timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
        print("ready", flush=True)"""
    assert ended_by(signal.SIGUSR1, life(make)) == (0, "heard\n" + ENDED, "")


@pytest.mark.ros
def test_what_is_left_is_done_with_callbacks_served() -> None:
    make = """self.left = 5
        self.create_timer(0.05, self.count)
        print("ready", flush=True)"""
    rest = """def count(self):
        self.left -= self.stopping
    stopping = False
    def settle(self, serve):
        self.stopping = True
        while self.left:
            serve()
        print("settled", flush=True)"""
    assert ended_by(signal.SIGTERM, life(make, rest, "Life.settle")) == (0, "settled\n" + ENDED, "")


@pytest.mark.ros
def test_a_node_at_work_does_not_grow() -> None:
    make = """self.counts = []
        self.create_timer(0.001, lambda: None)
        self.create_timer(1.0, self.look)"""
    rest = """def look(self):
        self.counts.append(len(gc.get_objects()))
        if len(self.counts) == 4:
            print(max(self.counts[1:]) - min(self.counts[1:]), flush=True)
            print("ready", flush=True)"""
    with reserved_domain() as domain:
        variables = os.environ | environment(domain) | {"PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", life(make, rest)], env=variables, **pipes) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(3)]
            process.send_signal(signal.SIGINT)
    assert said[0] == "made\n" and said[2] == "ready\n"
    assert int(said[1]) < 500  # thousands of turns


@pytest.mark.ros
def test_an_error_of_ours_is_one_line_and_status_2() -> None:
    make = 'self.create_timer(0.05, self.fail)\n        print("ready", flush=True)'
    rest = 'def fail(self):\n        raise ProphRLError("the arm has come off")'
    with reserved_domain() as domain:
        variables = os.environ | environment(domain) | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", life(make, rest)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "made\nready\n" + ENDED, "the arm has come off\n")
