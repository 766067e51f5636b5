"""The package in a ROS workspace: `colcon build`, then the nodes that it installed, which find their files there."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("colcon_core", reason="needs the dev extra")
pytest.importorskip("rclpy", reason="needs the ros extra")

from robot_stack.bringup import environment
from robot_stack.ros.processes import reserved_domain

ROOT = Path(__file__).parents[2]
PARTS = ("robot_stack", "learning", "policy", "world_model", "rl", "calibration", "config", "launch", "resource")
FILES = ("setup.py", "setup.cfg", "package.xml", "README.md")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installation prefix of a workspace with this package."""
    workspace = tmp_path_factory.mktemp("workspace")
    source = workspace / "src" / "robot_stack"
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, source / file)
    tools = Path(sys.executable).parent
    build = [sys.executable, str(tools / "colcon"), "build", "--packages-select", "robot_stack"]
    variables = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(build, cwd=workspace, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace / "install" / "robot_stack"


def test_every_node_is_an_executable_with_a_main(prefix: Path) -> None:
    installed = {file.name for file in (prefix / "lib" / "robot_stack").iterdir()}
    nodes = {file.stem for file in (ROOT / "robot_stack" / "ros").glob("*_node.py")}
    assert installed == nodes | {"prophrl"}
    for node in nodes:
        assert "def main(" in (ROOT / "robot_stack" / "ros" / f"{node}.py").read_text()
    for folder in ("config", "launch"):
        expected = {file.relative_to(ROOT) for file in (ROOT / folder).rglob("*.*") if "__pycache__" not in file.parts}
        found = {file.relative_to(prefix / "share" / "robot_stack") for file in (prefix / "share" / "robot_stack").rglob("*.*")}
        assert expected <= found


def test_an_installed_node_starts_with_the_installed_robot_file_and_ends_on_ctrl_c(prefix: Path, tmp_path: Path) -> None:
    packages = next((prefix / "lib").glob("python3*/site-packages"))
    robot = prefix / "share" / "robot_stack" / "config" / "robot" / "sim_arm.yaml"
    robot.write_text(robot.read_text().replace("name: sim_arm", "name: sim_arm_of_the_workspace", 1))
    with reserved_domain() as domain:
        variables = os.environ | environment(domain)
        variables |= {"PYTHONPATH": str(packages), "AMENT_PREFIX_PATH": str(prefix), "PYTHONUNBUFFERED": "1"}
        command = [str(prefix / "lib" / "robot_stack" / "executor_node"), "--ros-args", "-p", "robot:=sim_arm"]
        log = tmp_path / "executor.log"
        with log.open("w") as output:
            command += ["-p", "lock_step:=false", "-p", "execution:=wishful"]
            refused = subprocess.run(command, cwd=tmp_path, env=variables, stdout=output, stderr=output, check=False)
            assert refused.returncode == 2
            command[-1] = "execution:=asynchronous"
            node = subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=output, stderr=output)
        try:
            watch = [sys.executable, "-c", WATCH]
            seen = subprocess.run(watch, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=60)
            assert "sim_arm_of_the_workspace" in seen.stdout, log.read_text() + seen.stderr
            node.send_signal(signal.SIGINT)
            assert node.wait(timeout=20) == 0
        finally:
            node.kill()
            node.wait()
    assert "unknown execution of chunks 'wishful'; valid: asynchronous" in log.read_text()
    assert "Traceback" not in log.read_text()


# Prints the hardware id that the node tells once a second: the name in the robot file that it read.
WATCH = """
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
rclpy.init()
node = rclpy.create_node("watch")
found = []
node.create_subscription(DiagnosticArray, "/diagnostics", lambda message: found.append(message.status[0].hardware_id), 10)
while not found:
    rclpy.spin_once(node, timeout_sec=0.5)
print(found[0])
"""
