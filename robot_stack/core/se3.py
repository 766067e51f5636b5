"""Rotations as rotation vectors, unit quaternions and matrices, in numpy alone: robot processes start without scipy.

Quaternions are in ROS order: x, y, z, w. A rotation vector is axis times angle [rad]; those returned have angles in [0, pi].
All functions take any leading dimensions.
"""

import numpy as np

from robot_stack.core.types import FloatArray

SMALL = 1e-8  # angles [rad] below which sin(a) = a to double precision


def quaternion(rotation_vector: FloatArray) -> FloatArray:
    """Unit quaternions [..., 4] of rotation vectors [..., 3]."""
    vector = np.asarray(rotation_vector, dtype=np.float64)
    angle = np.linalg.norm(vector, axis=-1, keepdims=True)
    small = angle < SMALL
    factor = np.where(small, 0.5, np.sin(angle / 2) / np.where(small, 1.0, angle))
    return np.concatenate([factor * vector, np.cos(angle / 2)], axis=-1)


def rotation_vector(quaternion: FloatArray) -> FloatArray:
    """Rotation vectors [..., 3] of quaternions [..., 4] of any length but zero."""
    q = np.asarray(quaternion, dtype=np.float64)
    q = q * np.where(q[..., 3:] < 0.0, -1.0, 1.0)  # q and -q are one rotation; this one turns by at most pi
    length = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    small = length < SMALL * np.abs(q[..., 3:])
    angle = 2.0 * np.arctan2(length, q[..., 3:])
    factor = np.where(small, 2.0 / np.where(small, q[..., 3:], 1.0), angle / np.where(small, 1.0, length))
    return factor * q[..., :3]


def matrix(quaternion: FloatArray) -> FloatArray:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] of any length but zero."""
    q = np.asarray(quaternion, dtype=np.float64)
    x, y, z, w = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def turned(first: FloatArray, second: FloatArray) -> FloatArray:
    """Rotation vector of R(first) R(second): ``second`` happens in the frame that ``first`` has turned."""
    return rotation_vector(_product(quaternion(first), quaternion(second)))


def turn_between(first: FloatArray, second: FloatArray) -> FloatArray:
    """Rotation vector d with R(first) R(d) = R(second)."""
    return turned(-np.asarray(first, dtype=np.float64), second)


def _product(p: FloatArray, q: FloatArray) -> FloatArray:
    """Hamilton product."""
    p_vector, p_scalar = p[..., :3], p[..., 3:]
    q_vector, q_scalar = q[..., :3], q[..., 3:]
    vector = p_scalar * q_vector + q_scalar * p_vector + np.cross(p_vector, q_vector)
    scalar = p_scalar * q_scalar - np.sum(p_vector * q_vector, axis=-1, keepdims=True)
    return np.concatenate([vector, scalar], axis=-1)
