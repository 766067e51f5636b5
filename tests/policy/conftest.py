"""A tiny untrained policy and made-up demonstrations: no simulator, no checkpoint, no text encoder."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from learning.episode import Episode
from learning.normalisation import Normaliser
from policy.flow_policy import FlowPolicy
from policy.networks import NetworkSettings
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import robot_file

INSTRUCTIONS = ("press the button", "open the drawer")
SMALL = NetworkSettings(channels=(8, 8, 16), image_tokens=2, width=32, depth=2, heads=2)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on busy cores: threads would mostly wait for each other, and sums would depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def spec() -> RobotSpec:
    return RobotSpec.load(robot_file("sim_metaworld"))


@pytest.fixture(scope="session")
def episodes() -> list[Episode]:
    """Pictures whose brightness says which way to go, and the way."""
    random = np.random.default_rng(0)
    made = []
    for number in range(3):
        length = 12
        deltas = random.uniform(-0.04, 0.04, (length, 4)).astype(np.float32)
        deltas[:, 3] = random.uniform(0.0, 1.0, length)
        shade = np.interp(deltas[:, 0], (-0.04, 0.04), (0, 255))[:, None, None, None]
        noise = random.integers(0, 20, (length, 64, 64, 3))
        images = np.clip(shade + noise, 0, 255).astype(np.uint8)
        commanded = np.cumsum(deltas, axis=0).astype(np.float32) + np.float32([0.0, 0.6, 0.2, 0.0])
        made.append(
            Episode(
                name=f"episode-{number}",
                images={"front": images},
                state=commanded + np.float32(0.001),
                commanded=commanded,
                deltas=deltas,
                instruction=INSTRUCTIONS[number % 2],
                success=number != 1,
            )
        )
    return made


def make_policy(spec: RobotSpec, settings: NetworkSettings = SMALL, seed: int = 0, noise: float = 0.1) -> FlowPolicy:
    """Random weights everywhere, also where a fresh network has zeros."""
    random = np.random.default_rng(0)
    embeddings = {text: random.standard_normal(384).astype(np.float32) / 20 for text in INSTRUCTIONS}
    actions = Normaliser(np.array([0.001, 0.0, -0.01, 0.3]), np.array([0.02, 0.03, 0.02, 0.4]))
    state = Normaliser(np.array([0.0, 0.6, 0.2, 0.5]), np.array([0.2, 0.2, 0.1, 0.5]))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        policy = FlowPolicy.for_robot(settings, spec, actions, state, embeddings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    return policy.eval()


@pytest.fixture
def policy(spec: RobotSpec) -> FlowPolicy:
    return make_policy(spec)
