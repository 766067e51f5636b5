"""Films for camera nodes: texture that moves, with the number of each picture in blocks that survive JPEG.

Shapes: pictures [H, W, 3] uint8. A number stands in the top row of blocks, its complement in the row below, so that a picture
that is damaged there is not read wrongly.
"""

import itertools
from pathlib import Path

import cv2
import numpy as np

from robot_stack.core.errors import BadFileError
from robot_stack.core.seeding import generator
from robot_stack.core.types import FloatArray, ImageArray

BITS = 16
CONTRAST = 60  # of a block's mean from grey, at least


def with_number(image: ImageArray, number: int) -> ImageArray:
    """A copy of a picture that bears ``number`` (modulo 2 ** BITS)."""
    marked, size = image.copy(), _block(image)
    for bit in range(BITS):
        value = 255 * (number >> bit & 1)
        marked[:size, bit * size : (bit + 1) * size] = value
        marked[size : 2 * size, bit * size : (bit + 1) * size] = 255 - value
    return marked


def number_of(image: ImageArray) -> int | None:
    """The number that a picture bears; None where it cannot be read for certain."""
    size = _block(image)
    rows = image[: 2 * size, : BITS * size].reshape(2, size, BITS, size, 3)
    means = rows[:, size // 4 : -(size // 4) or None, :, size // 4 : -(size // 4) or None].mean(axis=(1, 3, 4)) - 127.5
    bits = means > 0
    if (np.abs(means) < CONTRAST).any() or (bits[0] == bits[1]).any():
        return None
    return sum(1 << bit for bit in range(BITS) if bits[0, bit])


def dropped(numbers: list[int | None], cycle: int) -> int:
    """How many pictures of a film of ``cycle`` are missing between those that came; one that cannot be read is missing."""
    known = [number for number in numbers if number is not None]
    return sum((after - before - 1) % cycle for before, after in itertools.pairwise(known))


def moving_texture(width: int, height: int, count: int, seed: int) -> list[ImageArray]:
    """Pictures of a textured scene over which the camera moves, with discs before it; the last goes over into the first."""
    rng = generator("film", seed)
    scene: FloatArray = np.zeros((height * 2, width * 2, 3))
    for scale, weight in ((4, 30.0), (16, 50.0), (64, 80.0)):
        coarse = rng.normal(0.0, weight, (height * 2 // scale + 2, width * 2 // scale + 2, 3))
        scene = scene + cv2.resize(coarse, (width * 2, height * 2), interpolation=cv2.INTER_CUBIC)
    pixels: ImageArray = np.clip(scene + 128, 0, 255).astype(np.uint8)
    colours = rng.integers(0, 256, (4, 3)).tolist()
    pictures = []
    for k in range(count):
        turn = 2 * np.pi * k / count
        left, top = int(width / 2 * (1 + 0.9 * np.sin(3 * turn))), int(height / 2 * (1 + 0.9 * np.cos(2 * turn)))
        picture = pixels[top : top + height, left : left + width].copy()
        for number, colour in enumerate(colours):
            angle = (5 + number) * turn + number
            place = int(width * (0.5 + 0.35 * np.sin(angle))), int(height * (0.6 + 0.25 * np.cos(angle)))
            cv2.circle(picture, place, max(4, height // 12), colour, -1)
        pictures.append(picture)
    return pictures


def write_film(path: Path, pictures: list[ImageArray], rate_hz: float) -> None:
    """A film in which each picture is coded by itself (MJPEG in AVI); numbered from 0. One that is there is kept.

    Raises:
        BadFileError: it cannot be written.
    """
    if path.is_file():
        return
    height, width = pictures[0].shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    writer = cv2.VideoWriter(str(unfinished.with_suffix(".avi")), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, (width, height))
    if not writer.isOpened():
        raise BadFileError(path, "OpenCV cannot write a film there")
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    unfinished.rename(path)


def _block(image: ImageArray) -> int:
    size: int = image.shape[1] // BITS
    return min(size, 32)
