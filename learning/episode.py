"""One recorded episode in memory, as policy and world model read it.

Shapes: T = frames, A = numbers in an action, S = numbers in the state, images [T, H, W, 3] RGB uint8.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robot_stack.core.errors import ShapeError

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Episode:
    """Frames and the actions between them.

    Attributes:
        name: unique within its dataset.
        images: camera name -> [T, H, W, 3] uint8.
        state: measured state [T, S], SI units, ``RobotSpec.state_names``.
        commanded: target in force at frame t [T, A]; ``commanded[0]`` is the reference of ``deltas[0]``.
        deltas: delta action (``core.actions``) executed from frame t to t + 1 [T, A]; what the last one led to was not seen.
        instruction: the task in words.
        task: task name ("" where unknown).
        source: who acted: "expert", "noisy", "random", "teleop" or "policy:<hash>".
        success: True, False, or None where nobody judged.
        first_success: first frame at which the task was done, or None.
    """

    name: str
    images: Mapping[str, npt.NDArray[np.uint8]]
    state: Float32Array
    commanded: Float32Array
    deltas: Float32Array
    instruction: str
    task: str = ""
    source: str = ""
    success: bool | None = None
    first_success: int | None = None

    def __post_init__(self) -> None:
        length = len(self.deltas)
        arrays: dict[str, npt.NDArray[Any]] = {"state": self.state, "commanded": self.commanded, **self.images}
        for what, array in arrays.items():
            if len(array) != length:
                raise ShapeError(f"{what} of episode {self.name}", array.shape, f"[{length}, ...]: one row for each action")

    def __len__(self) -> int:
        return len(self.deltas)
