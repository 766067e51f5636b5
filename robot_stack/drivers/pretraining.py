"""Data for the world model straight from the simulator: many tasks for its shipped weights, perturbed actions for its test.

Shapes: A = numbers in one action.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from learning.episode import Episode
from learning.seeding import generator
from robot_stack.core.actions import compose
from robot_stack.core.errors import UnknownNameError
from robot_stack.core.ports import Policy
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.behaviours import BEHAVIOURS, POLICY, Expert
from robot_stack.drivers.sim_collect import CollectionPlan, collect, episode_name, run_episode
from robot_stack.drivers.sim_metaworld import MetaWorldArm, task_names

SOURCES = (*BEHAVIOURS, POLICY)
SEED_STRIDE = 1000  # start seeds of two behaviours lie so far apart


def collect_many(
    spec: RobotSpec,
    out: Path,
    allowed: Callable[[str], bool],
    episodes: Mapping[str, int],
    policy: Callable[..., Policy] | None = None,
    first_seed: int = 900_000,
    horizon: int = 40,
    workers: int = 2,
) -> list[Path]:
    """Collect episodes of every allowed task into ``out/<behaviour>/<task>/``; resumable. Returns the folders of behaviours.

    Args:
        allowed: says of a task's name whether it may be collected.
        episodes: behaviour -> number for each task; those of "policy" are left out where there is none yet.
        policy: makes the policy, policy(spec=...), in the process that collects.
        first_seed: start seeds count from here; far above every range of config/task.
        horizon: ticks an episode.

    Raises:
        UnknownNameError: no such behaviour.
    """
    for behaviour in episodes:
        if behaviour not in SOURCES:
            raise UnknownNameError("behaviour", behaviour, SOURCES)
    folders = []
    for start, behaviour in enumerate(SOURCES):
        if behaviour not in episodes or (behaviour == POLICY and policy is None):
            continue
        first = first_seed + SEED_STRIDE * start
        seeds = range(first, first + episodes[behaviour])
        chosen = policy if behaviour == POLICY else None
        plans = [CollectionPlan(task, {behaviour: seeds}, horizon, policy=chosen) for task in task_names() if allowed(task)]
        folders.append(out / behaviour)
        collect(spec, plans, folders[-1], workers, f"collect {behaviour}")
    return folders


class _Biased:
    """The expert's motion, recorded without a bias and repeated with it: it does not correct for the bias."""

    def __init__(self, spec: RobotSpec, deltas: FloatArray, bias: FloatArray) -> None:
        self._spec, self._deltas, self._tick = spec, deltas, 0
        self._kinds = spec.action_kinds
        self._bias = bias

    def target(self, commanded: FloatArray, privileged_state: FloatArray) -> FloatArray:
        delta = self._deltas[self._tick] + self._bias
        self._tick += 1
        return np.clip(compose(commanded, delta[None], self._kinds)[0], self._spec.lower, self._spec.upper)


def perturbed_pairs(
    spec: RobotSpec, task: str, bias: float, episodes: int, first_seed: int = 910_000, horizon: int = 30
) -> list[tuple[Episode, Episode]]:
    """Episodes of the expert, and from the same starts its very actions with a constant bias.

    Args:
        bias: length of the bias as a share of full speed; its direction is drawn for each episode.
    """
    arm = MetaWorldArm(spec, task)
    positions = np.array([kind is ActionKind.POSITION for kind in spec.action_kinds])
    pairs = []
    for seed in range(first_seed, first_seed + episodes):
        original = run_episode(arm, Expert(spec, task), episode_name(task, "expert", seed), "expert", seed, horizon)
        direction = generator("perturbation", seed).normal(size=len(positions)) * positions
        shift = bias * spec.max_step * direction / np.linalg.norm(direction)
        actor = _Biased(spec, np.asarray(original.deltas, dtype=np.float64), shift)
        pairs.append((original, run_episode(arm, actor, episode_name(task, "biased", seed), "biased", seed, horizon)))
    return pairs
