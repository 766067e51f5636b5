"""A plug-in's LeRobot arm behind the executor: chunks or a leader move it within the limits; whatever is lost, it holds."""

import importlib.util
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs the ros extra")
if importlib.util.find_spec("lerobot") is None or importlib.util.find_spec("mujoco") is None:
    pytest.skip("needs the train and kinematics extras", allow_module_level=True)

from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import CompressedImage, JointState, Joy
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_stack.bringup import NodeProcess
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import GuardReason
from robot_stack.core.types import ActionChunk, FloatArray
from robot_stack.drivers.device_file import DeviceFile
from robot_stack.drivers.mujoco_kinematics import MujocoKinematics
from robot_stack.paths import config_dir, robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.processes import Processes
from tests import plugins
from tests.ros.conftest import Spy, until

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(300)]
DEADMAN = 9
HOME = np.array([0.0, -0.5, 0.5, 0.3, 0.0, 1.0])


class Cell:
    """A plug-in's arm and an executor as processes, with this process as their policy, or with a leader and its node."""

    def __init__(self, folder: Path, domain: int, teleop: bool) -> None:
        self.teleop, self.leader, self.pressed = teleop, folder / "leader.json", (DEADMAN,)
        self.folder, self.plug, self.told = folder, folder / "plug", folder / "told.jsonl"
        self.plug.touch()
        robot = yaml.safe_load(robot_file("so101").read_text())
        robot["cameras"] = [robot["cameras"][0] | {"width": 64, "height": 48}]
        (folder / "arm.yaml").write_text(yaml.safe_dump(robot))
        self.spec = RobotSpec.load(folder / "arm.yaml")
        degrees = dict(zip(self.spec.action_names, np.degrees(HOME).tolist(), strict=True)) | {"gripper": 100.0}
        config = {"plug": str(self.plug), "log": str(self.told), "calibration_dir": str(folder), "home": degrees}
        names, cameras = DeviceFile.read("so101").names, {"front": "eye"}
        device = yaml.safe_dump({"type": "simulated_arm", "config": config, "names": names, "cameras": cameras})
        shared = {"robot": str(folder / "arm.yaml")}
        arm = NodeProcess("lerobot_robot", "robot_stack.ros.lerobot_robot_node", shared | {"device": device})
        live = shared | {"lock_step": False, "sensor_depth": 5, "source": "teleop" if teleop else "policy"}
        nodes = [arm, NodeProcess("executor", "robot_stack.ros.executor_node", live)]
        if teleop:
            self.lead(HOME)
            config = {"plug": str(self.leader), "calibration_dir": str(folder)}
            device = yaml.safe_dump(
                {"type": "simulated_leader", "config": config, "names": DeviceFile.read("so101_leader").names}
            )
            person = {"device": "lerobot", "lerobot": device, "deadman": "gamepad", "lock_step": False}
            nodes.append(NodeProcess("teleop", "robot_stack.ros.teleop_node", shared | person))
        self.children = Processes(nodes, domain, folder)

    def begin(self) -> None:
        self.spy = spy = Spy()
        spy.listen(topics.JOINT_STATES, JointState)
        spy.listen("ee_pose", PoseStamped)
        spy.listen(topics.COMMITTED_ACTIONS, JointTrajectory)
        spy.listen(topics.TARGET_IN_FORCE, JointTrajectory)
        spy.listen(self.spec.commands[0].topic, JointTrajectory)
        spy.listen(topics.pictures(self.spec.camera("front")).name, CompressedImage)
        if self.teleop:
            self._joy_out = spy.publisher(topics.JOY, Joy)
            spy.node.create_timer(0.04, self._say_joy)
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                request = ChangeState.Request(transition=Transition(id=transition))
                assert spy.call("teleop/change_state", ChangeState, request).success
        else:
            self._chunk_out = spy.publisher(topics.ACTION_CHUNK, JointTrajectory)
            self._heartbeat_out = spy.publisher(topics.HEARTBEAT, Header)
            spy.node.create_timer(0.04, lambda: self._heartbeat_out.publish(convert.header(self.now_ns())))
        until(lambda: spy.heard[topics.pictures(self.spec.camera("front")).name], "pictures", seconds=60.0)
        assert not self.told.exists(), "the arm was told something before anybody had commanded it"
        assert spy.call("executor/activate", Trigger).success
        until(lambda: spy.heard[topics.COMMITTED_ACTIONS], "the executor's target in force")

    def _say_joy(self) -> None:
        self._joy_out.publish(Joy(axes=[0.0] * 6, buttons=[int(i in self.pressed) for i in range(21)]))

    def lead(self, pose: FloatArray) -> None:
        """Hold the leader at a pose [A]."""
        whole = self.leader.with_suffix(".new")
        names = self.spec.action_names
        degrees = dict(zip(names, np.degrees(pose).tolist(), strict=True)) | {"gripper": 100.0 * float(pose[5])}
        whole.write_text(json.dumps(degrees))
        whole.replace(self.leader)

    def now_ns(self) -> int:
        return int(self.spy.node.get_clock().now().nanoseconds)

    @property
    def positions(self) -> FloatArray:
        return np.array(self.spy.heard[topics.JOINT_STATES][-1][1].position)

    def send_chunk(self, deltas: FloatArray) -> FloatArray:
        """A chunk from the target in force; returns its last target."""
        committed = np.array(self.spy.heard[topics.COMMITTED_ACTIONS][-1][1].points[0].positions)
        targets = committed + np.cumsum(deltas, axis=0)
        self._chunk_out.publish(convert.chunk_message(ActionChunk(self.now_ns(), self.spec.period_ns, targets), self.spec))
        return np.asarray(targets[-1])

    def set_in_motion(self) -> None:
        for _ in range(10):  # on a loaded machine a chunk may come while an observation is too old
            begun = self.positions[0]
            self.send_chunk(self.motion(0, 0.04, 60))
            until_s = time.monotonic() + 2.0
            while time.monotonic() < until_s:
                if abs(self.positions[0] - begun) > 0.1:
                    return
                time.sleep(0.01)
        raise AssertionError("the arm does not move")

    def motion(self, joint: int, step: float, length: int) -> FloatArray:
        deltas = np.zeros((length, len(self.spec.actions)))
        deltas[:, joint] = step
        return deltas

    def commands(self) -> tuple[FloatArray, FloatArray]:
        """Times [T] [s] and joints [T, 5] [rad] of what the device was told."""
        rows = [json.loads(line) for line in self.told.read_text().splitlines()]
        return np.array([row[0] for row in rows]), np.radians([row[1:6] for row in rows])

    def at_rest(self, seconds: float = 0.5) -> bool:
        """Whether the device was told the same for a while, or nothing."""
        if not self.told.exists():
            return True
        times, joints = self.commands()
        lately = joints[times > time.time() - seconds]
        return len(lately) == 0 or bool(np.ptp(lately, axis=0).max() < 1e-9)


@pytest.fixture
def cell(domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Cell]:
    plugins_dir = tmp_path / "plugins"
    plugins_dir.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(plugins.install(plugins_dir)))
    cell = Cell(tmp_path, domain, teleop=getattr(request, "param", False))
    with cell.children:
        cell.begin()
        yield cell
        cell.spy.close()


def test_chunks_move_a_lerobot_arm_within_its_limits(cell: Cell) -> None:
    deltas = cell.motion(0, 0.04, 20) + cell.motion(3, -0.03, 20)
    deltas[0, 5] = -0.75  # closes the gripper by three quarters
    for _ in range(5):  # on a loaded machine the rest of a chunk may be dropped
        end = cell.send_chunk(deltas)
        time.sleep(0.5)
        until(cell.at_rest, "rest")
        if np.abs(cell.positions - end).max() < 5e-3:
            break
        deltas[0, 5] = 0.0
    np.testing.assert_allclose(cell.positions, end, atol=5e-3)
    in_force = cell.spy.heard[topics.TARGET_IN_FORCE][-1][1].points[0].positions
    np.testing.assert_allclose(in_force, end, atol=5e-3)

    # What the executor asked the controller for keeps the limits, and so does the device: it is told points of that path.
    points: dict[int, list[float]] = {}
    for _, message in cell.spy.heard[cell.spec.commands[0].topic]:
        begin_ns = convert.to_ns(message.header.stamp)
        points |= {begin_ns + convert.to_ns(p.time_from_start): list(p.positions) for p in message.points[:-1]}
    path = np.array([points[time_ns] for time_ns in sorted(points)])
    steady = np.diff(sorted(points)) == cell.spec.command_period_ns
    assert np.abs(np.diff(path, axis=0)[steady]).max() * cell.spec.command_rate_hz <= 1.17 + 1e-6
    times, told = cell.commands()
    assert (told >= path.min(axis=0) - 1e-6).all() and (told <= path.max(axis=0) + 1e-6).all()
    assert len(times) > 30

    # The tool's pose is that of the joints of the same stamp.
    stamped = {convert.to_ns(m.header.stamp): np.array(m.position[:5]) for _, m in list(cell.spy.heard[topics.JOINT_STATES])}
    _, pose = cell.spy.heard["ee_pose"][len(stamped) // 2]
    tool = MujocoKinematics(config_dir() / "model" / "so101.xml", cell.spec.commands[0].joints, ("tool",))
    place, turn = tool.poses(stamped[convert.to_ns(pose.header.stamp)])[0]
    np.testing.assert_allclose(convert.pose_values(pose, "ee_pose")[:3], place, atol=1e-9)
    assert math.isclose(np.linalg.norm(convert.pose_values(pose, "ee_pose")[3:]), np.linalg.norm(turn), abs_tol=1e-6)


def test_a_killed_executor_leaves_the_arm_where_its_last_message_says(cell: Cell) -> None:
    cell.set_in_motion()
    cell.children.kill("executor")
    told = cell.spy.heard[cell.spec.commands[0].topic]

    def is_there() -> bool:
        return np.allclose(cell.positions[:5], told[-1][1].points[-1].positions, rtol=0.0, atol=5e-3)

    until(is_there, "the arm where the last message ends")  # not rest alone: on a loaded machine its node may pause under way
    until(cell.at_rest, "rest")
    assert is_there()


def test_an_unplugged_arm_ends_its_node_with_the_reason_and_the_executor_holds(cell: Cell) -> None:
    cell.set_in_motion()
    cell.plug.unlink()
    until(lambda: "the arm has been unplugged" in (cell.folder / "lerobot_robot.log").read_text(), "the reason")
    log = (cell.folder / "executor.log").read_text
    until(lambda: f"guard: {GuardReason.STALE_OBSERVATION}" in log(), "the executor's hold")
    cell.children.stop()
    last = cell.spy.heard[cell.spec.commands[0].topic][-1][1].points
    assert last[-2].velocities[0] == 0.0
    assert "Traceback" not in (cell.folder / "lerobot_robot.log").read_text()


@pytest.mark.parametrize("cell", [True], indirect=True)
def test_a_leader_is_approached_followed_let_go_and_lost(cell: Cell) -> None:
    log = cell.folder / "teleop.log"
    far = HOME + np.array([1.0, 0.0, 0.0, -0.4, 0.0, -0.5])
    cell.lead(far)
    until(lambda: np.abs(cell.positions - far).max() < 0.02, "the arm at the leader's pose")
    times, told = cell.commands()
    speeds = np.abs(np.diff(told[:, 0])) / np.maximum(np.diff(times), 0.01)  # by the clock of a busy machine, so roughly
    assert np.median(speeds[speeds > 0.05]) < 0.6 * 1.17  # it was approached, which is a third of the largest speed

    cell.pressed = ()  # let go
    time.sleep(0.5)
    until(cell.at_rest, "the hold")
    cell.lead(HOME)
    time.sleep(0.5)
    assert np.abs(cell.positions - far).max() < 0.02
    cell.pressed = (DEADMAN,)
    until(lambda: np.abs(cell.positions - HOME).max() < 0.02, "the way back")

    cell.lead(far)
    until(lambda: cell.positions[0] > 0.2, "motion")
    cell.leader.unlink()
    until(lambda: "simulated_leader is lost" in log.read_text(), "word of the loss")
    until(cell.at_rest, "the hold")
    assert cell.positions[0] < 0.9
    cell.lead(far)
    until(lambda: np.abs(cell.positions - far).max() < 0.02, "the arm at the pose of the leader that is back")
    assert "simulated_leader is back" in log.read_text()
