"""What every node does alike: typed parameters, one warning per fault on a topic, a clean life and end."""

import ctypes
import dataclasses
import gc
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from robot_stack.core.errors import MissingDependencyError, ProphRLError, UnknownNameError

PARENT_VARIABLE = "PROPHRL_PARENT"  # set by whoever started us and wants us to end with it
PR_SET_PDEATHSIG = 1  # linux/prctl.h
SWITCH_S = 0.0001  # after which a thread lets another one run; Python's 5 ms are half a tick
SERVE_S = 0.1  # longest wait for a callback while a node settles
ENDING = (signal.SIGINT, signal.SIGTERM)
ENDING_TOLD = tuple(bytes([number]) for number in ENDING)
END = b"\0"  # no signal has that number
STANDARD_PARAMETERS = ("use_sim_time", "start_type_description_service")


def require_ros() -> None:
    """Raises: MissingDependencyError: ROS 2 for this Python is not installed."""
    if importlib.util.find_spec("rclpy") is None:
        raise MissingDependencyError(
            "rclpy (ROS 2 Jazzy)",
            "the robot's loop",
            "pip install 'robot_stack[ros]', or source the setup.bash of a ROS 2 installation for this Python",
        )


def declare_parameters[S](node: Any, settings: type[S]) -> S:
    """Declare one parameter for each field of a settings dataclass and return what was given.

    Raises:
        UnknownNameError: a parameter was given that the node does not have.
        ProphRLError: a parameter is of another type.
    """
    from rclpy.exceptions import InvalidParameterTypeException

    values = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        try:
            values[field.name] = node.declare_parameter(field.name, field.default).value
        except InvalidParameterTypeException as error:  # the command line makes a number of 0 where a text is wanted
            raise ProphRLError(f"node {node.get_name()}: {error}; write a text as \"'0'\", a decimal number as 0.0") from error
    declared = {*values, *STANDARD_PARAMETERS}
    for given in node._parameter_overrides:  # rclpy ignores what is not declared; a misspelt limit must not be ignored
        if given not in declared and not given.startswith("qos_overrides."):
            raise UnknownNameError(f"parameter of node {node.get_name()}", given, declared)
    return settings(**values)


class Complaints:
    """One warning when a topic turns bad, one message when it has recovered."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._bad: set[str] = set()

    def bad(self, topic: str, problem: object) -> None:
        if topic not in self._bad:
            self._bad.add(topic)
            self._logger.warning(f"{problem}; dropped, and so is every further bad message there")

    def good(self, topic: str) -> None:
        if topic in self._bad:
            self._bad.discard(topic)
            self._logger.info(f"messages on {topic} are good again")

    @contextmanager
    def about(self, topic: str) -> Iterator[None]:
        """Drops a message whose handling raises one of our errors."""
        try:
            yield
        except ProphRLError as error:
            self.bad(topic, error)
        else:
            self.good(topic)


class OwnNode(Protocol):
    """What a process of ours runs: a node of the middleware that can be closed."""

    def destroy_node(self) -> None: ...

    def close(self) -> None:
        """Let everything go; called last, while the middleware still works.

        Raises:
            ProphRLError: something could not be brought to its end.
        """
        ...


def run_node[N: OwnNode](make: Callable[[], N], settle: Callable[[N, Callable[[], None]], None] | None = None) -> int:
    """Life of a process with one node: make it, serve its callbacks until SIGINT or SIGTERM, close it.

    A signal that comes while the node is made ends it once it is there. Errors of ours become one line on stderr.

    Args:
        make: makes the node.
        settle: what is left to do after the signal; it is given a function that serves the node for at most 0.1 s.

    Returns:
        Exit status of the process: 0, or 2 after an error.
    """
    return guarded_main(lambda: _live(make, settle))


def _live[N: OwnNode](make: Callable[[], N], settle: Callable[[N, Callable[[], None]], None] | None) -> None:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    # Its own handlers close the context before a last command or message can be sent.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    sys.setswitchinterval(SWITCH_S)
    stopping, executor = threading.Event(), SingleThreadedExecutor()

    def stop() -> None:
        stopping.set()
        executor.create_task(lambda: None)  # a wait ends when there is something to do

    try:
        with signals_call(stop):
            node = make()
            executor.add_node(node)
            keep_what_is_there()
            try:
                while not stopping.is_set():  # spinning until a future is done would grow by a callback at each turn
                    executor.spin_once()
                if settle is not None:
                    settle(node, lambda: executor.spin_once(timeout_sec=SERVE_S))
            finally:
                node.close()
                executor.remove_node(node)
                node.destroy_node()
    finally:
        executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown()


def keep_what_is_there() -> None:
    """Nothing that was made so far is looked through for garbage again: in a node with models that takes 30 ms each time."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@contextmanager
def signals_call(react: Callable[[], None]) -> Iterator[None]:
    """Have a thread call ``react`` at once when SIGINT or SIGTERM comes, once; afterwards they are ignored.

    Python runs its handlers in the main thread, between two steps of its own. While the middleware waits there, they would run
    late; and one that raises, as Python's does on ctrl-C, may do so inside the middleware, which may not survive that.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def wait() -> None:
        while (told := os.read(reader, 1)) != END:  # whatever signal Python has a handler for is told
            if told in ENDING_TOLD:
                react()
                return

    watcher = threading.Thread(target=wait, name="signals")
    watcher.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # first, or a signal between the two would be lost
    for number in ENDING:
        signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writer, END)
        watcher.join()
        os.close(reader)
        os.close(writer)


@contextmanager
def signals_held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait for the end of a short call into the middleware; see ``signals_call``."""
    if threading.current_thread() is not threading.main_thread():  # which alone runs handlers
        yield
        return
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda which, _: came.append(which)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def hurry(node: Any, priority: int) -> None:
    """Let this process's threads, and those that they start, be served before others; 0 leaves them as they are.

    Args:
        node: for its logger, which tells where the system does not allow it.
        priority: of the system's SCHED_FIFO, 1 to 99.
    """
    if priority == 0:
        return
    try:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        node.get_logger().info(f"without real-time priority {priority} ({error}); `prophrl doctor` says what to do")


def guarded_main(body: Callable[[], None]) -> int:
    """Run a node's main: errors of ours become one line and status 2."""
    die_with_parent()
    try:
        body()
    except ProphRLError as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    return 0


def die_with_parent() -> None:
    """Have the kernel end this process (SIGTERM) when the one that started it dies, even by SIGKILL."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)
