"""Where learning reads its episodes from: named datasets, each of one robot, one rate and one form of action.

A *source* is a folder or several and how to read them; one file for each kind (``*_source.py``). ``load_sources`` reads
them, names and counts what is broken, and leaves it out.
"""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from learning.data_checks import fault
from learning.episode import Episode
from robot_stack.core.errors import ProphRLError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import ActionKind, RobotSpec

RATE_TOLERANCE = 0.01  # relative; a film of 29.97 frames a second is one of 30
LISTED = 5  # reasons in an error

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Episodes of one robot, at one rate.

    Attributes:
        name: unique among the datasets that are loaded together; manifests know the dataset by it.
        episodes: those that can be learnt from; names are unique among all datasets that are loaded together.
        weight: how often it is drawn from, relative to the other datasets.
        rate_hz: frames a second.
        action_kinds: kind of each number of an action [A].
        robot: name of the robot.
        fingerprint: ``RobotSpec.fingerprint`` of the robot; "" where there is no robot file of it.
        cameras: names of the cameras of any episode.
        skipped: name of an episode that was left out -> why.
        views: further views of each episode that the world model makes to learn from (``world_model.views``), where there are
            few.
        still: how much pictures differ where nothing moves, see ``world_model.domain.Domain``.

    Raises:
        ProphRLError: the weight or the rate is not positive, or the number of views or ``still`` negative.
    """

    name: str
    episodes: tuple[Episode, ...]
    weight: float
    rate_hz: float
    action_kinds: tuple[ActionKind, ...]
    robot: str
    fingerprint: str = ""
    cameras: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    views: int = 0
    still: float = 0.0

    def __post_init__(self) -> None:
        for what in ("weight", "rate_hz"):
            value = getattr(self, what)
            if not (math.isfinite(value) and value > 0):
                raise ProphRLError(f"{what} of dataset {self.name} must be positive, got {value}")
        for what in ("views", "still"):
            if not getattr(self, what) >= 0:
                raise ProphRLError(f"{what} of dataset {self.name} must be at least 0, got {getattr(self, what)}")

    def of_camera(self, camera: str) -> "Dataset":
        """The dataset without the episodes that lack ``camera``; these are named.

        Raises:
            UnknownNameError: no episode has it; lists those that there are.
        """
        if camera not in self.cameras:
            raise UnknownNameError(f"camera of dataset {self.name}", camera, self.cameras)
        lacking = {
            episode.name: f"has no camera {camera!r}, only {', '.join(sorted(episode.images)) or 'none'}"
            for episode in self.episodes
            if camera not in episode.images
        }
        return _without(self, lacking)

    def joined(self, other: "Dataset") -> "Dataset":
        """This and the episodes of ``other``, of the same robot, rate and actions."""
        episodes = (*self.episodes, *other.episodes)
        names = _numbered([*self.skipped, *other.skipped])
        skipped = dict(zip(names, (*self.skipped.values(), *other.skipped.values()), strict=True))
        return replace(self, episodes=episodes, cameras=cameras_of(episodes), skipped=skipped)


class Source(Protocol):
    """Folders, and how to read them."""

    @property
    def weight(self) -> float:
        """See ``Dataset.weight``; datasets of one source share it by their frames."""

    def read(self, robot: RobotSpec) -> list[Dataset]:
        """What can be read; what cannot is among ``Dataset.skipped``.

        Args:
            robot: the configured robot, which episodes that do not name theirs are taken for.

        Raises:
            ProphRLError: the folder as a whole is not what it should be.
        """


def load_sources(sources: Sequence[Source], robot: RobotSpec, least_frames: int = 1) -> list[Dataset]:
    """The datasets of ``sources``, with unique names and without episodes that nothing can be learnt from.

    Args:
        robot: see ``Source.read``.
        least_frames: episodes with fewer frames are left out.

    Raises:
        ProphRLError: a source has no episode that can be used; says what is wrong with those that it has.
    """
    read = [source.read(robot) for source in sources]
    named = iter(_with_unique_episodes(_with_unique_names([dataset for datasets in read for dataset in datasets])))
    return [
        dataset
        for source, datasets in zip(sources, read, strict=True)
        for dataset in _usable([_sound(next(named), least_frames) for _ in datasets], source.weight, least_frames)
    ]


def check_rate(dataset: Dataset, expected_hz: float, where: str) -> None:
    """Refuse data at another rate than a model was made for.

    Args:
        dataset: which data.
        expected_hz: the model's rate [Hz].
        where: who expects it, in words ("checkpoint runs/x").

    Raises:
        SpecMismatchError: the rates differ by more than ``RATE_TOLERANCE``.
    """
    if not math.isclose(dataset.rate_hz, expected_hz, rel_tol=RATE_TOLERANCE):
        raise SpecMismatchError(
            f"dataset {dataset.name}", where, [f"rate {dataset.rate_hz:g} Hz in the data, {expected_hz:g} Hz expected"]
        )


def check_robot(datasets: Sequence[Dataset], spec: RobotSpec) -> None:
    """Refuse data of another robot than ``spec``.

    Raises:
        SpecMismatchError: a fingerprint differs, or the kinds of action where the data do not tell their robot.
    """
    for dataset in datasets:
        if dataset.fingerprint and dataset.fingerprint != spec.fingerprint:
            differences = [f"robot {dataset.robot} ({dataset.fingerprint}) there, {spec.name} ({spec.fingerprint}) here"]
        elif dataset.action_kinds != spec.action_kinds:
            ours, theirs = (", ".join(kinds) for kinds in (dataset.action_kinds, spec.action_kinds))
            differences = [f"actions there: {ours}; here: {theirs}"]
        else:
            continue
        raise SpecMismatchError(f"dataset {dataset.name}", f"robot {spec.name}", differences)


def paths_of(path: str | Sequence[str]) -> list[Path]:
    """One folder or several, as configurations name them."""
    return [Path(item) for item in ([path] if isinstance(path, str) else path)]


def cameras_of(episodes: Sequence[Episode]) -> tuple[str, ...]:
    """Names of all cameras, in the order in which they are met."""
    return tuple(dict.fromkeys(camera for episode in episodes for camera in episode.images))


def skip(skipped: dict[str, str], where: str, name: str, reason: object) -> None:
    """Name an episode that cannot be read, and note it; of several with one name all count."""
    [name] = _numbered([*skipped, name])[len(skipped) :]
    _log.warning("%s: episode %s skipped: %s", where, name, reason)
    skipped[name] = str(reason)


def _sound(dataset: Dataset, least_frames: int) -> Dataset:
    faults = {episode.name: fault(episode, dataset.action_kinds, least_frames) for episode in dataset.episodes}
    kept = _without(dataset, {name: reason for name, reason in faults.items() if reason})
    if kept.skipped:
        total = len(kept.episodes) + len(kept.skipped)
        _log.warning("dataset %s: %d of %d episodes skipped", kept.name, len(kept.skipped), total)
    return kept


def _usable(datasets: Sequence[Dataset], weight: float, least_frames: int) -> list[Dataset]:
    """Those of one source that have episodes; ``weight`` is shared among them by their frames, so that each frame counts alike.

    Raises:
        ProphRLError: none has.
    """
    kept = [dataset for dataset in datasets if dataset.episodes]
    if not kept:
        reasons = [f"\n  - {name}: {reason}" for dataset in datasets for name, reason in dataset.skipped.items()]
        more = f"\n  - and {len(reasons) - LISTED} more" if len(reasons) > LISTED else ""
        names = ", ".join(dataset.name for dataset in datasets)
        raise ProphRLError(
            f"dataset {names}: none of {len(reasons)} episodes can be used; sound ones of at least {least_frames} frames are "
            f"needed:{''.join(reasons[:LISTED])}{more}"
        )
    frames = [sum(map(len, dataset.episodes)) for dataset in kept]
    return [replace(dataset, weight=weight * count / sum(frames)) for dataset, count in zip(kept, frames, strict=True)]


def _without(dataset: Dataset, faults: Mapping[str, str]) -> Dataset:
    """The dataset without the episodes that have ``faults`` (name -> why)."""
    skipped = dict(dataset.skipped)
    for name, reason in faults.items():
        skip(skipped, f"dataset {dataset.name}", name, reason)
    kept = tuple(episode for episode in dataset.episodes if episode.name not in faults)
    return replace(dataset, episodes=kept, cameras=cameras_of(kept), skipped=skipped)


def _with_unique_names(datasets: Sequence[Dataset]) -> list[Dataset]:
    names = _numbered([dataset.name for dataset in datasets])
    return [replace(dataset, name=name) for dataset, name in zip(datasets, names, strict=True)]


def _with_unique_episodes(datasets: Sequence[Dataset]) -> list[Dataset]:
    """A name that episodes of several datasets have gets each dataset's name; one that a dataset has twice, a number."""
    count = Counter(name for dataset in datasets for name in {episode.name for episode in dataset.episodes})
    unique = []
    for dataset in datasets:
        told_apart = [f"{e.name}@{dataset.name}" if count[e.name] > 1 else e.name for e in dataset.episodes]
        names = _numbered(told_apart)
        episodes = tuple(replace(episode, name=name) for episode, name in zip(dataset.episodes, names, strict=True))
        unique.append(replace(dataset, episodes=episodes))
    return unique


def _numbered(names: Sequence[str]) -> list[str]:
    """Repeated names with a number that no other name has: x, x-2, x-3."""
    taken, result = set(names), list[str]()
    seen: set[str] = set()
    for name in names:
        chosen, number = name, 2
        while chosen in seen or (chosen != name and chosen in taken):
            chosen, number = f"{name}-{number}", number + 1
        seen.add(chosen)
        result.append(chosen)
    return result
