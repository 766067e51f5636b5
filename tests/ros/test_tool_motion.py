"""An arm that is commanded by joints, driven by poses of its tool: the same executor, with inverse kinematics in between."""

import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from geometry_msgs.msg import PoseStamped

from robot_stack.core.types import ActionChunk
from robot_stack.ros import convert, topics
from tests.ros.arm_cell import Cell, running_cell
from tests.ros.conftest import needs_simulator, until

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(300), needs_simulator]


def tool(cell: Cell) -> np.ndarray:
    return np.asarray(convert.pose_values(cell.spy.heard["ee_pose"][-1][1], "ee_pose"))


def test_poses_become_motion_of_joints_and_what_was_sent_is_told_as_poses(domain: int, tmp_path: Path) -> None:
    with running_cell("sim_arm_pose", domain, tmp_path) as cell:
        cell.spy.listen("ee_pose", PoseStamped)
        until(lambda: cell.spy.heard["ee_pose"], "a pose")
        begin = tool(cell)
        np.testing.assert_allclose(cell.committed[0][:3], begin[:3], atol=2e-3)
        square = [cell.motion(1, 0.01, 10), cell.motion(2, 0.01, 10), cell.motion(1, -0.01, 10), cell.motion(2, -0.01, 10)]
        for deltas in square:
            end = cell.committed[0] + deltas.sum(axis=0)
            for _ in range(5):  # on a loaded machine an observation may be too old, and the rest of a chunk is dropped
                targets = cell.committed[0] + (end - cell.committed[0]) * np.arange(1, 11)[:, None] / 10
                chunk = ActionChunk(cell.now_ns(), cell.spec.period_ns, targets)
                cell.chunk_out.publish(convert.chunk_message(chunk, cell.spec))
                time.sleep(0.3)
                until(lambda: len(cell.committed) == 1 and cell.speed < 1e-2, "rest")
                if np.abs(tool(cell)[:3] - end[:3]).max() < 2e-3:
                    break
            np.testing.assert_allclose(tool(cell)[:3], end[:3], atol=2e-3)
        np.testing.assert_allclose(tool(cell), begin, atol=5e-3)  # back, with the same orientation
        sent = cell.spy.heard[topics.SENT_ACTION][-1][1]
        assert tuple(sent.joint_names) == cell.spec.action_names
        np.testing.assert_allclose(sent.points[0].positions[:3], begin[:3], atol=2e-3)


def test_a_pose_out_of_reach_is_refused_with_its_reason_and_the_arm_stays(domain: int, tmp_path: Path) -> None:
    with running_cell("sim_arm_pose", domain, tmp_path) as cell:
        before = cell.joints
        far = cell.committed[0] + np.array([3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        message = convert.chunk_message(ActionChunk(cell.now_ns(), cell.spec.period_ns, far[None]), cell.spec)
        cell.chunk_out.publish(message)
        log = cell.logs / "executor.log"
        until(lambda: "the tool cannot reach" in log.read_text(), "the refusal")
        np.testing.assert_allclose(cell.joints, before, atol=2e-3)
