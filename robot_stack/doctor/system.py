"""Python, ROS, its middleware and the domain."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from robot_stack import middleware
from robot_stack.core.errors import ProphRLError
from robot_stack.doctor.finding import Findings, fail, ok, warn
from robot_stack.middleware import IMPLEMENTATION, PROFILE_VARIABLES
from robot_stack.ros.processes import domain_in_use, wanted_domain

OLDEST_PYTHON = (3, 12)
JAZZY = "7."  # versions of rclpy in ROS 2 Jazzy
RECEIVE_BUFFER, RECEIVE_BYTES = Path("/proc/sys/net/core/rmem_max"), 4 << 20  # as in config/dds/fastdds.xml
ROS_TIMEOUT_S = 60.0
# Prints version of rclpy and name of the middleware that really loads.
PROBE = """
import importlib.metadata as metadata, rclpy
from rclpy.utilities import get_rmw_implementation_identifier as middleware
versions = [metadata.version(name) for name in metadata.packages_distributions().get("rclpy", [])]
rclpy.init()
print((versions or ["unknown"])[0], middleware())
rclpy.shutdown()
"""


def python(version: tuple[int, int]) -> Findings:
    """The interpreter's version."""
    said = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        yield fail("python", f"version {said}", f"install Python {wanted} or newer; ROS 2 Jazzy is built for 3.12")
    else:
        yield ok("python", f"version {said}")


def ros(variables: Mapping[str, str], interpreter: str = sys.executable) -> Findings:
    """Whether ``rclpy`` starts with the middleware of our nodes, in a process of its own, and is of Jazzy."""
    environment = dict(variables) | {"RMW_IMPLEMENTATION": IMPLEMENTATION}
    try:
        done = subprocess.run(
            [interpreter, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=ROS_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        yield fail("ros", f"rclpy did not start within {ROS_TIMEOUT_S:.0f} s", "look at the load of this machine, and again")
        return
    if done.returncode != 0:
        problem = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        remedy = f"source /opt/ros/jazzy/setup.bash, or pip install 'robot_stack[ros]'; {IMPLEMENTATION} has to be there, too"
        yield fail("ros", f"rclpy does not start with {interpreter}: {problem}", remedy)
        return
    version, loaded = done.stdout.split()
    distribution = variables.get("ROS_DISTRO", "jazzy")
    if distribution != "jazzy" or not (version.startswith(JAZZY) or version == "unknown"):
        yield warn("ros", f"rclpy {version} of {distribution}", "this was made for ROS 2 Jazzy; other versions are untested")
    else:
        yield ok("ros", f"rclpy {version} (Jazzy) starts with {loaded}")


def transport(variables: Mapping[str, str], receive_buffer: Path = RECEIVE_BUFFER) -> Findings:
    """The middleware of this shell, in which drivers are started, and the sockets' room that pictures travel through."""
    name = variables.get("RMW_IMPLEMENTATION", IMPLEMENTATION)
    if name != IMPLEMENTATION:
        remedy = f"export RMW_IMPLEMENTATION={IMPLEMENTATION} before the arm's driver starts: ours use it, two do not mix well"
        yield warn("middleware", f"this shell's is {name}", remedy)
    for name in PROFILE_VARIABLES:
        given = variables.get(name)
        if given is not None and (problem := _profile_problem(Path(given))):
            yield fail("middleware", f"{name}={given} {problem}", "unset it; our nodes bring a profile")
    room = int(receive_buffer.read_text()) if receive_buffer.is_file() else None  # containers may not see it
    if room is not None and room < RECEIVE_BYTES:
        remedy = f"as root: sysctl -w net.core.rmem_max={RECEIVE_BYTES}, and the same line into /etc/sysctl.d/60-robot.conf"
        yield warn("middleware", f"sockets get {room >> 10} KiB at most: raw pictures may be lost", remedy)
    else:
        yield ok(
            "middleware", f"{IMPLEMENTATION}, {'unknown' if room is None else f'{room >> 10} KiB'} of room for each socket"
        )


def _profile_problem(path: Path) -> str:
    try:
        ElementTree.parse(path)
    except (OSError, ElementTree.ParseError) as error:
        return f"cannot be read: {error}"
    return ""


def domain(variables: Mapping[str, str], elsewhere: bool) -> Findings:
    """Whether others are in the robot's domain, as they should be where its driver runs elsewhere, and not else."""
    try:
        wanted = wanted_domain(variables)
    except ProphRLError as error:
        yield fail("domain", str(error), "export ROS_DOMAIN_ID=<0..100>, or unset it")
        return
    number = wanted or 0
    used = domain_in_use(number)
    if elsewhere and not used:
        yield warn("domain", f"nobody is in ROS domain {number}", "start the arm's driver, with the same ROS_DOMAIN_ID")
    elif elsewhere:
        yield ok("domain", f"somebody is in ROS domain {number}, where the arm's driver should be; --live looks closer")
    elif wanted is not None and used:
        yield fail("domain", f"ROS domain {number} is in use by others", "unset ROS_DOMAIN_ID: a free one is chosen then")
    else:
        yield ok("domain", f"{number} is free" if wanted is not None else "a free one will be chosen")


def peers(variables: Mapping[str, str]) -> Findings:
    """Whether other machines that shall take part have an address."""
    for name in middleware.peers(variables):
        try:
            address = middleware.address_of(name)
        except ProphRLError as error:
            yield fail("peers", str(error), "correct the name, or enter it into /etc/hosts")
        else:
            yield ok("peers", f"{name} has the address {address}")
