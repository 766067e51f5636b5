"""Numpy to messages; the way back is ``episodes.messages``, so that live and recorded messages are read by the same code.

Malformed messages raise ``BadMessageError``; nodes drop them (see ``node.Complaints``).

A robot without rotation actions keeps its tool pointing down: its poses carry that one orientation.
"""

import io
import struct
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseStamped
from PIL import Image as PillowImage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, Header, MultiArrayDimension
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robot_stack.core import se3
from robot_stack.core.camera import Pose
from robot_stack.core.camera_facts import optical_frame
from robot_stack.core.robot_spec import ActionKind, CameraSpec, Compression, RobotSpec
from robot_stack.core.trajectory_stream import TimedPoints
from robot_stack.core.types import ActionChunk, CameraInfoValues, DepthArray, FloatArray, ImageArray
from robot_stack.drivers.trajectory_controller import JointTrajectoryGoal
from robot_stack.episodes.messages import (
    SECOND_NS,
    BadMessageError,
    chunk_of,
    image_array,
    joint_values,
    pose_values,
    to_ns,
    trajectory_targets,
)

__all__ = [
    "SECOND_NS",
    "BadMessageError",
    "image_array",
    "joint_values",
    "optical_frame",
    "pose_values",
    "to_ns",
    "trajectory_targets",
]

DUE_TOLERANCE_NS = 1_000
JPEG_QUALITY = 90
JPEG_END, ALIGNMENT = b"\xff\xd9", 8  # end-of-image marker; by at most so much a serialised message is padded
TOOL_DOWN = (1.0, 0.0, 0.0, 0.0)  # quaternion x, y, z, w: half a turn about the base's x axis


def to_stamp(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // SECOND_NS, nanosec=stamp_ns % SECOND_NS)


def header(stamp_ns: int, frame: str = "") -> Header:
    return Header(stamp=to_stamp(stamp_ns), frame_id=frame)


def stamp_of_cdr(cdr: bytes) -> int:
    """Stamp [ns] of a serialised message that begins with a header (or with a stamp), without reading the rest."""
    order = "<" if cdr[1] & 1 else ">"  # representation identifier of the encapsulation header
    sec, nanosec = struct.unpack_from(f"{order}iI", cdr, 4)
    return int(sec) * SECOND_NS + int(nanosec)


def is_whole_picture(cdr: bytes, camera: CameraSpec) -> bool:
    """Whether a serialised picture can be one of this camera's, without unpacking it: that it is not cut."""
    if camera.compression is Compression.NONE:
        return len(cdr) > 3 * camera.width * camera.height
    return JPEG_END in cdr[-2 - ALIGNMENT :]


def image_message(image: ImageArray, stamp_ns: int, frame: str) -> Image:
    """An RGB image [H, W, 3] as a message; ``bytes``, because assigning an array copies it number by number."""
    height, width, _ = image.shape
    message = Image(header=header(stamp_ns, frame), height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = image.tobytes()
    return message


def picture_message(
    image: ImageArray, camera: CameraSpec, stamp_ns: int, quality: int = JPEG_QUALITY
) -> Image | CompressedImage:
    """An RGB image [H, W, 3] as the message that ``topics.pictures`` names; ``quality``: of JPEG, 1 to 95."""
    if camera.compression is Compression.NONE:
        return image_message(image, stamp_ns, optical_frame(camera.name))
    file = io.BytesIO()
    PillowImage.fromarray(image).save(file, format="JPEG", quality=quality)
    # The format's text is the one of image_transport's compressed plugin, by which stock tools know it.
    message = CompressedImage(header=header(stamp_ns, optical_frame(camera.name)), format="rgb8; jpeg compressed bgr8")
    message.data = file.getvalue()
    return message


def depth_message(depth: DepthArray, stamp_ns: int, frame: str) -> Image:
    """Depth [H, W] in mm as a message (REP 118)."""
    height, width = depth.shape
    message = Image(header=header(stamp_ns, frame), height=height, width=width, encoding="16UC1", step=2 * width)
    message.data = depth.astype("<u2", copy=False).tobytes()
    return message


def calibrated_info_message(info: CameraInfoValues, stamp_ns: int, frame: str) -> CameraInfo:
    """What a camera knows about its lens; pictures are not rectified."""
    projection = np.zeros((3, 4))
    projection[:, :3] = info.k
    return CameraInfo(
        header=header(stamp_ns, frame),
        width=info.width,
        height=info.height,
        distortion_model=info.distortion_model,
        d=list(info.distortion),
        k=info.k.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=projection.ravel().tolist(),
    )


def camera_info_message(width: int, height: int, focal_px: float, stamp_ns: int, frame: str) -> CameraInfo:
    """An ideal pinhole camera with its principal point in the middle."""
    k = np.array([[focal_px, 0.0, (width - 1) / 2], [0.0, focal_px, (height - 1) / 2], [0.0, 0.0, 1.0]])
    return calibrated_info_message(CameraInfoValues(width, height, k), stamp_ns, frame)


def joint_message(names: Sequence[str], positions: FloatArray, velocities: FloatArray, stamp_ns: int) -> JointState:
    return JointState(header=header(stamp_ns), name=list(names), position=positions.tolist(), velocity=velocities.tolist())


def pose_message(position: FloatArray, rotation_vector: FloatArray | None, stamp_ns: int, frame: str) -> PoseStamped:
    message = PoseStamped(header=header(stamp_ns, frame))
    place, turn = message.pose.position, message.pose.orientation
    place.x, place.y, place.z = map(float, position)
    quaternion = TOOL_DOWN if rotation_vector is None else se3.quaternion(rotation_vector)
    turn.x, turn.y, turn.z, turn.w = map(float, quaternion)
    return message


def camera_pose_message(T_base_camera: Pose, stamp_ns: int, base_frame: str) -> PoseStamped:
    """Where a camera's optical frame is."""
    message = PoseStamped(header=header(stamp_ns, base_frame))
    place, turn = message.pose.position, message.pose.orientation
    place.x, place.y, place.z = T_base_camera.position
    turn.x, turn.y, turn.z, turn.w = T_base_camera.quaternion
    return message


def command_target(pose: PoseStamped, gripper: JointTrajectory, spec: RobotSpec) -> FloatArray:
    """The target [A] that a pose and a gripper's trajectory command together."""
    kinds = np.array(spec.action_kinds)
    values = pose_values(pose, "target_pose")
    target = np.zeros(len(spec.actions))
    target[kinds == ActionKind.POSITION] = values[:3]
    if (kinds == ActionKind.ROTATION).any():
        target[kinds == ActionKind.ROTATION] = values[3:]
    target[kinds == ActionKind.GRIPPER] = gripper.points[0].positions
    return target


def trajectory_goal(message: JointTrajectory) -> JointTrajectoryGoal:
    """A trajectory as a controller gets it.

    Raises:
        BadMessageError: a number is not finite.
    """
    positions = [list(point.positions) for point in message.points]
    velocities = [list(point.velocities) for point in message.points]
    if not all(np.isfinite(row).all() for row in (*positions, *velocities)):
        raise BadMessageError("joint_trajectory", "NaN or Inf")
    times = [to_ns(point.time_from_start) for point in message.points]
    return JointTrajectoryGoal(to_ns(message.header.stamp), message.joint_names, times, positions, velocities)


def timed_message(points: TimedPoints, names: Sequence[str]) -> JointTrajectory:
    """A trajectory with positions and velocities; its stamp is that of the first point, which may lie in the past."""
    begin_ns = points.times_ns[0]
    message = JointTrajectory(header=header(begin_ns), joint_names=list(names))
    for time_ns, position, velocity in zip(points.times_ns, points.positions, points.velocities, strict=True):
        after = Duration(sec=(time_ns - begin_ns) // SECOND_NS, nanosec=(time_ns - begin_ns) % SECOND_NS)
        point = JointTrajectoryPoint(positions=position.tolist(), velocities=velocity.tolist(), time_from_start=after)
        message.points.append(point)
    return message


def trajectory_message(
    targets: FloatArray, names: Sequence[str], stamp_ns: int, period_ns: int, first_ns: int = 0
) -> JointTrajectory:
    """Absolute targets [H, A], the first due ``first_ns`` after the stamp and then one every period."""
    message = JointTrajectory(header=header(stamp_ns), joint_names=list(names))
    for i, target in enumerate(targets):
        due = first_ns + i * period_ns
        after = Duration(sec=due // SECOND_NS, nanosec=due % SECOND_NS)
        message.points.append(JointTrajectoryPoint(positions=target.tolist(), time_from_start=after))
    return message


def chunk_message(chunk: ActionChunk, spec: RobotSpec) -> JointTrajectory:
    return trajectory_message(chunk.targets, spec.action_names, chunk.stamp_ns, chunk.period_ns, first_ns=chunk.period_ns)


def answered_chunk(message: JointTrajectory, spec: RobotSpec, topic: str) -> ActionChunk:
    """The chunk in a message, whose points have to be due at the ticks after its stamp."""
    chunk = chunk_of(message, spec, topic)
    due = [to_ns(point.time_from_start) for point in message.points]
    wanted = [(i + 1) * spec.period_ns for i in range(len(due))]
    if any(abs(a - b) > DUE_TOLERANCE_NS for a, b in zip(due, wanted, strict=True)):
        raise BadMessageError(topic, f"points due after {due} ns, expected one every {spec.period_ns} ns")
    return chunk


def stamped_numbers(values: FloatArray, stamp_ns: int) -> Float64MultiArray:
    """Numbers whose stamp stands in the label of their dimension, as the message type has no header."""
    message = Float64MultiArray(data=values.tolist())
    message.layout.dim = [MultiArrayDimension(label=f"stamp_ns {stamp_ns}", size=len(values), stride=len(values))]
    return message


def stamp_of_numbers(message: Float64MultiArray, topic: str) -> int:
    """The stamp [ns] that ``stamped_numbers`` wrote."""
    label = message.layout.dim[0].label if message.layout.dim else ""
    word, _, stamp = label.partition(" ")
    if word != "stamp_ns" or not stamp.isdigit():
        raise BadMessageError(topic, f"the label of its dimension is {label!r}, expected 'stamp_ns <number>'")
    return int(stamp)
