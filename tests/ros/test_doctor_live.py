"""What the doctor hears of a running robot: real topics of real nodes, each with one thing wrong."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs the ros extra")

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.doctor import live
from robot_stack.doctor.finding import Finding, Level
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.graph_check import look
from tests.ros.conftest import Spy

pytestmark = [pytest.mark.ros, pytest.mark.slow]
PICTURES = "camera/front/image_raw/compressed"
KNUCKLE = "robotiq_85_left_knuckle_joint"


def spec() -> RobotSpec:
    raw = yaml.safe_load(robot_file("ur5e").read_text())
    raw["cameras"] = [raw["cameras"][0] | {"width": 32, "height": 24, "rate_hz": 10.0, "max_age_ms": 400}]
    return RobotSpec.from_mapping(raw)


SPEC = spec()


class Driver:
    """A node that speaks as an arm and its camera do, 50 times a second."""

    def __init__(self, spy: Spy, pictures: Any = CompressedImage, joints: str = "reliable") -> None:
        self.spy, self.shift_ns = spy, 0
        self.names = [*SPEC.joint_names, KNUCKLE]
        self.outs: dict[str, Any] = {}
        for topic, message, reliability in (
            (PICTURES, pictures, "reliable"),
            (topics.JOINT_STATES, JointState, joints),
            ("ee_pose", PoseStamped, "reliable"),
        ):
            self.outs[topic] = spy.node.create_publisher(message, topic, topics.sensor_qos(reliability, 5))
        for command, message in zip(SPEC.commands, (JointTrajectory, Float64MultiArray), strict=True):
            spy.node.create_subscription(message, command.topic, lambda _: None, topics.COMMANDS)
        spy.node.create_timer(0.02, self._say)

    def _say(self) -> None:
        stamp_ns = self.spy.node.get_clock().now().nanoseconds + self.shift_ns
        picture = convert.picture_message(np.zeros((24, 32, 3), np.uint8), SPEC.cameras[0], stamp_ns)
        zeros = np.zeros(len(self.names))
        messages = [picture, convert.joint_message(self.names, zeros, zeros, stamp_ns)]
        messages.append(convert.pose_message(np.zeros(3), np.zeros(3), stamp_ns, "base"))
        for message in messages:
            for out in list(self.outs.values()):
                if out.msg_type is type(message):
                    out.publish(message)


@pytest.fixture
def driver(domain: int) -> Iterator[Driver]:
    spy = Spy("driver")
    yield Driver(spy)
    spy.close()


def examine(domain: int) -> list[Finding]:
    streams, commands = look(SPEC, domain, 1.0)
    return [*live.streams(streams, SPEC), *live.commands(commands)]


def failures(domain: int) -> dict[str, str]:
    """Check -> message of everything that fails."""
    return {finding.check: finding.message for finding in examine(domain) if finding.level is Level.FAIL}


def test_a_robot_without_faults(driver: Driver, domain: int) -> None:
    found = examine(domain)
    assert not [finding for finding in found if finding.level is Level.FAIL]
    said = {finding.check: finding.message for finding in found}
    assert said[f"topic {SPEC.commands[0].topic}"] == "heard by driver, commanded by nobody"
    assert "from driver" in said[f"topic {PICTURES}"]


def test_nobody_is_there(domain: int) -> None:
    recorder = Node("recorder")  # it hears everything, which moves nothing
    recorder.create_subscription(JointTrajectory, SPEC.commands[0].topic, lambda _: None, topics.COMMANDS)
    found = failures(domain)
    recorder.destroy_node()
    assert found[f"topic {PICTURES}"] == found["topic joint_states"] == found["topic ee_pose"] == "nobody publishes it"
    assert found[f"topic {SPEC.commands[0].topic}"] == "nobody listens"


def test_two_of_one_kind(driver: Driver, domain: int) -> None:
    other = Node("other_executor")
    mine = Node("executor")
    kept = [node.create_publisher(JointTrajectory, SPEC.commands[0].topic, topics.COMMANDS) for node in (other, mine)]
    kept.append(other.create_publisher(CompressedImage, PICTURES, topics.COMMANDS))
    found = failures(domain)
    assert found[f"topic {SPEC.commands[0].topic}"] == "is commanded by executor, other_executor"
    assert found[f"topic {PICTURES}"] == "is published by driver, other_executor"
    other.destroy_node()
    mine.destroy_node()


@pytest.mark.parametrize(("shift_ns", "words"), [(3_000_000_000, "in the future"), (-3_000_000_000, "ms old on receipt")])
def test_a_driver_with_another_clock(driver: Driver, domain: int, shift_ns: int, words: str) -> None:
    driver.shift_ns = shift_ns
    found = failures(domain)
    assert set(found) == {f"topic {PICTURES}", "topic joint_states", "topic ee_pose"}
    assert all(words in message for message in found.values())


def test_a_driver_with_other_names(driver: Driver, domain: int) -> None:
    driver.names = [f"left_{name}" for name in driver.names]
    found = failures(domain)
    assert set(found) == {"topic joint_states"}
    assert found["topic joint_states"].startswith("lacks shoulder_pan_joint") and "left_shoulder_pan_joint" in str(found)


def test_a_gripper_that_does_not_speak(driver: Driver, domain: int) -> None:
    driver.names = list(SPEC.joint_names)
    assert failures(domain)["topic joint_states"].startswith(f"lacks {KNUCKLE}; it has elbow_joint")


def test_another_type_and_another_quality(domain: int) -> None:
    spy = Spy("driver")
    Driver(spy, pictures=Image, joints="best_effort")
    found = {finding.check: finding for finding in examine(domain) if finding.level is not Level.OK}
    pictures, joints = found[f"topic {PICTURES}"], found["topic joint_states"]
    assert (pictures.level, joints.level) == (Level.FAIL, Level.WARN)
    assert "sensor_msgs/msg/Image" in pictures.message and "compression" in pictures.remedy
    assert "driver offers best effort only" in joints.message
    spy.close()
