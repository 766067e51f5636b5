"""Life of a node's process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from robot_stack.bringup import environment
from robot_stack.ros.processes import reserved_domain

ROOT = Path(__file__).parents[2]
# Ends the context as rclpy's signal handler does, but without the wake-up before it, which can come too early to be heard.
QUIET_END = """
import sys, threading, rclpy
from rclpy.node import Node
from robot_stack.ros.node import run_node
class Silent(Node):
    def __init__(self):
        super().__init__("silent")
        threading.Timer(0.5, lambda: rclpy.get_default_context().handle.shutdown()).start()
    def close(self):
        print("closed")
sys.exit(run_node(Silent))
"""


@pytest.mark.ros
def test_a_node_ends_although_nobody_wakes_it() -> None:
    with reserved_domain() as domain:
        variables = os.environ | environment(domain) | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", QUIET_END]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
