"""Python, ROS, its middleware and the domain."""

import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from robot_stack.bringup import PROCESSES, SEGMENT_BYTES
from robot_stack.core.errors import ProphRLError
from robot_stack.doctor.finding import Findings, fail, ok, warn
from robot_stack.doctor.storage import room
from robot_stack.ros.processes import domain_in_use, wanted_domain

OLDEST_PYTHON = (3, 12)
JAZZY = "7."  # versions of rclpy in ROS 2 Jazzy
OURS = "rmw_fastrtps_cpp"
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # read by Fast DDS 2 and by later ones
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
    environment = dict(variables) | {"RMW_IMPLEMENTATION": OURS}
    try:
        done = subprocess.run(
            [interpreter, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=ROS_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        yield fail("ros", f"rclpy did not start within {ROS_TIMEOUT_S:.0f} s", "look at the load of this machine, and again")
        return
    if done.returncode != 0:
        problem = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        remedy = f"source /opt/ros/jazzy/setup.bash, or pip install 'robot_stack[ros]'; {OURS} has to be there, too"
        yield fail("ros", f"rclpy does not start with {interpreter}: {problem}", remedy)
        return
    version, middleware = done.stdout.split()
    distribution = variables.get("ROS_DISTRO", "jazzy")
    if distribution != "jazzy" or not (version.startswith(JAZZY) or version == "unknown"):
        yield warn("ros", f"rclpy {version} of {distribution}", "this was made for ROS 2 Jazzy; other versions are untested")
    else:
        yield ok("ros", f"rclpy {version} (Jazzy) starts with {middleware}")


def middleware(variables: Mapping[str, str], shared_memory: Path = Path("/dev/shm")) -> Findings:
    """The middleware of this shell, in which drivers are started, and the shared memory that pictures travel through."""
    name = variables.get("RMW_IMPLEMENTATION", OURS)
    if name != OURS:
        remedy = f"export RMW_IMPLEMENTATION={OURS} before the arm's driver starts: ours use it, and two do not mix well"
        yield warn("middleware", f"this shell's is {name}", remedy)
    for name in PROFILE_VARIABLES:
        profile = variables.get(name)
        if profile is not None and (problem := _profile_problem(Path(profile))):
            yield fail("middleware", f"{name}={profile} {problem}", "unset it; our nodes bring a profile")
    needed = PROCESSES * SEGMENT_BYTES
    free = room(shared_memory)
    if free is None or free < needed:
        have = "is missing" if free is None else f"has {free >> 20} MiB free"
        remedy = f"give it {needed >> 20} MiB (docker: --shm-size, or --ipc=host), or pictures are lost"
        yield warn("middleware", f"{shared_memory} {have}", remedy)
    else:
        yield ok("middleware", f"{OURS}, {free >> 20} MiB of shared memory free")


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
    names = [name for name in variables.get("ROS_STATIC_PEERS", "").split(";") if name]
    for name in names:
        try:
            socket.getaddrinfo(name, None)
        except OSError as error:
            yield fail("peers", f"ROS_STATIC_PEERS names {name}: {error}", "correct the name, or enter it into /etc/hosts")
        else:
            yield ok("peers", f"{name} has an address")
