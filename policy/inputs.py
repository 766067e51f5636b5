"""What goes into a policy's network besides weights: pictures, noise and the steps of the flow.

Torch-free and shared by training, torch sampling and the ONNX runtime, so that there is one formula for each.
Shapes: N = observations, C = cameras, H = actions in a chunk, A = numbers in an action.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from learning.images import resize_square
from learning.seeding import generator
from robot_stack.core.errors import ShapeError
from robot_stack.core.robot_spec import ActionKind
from robot_stack.core.types import FloatArray, ImageArray

Float32Array = npt.NDArray[np.float32]


def prepare_images(images: ImageArray, size: int) -> Float32Array:
    """Pictures as the network sees them.

    Args:
        images: [N, C, height, width, 3] uint8 RGB.
        size: side of the result [px]; see ``resize_square``.

    Returns:
        [N, C, 3, size, size] float32, 0..1.
    """
    if images.ndim != 5:
        raise ShapeError("images", images.shape, "[N, C, height, width, 3]")
    images = resize_square(images, size)
    scaled = np.ascontiguousarray(np.moveaxis(images, -1, 2)).astype(np.float32)
    scaled /= 255.0
    return scaled


def chunk_noise(seeds: Sequence[int], index: int, chunk_length: int, action_dim: int) -> Float32Array:
    """Noise x_1 of chunk ``index`` of the episodes ``seeds`` [N, H, A]: the same on every machine and in every batch."""
    draws = [generator("policy noise", int(seed), index).standard_normal((chunk_length, action_dim)) for seed in seeds]
    return np.stack(draws).astype(np.float32)


def flow_times(steps: int) -> Float32Array:
    """Times t_0 = 1 > ... > t_K = 0 of ``steps`` = K equal steps from noise to data [K + 1]."""
    if steps < 1:
        raise ValueError(f"flow steps must be at least 1, got {steps}")
    return np.linspace(1.0, 0.0, steps + 1, dtype=np.float32)


def clip_grippers(deltas: FloatArray, kinds: Sequence[ActionKind]) -> FloatArray:
    """Physical actions [..., A] with grippers inside 0..1, where the flow's noise leaves them a little beyond.

    Everything else is left to the guard, which counts what it changes.
    """
    grippers = [i for i, kind in enumerate(kinds) if kind is ActionKind.GRIPPER]
    clipped = np.array(deltas)
    clipped[..., grippers] = np.clip(clipped[..., grippers], 0.0, 1.0)
    return clipped
