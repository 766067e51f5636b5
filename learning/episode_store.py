"""Recorded episodes on disk -> ``Episode`` in memory: LeRobot datasets of ours, ``.npz`` episodes, BRIDGE-like clips.

The ``.npz`` form is for data that never saw a robot's topics (a simulator stepped directly, imagined rollouts): arrays
``images.<camera>``, ``state``, ``commanded``, ``deltas`` and scalars as text or whole numbers, no pickle. Absent values
are -1 (``success``, ``first_success``) or "".
"""

import logging
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from learning.episode import Episode
from robot_stack.core.errors import BadFileError, ProphRLError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec

FORMAT = 1
IMAGE_PREFIX = "images."
CLIP_KEYS = frozenset({"frames", "state", "action", "instruction", "source"})
CLIP_CAMERA = "front"

Arrays = dict[str, npt.NDArray[np.generic]]
_log = logging.getLogger(__name__)


def save_episode(folder: Path, episode: Episode, fingerprint: str = "") -> Path:
    """Write ``<folder>/<episode.name>.npz``, whole or not at all.

    Args:
        folder: created where missing.
        episode: what to write.
        fingerprint: ``RobotSpec.fingerprint`` of the robot it was recorded on.

    Raises:
        BadFileError: the episode's name is not a plain file name.
    """
    folder = Path(folder)
    path = folder / f"{episode.name}.npz"
    if not episode.name or path.parent != folder or path.name.startswith("."):
        raise BadFileError(path, f"episode name {episode.name!r} must be a plain file name")
    folder.mkdir(parents=True, exist_ok=True)
    arrays: Arrays = {f"{IMAGE_PREFIX}{camera}": frames for camera, frames in episode.images.items()}
    arrays |= {"state": episode.state, "commanded": episode.commanded, "deltas": episode.deltas}
    texts = {"name": episode.name, "instruction": episode.instruction, "task": episode.task, "source": episode.source}
    arrays |= {key: np.array(text) for key, text in (texts | {"fingerprint": fingerprint}).items()}
    arrays["success"] = np.array(-1 if episode.success is None else int(episode.success))
    arrays["first_success"] = np.array(-1 if episode.first_success is None else episode.first_success)
    arrays["format"] = np.array(FORMAT)
    unfinished = folder / f".{episode.name}.{os.getpid()}.tmp"
    with unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    unfinished.replace(path)
    return path


def load_episodes(path: Path, camera: str | None = None, spec: RobotSpec | None = None) -> list[Episode]:
    """All episodes under ``path``, in the order of their names (``.npz``) or of the dataset (LeRobot).

    A broken episode is reported by name and skipped.

    Args:
        path: a LeRobot v3 dataset of ours, a folder of ``.npz`` episodes, or one ``.npz`` file.
        camera: keep only this camera; by default all.
        spec: refuse data of another robot.

    Raises:
        BadFileError: nothing there that can be read.
        SpecMismatchError: the data come from another robot than ``spec``.
        UnknownNameError: no such camera.
    """
    path = Path(path)
    if (path / "meta" / "info.json").is_file():
        from learning.lerobot_data import load_dataset  # brings pyarrow and av; not needed for .npz folders

        return load_dataset(path, camera, spec)
    files = [path] if path.suffix == ".npz" else sorted(path.glob("*.npz"))
    episodes = []
    for file in files:
        try:
            arrays = _read_arrays(file)
            episode = _episode_of_clip(file, arrays) if arrays.keys() >= CLIP_KEYS else _episode_of_arrays(file, arrays)
        except BadFileError as error:
            _log.warning("episode skipped: %s", error)
            continue
        if spec is not None:
            _check_robot(file, str(arrays.get("fingerprint", "")), spec)
        episodes.append(select_camera(episode, camera))
    if not episodes:
        raise BadFileError(path, "neither a LeRobot dataset nor a folder with readable .npz episodes")
    return episodes


def load_all(paths: Sequence[Path], spec: RobotSpec | None = None) -> list[Episode]:
    """Episodes of datasets, of folders of episodes, and of folders of such folders, however deep.

    Raises:
        BadFileError: nothing there that can be read.
    """
    episodes = [episode for path in paths for folder in _leaves(Path(path)) for episode in load_episodes(folder, spec=spec)]
    if not episodes:
        raise BadFileError(paths[0], "holds no episodes")
    return episodes


def _leaves(path: Path) -> list[Path]:
    """The folders at or below ``path`` that hold episodes themselves."""
    inner = [folder for folder in sorted(path.iterdir()) if folder.is_dir()] if path.is_dir() else []
    if not inner or (path / "meta" / "info.json").is_file() or any(path.glob("*.npz")):
        return [path]
    return [leaf for folder in inner for leaf in _leaves(folder)]


def fingerprint_of(path: Path) -> str | None:
    """``RobotSpec.fingerprint`` of the robot on which the data under ``path`` were recorded; None where they do not say.

    Raises:
        BadFileError: no data there.
        SpecMismatchError: episodes of different robots lie in one folder.
    """
    path = Path(path)
    if (path / "meta" / "info.json").is_file():
        from learning.lerobot_data import read_robot

        return read_robot(path).fingerprint
    files = [path] if path.suffix == ".npz" else sorted(path.glob("*.npz"))
    if not files:
        raise BadFileError(path, "neither a LeRobot dataset nor a folder of .npz episodes")
    by_fingerprint: dict[str, Path] = {}
    for file in files:
        try:
            with np.load(file, allow_pickle=False) as archive:
                mark = str(archive["fingerprint"]) if "fingerprint" in archive else ""
        except (OSError, ValueError, zipfile.BadZipFile):
            continue  # load_episodes names it
        by_fingerprint.setdefault(mark, file)
    if len(by_fingerprint) > 1:
        listed = [f"{file.name}: {mark or 'no fingerprint'}" for mark, file in by_fingerprint.items()]
        raise SpecMismatchError(f"one episode of {path}", "another one", listed)
    return next(iter(by_fingerprint), "") or None


def select_camera(episode: Episode, camera: str | None) -> Episode:
    """The episode with one camera only; None keeps all."""
    if camera is None:
        return episode
    if camera not in episode.images:
        raise UnknownNameError(f"camera of episode {episode.name}", camera, episode.images)
    values = {name: getattr(episode, name) for name in Episode.__dataclass_fields__}
    return Episode(**values | {"images": {camera: episode.images[camera]}})


def _check_robot(file: Path, fingerprint: str, spec: RobotSpec) -> None:
    if fingerprint and fingerprint != spec.fingerprint:
        difference = f"fingerprint of the robot: {fingerprint} in the episode, {spec.fingerprint} here"
        raise SpecMismatchError(f"episode {file}", f"robot {spec.name}", [difference])


def _read_arrays(file: Path) -> Arrays:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadFileError(file, f"not a readable .npz episode: {error}") from error


def _episode_of_arrays(file: Path, arrays: Arrays) -> Episode:
    missing = {"format", "name", "state", "commanded", "deltas", "instruction"} - arrays.keys()
    if missing:
        raise BadFileError(file, f"entries are missing: {', '.join(sorted(missing))}")
    if int(arrays["format"]) != FORMAT:
        raise BadFileError(file, f"format {int(arrays['format'])}, this version reads {FORMAT}")
    success, first = int(arrays["success"]), int(arrays["first_success"])
    numbers = {key: _finite(file, key, arrays[key]) for key in ("state", "commanded", "deltas")}
    images = {key.removeprefix(IMAGE_PREFIX): array for key, array in arrays.items() if key.startswith(IMAGE_PREFIX)}
    try:
        return Episode(
            name=str(arrays["name"]),
            images={camera: frames.astype(np.uint8, copy=False) for camera, frames in images.items()},
            instruction=str(arrays["instruction"]),
            task=str(arrays["task"]),
            source=str(arrays["source"]),
            success=None if success < 0 else bool(success),
            first_success=None if first < 0 else first,
            **numbers,
        )
    except ProphRLError as error:
        raise BadFileError(file, str(error)) from error


def _episode_of_clip(file: Path, arrays: Arrays) -> Episode:
    """A clip with measured poses as x, y, z, roll, pitch, yaw, gripper and actions as changes of these (BridgeData V2).

    The target in force is not in the clip: the measured pose stands in for it. Orientations become rotation vectors. A change
    of orientation is given in the base frame, R_next = Exp(change) R: so it predicts the next pose of the clips best (mean
    error 0.020 rad, against 0.026 in the tool frame and 0.025 for a sum of angles). Ours is in the tool frame.
    """
    state, action = (_finite(file, key, arrays[key]) for key in ("state", "action"))
    if state.ndim != 2 or state.shape[1] != 7 or action.shape != state.shape:
        raise BadFileError(file, f"state {state.shape} and action {action.shape} must both be [T, 7]")
    commanded, deltas = state.copy(), action.copy()
    rotation_base_tool = Rotation.from_euler("xyz", state[:, 3:6])
    change_base = Rotation.from_euler("xyz", action[:, 3:6]).as_rotvec()
    commanded[:, 3:6] = rotation_base_tool.as_rotvec()
    deltas[:, 3:6] = rotation_base_tool.inv().apply(change_base)
    try:
        return Episode(
            name=file.stem,
            images={CLIP_CAMERA: arrays["frames"].astype(np.uint8, copy=False)},
            state=state,
            commanded=commanded,
            deltas=deltas,
            instruction=str(arrays["instruction"]),
            source=str(arrays["source"]),
        )
    except ProphRLError as error:
        raise BadFileError(file, str(error)) from error


def _finite(file: Path, key: str, array: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise BadFileError(file, f"{key} holds NaN or infinite numbers")
    return numbers
