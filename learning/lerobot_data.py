"""LeRobot datasets that ``prophrl convert`` wrote -> episodes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from learning.data_sources import skip
from learning.episode import Episode
from learning.lerobot_files import IMAGES, UNREADABLE, LeRobotFiles
from robot_stack.core.actions import decompose
from robot_stack.core.camera import CameraModel, cameras_from_plain
from robot_stack.core.errors import BadFileError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec

DISCARD = "discard"
SUCCESS_OF = {"success": True, "failure": False}
ABSENT = -1


def read_robot(root: Path) -> RobotSpec:
    """The robot on which a dataset was recorded.

    Raises:
        BadFileError: the dataset does not say.
    """
    path = root / "meta" / "robot.yaml"
    if not path.is_file():
        problem = "has no meta/robot.yaml: it was not made by `prophrl convert`; read it with data=lerobot"
        raise BadFileError(root, f"{problem} data.path={root}")
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
    episodes = read_dataset(root, robot, {}, camera)
    if not episodes:
        raise BadFileError(root, "no episode in it can be read")
    return episodes


def read_dataset(root: Path, robot: RobotSpec, skipped: dict[str, str], camera: str | None = None) -> list[Episode]:
    """The episodes that can be read, but those labelled "discard".

    Args:
        root: folder of the dataset.
        robot: ``read_robot`` of it.
        skipped: gets name -> why of those that cannot be read.
        camera: keep only this camera; by default all.

    Raises:
        BadFileError: not a LeRobot dataset of version 3.
    """
    files = LeRobotFiles(root)
    cameras = robot.camera_names if camera is None else (camera,)
    calibrated = _calibrated(root)
    episodes = []
    for row in files.rows:
        if row["episode/label"] == DISCARD:
            continue
        try:
            models = calibrated.get(row["episode/name"], {})
            episodes.append(_episode(files, row, robot, {name: models.get(name) for name in cameras}))
        except UNREADABLE as error:
            skip(skipped, str(root), row["episode/name"], error)
    return episodes


def _calibrated(root: Path) -> dict[str, dict[str, CameraModel]]:
    """Episode -> its calibrated cameras; empty for datasets that do not tell.

    Raises:
        BadFileError: the dataset's list of them cannot be read.
    """
    path = root / "meta" / "cameras.json"
    if not path.is_file():
        return {}
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        rigs = [cameras_from_plain(rig, path) for rig in noted["rigs"]]
        return {str(name): rigs[number] for name, number in noted["episodes"].items()}
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadFileError(path, f"not a list of cameras: {error!r}") from error


def _episode(
    files: LeRobotFiles, row: Mapping[str, Any], robot: RobotSpec, cameras: Mapping[str, CameraModel | None]
) -> Episode:
    keys = {name: f"{IMAGES}{name}" for name in cameras}
    table = files.table(row, ("observation.commanded", "action", "observation.state", *keys.values()))
    commanded, targets = table.numbers("observation.commanded"), table.numbers("action")
    deltas = decompose(commanded.astype(np.float64), targets[:, None].astype(np.float64), robot.action_kinds)[:, 0]
    first = row["episode/first_success"]
    return Episode(
        name=row["episode/name"],
        images={name: table.pictures(key) for name, key in keys.items()},
        state=table.numbers("observation.state"),
        commanded=commanded,
        deltas=deltas.astype(np.float32),
        instruction=row["tasks"][0],
        task=row["episode/task"],
        source=row["episode/source"],
        success=SUCCESS_OF.get(row["episode/label"]),
        first_success=None if first == ABSENT else first,
        rate_hz=robot.rate_hz,
        cameras={name: model for name, model in cameras.items() if model is not None},
    )
