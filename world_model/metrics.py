"""How close one video is to another: pixels, structure, and optical flow, which separates models that pixels do not.

Shapes: T = frames, videos [T, H, W, 3] uint8 RGB of any size, flow [T - 1, H, W, 2] in pixels a frame (x right, y down).
"""

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from robot_stack.core.errors import ShapeError

Image = npt.NDArray[np.uint8]
Flow = npt.NDArray[np.float32]
MOVING = 0.5  # px a frame from which on a pixel of the true video counts as moving
STANDING = 0.1  # px a frame below which the direction of an imagined flow is noise: its cosine counts as 0
MAX_PSNR = 100.0  # of identical images, instead of infinity
SSIM_WINDOW = 11  # px, the support of Wang et al.'s Gaussian of 1.5 px; smaller pictures cannot be compared


@dataclass(frozen=True)
class FlowError:
    """Flow of an imagined video against that of the true one.

    Attributes:
        epe: mean end-point error over all pixels [px a frame].
        epe_moving: over pixels that move in the true video; NaN where none does.
        cosine: mean cosine between both flows over these pixels, 0 where the imagined one stands still; NaN where none does.
    """

    epe: float
    epe_moving: float
    cosine: float


def psnr(true: Image, imagined: Image) -> npt.NDArray[np.float64]:
    """Peak signal-to-noise ratio of each image [dB], [...] for images [..., H, W, 3].

    Raises:
        ShapeError: the arrays differ in shape.
    """
    _check_alike(true, imagined)
    squared = (true.astype(np.float64) - imagined.astype(np.float64)) ** 2
    mean = squared.mean(axis=(-3, -2, -1))
    smallest = 255.0**2 / 10.0 ** (MAX_PSNR / 10.0)
    values: npt.NDArray[np.float64] = 10.0 * np.log10(255.0**2 / np.maximum(mean, smallest))
    return values


def ssim(true: Image, imagined: Image) -> float:
    """Structural similarity of two images [H, W, 3] (Wang et al. 2004: Gaussian window of 1.5 px), mean over the colours.

    Raises:
        ShapeError: the images differ in shape or are smaller than the window.
    """
    _check_alike(true, imagined)
    return _ssim(true.astype(np.float64), imagined.astype(np.float64))


def tssim(true: Image, imagined: Image) -> float:
    """SSIM of temporal differences, mean over the T - 1 differences of videos [T, H, W, 3], T >= 2.

    The range of a difference is taken as that of a picture, 255: changes of a few grey levels still count.

    Raises:
        ShapeError: the videos differ in shape, are too short, or their pictures are smaller than SSIM's window.
    """
    _check_videos(true, imagined)
    changes = [np.diff(video.astype(np.float64), axis=0) for video in (true, imagined)]
    return float(np.mean([_ssim(a, b) for a, b in zip(*changes, strict=True)]))


def optical_flow(first: Image, second: Image) -> Flow:
    """Farneback flow [H, W, 2] from one image [H, W, 3] to the next; zero where they are the same image."""
    if np.array_equal(first, second):  # OpenCV finds up to 0.2 px at the right and lower border even then
        return np.zeros((*first.shape[:2], 2), dtype=np.float32)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    start = np.zeros((*first.shape[:2], 2), dtype=np.float32)
    flow = cv2.calcOpticalFlowFarneback(grey[0], grey[1], start, 0.5, 3, 9, 3, 5, 1.1, 0)
    return np.asarray(flow, dtype=np.float32)


def video_flow(video: Image) -> Flow:
    """Flow [T - 1, H, W, 2] between the frames of a video [T, H, W, 3].

    Raises:
        ShapeError: fewer than two frames.
    """
    if len(video) < 2:
        raise ShapeError("video", video.shape, "[T, H, W, 3] with at least two frames")
    return np.stack([optical_flow(a, b) for a, b in itertools.pairwise(video)])


def flow_error(true: Image, imagined: Image) -> FlowError:
    """Errors of the imagined video's flow [T, H, W, 3], T >= 2, pooled over time.

    Raises:
        ShapeError: the videos differ in shape or have fewer than two frames.
    """
    _check_videos(true, imagined)
    return error_of_flow(video_flow(true), video_flow(imagined))


def error_of_flow(true: Flow, imagined: Flow) -> FlowError:
    """Errors of a flow [T - 1, H, W, 2] that is known already, pooled over time."""
    error = end_point_error(true, imagined)
    moving = speed_of(true) > MOVING
    if not moving.any():
        return FlowError(float(error.mean()), float("nan"), float("nan"))
    return FlowError(float(error.mean()), float(error[moving].mean()), float(_cosine(true, imagined)[moving].mean()))


def end_point_error(true: Flow, imagined: Flow) -> npt.NDArray[np.float32]:
    """Distance between two flows at each pixel [...], of flows [..., 2] [px a frame]."""
    return np.asarray(np.linalg.norm(imagined - true, axis=-1), dtype=np.float32)


def speed_of(flow: Flow) -> npt.NDArray[np.float32]:
    """Length of a flow at each pixel [...], of flow [..., 2] [px a frame]."""
    return np.asarray(np.linalg.norm(flow, axis=-1), dtype=np.float32)


def _cosine(true: Flow, imagined: Flow) -> npt.NDArray[np.float32]:
    product = (true * imagined).sum(axis=-1)
    speeds = np.maximum(speed_of(true) * speed_of(imagined), 1e-6)
    return np.asarray(np.where(speed_of(imagined) > STANDING, product / speeds, 0.0), dtype=np.float32)


def _ssim(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    if min(first.shape[:2]) < SSIM_WINDOW:
        raise ShapeError("images to compare by SSIM", first.shape, f"at least {SSIM_WINDOW} x {SSIM_WINDOW} px")
    value = structural_similarity(
        first, second, channel_axis=-1, data_range=255.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(value)


def _check_alike(true: Image, imagined: Image) -> None:
    if true.shape != imagined.shape:
        raise ShapeError("imagined images", imagined.shape, str(list(true.shape)))


def _check_videos(true: Image, imagined: Image) -> None:
    if true.shape != imagined.shape or len(true) < 2:
        raise ShapeError("imagined video", imagined.shape, f"{list(true.shape)} with at least two frames")
