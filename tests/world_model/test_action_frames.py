"""Action frames: known places, sizes and colours, and the simulator's own pixels."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.episode import Episode
from robot_stack.core.camera import CameraModel, Pose
from robot_stack.core.errors import ProphRLError, ShapeError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.drivers.sim_cameras import CAMERAS
from robot_stack.paths import robot_file
from tests.drivers.seen import GRIPPER, SIZE, distance, outside, pixels_of, segmentation
from world_model.action_frames import COLOURS, DISC_M, camera_of, draw_action_frames, tool_path

FOCAL = 100.0
HIDDEN = [0.0, 0.0, -1.0, 0.0, 0.0, 0.0]  # behind the camera
FORWARD = Pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
ARM_KINDS = (*[ActionKind.POSITION] * 3, *[ActionKind.ROTATION] * 3, ActionKind.GRIPPER)


def camera(width: int = 96, height: int = 96) -> CameraModel:
    """Looks along the base's z axis; the base's x axis is to the right, y down."""
    k = np.array([[FOCAL, 0.0, (width - 1) / 2], [0.0, FOCAL, (height - 1) / 2], [0.0, 0.0, 1.0]])
    return CameraModel(width, height, k, FORWARD)


def draw(poses: list[list[float]], openings: list[float], model: CameraModel | None = None, size: int = 96) -> np.ndarray:
    """One frame [size, size, 3] as whole numbers with a sign."""
    [frame] = draw_action_frames(np.array([poses]), np.array([openings]), model or camera(), size)
    assert frame.dtype == np.uint8
    return frame.astype(int)


def disc(pose: list[float], arm: int = 0, size: int = 96, model: CameraModel | None = None) -> tuple[np.ndarray, float]:
    """Centre [u, v] and area [px] of a disc: what changes between a closed and an open gripper, in the green of both arms."""
    arms = [[HIDDEN] * arm + [pose]] * 2
    closed, opened = (draw(poses, [opening] * (arm + 1), model, size) for poses, opening in zip(arms, (0.0, 1.0), strict=True))
    whole = COLOURS[arm].opened[1] - COLOURS[arm].closed[1]
    weight = (opened - closed)[..., 1] / whole
    v, u = np.mgrid[: len(weight), : len(weight)]
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum(), float(weight.sum())


turns = st.tuples(*[st.floats(-3, 3)] * 3).map(list)


@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(0.3, 2.0), turns, st.integers(0, 1))
def test_the_disc_is_where_and_as_large_as_projection_says(x: float, y: float, z: float, turn: list[float], arm: int) -> None:
    """Centres are true to a part of a pixel (OpenCV's discs of one pixel's radius to 0.2 px), outlines are those of a ball."""
    centre, area = disc([x * z, y * z, z, *turn], arm)
    np.testing.assert_allclose(centre, [47.5 + FOCAL * x, 47.5 + FOCAL * y], atol=0.25)
    assert area == pytest.approx(np.pi * max(1.0, FOCAL * DISC_M / z) ** 2, rel=0.3, abs=2.0)


def test_the_nearer_the_larger() -> None:
    areas = [disc([0.0, 0.0, z, 0.0, 0.0, 0.0])[1] for z in np.linspace(0.2, 2.0, 12)]
    assert (np.diff(areas) < 0).all()


def test_subpixel_motion_is_seen() -> None:
    """A tenth of a pixel of motion moves the disc by a tenth of a pixel."""
    centres = [disc([step * 0.1 / FOCAL, 0.0, 1.0, 0.0, 0.0, 0.0])[0][0] for step in range(11)]
    np.testing.assert_allclose(np.diff(centres), 0.1, atol=0.05)


@pytest.mark.parametrize("arm", [0, 1])
def test_the_colour_of_the_middle_shows_the_opening(arm: int) -> None:
    pose = [0.5 / FOCAL, 0.5 / FOCAL, 1.0, 0.0, 0.0, 0.0]  # in the middle of pixel 48, 48
    seen = [draw([*[HIDDEN] * arm, pose], [opening] * (arm + 1))[48, 48] for opening in (0.0, 0.25, 1.0, 7.0)]
    assert seen[0].tolist() == list(COLOURS[arm].closed)
    assert seen[2].tolist() == seen[3].tolist() == list(COLOURS[arm].opened)
    mixed = 0.75 * np.array(COLOURS[arm].closed) + 0.25 * np.array(COLOURS[arm].opened)
    np.testing.assert_allclose(seen[1], mixed, atol=1)


def direction(frame: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Mean place of the pixels of one colour, from the middle of the picture."""
    found = np.argwhere((frame == colour).all(axis=-1))[:, ::-1]
    assert len(found) >= 3
    return found.mean(axis=0) - 47.5


def test_axes_point_where_the_tool_turns_them() -> None:
    x, y, z = COLOURS[0].axes
    plain = draw([[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]], [0.0])  # the tool stands as the camera does
    right, down = direction(plain, x), direction(plain, y)
    assert right[0] > 4 and abs(right[1]) < 1
    assert down[1] > 4 and abs(down[0]) < 1
    assert not (plain == z).all(axis=-1).any()  # it points away, behind the disc
    turned = draw([[0.0, 0.0, 1.0, 0.0, 0.0, np.pi / 2]], [0.0])  # about its z axis: x takes the place of y
    np.testing.assert_allclose(direction(turned, x), down, atol=0.5)
    np.testing.assert_allclose(direction(turned, y), -right, atol=1.2)  # a line one pixel wide lies beside the middle
    upright = draw([[0.0, 0.0, 1.0, np.pi / 2, 0.0, 0.0]], [0.0])  # about its x axis: z goes up
    assert direction(upright, z)[1] < -4
    np.testing.assert_allclose(direction(upright, x), right, atol=0.5)


def test_two_arms_are_drawn_with_their_own_colours_the_nearer_on_top() -> None:
    left, right = [-0.2, 0.0, 1.0, 0.3, 0.0, 0.0], [0.2, 0.0, 1.0, 0.0, 0.4, 0.0]
    both = draw([left, right], [0.5, 0.5])
    apart = draw([left, HIDDEN], [0.5, 0.5]) + draw([HIDDEN, right], [0.5, 0.5])
    assert np.array_equal(both, apart)
    assert not set(COLOURS[0].axes) & set(COLOURS[1].axes)
    near, far = [0.005, 0.005, 0.8, 0.0, 0.0, 0.0], [0.005, 0.005, 1.2, 0.0, 0.0, 0.0]
    assert draw([near, far], [0.0, 0.0])[48, 48].tolist() == list(COLOURS[0].closed)
    assert draw([far, near], [0.0, 0.0])[48, 48].tolist() == list(COLOURS[1].closed)


def test_what_is_not_in_view_leaves_the_frame_black() -> None:
    for pose in (HIDDEN, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [5.0, 0.0, 1.0, 0.0, 0.0, 0.0], [1e9, -1e9, 0.5, 0.0, 0.0, 0.0]):
        assert not draw([pose], [0.5]).any(), pose
    assert draw([[0.02, 0.0, 0.05, 0.0, np.pi, 0.0]], [0.5]).any()  # one axis ends behind the camera


def test_pictures_of_any_size_and_shape_are_stretched_as_frames_are() -> None:
    wide = camera(192, 96)
    pose = [0.3, 0.1, 1.0, 0.0, 0.0, 0.0]
    expected = (wide.project(np.array(pose[:3]))[0] + 0.5) / [192, 96] * 64 - 0.5
    np.testing.assert_allclose(disc(pose, size=64, model=wide)[0], expected, atol=0.25)


def test_frames_are_drawn_one_by_one() -> None:
    rng = np.random.default_rng(0)
    poses = np.concatenate(
        [rng.uniform(-0.2, 0.2, (5, 2, 2)), rng.uniform(0.5, 1.5, (5, 2, 1)), rng.normal(size=(5, 2, 3))], -1
    )
    openings = rng.uniform(0, 1, (5, 2))
    together = draw_action_frames(poses, openings, camera(), 96)
    for t in range(5):
        assert np.array_equal(together[t], draw(poses[t].tolist(), openings[t].tolist()))


def test_bad_arrays_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"tool poses to draw has shape \[5, 3, 6\], expected \[T, R, 6\] with R from 1 to 2"):
        draw_action_frames(np.zeros((5, 3, 6)), np.zeros((5, 3)), camera(), 64)
    with pytest.raises(ShapeError, match=r"gripper openings to draw has shape \[5\], expected \[5, 1\]"):
        draw_action_frames(np.zeros((5, 1, 6)), np.zeros(5), camera(), 64)
    with pytest.raises(ProphRLError, match="hold NaN"):
        draw_action_frames(np.full((1, 1, 6), np.nan), np.zeros((1, 1)), camera(), 64)


def test_tools_are_found_in_the_actions_of_each_kind_of_robot() -> None:
    fixed = RobotSpec.load(robot_file("sim_metaworld"))
    path = tool_path(np.array([[[0.1, 0.2, 0.3, 0.4]]]), fixed.action_kinds)
    assert path.poses.tolist() == [[[[0.1, 0.2, 0.3, np.pi, 0.0, 0.0]]]]
    assert path.openings.tolist() == [[[0.4]]]
    turned = tool_path(np.zeros((1, 4)), fixed.action_kinds, fixed_rotation=(0.0, 1.0, 0.0))
    assert turned.poses.tolist() == [[[0.0, 0.0, 0.0, 0.0, 1.0, 0.0]]]
    posed = RobotSpec.load(robot_file("sim_arm_pose"))
    numbers = np.arange(1.0, 15.0)
    assert tool_path(numbers[:7], posed.action_kinds).poses.tolist() == [[1, 2, 3, 4, 5, 6]]
    two = tool_path(numbers, ARM_KINDS * 2)
    assert two.poses.tolist() == [[1, 2, 3, 4, 5, 6], [8, 9, 10, 11, 12, 13]]
    assert two.openings.tolist() == [7, 14]
    mixed = tool_path(numbers[:11], (*ARM_KINDS, *fixed.action_kinds))
    assert mixed.poses.tolist() == [[1, 2, 3, 4, 5, 6], [8, 9, 10, np.pi, 0, 0]]
    assert tool_path(numbers[:3], fixed.action_kinds[:3]).openings.tolist() == [1.0]


def test_robots_that_are_commanded_by_joints_are_told_what_to_do() -> None:
    for name in ("ur5e", "sim_two_arms"):
        kinds = RobotSpec.load(robot_file(name)).action_kinds
        with pytest.raises(ProphRLError, match=r"joint positions\. Record with a robot file .*sim_arm_pose\.yaml does"):
            tool_path(np.zeros(len(kinds)), kinds)
    with pytest.raises(ProphRLError, match=r"three position numbers for each arm, got actions \['rotation', "):
        tool_path(np.zeros(4), ARM_KINDS[3:])


def test_missing_parameters_name_episode_and_camera() -> None:
    zeros = np.zeros((2, 4), np.float32)
    images = {"front": np.zeros((2, 96, 96, 3), np.uint8), "wrist": np.zeros((2, 8, 8, 3), np.uint8)}
    episode = Episode("take-7", images, zeros, zeros, zeros, "do it", cameras={"front": camera()})
    assert camera_of(episode, "front") == camera()
    with pytest.raises(ProphRLError, match=r"episode take-7: the parameters of camera 'wrist' are not known \(known: front\)"):
        camera_of(episode, "wrist")


@pytest.mark.skipif(importlib.util.find_spec("metaworld") is None, reason="the simulator is not installed")
def test_the_disc_lies_on_the_grippers_pixels_in_the_simulator() -> None:
    """Targets that the arm has reached, closed (the fingers meet at the tool) and open (it is between them)."""
    from robot_stack.drivers.sim_metaworld import MetaWorldArm

    spec = RobotSpec.load(robot_file("sim_metaworld"))
    arm = MetaWorldArm(spec, "reach-v3", tuple(CAMERAS), SIZE)
    model, data = arm._env.model, arm._env.data
    geoms = [model.geom(geom).id for geom in GRIPPER]
    errors = []
    with segmentation(model) as segment:
        for target in ([0.1, 0.55, 0.2, 0.0], [-0.15, 0.7, 0.1, 0.0], [0.0, 0.65, 0.3, 1.0], [-0.1, 0.5, 0.12, 1.0]):
            arm.reset(2)
            for _ in range(30):
                arm.step(np.array(target))
            [[pose]] = tool_path(arm.commanded[None], spec.action_kinds).poses
            for name in CAMERAS:
                gripper = pixels_of(segment(data, name), model, "GEOM", geoms)
                if len(gripper) < 20:
                    continue  # the arm hides it
                centre, _ = disc(pose.tolist(), size=SIZE, model=arm.camera_model(name))
                errors.append(distance(gripper, centre) if target[3] == 0.0 else outside(gripper, centre))
    assert len(errors) >= 24  # of 32
    assert max(errors) <= 2.0, errors
