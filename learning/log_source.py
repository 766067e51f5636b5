"""Logs of the robot (MCAP), decoded as they are read; ``prophrl convert`` makes a dataset of the same rows.

What decodes them belongs to the robot's side, which learning does not import: the configuration names it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from learning.data_sources import Dataset, cameras_of, paths_of, skip
from learning.episode import Episode
from learning.images import resize_square
from robot_stack.core.actions import decompose
from robot_stack.core.errors import BadFileError, ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray, ImageArray


class Decoded(Protocol):
    """The rows of a log: ``robot_stack.episodes.decoded.DecodedEpisode``, which says what each is."""

    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> RobotSpec: ...
    @property
    def images(self) -> Mapping[str, ImageArray]: ...
    @property
    def state(self) -> FloatArray: ...
    @property
    def commanded(self) -> FloatArray: ...
    @property
    def sent(self) -> FloatArray: ...
    @property
    def instruction(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def success(self) -> bool | None: ...
    @property
    def first_success(self) -> int | None: ...


@dataclass(frozen=True)
class LogSource:
    """Folders of logs.

    Attributes:
        path: folder of logs or of folders of them, a log, or several.
        find: the logs in a folder; raises BadFileError where there is no such folder.
        decode: a log to its rows; raises BadFileError where it cannot be read.
        name: of the dataset; None: the robot's. Where there are several robots, each one's name is added.
        weight: see ``Dataset.weight``.
        image_size: side to which pictures are resized as they are read [px], to save memory; None: as they are.
    """

    path: str | tuple[str, ...]
    find: Callable[[Path], list[Path]]
    decode: Callable[[Path], Decoded]
    name: str | None = None
    weight: float = 1.0
    image_size: int | None = None

    def read(self, robot: RobotSpec) -> list[Dataset]:
        """One dataset for each robot.

        Raises:
            BadFileError: no such folder, or no log in it.
        """
        specs: dict[str, RobotSpec] = {}
        episodes: dict[str, list[Episode]] = {}
        skipped: dict[str, str] = {}
        for log in self._logs():
            try:
                decoded = self.decode(log)
                episode = self._episode(decoded)
            except ProphRLError as error:
                skip(skipped, "logs", log.name.partition(".mcap")[0], error)
                continue
            key = decoded.spec.fingerprint
            specs.setdefault(key, decoded.spec)
            episodes.setdefault(key, []).append(episode)
        if not episodes:
            specs, episodes = {robot.fingerprint: robot}, {robot.fingerprint: []}
        return [
            Dataset(
                name=(f"{self.name}-{spec.name}" if len(specs) > 1 else self.name) if self.name else spec.name,
                episodes=tuple(episodes[fingerprint]),
                weight=self.weight,
                rate_hz=spec.rate_hz,
                action_kinds=spec.action_kinds,
                robot=spec.name,
                fingerprint=fingerprint,
                cameras=cameras_of(episodes[fingerprint]),
                skipped=skipped if number == 0 else {},
            )
            for number, (fingerprint, spec) in enumerate(specs.items())
        ]

    def _logs(self) -> list[Path]:
        logs: list[Path] = []
        for path in paths_of(self.path):
            if path.is_file():
                found = [path]
            else:
                inner = sorted(folder for folder in path.rglob("*") if folder.is_dir())
                found = [log for folder in [path, *inner] for log in self.find(folder)]
            if not found:
                raise BadFileError(path, "holds no logs (.mcap)")
            logs += found
        return logs

    def _episode(self, decoded: Decoded) -> Episode:
        kinds = decoded.spec.action_kinds
        deltas = decompose(decoded.commanded, decoded.sent[:, None], kinds)[:, 0]
        size = self.image_size
        return Episode(
            name=decoded.name,
            images={name: frames if size is None else resize_square(frames, size) for name, frames in decoded.images.items()},
            state=decoded.state.astype(np.float32),
            commanded=decoded.commanded.astype(np.float32),
            deltas=deltas.astype(np.float32),
            instruction=decoded.instruction,
            task=decoded.task,
            source=decoded.source,
            success=decoded.success,
            first_success=decoded.first_success,
            rate_hz=decoded.spec.rate_hz,
        )
