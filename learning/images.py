"""Resizing of pictures: one function for training, the torch-free runtime and parity checks. Numpy and OpenCV only."""

import cv2
import numpy as np

from robot_stack.core.errors import ShapeError
from robot_stack.core.types import ImageArray


def resize_square(images: ImageArray, size: int) -> ImageArray:
    """Pictures of ``size`` x ``size`` pixels.

    Args:
        images: [..., height, width, 3] uint8 RGB.
        size: side of the result [px]; resized by area, without keeping the aspect.

    Returns:
        [..., size, size, 3] uint8; ``images`` itself where it has that size already.

    Raises:
        ShapeError: not such pictures.
    """
    if images.ndim < 3 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ShapeError(f"images of type {images.dtype}", images.shape, "[..., height, width, 3] uint8")
    if images.shape[-3:-1] == (size, size):
        return images
    flat = images.reshape(-1, *images.shape[-3:])
    resized = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in flat])
    return resized.reshape(*images.shape[:-3], size, size, 3)
