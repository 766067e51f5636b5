"""Known answers: noise of a known size, images shifted by known distances."""

import numpy as np
import pytest

from robot_stack.core.errors import ShapeError
from world_model.measure import compare_videos
from world_model.metrics import MAX_PSNR, flow_error, optical_flow, psnr


def texture(seed: int = 0) -> np.ndarray:
    """A smooth random picture, larger than what is cut from it."""
    import cv2

    random = np.random.Generator(np.random.Philox(seed))
    coarse = random.uniform(0, 255, size=(24, 24, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def shifted(dx: int, dy: int) -> np.ndarray:
    """64 px of the texture, its content moved by (dx, dy)."""
    return texture()[16 - dy : 80 - dy, 16 - dx : 80 - dx]


def test_psnr_of_a_constant_error():
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    assert psnr(image, image + np.uint8(10)) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(image, image) == MAX_PSNR


def test_psnr_refuses_other_shapes():
    with pytest.raises(ShapeError):
        psnr(np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8))


@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (0, -3), (1, 2)])
def test_flow_of_a_shift_is_the_shift(dx, dy):
    flow = optical_flow(shifted(0, 0), shifted(dx, dy))[16:-16, 16:-16]
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), [dx, dy], atol=0.15)


def test_flow_error_of_a_video_that_stands_still_is_the_true_speed():
    true = np.stack([shifted(0, 0), shifted(2, 0)])
    still = np.stack([shifted(0, 0)] * 2)
    error = flow_error(true, still)
    assert error.epe_moving == pytest.approx(2.0, abs=0.2)
    assert error.cosine == pytest.approx(0.0, abs=0.05)


def test_flow_tells_right_from_wrong_direction():
    true = np.stack([shifted(0, 0), shifted(2, 0)])
    same, opposite, across = (flow_error(true, np.stack([shifted(0, 0), shifted(*to)])) for to in ((2, 0), (-2, 0), (0, 2)))
    assert same.epe == pytest.approx(0.0, abs=1e-6)
    assert same.cosine == pytest.approx(1.0, abs=0.02)
    assert opposite.cosine < -0.9
    assert abs(across.cosine) < 0.25
    assert same.epe < across.epe < opposite.epe


def test_figures_of_a_perfect_and_of_a_frozen_video():
    true = np.stack([shifted(i, 0) for i in range(10)])
    figures = compare_videos([true, true], [true, true])
    assert figures["psnr_8"] == MAX_PSNR
    assert figures["epe_8"] == 0.0
    assert figures["cos_8"] == pytest.approx(1.0, abs=0.02)
    assert "psnr_25" not in figures  # no episode is so long
    frozen = compare_videos([true], [np.repeat(true[:1], 10, axis=0)])
    assert frozen["psnr_8"] == frozen["psnr_copy_8"]
    assert frozen["epe_8"] == frozen["epe_copy_8"]
