"""Where a policy practises: in Prophet's imagination from start frames, or, as the upper bound, in the true simulator."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from learning.episode_store import load_all
from learning.fitting import training_device
from learning.seeding import generator
from policy.manifest import file_hash
from rl.calibrated import CalibratedScores
from rl.trials import Trials
from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.ports import VectorEnvironment
from robot_stack.core.robot_spec import RobotSpec
from world_model import checkpoint as prophet_files
from world_model import judge as judge_files
from world_model.checkpoint import Prophet, load_prophet
from world_model.imagination import StartContext
from world_model.imagined_env import ImaginedEnv
from world_model.judge import load_judge
from world_model.sampler import SamplerSettings

IMAGINATION, SIMULATOR = "imagination", "simulator"
RESETS, EPISODES = "resets", "episodes"
MakeStarts = Callable[[Prophet], list[StartContext]]


@dataclass(frozen=True)
class PracticeSettings:
    """Where, and from which starts.

    Attributes:
        where: "imagination" or "simulator".
        starts: start frames (or seeds) to choose from.
        sharpness: of the reward around the certainty at which a rollout is a success, see ``calibrated_scores``.
        certainty: in practice a rollout is a success, and ends, where the judge is so sure of it; never below its threshold. At
            the threshold what has only begun well ends as a success: a button half pressed looks like one about to be pressed.
        starts_from: "resets": pictures of the true scene set up anew, without an episode; "episodes": first frames of ``data``.
    """

    where: str = IMAGINATION
    starts: int = 64
    starts_from: str = RESETS
    sharpness: float = 2.0
    certainty: float = 0.0

    def __post_init__(self) -> None:
        if self.where not in (IMAGINATION, SIMULATOR):
            raise UnknownNameError("place to practise", self.where, (IMAGINATION, SIMULATOR))
        if self.starts_from not in (RESETS, EPISODES):
            raise UnknownNameError("source of starts", self.starts_from, (RESETS, EPISODES))
        if self.starts < 1 or not self.sharpness > 0:
            raise ValueError(f"need at least one start and a positive sharpness, got {self.starts} and {self.sharpness}")
        if not 0.0 <= self.certainty < 1.0:
            raise ValueError(f"certainty must be in [0, 1), got {self.certainty}")


@dataclass(frozen=True)
class Practice:
    """A place to practise.

    Attributes:
        environment: the place.
        pool: starts to choose from.
        is_true: its episodes are true ones.
        identity: what must be equal for a saved run to be continued in it.
    """

    environment: VectorEnvironment
    pool: Sequence[int]
    is_true: bool
    identity: dict[str, object] = field(default_factory=dict)

    def close(self) -> None:
        """Free what the imagination holds; the true environment belongs to its trials."""
        if not self.is_true:
            self.environment.close()


def in_simulator(settings: PracticeSettings, truth: Trials) -> Practice:
    """The upper bound: every rollout is a true episode."""
    return Practice(truth.environment, truth.seeds("rl_practice", settings.starts), is_true=True)


def in_imagination(
    world: Path,
    judge: Path,
    starts: MakeStarts,
    spec: RobotSpec,
    sampler: SamplerSettings,
    settings: PracticeSettings | None = None,
) -> Practice:
    """Prophet and its judge.

    Args:
        world, judge: folders of their checkpoints.
        starts: gives the moments to begin from; they need as much past as the world model looks back on.
        spec: the robot.
        sampler: how frames are drawn.
        settings: of the reward and of success.

    Raises:
        BadFileError: a checkpoint cannot be read.
        SpecMismatchError: robot, world model and judge do not belong together.
    """
    device = training_device()
    prophet = load_prophet(world).to(device)
    moments = starts(prophet)
    identity: dict[str, object] = {
        "world model": prophet_files.weights_hash(world),
        "judge": file_hash(judge / judge_files.MANIFEST),
    }
    settings, referee = settings or PracticeSettings(), load_judge(judge).to(device)
    referee = dataclasses.replace(referee, threshold=max(referee.threshold, settings.certainty))
    imagined = ImaginedEnv(prophet, referee, moments, spec, sampler)
    environment = CalibratedScores(imagined, referee.threshold, settings.sharpness)
    return Practice(environment, range(len(moments)), is_true=False, identity=identity)


def starts_from_resets(truth: Trials, count: int) -> list[StartContext]:
    """Start frames of ``count`` scenes that are set up and photographed but not acted in."""
    seeds, starts = truth.seeds("rl_practice", count), []
    for first in range(0, count, truth.settings.batch):
        seen = truth.environment.reset(seeds[first : first + truth.settings.batch])
        starts += [
            StartContext.at_rest(image, commanded, seen.camera, seen.instruction)
            for image, commanded in zip(seen.images, seen.commanded, strict=True)
        ]
    return starts


def starts_from_episodes(paths: Sequence[Path], prophet: Prophet, spec: RobotSpec, count: int, run: int) -> list[StartContext]:
    """First frames of up to ``count`` recorded episodes, drawn by ``run``.

    Raises:
        ProphRLError: no episodes.
    """
    episodes = load_all(paths, spec) if paths else []
    if not episodes:
        raise ProphRLError("no episodes to start from: give data=<dataset folder>, or rl.practice.starts_from=resets")
    chosen = generator(run, "start episodes").permutation(len(episodes))[:count]
    return [StartContext.of_episode(episodes[row], prophet.domain.camera, 0, prophet.settings.span) for row in chosen]
