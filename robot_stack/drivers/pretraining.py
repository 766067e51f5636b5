"""Data for the world model straight from the simulator: many tasks, for its shipped weights."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from robot_stack.core.errors import UnknownNameError
from robot_stack.core.ports import Policy
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.behaviours import BEHAVIOURS, POLICY
from robot_stack.drivers.blind import BLIND
from robot_stack.drivers.sim_collect import CollectionPlan, collect
from robot_stack.drivers.sim_metaworld import task_names

SOURCES = (*BEHAVIOURS, POLICY, BLIND)
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
    cameras: Mapping[str, Sequence[str]] | None = None,
) -> list[Path]:
    """Collect episodes of every allowed task into ``out/<behaviour>/<task>/``; resumable. Returns the folders of behaviours.

    Args:
        allowed: says of a task's name whether it may be collected.
        episodes: behaviour -> number for each task; those of "policy" are left out where there is none yet.
        policy: makes the policy, policy(spec=...), in the process that collects.
        first_seed: start seeds count from here; far above every range of config/task.
        horizon: ticks an episode.
        cameras: behaviour -> cameras that see its episodes besides the robot's own, see ``sim_cameras.CAMERAS``.

    Raises:
        UnknownNameError: no such behaviour.
    """
    for behaviour in [*episodes, *(cameras or {})]:
        if behaviour not in SOURCES:
            raise UnknownNameError("behaviour", behaviour, SOURCES)
    folders = []
    for start, behaviour in enumerate(SOURCES):
        if behaviour not in episodes or (behaviour == POLICY and policy is None):
            continue
        first = first_seed + SEED_STRIDE * start
        seeds = range(first, first + episodes[behaviour])
        chosen = policy if behaviour == POLICY else None
        seen_by = (spec.cameras[0].name, *(cameras or {}).get(behaviour, ()))
        plans = [
            CollectionPlan(task, {behaviour: seeds}, horizon, policy=chosen, cameras=seen_by)
            for task in task_names()
            if allowed(task)
        ]
        folders.append(out / behaviour)
        collect(spec, plans, folders[-1], workers, f"collect {behaviour}")
    return folders
