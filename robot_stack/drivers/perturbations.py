"""The same start with other actions: recorded motions replayed open loop with a perturbation, in the simulator.

Nobody corrects for the perturbation, so most of these episodes fail where the original succeeded, many of them narrowly: what a
world model has to show as a failure. Shapes: T = ticks, A = numbers in one action.
"""

import hashlib
import json
import multiprocessing
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from learning.episode import Episode
from learning.episode_store import load_episodes, save_episode
from learning.seeding import generator
from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.ports import Policy
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.behaviours import Behaviour, Expert, PolicyDriven, RandomMotion
from robot_stack.drivers.perturbed_motion import KINDS, OpenLoop, PerturbationSettings, perturbed_deltas
from robot_stack.drivers.sim_collect import episode_name, run_episode
from robot_stack.drivers.sim_metaworld import MetaWorldArm

UNCHANGED = "unchanged"  # the original; always there
PART = 4  # starts that one process makes before the next progress


def perturbed_episodes(
    spec: RobotSpec,
    task: str,
    kinds: Sequence[str],
    starts: Sequence[int],
    *,
    settings: PerturbationSettings | None = None,
    out: Path | str | None = None,
    policy: Callable[..., Policy] | None = None,
    actor: str = "expert",
    cameras: Sequence[str] = (),
    workers: int = 2,
) -> list[dict[str, Episode]]:
    """For each start the original episode ("unchanged") and what became of its actions under each perturbation.

    Kinds: "replayed" as they are (equal to the original up to rounding: a control), "biased", "shifted" (see
    ``PerturbationSettings``), "mirrored" (motion along y about the start), "frozen_gripper" (it stays as it was at the start),
    "frozen" (nothing moves), "random" (other actions altogether). Episodes hold positions and success.

    Args:
        kinds: of ``KINDS``.
        starts: start seeds; a perturbation's random numbers derive from them.
        out: keeps the episodes, by task and settings, so that the same call reads them again; None makes them anew.
        policy: who acts in the original, policy(spec=...); by default the scripted expert.
        actor: name of who acts, under which episodes are kept; one of its own for each policy.
        cameras: see ``MetaWorldArm``.
        workers: processes.

    Raises:
        UnknownNameError: no such kind or task.
        ProphRLError: a policy without a name of its own.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownNameError("perturbation", kind, KINDS)
    if policy is not None and actor == "expert":
        raise ProphRLError("a policy whose actions are perturbed needs a name: actor=<name>, other than expert")
    chosen = settings or PerturbationSettings()
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            return perturbed_episodes(
                spec,
                task,
                kinds,
                starts,
                settings=chosen,
                out=folder,
                policy=policy,
                actor=actor,
                cameras=cameras,
                workers=workers,
            )
    place = _folder(Path(out), spec, task, chosen, actor, cameras)
    job = _Job(spec, task, tuple(kinds), chosen, tuple(cameras), place, policy)
    missing = [seed for seed in starts if not all(job.path(kind, seed).exists() for kind in (UNCHANGED, *kinds))]
    title = f"perturb {task}"
    if missing and workers < 2:
        job.run(tqdm(missing, desc=title, unit="start"))
    elif missing:
        context = multiprocessing.get_context("spawn")  # a forked GL context does not work
        with ProcessPoolExecutor(min(workers, len(missing)), mp_context=context) as pool:
            parts = [missing[i : i + PART] for i in range(0, len(missing), PART)]
            for _ in tqdm(pool.map(job.run, parts), total=len(parts), desc=title, unit=f"{PART} starts"):
                pass
    return [{kind: load_episodes(job.path(kind, seed), spec=spec)[0] for kind in (UNCHANGED, *kinds)} for seed in starts]


@dataclass(frozen=True)
class _Job:
    """What a process needs to make some starts' episodes."""

    spec: RobotSpec
    task: str
    kinds: tuple[str, ...]
    settings: PerturbationSettings
    cameras: tuple[str, ...]
    folder: Path
    policy: Callable[..., Policy] | None

    def path(self, kind: str, seed: int) -> Path:
        return self.folder / f"{episode_name(self.task, kind, seed)}.npz"

    def run(self, seeds: Sequence[int]) -> None:
        arm = MetaWorldArm(self.spec, self.task, self.cameras)
        policy = self.policy(spec=self.spec) if self.policy else None
        for seed in seeds:
            driver: Behaviour = PolicyDriven(arm, policy, seed) if policy else Expert(self.spec, self.task)
            original = self._made(arm, driver, UNCHANGED, seed)
            for kind in self.kinds:
                if not self.path(kind, seed).exists():
                    self._made(arm, perturbed_behaviour(kind, original, self.spec, self.settings, seed), kind, seed)

    def _made(self, arm: MetaWorldArm, behaviour: Behaviour, kind: str, seed: int) -> Episode:
        name = episode_name(self.task, kind, seed)
        episode = run_episode(arm, behaviour, name, kind, seed, self.settings.horizon)
        save_episode(self.folder, episode, self.spec.fingerprint)
        return episode


def perturbed_behaviour(kind: str, original: Episode, spec: RobotSpec, settings: PerturbationSettings, seed: int) -> Behaviour:
    """Who acts under perturbation ``kind`` of ``original``; its random numbers derive from ``seed``.

    Raises:
        UnknownNameError: no such kind.
    """
    random = generator("perturbation", kind, seed)
    if kind == "random":
        return RandomMotion(spec, random)
    deltas = np.asarray(original.deltas, dtype=np.float64)
    return OpenLoop(spec, perturbed_deltas(kind, deltas, original.commanded[0], spec, settings, random))


def _folder(out: Path, spec: RobotSpec, task: str, settings: PerturbationSettings, actor: str, cameras: Sequence[str]) -> Path:
    """Where episodes of these settings and views are kept: others have another folder."""
    facts: Mapping[str, object] = {"robot": spec.fingerprint, "cameras": [asdict(c) for c in spec.cameras], **asdict(settings)}
    if cameras:
        facts = {**facts, "views": list(cameras)}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return out / task / f"{actor}-{digest}"
