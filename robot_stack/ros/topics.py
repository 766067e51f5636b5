"""The wire contract: topics, their message types and their quality of service, in one place."""

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Bool, Float64MultiArray, Header, String
from trajectory_msgs.msg import JointTrajectory

from robot_stack.core.errors import UnknownNameError
from robot_stack.core.robot_spec import CameraSpec, CommandInterface, Compression, RobotSpec

CLOCK = "/clock"
JOINT_STATES = "joint_states"
TARGET_IN_FORCE = (
    "target_in_force"  # what the arm's controller follows now, where its driver tells: motion starts without a bump
)
ACTION_CHUNK = "action_chunk"
COMMITTED_ACTIONS = "committed_actions"
REQUEST = "request"  # frame id of committed actions where a new chunk is wanted
REQUESTED_ACTION = "requested_action"  # what policy or teleop asked for, before the guard
SENT_ACTION = "sent_action"
GUARD = "guard"  # why the guard changes or holds what is asked for, told when that changes
INTERVENTION = "intervention"  # whether a person has taken over from the policy
TELEOP_ACTION = "teleop/action"
JOY = "joy"
HEARTBEAT = "policy/heartbeat"
INFERRING = "inferring"  # frame id of heartbeats while the policy's worker is busy: they come from its node
TASK = "task"
E_STOP = "e_stop"
DIAGNOSTICS = "/diagnostics"
SUCCESS = "evaluation/success"
PRIVILEGED_STATE = "evaluation/privileged_state"

RELIABILITIES = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
COMMANDS = QoSProfile(reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST, depth=100)
LATCHED = QoSProfile(reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL, depth=1)


COMMAND_MESSAGES = {
    CommandInterface.TARGET_POSE: PoseStamped,
    CommandInterface.JOINT_TRAJECTORY: JointTrajectory,
    CommandInterface.GRIPPER_TRAJECTORY: JointTrajectory,
    CommandInterface.GRIPPER_POSITION: Float64MultiArray,
}


def image_raw(camera: str) -> str:
    return f"camera/{camera}/image_raw"


def camera_info(camera: str) -> str:
    return f"camera/{camera}/camera_info"


def camera_pose(camera: str) -> str:
    """Where a camera that does not move is, in the robot's base frame: told once, by a simulator."""
    return f"camera/{camera}/pose"


def aligned_depth(camera: str) -> str:
    return f"camera/{camera}/aligned_depth/image_raw"


def sensor_qos(reliability: str, depth: int) -> QoSProfile:
    """Quality of service of an observation stream.

    Args:
        reliability: "best_effort" (live robots: a late picture is worth nothing) or "reliable" (lock-step: none may be lost).
        depth: messages kept.

    Raises:
        UnknownNameError: no such reliability.
    """
    if reliability not in RELIABILITIES:
        raise UnknownNameError("reliability of sensor streams", reliability, RELIABILITIES)
    return QoSProfile(reliability=RELIABILITIES[reliability], history=HistoryPolicy.KEEP_LAST, depth=depth)


@dataclass(frozen=True)
class TopicEntry:
    """A topic as the recorder sees it.

    Attributes:
        name: relative name.
        message: message class.
        stamped: whether it begins with a header.
        latched: whether its last message holds until the next.
        sensor: whether it is an observation stream.
    """

    name: str
    message: Any
    stamped: bool = True
    latched: bool = False
    sensor: bool = False


def pictures(camera: CameraSpec) -> TopicEntry:
    """Where a camera's pictures come, and as what."""
    if camera.compression is Compression.JPEG:
        return TopicEntry(f"{image_raw(camera.name)}/compressed", CompressedImage, sensor=True)
    return TopicEntry(image_raw(camera.name), Image, sensor=True)


def contract(spec: RobotSpec) -> tuple[TopicEntry, ...]:
    """Every topic of one robot."""
    cameras = [
        entry
        for camera in spec.cameras
        for entry in (
            pictures(camera),
            TopicEntry(camera_info(camera.name), CameraInfo, sensor=True),
            TopicEntry(camera_pose(camera.name), PoseStamped, latched=True),
            *([TopicEntry(aligned_depth(camera.name), Image, sensor=True)] if camera.depth else []),
        )
    ]
    return (
        TopicEntry(CLOCK, Clock, stamped=False),
        *cameras,
        TopicEntry(JOINT_STATES, JointState, sensor=True),
        *(TopicEntry(tool.pose_topic, PoseStamped, sensor=True) for tool in spec.tools),
        TopicEntry(TARGET_IN_FORCE, JointTrajectory, sensor=True),
        *(
            TopicEntry(
                command.topic,
                COMMAND_MESSAGES[command.interface],
                stamped=command.interface is not CommandInterface.GRIPPER_POSITION,
            )
            for command in spec.commands
        ),
        TopicEntry(ACTION_CHUNK, JointTrajectory),
        TopicEntry(COMMITTED_ACTIONS, JointTrajectory),
        TopicEntry(REQUESTED_ACTION, JointTrajectory),
        TopicEntry(SENT_ACTION, JointTrajectory),
        TopicEntry(TELEOP_ACTION, JointTrajectory),
        TopicEntry(INTERVENTION, Bool, stamped=False),
        TopicEntry(GUARD, DiagnosticArray),
        TopicEntry(HEARTBEAT, Header),  # its stamp comes first, too
        TopicEntry(TASK, String, stamped=False, latched=True),
        TopicEntry(E_STOP, Bool, stamped=False),
        TopicEntry(DIAGNOSTICS, DiagnosticArray),
        TopicEntry(SUCCESS, Bool, stamped=False),
        TopicEntry(PRIVILEGED_STATE, Float64MultiArray, stamped=False),
    )


def type_name(message: Any) -> str:
    """Name of a message class in logs, e.g. "sensor_msgs/msg/Image"."""
    package = message.__module__.split(".", maxsplit=1)[0]
    return f"{package}/msg/{message.__name__}"
