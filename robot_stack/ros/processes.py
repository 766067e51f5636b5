"""The robot's processes: started with a ROS domain of their own, watched, and stopped in order. Imports no ROS."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import robot_stack
from robot_stack.bringup import NodeProcess, Stops, environment
from robot_stack.core.errors import ProphRLError
from robot_stack.ros.node import PARENT_VARIABLE

DOMAINS = range(1, 101)  # above 101 the ports reach into those that Linux gives to clients
PARTICIPANTS = 12  # of a domain that are looked for
GRACE_S = 5.0  # between asking a process to stop and killing it
LOG_LINES = 15


class OccupiedDomainError(ProphRLError):
    """A ROS domain in which other programs' nodes live.

    Args:
        domain: its number.
    """

    def __init__(self, domain: int) -> None:
        super().__init__(
            f"ROS domain {domain} is in use by other nodes on this machine, which would talk to ours. "
            "Stop them, or choose another: ROS_DOMAIN_ID=<1..100> (unset it to have a free one chosen)"
        )


class NodeDiedError(ProphRLError):
    """A process of the robot ended by itself.

    Args:
        name: of the node.
        status: exit status; negative: the signal that ended it.
        log: its output.
    """

    def __init__(self, name: str, status: int, log: Path) -> None:
        self.name, self.status = name, status
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        super().__init__(f"node {name} {how}. Its last output ({log}):\n{log_tail(log)}")


def log_tail(log: Path) -> str:
    """Last lines of a process's output, indented."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in lines[-LOG_LINES:]) or "    (nothing)"


def domain_in_use(domain: int) -> bool:
    """Whether a participant of ``domain`` runs on this machine: each listens on a UDP port of its own (RTPS 2.5, 9.6.1.1)."""
    for participant in range(PARTICIPANTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7400 + 250 * domain + 10 + 2 * participant))
            except OSError:
                return True
    return False


@contextlib.contextmanager
def reserved_domain() -> Iterator[int]:
    """A ROS domain for our processes: ``ROS_DOMAIN_ID`` where it is set, else a free one.

    Raises:
        OccupiedDomainError: the one that was asked for is in use.
    """
    wanted = wanted_domain(os.environ)
    start = os.getpid() % len(DOMAINS)
    candidates = [wanted] if wanted is not None else [*DOMAINS[start:], *DOMAINS[:start]]
    for domain in candidates:
        # The ports are taken only once our nodes run; until then a lock keeps other runs of ours away.
        lock = _lock(Path(tempfile.gettempdir()) / f"prophrl-domain-{domain}.lock")
        if lock is None:
            continue
        with lock:
            if not domain_in_use(domain):
                yield domain
                return
    raise OccupiedDomainError(candidates[0])


def shared_domain() -> int:
    """The ROS domain in which drivers of others run: ``ROS_DOMAIN_ID`` where it is set, else 0, as ROS has it.

    Raises:
        ProphRLError: it is no domain.
    """
    return wanted_domain(os.environ) or 0


def wanted_domain(variables: Mapping[str, str]) -> int | None:
    """The domain that environment variables ask for, None: none.

    Raises:
        ProphRLError: it is no domain.
    """
    wanted = variables.get("ROS_DOMAIN_ID")
    if wanted is None:
        return None
    if not wanted.isdigit() or int(wanted) > DOMAINS[-1]:
        raise ProphRLError(f"ROS_DOMAIN_ID={wanted}: expected a number from 0 to {DOMAINS[-1]}")
    return int(wanted)


def _lock(path: Path) -> IO[str] | None:
    """The locked file, or None where someone else holds the lock or owns the file."""
    try:
        file = path.open("w")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


class Processes:
    """The processes of one robot, each in a process group of its own; a context manager that leaves none behind.

    Args:
        nodes: what to start, in this order; they are stopped source first.
        domain: their ROS domain.
        log_dir: folder of their output, ``<name>.log``; a process that is started again goes on writing there.
        terminal: descriptor of the terminal for nodes that read one; None: ours, where they write, too.
    """

    def __init__(self, nodes: Sequence[NodeProcess], domain: int, log_dir: Path, terminal: int | None = None) -> None:
        self._nodes = nodes
        self.domain = domain
        self._log_dir = log_dir
        self._terminal = terminal
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Processes":
        self._log_dir.mkdir(parents=True, exist_ok=True)
        try:
            for node in self._nodes:
                self._start(node)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pids(self) -> dict[str, int]:
        """Process id by node name."""
        return {name: process.pid for name, process in self._running.items()}

    def log(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    def check(self) -> None:
        """Raises: NodeDiedError: one of them has ended."""
        for name, process in self._running.items():
            status = process.poll()
            if status is not None:
                raise NodeDiedError(name, status, self.log(name))

    def kill(self, name: str) -> None:
        """End one of them by SIGKILL, as a crash would."""
        process = self._running[name]
        process.kill()
        process.wait()

    def restart(self, name: str) -> None:
        """Start one of them again; it is killed first where it still runs."""
        self.kill(name)
        self._start(next(node for node in self._nodes if node.name == name))

    def wait(self, timeout_s: float) -> dict[str, int]:
        """Wait until all have ended by themselves; exit status by node name.

        Raises:
            subprocess.TimeoutExpired: one still runs.
        """
        return {name: process.wait(timeout_s) for name, process in self._running.items()}

    def stop(self) -> None:
        """Ask each to stop: whoever wants to move the arm, then the executor, then the rest; kill what does not."""
        for node in sorted(self._nodes, key=lambda node: node.stops):
            process = self._running.get(node.name)
            if process is None:  # it was not started any more
                continue
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            if node.stops is not Stops.LAST:  # these may end at the same time
                _reap(process)
        for process in self._running.values():
            _reap(process)
        self._running.clear()

    def _start(self, node: NodeProcess) -> None:
        ours = str(Path(robot_stack.__file__).parent.parent)
        inherited = os.environ.get("PYTHONPATH")
        variables = {
            **os.environ,
            **environment(self.domain),
            PARENT_VARIABLE: str(os.getpid()),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join([ours, inherited] if inherited else [ours]),
            "RCUTILS_COLORIZED_OUTPUT": "0",
            "ROS_LOG_DIR": str(self._log_dir / "ros"),
        }
        output: int | IO[bytes]
        with contextlib.ExitStack() as files:
            output = files.enter_context(self.log(node.name).open("wb" if node.name not in self._running else "ab"))
            ours_too = node.terminal and self._terminal is None
            self._running[node.name] = subprocess.Popen(
                node.command(),
                env=variables,
                stdin=self._terminal if node.terminal else subprocess.DEVNULL,
                stdout=None if ours_too else output,
                stderr=None if ours_too else subprocess.STDOUT,
                # A background process group may not read the terminal.
                process_group=None if ours_too else 0,
            )


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was asked to stop; kill it when it does not."""
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
