"""What the executor tells besides commands: what it has committed itself to, what was asked of it, and how it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.ros import convert, topics


class ExecutorOutputs:
    """Publishers of the executor node.

    Args:
        node: that owns them.
        spec: the robot file.
        takeover: whether a person may take over, which is told.
    """

    def __init__(self, node: Any, spec: RobotSpec, takeover: bool) -> None:
        self._spec = spec
        self._committed_out = node.create_publisher(JointTrajectory, topics.COMMITTED_ACTIONS, topics.COMMANDS)
        self._requested_out = node.create_publisher(JointTrajectory, topics.REQUESTED_ACTION, topics.COMMANDS)
        self._intervention_out = node.create_publisher(Bool, topics.INTERVENTION, topics.COMMANDS) if takeover else None
        self._guard_out = node.create_publisher(DiagnosticArray, topics.GUARD, topics.COMMANDS)
        self._diagnostics_out = node.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, topics.COMMANDS)

    def tell_committed(self, committed: FloatArray, asks: bool, now_ns: int) -> None:
        """``ControlLoop.committed`` [1 + P, A], and whether a new chunk is wanted."""
        message = convert.trajectory_message(committed, self._spec.action_names, now_ns, self._spec.period_ns)
        message.header.frame_id = topics.REQUEST if asks else ""
        self._committed_out.publish(message)

    def tell_intervention(self, intervenes: bool) -> None:
        """Whether a person drives, once for each action."""
        if self._intervention_out is not None:
            self._intervention_out.publish(Bool(data=intervenes))

    def tell_guard(self, reasons: Sequence[str], now_ns: int) -> None:
        """Why the guard changes or holds what is asked for, from the tick at ``now_ns`` on; empty: it does not."""
        status = DiagnosticStatus(name="executor: guard", hardware_id=self._spec.name, message=", ".join(reasons))
        status.level = DiagnosticStatus.WARN if reasons else DiagnosticStatus.OK
        self._guard_out.publish(DiagnosticArray(header=convert.header(now_ns), status=[status]))

    def tell_requested(self, target: FloatArray, now_ns: int) -> None:
        """A target [A] of policy or teleop to which the arm has begun to go."""
        names, period_ns = self._spec.action_names, self._spec.period_ns
        self._requested_out.publish(convert.trajectory_message(target[None], names, now_ns, period_ns, first_ns=period_ns))

    def tell_state(self, state: str, bad: bool, counts: Mapping[str, int], now_ns: int) -> None:
        """For people, once a second (REP 107)."""
        status = DiagnosticStatus(name="executor: guard", hardware_id=self._spec.name, message=state)
        status.level = DiagnosticStatus.ERROR if bad else DiagnosticStatus.OK
        status.values = [KeyValue(key=key, value=str(count)) for key, count in counts.items()]
        self._diagnostics_out.publish(DiagnosticArray(header=convert.header(now_ns), status=[status]))
