"""How the robot's processes reach each other and those of others, over real sockets."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from robot_stack.bringup import environment
from robot_stack.core.errors import ProphRLError
from robot_stack.middleware import IMPLEMENTATION, PROFILE_VARIABLES
from robot_stack.paths import config_dir
from robot_stack.ros.processes import reserved_domain

pytestmark = pytest.mark.ros
TRANSPORTS = """
import os, rclpy
from rclpy.node import Node
rclpy.init()
node = Node("transports")
with open("/proc/self/maps") as maps:
    print("shared memory:", sum("/dev/shm/fast" in line for line in maps))
inodes = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
with open("/proc/self/net/udp") as sockets:
    rows = [line.split() for line in list(sockets)[1:]]
mine = {row[1].split(":")[0] for row in rows if f"socket:[{row[9]}]" in inodes}
with open("/proc/self/net/udp6") as sockets:
    mine |= {row[1] for row in map(str.split, list(sockets)[1:]) if f"socket:[{row[9]}]" in inodes}
print("addresses:", *sorted(mine))
"""


@pytest.mark.parametrize("shell", [{}, {"ROS_LOCALHOST_ONLY": "1"}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}])
def test_processes_meet_on_the_loopback_interface_and_never_in_shared_memory(shell: dict[str, str]) -> None:
    """Whoever is killed with a lock of the middleware's shared memory in hand stops those who publish to it."""
    with reserved_domain() as domain:
        variables = {**os.environ, **shell, **environment(domain)}
        done = subprocess.run(
            [sys.executable, "-c", TRANSPORTS], env=variables, capture_output=True, text=True, check=True, timeout=60
        )
    assert done.stdout.splitlines() == ["shared memory: 0", "addresses: 0100007F"]  # 127.0.0.1, as the kernel writes it


def test_only_with_peers_anything_listens_beyond_the_loopback_interface(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The profile is the same but for that, and written once."""
    shipped = config_dir() / "dds" / "fastdds.xml"
    monkeypatch.delenv("ROS_STATIC_PEERS", raising=False)
    alone = environment(7)
    assert alone["ROS_DOMAIN_ID"] == "7"
    assert {alone[name] for name in PROFILE_VARIABLES} == {str(shipped)}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("ROS_STATIC_PEERS", "192.0.2.7;localhost")
    (path,) = {environment(7)[name] for name in PROFILE_VARIABLES}
    assert {environment(7)[name] for name in PROFILE_VARIABLES} == {path}
    assert [str(file) for file in (tmp_path / "prophrl").iterdir()] == [path]
    one, two = _settings(shipped), _settings(Path(path))
    assert set(one - two) == {("interfaceWhiteList", "address", "127.0.0.1")}
    assert set(two - one) == {("udpv4", "address", "192.0.2.7"), ("udpv4", "address", "127.0.0.1")}  # localhost, once more

    monkeypatch.setenv("ROS_STATIC_PEERS", "no-such-host.invalid")
    with pytest.raises(ProphRLError, match=r"ROS_STATIC_PEERS names no-such-host\.invalid"):
        environment(7)


def _settings(profile: Path) -> Counter[tuple[str, ...]]:
    """Each setting of a profile: the element that it stands in, its name, its value."""
    names = {element: element.tag.rpartition("}")[2] for element in ElementTree.parse(profile).iter()}
    told = ((names[parent], names[child], (child.text or "").strip()) for parent in names for child in parent)
    return Counter(setting for setting in told if setting[-1])


ASK = """
import rclpy
from std_srvs.srv import Trigger
rclpy.init()
node = rclpy.create_node("ask")
client = node.create_client(Trigger, "large")
client.wait_for_service(20.0)
future = client.call_async(Trigger.Request())
rclpy.spin_until_future_complete(node, future, timeout_sec=20.0)
print(len(future.result().message))
"""
ANSWER = """
import rclpy
from std_srvs.srv import Trigger
def answer(request, response):
    response.message = "x" * 1_000_000
    return response
rclpy.init()
node = rclpy.create_node("answer")
node.create_service(Trigger, "large", answer)
print("ready", flush=True)
rclpy.spin(node)
"""


@pytest.mark.parametrize("shell", [{}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, {"ROS_LOCALHOST_ONLY": "1"}])
@pytest.mark.parametrize("asks", ["ours", "theirs"])
def test_drivers_and_tools_of_a_plain_shell_are_found(asks: str, shell: dict[str, str]) -> None:
    """They bring transports of their own; what is large reaches them, too."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("ROS_", "FAST", "RMW_"))}
    with reserved_domain() as domain:
        ours = bare | environment(domain)
        theirs = bare | shell | {"ROS_DOMAIN_ID": str(domain), "RMW_IMPLEMENTATION": IMPLEMENTATION}
        asking, answering = (ours, theirs) if asks == "ours" else (theirs, ours)
        service = subprocess.Popen([sys.executable, "-c", ANSWER], env=answering, stdout=subprocess.PIPE, text=True)
        try:
            assert service.stdout is not None and service.stdout.readline() == "ready\n"
            done = subprocess.run(
                [sys.executable, "-c", ASK], env=asking, capture_output=True, text=True, check=True, timeout=60
            )
        finally:
            service.kill()
            service.wait()
    assert done.stdout.splitlines()[-1] == "1000000"
