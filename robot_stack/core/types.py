"""What flows through the robot's loop.

Shapes: A = numbers in one action (``RobotSpec.action_names``), S = numbers in the state (``RobotSpec.state_names``),
H = actions in a chunk, P = actions already committed, [H, W, 3] images are RGB, uint8.
Units are SI; poses are in the robot's base frame; times are integer nanoseconds of one clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from robot_stack.core.errors import ShapeError

FloatArray = npt.NDArray[np.float64]
ImageArray = npt.NDArray[np.uint8]
DepthArray = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Observation:
    """What a policy sees at one instant.

    Attributes:
        stamp_ns: time of the observation [ns]: exposure time of the youngest image.
        images: camera name -> RGB image [H, W, 3], uint8.
        state: measured state [S] in the order of ``RobotSpec.state_names``.
        commanded: the target [A] that was in force at ``stamp_ns``; the reference from which delta actions are composed.
        instruction: the task in words.
    """

    stamp_ns: int
    images: Mapping[str, ImageArray]
    state: FloatArray
    commanded: FloatArray
    instruction: str = ""


@dataclass(frozen=True)
class ActionChunk:
    """Absolute targets for the next H ticks.

    Attributes:
        stamp_ns: time of the observation from which the chunk was computed [ns].
        period_ns: time between two targets [ns]; target i is due at ``stamp_ns + (i + 1) * period_ns``.
        targets: absolute targets [H, A].
        source: who made it ("policy", "teleop"), for the log.
    """

    stamp_ns: int
    period_ns: int
    targets: FloatArray
    source: str = field(default="policy")

    def __post_init__(self) -> None:
        if self.targets.ndim != 2 or len(self.targets) == 0:
            raise ShapeError("action chunk", self.targets.shape, "[H, A] with H >= 1")
        if self.period_ns <= 0:
            raise ValueError(f"action chunk: period_ns must be positive, got {self.period_ns}")

    def due_ns(self, index: int) -> int:
        """Time at which target ``index`` is to be reached [ns]."""
        return self.stamp_ns + (index + 1) * self.period_ns


@dataclass(frozen=True)
class Command:
    """What the arm is told in one tick of the executor.

    Attributes:
        stamp_ns: time of the tick [ns].
        period_ns: time in which the target is to be reached, and between the targets of the tail [ns].
        target: absolute target [A], within all limits.
        velocity: mean velocity on the way to it [A], per second; rotations in the tool frame, grippers zero.
        tail: targets [T, A] by which the arm comes to rest within all limits, if nothing else is heard; T = 0: it rests.
    """

    stamp_ns: int
    period_ns: int
    target: FloatArray
    velocity: FloatArray
    tail: FloatArray


@dataclass(frozen=True)
class CameraFrame:
    """One picture of one camera.

    Attributes:
        stamp_ns: middle of its exposure as far as the driver can know, in the system's time [ns].
        image: RGB [H, W, 3], uint8.
        depth: distance along the optical axis, seen from the colour camera's pixels, [H, W], uint16 [mm]; 0: unknown.
    """

    stamp_ns: int
    image: ImageArray
    depth: DepthArray | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ShapeError("picture", self.image.shape, "[H, W, 3]")
        if self.depth is not None and self.depth.shape != self.image.shape[:2]:
            raise ShapeError("aligned depth", self.depth.shape, f"that of its picture, {list(self.image.shape[:2])}")


@dataclass(frozen=True)
class CameraInfoValues:
    """What is known about a camera that has been opened.

    Attributes:
        width, height: of its pictures [px].
        k: pinhole matrix [3, 3] [px]; all zero where the camera is not calibrated, as in sensor_msgs/CameraInfo.
        distortion_model: "plumb_bob" or "equidistant" as in sensor_msgs, or the device's own name for another model.
        distortion: its coefficients.
        serial: serial number, or what else names the device.
    """

    width: int
    height: int
    k: FloatArray
    distortion_model: str = "plumb_bob"
    distortion: tuple[float, ...] = (0.0,) * 5
    serial: str = ""

    @classmethod
    def uncalibrated(cls, width: int, height: int, serial: str) -> "CameraInfoValues":
        """A camera that does not know its own lens."""
        return cls(width, height, np.zeros((3, 3)), serial=serial)

    def resized(self, width: int, height: int) -> "CameraInfoValues":
        """The same camera behind a resize to ``width`` x ``height`` [px]; pixel centres have whole coordinates."""
        across, down = width / self.width, height / self.height
        scale = np.array([[across, 0.0, (across - 1) / 2], [0.0, down, (down - 1) / 2], [0.0, 0.0, 1.0]])
        return replace(self, width=width, height=height, k=scale @ self.k)
