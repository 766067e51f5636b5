"""Real robots: processes by a cell file, an arm whose driver runs elsewhere, cameras and kinematics of ours around it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs the ros extra")

from geometry_msgs.msg import PoseStamped
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import Header, String
from trajectory_msgs.msg import JointTrajectory

from robot_stack.bringup import DRIVERS, Robot, Setup, Stops, environment, processes
from robot_stack.core.cell import CameraDriver
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import ActionChunk
from robot_stack.paths import config_dir, robot_file
from robot_stack.ros import cameras, convert, topics
from robot_stack.ros.episode_runner import running_robot
from robot_stack.ros.processes import Processes, reserved_domain, shared_domain
from tests.drivers.films import HEIGHT, RATE_HZ, WIDTH, shows, write_film
from tests.ros.conftest import Spy, needs_simulator, until

ROOT = Path(__file__).parents[2]
EXAMPLE = config_dir() / "cell" / "example.yaml"


def cell_file(folder: Path, **changes: Any) -> str:
    """The example, changed."""
    path = folder / "cell.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(EXAMPLE.read_text()) | changes))
    return str(path)


def test_an_external_arm_gets_cameras_kinematics_and_an_executor() -> None:
    nodes = {node.name: node for node in processes(Setup(robot="ur5e", cell=str(EXAMPLE), source="keyboard", record=True))}
    assert list(nodes) == ["camera_front", "camera_wrist", "kinematics", "executor", "teleop", "recorder"]
    front, wrist = nodes["camera_front"], nodes["camera_wrist"]
    assert front.parameter_file == config_dir() / "ros" / "camera.yaml" and "__node:=camera_front" in front.command()
    assert {"driver": "realsense", "device": "123456789012"}.items() <= front.parameters.items()
    assert {
        "capture_width": 1280,
        "capture_height": 720,
        "resize": True,
        "latency_ms": 30.0,
    }.items() <= wrist.parameters.items()
    assert "capture_width" not in front.parameters and "intrinsics" not in front.parameters
    assert nodes["recorder"].parameters["cell"] == str(EXAMPLE.resolve())
    assert nodes["executor"].parameters["target_in_force"] is False  # nobody tells it; motion starts where the arm is
    assert sorted(nodes, key=lambda name: nodes[name].stops)[:2] == ["teleop", "executor"]
    assert nodes["recorder"].stops is nodes["camera_front"].stops is Stops.LAST


def test_a_robot_of_lerobot_is_driven_by_the_device_file_that_its_cell_names(tmp_path: Path) -> None:
    arm = {"driver": "lerobot", "device": "so101", "latency_ms": 0.0, "tells_pose": True}
    cameras = [{"name": name, "driver": "opencv", "device": f"/dev/{name}", "latency_ms": 0.0} for name in ("front", "wrist")]
    cell = cell_file(tmp_path, robot="so101", arm=arm, cameras=cameras)
    nodes = {node.name: node for node in processes(Setup(robot="so101", cell=cell, source="nobody"))}
    assert list(nodes) == ["lerobot_robot", "camera_front", "camera_wrist", "executor"]
    assert nodes["lerobot_robot"].parameters["device"] == "so101"
    assert list(yaml.safe_load(nodes["lerobot_robot"].parameter_file.read_text())) == ["lerobot_robot"]
    assert nodes["executor"].parameters["target_in_force"] is True


def test_a_calibrated_camera_is_told_its_lens(tmp_path: Path) -> None:
    cameras = yaml.safe_load(EXAMPLE.read_text())["cameras"]
    cameras[1]["intrinsics"] = "lens.yaml"
    (tmp_path / "lens.yaml").touch()
    setup = Setup(robot="ur5e", cell=cell_file(tmp_path, cameras=cameras), source="nobody")
    nodes = {node.name: node for node in processes(setup)}
    assert nodes["camera_wrist"].parameters["intrinsics"] == str(tmp_path / "lens.yaml")


def test_simulated_robots_need_no_cell_and_are_stopped_after_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROPHRL_CELL", str(EXAMPLE))  # of the real robot that one has, too
    for robot in ("sim_arm", "sim_metaworld"):
        arm, executor, teleop = processes(Setup(robot=robot, source="keyboard"))
        assert teleop.stops < executor.stops < arm.stops
        assert executor.parameters["target_in_force"] is True


def test_the_environment_names_the_cell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROPHRL_CELL", cell_file(tmp_path, arm={"driver": "external", "latency_ms": 4.0, "tells_pose": True}))
    robot = Robot.of(Setup(robot="ur5e"))
    assert robot.cell is not None and robot.cell.arm.latency_ms == 4.0
    assert "kinematics" not in {node.name for node in processes(Setup(robot="ur5e", source="nobody"))}


def test_a_camera_with_a_driver_of_somebody_else_is_not_started(tmp_path: Path) -> None:
    both = [{"name": "front", "driver": "external", "latency_ms": 0.0}, yaml.safe_load(EXAMPLE.read_text())["cameras"][1]]
    setup = Setup(robot="ur5e", cell=cell_file(tmp_path, cameras=both), source="nobody")
    assert [node.name for node in processes(setup)] == ["camera_wrist", "kinematics", "executor"]


@pytest.mark.parametrize(
    ("setup", "changes", "message"),
    [
        ({"robot": "ur5e"}, None, "robot ur5e is a real one: name its cell by --cell FILE.*PROPHRL_CELL.*example.yaml"),
        ({"robot": "fr3"}, {}, "robot is 'ur5e', but the robot is 'fr3'"),
        ({"robot": "ur5e"}, {"arm": {"driver": "telepathy", "latency_ms": 0}}, "unknown driver of the arm .*valid: external"),
        ({"robot": "ur5e"}, {"cameras": None}, "cameras must be a non-empty list"),
        ({"robot": "ur5e", "lock_step": True}, {}, "robot ur5e runs in real time"),
        ({"robot": "sim_arm", "instruction": "lift"}, None, "robot sim_arm is simulated and tells its instruction itself"),
        ({"robot": "ur5e", "source": "behaviour"}, {}, "robot ur5e follows a policy or a person"),
    ],
)
def test_what_does_not_fit_is_refused(
    setup: dict[str, Any], changes: dict[str, Any] | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROPHRL_CELL", raising=False)
    cell = "" if changes is None else cell_file(tmp_path, **changes)
    with pytest.raises(ProphRLError, match=message):
        processes(Setup(**{"cell": cell, "source": "keyboard"} | setup))


def test_cameras_and_their_driver_agree(tmp_path: Path) -> None:
    raw = yaml.safe_load(EXAMPLE.read_text())
    del raw["cameras"]
    path = tmp_path / "cell.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ProphRLError, match="cameras are missing; robot ur5e has front, wrist"):
        Robot.of(Setup(robot="ur5e", cell=str(path)))
    brings = next(name for name, driver in DRIVERS.items() if driver.brings_cameras)
    with pytest.raises(ProphRLError, match="brings its own cameras; leave out"):
        Robot.of(Setup(robot="ur5e", cell=cell_file(tmp_path, arm={"driver": brings, "latency_ms": 0})))
    assert {kind.value for kind in CameraDriver} == {*cameras.DRIVERS, "external"}


def test_drivers_of_others_run_in_the_shell_s_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    assert shared_domain() == 0
    monkeypatch.setenv("ROS_DOMAIN_ID", "17")
    assert shared_domain() == 17
    monkeypatch.setenv("ROS_DOMAIN_ID", "-1")
    with pytest.raises(ProphRLError, match="expected a number"):
        shared_domain()


# The joint-level simulated arm as a driver of somebody else: what it would tell beyond joint_states goes where nobody listens.
FOREIGN = ("ee_pose:=their_pose", "target_in_force:=their_target", "camera/front/image_raw/compressed:=their_pictures")


@pytest.fixture
def robot(tmp_path: Path) -> str:
    """A robot file of a real arm: the simulated arm's, with one camera that is ours."""
    raw = yaml.safe_load(robot_file("sim_arm").read_text())
    camera = {"name": "front", "width": WIDTH, "height": HEIGHT, "rate_hz": RATE_HZ, "max_age_ms": 400, "sensor_noise": False}
    raw |= {"name": "my_arm", "cameras": [camera | {"compression": "jpeg"}], "max_state_age_ms": 400}
    path = tmp_path / "my_arm.yaml"
    path.write_text(yaml.safe_dump(raw))
    return str(path)


@pytest.fixture
def foreign_driver(robot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A process that we have not started, in the shell's domain; yields the domain."""
    pytest.importorskip("mujoco", reason="needs the sim extra")
    with reserved_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        command = [sys.executable, "-m", "robot_stack.ros.sim_arm_node", "--ros-args", "-p", f'robot:="{robot}"']
        command += [part for rule in FOREIGN for part in ("-r", rule)]
        variables = os.environ | environment(domain) | {"PYTHONPATH": str(ROOT)}
        with (tmp_path / "driver.log").open("w") as log:
            driver = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
        yield domain
        driver.terminate()
        driver.wait(timeout=30)


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_simulator
def test_an_arm_with_a_foreign_driver_is_seen_and_moved(robot: str, foreign_driver: int, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", 6)
    camera = {"name": "front", "driver": "file", "device": film.name, "latency_ms": 0.0}
    cell = {"robot": "my_arm", "arm": {"driver": "external", "latency_ms": 0.0}, "cameras": [camera]}
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(cell))
    setup = Setup(robot=robot, cell=str(tmp_path / "cell.yaml"), source="nobody")
    spec, pictures = RobotSpec.load(robot), "camera/front/image_raw/compressed"
    with running_robot(setup, tmp_path / "logs") as up:
        assert up.processes.domain == foreign_driver
        assert set(up.processes.pids) == {"camera_front", "kinematics", "executor"}
        spy = Spy()
        try:
            wanted = {"ee_pose": PoseStamped, "their_pose": PoseStamped, topics.JOINT_STATES: JointState}
            wanted |= {pictures: CompressedImage, topics.COMMITTED_ACTIONS: JointTrajectory}
            for topic, message in wanted.items():
                spy.listen(topic, message)
            observed = (pictures, "ee_pose", topics.JOINT_STATES, "their_pose")
            until(lambda: all(spy.heard[topic] for topic in observed), "pictures, poses and joint states")
            image = convert.image_array(spy.heard[pictures][-1][1], pictures)
            assert any(shows(image, number) for number in range(6))

            begin = up.trigger("executor/activate")
            assert begin == "active"
            until(lambda: spy.heard[topics.COMMITTED_ACTIONS], "the target in force")
            reference = np.array(spy.heard[topics.COMMITTED_ACTIONS][-1][1].points[0].positions)
            _, measured = spy.heard[topics.JOINT_STATES][-1]
            np.testing.assert_allclose(reference[:6], measured.position[:6], atol=1e-2)  # it starts where the arm is
            chunks, beats = (spy.publisher(topics.ACTION_CHUNK, JointTrajectory), spy.publisher(topics.HEARTBEAT, Header))
            now = spy.node.get_clock().now
            spy.node.create_timer(0.04, lambda: beats.publish(convert.header(now().nanoseconds)))
            goal = reference.copy()
            goal[0] += 0.2

            def moved() -> bool:
                return abs(spy.heard[topics.JOINT_STATES][-1][1].position[0] - goal[0]) < 5e-3

            for _ in range(8):  # on a loaded machine an observation may be too old, and the rest of a chunk is dropped
                here = np.array(spy.heard[topics.COMMITTED_ACTIONS][-1][1].points[-1].positions)
                steps = np.linspace(here, goal, 20)
                chunks.publish(convert.chunk_message(ActionChunk(int(now().nanoseconds), spec.period_ns, steps), spec))
                try:
                    until(moved, "the goal", 2.5)
                    break
                except AssertionError:
                    continue
            assert moved()
            up.trigger("executor/deactivate")
            theirs = {convert.to_ns(m.header.stamp): m.pose for _, m in spy.heard["their_pose"]}
            ours = {convert.to_ns(m.header.stamp): m for _, m in spy.heard["ee_pose"]}
        finally:
            spy.close()
    for log in (tmp_path / "logs").glob("*.log"):
        assert "Traceback" not in (text := log.read_text()), text
    states = {convert.to_ns(m.header.stamp) for _, m in spy.heard[topics.JOINT_STATES]}
    assert {stamp for stamp in ours if stamp > min(states)} <= states  # the stamp is the joint state's
    assert next(iter(ours.values())).header.frame_id == "base"
    same = sorted(theirs.keys() & ours.keys())
    assert len(same) > 20
    for stamp in same:  # with the simulator's own pose of the tool
        a, b = theirs[stamp], ours[stamp].pose
        moved_m = [getattr(a.position, name) - getattr(b.position, name) for name in ("x", "y", "z")]
        assert np.abs(moved_m).max() < 1e-6
        turned = sum(getattr(a.orientation, name) * getattr(b.orientation, name) for name in ("x", "y", "z", "w"))
        assert abs(turned) > 1 - 1e-9


@pytest.mark.ros
def test_kinematics_ignore_grippers_and_say_what_is_missing(domain: int, tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="needs the kinematics extra")
    node = next(n for n in processes(Setup(robot="ur5e", cell=str(EXAMPLE), source="nobody")) if n.name == "kinematics")
    spec = RobotSpec.load(robot_file("ur5e"))
    with Processes([node], domain, tmp_path) as children:
        spy = Spy()
        spy.listen("ee_pose", PoseStamped)
        out = spy.publisher(topics.JOINT_STATES, JointState)
        until(lambda: spy.node.count_publishers("ee_pose"), "the node")
        names, stamp = ["other_joint", *reversed(spec.joint_names)], 0

        def say(names: list[str]) -> None:
            nonlocal stamp
            stamp += 10_000_000
            out.publish(convert.joint_message(names, np.zeros(len(names)), np.zeros(len(names)), stamp))

        def heard() -> bool:
            say(names)
            return bool(spy.heard["ee_pose"])

        until(heard, "a pose")
        place = spy.heard["ee_pose"][-1][1].pose.position
        # Stretched out along -x by Universal Robots' parameters: a2 + a3, d4 + d6 + tool to the side, d1 - d5 high.
        np.testing.assert_allclose([place.x, place.y, place.z], [-0.8172, -0.1333 - 0.0996 - 0.174, 0.1625 - 0.0997], atol=1e-6)
        say(["robotiq_85_left_knuckle_joint"])
        say(names[:3])
        log = children.log("kinematics")
        until(lambda: "without shoulder_pan_joint" in log.read_text(), "a complaint")
        assert "knuckle" not in log.read_text()
        spy.close()


@pytest.mark.ros
def test_the_instruction_is_told_to_whoever_comes_later_and_can_be_changed(domain: int, tmp_path: Path) -> None:
    setup = Setup(robot="ur5e", cell=str(EXAMPLE), source="nobody", instruction="lift the red cube")
    node = next(node for node in processes(setup) if node.name == "task")
    with Processes([node], domain, tmp_path):
        spy = Spy()
        until(lambda: spy.node.count_publishers(topics.TASK), "the node")
        heard: list[str] = []
        spy.node.create_subscription(String, topics.TASK, lambda message: heard.append(message.data), topics.LATCHED)
        until(lambda: heard == ["lift the red cube"], "the instruction")
        client = spy.node.create_client(SetParameters, "task/set_parameters")
        until(client.service_is_ready, "the service")
        value = Parameter("instruction", value="put it down").to_parameter_msg()
        client.call_async(SetParameters.Request(parameters=[value]))
        until(lambda: heard[-1] == "put it down", "the new one")
        spy.close()
