"""The data that shipped weights are made from: many tasks, experts, noise and random motion, straight from the simulator."""

from collections.abc import Callable, Mapping
from pathlib import Path

from robot_stack.core.errors import UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.behaviours import BEHAVIOURS
from robot_stack.drivers.sim_collect import CollectionPlan, collect
from robot_stack.drivers.sim_metaworld import task_names

SEED_STRIDE = 1000  # start seeds of two behaviours lie so far apart


def collect_many(
    spec: RobotSpec,
    out: Path,
    allowed: Callable[[str], bool],
    episodes: Mapping[str, int],
    first_seed: int = 900_000,
    horizon: int = 40,
    workers: int = 2,
) -> int:
    """Collect episodes of every allowed task into ``out/<task>/``; resumable. Returns how many were made.

    Args:
        allowed: says of a task's name whether it may be collected.
        episodes: behaviour -> number for each task.
        first_seed: start seeds count from here; far above every range of config/task.
        horizon: ticks an episode.

    Raises:
        UnknownNameError: no such behaviour.
    """
    for behaviour in episodes:
        if behaviour not in BEHAVIOURS:
            raise UnknownNameError("behaviour", behaviour, BEHAVIOURS)
    seeds = {
        behaviour: range(start, start + episodes[behaviour])
        for start, behaviour in zip(
            range(first_seed, first_seed + SEED_STRIDE * len(BEHAVIOURS), SEED_STRIDE), BEHAVIOURS, strict=True
        )
        if behaviour in episodes
    }
    plans = [CollectionPlan(task, dict(seeds), horizon) for task in task_names() if allowed(task)]
    return collect(spec, plans, out, workers)
