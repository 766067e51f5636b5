"""Parameters of the executor node, checked."""

from dataclasses import dataclass

from robot_stack.core.driver_seat import Driver, SeatSettings
from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.execution import ExecutionMode, ExecutionSettings


@dataclass(frozen=True)
class ExecutorSettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        source: whom the arm follows: "policy" (chunks) or "teleop" (single targets).
        lock_step: tick on ``/clock`` and wait for the source; else tick on a wall timer.
        target_in_force: the arm's driver tells what its controller follows; motion starts there, else at the measured pose.
        execution: how chunks are executed, see ``core.execution.ExecutionMode``; and
        refill, ensembling_decay: see ``core.execution.ExecutionSettings``.
        answer_timeout_s: longest wait for a chunk in lock-step, wall time [s].
        heartbeat_timeout_s: longest silence of a policy in real time [s]; an inference may last longer by ``refill`` actions.
        teleop_timeout_s: age at which a single target has expired in real time [s].
        takeover: source "policy" in real time: a person may take over by teleoperation.
        hand_back_s: silence of the person after which the policy goes on [s]; 0: only after ``~/hand_back``.
        realtime_priority: see ``node.hurry``; in real time only.
        sensor_reliability, sensor_depth: quality of service of the observation streams.
    """

    robot: str = "sim_metaworld"
    source: str = "policy"
    lock_step: bool = True
    target_in_force: bool = True
    execution: str = ExecutionMode.SYNCHRONOUS.value
    refill: int = ExecutionSettings.refill
    ensembling_decay: float = ExecutionSettings.decay
    answer_timeout_s: float = 30.0
    heartbeat_timeout_s: float = 0.14
    teleop_timeout_s: float = 0.2
    takeover: bool = False
    hand_back_s: float = 0.0
    realtime_priority: int = 10
    sensor_reliability: str = "reliable"
    sensor_depth: int = 100

    def chunk_execution(self) -> ExecutionSettings:
        """How chunks are executed.

        Raises:
            UnknownNameError: no such mode.
            ProphRLError: a number is not one that it can have.
        """
        modes = [mode.value for mode in ExecutionMode]
        if self.execution not in modes:
            raise UnknownNameError("execution of chunks", self.execution, modes)
        try:
            return ExecutionSettings(ExecutionMode(self.execution), self.refill, self.ensembling_decay)
        except ValueError as error:
            raise ProphRLError(f"executor: {error}") from error

    def seat(self, period_ns: int) -> SeatSettings:
        """Who drives.

        Args:
            period_ns: time of one action [ns].

        Raises:
            UnknownNameError: no such source.
            ProphRLError: the parameters contradict each other.
        """
        sources = [driver.value for driver in Driver]
        if self.source not in sources:
            raise UnknownNameError("source of actions", self.source, sources)
        if self.takeover and self.lock_step:
            raise ProphRLError("executor: takeover needs real time; set lock_step to false")
        try:
            return SeatSettings(
                Driver(self.source),
                self.takeover,
                heartbeat_timeout_ns=round(self.heartbeat_timeout_s * 1e9),
                inference_ns=self.refill * period_ns,
                teleop_timeout_ns=round(self.teleop_timeout_s * 1e9),
                hand_back_ns=round(self.hand_back_s * 1e9) if self.hand_back_s else None,
            )
        except ValueError as error:
            raise ProphRLError(f"executor: {error}") from error
