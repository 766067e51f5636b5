"""A world with a known optimum: a red point has to reach a green one, seen in 16 px pictures."""

from collections.abc import Sequence

import numpy as np
import torch

from learning.episode import Episode
from learning.normalisation import Normaliser
from learning.seeding import generator
from policy.flow_policy import FlowPolicy
from policy.networks import NetworkSettings
from robot_stack.core.ports import EnvironmentStep
from robot_stack.core.robot_spec import RobotSpec

SIZE, REACH, SPEED = 16, 0.1, 0.05
INSTRUCTION = "reach the green point"
HORIZON = 10


class PointReach:
    """Implements ``VectorEnvironment``; success is being within REACH of the target. ``scored``: as a judge sees it."""

    def __init__(self, scored: bool = False) -> None:
        self.scored = scored
        self.episodes = 0

    def reset(self, starts: Sequence[int], noise_seeds: Sequence[int] | None = None) -> EnvironmentStep:
        angles = np.array([generator("point", int(start)).uniform(0, 2 * np.pi) for start in starts])
        self.target = 0.5 + 0.33 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        self.position = np.full((len(starts), 2), 0.5)
        self.success = np.zeros(len(starts), dtype=bool)
        self.ticks = np.zeros(len(starts), dtype=np.int64)
        self.episodes += len(starts)
        return self._observe({})

    def step(self, deltas: np.ndarray) -> EnvironmentStep:
        scores = np.zeros(deltas.shape[:2])
        for h in range(deltas.shape[1]):
            self.ticks += ~self.success
            self.position = np.clip(self.position + np.clip(deltas[:, h, :2], -SPEED, SPEED), 0, 1)
            distance = np.linalg.norm(self.position - self.target, axis=1)
            self.success |= distance < REACH
            scores[:, h] = 1 / (1 + np.exp((distance - REACH) / 0.03))
        return self._observe({"scores": scores} if self.scored else {"ticks": self.ticks.copy()})

    def close(self) -> None:
        pass

    def _observe(self, info: dict) -> EnvironmentStep:
        commanded = np.concatenate([self.position, np.zeros((len(self.position), 2))], axis=1)
        return EnvironmentStep(picture(self.position, self.target), commanded, self.success.copy(), info)


def picture(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Two blobs [N, SIZE, SIZE, 3]."""
    grid = (np.arange(SIZE) + 0.5) / SIZE
    images = np.zeros((len(position), SIZE, SIZE, 3))
    for channel, points in ((0, position), (1, target)):
        x, y = (np.exp(-((grid - points[:, axis, None]) ** 2) / (2 * 0.08**2)) for axis in (0, 1))
        images[..., channel] = 255 * y[:, :, None] * x[:, None, :]
    return images.astype(np.uint8)


def timid_demonstrations(count: int) -> list[Episode]:
    """Demonstrations in the right direction, but mostly too slow to arrive in time: imitation alone cannot be good."""
    world, episodes = PointReach(), []
    for seed in range(count):
        world.reset([100_000 + seed])
        random = generator("demonstration", seed)
        rows = {"images": [], "commanded": [], "deltas": []}
        speed = random.uniform(0.2, 0.65) * SPEED
        for _ in range(HORIZON):
            way = world.target[0] - world.position[0]
            delta = np.append(speed * way / np.linalg.norm(way) + random.normal(0, 0.004, 2), [0.0, 1.0])
            rows["images"].append(picture(world.position, world.target)[0])
            rows["commanded"].append(np.append(world.position[0], [0.0, 0.0]))
            rows["deltas"].append(delta)
            world.step(delta[None, None])
        arrays = {name: np.stack(values) for name, values in rows.items()}
        commanded = arrays["commanded"].astype(np.float32)
        episodes.append(
            Episode(
                name=f"demo{seed}", images={"front": arrays["images"]}, state=commanded, commanded=commanded,
                deltas=arrays["deltas"].astype(np.float32), instruction=INSTRUCTION, source="expert", success=True,
            )
        )  # fmt: skip
    return episodes


def new_policy(spec: RobotSpec) -> FlowPolicy:
    torch.manual_seed(0)
    settings = NetworkSettings(image_size=SIZE, channels=(8, 16, 16), image_tokens=2, width=32, depth=1, heads=2)
    scale = np.array([0.02, 0.02, 0.02, 0.5])
    embedding = {INSTRUCTION: generator("embedding").standard_normal(384).astype(np.float32)}
    return FlowPolicy.for_robot(settings, spec, Normaliser(np.zeros(4), scale), Normaliser(np.zeros(4), np.ones(4)), embedding)


def make_world(spec: RobotSpec, task: str, **_: object) -> PointReach:
    """For ``config/evaluation``: the toy world in place of a simulator."""
    assert task == "point-reach"
    return PointReach()
