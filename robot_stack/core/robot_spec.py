"""RobotSpec: the facts about a robot type, read from ``config/robot/<name>.yaml`` and checked on load.

This file is the one source of names, limits and rates. Datasets, policies and world models store ``RobotSpec.fingerprint``
and are refused on a robot whose fingerprint differs.
"""

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.types import FloatArray


class ActionKind(enum.StrEnum):
    """What one number of an action is, and so how deltas of it are composed."""

    POSITION = "position"  # metres, additive
    ROTATION = "rotation"  # one of three numbers of a rotation vector [rad]
    JOINT = "joint"  # radians, additive
    GRIPPER = "gripper"  # opening, 0 closed to 1 open, absolute

    @property
    def is_additive(self) -> bool:
        return self in (ActionKind.POSITION, ActionKind.JOINT)


class CommandInterface(enum.StrEnum):
    """How commands reach the arm."""

    TARGET_POSE = "target_pose"  # geometry_msgs/PoseStamped plus a gripper trajectory


class Violation(enum.StrEnum):
    """What becomes of a step beyond the limits of motion."""

    SLOW_DOWN = "slow_down"  # the largest part of it that is allowed is taken
    HOLD = "hold"  # the arm brakes


@dataclass(frozen=True)
class CameraSpec:
    """One camera of the robot.

    Attributes:
        name: as in the topic ``camera/<name>/image_raw``.
        width, height: size of the published image [px].
        rate_hz: nominal rate.
        max_age_ns: oldest image on which the arm may move [ns]; at least two periods.
        sensor_noise: True where two healthy pictures are never identical, so that identical bytes mean a frozen camera.
    """

    name: str
    width: int
    height: int
    rate_hz: float
    max_age_ns: int
    sensor_noise: bool


@dataclass(frozen=True)
class ActionSpec:
    """One number of an action and its limits.

    Attributes:
        name: e.g. "x", "shoulder_pan_joint", "gripper".
        kind: see ``ActionKind``.
        lower, upper: limits of the target [m], [rad] or opening.
        max_velocity: limit of the target's speed, per second.
        max_acceleration: limit of its change, per second squared; infinite for a gripper.
    """

    name: str
    kind: ActionKind
    lower: float
    upper: float
    max_velocity: float
    max_acceleration: float


@dataclass(frozen=True)
class RobotSpec:
    """A robot type.

    Attributes:
        name: also the file's name.
        description: for people.
        base_frame, tool_frame: names of the frames (REP 103).
        rate_hz: rate of actions and of the recorded data.
        command_rate_hz: rate of the executor's ticks and of commands to the arm; a multiple of ``rate_hz``.
        command_interface: see ``CommandInterface``.
        joint_names: as in ``joint_states``.
        state_names: numbers of ``Observation.state``.
        actions: see ``ActionSpec``; order of every action array.
        cameras: see ``CameraSpec``; order of every list of images.
        max_state_age_ns: oldest joint state or pose on which the arm may move [ns].
        max_chunk_age_ns: oldest observation from which a chunk may still be executed [ns].
        max_jump: largest distance between two successive targets of a chunk, as a multiple of one action at full speed.
        on_violation: see ``Violation``.
    """

    name: str
    description: str
    base_frame: str
    tool_frame: str
    rate_hz: float
    command_rate_hz: float
    command_interface: CommandInterface
    joint_names: tuple[str, ...]
    state_names: tuple[str, ...]
    actions: tuple[ActionSpec, ...]
    cameras: tuple[CameraSpec, ...]
    max_state_age_ns: int
    max_chunk_age_ns: int
    max_jump: float
    on_violation: Violation

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read and check a robot file.

        Raises:
            BadFileError: the file is missing, not YAML, or breaks a rule; the message names the entry and what was expected.
        """
        path = Path(path)
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise BadFileError(path, f"cannot be read as YAML: {error}") from error
        return cls.from_mapping(raw, path)

    @classmethod
    def from_mapping(cls, raw: Any, source: Path | str = "robot file") -> Self:
        """Build from the mapping that a robot file holds; see ``load``."""
        reader = _Reader(raw, source)
        rate_hz = reader.positive("rate_hz")
        spec = cls(
            name=reader.text("name"),
            description=reader.text("description"),
            base_frame=reader.text("base_frame"),
            tool_frame=reader.text("tool_frame"),
            rate_hz=rate_hz,
            command_rate_hz=reader.positive("command_rate_hz"),
            command_interface=CommandInterface(reader.one_of("command_interface", [kind.value for kind in CommandInterface])),
            joint_names=reader.texts("joint_names"),
            state_names=reader.texts("state_names"),
            actions=tuple(_action(entry) for entry in reader.entries("actions")),
            cameras=tuple(_camera(entry) for entry in reader.entries("cameras")),
            max_state_age_ns=_milliseconds(reader.positive("max_state_age_ms")),
            max_chunk_age_ns=_milliseconds(reader.positive("max_chunk_age_ms")),
            max_jump=reader.positive("max_jump"),
            on_violation=Violation(reader.one_of("on_violation", [kind.value for kind in Violation])),
        )
        reader.refuse_unknown()
        spec._check(source)
        return spec

    def _check(self, source: Path | str) -> None:
        for kind, names in (("action", self.action_names), ("camera", self.camera_names), ("state", self.state_names)):
            if len(set(names)) != len(names):
                raise BadFileError(source, f"{kind} names are not unique: {list(names)}")
        ratio = self.command_rate_hz / self.rate_hz
        if abs(ratio - round(ratio)) > 1e-6 or ratio < 1.0 - 1e-6:
            raise BadFileError(
                source, f"command_rate_hz must be a multiple of rate_hz, got {self.command_rate_hz:g} and {self.rate_hz:g}"
            )
        rotations = [i for i, action in enumerate(self.actions) if action.kind is ActionKind.ROTATION]
        starts = rotations[::3]
        if len(rotations) % 3 or rotations != [start + k for start in starts for k in range(3)]:
            raise BadFileError(source, "actions of kind 'rotation' come in threes, next to each other (a rotation vector)")

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(action.name for action in self.actions)

    @property
    def action_kinds(self) -> tuple[ActionKind, ...]:
        return tuple(action.kind for action in self.actions)

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    @property
    def period_ns(self) -> int:
        """Time of one action [ns]."""
        return round(1e9 / self.rate_hz)

    @property
    def commands_per_action(self) -> int:
        """Ticks of the executor for each action."""
        return round(self.command_rate_hz / self.rate_hz)

    @property
    def command_period_ns(self) -> int:
        """Time of one tick of the executor [ns]."""
        return round(1e9 / self.command_rate_hz)

    @property
    def lower(self) -> FloatArray:
        """Lower limits of the targets [A]."""
        return np.array([action.lower for action in self.actions])

    @property
    def upper(self) -> FloatArray:
        """Upper limits of the targets [A]."""
        return np.array([action.upper for action in self.actions])

    @property
    def max_step(self) -> FloatArray:
        """Largest change of the target in one action [A]."""
        return self.max_velocity / self.rate_hz

    @property
    def max_velocity(self) -> FloatArray:
        """Largest speed of the target [A], per second."""
        return np.array([action.max_velocity for action in self.actions])

    @property
    def max_acceleration(self) -> FloatArray:
        """Largest change of that speed [A], per second squared; infinite for grippers."""
        return np.array([action.max_acceleration for action in self.actions])

    @property
    def fingerprint(self) -> str:
        """Hash of what a dataset or a policy depends on: names, kinds, order, rate and image sizes; not limits or ages."""
        facts = {
            "robot": self.name,
            "rate_hz": self.rate_hz,
            "state": self.state_names,
            "actions": [(action.name, action.kind.value) for action in self.actions],
            "cameras": [(camera.name, camera.width, camera.height) for camera in self.cameras],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def camera(self, name: str) -> CameraSpec:
        """The camera of that name.

        Raises:
            UnknownNameError: the robot has no such camera.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise UnknownNameError(f"camera of robot {self.name}", name, self.camera_names)

    def as_mapping(self) -> dict[str, Any]:
        """Plain data, for manifests and logs."""
        return dataclasses.asdict(self)


class _Reader:
    """Typed access to one mapping of a robot file; each refusal names the entry and what was expected."""

    def __init__(self, raw: Any, source: Path | str, where: str = "") -> None:
        if not isinstance(raw, Mapping):
            raise BadFileError(source, f"{where or 'the file'} must be a mapping, got {type(raw).__name__}")
        self._raw, self._source, self._where = raw, source, where
        self._seen: set[str] = set()

    def _get(self, key: str) -> Any:
        self._seen.add(key)
        if key not in self._raw:
            raise BadFileError(self._source, f"{self._where}{key} is missing")
        return self._raw[key]

    def _refuse(self, key: str, expected: str) -> BadFileError:
        return BadFileError(self._source, f"{self._where}{key} must be {expected}, got {self._raw[key]!r}")

    def text(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not value:
            raise self._refuse(key, "a non-empty text")
        return value

    def one_of(self, key: str, valid: Sequence[str]) -> str:
        value = self.text(key)
        if value not in valid:
            raise self._refuse(key, f"one of {', '.join(valid)}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._refuse(key, "a list of texts")
        return tuple(value)

    def number(self, key: str) -> float:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._refuse(key, "a finite number")
        return float(value)

    def positive(self, key: str) -> float:
        value = self.number(key)
        if value <= 0:
            raise self._refuse(key, "a positive number")
        return value

    def flag(self, key: str) -> bool:
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._refuse(key, "true or false")
        return value

    def limits(self, key: str) -> tuple[float, float]:
        value = self._get(key)
        if (
            not isinstance(value, list)
            or len(value) != 2
            or not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value)
            or value[0] >= value[1]
        ):
            raise self._refuse(key, "[lower, upper], two finite numbers with lower < upper")
        return float(value[0]), float(value[1])

    def entries(self, key: str) -> list["_Reader"]:
        value = self._get(key)
        if not isinstance(value, list) or not value:
            raise self._refuse(key, "a non-empty list")
        return [_Reader(item, self._source, f"{self._where}{key}[{i}].") for i, item in enumerate(value)]

    def refuse_unknown(self) -> None:
        unknown = [str(key) for key in self._raw if key not in self._seen]
        if unknown:
            raise BadFileError(self._source, f"unknown entry {self._where}{unknown[0]}; valid: {', '.join(sorted(self._seen))}")

    def refuse(self, problem: str) -> BadFileError:
        return BadFileError(self._source, f"{self._where}{problem}")


def _milliseconds(value: float) -> int:
    return round(value * 1e6)


def _action(reader: _Reader) -> ActionSpec:
    lower, upper = reader.limits("limits")
    kind = ActionKind(reader.one_of("kind", [kind.value for kind in ActionKind]))
    spec = ActionSpec(
        name=reader.text("name"),
        kind=kind,
        lower=lower,
        upper=upper,
        max_velocity=reader.positive("max_velocity"),
        max_acceleration=math.inf if kind is ActionKind.GRIPPER else reader.positive("max_acceleration"),
    )
    reader.refuse_unknown()
    return spec


def _camera(reader: _Reader) -> CameraSpec:
    spec = CameraSpec(
        name=reader.text("name"),
        width=int(reader.positive("width")),
        height=int(reader.positive("height")),
        rate_hz=reader.positive("rate_hz"),
        max_age_ns=_milliseconds(reader.positive("max_age_ms")),
        sensor_noise=reader.flag("sensor_noise"),
    )
    if spec.max_age_ns < 2e9 / spec.rate_hz:
        raise reader.refuse(f"max_age_ms must be at least two periods of the stream ({2e3 / spec.rate_hz:.0f} ms)")
    reader.refuse_unknown()
    return spec
