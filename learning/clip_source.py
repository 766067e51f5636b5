"""BRIDGE-like clips: ``.npz`` files with frames, measured poses and their commanded changes; ``episode_store`` reads them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from learning.data_sources import Dataset, cameras_of, paths_of, skip
from learning.episode import Episode
from learning.episode_store import CLIP_FORM, CLIP_KEYS, CLIP_RATE_HZ, read_file
from robot_stack.core.errors import BadFileError
from robot_stack.core.robot_spec import RobotSpec

VIEWS = 12  # clips of a real robot are few, and their cameras differ
STILL = 0.4  # their cameras flicker


@dataclass(frozen=True)
class ClipSource:
    """Clips of one robot.

    Attributes:
        path: folder of clips or of folders of them, a file, or several.
        name: of the dataset; None: the robot's.
        weight: see ``Dataset.weight``.
        robot: what moved.
        rate_hz: frames a second.
        views, still: see ``Dataset``.
    """

    path: str | tuple[str, ...]
    name: str | None = None
    weight: float = 1.0
    robot: str = "widowx"
    rate_hz: float = CLIP_RATE_HZ
    views: int = VIEWS
    still: float = STILL

    def read(self, robot: RobotSpec) -> list[Dataset]:
        """One dataset.

        Raises:
            BadFileError: no such folder, or no ``.npz`` in it.
        """
        episodes: list[Episode] = []
        skipped: dict[str, str] = {}
        for file in _files(paths_of(self.path)):
            try:
                stored = read_file(file)
                if not stored.is_clip:
                    raise BadFileError(file, f"no clip, which has {', '.join(sorted(CLIP_KEYS))}; read it with data=episodes")
            except BadFileError as error:
                skip(skipped, "clips", file.stem, error)
                continue
            episodes.append(replace(stored.episode, rate_hz=self.rate_hz))
        return [
            Dataset(
                name=self.name or self.robot,
                episodes=tuple(episodes),
                weight=self.weight,
                rate_hz=self.rate_hz,
                action_kinds=CLIP_FORM.kinds,
                robot=self.robot,
                cameras=cameras_of(episodes),
                skipped=skipped,
                views=self.views,
                still=self.still,
            )
        ]


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        found = [path] if path.is_file() else sorted(path.rglob("*.npz"))
        if not found:
            raise BadFileError(path, "holds no clips (.npz)" if path.is_dir() else "no such file or folder")
        files += found
    return files
