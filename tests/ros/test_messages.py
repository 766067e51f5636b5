"""Numpy to messages and back: nothing is lost, and what makes no sense is refused by name."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rclpy.serialization import serialize_message

from robot_stack.core.robot_spec import Compression, RobotSpec
from robot_stack.core.types import ActionChunk
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics

SPEC = RobotSpec.load(robot_file("sim_metaworld"))
stamps = st.integers(0, 2**61)
numbers = st.floats(-10, 10, allow_nan=False)


@given(stamps)
def test_stamps(stamp_ns: int) -> None:
    assert convert.to_ns(convert.to_stamp(stamp_ns % (2**31 * convert.SECOND_NS))) == stamp_ns % (2**31 * convert.SECOND_NS)


@given(st.integers(0, 2**60))
def test_the_stamp_is_found_in_serialised_messages(stamp_ns: int) -> None:
    for message in (
        convert.image_message(np.zeros((2, 3, 3), np.uint8), stamp_ns, "camera"),
        convert.joint_message(["a"], np.zeros(1), np.zeros(1), stamp_ns),
        convert.header(stamp_ns),
    ):
        assert convert.stamp_of_cdr(serialize_message(message)) == stamp_ns
    numbered = convert.stamped_numbers(np.arange(3.0), stamp_ns)
    assert convert.stamp_of_numbers(numbered, "x") == stamp_ns


@given(arrays(np.float64, (3, 4), elements=numbers), st.integers(0, 2**60))
def test_chunks(targets: np.ndarray, stamp_ns: int) -> None:
    chunk = ActionChunk(stamp_ns, SPEC.period_ns, targets)
    back = convert.answered_chunk(convert.chunk_message(chunk, SPEC), SPEC, topics.ACTION_CHUNK)
    assert back.stamp_ns == stamp_ns and back.period_ns == SPEC.period_ns
    np.testing.assert_array_equal(back.targets, targets)


@given(arrays(np.float64, 4, elements=numbers))
def test_commands(target: np.ndarray) -> None:
    pose = convert.pose_message(target[:3], None, 5, SPEC.base_frame)
    gripper = convert.trajectory_message(target[3:][None], ["gripper"], 5, SPEC.period_ns)
    np.testing.assert_array_equal(convert.command_target(pose, gripper, SPEC), target)


def test_images() -> None:
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    message = convert.image_message(image, 1, "camera")
    np.testing.assert_array_equal(convert.image_array(message, "x"), image)


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("width", [61, 62, 63, 64])  # JPEG files of different lengths are padded differently
def test_a_cut_picture_is_told_from_a_whole_one_without_unpacking_it(compression: Compression, width: int) -> None:
    camera = dataclasses.replace(SPEC.cameras[0], width=width, compression=compression)
    image = np.random.default_rng(width).integers(0, 255, (64, width, 3), dtype=np.uint8)
    message = convert.picture_message(image, camera, 1)
    assert convert.is_whole_picture(serialize_message(message), camera)
    for part in (0, len(message.data) // 2, len(message.data) - 400):
        cut = convert.picture_message(image, camera, 1)
        cut.data = message.data[:part]
        assert not convert.is_whole_picture(serialize_message(cut), camera)


def test_messages_that_make_no_sense() -> None:
    chunk = ActionChunk(0, SPEC.period_ns, np.zeros((2, 4)))
    late = convert.chunk_message(chunk, SPEC)
    late.points[1].time_from_start.nanosec += 1_000_000
    with pytest.raises(convert.BadMessageError, match="points due after"):
        convert.answered_chunk(late, SPEC, "x")
    other = convert.chunk_message(chunk, SPEC)
    other.joint_names = ["x", "y", "z", "hand"]
    with pytest.raises(convert.BadMessageError, match="'hand'.*expected.*'gripper'"):
        convert.answered_chunk(other, SPEC, "x")
    with pytest.raises(convert.BadMessageError, match="stamp_ns"):
        convert.stamp_of_numbers(type(convert.stamped_numbers(np.zeros(1), 0))(), "x")


def test_the_contract_has_every_topic_once() -> None:
    names = [entry.name for entry in topics.contract(SPEC)]
    assert len(set(names)) == len(names)
    assert {"camera/front/image_raw", "joint_states", "ee_pose", "sent_action", "/clock"} <= set(names)
