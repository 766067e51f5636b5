"""Two machines, played by two network namespaces with a cable between them: who is named as a peer is found, nobody else."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from robot_stack.bringup import environment
from tests.ros.conftest import until

pytestmark = [pytest.mark.ros, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
ADDRESSES = {"a": "10.213.97.1", "b": "10.213.97.2"}
APART = ("unshare", "--mount", "--ipc", "--uts")  # shared memory and host name of its own, as another machine has
OURS: Mapping[str, str] = {}
README = {"ROS_DOMAIN_ID": "5", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}
TALK = """
import rclpy, sys
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("talker")
out = node.create_publisher(String, "word", 10)
node.create_timer(0.1, lambda: out.publish(String(data="heard")))
print("ready", flush=True)
rclpy.spin(node)
"""
LISTEN = """
import rclpy, time
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("listener")
words = []
node.create_subscription(String, "word", lambda message: words.append(message.data), 10)
end = time.monotonic() + float({seconds})
while not words and time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.1)
print(words[:1])
"""


def ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0


def is_up(machine: str, plug: str) -> bool:
    """Whether the cable carries, and the kernel no longer asks whether its address is free."""
    command = ["ip", "-n", machine, "addr", "show", "dev", plug]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return "state UP" in told and "tentative" not in told


@pytest.fixture
def machines() -> Iterator[dict[str, str]]:
    """Names of two namespaces with a cable between them."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("only root can lay a cable")
    names = {side: f"prophrl-{os.getpid()}-{side}" for side in ADDRESSES}
    with contextlib.ExitStack() as stack:
        for name in names.values():
            if not ip("netns", "add", name):
                pytest.skip("network namespaces are not allowed here")
            stack.callback(ip, "netns", "del", name)
        cable = [f"prl{os.getpid()}{side}" for side in ADDRESSES]
        if not ip("link", "add", cable[0], "netns", names["a"], "type", "veth", "peer", "name", cable[1], "netns", names["b"]):
            pytest.skip("there is no virtual cable here")
        for (side, name), plug in zip(names.items(), cable, strict=True):
            assert ip("-n", name, "addr", "add", f"{ADDRESSES[side]}/24", "dev", plug)
            assert ip("-n", name, "link", "set", "lo", "up") and ip("-n", name, "link", "set", plug, "up")
        for name, plug in zip(names.values(), cable, strict=True):
            until(lambda name=name, plug=plug: is_up(name, plug), "the cable")  # the middleware looks once, at its start
        yield names


def start(machine: str, code: str, peers: str, shell: Mapping[str, str] = OURS) -> subprocess.Popen[str]:
    """Python on a machine, where ``peers`` are named, in the environment of our nodes or in that of a ``shell``."""
    shared_memory = 'mount -t tmpfs -o size=400m tmpfs /dev/shm && hostname "$0" && exec "$@"'
    command = ["ip", "netns", "exec", machine, *APART, "sh", "-c", shared_memory, machine, sys.executable, "-c", code]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_STATIC_PEERS", peers)
        variables = os.environ | (shell or environment(5)) | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("theirs", "ours", "shell", "seconds", "heard"),
    [
        (ADDRESSES["b"], ADDRESSES["a"], OURS, 60.0, "['heard']\n"),
        (ADDRESSES["b"], ADDRESSES["a"], README, 60.0, "['heard']\n"),  # a node started by hand
        ("", ADDRESSES["a"], OURS, 8.0, "[]\n"),  # who names no peer listens to nobody beyond his machine
        ("", ADDRESSES["a"], README, 8.0, "[]\n"),
        ("", "", OURS, 8.0, "[]\n"),
    ],
)
def test_peers_that_name_each_other_are_found_and_nobody_else(
    machines: dict[str, str], theirs: str, ours: str, shell: Mapping[str, str], seconds: float, heard: str
) -> None:
    talker = start(machines["a"], TALK, theirs)
    try:
        assert talker.stdout is not None and talker.stdout.readline() == "ready\n"
        listener = start(machines["b"], LISTEN.format(seconds=seconds), ours, shell)
        said, problem = listener.communicate(timeout=100)
        assert said == heard, problem
    finally:
        talker.kill()
        talker.wait()
