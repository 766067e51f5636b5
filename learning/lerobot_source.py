"""Anyone's LeRobot dataset v3, without a robot file: the settings say what its numbers mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from learning.action_forms import ActionForm, ActionSpace, GripperScale, RotationForm, kinds_of
from learning.data_sources import Dataset, cameras_of, paths_of, skip
from learning.episode import Episode
from learning.lerobot_files import IMAGES, UNREADABLE, LeRobotFiles, Row, names_of
from robot_stack.core.errors import BadFileError, ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import FloatArray

ARM = ("3*position", "3*rotation", "gripper")  # what each seven numbers are where nobody says


@dataclass(frozen=True)
class LeRobotSource:
    """A dataset and what its numbers mean.

    Attributes:
        path: folder of the dataset, or of several that are alike.
        name: of the dataset; None: the robot's, or the folder's.
        weight: see ``Dataset.weight``.
        robot: what moved; None: as the dataset says.
        cameras: keys of the cameras that are read, with or without "observation.images."; None: all.
        image_size: side to which pictures are resized as they are read [px], to save memory; None: as they are.
        state: key of what is measured.
        action: key of what is commanded.
        action_columns: which numbers of the action count, by their places or names; None: all.
        measured_by: for each of these the number of the state that measures what it moves, by place or name; None: those of the
            same names, or the same places where state and action are equally long; empty: none does.
        action_space: see ``ActionSpace``.
        numbers: kind of each number of the action, in words: position, rotation, joint, gripper, or 3*position for three of
            them; None: joints where the space is one of joints, otherwise 3 positions, 3 rotations and a gripper an arm.
        rotation: see ``RotationForm``; of the action.
        measured_rotation: of the state; None: as in the action.
        gripper: numbers for a closed and an open gripper in the action.
        measured_gripper: in the state; None: as in the action.

    Raises:
        ProphRLError: an unknown word; lists the valid ones.
    """

    path: str | tuple[str, ...]
    name: str | None = None
    weight: float = 1.0
    robot: str | None = None
    cameras: tuple[str, ...] | None = None
    image_size: int | None = None
    state: str = "observation.state"
    action: str = "action"
    action_columns: tuple[int | str, ...] | None = None
    measured_by: tuple[int | str, ...] | None = None
    action_space: str = ActionSpace.ABSOLUTE.value
    numbers: tuple[str, ...] | None = None
    rotation: str = RotationForm.VECTOR.value
    measured_rotation: str | None = None
    gripper: GripperScale = GripperScale()
    measured_gripper: GripperScale | None = None

    def __post_init__(self) -> None:
        _one_of("action_space", self.action_space, [each.value for each in ActionSpace])
        _one_of("rotation", self.rotation, [each.value for each in RotationForm])
        _one_of("measured_rotation", self.measured_rotation or self.rotation, [each.value for each in RotationForm])
        if self.numbers is not None:
            kinds_of(self.numbers)
        if self.image_size is not None and self.image_size < 1:
            raise ProphRLError(f"image_size must be positive or null, got {self.image_size}")

    def read(self, robot: RobotSpec) -> list[Dataset]:
        """One dataset, or one for each robot and rate where the folders differ in these.

        Raises:
            BadFileError: not a LeRobot dataset of version 3, or its features do not fit the settings; lists them.
        """
        datasets: dict[tuple[str, float, tuple[ActionKind, ...]], Dataset] = {}
        for root in paths_of(self.path):
            part = self._dataset(root)
            known = datasets.setdefault((part.robot, part.rate_hz, part.action_kinds), replace(part, episodes=(), skipped={}))
            datasets[part.robot, part.rate_hz, part.action_kinds] = known.joined(part)
        return list(datasets.values())

    def _dataset(self, root: Path) -> Dataset:
        files = LeRobotFiles(root)
        columns = _Columns.of(self, files)
        episodes: list[Episode] = []
        skipped: dict[str, str] = {}
        for row in files.rows:
            name = f"episode_{row['episode_index']:06d}"
            try:
                episodes.append(columns.episode(name, row))
            except UNREADABLE as error:
                skip(skipped, str(root), name, error)
        robot = self.robot or files.info.get("robot_type") or root.resolve().name
        return Dataset(
            name=self.name or robot,
            episodes=tuple(episodes),
            weight=self.weight,
            rate_hz=files.info["fps"],
            action_kinds=columns.form.kinds,
            robot=robot,
            cameras=cameras_of(episodes),
            skipped=skipped,
        )


@dataclass(frozen=True)
class _Columns:
    """Where in the dataset's numbers ours are; checked once for the whole dataset."""

    files: LeRobotFiles
    source: LeRobotSource
    form: ActionForm
    action: list[int]
    measured: list[int]
    cameras: Mapping[str, str]

    @classmethod
    def of(cls, source: LeRobotSource, files: LeRobotFiles) -> "_Columns":
        try:
            return cls._checked(source, files)
        except BadFileError:
            raise
        except ProphRLError as error:
            raise BadFileError(files.root, f"{error}. The dataset holds:{files.described()}") from error

    @classmethod
    def _checked(cls, source: LeRobotSource, files: LeRobotFiles) -> "_Columns":
        action = _vector(files, source.action, "action")
        state = _vector(files, source.state, "state")
        chosen = _places("action_columns", source.action_columns, action, list(range(_length(action))))
        measured = _places("measured_by", source.measured_by, state, _counterparts(state, action, chosen))
        space = ActionSpace(source.action_space)
        form = ActionForm(
            space,
            _kinds(source.numbers, space, len(chosen)),
            RotationForm(source.rotation),
            source.gripper,
            RotationForm(source.measured_rotation or source.rotation),
            source.measured_gripper or source.gripper,
        )
        if len(form.kinds) != len(chosen):
            raise ProphRLError(f"numbers tells {len(form.kinds)} kinds, but {len(chosen)} numbers of {source.action!r} count")
        if len(measured) != len(chosen) and (measured or space.is_delta or source.measured_by is None):
            where = f"which number of {source.state!r} measures what each of {len(chosen)} numbers of {source.action!r} moves"
            none = "" if space.is_delta else ", or [] where none does"
            raise ProphRLError(f"{where}? Give measured_by, a place or a name for each{none}; got {len(measured)}")
        return cls(files, source, form, chosen, measured, _cameras(source, files))

    def episode(self, name: str, row: Row) -> Episode:
        source = self.source
        table = self.files.table(row, (source.state, source.action, *self.cameras.values()))
        state, action = table.numbers(source.state), table.numbers(source.action)
        for key, numbers in ((source.state, state), (source.action, action)):
            expected = _length(self.files.features[key])
            if numbers.shape[1] != expected:
                raise BadFileError(table.path, f"{numbers.shape[1]} numbers in {key}, {expected} expected")
            if not np.isfinite(numbers).all():
                raise BadFileError(table.path, f"{key} holds NaN or infinite numbers")
        measured: FloatArray | None = state[:, self.measured].astype(np.float64) if self.measured else None
        commanded, deltas = self.form.read(measured, action[:, self.action].astype(np.float64))
        return Episode(
            name=name,
            images={camera: table.pictures(key, source.image_size) for camera, key in self.cameras.items()},
            state=state,
            commanded=commanded.astype(np.float32),
            deltas=deltas.astype(np.float32),
            instruction=row["tasks"][0],
            rate_hz=self.files.info["fps"],
        )


def _vector(files: LeRobotFiles, key: str, what: str) -> Mapping[str, Any]:
    feature = files.feature(key, what)
    if len(feature.get("shape", ())) != 1 or not str(feature.get("dtype")).startswith(("float", "int")):
        raise ProphRLError(
            f"{what} {key!r} is {feature.get('dtype')} {list(feature.get('shape', ()))}, expected floats of shape [D]"
        )
    return feature


def _length(feature: Mapping[str, Any]) -> int:
    return int(feature["shape"][0])


def _places(setting: str, wanted: Sequence[int | str] | None, feature: Mapping[str, Any], default: list[int]) -> list[int]:
    if wanted is None:
        return default
    names, length = names_of(feature), _length(feature)
    places = []
    for item in wanted:
        if isinstance(item, int) and 0 <= item < length:
            places.append(item)
        elif item in names:
            places.append(names.index(str(item)))
        else:
            raise UnknownNameError(f"number in {setting}", str(item), [f"0 to {length - 1}", *names])
    return places


def _counterparts(state: Mapping[str, Any], action: Mapping[str, Any], chosen: Sequence[int]) -> list[int]:
    """Places in the state of what the ``chosen`` numbers of the action move; none where that cannot be told."""
    measured, commanded = names_of(state), names_of(action)
    if len(commanded) == _length(action) and set(commanded) <= set(measured):
        return [measured.index(commanded[place]) for place in chosen]
    return list(chosen) if _length(state) == _length(action) else []


def _kinds(numbers: Sequence[str] | None, space: ActionSpace, length: int) -> tuple[ActionKind, ...]:
    if numbers is not None:
        return kinds_of(numbers)
    if space.is_of_joints:
        return (ActionKind.JOINT,) * length
    arms, rest = divmod(length, 7)
    if rest:
        raise ProphRLError(f"{length} numbers of an action: give the kind of each, numbers=[...], of {', '.join(ActionKind)}")
    return kinds_of(ARM) * arms


def _cameras(source: LeRobotSource, files: LeRobotFiles) -> dict[str, str]:
    """Short name -> key of the cameras that are read."""
    there = {key.removeprefix(IMAGES).removeprefix("observation."): key for key in files.picture_keys}
    if not there:
        raise ProphRLError("no camera in it")
    if source.cameras is None:
        return there
    chosen: dict[str, str] = {}
    for wanted in source.cameras:
        name = next((name for name, key in there.items() if wanted in (name, key)), None)
        if name is None:
            raise UnknownNameError("camera", wanted, there.values())
        chosen[name] = there[name]
    if not chosen:
        raise UnknownNameError("camera", "[]", there.values())
    return chosen


def _one_of(setting: str, word: str, valid: Sequence[str]) -> None:
    if word not in valid:
        raise UnknownNameError(setting, word, valid)
