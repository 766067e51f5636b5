"""The teleoperation node as a process, with a gamepad on the wire: who it continues from, and what it passes on."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from robot_stack.bringup import NodeProcess
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.episodes.log_reader import EpisodeLog, find_logs
from robot_stack.episodes.meta import Label
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.processes import Processes
from tests.ros.conftest import Spy, until

pytestmark = [pytest.mark.ros, pytest.mark.slow]
SPEC = RobotSpec.load(robot_file("sim_metaworld"))
HERE = np.array([0.0, 0.6, 0.2, 1.0])
DEADMAN, E_STOP, START, SUCCESS = 9, 1, 6, 2


class Driver:
    """This process as gamepad, executor and operator of a teleoperation node."""

    def __init__(self, spy: Spy, takeover: bool) -> None:
        self.spy = spy
        self.stick, self.pressed, self.silent = 0.0, (), False
        self.buttons = 21
        spy.listen(topics.TELEOP_ACTION, JointTrajectory)
        spy.listen(topics.E_STOP, Bool)
        self._joy_out = spy.publisher(topics.JOY, Joy)
        self._committed_out = spy.publisher(topics.COMMITTED_ACTIONS, JointTrajectory)
        self._intervention_out = spy.publisher(topics.INTERVENTION, Bool) if takeover else None
        for name, transition in (("configure", Transition.TRANSITION_CONFIGURE), ("activate", Transition.TRANSITION_ACTIVATE)):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert spy.call("teleop/change_state", ChangeState, request).success, name
        spy.node.create_timer(0.02, self._say_joy)

    def _say_joy(self) -> None:
        if not self.silent:
            axes, buttons = [0.0, 0.0, 0.0, self.stick, 0.0, 0.0], [int(i in self.pressed) for i in range(self.buttons)]
            self._joy_out.publish(Joy(axes=axes, buttons=buttons))

    def intervene(self, person: bool) -> None:
        assert self._intervention_out is not None
        self._intervention_out.publish(Bool(data=person))

    def answer(self, *committed: float) -> float | None:
        """Height of the target that the node asks for when these heights are committed; None where it is silent."""
        before = len(self.spy.heard[topics.TELEOP_ACTION])
        targets = np.array([[*HERE[:2], height, HERE[3]] for height in committed])
        self._committed_out.publish(convert.trajectory_message(targets, SPEC.action_names, 5, SPEC.period_ns))
        end = time.monotonic() + 0.3
        while time.monotonic() < end and len(self.spy.heard[topics.TELEOP_ACTION]) == before:
            time.sleep(0.01)
        heard = self.spy.heard[topics.TELEOP_ACTION][before:]
        return round(heard[0][1].points[0].positions[2], 6) if heard else None


def teleop(**parameters: object) -> NodeProcess:
    return NodeProcess("teleop", "robot_stack.ros.teleop_node", {"device": "gamepad", "lock_step": False, **parameters})


@pytest.fixture
def driver(domain: int, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Driver]:
    takeover = request.param
    nodes = [teleop(takeover=takeover, speed=0.5, deadman_s=1.0)]
    recorder = {"robot": "sim_metaworld", "lock_step": False, "folder": str(tmp_path / "episodes"), "task": "push"}
    nodes.append(NodeProcess("recorder", "robot_stack.ros.recorder_node", recorder))
    with Processes(nodes, domain, tmp_path):
        spy = Spy()
        yield Driver(spy, takeover)
        spy.close()


@pytest.mark.parametrize("driver", [False], indirect=True)
def test_a_gamepad_drives_marks_episodes_and_stops(driver: Driver, tmp_path: Path) -> None:
    driver.stick = 1.0
    assert driver.answer(0.2) is None  # nobody holds the deadman
    driver.pressed = (DEADMAN,)
    until(lambda: driver.answer(0.2) == 0.22, "half the largest step upwards")
    assert driver.answer(0.2, 0.24) == 0.26  # from the last target that will be sent in any case
    driver.silent = True
    until(lambda: driver.answer(0.2) is None, "silence after the gamepad fell silent")

    driver.silent, driver.pressed = False, (DEADMAN,)
    driver.buttons = 3  # another layout
    until(lambda: "choose the layout" in (tmp_path / "teleop.log").read_text(), "a complaint")
    assert driver.answer(0.2) is None
    driver.buttons = 21

    until(lambda: driver.answer(0.2) == 0.22, "motion again")
    driver.pressed = (START,)
    episodes = tmp_path / "episodes"
    until(lambda: "recorder/start:" in (tmp_path / "teleop.log").read_text(), "the recorder's start")
    driver.pressed = (SUCCESS,)
    until(lambda: "recorder/success:" in (tmp_path / "teleop.log").read_text(), "the end of the episode")
    (log,) = find_logs(episodes)
    assert EpisodeLog.open(log).label is Label.SUCCESS
    assert not driver.spy.heard[topics.E_STOP]
    driver.pressed = (E_STOP,)
    until(lambda: driver.spy.heard[topics.E_STOP], "the e-stop")
    assert driver.spy.heard[topics.E_STOP][0][1].data


@pytest.mark.parametrize("driver", [True], indirect=True)
def test_a_takeover_begins_where_the_arm_is_on_its_way_to_and_goes_on_from_its_own_targets(driver: Driver) -> None:
    assert driver.answer(0.2, 0.3, 0.4) is None  # the policy is left alone
    driver.stick, driver.pressed = 1.0, (DEADMAN,)
    until(lambda: driver.answer(0.2, 0.3, 0.4) == 0.32, "a target from the one under way, not from the policy's last")
    driver.intervene(True)
    until(lambda: driver.answer(0.2, 0.3, 0.4) == 0.42, "targets that continue the person's own")
    driver.intervene(False)
    until(lambda: driver.answer(0.2, 0.3, 0.4) == 0.32, "the policy's turn")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"device": "mind"}, "unknown teleoperation device 'mind'; valid: behaviour, gamepad, keyboard, lerobot"),
        ({"lock_step": True}, "device gamepad is moved by a person, who needs real time"),
        ({"gamepad": "{layout: ps9}"}, "unknown layout of the gamepad 'ps9'"),
        ({"gamepad": "{layout: ["}, "parameter gamepad: cannot be read as YAML"),
        (
            {"device": "lerobot", "lerobot": "so101_leader"},
            "unknown deadman (parameter deadman; a leader arm has none of its own)",
        ),
        ({"device": "lerobot", "lerobot": "so101_leader", "deadman": "feature:"}, "valid: feature:<name"),
        ({"device": "lerobot", "lerobot": "so102", "deadman": "gamepad"}, "unknown device of LeRobot 'so102'"),
        ({"gamepad": "nowhere.yaml"}, "nowhere.yaml: cannot be read as YAML"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(domain: int, tmp_path: Path, parameters: dict, message: str) -> None:
    with Processes([teleop(**parameters)], domain, tmp_path) as children:
        assert children.wait(60.0) == {"teleop": 2}
    assert message in (tmp_path / "teleop.log").read_text()
    assert "Traceback" not in (tmp_path / "teleop.log").read_text()


def test_marks_without_a_recorder_are_told(domain: int, tmp_path: Path) -> None:
    with Processes([teleop()], domain, tmp_path):
        spy = Spy()
        driver = Driver(spy, takeover=False)
        until(lambda: driver.answer(0.2) is None, "the node's silence")
        time.sleep(0.2)  # a button that is held when a gamepad is heard first marks nothing
        driver.pressed = (START,)
        until(lambda: "start: no recorder is there" in (tmp_path / "teleop.log").read_text(), "the warning")
        spy.close()
