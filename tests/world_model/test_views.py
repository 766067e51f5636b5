"""Views of turned cameras: the calibration turns with the pictures, and nothing else changes."""

import cv2
import numpy as np
import pytest

from learning.episode import Episode
from robot_stack.core.actions import compose
from robot_stack.core.camera import CameraModel, Pose
from robot_stack.core.robot_spec import ActionKind
from world_model.views import ViewSettings, with_views

SIZE = 96
FRONT = Pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))  # looks along z of the base frame
K = np.array([[110.0, 0.0, 47.5], [0.0, 110.0, 47.5], [0.0, 0.0, 1.0]])
KINDS = (*[ActionKind.POSITION] * 3, *[ActionKind.ROTATION] * 3, ActionKind.GRIPPER)
NO_PAUSES = ViewSettings(pauses=0)
POINTS = np.array([[0.05, -0.1, 1.0], [-0.2, 0.1, 1.3], [0.1, 0.15, 0.9]])


def episode(camera: CameraModel | None) -> Episode:
    """Three frames, in each of which one point of the base frame is a white disc on black."""
    frames = np.zeros((len(POINTS), SIZE, SIZE, 3), dtype=np.uint8)
    pixels, _ = CameraModel(SIZE, SIZE, K, FRONT).project(POINTS)
    for frame, (u, v) in zip(frames, pixels, strict=True):
        cv2.circle(frame, (round(u * 16), round(v * 16)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    numbers = np.zeros((len(POINTS), 7), dtype=np.float32)
    cameras = {} if camera is None else {"front": camera}
    return Episode("one", {"front": frames}, numbers, numbers, numbers, "", cameras=cameras)


def centre(frame: np.ndarray) -> np.ndarray:
    """The middle of what is bright [u, v]."""
    weights = frame.mean(axis=-1)
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


def test_the_turned_calibration_sees_points_where_the_turned_pictures_show_them():
    settings = ViewSettings(pan_deg=5.0, roll_deg=20.0, zoom=1.3, light=0.0, pauses=0)
    _, *views = with_views([episode(CameraModel(SIZE, SIZE, K, FRONT))], KINDS, 8, settings)
    moved = []
    for view in views:
        pixels, _ = view.cameras["front"].project(POINTS)
        for frame, pixel in zip(view.images["front"], pixels, strict=True):
            if (pixel > 5).all() and (pixel < SIZE - 6).all():  # else a part of the disc is beyond the picture
                assert np.linalg.norm(centre(frame) - pixel) < 0.5
                moved.append(np.linalg.norm(pixel - K[:2, 2]))
    assert len(moved) > 12


def test_views_have_names_of_their_own_and_the_same_motion():
    one = episode(None)
    whole = with_views([one], KINDS, 3, NO_PAUSES)
    assert [view.name for view in whole] == ["one", "one, view 1", "one, view 2", "one, view 3"]
    assert whole[0] is one
    assert all(view.deltas is one.deltas and view.state is one.state for view in whole)
    assert len({view.images["front"].tobytes() for view in whole}) == 4
    assert with_views([one], KINDS, 2, NO_PAUSES)[2].images["front"].tobytes() == whole[2].images["front"].tobytes()
    assert with_views([one], KINDS, 0) == [one]


def test_a_view_that_changes_nothing_is_the_same_picture():
    one = episode(None)
    _, view = with_views([one], KINDS, 1, ViewSettings(pan_deg=0.0, roll_deg=0.0, zoom=1.0, light=0.0, pauses=0))
    np.testing.assert_array_equal(view.images["front"], one.images["front"])


def test_in_a_pause_the_arm_is_told_to_be_where_it_was_told_to_be_and_nothing_else_changes():
    random = np.random.default_rng(0)
    length = 10
    deltas = random.uniform(-0.1, 0.1, (length, 7)).astype(np.float32)
    deltas[:, 6] = random.uniform(0.0, 1.0, length)
    commanded = compose(np.zeros(7), deltas, KINDS).astype(np.float32)
    commanded = np.concatenate([np.zeros((1, 7), np.float32), commanded[:-1]])
    frames = random.integers(0, 255, (length, SIZE, SIZE, 3), dtype=np.uint8)
    track = random.uniform(size=(length, 3)).astype(np.float32)
    positions = {"object": track}
    one = Episode("one", {"front": frames}, commanded, commanded, deltas, "", first_success=6, positions=positions)
    still = ViewSettings(pan_deg=0.0, roll_deg=0.0, zoom=1.0, light=0.0, pauses=4)
    for view in with_views([one], KINDS, 5, still)[1:]:
        assert len(view) == length + 4
        np.testing.assert_allclose(
            compose(view.commanded[:-1], view.deltas[:-1, None], KINDS)[:, 0], view.commanded[1:], atol=1e-6
        )
        twice = (view.commanded[1:] == view.commanded[:-1]).all(axis=1)
        assert twice.sum() == 4
        kept = np.append(True, ~twice)
        np.testing.assert_array_equal(view.images["front"][kept], frames)
        np.testing.assert_array_equal(view.images["front"][1:][twice], view.images["front"][:-1][twice])
        np.testing.assert_array_equal(view.positions["object"][kept], track)
        np.testing.assert_array_equal(view.deltas[np.append(~twice, True)], deltas)
        np.testing.assert_array_equal(view.positions["object"][view.first_success], track[6])


def test_a_distorted_lens_leaves_the_view_without_calibration():
    lens = CameraModel(SIZE, SIZE, K, FRONT, "plumb_bob", (0.1, 0.0, 0.0, 0.0))
    _, view = with_views([episode(lens)], KINDS, 1)
    assert not view.cameras


@pytest.mark.parametrize("wrong", [{"pan_deg": -1.0}, {"zoom": 0.9}, {"light": 1.0}, {"roll_deg": -1.0}, {"pauses": -1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="views"):
        ViewSettings(**wrong)
