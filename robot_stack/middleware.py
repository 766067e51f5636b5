"""How the processes of one robot find and reach each other: the middleware's settings. Imports no ROS.

Fast DDS, over UDP alone. Its shared memory is guarded by mutexes that outlive whoever holds them: where a process is killed
meanwhile, each publisher to it waits a second or two, and with it the arm. Nothing listens beyond the loopback interface
unless ``ROS_STATIC_PEERS`` names another machine.
"""

import hashlib
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from robot_stack.core.errors import ProphRLError
from robot_stack.paths import config_dir

IMPLEMENTATION = "rmw_fastrtps_cpp"
PEERS_VARIABLE = "ROS_STATIC_PEERS"
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # read by Fast DDS 2 and by later ones
NAMESPACE = "http://www.eprosima.com"


def settings(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for every process of a robot, in whose shell ``variables`` are set.

    Raises:
        ProphRLError: a machine that ``ROS_STATIC_PEERS`` names has no address.
    """
    return {
        "RMW_IMPLEMENTATION": IMPLEMENTATION,
        # The profile says whom to look for. With LOCALHOST rmw_fastrtps adds shared memory, with SUBNET multicast to everybody.
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
        "ROS_LOCALHOST_ONLY": "",  # would count for more
        **dict.fromkeys(PROFILE_VARIABLES, str(profile(variables))),
    }


def peers(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Names or addresses of the other machines that shall take part."""
    return tuple(name for name in variables.get(PEERS_VARIABLE, "").split(";") if name)


def profile(variables: Mapping[str, str]) -> Path:
    """The profile of Fast DDS: the shipped one or, where peers are named, one written beside the user's other caches.

    Raises:
        ProphRLError: a peer has no address.
    """
    shipped = config_dir() / "dds" / "fastdds.xml"
    names = peers(variables)
    if not names:
        return shipped
    text = with_peers(shipped.read_text(encoding="utf-8"), [address_of(name) for name in names])
    folder = Path(variables.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prophrl"
    path = folder / f"fastdds-{hashlib.sha256(text.encode()).hexdigest()[:16]}.xml"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    return path


def with_peers(text: str, addresses: Sequence[str]) -> str:
    """The profile ``text``, which then listens on every interface and looks for others at ``addresses``, too."""
    ElementTree.register_namespace("", NAMESPACE)
    root = ElementTree.fromstring(text)
    for transport in root.iter(f"{{{NAMESPACE}}}transport_descriptor"):
        for listed in transport.findall(f"{{{NAMESPACE}}}interfaceWhiteList"):
            transport.remove(listed)
    for known in root.iter(f"{{{NAMESPACE}}}initialPeersList"):
        for address in addresses:
            udp = ElementTree.SubElement(ElementTree.SubElement(known, f"{{{NAMESPACE}}}locator"), f"{{{NAMESPACE}}}udpv4")
            ElementTree.SubElement(udp, f"{{{NAMESPACE}}}address").text = address
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def address_of(peer: str) -> str:
    """The IPv4 address of a machine.

    Raises:
        ProphRLError: its name has none.
    """
    try:
        return socket.gethostbyname(peer)
    except OSError as error:
        raise ProphRLError(f"{PEERS_VARIABLE} names {peer}: {error}") from error
