"""Which processes a robot needs, and what refuses to start."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from robot_stack import operate
from robot_stack.bringup import Setup, environment, processes
from robot_stack.core.errors import BadFileError, ProphRLError, UnknownNameError
from robot_stack.ros.processes import OccupiedDomainError, Processes, reserved_domain
from tests.ros.conftest import needs_simulator

ROOT = Path(__file__).parents[2]


def test_processes_of_the_embedded_robot() -> None:
    setup = Setup(source="policy", policy="onnx:somewhere", lock_step=True, record=True)
    nodes = {node.name: node for node in processes(setup)}
    assert list(nodes) == ["sim_robot", "executor", "policy", "recorder"]
    assert nodes["policy"].parameters["policy"] == "onnx:somewhere" and nodes["policy"].lifecycle
    assert nodes["executor"].parameters["source"] == "policy"
    assert "use_sim_time" not in nodes["sim_robot"].parameters  # it makes the time
    assert all(node.parameters["use_sim_time"] for name, node in nodes.items() if name != "sim_robot")
    for node in nodes.values():
        assert (ROOT / f"{node.module.replace('.', '/')}.py").is_file()
        assert list(yaml.safe_load(node.parameter_file.read_text())) == [node.name]
    assert [node.name for node in processes(Setup(robot="sim_arm", source="nobody"))] == ["sim_arm", "executor"]
    assert "sensor_depth" not in nodes["executor"].parameters  # in lock-step no message may be lost
    assert processes(Setup(source="keyboard"))[1].parameters["sensor_depth"] == 5  # in real time only the youngest count
    keyboard = processes(Setup(source="keyboard"))[2]
    assert keyboard.name == "teleop" and keyboard.terminal
    gamepad = processes(Setup(source="gamepad"))[2]
    assert gamepad.parameters["device"] == "gamepad" and not gamepad.terminal
    leaders = [processes(Setup(source="lerobot", leader="so101_leader", deadman=held))[2] for held in ("keyboard", "gamepad")]
    assert [leader.terminal for leader in leaders] == [True, False]
    assert [leader.parameters["lerobot"] for leader in leaders] == ["so101_leader"] * 2


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        (Setup(robot="r2d2"), "unknown robot 'r2d2'; valid: .*sim_metaworld"),
        (Setup(source="wishes"), "valid: behaviour, gamepad, keyboard, lerobot, nobody, policy"),
        (Setup(source="policy"), "needs a policy"),
        (Setup(source="keyboard", lock_step=True), "needs real time"),
        (Setup(source="lerobot"), "device 'lerobot' needs a leader"),
        (Setup(robot="sim_arm", source="behaviour"), r"robot sim_arm follows a policy or a person \(keyboard, gamepad"),
        (Setup(robot="sim_arm", source="policy", policy="onnx:x", lock_step=True), "robot sim_arm runs in real time"),
        (Setup(robot="so101", source="nobody"), "robot so101 is a real one: name its cell"),
    ],
)
def test_setups_that_make_no_sense(setup: Setup, message: str) -> None:
    with pytest.raises(ProphRLError, match=message):
        processes(setup)


def test_an_occupied_domain_is_refused_and_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    with reserved_domain() as mine, reserved_domain() as other:
        assert mine != other  # the lock of the first is respected
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as foreign:
        foreign.bind(("", 7400 + 250 * mine + 10))  # where a foreign participant listens
        with reserved_domain() as free:
            assert free != mine
        monkeypatch.setenv("ROS_DOMAIN_ID", str(mine))
        with pytest.raises(OccupiedDomainError, match=f"domain {mine} is in use"), reserved_domain():
            pass
    monkeypatch.setenv("ROS_DOMAIN_ID", "seven")
    with pytest.raises(ProphRLError, match="expected a number"), reserved_domain():
        pass


@needs_simulator
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--task", "fly-v3"], UnknownNameError, "unknown task 'fly-v3'; valid: assembly-v3"),
        (["--behaviour", "lazy"], UnknownNameError, "valid: careless, expert, noisy, onnx:<folder>, random"),
        (["--behaviour", "onnx:/nowhere"], BadFileError, "no such folder"),
        (["--seeds", "5"], ProphRLError, "expected A:B"),
        (["--horizon", "0"], ProphRLError, "at least one tick"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(
    arguments: list[str], error: type[ProphRLError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        operate.record_main([*arguments, "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


@pytest.mark.ros
def test_a_misspelt_parameter_is_refused_with_the_valid_ones(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="needs the ros extra")
    node = next(node for node in processes(Setup(source="policy", policy="onnx:x")) if node.name == "executor")
    with reserved_domain() as domain:
        done = subprocess.run(
            [*node.command(), "-p", "heartbeat_timeout:=5.0"],
            env={**os.environ, **environment(domain), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert "unknown parameter of node executor 'heartbeat_timeout'; valid: answer_timeout_s" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_ros_wheels_there_is_one_clear_message(tmp_path: Path) -> None:
    """A finder that hides rclpy stands in for a machine without it."""
    code = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'rclpy': raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'rclpy' else found(name, package)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from robot_stack.cli import main\n"
        f"sys.exit(main(['up', '--logs', {str(tmp_path)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "rclpy" in done.stderr and "pip install 'robot_stack[ros]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_child_that_cannot_start_leaves_none_behind(tmp_path: Path) -> None:
    nodes = processes(Setup(source="policy", policy="onnx:x"))
    missing = tmp_path / "file"
    missing.write_text("not a folder")
    with pytest.raises(FileExistsError), Processes(nodes, 1, missing):
        pass
