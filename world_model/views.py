"""More views of few clips: the same motion, seen by a camera that is turned, zoomed and exposed a little differently.

Each view pauses at some frames: where nothing is commanded nothing moves, which few clips alone hardly show.

A camera that turns about its own centre and zooms maps one picture to the other by the homography K' R K^-1, whatever is in the
scene (Hartley and Zisserman, Multiple View Geometry, ch. 8.4). So actions, poses and positions stay true, and so does a
calibration, which is turned with the pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from learning.episode import Episode
from learning.seeding import generator
from robot_stack.core import se3
from robot_stack.core.camera import CameraModel, Pose
from robot_stack.core.robot_spec import ActionKind
from robot_stack.core.types import FloatArray

ASSUMED_FOCAL = 1.2  # focal length over width of a camera that nobody calibrated: an opening of 45 degrees


@dataclass(frozen=True)
class ViewSettings:
    """How far views lie apart.

    Attributes:
        pan_deg, roll_deg: largest turn of the optical axis to each side and up or down, and about it.
        zoom: largest factor of the focal length, at least 1. Pixels beyond the picture repeat its border.
        light: largest relative change of brightness, and half of it for each colour.
        pauses: frames that are seen twice, with no motion commanded between.
    """

    pan_deg: float = 4.0
    roll_deg: float = 6.0
    zoom: float = 1.2
    light: float = 0.1
    pauses: int = 3

    def __post_init__(self) -> None:
        if min(self.pan_deg, self.roll_deg, self.light, self.pauses) < 0 or self.light >= 1 or self.zoom < 1:
            raise ValueError("views: angles and pauses must be at least 0, light in [0, 1), zoom at least 1")


SMALL = ViewSettings()


def with_views(
    episodes: Sequence[Episode], kinds: Sequence[ActionKind], count: int, settings: ViewSettings = SMALL
) -> list[Episode]:
    """``episodes``, and after them ``count`` views of each; a view depends on the episode's name and number alone.

    Args:
        kinds: of the numbers of an action.
    """
    views = [
        _paused(_view(episode, number, settings), kinds, number, settings.pauses)
        for number in range(1, count + 1)
        for episode in episodes
    ]
    return [*episodes, *views]


def _view(episode: Episode, number: int, settings: ViewSettings) -> Episode:
    images, cameras = {}, dict[str, CameraModel]()
    for name, video in episode.images.items():
        draw = generator("view", episode.name, name, number)
        pan, tilt = np.radians(settings.pan_deg) * draw.uniform(-1.0, 1.0, 2)
        roll = np.radians(settings.roll_deg) * draw.uniform(-1.0, 1.0)
        zoom = settings.zoom ** draw.uniform(0.0, 1.0)
        gain = 1.0 + settings.light * (draw.uniform(-1.0, 1.0) + 0.5 * draw.uniform(-1.0, 1.0, 3))
        camera = episode.cameras.get(name)
        lens = _assumed(video.shape[2], video.shape[1]) if camera is None else camera.k
        turn = np.array([tilt, pan, roll])  # of the scene before the camera
        zoomed = lens * np.array([[zoom, 1.0, 1.0], [1.0, zoom, 1.0], [1.0, 1.0, 1.0]])
        images[name] = warped(video, zoomed @ se3.matrix(se3.quaternion(turn)) @ np.linalg.inv(lens), gain)
        if camera is not None and not camera.distortion_model:  # a lens that bends lines is no homography; pictures are close
            cameras[name] = replace(camera, k=zoomed, T_base_camera=_turned(camera.T_base_camera, turn))
    return replace(episode, name=f"{episode.name}, view {number}", images=images, cameras=cameras)


def _paused(episode: Episode, kinds: Sequence[ActionKind], number: int, count: int) -> Episode:
    """The episode with ``count`` frames twice; from the first to the second the arm is told to be where it was told to be."""
    if count == 0:
        return episode
    twice = generator("pauses", episode.name, number).integers(0, len(episode), count)
    rows = np.sort(np.concatenate([np.arange(len(episode)), twice]))
    absolute = np.array([kind is ActionKind.GRIPPER for kind in kinds])
    resting = np.append(np.diff(rows) == 0, False)
    deltas = np.where(resting[:, None], np.where(absolute, episode.commanded[rows], 0.0), episode.deltas[rows])
    first = episode.first_success
    return replace(
        episode,
        images={name: video[rows] for name, video in episode.images.items()},
        state=episode.state[rows],
        commanded=episode.commanded[rows],
        deltas=deltas.astype(episode.deltas.dtype),
        positions={thing: track[rows] for thing, track in episode.positions.items()},
        first_success=None if first is None else int(np.searchsorted(rows, first)),
    )


def warped(video: npt.NDArray[np.uint8], homography: FloatArray, gain: FloatArray) -> npt.NDArray[np.uint8]:
    """Frames [T, H, W, 3] with pixel p moved to ``homography`` p, and colours times ``gain`` [3]."""
    size = (video.shape[2], video.shape[1])
    moved = [
        cv2.warpPerspective(frame, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for frame in video
    ]
    return np.clip(np.rint(np.stack(moved) * gain), 0, 255).astype(np.uint8)


def _assumed(width: int, height: int) -> FloatArray:
    focal = ASSUMED_FOCAL * width
    return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])


def _turned(place: Pose, turn: FloatArray) -> Pose:
    """The pose of a camera that has turned by the inverse of the rotation vector ``turn`` [3] about its own centre."""
    x, y, z, w = map(float, se3.quaternion(se3.turned(se3.rotation_vector(np.array(place.quaternion)), -turn)))
    return Pose(place.position, (x, y, z, w))
