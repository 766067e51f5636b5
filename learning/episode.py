"""One recorded episode in memory, as policy and world model read it.

Shapes: T = frames, A = numbers in an action, S = numbers in the state, images [T, H, W, 3] RGB uint8.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from robot_stack.core.camera import CameraModel
from robot_stack.core.errors import ProphRLError, ShapeError

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
        rate_hz: frames a second; None: not known.
        cameras: camera name -> its lens and its place, where it is calibrated; the same at every frame.
        positions: thing -> its position [T, 3] [m] in the base frame at each frame: "tool", "object", "goal" and so on. Known
            in a simulator only; for probes and to weigh errors, never for a policy.

    Raises:
        ShapeError: arrays of different lengths, or a camera that makes pictures of another size than the episode's.
        ProphRLError: the rate is not positive.
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
    rate_hz: float | None = None
    cameras: Mapping[str, CameraModel] = field(default_factory=dict)
    positions: Mapping[str, Float32Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        length = len(self.deltas)
        arrays: dict[str, npt.NDArray[Any]] = {"state": self.state, "commanded": self.commanded, **self.images}
        for what, array in arrays.items():
            if len(array) != length:
                raise ShapeError(f"{what} of episode {self.name}", array.shape, f"[{length}, ...]: one row for each action")
        for thing, track in self.positions.items():
            if track.shape != (length, 3):
                raise ShapeError(f"positions of {thing} in episode {self.name}", track.shape, f"[{length}, 3]")
        for name, camera in self.cameras.items():
            size = self.images[name].shape[1:3] if name in self.images else (camera.height, camera.width)
            if size != (camera.height, camera.width):
                wanted = f"[{camera.height}, {camera.width}] as its calibration says; CameraModel.scaled fits that to others"
                raise ShapeError(f"pictures of camera {name} in episode {self.name}", size, wanted)
        if self.rate_hz is not None and not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise ProphRLError(
                f"rate_hz of episode {self.name} must be positive, or None where it is not known, got {self.rate_hz}"
            )

    def __len__(self) -> int:
        return len(self.deltas)
