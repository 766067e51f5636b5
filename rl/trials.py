"""Policies tried in the true environment: the reported evaluation, the choice of checkpoints, and the simulator as upper bound.

Which class the true environment is, only the configuration knows (``config/evaluation``): learning does not depend on a robot.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from policy.flow_policy import FlowPolicy
from rl.evaluation import Evaluation, evaluate
from rl.rollout import Episodes
from robot_stack.core.errors import ProphRLError
from robot_stack.core.ports import VectorEnvironment
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import robot_file


@dataclass(frozen=True)
class EvaluationSettings:
    """How policies are tried.

    Attributes:
        environment: makes the true environment from ``spec`` and ``task``.
        episodes: reported episodes, from ``task.seeds.evaluation`` on.
        batch: episodes side by side; at most what the environment takes.
        against: an earlier ``evaluation.json`` on the same starts, to compare with.
    """

    environment: Callable[..., VectorEnvironment]
    episodes: int = 200
    batch: int = 16
    against: str | None = None

    def __post_init__(self) -> None:
        if min(self.episodes, self.batch) < 1:
            raise ValueError(f"episodes and batch must be at least 1, got {self.episodes} and {self.batch}")


class Trials:
    """The true environment of one task, made when it is first needed.

    Args:
        settings: see ``EvaluationSettings``.
        spec: the robot.
        task: as ``config/task``: name, instruction (None: the policy's only one), horizon, seeds.
        run: seed of the run.
    """

    def __init__(self, settings: EvaluationSettings, spec: RobotSpec, task: dict[str, Any], run: int) -> None:
        self.settings = settings
        self._spec = spec
        self._task = task
        self._run = run
        self._environment: VectorEnvironment | None = None

    @property
    def environment(self) -> VectorEnvironment:
        """The true environment."""
        if self._environment is None:
            self._environment = self.settings.environment(spec=self._spec, task=self._task["name"])
        return self._environment

    def seeds(self, purpose: str, count: int) -> range:
        """The first ``count`` start seeds of the task for ``purpose``."""
        first = int(self._task["seeds"][purpose])
        return range(first, first + count)

    def episodes(self, policy: FlowPolicy) -> Episodes:
        """Horizon and instruction of this task for ``policy``.

        Raises:
            ProphRLError: the policy knows several instructions and the task names none.
        """
        instruction = self._task["instruction"]
        if instruction is None:
            known = sorted(policy.manifest.instructions)
            if len(known) != 1:
                raise ProphRLError(
                    f"the policy knows several instructions; choose one by task.instruction=...: {', '.join(known)}"
                )
            instruction = known[0]
        return Episodes(horizon=int(self._task["horizon"]), instruction=instruction, run=self._run)

    def evaluate(self, policy: FlowPolicy, starts: Sequence[int], progress: bool = False) -> Evaluation:
        """Success of ``policy`` from each of ``starts``."""
        return evaluate(policy, self.environment, starts, self.episodes(policy), self.settings.batch, progress=progress)

    def close(self) -> None:
        """Free the environment."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None


class SuccessScore:
    """True success on seeds kept apart, as a score that chooses a checkpoint of supervised training.

    Args:
        evaluation, robot, task, seed: as in the configuration.
        purpose: whose seeds, of ``task.seeds``.
        episodes: how many.
    """

    def __init__(
        self, evaluation: EvaluationSettings, robot: str, task: dict[str, Any], seed: int, purpose: str, episodes: int
    ) -> None:
        self._trials = Trials(evaluation, RobotSpec.load(robot_file(robot)), task, seed)
        self._starts = self._trials.seeds(purpose, episodes)
        self.true_episodes = 0

    def __call__(self, policy: FlowPolicy) -> float:
        self.true_episodes += len(self._starts)
        return self._trials.evaluate(policy, self._starts).rate
