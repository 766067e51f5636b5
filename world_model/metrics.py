"""How close one video is to another: PSNR, and optical flow, which separates models that pixels do not.

Shapes: T = frames, videos [T, H, W, 3] uint8 RGB, flow [H, W, 2] in pixels a frame (x right, y down).
"""

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from robot_stack.core.errors import ShapeError

Image = npt.NDArray[np.uint8]
MOVING = 0.5  # px a frame from which on a pixel of the true video counts as moving
STANDING = 0.1  # px a frame below which the direction of an imagined flow is noise: its cosine counts as 0
MAX_PSNR = 100.0  # of identical images, instead of infinity


@dataclass(frozen=True)
class FlowError:
    """Flow of an imagined video against that of the true one.

    Attributes:
        epe: mean end-point error over all pixels [px a frame].
        epe_moving: over pixels that move in the true video; NaN where none does.
        cosine: mean cosine between both flows over these pixels; NaN where none does.
    """

    epe: float
    epe_moving: float
    cosine: float


def psnr(true: Image, imagined: Image) -> npt.NDArray[np.float64]:
    """Peak signal-to-noise ratio of each image [dB], [...] for images [..., H, W, 3].

    Raises:
        ShapeError: the arrays differ in shape.
    """
    if true.shape != imagined.shape:
        raise ShapeError("imagined images", imagined.shape, str(list(true.shape)))
    squared = (true.astype(np.float64) - imagined.astype(np.float64)) ** 2
    mean = squared.mean(axis=(-3, -2, -1))
    smallest = 255.0**2 / 10.0 ** (MAX_PSNR / 10.0)
    values: npt.NDArray[np.float64] = 10.0 * np.log10(255.0**2 / np.maximum(mean, smallest))
    return values


def optical_flow(first: Image, second: Image) -> npt.NDArray[np.float32]:
    """Farneback flow from one image [H, W, 3] to the next."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    start = np.zeros((*first.shape[:2], 2), dtype=np.float32)
    flow = cv2.calcOpticalFlowFarneback(grey[0], grey[1], start, 0.5, 3, 9, 3, 5, 1.1, 0)
    return np.asarray(flow, dtype=np.float32)


def flow_error(true: Image, imagined: Image) -> FlowError:
    """Errors of the imagined video's flow [T, H, W, 3], T >= 2, pooled over time.

    Raises:
        ShapeError: the videos differ in shape or have fewer than two frames.
    """
    if true.shape != imagined.shape or len(true) < 2:
        raise ShapeError("imagined video", imagined.shape, f"{list(true.shape)} with at least two frames")
    true_flow, imagined_flow = (
        np.stack([optical_flow(a, b) for a, b in itertools.pairwise(video)]) for video in (true, imagined)
    )
    error = np.linalg.norm(imagined_flow - true_flow, axis=-1)
    speed = np.linalg.norm(true_flow, axis=-1)
    moving = speed > MOVING
    if not moving.any():
        return FlowError(float(error.mean()), float("nan"), float("nan"))
    product = (true_flow * imagined_flow).sum(axis=-1)
    imagined_speed = np.linalg.norm(imagined_flow, axis=-1)
    cosine = np.where(imagined_speed > STANDING, product / np.maximum(speed * imagined_speed, 1e-6), 0.0)
    return FlowError(float(error.mean()), float(error[moving].mean()), float(cosine[moving].mean()))
