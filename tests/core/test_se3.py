"""Rotations against scipy's, and the laws of a group."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_stack.core import se3

numbers = st.floats(-6, 6, allow_nan=False)
vectors = st.one_of(st.tuples(numbers, numbers, numbers), st.tuples(*[st.floats(-1e-9, 1e-9)] * 3)).map(np.array)


@given(vectors, vectors)
def test_equal_to_scipy(first: np.ndarray, second: np.ndarray) -> None:
    a, b = Rotation.from_rotvec(first), Rotation.from_rotvec(second)
    same = Rotation.from_quat(se3.quaternion(first)) * a.inv()
    assert same.magnitude() < 1e-9
    np.testing.assert_allclose(se3.matrix(2.0 * se3.quaternion(first)), a.as_matrix(), atol=1e-9)
    assert (Rotation.from_rotvec(se3.turned(first, second)) * (a * b).inv()).magnitude() < 1e-7
    assert (Rotation.from_rotvec(se3.turn_between(first, second)) * (a.inv() * b).inv()).magnitude() < 1e-7


@given(vectors)
def test_there_and_back(vector: np.ndarray) -> None:
    back = se3.rotation_vector(se3.quaternion(vector))
    assert np.linalg.norm(back) <= np.pi + 1e-9
    if np.linalg.norm(vector) < 3.1:
        np.testing.assert_allclose(back, vector, atol=1e-9)
    np.testing.assert_allclose(se3.turn_between(vector, vector), 0.0, atol=1e-7)


@pytest.mark.parametrize("tiny", [0.0, 1e-12, 1e-9, 1e-7])
def test_small_turns_are_kept(tiny: float) -> None:
    np.testing.assert_allclose(se3.rotation_vector(se3.quaternion(np.array([tiny, 0.0, 0.0]))), [tiny, 0, 0], rtol=1e-6)


def test_any_leading_dimensions() -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 5, 3))
    together = se3.turned(vectors, vectors[:, ::-1])
    matrices = se3.matrix(se3.quaternion(vectors))
    for i in range(2):
        for k in range(5):
            np.testing.assert_allclose(together[i, k], se3.turned(vectors[i, k], vectors[i, 4 - k]))
            np.testing.assert_allclose(matrices[i, k], se3.matrix(se3.quaternion(vectors[i, k])))
