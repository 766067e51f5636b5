"""The joint-level arm behind the executor: chunks become motion, and whatever dies, the arm stops within its limits."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")


from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from tests.ros.arm_cell import Cell, running_cell
from tests.ros.conftest import needs_simulator, until

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(300), needs_simulator]
SPEC = RobotSpec.load(robot_file("sim_arm"))


@pytest.fixture
def cell(domain: int, tmp_path: Path) -> Iterator[Cell]:
    with running_cell("sim_arm", domain, tmp_path) as cell:
        yield cell


def test_chunks_become_motion_within_the_limits_and_the_end_is_reached(cell: Cell) -> None:
    deltas = cell.motion(0, 0.03, 20) + cell.motion(3, -0.02, 20)
    deltas[:, -1] = np.concatenate([[-1.0], np.zeros(19)])  # closes the gripper
    for _ in range(5):  # on a loaded machine an observation may be too old, and the rest of a chunk is dropped
        end = cell.send_chunk(deltas)
        time.sleep(0.5)
        until(lambda: len(cell.committed) == 1 and cell.speed < 1e-2, "rest, and the executor asking for more")
        if np.abs(cell.joints - end[:-1]).max() < 2e-3:
            break
    np.testing.assert_allclose(cell.joints, end[:-1], atol=2e-3)
    times, positions = cell.commanded()
    steady = np.diff(times) == SPEC.command_period_ns
    velocity = np.diff(positions, axis=0)[steady] * SPEC.command_rate_hz
    assert np.abs(velocity).max() <= 1.05 + 1e-6
    pairs = steady[1:] & steady[:-1]
    acceleration = np.diff(positions, n=2, axis=0)[pairs] * SPEC.command_rate_hz**2
    assert len(acceleration) > 50 and np.abs(acceleration).max() <= 3.1 + 1e-3
    refused = [line for line in (cell.logs / "sim_arm.log").read_text().splitlines() if "rejected" in line]
    assert all("it ended" in line for line in refused)  # on a loaded machine messages may come too late, but none is malformed


def test_a_killed_executor_leaves_the_arm_braking_to_where_its_last_message_says(cell: Cell) -> None:
    cell.set_in_motion()
    cell.children.kill("executor")
    until(lambda: cell.speed < 1e-3, "rest")
    promised = cell.spy.heard[SPEC.commands[0].topic][-1][1].points[-1]
    np.testing.assert_allclose(cell.joints, promised.positions, atol=2e-3)


def test_a_silent_policy_brakes_the_arm_long_before_its_chunk_is_done(cell: Cell) -> None:
    cell.set_in_motion()
    cell.alive = False
    end = cell.committed[-1][0]
    until(lambda: cell.speed < 1e-3, "rest")
    assert cell.joints[0] < end - 0.3
    assert "source of actions is silent" in (cell.logs / "executor.log").read_text()


def test_ctrl_c_brakes_before_the_executor_ends(cell: Cell) -> None:
    cell.set_in_motion()
    os.kill(cell.children.pids["executor"], signal.SIGINT)
    until(lambda: cell.speed < 1e-3, "rest")
    last = cell.spy.heard[SPEC.commands[0].topic][-1][1].points
    np.testing.assert_array_equal(last[-2].velocities, np.zeros(6))  # the last command is to stand still, not just to brake
    np.testing.assert_allclose(cell.joints, last[-1].positions, atol=2e-3)


def test_the_arm_goes_home_when_it_is_asked_to_and_is_inactive_there(cell: Cell) -> None:
    cell.set_in_motion(step=0.04, length=20)
    refused = cell.spy.call("executor/home", Trigger)
    assert not refused.success and "deactivate first" in refused.message
    assert cell.spy.call("executor/deactivate", Trigger).success
    cell.alive = False  # the way home needs no policy
    assert cell.spy.call("executor/home", Trigger).success
    until(lambda: cell.speed < 1e-3, "rest")  # the arm follows a little later than it is told
    np.testing.assert_allclose(cell.joints, SPEC.home[:-1], atol=2e-3)
    cell.send_chunk(cell.motion(0, 0.04, 20))
    until(lambda: cell.speed < 1e-3, "rest")
    np.testing.assert_allclose(cell.joints, SPEC.home[:-1], atol=2e-3)


def test_an_arm_whose_driver_was_started_anew_is_taken_up_where_it_is_then(cell: Cell) -> None:
    cell.set_in_motion(step=0.04, length=20)
    cell.children.kill("sim_arm")
    until(lambda: "stale observation" in (cell.logs / "executor.log").read_text(), "the hold")
    cell.children.restart("sim_arm")  # the simulated arm begins at home
    until(lambda: np.abs(cell.joints - SPEC.home[:-1]).max() < 1e-3 and cell.speed < 1e-3, "the arm at home", seconds=60.0)
    until(lambda: np.abs(cell.committed[0][:-1] - SPEC.home[:-1]).max() < 2e-3, "the new reference")
    heard = cell.spy.heard[SPEC.commands[0].topic]
    before = len(heard)
    cell.set_in_motion(joint=3, step=-0.04, length=15)
    pan = [point.positions[0] for _, message in heard[before:] for point in message.points]
    assert len(pan) > 50 and np.abs(pan).max() < 2e-3  # nobody asked the first joint to go back to where the old arm was


def test_an_arm_that_still_moves_is_not_told_to_begin_at_rest(cell: Cell) -> None:
    clients = [cell.spy.node.create_client(Trigger, f"executor/{service}") for service in ("deactivate", "activate")]
    until(lambda: all(client.service_is_ready() for client in clients), "the executor's services")
    cell.set_in_motion()
    for client in clients:  # it is active again before it has braked
        answer = client.call_async(Trigger.Request())
        until(answer.done, "the answer")
        assert answer.result().success
    begin_ns = cell.now_ns()
    until(lambda: cell.told_since(begin_ns) and cell.speed < 1e-3, "the executor's next word")
    first_ns = convert.to_ns(cell.told_since(begin_ns)[0].header.stamp)
    told = [message for _, message in cell.spy.heard[SPEC.commands[0].topic]]
    ends = [convert.to_ns(m.header.stamp) + convert.to_ns(m.points[-1].time_from_start) for m in told]
    brake = max(end_ns for m, end_ns in zip(told, ends, strict=True) if convert.to_ns(m.header.stamp) < begin_ns)
    assert begin_ns < brake <= first_ns


def test_two_cameras_on_one_topic_keep_the_arm_still(cell: Cell) -> None:
    second = cell.spy.node.create_publisher(Image, topics.image_raw("front"), topics.sensor_qos("reliable", 5))
    assert cell.spy.call("executor/deactivate", Trigger).success
    until(lambda: not cell.spy.call("executor/activate", Trigger).success, "the refusal")
    refused = cell.spy.call("executor/activate", Trigger)
    assert "two nodes publish" in refused.message and "camera/front/image_raw" in refused.message
    cell.spy.node.destroy_publisher(second)


def test_messages_of_another_type_are_told_with_the_type_that_is_expected(cell: Cell) -> None:
    assert cell.spy.call("executor/deactivate", Trigger).success
    wrong = cell.spy.node.create_publisher(String, "ee_pose", 5)
    log = cell.logs / "executor.log"
    until(lambda: "ee_pose: std_msgs/msg/String, expected geometry_msgs/msg/PoseStamped" in log.read_text(), "the complaint")
    cell.spy.node.destroy_publisher(wrong)


def test_only_a_camera_that_stands_still_tells_where_it_is(cell: Cell) -> None:
    heard: dict[str, PoseStamped] = {}
    for name in SPEC.camera_names:
        topic = topics.camera_pose(name)
        cell.spy.node.create_subscription(PoseStamped, topic, lambda m, name=name: heard.update({name: m}), topics.LATCHED)
    until(lambda: "front" in heard, "the place of the front camera")
    place = heard["front"].pose.position
    assert (place.x, place.y, place.z) == (1.15, 0.0, 0.7)  # config/model/ur5e_cell.xml
    assert heard["front"].header.frame_id == SPEC.base_frame
    assert cell.spy.node.count_publishers(topics.camera_pose("wrist")) == 0
