"""Where the cameras of the embedded robot may stand, and what pictures they make.

MuJoCo's free cameras turn around a point: azimuth counts about the base's z axis, at 0 the camera looks along x; elevation is
negative where it looks down. They are ideal pinholes, upright (the picture's right is horizontal).
"""

from dataclasses import dataclass

import numpy as np

from robot_stack.core import se3
from robot_stack.core.camera import CameraModel, Pose


@dataclass(frozen=True)
class FreeCamera:
    """A free camera close to the workspace; the whole travel of the hand stays in view.

    Attributes:
        lookat: point looked at, in the base frame [m].
        distance: from that point [m].
        azimuth, elevation: direction [deg], as in ``mujoco.MjvCamera``.
    """

    lookat: tuple[float, float, float] = (0.0, 0.70, 0.13)
    distance: float = 1.05
    azimuth: float = 205.0
    elevation: float = -32.0

    def pose(self) -> Pose:
        """``T_base_camera`` of its optical frame."""
        turn, tilt = np.radians([self.azimuth, self.elevation])
        forward = np.array([np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)])
        # From x right, y down, z forward on the base's axes: z forward to along x, then down by the tilt, then about z.
        level = se3.rotation_vector(np.array([-0.5, 0.5, -0.5, 0.5]))
        tilted = se3.turned(np.array([0.0, -tilt, 0.0]), level)
        quaternion = se3.quaternion(se3.turned(np.array([0.0, 0.0, turn]), tilted))
        place = np.array(self.lookat) - self.distance * forward
        return Pose((float(place[0]), float(place[1]), float(place[2])), tuple(map(float, quaternion)))  # type: ignore[arg-type]

    def model(self, width: int, height: int, field_of_view_deg: float) -> CameraModel:
        """Its parameters, with pictures of ``width`` x ``height`` [px] that are ``field_of_view_deg`` high."""
        k = np.array([[1.0, 0.0, (width - 1) / 2], [0.0, 1.0, (height - 1) / 2], [0.0, 0.0, 1.0]])
        k[[0, 1], [0, 1]] = focal_px(height, field_of_view_deg)
        return CameraModel(width, height, k, self.pose())


def focal_px(height: int, field_of_view_deg: float) -> float:
    """Focal length of an ideal pinhole [px] from the angle that its pictures are high."""
    return float(height / 2 / np.tan(np.radians(field_of_view_deg) / 2))


# Found by looking at the pictures of many tasks: the hand and the things of nearly all of them stay in view, and none of the
# cameras has the arm or a machine between itself and what happens. The two that are close cut a few wide tasks (doors, sweep).
CAMERAS = {
    "front": FreeCamera(),
    "front_left": FreeCamera(azimuth=335.0),
    "right": FreeCamera((0.0, 0.68, 0.13), 1.15, 178.0, -24.0),
    "left": FreeCamera((0.0, 0.68, 0.13), 1.15, 2.0, -24.0),
    "high": FreeCamera((0.0, 0.67, 0.10), 1.20, 170.0, -58.0),
    "far": FreeCamera((0.0, 0.70, 0.10), 1.40, 160.0, -28.0),
    "close": FreeCamera((0.0, 0.66, 0.13), 0.85, 205.0, -40.0),
    "close_left": FreeCamera((0.0, 0.66, 0.13), 0.85, 335.0, -40.0),
}
