"""The recorder's log tells what its cameras and the cell's files say of lenses and places."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs the ros extra")

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, JointState
from std_srvs.srv import Trigger

from robot_stack.bringup import NodeProcess
from robot_stack.core.camera import Pose
from robot_stack.core.types import CameraInfoValues
from robot_stack.episodes.log_reader import EpisodeLog
from robot_stack.ros import convert, topics
from robot_stack.ros.processes import Processes
from tests.core.test_camera_facts import EXTRINSICS, INTRINSICS
from tests.ros.conftest import Spy, until

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
K = np.array([[150.0, 0.0, 79.5], [0.0, 151.0, 59.5], [0.0, 0.0, 1.0]])
TOLD = Pose((0.5, 0.25, 0.75), (0.5, 0.5, -0.5, -0.5))


@pytest.fixture
def spy(domain: int) -> Iterator[Spy]:
    one = Spy()
    yield one
    one.close()


def cell_file(folder: Path) -> str:
    """A cell with both files for both cameras; of the wrist's nothing else will be known."""
    cameras: list[dict[str, Any]] = []
    for name in ("front", "wrist"):
        (folder / f"{name}_place.yaml").write_text(yaml.safe_dump(EXTRINSICS | {"child_frame": f"{name}_optical"}))
        (folder / f"{name}_lens.yaml").write_text(yaml.safe_dump(INTRINSICS))
        files = {"intrinsics": f"{name}_lens.yaml", "extrinsics": f"{name}_place.yaml"}
        cameras.append({"name": name, "driver": "external", "latency_ms": 0.0} | files)
    path = folder / "cell.yaml"
    arm = {"driver": "external", "latency_ms": 0.0}
    path.write_text(yaml.safe_dump({"robot": "sim_arm", "arm": arm, "cameras": cameras}))
    return str(path)


def record(spy: Spy, folder: Path, domain: int, cell: str) -> EpisodeLog:
    """An episode during which the front camera tells its lens and its place, and the wrist's that it is not calibrated."""
    parameters = {"robot": "sim_arm", "folder": str(folder / "episodes"), "name": "one", "lock_step": False, "cell": cell}
    node = NodeProcess("recorder", "robot_stack.ros.recorder_node", parameters)
    with Processes([node], domain, folder / "logs"):
        # Latched, and said before the recorder listens.
        place = spy.node.create_publisher(PoseStamped, topics.camera_pose("front"), topics.LATCHED)
        place.publish(convert.camera_pose_message(TOLD, 1, "base"))
        infos = spy.publishers({topics.camera_info(name): CameraInfo for name in ("front", "wrist")})
        joints = spy.publisher(topics.JOINT_STATES, JointState)
        until(lambda: place.get_subscription_count() > 0, "the recorder listening to the place")
        assert spy.call("recorder/start", Trigger).success
        joints.publish(convert.joint_message(["a"], np.zeros(1), np.zeros(1), 1_000))
        for name, lens in (("front", CameraInfoValues(160, 120, K)), ("wrist", CameraInfoValues.uncalibrated(160, 120, "1"))):
            infos[topics.camera_info(name)].publish(convert.calibrated_info_message(lens, 2_000, f"{name}_optical"))
        answer = spy.call("recorder/success", Trigger)
        assert answer.success, answer.message
    return EpisodeLog.open(Path(answer.message))


def test_what_cameras_say_goes_before_what_files_say(spy: Spy, domain: int, tmp_path: Path) -> None:
    facts = record(spy, tmp_path, domain, cell_file(tmp_path)).camera_facts()
    front, wrist = facts["front"], facts["wrist"]
    assert front.T_base_camera == TOLD
    assert front.lens is not None and wrist.lens is not None
    assert front.lens.k.tolist() == K.tolist()
    assert wrist.lens.k.ravel().tolist() == INTRINSICS["camera_matrix"]["data"]
    assert wrist.T_base_camera == Pose((1.0, 0.5, 0.25), (0.5, 0.5, -0.5, -0.5))


def test_without_a_cell_nothing_is_invented(spy: Spy, domain: int, tmp_path: Path) -> None:
    facts = record(spy, tmp_path, domain, "").camera_facts()
    assert list(facts) == ["front"]
    assert facts["front"].T_base_camera == TOLD


def test_a_bad_calibration_file_is_refused_before_anything_is_recorded(spy: Spy, domain: int, tmp_path: Path) -> None:
    cell = cell_file(tmp_path)
    (tmp_path / "wrist_place.yaml").write_text(yaml.safe_dump(EXTRINSICS))
    parameters = {"robot": "sim_arm", "folder": str(tmp_path / "episodes"), "cell": cell}
    node = NodeProcess("recorder", "robot_stack.ros.recorder_node", parameters)
    with Processes([node], domain, tmp_path / "logs") as children:
        assert children.wait(60.0) == {"recorder": 2}
    said = (tmp_path / "logs" / "recorder.log").read_text()
    assert "wrist_place.yaml: child_frame is 'front_optical', expected 'wrist_optical'" in said
    assert "Traceback" not in said
