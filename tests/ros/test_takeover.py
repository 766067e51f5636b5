"""A person takes over from a policy and hands back, with real processes."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_stack.ros import convert, topics
from tests.ros.arm_cell import Cell, running_cell
from tests.ros.conftest import needs_simulator, until

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(300), needs_simulator]


@pytest.fixture
def cell(domain: int, tmp_path: Path) -> Iterator[Cell]:
    with running_cell("sim_arm", domain, tmp_path, takeover=True) as cell:
        cell.spy.listen(topics.INTERVENTION, Bool)
        yield cell


class Person:
    """Holds a target for as long as it is told to."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._out = cell.spy.publisher(topics.TELEOP_ACTION, JointTrajectory)
        self.target: np.ndarray | None = None
        cell.spy.node.create_timer(0.04, self._speak)

    def _speak(self) -> None:
        if self.target is None:
            return
        spec = self._cell.spec
        stamp_ns, period_ns = self._cell.now_ns(), spec.period_ns
        message = convert.trajectory_message(self.target[None], spec.action_names, stamp_ns, period_ns, first_ns=period_ns)
        self._out.publish(message)


def intervention(cell: Cell) -> bool:
    heard = cell.spy.heard[topics.INTERVENTION]
    return bool(heard and heard[-1][1].data)


def test_a_person_takes_over_the_arm_holds_in_silence_and_the_policy_goes_on_when_asked(cell: Cell) -> None:
    person = Person(cell)
    cell.set_in_motion(joint=0)
    assert not intervention(cell)

    place = cell.committed[0] + np.array([0.0, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0])
    person.target = place
    until(lambda: intervention(cell), "the takeover")
    cell.send_chunk(cell.motion(0, -0.04, 40))  # the policy is not heard
    until(lambda: np.abs(cell.joints - place[:-1]).max() < 5e-3 and cell.speed < 1e-3, "rest at the person's target")

    person.target = None
    until(lambda: cell.speed < 1e-3, "rest")
    cell.send_chunk(cell.motion(0, -0.04, 40))
    time.sleep(0.5)
    assert intervention(cell) and np.abs(cell.joints - place[:-1]).max() < 5e-3  # nobody has handed back
    assert not any(message.header.frame_id == topics.REQUEST for _, message in cell.spy.heard[topics.COMMITTED_ACTIONS][-5:])

    assert cell.spy.call("executor/hand_back", Trigger).success
    until(lambda: not intervention(cell), "the policy's turn")
    cell.set_in_motion(joint=0, step=-0.04)
    assert not cell.spy.call("executor/hand_back", Trigger).success
    assert "a person has taken over" in (cell.logs / "executor.log").read_text()
