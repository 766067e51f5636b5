"""What the launch files start, as data and as processes; and the node that brings them to life."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs the ros extra")

from lifecycle_msgs.srv import GetState
from trajectory_msgs.msg import JointTrajectory

from robot_stack.bringup import LAUNCH_ARGUMENTS, NodeProcess, Setup, launched, processes
from robot_stack.core.errors import ProphRLError
from robot_stack.paths import config_dir
from robot_stack.ros import topics
from robot_stack.ros.processes import Processes
from tests.ros.conftest import Spy, needs_simulator, until

ROOT = Path(__file__).parents[2]
DEFAULTS = {name: argument.default for name, argument in LAUNCH_ARGUMENTS.items()}
EXAMPLE = str(config_dir() / "cell" / "example.yaml")


def own_defaults(file: str) -> dict[str, str]:
    """The constant ``OWN`` of a launch file."""
    for node in ast.walk(ast.parse((ROOT / "launch" / f"{file}.launch.py").read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OWN":
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    return {}


@pytest.mark.parametrize(
    ("file", "given", "names"),
    [
        ("bringup", {}, "sim_robot executor teleop recorder starter"),
        ("bringup", {"robot": "sim_arm"}, "sim_arm executor recorder"),
        ("bringup", {"robot": "sim_arm", "activate": "true"}, "sim_arm executor recorder starter"),
        ("bringup", {"autostart": "false", "record": "false"}, "sim_robot executor teleop"),
        ("record", {}, "sim_robot executor teleop recorder starter"),
        ("record", {"robot": "sim_arm"}, "sim_arm executor recorder"),
        ("deploy", {"policy": "somewhere"}, "sim_robot executor policy recorder starter"),
        (
            "deploy",
            {"policy": "somewhere", "takeover": "gamepad"},
            "sim_robot executor policy teleop recorder starter",
        ),
        ("teleop", {"robot": "sim_arm"}, "sim_arm executor teleop recorder starter"),
        (
            "calibrate",
            {"robot": "ur5e", "cell": EXAMPLE},
            "camera_front camera_wrist kinematics executor teleop recorder starter",
        ),
    ],
)
def test_every_launch_file_starts_what_it_says(file: str, given: dict[str, str], names: str) -> None:
    own = own_defaults(file)
    assert own.keys() <= LAUNCH_ARGUMENTS.keys()
    nodes = {node.name: node for node in launched(DEFAULTS | own | given).nodes}
    assert list(nodes) == names.split()
    if "starter" in nodes:
        assert nodes["starter"].parameters["activate"] is (file in ("teleop", "calibrate") or given.get("activate") == "true")
    if "takeover" in given:
        assert nodes["starter"].parameters["sources"] == "policy,teleop"
        assert nodes["executor"].parameters["takeover"] is nodes["teleop"].parameters["takeover"] is True
        assert nodes["executor"].parameters["source"] == "policy"
    if file == "calibrate":
        assert {"task": "calibration", "folder": "calibration"}.items() <= nodes["recorder"].parameters.items()
    if file == "teleop":
        assert nodes["teleop"].terminal


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"activate": "yes"}, "unknown value of activate 'yes'; valid: false, true"),
        ({"domain": "robots"}, "domain:=robots: expected a number"),
        ({"robot": "ur5e", "source": "nobody"}, "cell:=FILE"),
        ({"realtime_priority": "high"}, "realtime_priority:=high: expected a number"),
        ({"realtime_priority": "10"}, r"real-time priority 10 .*: expected 0 \(none\) to 9, less than the executor's"),
        ({"source": "policy"}, "needs a policy"),
        ({"takeover": "keyboard"}, "takeover needs source 'policy'"),
        ({"policy": "x", "takeover": "voice"}, "unknown device of a person who takes over 'voice'; valid: gamepad, keyboard"),
    ],
)
def test_arguments_that_make_no_sense(given: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROPHRL_CELL", raising=False)
    with pytest.raises(ProphRLError, match=message):
        launched(DEFAULTS | given)


def test_cameras_and_policy_have_a_priority_where_it_is_asked_for() -> None:
    given = DEFAULTS | {"robot": "ur5e", "cell": EXAMPLE, "policy": "x"}
    asked = {node.name: node.parameters for node in launched(given | {"realtime_priority": "5"}).nodes}
    urgent = {name for name, parameters in asked.items() if parameters.get("realtime_priority") == 5}
    assert urgent == {"camera_front", "camera_wrist", "policy"}
    assert not any("realtime_priority" in node.parameters for node in launched(given).nodes)  # as their files say


def test_the_domain_is_the_shell_s_unless_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "23")
    assert launched(DEFAULTS).variables["ROS_DOMAIN_ID"] == "23"
    assert launched(DEFAULTS | {"domain": "7"}).variables["ROS_DOMAIN_ID"] == "7"
    monkeypatch.delenv("ROS_DOMAIN_ID")
    assert launched(DEFAULTS).variables["ROS_DOMAIN_ID"] == "0"


def test_in_a_namespace_a_node_still_gets_what_its_file_says() -> None:
    executor = next(node for node in processes(Setup(robot="sim_arm", source="nobody")) if node.name == "executor")
    in_file = yaml.safe_load(executor.parameter_file.read_text())["executor"]["ros__parameters"]
    assert executor.all_parameters == in_file | executor.parameters
    assert in_file.keys() & executor.parameters.keys() == {"sensor_depth"}  # and ours has the last word
    assert executor.all_parameters["sensor_depth"] == executor.parameters["sensor_depth"] != in_file["sensor_depth"]


def starter(**parameters: Any) -> NodeProcess:
    return NodeProcess("starter", "robot_stack.ros.starter_node", parameters)


@pytest.mark.ros
@pytest.mark.slow
@needs_simulator
@pytest.mark.parametrize("activate", [False, True])
def test_the_source_is_configured_and_moves_the_arm_only_on_request(domain: int, tmp_path: Path, activate: bool) -> None:
    nodes = launched(DEFAULTS | {"record": "false", "autostart": "false"}).nodes
    spy = Spy()
    spy.listen(topics.SENT_ACTION, JointTrajectory)
    with Processes(nodes, domain, tmp_path / "robot"):
        with Processes([starter(sources="teleop", activate=activate)], domain, tmp_path / "starter") as children:
            assert children.wait(100.0) == {"starter": 0}, children.log("starter").read_text()
        state = spy.call("teleop/get_state", GetState).current_state.label
        assert state == ("active" if activate else "inactive")
        if activate:
            until(lambda: len(spy.heard[topics.SENT_ACTION]) > 5, "motion")
        else:
            assert not spy.heard[topics.SENT_ACTION]
    spy.close()


@pytest.mark.ros
def test_a_source_that_cannot_be_configured_is_named(domain: int, tmp_path: Path) -> None:
    nodes = processes(Setup(robot="sim_arm", source="policy", policy=f"onnx:{tmp_path / 'nowhere'}"))
    policy = next(node for node in nodes if node.name == "policy")
    with Processes([policy], domain, tmp_path / "policy") as source:
        with Processes([starter(sources="policy")], domain, tmp_path / "starter") as children:
            assert children.wait(100.0) == {"starter": 2}
            assert "node policy could not be configured; its output says why" in children.log("starter").read_text()
        assert "no such folder" in source.log("policy").read_text()
