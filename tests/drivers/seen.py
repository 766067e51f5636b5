"""What MuJoCo shows in which pixel, as its segmentation says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from robot_stack.drivers.sim_cameras import CAMERAS

SIZE = 128  # px
GRIPPER = ("rail", "rightpad_geom", "leftpad_geom")  # geoms of the embedded robot's hand


@contextmanager
def segmentation(model: Any) -> Iterator[Callable[[Any, str], np.ndarray]]:
    """segment(data, camera's name) -> ids and types of what is seen in each pixel [SIZE, SIZE, 2]."""
    import mujoco

    model.vis.global_.offwidth = model.vis.global_.offheight = SIZE
    model.vis.quality.offsamples = 0
    renderer = mujoco.Renderer(model, SIZE, SIZE)
    renderer.enable_segmentation_rendering()

    def segment(data: Any, name: str) -> np.ndarray:
        placement, camera = CAMERAS[name], mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = placement.lookat
        camera.distance, camera.azimuth, camera.elevation = placement.distance, placement.azimuth, placement.elevation
        renderer.update_scene(data, camera)
        return renderer.render().copy()

    try:
        yield segment
    finally:
        renderer.close()


def pixels_of(seen: np.ndarray, model: Any, kind: str, ids: list[int]) -> np.ndarray:
    """Pixels [N, 2] as u, v that show one of the things."""
    import mujoco

    shown = np.isin(seen[..., 0], ids) & (seen[..., 1] == int(getattr(mujoco.mjtObj, f"mjOBJ_{kind}")))
    return np.argwhere(shown)[:, ::-1]


def geoms_of(model: Any, body: str) -> list[int]:
    """Geoms of a body and of those that hang on it."""
    family = {model.body(body).id}
    for child in range(model.nbody):  # parents come first
        if model.body_parentid[child] in family:
            family.add(child)
    return [geom for geom in range(model.ngeom) if model.geom_bodyid[geom] in family]


def distance(pixels: np.ndarray, point: np.ndarray) -> float:
    """From a point to the nearest of the pixels [px]; to its centre."""
    return float(np.linalg.norm(pixels - point, axis=1).min())


def outside(pixels: np.ndarray, point: np.ndarray) -> float:
    """How far a point lies outside the convex hull of pixels [px]; 0 within."""
    hull = cv2.convexHull(pixels.astype(np.float32))
    return max(0.0, -cv2.pointPolygonTest(hull, (float(point[0]), float(point[1])), True))
