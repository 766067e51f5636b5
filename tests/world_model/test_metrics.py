"""Known answers: noise of a known size, images shifted by known distances, videos that stand still."""

import numpy as np
import pytest

from robot_stack.core.errors import ShapeError
from world_model.measure import clip_figures, compare_videos, video_table
from world_model.metrics import MAX_PSNR, flow_error, optical_flow, psnr, ssim, tssim


def texture(seed: int = 0) -> np.ndarray:
    """A smooth random picture, larger than what is cut from it."""
    import cv2

    random = np.random.Generator(np.random.Philox(seed))
    coarse = random.uniform(0, 255, size=(24, 24, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def shifted(dx: int, dy: int) -> np.ndarray:
    """64 px of the texture, its content moved by (dx, dy)."""
    return texture()[16 - dy : 80 - dy, 16 - dx : 80 - dx]


def moving(frames: int, dx: int = 1) -> np.ndarray:
    """A video whose content moves by ``dx`` px a frame."""
    return np.stack([shifted(dx * i, 0) for i in range(frames)])


def test_psnr_of_a_constant_error():
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    assert psnr(image, image + np.uint8(10)) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(image, image) == MAX_PSNR


def test_psnr_refuses_other_shapes():
    with pytest.raises(ShapeError):
        psnr(np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8))


def test_ssim_of_constant_pictures_is_its_term_of_brightness():
    a, b, c1 = 100.0, 120.0, (0.01 * 255) ** 2
    dark, bright = (np.full((20, 20, 3), level, dtype=np.uint8) for level in (a, b))
    assert ssim(dark, bright) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))


def test_ssim_is_one_of_itself_symmetric_and_falls_with_distance():
    assert ssim(shifted(0, 0), shifted(0, 0)) == pytest.approx(1.0)
    near, far = ssim(shifted(0, 0), shifted(1, 0)), ssim(shifted(0, 0), shifted(4, 0))
    assert 1.0 > near > far
    assert ssim(shifted(4, 0), shifted(0, 0)) == pytest.approx(far)


def test_ssim_refuses_pictures_smaller_than_its_window():
    with pytest.raises(ShapeError, match="11 x 11"):
        ssim(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8))


def test_tssim_sees_motion_and_not_what_stands_still():
    video = moving(4)
    darker = (video // 2).astype(np.uint8)
    other_scene = np.repeat(texture(5)[None, :64, :64], 4, axis=0)
    assert tssim(video, video) == pytest.approx(1.0)
    assert tssim(np.repeat(video[:1], 4, axis=0), other_scene) == pytest.approx(1.0)  # nothing changes in either
    assert tssim(video, np.repeat(video[:1], 4, axis=0)) < 0.1 < tssim(video, darker) < 1.0


def test_tssim_needs_two_frames():
    with pytest.raises(ShapeError, match="two frames"):
        tssim(moving(1), moving(1))


@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (0, -3), (1, 2)])
def test_flow_of_a_shift_is_the_shift(dx, dy):
    flow = optical_flow(shifted(0, 0), shifted(dx, dy))[16:-16, 16:-16]
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), [dx, dy], atol=0.15)


def test_flow_error_of_a_video_that_stands_still_is_the_true_speed():
    true = np.stack([shifted(0, 0), shifted(2, 0)])
    still = np.stack([shifted(0, 0)] * 2)
    error = flow_error(true, still)
    assert error.epe_moving == pytest.approx(2.0, abs=0.2)
    assert error.cosine == 0.0


def test_flow_tells_right_from_wrong_direction():
    true = np.stack([shifted(0, 0), shifted(2, 0)])
    same, opposite, across = (flow_error(true, np.stack([shifted(0, 0), shifted(*to)])) for to in ((2, 0), (-2, 0), (0, 2)))
    assert same.epe == pytest.approx(0.0, abs=1e-6)
    assert same.cosine == pytest.approx(1.0, abs=0.02)
    assert opposite.cosine < -0.9
    assert abs(across.cosine) < 0.25
    assert same.epe < across.epe < opposite.epe


def test_figures_of_a_perfect_and_of_a_frozen_video():
    true = moving(10)
    figures = compare_videos([true, true], [true, true])
    assert figures["psnr_8"] == MAX_PSNR
    assert figures["ssim_8"] == figures["tssim_8"] == pytest.approx(1.0)
    assert figures["epe_8"] == figures["epe_moving_8"] == 0.0
    assert figures["cos_8"] == pytest.approx(1.0, abs=0.02)
    assert "psnr_25" not in figures  # no episode is so long
    frozen = compare_videos([true], [np.repeat(true[:1], 10, axis=0)])
    for name in ("psnr", "ssim", "tssim", "epe", "epe_moving", "cos"):
        assert frozen[f"{name}_8"] == frozen[f"{name}_copy_8"] != figures[f"{name}_8"]
    assert frozen["cos_8"] == 0.0
    assert frozen["epe_moving_last"] == pytest.approx(1.0, abs=0.15)


def test_a_clip_counts_at_the_horizons_it_reaches_and_at_its_own_last_frame():
    long, short = moving(10), moving(4)
    grey = np.full_like(short, 128)
    figures = compare_videos([long, short], [long, grey], horizons=(2, 8))
    assert [figures[f"clips_{label}"] for label in ("2", "8", "last")] == [2, 1, 2]
    assert figures["psnr_8"] == MAX_PSNR
    assert figures["psnr_last"] == pytest.approx((MAX_PSNR + psnr(short[3], grey[3])) / 2)


def test_the_true_video_is_cut_to_what_was_imagined():
    assert clip_figures(moving(10), moving(6))["psnr_last"] == MAX_PSNR


def test_flow_figures_of_a_scene_without_motion_are_absent():
    still = np.repeat(shifted(0, 0)[None], 4, axis=0)
    figures = compare_videos([still], [still])
    assert figures["epe_last"] == 0.0
    assert not {"cos_last", "epe_moving_last"} & figures.keys()


def test_the_table_shows_copy_beside_each_figure():
    true = moving(10)
    header, first, second, last = video_table(compare_videos([true], [true])).splitlines()
    assert header.count("(copy)") == 6
    assert first.split()[:3] == ["1", "1", "100.0"] and last.split()[0] == "last"
    assert second.split()[-2:] == ["1.00", "(0.00)"]
