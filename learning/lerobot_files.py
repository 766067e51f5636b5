"""The files of a LeRobot dataset v3, read in bulk: by single frames, hundreds of episodes take minutes.

An episode is some rows of a parquet file. Its pictures stand in the rows, or are a stretch of a video file for each camera.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from learning.episode import Float32Array
from learning.images import resize_square
from robot_stack.core.errors import BadFileError, ProphRLError, UnknownNameError

Frames = npt.NDArray[np.uint8]
Row = Mapping[str, Any]
IMAGES = "observation.images."
INFO = "meta/info.json"
VERSION = "v3"
PICTURES = ("image", "video")  # types of features
# What reading one episode may raise when its files are damaged (SyntaxError: Pillow, on a PNG whose chunks are broken).
UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, SyntaxError, pa.ArrowException, ProphRLError)


class LeRobotFiles:
    """A dataset's folder.

    Args:
        root: the folder.

    Attributes:
        info: content of ``meta/info.json``.
        rows: LeRobot's facts about each episode, in their order.

    Raises:
        BadFileError: not a LeRobot dataset of version 3, or its description is damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = _read_info(root)
        self.rows = self._episode_rows()
        self._open: tuple[Path, pa.Table] | None = None

    @property
    def features(self) -> Mapping[str, Mapping[str, Any]]:
        """What a frame holds: key -> dtype, shape, names."""
        features: Mapping[str, Mapping[str, Any]] = self.info["features"]
        return features

    @property
    def picture_keys(self) -> tuple[str, ...]:
        """Keys of the colour cameras."""
        depth = "video.is_depth_map"
        return tuple(
            key
            for key, feature in self.features.items()
            if feature.get("dtype") in PICTURES and not (feature.get("info") or {}).get(depth)
        )

    def feature(self, key: str, what: str) -> Mapping[str, Any]:
        """The description of a feature.

        Raises:
            BadFileError: there is none of that name; lists all with their shapes.
        """
        if key not in self.features:
            unknown = UnknownNameError(what, key, self.features)
            raise BadFileError(self.root, f"{unknown}{self.described()}")
        return self.features[key]

    def described(self) -> str:
        """The features with types, shapes and the names of their numbers, a line each."""
        lines = []
        for key, feature in self.features.items():
            names = names_of(feature)
            lines.append(f"\n  {key}: {feature.get('dtype')} {list(feature.get('shape', ()))} {', '.join(names)}".rstrip())
        return "".join(lines)

    def table(self, row: Row, keys: Sequence[str]) -> "EpisodeTable":
        """The frames of an episode.

        Args:
            row: one of ``rows``.
            keys: the features that are wanted.

        Raises:
            BadFileError: the file is missing or damaged, or lacks frames.
        """
        path = self.root / f"data/chunk-{row['data/chunk_index']:03d}/file-{row['data/file_index']:03d}.parquet"
        if self._open is None or self._open[0] != path:
            self._open = None  # episodes come in the order of the files: one at a time is enough
            try:
                file = pq.ParquetFile(path)
                there = set(file.schema_arrow.names)
                self._open = path, file.read([key for key in ("episode_index", *keys) if key in there])
            except (OSError, pa.ArrowException) as error:
                raise BadFileError(path, f"the table of frames cannot be read: {error}") from error
        whole = self._open[1]
        begin, end = np.searchsorted(whole["episode_index"].to_numpy(), [row["episode_index"], row["episode_index"] + 1])
        part = whole.slice(begin, end - begin)
        if len(part) != row["length"]:
            raise BadFileError(path, f"{len(part)} frames, {row['length']} expected")
        return EpisodeTable(self.root, row, part, path, self.info["fps"])

    def _episode_rows(self) -> list[Row]:
        """What lies beyond the total was never committed: a conversion was killed there."""
        rows: list[dict[str, Any]] = []
        for path in sorted((self.root / "meta" / "episodes").glob("*/*.parquet")):
            try:
                file = pq.ParquetFile(path)  # opened once: its footer, with a hundred statistics, is most of the work
                rows += file.read([name for name in file.schema_arrow.names if not name.startswith("stats/")]).to_pylist()
            except (OSError, pa.ArrowException) as error:
                raise BadFileError(path, f"the table of episodes is damaged: {error}") from error
        total = self.info["total_episodes"]
        wanted: list[Row] = sorted((row for row in rows if row["episode_index"] < total), key=lambda row: row["episode_index"])
        if not wanted:
            raise BadFileError(self.root, f"no episode in meta/episodes, {total} expected by {INFO}")
        return wanted


@dataclass(frozen=True)
class EpisodeTable:
    """The frames of one episode.

    Attributes:
        root: folder of the dataset.
        row: facts about the episode.
        frames: its part of the file.
        path: the file.
        rate_hz: frames a second.
    """

    root: Path
    row: Row
    frames: pa.Table
    path: Path
    rate_hz: float

    def numbers(self, key: str) -> Float32Array:
        """[T, D] of a feature of D numbers."""
        if key not in self.frames.column_names:
            raise BadFileError(self.path, f"no column {key}")
        column = self.frames[key].combine_chunks()
        if column.null_count:
            raise BadFileError(self.path, f"{column.null_count} frames have no {key}")
        flat = column if pa.types.is_primitive(column.type) else column.flatten()
        return flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(self.frames), -1)

    def pictures(self, key: str, image_size: int | None = None) -> Frames:
        """[T, H, W, 3] of one camera.

        Args:
            key: its feature.
            image_size: side to which pictures are resized [px]; None: as they are.

        Raises:
            BadFileError: a video that is damaged or too short.
            OSError, SyntaxError: a picture that is damaged.
        """
        if key in self.frames.column_names:
            stored = self.frames[key].combine_chunks().field("bytes").to_pylist()
            decoded = (np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in stored)
            return np.stack([_sized(picture, image_size) for picture in decoded])
        video = f"videos/{key}"
        path = (
            self.root / f"{video}/chunk-{self.row[f'{video}/chunk_index']:03d}/file-{self.row[f'{video}/file_index']:03d}.mp4"
        )
        return _video_frames(path, self.row[f"{video}/from_timestamp"], len(self.frames), self.rate_hz, image_size)


def names_of(feature: Mapping[str, Any]) -> list[str]:
    """Names of a feature's numbers, which LeRobot keeps as a list or as lists in a mapping; empty where there are none."""
    names = feature.get("names") or []
    if isinstance(names, Mapping):
        names = [name for part in names.values() for name in (part if isinstance(part, list) else [part])]
    return [str(name) for name in names]


def _read_info(root: Path) -> dict[str, Any]:
    path = root / INFO
    try:
        info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, total = str(info["codebase_version"]), int(info["total_episodes"])
        info["fps"], features = float(info["fps"]), info["features"]
        if not isinstance(features, dict):
            raise TypeError(f"features must be a mapping, not {type(features).__name__}")
    except FileNotFoundError as error:
        raise BadFileError(root, f"no LeRobot dataset: it has no {INFO}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFileError(path, f"cannot be read: {error!r}") from error
    if not version.startswith(VERSION):
        convert = f"python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=<name> --root={root} --push-to-hub=false"
        raise BadFileError(root, f"LeRobot dataset of version {version}, {VERSION}.0 is needed; LeRobot converts it: {convert}")
    if total < 1:
        raise BadFileError(path, "the dataset has no episodes")
    return info


def _sized(picture: Frames, image_size: int | None) -> Frames:
    return picture if image_size is None else resize_square(picture, image_size)


def _video_frames(path: Path, begin_s: float, count: int, rate_hz: float, image_size: int | None) -> Frames:
    """``count`` frames from ``begin_s`` on, one each period.

    Raises:
        BadFileError: the video is damaged, or a frame is missing.
    """
    import av  # only datasets with video need it

    frames: list[Frames] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadFileError(path, "holds no film: it is damaged, or was not finished")
            stream = container.streams.video[0]
            if begin_s > 0:
                container.seek(round(begin_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                periods_late = (frame.time - begin_s) * rate_hz - len(frames)
                if periods_late < -0.5:
                    continue  # before the episode: films are entered at a key frame
                if periods_late > 0.5 or frame.is_corrupt:
                    break  # else what follows would show later moments than it says
                frames.append(_sized(frame.to_ndarray(format="rgb24"), image_size))
                if len(frames) == count:
                    return np.stack(frames)
    except av.FFmpegError as error:
        raise BadFileError(path, f"the video cannot be decoded: {error}") from error
    raise BadFileError(path, f"{len(frames)} sound frames from {begin_s:.2f} s on, {count} expected")
