"""Run one command as a child that cannot outlive us, with its output shown and kept, its time and its peak memory."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SAMPLE_SECONDS = 1.0
GRACE_SECONDS = 15.0  # between asking the child's processes to stop and ending them


@dataclass(frozen=True)
class ChildResult:
    """How a child ended.

    Attributes:
        status: exit status; negative: the signal that ended it.
        seconds: wall time.
        peak_memory: largest sum over the child and its descendants of their proportional memory (PSS) [bytes].
    """

    status: int
    seconds: float
    peak_memory: int


def run_child(command: Sequence[str], log: Path, pid_file: Path, environment: Mapping[str, str] | None = None) -> ChildResult:
    """Run ``command`` in a process group of its own and wait for it.

    Output goes to the terminal and, without the intermediate states of progress bars, to ``log``. ``pid_file`` names the
    process while it runs, so that ``end_leftover`` finds what a killed parent left behind. On ctrl-C or SIGTERM the group is
    asked to stop, then ended, before ``KeyboardInterrupt`` goes on.
    """
    began = time.monotonic()
    show_progress = sys.stderr.isatty()
    quiet = {} if show_progress else {"TQDM_MININTERVAL": "30"}
    with log.open("ab") as kept, _sigterm_as_interrupt():
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **quiet, **(environment or {})},
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no other thread of ours runs now
        )
        pid_file.write_text(f"{process.pid} {psutil.Process(process.pid).create_time()}", encoding="utf-8")
        memory = _MemorySampler(process.pid)
        memory.start()
        tee = threading.Thread(target=_tee, args=(process.stdout, kept), daemon=True)
        tee.start()
        try:
            status = process.wait()
        finally:
            memory.stop()
            _end_group(
                process.pid
            )  # all of it after ctrl-C, else whatever it started and forgot, which would keep the pipe open
            process.wait()
            tee.join()
            pid_file.unlink(missing_ok=True)
    return ChildResult(status, time.monotonic() - began, memory.peak)


def end_leftover(pid_file: Path) -> None:
    """End the process group of a child whose parent was killed, if it still runs."""
    try:
        pid_text, created = pid_file.read_text(encoding="utf-8").split()
        pid = int(pid_text)
        leader = psutil.Process(pid)
        reused = abs(leader.create_time() - float(created)) > 1.0
    except (FileNotFoundError, ValueError):
        return
    except psutil.NoSuchProcess:
        reused = False  # the leader is gone, its group may not be; a pid is not given again while a group bears its number
    if not reused:
        _end_group(pid)
    pid_file.unlink(missing_ok=True)


class _MemorySampler(threading.Thread):
    """Watches the memory of a process tree."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._pid = pid
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS if self.peak else 0.1):
            self.peak = max(self.peak, _tree_memory(self._pid))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _tree_memory(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        leader = psutil.Process(pid)
        for process in [leader, *leader.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):  # it may end while we look
                total += process.memory_full_info().pss
    return total


def _tee(source: IO[bytes], kept: IO[bytes]) -> None:
    """Copy to the terminal byte by byte, and to ``kept`` line by line with only the last state of each progress bar."""
    line = b""
    for block in iter(lambda: source.read1(65536), b""):  # type: ignore[attr-defined]
        sys.stderr.buffer.write(block)
        sys.stderr.buffer.flush()
        *finished, line = (line + block).split(b"\n")
        for text in finished:
            kept.write(text.rstrip(b"\r").rsplit(b"\r", 1)[-1] + b"\n")
        kept.flush()
    if line:
        kept.write(line.rsplit(b"\r", 1)[-1] + b"\n")


def _end_group(group: int) -> None:
    """Ask a process group to stop; end it when it does not."""
    for wanted, patience in ((signal.SIGINT, GRACE_SECONDS), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
        try:
            os.killpg(group, wanted)
        except ProcessLookupError:
            return
        until = time.monotonic() + patience
        while time.monotonic() < until and _alive(group):
            time.sleep(0.05)


def _alive(group: int) -> bool:
    """Whether any process of the group still runs (one that ended but was not waited for does not)."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
