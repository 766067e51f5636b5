"""What every node does alike: typed parameters, one warning per fault on a topic, a clean life and end."""

import ctypes
import dataclasses
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from robot_stack.core.errors import MissingDependencyError, ProphRLError, UnknownNameError

PARENT_VARIABLE = "PROPHRL_PARENT"  # set by whoever started us and wants us to end with it
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOOK_S = 0.25  # after which a node notices in any case that it shall end
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


def publish_if_alive(node: Any, publisher: Any, message: Any) -> bool:
    """Publish from a thread or timer of ours; False at the end, where the middleware may be gone before they are.

    Raises:
        RCLError: the middleware is there and refuses.
    """
    from rclpy._rclpy_pybind11 import RCLError

    try:
        publisher.publish(message)
    except RCLError:
        if node.context.ok():
            raise
        return False
    return True


def run_node(make: Callable[[], Any]) -> int:
    """Life of a process with one node: make it, spin until SIGINT or SIGTERM, close it.

    Args:
        make: makes the node, which has ``close()`` (called last, while its context may already be shut down).
    """
    return _guarded(lambda: _spin(make))


def _spin(make: Callable[[], Any]) -> None:
    import rclpy
    from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
    from rclpy.clock import Clock, ClockType
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    rclpy.init()
    node = make()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # On a signal rclpy first wakes the executor and then ends the context: one that has gone back to waiting in between would
    # wait for ever.
    node.create_timer(LOOK_S, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (RCLError, InvalidHandle):  # a callback was at work when a signal shut the context down
        if rclpy.ok():
            raise
    finally:
        node.close()
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()


def guarded_main(body: Callable[[], None]) -> int:
    """Run a node's main: errors of ours become one line and status 2."""
    return _guarded(body)


def _guarded(body: Callable[[], None]) -> int:
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
