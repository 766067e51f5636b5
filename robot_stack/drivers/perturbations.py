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
from robot_stack.core.actions import compose
from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.ports import Policy
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.behaviours import Behaviour, Expert, PolicyDriven, RandomMotion
from robot_stack.drivers.sim_collect import episode_name, run_episode
from robot_stack.drivers.sim_metaworld import MetaWorldArm

UNCHANGED = "unchanged"  # the original; always there
KINDS = ("replayed", "biased", "shifted", "mirrored", "frozen_gripper", "frozen", "random")
MIRRORED_AXIS = "y"
PART = 4  # starts that one process makes before the next progress


@dataclass(frozen=True)
class PerturbationSettings:
    """How large the perturbations are.

    Attributes:
        bias: of "biased", a constant motion in a random direction, as a share of full speed.
        shift: of "shifted": the whole motion happens so far [m] beside the original, in a random horizontal direction.
        shift_ticks: over so many ticks the hand leaves the original for the shifted path.
        horizon: ticks an episode.
    """

    bias: float = 0.35
    shift: float = 0.05
    shift_ticks: int = 5
    horizon: int = 30

    def __post_init__(self) -> None:
        if min(self.shift_ticks, self.horizon) < 1 or min(self.bias, self.shift) < 0:
            raise ValueError("shift_ticks and horizon must be at least 1, bias and shift at least 0")


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
                spec, task, kinds, starts, settings=chosen, out=folder, policy=policy, actor=actor, workers=workers
            )
    job = _Job(spec, task, tuple(kinds), chosen, _folder(Path(out), spec, task, chosen, actor), policy)
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
    folder: Path
    policy: Callable[..., Policy] | None

    def path(self, kind: str, seed: int) -> Path:
        return self.folder / f"{episode_name(self.task, kind, seed)}.npz"

    def run(self, seeds: Sequence[int]) -> None:
        arm = MetaWorldArm(self.spec, self.task)
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


class _OpenLoop:
    """Delta actions [T, A], whatever comes of them."""

    def __init__(self, spec: RobotSpec, deltas: FloatArray) -> None:
        self._spec, self._deltas, self._tick = spec, deltas, 0

    def target(self, commanded: FloatArray, privileged_state: FloatArray) -> FloatArray:
        delta = self._deltas[self._tick]
        self._tick += 1
        return np.clip(compose(commanded, delta[None], self._spec.action_kinds)[0], self._spec.lower, self._spec.upper)


def perturbed_behaviour(kind: str, original: Episode, spec: RobotSpec, settings: PerturbationSettings, seed: int) -> Behaviour:
    """Who acts under perturbation ``kind`` of ``original``; its random numbers derive from ``seed``.

    Raises:
        UnknownNameError: no such kind.
    """
    random = generator("perturbation", kind, seed)
    if kind == "random":
        return RandomMotion(spec, random)
    deltas = np.asarray(original.deltas, dtype=np.float64)
    return _OpenLoop(spec, perturbed_deltas(kind, deltas, original.commanded[0], spec, settings, random))


def perturbed_deltas(
    kind: str,
    deltas: FloatArray,
    first: FloatArray,
    spec: RobotSpec,
    settings: PerturbationSettings,
    random: np.random.Generator,
) -> FloatArray:
    """The delta actions [T, A] that perturbation ``kind`` makes of ``deltas`` [T, A].

    Args:
        first: target in force at the start [A].

    Raises:
        UnknownNameError: no such kind, or "mirrored" of a robot without an action "y".
    """
    positions = np.array([action is ActionKind.POSITION for action in spec.action_kinds])
    grippers = np.array([action is ActionKind.GRIPPER for action in spec.action_kinds])
    changed = np.array(deltas, dtype=np.float64)
    if kind == "biased":
        changed += settings.bias * spec.max_step * _direction(positions, random)
    elif kind == "shifted":
        horizontal = positions & np.array([name != "z" for name in spec.action_names])
        ticks = min(settings.shift_ticks, len(changed))
        changed[:ticks] += settings.shift / ticks * _direction(horizontal, random)
    elif kind == "mirrored":
        if MIRRORED_AXIS not in spec.action_names:
            raise UnknownNameError("action to mirror", MIRRORED_AXIS, spec.action_names)
        changed[:, spec.action_names.index(MIRRORED_AXIS)] *= -1.0
    elif kind == "frozen_gripper":
        changed[:, grippers] = first[grippers]
    elif kind == "frozen":
        changed[:] = np.where(grippers, first, 0.0)
    elif kind != "replayed":
        raise UnknownNameError("perturbation", kind, KINDS)
    return changed


def _direction(dimensions: np.ndarray, random: np.random.Generator) -> FloatArray:
    """A random unit vector [A] over some of the dimensions."""
    vector = random.normal(size=len(dimensions)) * dimensions
    return np.asarray(vector / np.linalg.norm(vector))


def _folder(out: Path, spec: RobotSpec, task: str, settings: PerturbationSettings, actor: str) -> Path:
    """Where episodes of these settings are kept: other settings have another folder."""
    facts: Mapping[str, object] = {"robot": spec.fingerprint, "cameras": [asdict(c) for c in spec.cameras], **asdict(settings)}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return out / task / f"{actor}-{digest}"
