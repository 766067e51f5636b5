"""Laws of composing delta actions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_stack.core.actions import compose, decompose
from robot_stack.core.errors import ShapeError
from robot_stack.core.robot_spec import ActionKind

P, R, J, G = ActionKind.POSITION, ActionKind.ROTATION, ActionKind.JOINT, ActionKind.GRIPPER
LAYOUTS = ([P, P, P, G], [P, P, P, R, R, R, G], [J, J, G], [P, P, P, R, R, R, G, P, P, P, R, R, R, G])


@given(st.sampled_from(LAYOUTS), st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_decompose_inverts_compose(kinds: list[ActionKind], length: int, seed: int, batched: bool) -> None:
    rng = np.random.default_rng(seed)
    lead = (3,) if batched else ()
    reference = rng.uniform(-1, 1, (*lead, len(kinds)))
    deltas = rng.uniform(-0.5, 0.5, (*lead, length, len(kinds)))
    targets = compose(reference, deltas, kinds)
    assert np.allclose(decompose(reference, targets, kinds), deltas, atol=1e-9)


@given(st.sampled_from(LAYOUTS), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_dropping_consumed_points_loses_no_motion(kinds: list[ActionKind], drop: int, seed: int) -> None:
    """The targets that remain after dropping the first ones are those of the chunk that starts where the drop ended."""
    rng = np.random.default_rng(seed)
    reference, deltas = rng.uniform(-1, 1, len(kinds)), rng.uniform(-0.5, 0.5, (6, len(kinds)))
    targets = compose(reference, deltas, kinds)
    assert np.allclose(compose(targets[drop - 1], deltas[drop:], kinds), targets[drop:], atol=1e-9)


def test_gripper_is_absolute_and_positions_add_up() -> None:
    targets = compose(np.array([1.0, 2.0, 3.0, 0.0]), np.array([[0.1, 0.0, 0.0, 1.0], [0.1, -0.2, 0.0, 0.5]]), [P, P, P, G])
    assert np.allclose(targets, [[1.1, 2.0, 3.0, 1.0], [1.2, 1.8, 3.0, 0.5]])


def test_rotation_deltas_turn_in_the_tool_frame() -> None:
    """A quarter turn about z, then one about the tool's x, is Rz Rx."""
    quarter = np.pi / 2
    deltas = np.array([[0.0, 0.0, quarter], [quarter, 0.0, 0.0]])
    targets = compose(np.zeros(3), deltas, [R, R, R])
    expected = Rotation.from_euler("z", quarter) * Rotation.from_euler("x", quarter)
    assert np.allclose(Rotation.from_rotvec(targets[1]).as_matrix(), expected.as_matrix())


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ShapeError, match=r"chunk has shape \[2, 3\]"):
        compose(np.zeros(4), np.zeros((2, 3)), [P, P, P, G])
    with pytest.raises(ShapeError, match="reference"):
        compose(np.zeros(3), np.zeros((2, 4)), [P, P, P, G])
