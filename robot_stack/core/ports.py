"""Interfaces between the loop and what it drives: at most five methods each.

Shapes: N = environments side by side, H = actions in a chunk, A = numbers in an action, P = committed actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from robot_stack.core.camera import CameraModel
from robot_stack.core.types import ActionChunk, CameraFrame, CameraInfoValues, Command, FloatArray, ImageArray, Observation


class Observer(Protocol):
    """Assembles what is known now into one observation."""

    def observe(self, now_ns: int) -> Observation | None:
        """The observation at ``now_ns``, or None while a stream has not delivered yet."""
        ...


class Robot(Protocol):
    """An arm that follows absolute targets.

    Attributes:
        brakes_itself: whether it follows the tail of a command when it hears nothing more; else it stands still at once.
    """

    brakes_itself: bool

    def start(self, reference: FloatArray) -> None:
        """Begin at rest at ``reference`` [A], the target in force; nothing moves yet."""
        ...

    def send(self, command: Command) -> None:
        """Tell the arm where to go in this tick, and how to stop if nothing else is heard."""
        ...


class Kinematics(Protocol):
    """Where an arm's points are for given joints."""

    def points(self, joints: FloatArray) -> FloatArray:
        """Positions [N, K, 3] [m] in the base frame of the named points, for joints [N, J] [rad]."""
        ...


class Motion(Protocol):
    """How the actions that policies speak (A numbers) become what an arm is commanded by (M numbers), and back."""

    def to_commands(self, near: FloatArray, targets: FloatArray) -> FloatArray:
        """Commands [H, M] for targets [H, A], found from ``near`` [M].

        Raises:
            ProphRLError: the arm cannot go there, or should not.
        """
        ...

    def to_actions(self, commands: FloatArray) -> FloatArray:
        """Actions [N, A] that commands [N, M] amount to."""
        ...


class Camera(Protocol):
    """A source of pictures; used by one thread at a time. After ``close`` it can be started again."""

    def start(self) -> None:
        """Open the device.

        Raises:
            UnknownNameError: there is no such device.
            CameraError: it cannot be opened as it was asked for.
        """
        ...

    def read(self, timeout_s: float) -> CameraFrame | None:
        """The next picture, younger than every one before it; None where none came within about ``timeout_s``.

        Raises:
            CameraError: the device is gone.
        """
        ...

    @property
    def info(self) -> CameraInfoValues:
        """What ``start`` found out about the camera."""
        ...

    def close(self) -> None:
        """Let go of the device; harmless where it is not open."""
        ...


class Policy(Protocol):
    """Maps an observation to a chunk of absolute targets."""

    def reset(self, seed: int) -> None:
        """Forget the episode; the noise of the next one derives from ``seed``."""
        ...

    def infer(self, observation: Observation, prefix: FloatArray) -> ActionChunk:
        """A chunk that continues from ``prefix`` [P, A], the absolute targets that will be sent in any case."""
        ...


@dataclass(frozen=True)
class EnvironmentStep:
    """Outcome of one chunk in N environments.

    Attributes:
        images: last frame of the chunk [N, H, W, 3], uint8 RGB.
        commanded: target in force after the chunk [N, A].
        success: whether the episode has been successful so far [N], bool; in imagination, the judge's verdict.
        info: further arrays by name, each with leading dimension N.
        truncated: whether the horizon is reached; without one, never.
        camera: lens and place of the camera that made the images; None where it is not calibrated.
        instruction: the task in words; empty where the environment does not know it.
    """

    images: ImageArray
    commanded: FloatArray
    success: npt.NDArray[np.bool_]
    info: dict[str, Any] = field(default_factory=dict)
    truncated: bool = False
    camera: CameraModel | None = None
    instruction: str = ""


class VectorEnvironment(Protocol):
    """The true simulator and the imagined environment; a learner cannot tell them apart."""

    def reset(self, starts: Sequence[int], noise_seeds: Sequence[int] | None = None) -> EnvironmentStep:
        """Begin N episodes; ``starts`` are seeds of the simulator or indices of recorded start frames.

        ``noise_seeds`` [N] fix whatever is random inside (a generative model's noise); by default they are the starts.
        """
        ...

    def step(self, deltas: FloatArray) -> EnvironmentStep:
        """Execute chunks of delta actions [N, H, A] (see ``core.actions``) open loop."""
        ...

    def close(self) -> None:
        """Free what the environments hold."""
        ...
