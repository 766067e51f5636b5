"""Messages to numpy, by their fields alone, so that any ROS library's message objects will do (here: ``rosbags``).

Malformed messages raise ``BadMessageError``; a reader drops them and goes on.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from robot_stack.core import se3
from robot_stack.core.camera import Pose
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import ActionChunk, CameraInfoValues, FloatArray, ImageArray

SECOND_NS = 1_000_000_000


class BadMessageError(ProphRLError):
    """A message that does not say what its topic promises.

    Args:
        topic: where it came from.
        problem: what is wrong with it and what was expected.
    """

    def __init__(self, topic: str, problem: str) -> None:
        super().__init__(f"message on {topic}: {problem}")


def to_ns(stamp: Any) -> int:
    """Nanoseconds of a Time or Duration message."""
    return int(stamp.sec) * SECOND_NS + int(stamp.nanosec)


def image_array(message: Any, topic: str) -> ImageArray:
    """The RGB image [H, W, 3] of an Image or CompressedImage."""
    if hasattr(message, "format"):
        try:
            with PillowImage.open(io.BytesIO(bytes(message.data))) as picture:
                return np.asarray(picture.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise BadMessageError(topic, f"not a picture in format {message.format!r}: {error}") from error
    if message.encoding not in ("rgb8", "bgr8"):
        raise BadMessageError(topic, f"encoding {message.encoding!r}, expected rgb8 or bgr8")
    pixels = np.frombuffer(message.data, np.uint8)
    if message.step < 3 * message.width or len(pixels) != message.height * message.step:
        raise BadMessageError(topic, f"{len(pixels)} bytes for {message.height} rows of {message.step} bytes")
    rows = pixels.reshape(message.height, message.step)[:, : 3 * message.width]
    image = rows.reshape(message.height, message.width, 3)
    return np.ascontiguousarray(image[..., ::-1] if message.encoding == "bgr8" else image)


def joint_values(message: Any, topic: str) -> Mapping[str, float]:
    """Positions by joint name."""
    if len(message.name) != len(message.position):
        raise BadMessageError(topic, f"{len(message.name)} names but {len(message.position)} positions")
    if not np.isfinite(message.position).all():
        raise BadMessageError(topic, "NaN or Inf")
    return dict(zip(message.name, map(float, message.position), strict=True))


def pose_values(message: Any, topic: str) -> FloatArray:
    """Position [m] and rotation vector [rad], [6]."""
    place, turn = message.pose.position, message.pose.orientation
    values = np.array([place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w])
    if not np.isfinite(values).all() or np.linalg.norm(values[3:]) < 0.5:
        raise BadMessageError(topic, f"not a pose: {values.tolist()}")
    return np.append(values[:3], se3.rotation_vector(values[3:]))


def camera_info_values(message: Any, topic: str) -> CameraInfoValues:
    """What a CameraInfo says of the lens; ``k`` is all zero where it is not calibrated."""
    k, distortion = np.array(message.k, dtype=np.float64), tuple(map(float, message.d))
    if k.shape != (9,) or not np.isfinite(k).all() or not np.isfinite(distortion).all():
        raise BadMessageError(topic, f"expected nine finite numbers in k and finite ones in d, got {k.tolist()}, {distortion}")
    return CameraInfoValues(message.width, message.height, k.reshape(3, 3), message.distortion_model, distortion)


def camera_pose(message: Any, topic: str) -> Pose:
    """Where a camera's optical frame is in the base frame."""
    place, turn = message.pose.position, message.pose.orientation
    try:
        return Pose((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
    except ProphRLError as error:
        raise BadMessageError(topic, str(error)) from error


def trajectory_targets(message: Any, spec: RobotSpec, topic: str) -> FloatArray:
    """The absolute targets [H, A] of a trajectory."""
    if tuple(message.joint_names) != spec.action_names:
        raise BadMessageError(topic, f"actions {list(message.joint_names)}, expected {list(spec.action_names)}")
    if not message.points or any(len(point.positions) != len(spec.actions) for point in message.points):
        raise BadMessageError(topic, f"expected at least one point, each of {len(spec.actions)} positions")
    return np.array([point.positions for point in message.points], dtype=np.float64)


def chunk_of(message: Any, spec: RobotSpec, topic: str) -> ActionChunk:
    """The chunk in a trajectory whose points are due at the ticks after its stamp."""
    return ActionChunk(to_ns(message.header.stamp), spec.period_ns, trajectory_targets(message, spec, topic), topic)
