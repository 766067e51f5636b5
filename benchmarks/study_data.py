"""Episodes for studies of the world model: kinds of behaviour in given shares, straight from the simulator, kept on disk.

The share of near misses is large on purpose: a little noise on the scripted expert makes it miss by a centimetre.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from learning.data_sources import Dataset
from learning.episode import Episode
from learning.episode_store import load_episodes
from learning.seeding import generator
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.sim_collect import CollectionPlan, collect, episode_name

SEED_STRIDE = 1000


@dataclass(frozen=True)
class Kind:
    """A kind of episodes.

    Attributes:
        behaviour: see ``robot_stack.drivers.sim_collect.CollectionPlan``.
        noise: of the noisy expert.
    """

    behaviour: str
    noise: float = 1.0


KINDS = {
    "expert": Kind("expert"),
    "near": Kind("noisy", 0.15),
    "miss": Kind("noisy", 0.3),
    "far": Kind("noisy", 0.5),
    "wild": Kind("noisy", 1.0),
    "random": Kind("random"),
    "careless": Kind("careless"),
    "blind": Kind("blind"),
}
TEACHING, TESTING = 920_000, 960_000  # first seeds; far above every range of config/task and of pretraining


def study_episodes(
    spec: RobotSpec,
    task: str,
    counts: Mapping[str, int],
    first_seed: int,
    folder: Path,
    *,
    cameras: Sequence[str] = (),
    image_size: int | None = None,
    horizon: int = 30,
) -> list[Episode]:
    """``counts`` episodes of each kind, made where they are missing.

    Args:
        counts: kind -> number.
        first_seed: ``TEACHING`` or ``TESTING``: the two never share a start.
        folder: that keeps them.
        cameras, image_size: see ``MetaWorldArm``.
    """
    episodes: list[Episode] = []
    for number, (name, kind) in enumerate(KINDS.items()):
        seeds = range(first_seed + SEED_STRIDE * number, first_seed + SEED_STRIDE * number + counts.get(name, 0))
        if not seeds:
            continue
        plan = CollectionPlan(task, {kind.behaviour: seeds}, horizon, kind.noise, cameras=tuple(cameras), image_size=image_size)
        place = folder / f"{name}-{image_size or 'own'}-{'-'.join(cameras) or 'own'}"
        collect(spec, [plan], place, 1, f"{task}, {name}")
        known = {episode.name: episode for episode in load_episodes(place / task, spec=spec)}
        episodes += [known[episode_name(task, kind.behaviour, seed)] for seed in seeds]
    return episodes


def mixed(episodes: Sequence[Episode], count: int, seed: int) -> list[Episode]:
    """``count`` of ``episodes``, drawn by ``seed``; fewer of one draw are among more of it."""
    order = generator("study episodes", seed).permutation(len(episodes))
    return [episodes[row] for row in order[:count]]


def dataset(spec: RobotSpec, episodes: Sequence[Episode]) -> Dataset:
    """The episodes as what training takes."""
    cameras = tuple(dict.fromkeys(name for episode in episodes for name in episode.images))
    return Dataset(spec.name, tuple(episodes), 1.0, spec.rate_hz, spec.action_kinds, spec.name, spec.fingerprint, cameras)
