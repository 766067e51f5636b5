"""Where a policy practises: in Prophet's imagination from start frames, or, as the upper bound, in the true simulator."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from omegaconf import DictConfig

from rl.trials import Trials
from robot_stack.core.errors import UnknownNameError
from robot_stack.core.ports import VectorEnvironment

IMAGINATION, SIMULATOR = "imagination", "simulator"


@dataclass(frozen=True)
class PracticeSettings:
    """Where, and from which starts.

    Attributes:
        where: "imagination" or "simulator".
        starts: start frames (or seeds) to choose from.
    """

    where: str = IMAGINATION
    starts: int = 64

    def __post_init__(self) -> None:
        if self.where not in (IMAGINATION, SIMULATOR):
            raise UnknownNameError("place to practise", self.where, (IMAGINATION, SIMULATOR))
        if self.starts < 1:
            raise ValueError(f"need at least one start, got {self.starts}")


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


def make_practice(config: DictConfig, settings: PracticeSettings, truth: Trials) -> Practice:
    """The place that ``settings`` name.

    Raises:
        ProphRLError: a checkpoint is missing or does not fit the robot.
    """
    seeds = truth.seeds("rl_practice", settings.starts)
    if settings.where == SIMULATOR:
        return Practice(truth.environment, seeds, is_true=True)
    raise NotImplementedError
