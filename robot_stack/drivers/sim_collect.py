"""Episodes straight from the simulator, without ROS: for pretraining on many tasks and for tests.

The robot's own episodes go through the ROS nodes and the recorder; these have the same content (``learning.episode``).
"""

import logging
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from learning.episode import Episode
from learning.episode_store import save_episode
from learning.seeding import generator
from robot_stack.core.actions import decompose
from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.ports import Policy
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import Guard
from robot_stack.core.types import FloatArray, ImageArray
from robot_stack.drivers.behaviours import POLICY, Behaviour, PolicyDriven, make_behaviour
from robot_stack.drivers.blind import BLIND, blind_expert
from robot_stack.drivers.sim_metaworld import MetaWorldArm

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CollectionPlan:
    """Which episodes to collect of one task.

    Attributes:
        task: Meta-World task.
        behaviours: behaviour -> start seeds; besides those of ``behaviours`` "blind" (``blind``) and "policy", which needs one.
        horizon: ticks an episode.
        noise: of the noisy expert, see ``behaviours.NoisyExpert``.
        policy: makes the policy, policy(spec=...); called in the process that collects.
        cameras, image_size: see ``MetaWorldArm``; by default what the robot has. Where a policy acts, the robot's
            camera has to be among them, at the size that the policy knows.
    """

    task: str
    behaviours: dict[str, Sequence[int]]
    horizon: int = 30
    noise: float = 1.0
    policy: Callable[..., Policy] | None = None
    cameras: tuple[str, ...] = ()
    image_size: int | None = None

    def __post_init__(self) -> None:
        if POLICY in self.behaviours and self.policy is None:
            raise ProphRLError("episodes of a policy are wanted, but no policy is given: checkpoint.policy=<exported folder>")


def episode_name(task: str, behaviour: str, seed: int) -> str:
    return f"{task}.{behaviour}.{seed:06d}"


def run_episode(arm: MetaWorldArm, behaviour: Behaviour, name: str, source: str, seed: int, horizon: int) -> Episode:
    """One episode of ``horizon`` ticks from start ``seed``, through the guard that the robot's executor uses."""
    spec = arm.spec
    guard = Guard(spec)
    arm.reset(seed)
    guard.start(arm.commanded)
    images: dict[str, list[ImageArray]] = {camera: [] for camera in arm.camera_names}
    tracks: dict[str, list[FloatArray]] = {thing: [] for thing in arm.positions}
    states, commanded, targets = [], [], []
    first_success = None
    for tick in range(horizon):
        if arm.success and first_success is None:
            first_success = tick
        for camera, frames in images.items():
            frames.append(arm.render(camera))
        for thing, place in arm.positions.items():
            tracks[thing].append(place)
        states.append(arm.state)
        commanded.append(arm.commanded)
        target = guard.check(behaviour.target(arm.commanded, arm.privileged_state)).target
        targets.append(target)
        arm.step(target)
    return Episode(
        name=name,
        images={camera: np.stack(frames) for camera, frames in images.items()},
        state=np.stack(states).astype(np.float32),
        commanded=np.stack(commanded).astype(np.float32),
        deltas=_deltas(np.stack(commanded), np.stack(targets), spec).astype(np.float32),
        instruction=arm.instruction,
        task=arm.task,
        source=source,
        success=arm.success,
        first_success=first_success,
        rate_hz=spec.rate_hz,
        cameras={camera: arm.camera_model(camera) for camera in images},
        positions={thing: np.stack(track).astype(np.float32) for thing, track in tracks.items()},
    )


def _deltas(commanded: FloatArray, targets: FloatArray, spec: RobotSpec) -> FloatArray:
    return decompose(commanded, targets[:, None, :], spec.action_kinds)[:, 0]


def collect_task(spec: RobotSpec, plan: CollectionPlan, out: Path) -> int:
    """Collect what of ``plan`` is not in ``out`` yet (an episode is a file); returns how many episodes were made."""
    missing = _missing(plan, out)
    if not missing:
        return 0
    arm = MetaWorldArm(spec, plan.task, plan.cameras, plan.image_size)
    policy = plan.policy(spec=spec) if plan.policy else None
    made = 0
    for behaviour, seed, name in missing:
        rng = generator("collect", plan.task, behaviour, seed)
        actor: Behaviour
        if behaviour == POLICY and policy is not None:
            actor = PolicyDriven(arm, policy, seed)
        elif behaviour == BLIND:
            actor = blind_expert(arm, seed, plan.horizon, rng)
        else:
            actor = make_behaviour(behaviour, spec, plan.task, rng, plan.noise)
        try:
            episode = run_episode(arm, actor, name, behaviour, seed, plan.horizon)
        except UnknownNameError as error:  # a policy of many tasks that never saw this one succeed does not know its name
            if behaviour != POLICY:
                raise
            _log.warning("no episodes of the policy in %s: %s", plan.task, error)
            continue
        save_episode(out, episode, spec.fingerprint)
        made += 1
    return made


def collect(spec: RobotSpec, plans: Iterable[CollectionPlan], out: Path, workers: int = 2, title: str = "collect") -> int:
    """Collect several tasks in parallel into ``out/<task>/``; resumable. Returns how many episodes were made."""
    plans = [plan for plan in plans if _missing(plan, out / plan.task)]  # a process only where there is something to do
    if not plans:
        return 0
    run: Callable[..., int] = collect_task
    made = 0
    context = multiprocessing.get_context("spawn")  # a forked GL context does not work
    # One process a task: its GL context and model are freed with it.
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        futures = [pool.submit(run, spec, plan, out / plan.task) for plan in plans]
        for future in tqdm(futures, desc=title, unit="task"):
            made += future.result()
    return made


def _missing(plan: CollectionPlan, out: Path) -> list[tuple[str, int, str]]:
    """Behaviour, start seed and name of the episodes of ``plan`` that are not in ``out``."""
    wanted = [
        (behaviour, seed, episode_name(plan.task, behaviour, seed))
        for behaviour, seeds in plan.behaviours.items()
        for seed in seeds
    ]
    return [entry for entry in wanted if not (out / f"{entry[2]}.npz").exists()]
