"""Actions as pictures, for Prophet's action-frame stream (arXiv 2511.20633): where the commanded tool is in the camera's view.

On black, each arm is a disc at its tool's pixel, the larger the nearer it is, whose colour shows the gripper's opening, and the
three axes of the tool as coloured segments.

Shapes: T = frames, R = arms, A = numbers in an action, poses [..., 6] are position [m] and rotation vector [rad] in the base
frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from learning.episode import Episode
from robot_stack.core import se3
from robot_stack.core.camera import CameraModel
from robot_stack.core.errors import ProphRLError, ShapeError
from robot_stack.core.robot_spec import ActionKind
from robot_stack.core.types import FloatArray, ImageArray
from world_model.action_layout import ARMS, GRIPPER_SLOT, SLOTS_PER_ARM, ActionLayout

TOOL_DOWN = (np.pi, 0.0, 0.0)  # rotation vector of tools that keep their orientation: half a turn about the base's x axis
DISC_M, AXIS_M = 0.03, 0.10  # radius of the ball whose outline the disc is, and length of the axes [m]: a gripper's size
SMALLEST_PX, NEAREST_M = 1.0, 0.02  # a disc is never smaller; a tool nearer than this to the camera is not drawn
PEN_PX = 0.5  # by so much OpenCV draws discs too large (measured)
SHIFT = 8  # fractional bits of OpenCV's coordinates: 1/256 px
AXIS_SHARE = 1 / 64  # thickness of the axes as a share of the picture's size

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ArmColours:
    """RGB of one arm.

    Attributes:
        closed, opened: of the disc; in between, a mixture of both.
        axes: of the tool's x, y and z axis.
    """

    closed: Colour
    opened: Colour
    axes: tuple[Colour, Colour, Colour]


COLOURS = (
    ArmColours((255, 0, 255), (255, 255, 0), ((255, 0, 0), (0, 255, 0), (0, 0, 255))),
    ArmColours((255, 128, 0), (0, 255, 255), ((255, 128, 128), (128, 255, 128), (128, 128, 255))),
)


@dataclass(frozen=True)
class ToolPath:
    """What commanded targets say of the tools.

    Attributes:
        poses: [..., R, 6].
        openings: of the grippers, 0 closed to 1 open, [..., R]; 1 for an arm without one.
    """

    poses: FloatArray
    openings: FloatArray


def tool_path(commanded: FloatArray, kinds: Sequence[ActionKind], fixed_rotation: Sequence[float] = TOOL_DOWN) -> ToolPath:
    """Tools' poses and grippers' openings from absolute targets.

    Args:
        commanded: absolute targets [..., A], not deltas.
        kinds: kind of each action dimension.
        fixed_rotation: rotation vector [3] of tools whose orientation is not commanded.

    Raises:
        ProphRLError: the robot is commanded by joints, or not by three positions an arm.
        ShapeError: another number of action dimensions.
    """
    if ActionKind.JOINT in kinds:
        raise ProphRLError(
            "action frames show where the tool is commanded to be, but this robot's actions are joint positions. Record with "
            "a robot file whose actions are the tool's pose and which names the joints that move it (as "
            "config/robot/sim_arm_pose.yaml does), or switch action frames off"
        )
    layout = ActionLayout.of_kinds(kinds)
    slots = layout.to_slots(commanded)
    slots = slots.reshape(*slots.shape[:-1], ARMS, SLOTS_PER_ARM)
    used = layout.mask.reshape(ARMS, SLOTS_PER_ARM) > 0
    arms = int(used.any(axis=1).sum())
    if arms == 0 or not used[:arms, :3].all():
        raise ProphRLError(
            f"action frames need three position numbers for each arm, got actions {[str(kind) for kind in kinds]}"
        )
    turns = used[:arms, 3:GRIPPER_SLOT].all(axis=1, keepdims=True)
    rotations = np.where(turns, slots[..., :arms, 3:GRIPPER_SLOT], np.asarray(fixed_rotation, dtype=np.float64))
    openings = np.where(used[:arms, GRIPPER_SLOT], slots[..., :arms, GRIPPER_SLOT], 1.0)
    return ToolPath(np.concatenate([slots[..., :arms, :3], rotations], axis=-1), openings)


def camera_of(episode: Episode, camera: str) -> CameraModel:
    """The parameters of an episode's camera, as action frames need them.

    Raises:
        ProphRLError: the episode does not have them.
    """
    if camera not in episode.cameras:
        known = ", ".join(sorted(episode.cameras)) or "none"
        raise ProphRLError(
            f"episode {episode.name}: the parameters of camera {camera!r} are not known (known: {known}), but action frames "
            "need them. Calibrate it and name its intrinsics and extrinsics in the cell file before recording, or switch "
            "action frames off"
        )
    return episode.cameras[camera]


def draw_action_frames(poses: FloatArray, openings: FloatArray, camera: CameraModel, size: int) -> ImageArray:
    """Frames [T, size, size, 3], RGB, on which the tools are drawn.

    Args:
        poses: commanded poses of the tools [T, R, 6], one or two arms.
        openings: of their grippers [T, R]; clipped to 0..1.
        camera: whose view it is; its pictures are stretched to ``size`` x ``size`` as the frames of the episode are.
        size: [px].

    Raises:
        ShapeError: arrays of other shapes.
        ProphRLError: a number is not finite.
    """
    poses, openings = np.asarray(poses, dtype=np.float64), np.asarray(openings, dtype=np.float64)
    if poses.ndim != 3 or poses.shape[2] != 6 or not 1 <= poses.shape[1] <= len(COLOURS):
        raise ShapeError("tool poses to draw", poses.shape, f"[T, R, 6] with R from 1 to {len(COLOURS)} arms")
    if openings.shape != poses.shape[:2]:
        raise ShapeError("gripper openings to draw", openings.shape, f"{list(poses.shape[:2])}")
    if not (np.isfinite(poses).all() and np.isfinite(openings).all()):
        raise ProphRLError("tool poses and openings to draw hold NaN or infinite numbers")
    camera = camera.scaled(size, size)
    axes = np.swapaxes(se3.matrix(se3.quaternion(poses[..., 3:])), -1, -2)  # [T, R, axis, 3]
    ends = poses[..., None, :3] + AXIS_M * axes
    points = np.concatenate([poses[..., None, :3], ends], axis=-2)  # [T, R, 4, 3]: tool, then ends of x, y, z
    pixels, depths = camera.project(points)
    focal_px = float(np.sqrt(camera.k[0, 0] * camera.k[1, 1]))
    frames = np.zeros((len(poses), size, size, 3), dtype=np.uint8)
    for frame, places, depth, opening in zip(frames, pixels, depths, np.clip(openings, 0.0, 1.0), strict=True):
        for arm in np.argsort(-depth[:, 0]):  # the farther arm first
            if depth[arm, 0] >= NEAREST_M:
                _draw_arm(frame, places[arm], depth[arm], float(opening[arm]), COLOURS[arm], focal_px)
    return frames


def _draw_arm(
    frame: ImageArray, places: FloatArray, depths: FloatArray, opening: float, colours: ArmColours, focal_px: float
) -> None:
    size = len(frame)
    thickness = max(1, round(size * AXIS_SHARE))
    for axis in np.argsort(-depths[1:]):
        if depths[1 + axis] >= NEAREST_M:
            begin, end = _fixed(places[0]), _fixed(places[1 + axis])
            cv2.line(frame, begin, end, colours.axes[axis], thickness, cv2.LINE_AA, SHIFT)
    radius = np.clip(focal_px * DISC_M / depths[0], SMALLEST_PX, size)
    mixture = (1.0 - opening) * np.array(colours.closed) + opening * np.array(colours.opened)
    disc = tuple(map(int, np.rint(mixture)))
    cv2.circle(frame, _fixed(places[0]), round((radius - PEN_PX) * (1 << SHIFT)), disc, cv2.FILLED, cv2.LINE_AA, SHIFT)


def _fixed(pixel: FloatArray) -> Any:
    """A pixel as OpenCV's whole numbers; what is far outside stays outside."""
    limit = (1 << 15) - 1
    return tuple(map(int, np.rint(np.clip(pixel, -limit, limit) * (1 << SHIFT))))
