"""Fixtures of the RL tests: a policy after imitation in the world of ``point_reach``."""

from dataclasses import replace

import pytest
import torch

from policy.flow_policy import FlowPolicy
from policy.train import TrainSettings, fit
from rl.rollout import Episodes
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import robot_file
from tests.rl.point_reach import HORIZON, INSTRUCTION, SIZE, new_policy, timid_demonstrations


@pytest.fixture(scope="session")
def spec() -> RobotSpec:
    shipped = RobotSpec.load(robot_file("sim_metaworld"))
    return replace(shipped, cameras=(replace(shipped.cameras[0], width=SIZE, height=SIZE),))


@pytest.fixture(scope="session")
def trained_weights(spec) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    policy = new_policy(spec)
    settings = TrainSettings(steps=150, batch_size=32, lr=2e-3, checkpoint_every=150)
    fit(policy, timid_demonstrations(60), settings, progress=False)
    return {name: tensor.clone() for name, tensor in policy.state_dict().items()}


@pytest.fixture
def policy(spec, trained_weights) -> FlowPolicy:
    """A policy after imitation; each test gets its own."""
    policy = new_policy(spec)
    policy.load_state_dict(trained_weights)
    return policy.eval()


@pytest.fixture
def episodes() -> Episodes:
    return Episodes(horizon=HORIZON, instruction=INSTRUCTION, run=0)
