"""Any vector environment of ours, true or imagined, as a ``gymnasium.vector.VectorEnv``. Needs the ``sim`` or ``train`` extra.

Shapes: N = environments, H = actions in a chunk, A = numbers in an action. One step executes a chunk. An environment that has
succeeded is terminated and stands still; none is reset by itself.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector.utils import batch_space

from robot_stack.core.errors import ProphRLError, ShapeError
from robot_stack.core.ports import EnvironmentStep, VectorEnvironment
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.seeding import generator
from robot_stack.core.types import FloatArray

Observation = dict[str, npt.NDArray[Any]]
Outcome = tuple[Observation, FloatArray, npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]


class GymVectorEnv(gymnasium.vector.VectorEnv[Observation, FloatArray, Any]):
    """Observations are ``images`` [N, height, width, 3] uint8 and ``commanded`` [N, A]; actions chunks of deltas [N, H, A].

    The reward is 1 in the step in which an environment succeeds (in imagination: by the judge's verdict), else 0. ``info`` is
    that of the environment.

    Args:
        environment: wrapped in a ``HorizonGuard`` where episodes shall be truncated.
        spec: the robot.
        starts: to choose from, seeds of a simulator or indices of recorded moments.
        num_envs: N.
        chunk_length: H.
        image_size: of the environment's pictures [px]; None: the robot's first camera.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}

    def __init__(
        self,
        environment: VectorEnvironment,
        spec: RobotSpec,
        starts: Sequence[int],
        num_envs: int,
        chunk_length: int,
        image_size: int | None = None,
    ) -> None:
        if not starts or num_envs < 1:
            raise ProphRLError("a vector environment needs starts to choose from and at least one environment")
        self._environment, self._starts, self.num_envs = environment, tuple(starts), num_envs
        camera = spec.cameras[0]
        height, width = (camera.height, camera.width) if image_size is None else (image_size, image_size)
        self.single_observation_space = gymnasium.spaces.Dict(
            {
                "images": gymnasium.spaces.Box(0, 255, (height, width, 3), np.uint8),
                # Unbounded: a recorded start may lie outside of what may be commanded now.
                "commanded": gymnasium.spaces.Box(-np.inf, np.inf, (len(spec.actions),), np.float64),
            }
        )
        limits = [
            (0.0, 1.0) if kind is ActionKind.GRIPPER else (-step, step)
            for kind, step in zip(spec.action_kinds, spec.max_step, strict=True)
        ]
        lower, upper = (np.tile([limit[side] for limit in limits], (chunk_length, 1)) for side in (0, 1))
        self.single_action_space = gymnasium.spaces.Box(lower, upper, dtype=np.float64)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._succeeded: npt.NDArray[np.bool_] = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin anew from ``options["starts"]`` [N], or from starts drawn by ``seed``.

        Raises:
            ShapeError: not N starts.
        """
        chosen = (options or {}).get("starts")
        if chosen is None:
            rows = generator("gymnasium reset", 0 if seed is None else str(seed)).integers(
                len(self._starts), size=self.num_envs
            )
            chosen = [self._starts[row] for row in rows]
        if len(chosen) != self.num_envs:
            raise ShapeError("starts", (len(chosen),), f"[{self.num_envs}]")
        seen = self._environment.reset(chosen)
        self._succeeded = seen.success.copy()
        return _observed(seen), dict(seen.info)

    def step(self, actions: FloatArray) -> Outcome:
        """Execute a chunk in every environment."""
        seen = self._environment.step(np.asarray(actions, dtype=np.float64))
        reward = (seen.success & ~self._succeeded).astype(np.float64)
        self._succeeded = seen.success.copy()
        truncated = np.full(self.num_envs, seen.truncated) & ~seen.success
        return _observed(seen), reward, seen.success.copy(), truncated, dict(seen.info)

    def close_extras(self, **_: Any) -> None:
        """Free what the environment holds."""
        self._environment.close()


def _observed(seen: EnvironmentStep) -> Observation:
    return {"images": seen.images, "commanded": seen.commanded}
