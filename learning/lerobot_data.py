"""LeRobot datasets of ours -> episodes, read in bulk from their files: by single frames, hundreds of them take minutes."""

import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from learning.episode import Episode, Float32Array
from robot_stack.core.actions import decompose
from robot_stack.core.errors import BadFileError, ProphRLError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec

Frames = npt.NDArray[np.uint8]
IMAGES = "observation.images."
DISCARD = "discard"
SUCCESS_OF = {"success": True, "failure": False}
ABSENT = -1

_log = logging.getLogger(__name__)


def read_robot(root: Path) -> RobotSpec:
    """The robot on which a dataset was recorded.

    Raises:
        BadFileError: the dataset does not say.
    """
    path = root / "meta" / "robot.yaml"
    if not path.is_file():
        raise BadFileError(root, "has no meta/robot.yaml: it was not made by `prophrl convert`")
    return RobotSpec.load(path)


def load_dataset(root: Path, camera: str | None = None, spec: RobotSpec | None = None) -> list[Episode]:
    """All episodes but those labelled "discard"; a broken one is reported by name and skipped.

    Args:
        root: folder of the dataset.
        camera: keep only this camera; by default all.
        spec: refuse data of another robot.

    Raises:
        SpecMismatchError: the data come from another robot than ``spec``.
        UnknownNameError: no such camera.
        BadFileError: not a dataset of ours, or nothing in it can be read.
    """
    robot = read_robot(root)
    if spec is not None and spec.fingerprint != robot.fingerprint:
        listed = [f"robot {robot.name} ({robot.fingerprint}) there, {spec.name} ({spec.fingerprint}) here"]
        raise SpecMismatchError(f"dataset {root}", f"robot {spec.name}", listed)
    if camera is not None and camera not in robot.camera_names:
        raise UnknownNameError(f"camera of dataset {root}", camera, robot.camera_names)
    cameras = robot.camera_names if camera is None else (camera,)
    tables: dict[Path, pa.Table] = {}
    episodes = []
    for row in _episode_rows(root):
        if row["episode/label"] == DISCARD:
            continue
        try:
            episodes.append(_episode(root, row, robot, cameras, tables))
        except (OSError, ValueError, KeyError, pa.ArrowException, ProphRLError) as error:
            _log.warning("%s: episode %s skipped: %s", root, row["episode/name"], error)
    if not episodes:
        raise BadFileError(root, "no episode in it can be read")
    return episodes


def _episode_rows(root: Path) -> list[dict[str, Any]]:
    """LeRobot's facts about the episodes. What lies beyond the total was never committed: a conversion was killed there."""
    try:
        total = int(json.loads((root / "meta" / "info.json").read_text(encoding="utf-8"))["total_episodes"])
    except (OSError, ValueError, KeyError) as error:
        raise BadFileError(root / "meta" / "info.json", f"cannot be read: {error!r}") from error
    rows = []
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        file = pq.ParquetFile(path)  # opened once: its footer, with a hundred columns of statistics, is most of the work
        rows += file.read([name for name in file.schema_arrow.names if not name.startswith("stats/")]).to_pylist()
    return sorted((row for row in rows if row["episode_index"] < total), key=lambda row: row["episode_index"])


def _episode(
    root: Path, row: Mapping[str, Any], robot: RobotSpec, cameras: tuple[str, ...], tables: dict[Path, pa.Table]
) -> Episode:
    path = root / f"data/chunk-{row['data/chunk_index']:03d}/file-{row['data/file_index']:03d}.parquet"
    if path not in tables:
        tables.clear()  # episodes come in the order of the files: one at a time is enough
        tables[path] = pq.read_table(path)
    indices = tables[path]["episode_index"].to_numpy()
    begin, end = np.searchsorted(indices, [row["episode_index"], row["episode_index"] + 1])
    table = tables[path].slice(begin, end - begin)
    if len(table) != row["length"]:
        raise BadFileError(path, f"{len(table)} frames, {row['length']} expected")
    commanded, targets = _numbers(table, "observation.commanded"), _numbers(table, "action")
    deltas = decompose(commanded.astype(np.float64), targets[:, None].astype(np.float64), robot.action_kinds)[:, 0]
    first = row["episode/first_success"]
    return Episode(
        name=row["episode/name"],
        images={name: _pictures(root, row, table, name) for name in cameras},
        state=_numbers(table, "observation.state"),
        commanded=commanded,
        deltas=deltas.astype(np.float32),
        instruction=row["tasks"][0],
        task=row["episode/task"],
        source=row["episode/source"],
        success=SUCCESS_OF.get(row["episode/label"]),
        first_success=None if first == ABSENT else first,
    )


def _numbers(table: pa.Table, key: str) -> Float32Array:
    column = table[key].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(table), -1)


def _pictures(root: Path, row: Mapping[str, Any], table: pa.Table, camera: str) -> Frames:
    """Frames [T, H, W, 3] of one camera: stored one by one, or as video."""
    key = f"{IMAGES}{camera}"
    if key in table.column_names:
        stored = table[key].combine_chunks().field("bytes").to_pylist()
        return np.stack([np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in stored])
    video = f"videos/{key}"
    path = root / f"{video}/chunk-{row[f'{video}/chunk_index']:03d}/file-{row[f'{video}/file_index']:03d}.mp4"
    return _video_frames(path, row[f"{video}/from_timestamp"], len(table))


def _video_frames(path: Path, begin_s: float, count: int) -> Frames:
    """``count`` frames from ``begin_s`` on.

    Raises:
        BadFileError: the video is damaged or too short.
    """
    import av  # only datasets with video need it

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            half_frame_s = 0.5 / float(stream.average_rate)
            if begin_s > 0:
                container.seek(round(begin_s / stream.time_base), stream=stream)
            frames = []
            for frame in container.decode(stream):
                if frame.time >= begin_s - half_frame_s:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    return np.stack(frames)
    except (av.FFmpegError, IndexError) as error:
        raise BadFileError(path, f"the video cannot be decoded: {error}") from error
    raise BadFileError(path, f"{len(frames)} frames from {begin_s:.2f} s on, {count} expected")
