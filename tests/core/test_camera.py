"""Cameras against OpenCV's projection, and the laws of poses and of a resize."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_stack.core.camera import CameraModel, Pose, cameras_from_plain, cameras_to_plain
from robot_stack.core.errors import BadFileError, ProphRLError
from robot_stack.core.types import CameraInfoValues
from robot_stack.ros.convert import camera_info_message

FORWARD = Pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))  # the optical frame is the base frame


def floats(lower: float, upper: float) -> st.SearchStrategy[float]:
    return st.floats(lower, upper, allow_nan=False)


@st.composite
def poses(draw: st.DrawFn) -> Pose:
    quaternion = Rotation.from_rotvec(draw(st.tuples(*[floats(-3, 3)] * 3))).as_quat()
    return Pose(draw(st.tuples(*[floats(-2, 2)] * 3)), tuple(map(float, quaternion)))


@st.composite
def models(draw: st.DrawFn) -> CameraModel:
    k = np.array(
        [[draw(floats(20, 900)), 0.0, draw(floats(0, 640))], [0.0, draw(floats(20, 900)), draw(floats(0, 480))], [0, 0, 1.0]]
    )
    kind = draw(st.sampled_from(["", "plumb_bob", "equidistant"]))
    count = {"": 0, "plumb_bob": draw(st.sampled_from([4, 5])), "equidistant": 4}[kind]
    coefficients = draw(st.tuples(*[floats(-0.3, 0.3)] * count))
    return CameraModel(draw(st.integers(1, 640)), draw(st.integers(1, 480)), k, draw(poses()), kind, coefficients)


points_before_camera = st.lists(st.tuples(floats(-1.5, 1.5), floats(-1.5, 1.5), floats(0.3, 4)), min_size=1, max_size=8).map(
    np.array
)


@given(models(), points_before_camera)
def test_projection_is_opencvs(model: CameraModel, seen: np.ndarray) -> None:
    """OpenCV gets the pose the other way round, base in camera, by scipy's rotations."""
    turn = Rotation.from_quat(model.T_base_camera.quaternion)
    points = turn.apply(seen) + model.T_base_camera.position
    turn_back, shift_back = turn.inv().as_rotvec(), turn.inv().apply(-np.array(model.T_base_camera.position))
    if model.distortion_model == "equidistant":
        coefficients = np.array(model.distortion)
        expected, _ = cv2.fisheye.projectPoints(points[:, None], turn_back, shift_back, model.k, coefficients)
    else:
        expected, _ = cv2.projectPoints(points[:, None], turn_back, shift_back, model.k, np.array(model.distortion))
    pixels, depth = model.project(points)
    np.testing.assert_allclose(pixels, expected[:, 0], rtol=1e-7, atol=1e-5)
    np.testing.assert_allclose(depth, seen[:, 2], atol=1e-9)


def test_known_points_of_an_ideal_camera() -> None:
    """Straight ahead is the middle, right of it at larger u, below at larger v; at 45 degrees one focal length away."""
    message = camera_info_message(64, 48, 50.0, 0, "front_optical")
    camera = CameraModel(64, 48, np.reshape(message.k, (3, 3)), FORWARD)
    pixels, depth = camera.project(np.array([[0.0, 0.0, 2.0], [2.0, 0.0, 2.0], [0.0, 1.0, 2.0]]))
    np.testing.assert_allclose(pixels, [[31.5, 23.5], [81.5, 23.5], [31.5, 48.5]])
    np.testing.assert_allclose(depth, 2.0)


def test_what_is_not_in_front_is_told_by_its_depth() -> None:
    for model, count in (("", 0), ("plumb_bob", 5), ("equidistant", 4)):
        camera = CameraModel(64, 48, np.diag([50.0, 50.0, 1.0]), FORWARD, model, (0.1,) * count)
        with np.errstate(all="raise"):
            pixels, depth = camera.project(np.array([[[0.1, 0.2, -1.0], [0.0, 0.0, 0.0]], [[0.3, 0.0, 1.0], [0.0, 0.0, 1.0]]]))
        assert depth.tolist() == [[-1.0, 0.0], [1.0, 1.0]]
        assert np.isnan(pixels[0]).all()
        assert np.isfinite(pixels[1]).all()


@given(poses(), st.lists(st.tuples(*[floats(-3, 3)] * 3), min_size=1).map(np.array))
def test_a_pose_there_and_back(pose: Pose, points: np.ndarray) -> None:
    np.testing.assert_allclose(pose.apply_inverse(pose.apply(points)), points, atol=1e-12)
    np.testing.assert_allclose(pose.apply(pose.apply_inverse(points)), points, atol=1e-12)
    np.testing.assert_allclose(pose.apply(np.zeros(3)), pose.position, atol=1e-12)


@given(models(), points_before_camera, st.integers(1, 900), st.integers(1, 900))
def test_a_resize_moves_borders_to_borders(model: CameraModel, seen: np.ndarray, width: int, height: int) -> None:
    """Half a pixel beyond the centre of the first and of the last pixel are a picture's borders, before and after."""
    points = model.T_base_camera.apply(seen)
    before, depth = model.project(points)
    after, same_depth = model.scaled(width, height).project(points)
    share = (before + 0.5) / [model.width, model.height]
    np.testing.assert_allclose((after + 0.5) / [width, height], share, rtol=1e-9, atol=1e-9)
    assert np.array_equal(depth, same_depth)
    assert model.scaled(width, height).scaled(model.width, model.height).k == pytest.approx(model.k, abs=1e-9)


def test_a_resized_picture_shows_the_point_where_the_scaled_camera_says() -> None:
    camera = CameraModel(80, 60, np.array([[70.0, 0, 41.0], [0, 70.0, 28.0], [0, 0, 1]]), FORWARD)
    point = np.array([0.1, -0.05, 1.0])
    across, down = camera.project(point)[0]
    v, u = np.mgrid[:60, :80]
    picture = np.exp(-((u - across) ** 2 + (v - down) ** 2) / (2 * 3.0**2))  # a blob there
    resized = cv2.resize(picture, (40, 20), interpolation=cv2.INTER_AREA)
    v, u = np.mgrid[:20, :40]
    centre = [(u * resized).sum() / resized.sum(), (v * resized).sum() / resized.sum()]
    np.testing.assert_allclose(centre, camera.scaled(40, 20).project(point)[0], atol=0.02)


@given(st.dictionaries(st.sampled_from(["front", "wrist"]), models()))
def test_mappings_and_back_through_json_and_yaml(cameras: dict[str, CameraModel]) -> None:
    for plain in (json.loads(json.dumps(cameras_to_plain(cameras))), yaml.safe_load(yaml.safe_dump(cameras_to_plain(cameras)))):
        found = cameras_from_plain(plain, "file")
        assert found == cameras
        assert {name: hash(camera) for name, camera in found.items()} == {name: hash(cameras[name]) for name in cameras}


def test_cameras_that_differ_are_not_equal() -> None:
    camera = CameraModel(64, 48, np.diag([50.0, 50.0, 1.0]), FORWARD, "plumb_bob", (0.1, 0, 0, 0))
    others = [
        replace(camera, width=65),
        replace(camera, k=np.diag([50.1, 50.0, 1.0])),
        replace(camera, T_base_camera=Pose((0.0, 0.0, 0.1), FORWARD.quaternion)),
        replace(camera, distortion=(0.1, 0, 0, 1e-9)),
    ]
    assert camera == replace(camera)
    assert camera not in others


def test_a_lens_without_coefficients_is_a_pinhole_whatever_it_calls_itself() -> None:
    k = np.diag([50.0, 50.0, 1.0])
    assert CameraModel.of(CameraInfoValues(64, 48, k), FORWARD) == CameraModel(64, 48, k, FORWARD)
    assert CameraModel.of(CameraInfoValues(64, 48, k, "none", (0.0,) * 5), FORWARD).distortion_model == ""
    bent = CameraInfoValues(64, 48, k, "plumb_bob", (0.1, 0.0, 0.0, 0.0, 0.0))
    assert CameraModel.of(bent, FORWARD).distortion == bent.distortion
    with pytest.raises(ProphRLError, match="distortion_model must be one of .*'plumb_bob', 'equidistant'.*, got 'inverse'"):
        CameraModel.of(replace(bent, distortion_model="inverse"), FORWARD)
    with pytest.raises(ProphRLError, match="all zero: not calibrated"):
        CameraModel.of(CameraInfoValues.uncalibrated(64, 48, "1"), FORWARD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, r"rig\.yaml: front\.width must be a positive number, got 0"),
        ({"width": None}, r"front\.width must be a finite number, got None"),
        ({"k": [1.0] * 8}, r"front\.k must be nine numbers, row by row, got 8"),
        ({"k": [0.0] * 9}, r"front\.camera: k must be finite with positive focal lengths"),
        ({"k": [50.0, 3.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]}, r"k must be \[\[fx, 0, cx\]"),
        ({"distortion_model": "thin_prism"}, r"front\.distortion_model must be one of .*plumb_bob, equidistant"),
        ({"distortion_model": "equidistant"}, r"distortion_model 'equidistant' has 4 finite coefficients, got \(\)"),
        ({"distortion": [0.1]}, r"distortion_model '' has 0 finite coefficients, got \(0\.1,\)"),
        ({"T_base_camera": {"position": [0, 0], "quaternion": [0, 0, 0, 1]}}, r"T_base_camera\.position must be three finite"),
        ({"T_base_camera": {"position": [0, 0, 0], "quaternion": [0, 0, 1]}}, r"quaternion of a pose must be 4 finite numbers"),
        (
            {"T_base_camera": {"position": [0, 0, 0], "quaternion": [0, 0, 1, 1]}},
            r"must have length 1, got .* of length 1\.414",
        ),
        ({"T_base_camera": {"position": [0, 0, 0]}}, r"quaternion of a pose must be 4 finite numbers, got \[\]"),
        ({"fov": 45}, r"unknown entry front\.fov; valid: T_base_camera, distortion"),
    ],
)
def test_bad_entries_are_refused_by_name(change: dict[str, object], message: str) -> None:
    good = CameraModel(64, 48, np.diag([50.0, 50.0, 1.0]), FORWARD).to_mapping()
    CameraModel.from_mapping(good, Path("rig.yaml"), "front.")
    with pytest.raises(BadFileError, match=message):
        CameraModel.from_mapping(good | change, Path("rig.yaml"), "front.")


def test_a_camera_without_a_place_is_refused() -> None:
    plain = CameraModel(64, 48, np.diag([50.0, 50.0, 1.0]), FORWARD).to_mapping()
    del plain["T_base_camera"]
    with pytest.raises(BadFileError, match="T_base_camera is missing: where is the camera"):
        CameraModel.from_mapping(plain, "rig.yaml")
