"""Films that tests write: each picture is one colour, so that lossy compression leaves it recognisable."""

from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT, RATE_HZ = 64, 48, 30.0
NEAR = 12  # levels by which JPEG and MPEG may change a colour


def colour(number: int) -> tuple[int, int, int]:
    """RGB of picture ``number``, far apart for successive ones and different in every channel."""
    return 40 + 30 * (number % 7), 240 - 20 * (number % 11), 30 + 60 * (number % 3)


def write_film(path: Path, count: int, width: int = WIDTH, height: int = HEIGHT, fourcc: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), RATE_HZ, (width, height))
    assert writer.isOpened()
    for number in range(count):
        writer.write(np.full((height, width, 3), colour(number)[::-1], np.uint8))
    writer.release()
    return path


def shows(image: np.ndarray, number: int) -> bool:
    """Whether an RGB image is picture ``number``."""
    return bool(np.abs(image.astype(int) - colour(number)).max() <= NEAR)
