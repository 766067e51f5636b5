"""Episodes that this project wrote, and clips, each folder recognised by what lies in it."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from learning.clip_source import ClipSource
from learning.data_sources import Dataset, cameras_of, paths_of, skip
from learning.episode import Episode
from learning.episode_store import CLIP_FORM, StoredEpisode, leaves, read_file
from robot_stack.core.errors import BadFileError, SpecMismatchError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.paths import config_dir


@dataclass(frozen=True)
class _Robot:
    """What episodes have to share to be one dataset."""

    name: str
    fingerprint: str
    rate_hz: float
    kinds: tuple[ActionKind, ...]
    views: int = 0
    still: float = 0.0

    @classmethod
    def of(cls, spec: RobotSpec, rate_hz: float | None = None) -> "_Robot":
        return cls(spec.name, spec.fingerprint, rate_hz or spec.rate_hz, spec.action_kinds)

    @property
    def unmarked(self) -> "_Robot":
        """Without the fingerprint."""
        return dataclasses.replace(self, fingerprint="")


@dataclass(frozen=True)
class EpisodeSource:
    """LeRobot datasets that ``prophrl convert`` wrote, ``.npz`` episodes, clips, and folders of such folders, however deep.

    Attributes:
        path: a folder, a file, or several; None: nothing.
        name: of the dataset; None: the robot's. Where there are several robots, each one's name is added.
        weight: see ``Dataset.weight``.
    """

    path: str | tuple[str, ...] | None
    name: str | None = None
    weight: float = 1.0

    def read(self, robot: RobotSpec) -> list[Dataset]:
        """One dataset for each robot, rate and form of action that is found.

        Episodes without the fingerprint of a robot are taken for those of ``robot``.

        Raises:
            BadFileError: nothing there that could be read, or a dataset that another kind of source is for.
            SpecMismatchError: episodes of a robot of which there is no robot file.
        """
        reading = _Reading(robot)
        for path in paths_of(self.path or ()):
            before = reading.count
            for folder in leaves(path):
                reading.add(folder)
            if reading.count == before:
                raise BadFileError(path, _nothing(path))
        named = reading.by_robot()
        several = len(named) > 1
        return [
            Dataset(
                name=(f"{self.name}-{found.name}" if several else self.name) if self.name else found.name,
                episodes=tuple(episodes),
                weight=self.weight,
                rate_hz=found.rate_hz,
                action_kinds=found.kinds,
                robot=found.name,
                fingerprint=found.fingerprint,
                cameras=cameras_of(episodes),
                skipped=reading.skipped if number == 0 else {},
                views=found.views,
                still=found.still,
            )
            for number, (found, episodes) in enumerate(named.items())
        ]


@dataclass
class _Reading:
    """Episodes by robot, as folder after folder is read."""

    robot: RobotSpec
    episodes: dict[_Robot, list[Episode]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    shipped: dict[str, RobotSpec] | None = None

    @property
    def count(self) -> int:
        return len(self.skipped) + sum(map(len, self.episodes.values()))

    def by_robot(self) -> dict[_Robot, list[Episode]]:
        """Episodes that do not name their robot stand with those that name the same one; only skipped ones, with ``robot``."""
        grouped: dict[_Robot, list[Episode]] = {}
        for found, episodes in self.episodes.items():
            known = [other for other in self.episodes if other.fingerprint and other.unmarked == found]
            grouped.setdefault(known[0] if known else found, []).extend(episodes)
        return grouped or ({_Robot.of(self.robot): []} if self.skipped else {})

    def add(self, folder: Path) -> None:
        if (folder / "meta" / "info.json").is_file():
            from learning.lerobot_data import read_dataset, read_robot  # brings pyarrow and av; not needed for .npz folders

            spec = read_robot(folder)
            for episode in read_dataset(folder, spec, self.skipped):
                self._put(_Robot.of(spec, episode.rate_hz), episode)
            return
        for file in [folder] if folder.suffix == ".npz" else sorted(folder.glob("*.npz")):
            try:
                stored = read_file(file)
            except BadFileError as error:
                skip(self.skipped, "episodes", file.stem, error)
                continue
            self._put(self._robot_of(file, stored), stored.episode)

    def _put(self, robot: _Robot, episode: Episode) -> None:
        self.episodes.setdefault(robot, []).append(episode)

    def _robot_of(self, file: Path, stored: StoredEpisode) -> _Robot:
        if stored.is_clip:
            clips = ClipSource(str(file))
            return _Robot(clips.robot, "", clips.rate_hz, CLIP_FORM.kinds, clips.views, clips.still)
        if stored.fingerprint in ("", self.robot.fingerprint):
            ours = _Robot.of(self.robot, stored.episode.rate_hz)
            return ours if stored.fingerprint else ours.unmarked
        if self.shipped is None:
            self.shipped = _shipped_robots()
        if stored.fingerprint not in self.shipped:
            known = ", ".join(sorted(spec.name for spec in self.shipped.values()))
            marks = (
                f"fingerprint of the robot: {stored.fingerprint} there, {self.robot.fingerprint} here; nor is it one of {known}"
            )
            raise SpecMismatchError(
                f"episode {file}", f"robot {self.robot.name}; name its robot file, robot=<path>.yaml", [marks]
            )
        return _Robot.of(self.shipped[stored.fingerprint], stored.episode.rate_hz)


def _shipped_robots() -> dict[str, RobotSpec]:
    specs = [RobotSpec.load(file) for file in sorted((config_dir() / "robot").glob("*.yaml"))]
    return {spec.fingerprint: spec for spec in specs}


def _nothing(path: Path) -> str:
    """Why there is nothing to read at ``path``."""
    if not path.exists():
        kinds = ", ".join(sorted(file.stem for file in (config_dir() / "data").glob("*.yaml")))
        return f"no such file or folder, nor a kind of data ({kinds})"
    if path.is_dir() and any(path.rglob("*.mcap")):
        return f"holds logs: read them with data=logs data.path={path}, or convert them first, prophrl convert"
    return "neither a LeRobot dataset nor a folder with .npz episodes"
