"""What ``benchmarks.imagination`` measures: Prophet with a judge, the simulator beside it, and actions for both.

Shapes: N = environments, H = actions in a chunk, A = numbers in an action.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.prophet_cell import settings_of
from benchmarks.study_data import TEACHING, dataset, study_episodes
from learning.episode import Episode
from learning.hydra_entry import build
from learning.seeding import generator
from robot_stack.core.errors import ProphRLError
from robot_stack.core.ports import EnvironmentStep
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray, ImageArray
from robot_stack.drivers.sim_vector_env import SimVectorEnv
from world_model.acquaintance import knowing
from world_model.checkpoint import Prophet
from world_model.imagination import StartContext
from world_model.imagined_env import ImaginedEnv
from world_model.judge import Judge, JudgeSettings, SuccessClassifier, tokenizer_hash
from world_model.precision import BFLOAT16
from world_model.sampler import SamplerSettings
from world_model.settings import WorldModelSettings
from world_model.train import new_prophet, read_weights

EPISODES = 8
NEVER = 2.0  # a threshold that no probability reaches
SPEED_M = 0.01  # std of a random step of the tool; it goes 0.04 m at most


@dataclass(frozen=True)
class Subject:
    """What is measured; every process makes it anew.

    Attributes:
        world_model: folder of Prophet's weights, "shipped", or None for an untrained one of ``config/world_model/tiny.yaml``.
        task: Meta-World task.
        work: folder of the figures.
        episodes: of random motion, to normalise by, to train on and to begin from.
    """

    world_model: str | None
    task: str
    work: Path
    episodes: Sequence[Episode]

    @classmethod
    def made(cls, world_model: str | None, task: str, work: Path) -> "Subject":
        """A subject with its episodes, which ``work`` keeps."""
        _, spec, _ = settings_of([])
        return cls(world_model, task, work, study_episodes(spec, task, {"random": EPISODES}, TEACHING, work / "episodes"))


@dataclass(frozen=True)
class World:
    """The subject in memory.

    Attributes:
        prophet, judge: networks; the judge is untrained and never calls anything a success.
        settings: of the world model.
        spec: the robot.
        episodes: see ``Subject``.
    """

    prophet: Prophet
    judge: Judge
    settings: WorldModelSettings
    spec: RobotSpec
    episodes: Sequence[Episode]

    @property
    def moments(self) -> list[StartContext]:
        """Moments to begin from: every frame of the episodes, without its past."""
        camera = self.prophet.domain.camera
        return [
            self.moment(image, target)
            for episode in self.episodes
            for image, target in zip(episode.images[camera], np.asarray(episode.commanded, dtype=np.float64), strict=True)
        ]

    def moment(self, image: ImageArray, target: FloatArray) -> StartContext:
        """A moment to begin from; the camera stands where it stood in the episodes."""
        return StartContext.at_rest(image, target, self.episodes[0].cameras.get(self.prophet.domain.camera))

    def imagined(self, starts: Sequence[StartContext], steps: int | None = None, *, compiled: bool = False) -> ImaginedEnv:
        """An imagined environment that draws in ``steps`` steps, by default as configured; compiled: and in bfloat16."""
        sampler = self.settings.sampler
        if steps is not None:
            sampler = SamplerSettings(steps, sampler.batch_size)
        if compiled:
            most = min(sampler.batch_size, len(starts))  # what is filled up costs as much
            sampler = dataclasses.replace(sampler, batch_size=most, precision=BFLOAT16, compiled=True)
        return ImaginedEnv(self.prophet, self.judge, starts, self.spec, sampler)

    def simulator(self, task: str, most: int) -> SimVectorEnv:
        """Up to ``most`` arms that show pictures as large as the imagined ones, in a process for each core; up and running."""
        size = self.prophet.latent_shape.image_size
        cameras = tuple(dataclasses.replace(camera, width=size, height=size) for camera in self.spec.cameras)
        workers = min(cores(), most)
        simulator = SimVectorEnv(dataclasses.replace(self.spec, cameras=cameras), task, workers, -(-most // workers))
        simulator.reset(range(most))  # answered when every process has made its arms
        return simulator

    def chunks(self, count: int, batch: int, key: str | int) -> list[FloatArray]:
        """``count`` chunks of random delta actions [batch, H, A]; the same for the same ``key``."""
        random = generator("benchmark of imagination", key)
        shape = (count, batch, self.prophet.settings.chunk_length, len(self.spec.actions))
        deltas = SPEED_M * random.standard_normal(shape)
        gripper = [kind is ActionKind.GRIPPER for kind in self.spec.action_kinds]
        deltas[..., gripper] = random.random((*shape[:-1], sum(gripper)))
        return list(deltas)


def make_world(subject: Subject) -> World:
    """The subject, with all cores for torch.

    Raises:
        BadFileError, SpecMismatchError: weights that cannot be read, or know another robot.
    """
    settings, spec, config = settings_of([])
    torch.set_num_threads(cores())
    data = dataset(spec, subject.episodes)
    if subject.world_model is None:
        prophet = new_prophet(settings, [data], seed=0)
    else:
        prophet = knowing(read_weights(subject.world_model), data)
    for network in (prophet.tokenizer, prophet.transformer):
        network.eval().requires_grad_(False)
    reward: JudgeSettings = build(config.reward)
    shape = prophet.latent_shape
    judge = Judge(SuccessClassifier(reward, shape.channels, shape.size).eval(), reward, NEVER, tokenizer_hash(prophet))
    return World(prophet, judge, settings, spec, subject.episodes)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def check_moving(seen: EnvironmentStep, ticks: int) -> None:
    """Refuse a measurement in which a rollout stands still, which costs nothing.

    Args:
        seen: outcome of the last chunk.
        ticks: actions since the reset.

    Raises:
        ProphRLError: a rollout has succeeded, or an arm of the simulator did not take all actions.
    """
    if seen.success.any():
        raise ProphRLError(f"{int(seen.success.sum())} rollouts have succeeded and stand still: take another --task")
    if (np.asarray(seen.info.get("ticks", ticks)) != ticks).any():
        raise ProphRLError(f"arms took {seen.info['ticks'].tolist()} actions instead of {ticks}")


def described(world: World, subject: Subject) -> str:
    """What is measured, for people."""
    shape, settings = world.prophet.latent_shape, world.prophet.settings
    sizes = [
        sum(parameter.numel() for parameter in network.parameters()) / 1e6
        for network in (world.prophet.transformer, world.prophet.tokenizer, world.judge.network)
    ]
    weights = "an untrained Prophet of config/world_model/tiny.yaml (weights do not change the speed)"
    if subject.world_model is not None:
        weights = f"Prophet ({'shipped weights' if subject.world_model == 'shipped' else Path(subject.world_model).name})"
    return (
        f"{weights}, {sizes[0]:.2f} M parameters, with its tokenizer ({sizes[1]:.2f} M) and an untrained judge "
        f"({sizes[2]:.2f} M): pictures of {shape.image_size} px as {shape.size} x {shape.size} x {shape.channels} latents, "
        f"chunks of {settings.chunk_length} actions, {settings.history.frames} frames of history, "
        f"{world.settings.sampler.steps} sampling step(s), {world.settings.sampler.batch_size} clips at once"
    )
