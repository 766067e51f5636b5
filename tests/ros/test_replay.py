"""The joint-level arm performs a recorded trajectory through the executor, as it performs a policy's chunks."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from robot_stack.bringup import Setup, processes
from robot_stack.episodes.decoder import EpisodeDecoder
from robot_stack.episodes.log_reader import EpisodeLog, find_logs
from robot_stack.ros import topics
from robot_stack.ros.processes import Processes
from tests.ros.arm_cell import running_cell
from tests.ros.conftest import Spy, needs_simulator, until

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(300), needs_simulator]


def recorded(folder: Path, domain: int, logs: Path) -> Path:
    """An episode of the arm, moved by chunks of this process."""
    recorder = processes(Setup(robot="sim_arm", source="nobody", record=True, folder=str(folder)))[-1]
    with running_cell("sim_arm", domain, logs) as cell, Processes([recorder], domain, logs):
        assert cell.spy.call("recorder/start", Trigger).success
        for joint, step in ((0, 0.04), (3, -0.04)):
            cell.set_in_motion(joint, step, length=15)
            until(lambda: len(cell.committed) == 1 and cell.speed < 1e-3, "rest")
        assert cell.spy.call("recorder/success", Trigger).success
    (log,) = find_logs(folder)
    return log


def test_a_recorded_trajectory_is_performed_again(domain: int, tmp_path: Path) -> None:
    log = recorded(tmp_path / "episodes", domain, tmp_path / "first")
    targets = np.array([tick.sent[:6] for tick in EpisodeDecoder(EpisodeLog.open(log)).ticks])
    nodes = processes(Setup(robot="sim_arm", source="policy", policy=f"replay:{log}"))
    with Processes(nodes, domain, tmp_path / "again"):
        spy = Spy()
        spy.listen(topics.JOINT_STATES, JointState)
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert spy.call("policy/change_state", ChangeState, request).success
        assert spy.call("executor/activate", Trigger).success

        def travelled() -> np.ndarray:
            return np.array([message.position[:6] for _, message in spy.heard[topics.JOINT_STATES]])

        until(lambda: len(travelled()) and np.abs(travelled()[-1] - targets[-1]).max() < 3e-3, "the end", seconds=60.0)
        places = travelled()
        spy.close()
    distances = np.abs(places[:, None] - targets[None, ::5]).max(axis=2).min(axis=0)
    assert distances.max() < 0.02  # it came by everything that was sent then
    assert (np.diff(places[:, 0]) > -1e-3).all()
