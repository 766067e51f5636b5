"""Delta actions and the absolute targets that go over the wire.

A policy and the world model speak *deltas*: the change of the target from one tick to the next. On the wire everything
is absolute, so that a consumer may drop the points whose time has passed without losing motion. The reference of the first
delta is the target in force at the observation (``Observation.commanded``), not the measured pose: the arm's lag behind its
target would otherwise be added to every chunk.

Grippers are absolute in both forms. Orientation is a rotation vector; its deltas are composed on the right, that is in the
tool frame: R_target = R_reference Exp(delta).
"""

from collections.abc import Sequence

import numpy as np

from robot_stack.core import se3
from robot_stack.core.errors import ShapeError
from robot_stack.core.robot_spec import ActionKind
from robot_stack.core.types import FloatArray


def compose(reference: FloatArray, deltas: FloatArray, kinds: Sequence[ActionKind]) -> FloatArray:
    """Absolute targets from deltas.

    Args:
        reference: target in force before the first delta [A] or [N, A].
        deltas: [H, A] or [N, H, A].
        kinds: kind of each action dimension.

    Returns:
        Targets of the shape of ``deltas``.
    """
    reference, deltas = _checked(reference, deltas, kinds)
    targets = np.array(deltas)
    additive = [i for i, kind in enumerate(kinds) if kind.is_additive]
    targets[..., additive] = reference[..., None, additive] + np.cumsum(deltas[..., additive], axis=-2)
    for block in _rotation_blocks(kinds):
        rotation = reference[..., block]
        for h in range(deltas.shape[-2]):
            rotation = se3.turned(rotation, deltas[..., h, block])
            targets[..., h, block] = rotation
    return targets


def decompose(reference: FloatArray, targets: FloatArray, kinds: Sequence[ActionKind]) -> FloatArray:
    """Inverse of ``compose``: deltas that lead from ``reference`` [A] or [N, A] to ``targets`` [H, A] or [N, H, A]."""
    reference, targets = _checked(reference, targets, kinds)
    previous = np.concatenate([reference[..., None, :], targets[..., :-1, :]], axis=-2)
    deltas = np.array(targets)
    additive = [i for i, kind in enumerate(kinds) if kind.is_additive]
    deltas[..., additive] = targets[..., additive] - previous[..., additive]
    for block in _rotation_blocks(kinds):
        deltas[..., block] = se3.turn_between(previous[..., block], targets[..., block])
    return deltas


def _checked(reference: FloatArray, chunk: FloatArray, kinds: Sequence[ActionKind]) -> tuple[FloatArray, FloatArray]:
    reference = np.asarray(reference, dtype=np.float64)
    chunk = np.asarray(chunk, dtype=np.float64)
    if reference.shape[-1:] != (len(kinds),) or chunk.ndim != reference.ndim + 1:
        raise ShapeError("reference of a chunk", reference.shape, f"[{len(kinds)}] or [N, {len(kinds)}]")
    if chunk.shape[-1] != len(kinds) or chunk.shape[:-2] != reference.shape[:-1]:
        raise ShapeError("chunk", chunk.shape, f"{[*reference.shape[:-1], 'H', len(kinds)]}")
    return reference, chunk


def _rotation_blocks(kinds: Sequence[ActionKind]) -> list[list[int]]:
    """Index triples of the rotation vectors among the action dimensions; ``RobotSpec`` guarantees whole triples."""
    indices = [i for i, kind in enumerate(kinds) if kind is ActionKind.ROTATION]
    return [indices[i : i + 3] for i in range(0, len(indices), 3)]
