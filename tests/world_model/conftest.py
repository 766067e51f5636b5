"""A tiny world: a square on a grey table that goes where the actions say, 32 px, a few seconds of training at most."""

import numpy as np
import pytest
import torch

from learning.data_sources import Dataset
from learning.episode import Episode
from learning.fitting import FitSettings
from learning.seeding import generator
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import robot_file
from world_model.autoencoder import AutoencoderSettings
from world_model.checkpoint import Prophet
from world_model.judge import Judge, JudgeSettings, SuccessClassifier, tokenizer_hash
from world_model.latent_scale import LatentScale
from world_model.settings import Phase, WorldModelSettings
from world_model.sizes import BackboneSettings, HistorySettings, ProphetSettings
from world_model.train import new_prophet

SIZE = 32
FRAMES = 16
DONE_AT = 0.25  # the task: the square's x beyond this [m]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def spec():
    return RobotSpec.load(robot_file("sim_metaworld"))


@pytest.fixture(scope="session")
def settings():
    tiny = FitSettings(steps=6, batch_size=4, lr=1e-3, warmup=2, log_every=2, ema_decay=0.5)
    return WorldModelSettings(
        autoencoder=AutoencoderSettings(image_size=SIZE, channels=8, fine_width=8, coarse_width=16, coarse_blocks=1),
        transformer=ProphetSettings(
            backbone=BackboneSettings(heads=2, head_width=16, layers=2, lora_width=8),
            history=HistorySettings(frames=3, span=8),
            action_width=16,
        ),
        pretrain=Phase(tiny, tiny),
        adapt=Phase(tiny, tiny),
        validation_every=4,
    )


def square_episode(seed: int, task: str = "reach-v3") -> Episode:
    """An episode of random motion from start ``seed``."""
    random = generator("square", seed)
    commanded = np.zeros((FRAMES, 4))
    deltas = np.zeros((FRAMES, 4))
    deltas[:, :3] = 0.03 * random.normal(size=3) + 0.01 * random.normal(size=(FRAMES, 3))
    deltas[:, 3] = random.integers(2)
    commanded[0] = [0.0, 0.6, 0.2, deltas[0, 3]]
    for t in range(1, FRAMES):
        commanded[t] = [*(commanded[t - 1, :3] + deltas[t - 1, :3]), deltas[t - 1, 3]]
    done = commanded[:, 0] > DONE_AT
    return Episode(
        name=f"square.{seed:04d}",
        images={"front": np.stack([draw(pose) for pose in commanded])},
        state=commanded.astype(np.float32),
        commanded=commanded.astype(np.float32),
        deltas=deltas.astype(np.float32),
        instruction="reach",
        task=task,
        success=bool(done.any()),
        first_success=int(np.argmax(done)) if done.any() else None,
    )


def draw(pose: np.ndarray) -> np.ndarray:
    """A picture of the square at ``pose``."""
    image = np.full((SIZE, SIZE, 3), 90, dtype=np.uint8)
    column, row = (np.clip(16 + 40 * (pose[:2] - [0.0, 0.6]), 3, SIZE - 4)).astype(int)
    image[row - 3 : row + 3, column - 3 : column + 3] = [220, 60, 40]
    return image


@pytest.fixture(scope="session")
def episodes():
    return [square_episode(seed) for seed in range(12)]


def dataset_of(episodes, spec, name: str = "square") -> Dataset:
    """``episodes`` as those of the embedded robot."""
    return Dataset(name, tuple(episodes), 1.0, spec.rate_hz, spec.action_kinds, spec.name, spec.fingerprint, ("front",))


@pytest.fixture
def prophet(settings, spec, episodes) -> Prophet:
    """Untrained but not trivial: layers that are zero at the start hold small numbers."""
    made = new_prophet(settings, [dataset_of(episodes, spec)], seed=0)
    torch.manual_seed(1)
    transformer = made.transformer
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.2)
    torch.nn.init.normal_(transformer.history_gates, std=0.5)
    for stream in (transformer.chunk_actions, transformer.frame_actions):
        torch.nn.init.normal_(stream.to_time[-1].weight, std=0.2)
        torch.nn.init.normal_(stream.to_adaln[-1].weight, std=0.2)
    transformer.eval().requires_grad_(False)
    made.tokenizer.eval().requires_grad_(False)
    return made.replace(scale=LatentScale((0.0,) * 8, (1.0,)))


@pytest.fixture
def judge(prophet) -> Judge:
    torch.manual_seed(2)
    settings = JudgeSettings(width=8, dropout=0.0)
    network = SuccessClassifier(settings, prophet.latent_shape.channels, prophet.latent_shape.size).eval()
    return Judge(network, settings, 0.5, tokenizer_hash(prophet))
