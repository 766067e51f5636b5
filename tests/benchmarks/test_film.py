"""Numbers in pictures survive what pictures go through, and what is missing is counted."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.film import BITS, dropped, moving_texture, number_of, with_number, write_film
from robot_stack.core.types import ImageArray
from robot_stack.drivers.file_camera import FilmCamera

TEXTURE = moving_texture(640, 480, 3, seed=0)


def through_jpeg(image: ImageArray, quality: int) -> ImageArray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file))


@settings(max_examples=30, deadline=None)
@given(number=st.integers(0, 2**BITS - 1), quality=st.integers(20, 95), again=st.integers(20, 95))
def test_a_number_survives_jpeg_twice(number: int, quality: int, again: int) -> None:
    picture = with_number(TEXTURE[number % 3], number)
    assert number_of(through_jpeg(through_jpeg(picture, quality), again)) == number


def test_what_bears_no_number_is_not_read() -> None:
    assert number_of(TEXTURE[0]) is None
    marked = with_number(TEXTURE[0], 12345)
    marked[:40, 100:140] = 128
    assert number_of(marked) is None


def test_pictures_are_textured_and_all_different() -> None:
    small = moving_texture(160, 120, 20, seed=1)
    assert all(picture.std() > 20 for picture in small)
    assert all((a != b).mean() > 0.5 for a, b in itertools.pairwise(small))
    np.testing.assert_array_equal(small[7], moving_texture(160, 120, 20, seed=1)[7])


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [([3, 4, 5, 6], 0), ([8, 9, 0, 1], 0), ([3, 5, 6], 1), ([3, None, 5], 1), ([9, 2], 2), ([], 0), ([4], 0)],
)
def test_missing_pictures_are_counted_around_the_end_of_the_film(numbers: list[int | None], missing: int) -> None:
    assert dropped(numbers, cycle=10) == missing


def test_a_film_camera_plays_the_numbers_in_order(tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    write_film(film, [with_number(picture, k) for k, picture in enumerate(moving_texture(320, 240, 8, seed=2))], 100.0)
    camera = FilmCamera(film, loop=True)
    camera.start()
    numbers: list[int | None] = []
    while len(numbers) < 20:
        frame = camera.read(1.0)
        if frame is not None:
            numbers.append(number_of(through_jpeg(frame.image, 90)))
    camera.close()
    assert numbers == [k % 8 for k in range(20)]
