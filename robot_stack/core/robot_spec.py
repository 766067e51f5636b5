"""RobotSpec: the facts about a robot type, read from ``config/robot/<name>.yaml`` and checked on load.

This file is the one source of names, limits and rates. Datasets, policies and world models store ``RobotSpec.fingerprint``
and are refused on a robot whose fingerprint differs.
"""

import dataclasses
import enum
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.spec_reader import SpecReader
from robot_stack.core.types import FloatArray
from robot_stack.core.workspace import Box, Workspace


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
    """How commands reach an arm or a gripper."""

    TARGET_POSE = "target_pose"  # geometry_msgs/PoseStamped: x, y, z and, where there are any, the three rotations
    JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory for ros2_control's joint_trajectory_controller
    GRIPPER_TRAJECTORY = "gripper_trajectory"  # trajectory_msgs/JointTrajectory of one point
    GRIPPER_POSITION = "gripper_position"  # std_msgs/Float64MultiArray for a position controller

    @property
    def is_gripper(self) -> bool:
        return self in (CommandInterface.GRIPPER_TRAJECTORY, CommandInterface.GRIPPER_POSITION)


class Violation(enum.StrEnum):
    """What becomes of a step beyond the limits of motion."""

    SLOW_DOWN = "slow_down"  # the largest part of it that is allowed is taken
    HOLD = "hold"  # the arm brakes


class Compression(enum.StrEnum):
    """How the pictures of a camera travel."""

    NONE = "none"  # sensor_msgs/Image on ``camera/<name>/image_raw``
    JPEG = "jpeg"  # sensor_msgs/CompressedImage on ``camera/<name>/image_raw/compressed``


@dataclass(frozen=True)
class CameraSpec:
    """One camera of the robot.

    Attributes:
        name: as in the topic ``camera/<name>/image_raw``.
        width, height: size of the published image [px].
        rate_hz: nominal rate.
        max_age_ns: oldest image on which the arm may move [ns]; at least two periods.
        sensor_noise: True where two healthy pictures are never identical, so that identical bytes mean a frozen camera.
        compression: see ``Compression``; here, so that every node of the robot agrees.
        depth: whether depth is published, too, aligned to the pictures.
    """

    name: str
    width: int
    height: int
    rate_hz: float
    max_age_ns: int
    sensor_noise: bool
    compression: Compression = Compression.NONE
    depth: bool = False


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
class CommandSpec:
    """One topic on which the robot is commanded.

    Attributes:
        interface: see ``CommandInterface``.
        topic: relative name; for a controller of ros2_control "<controller>/joint_trajectory" or "<controller>/commands".
        actions: names of the actions that go there.
        joints: their names on that topic; by default those of the actions.
        closed, open: grippers: what is commanded for an opening of 0 and of 1 [m or rad].
    """

    interface: CommandInterface
    topic: str
    actions: tuple[str, ...]
    joints: tuple[str, ...]
    closed: float = 0.0
    open: float = 1.0


@dataclass(frozen=True)
class RobotSpec:
    """A robot type.

    Attributes:
        name: also the file's name.
        description: for people.
        base_frame, tool_frame: names of the frames (REP 103).
        rate_hz: rate of actions and of the recorded data.
        command_rate_hz: rate of the executor's ticks and of commands to the arm; a multiple of ``rate_hz``.
        command_lead: periods of commands by which trajectories run ahead, see ``core.trajectory_stream``.
        trajectories_reach_back: see there, too.
        commands: topics on which the robot is commanded; each action goes to one of them.
        joint_names: as in ``joint_states``.
        state_names: numbers of ``Observation.state``.
        actions: see ``ActionSpec``; order of every action array.
        cameras: see ``CameraSpec``; order of every list of images.
        max_state_age_ns: oldest joint state or pose on which the arm may move [ns].
        max_chunk_age_ns: oldest observation from which a chunk may still be executed [ns].
        max_jump: largest distance between two successive targets of a chunk, as a multiple of one action at full speed.
        on_violation: see ``Violation``.
        model: name of the arm's MJCF file in config/model, from which positions of its points are computed; "" for none.
        workspace: where points of the arm may be, None where only the limits of the actions count.
    """

    name: str
    description: str
    base_frame: str
    tool_frame: str
    rate_hz: float
    command_rate_hz: float
    command_lead: int
    trajectories_reach_back: bool
    commands: tuple[CommandSpec, ...]
    joint_names: tuple[str, ...]
    state_names: tuple[str, ...]
    actions: tuple[ActionSpec, ...]
    cameras: tuple[CameraSpec, ...]
    max_state_age_ns: int
    max_chunk_age_ns: int
    max_jump: float
    on_violation: Violation
    model: str = ""
    workspace: Workspace | None = None

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
        reader = SpecReader(raw, source)
        rate_hz = reader.positive("rate_hz")
        spec = cls(
            name=reader.text("name"),
            description=reader.text("description"),
            base_frame=reader.text("base_frame"),
            tool_frame=reader.text("tool_frame"),
            rate_hz=rate_hz,
            command_rate_hz=reader.positive("command_rate_hz"),
            command_lead=reader.count("command_lead", default=3),
            trajectories_reach_back=reader.flag("trajectories_reach_back", default=True),
            commands=tuple(_command(entry) for entry in reader.entries("commands")),
            joint_names=reader.texts("joint_names"),
            state_names=reader.texts("state_names"),
            actions=tuple(_action(entry) for entry in reader.entries("actions")),
            cameras=tuple(_camera(entry) for entry in reader.entries("cameras")),
            max_state_age_ns=_milliseconds(reader.positive("max_state_age_ms")),
            max_chunk_age_ns=_milliseconds(reader.positive("max_chunk_age_ms")),
            max_jump=reader.positive("max_jump"),
            on_violation=Violation(reader.one_of("on_violation", [kind.value for kind in Violation])),
            model=reader.text("model", default=""),
            workspace=_workspace(reader.section("workspace")),
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
        self._check_commands(source)
        if self.workspace is not None and not self.model:
            raise BadFileError(
                source, "workspace needs a model of the arm, from which the positions of its points are computed"
            )

    def _check_commands(self, source: Path | str) -> None:
        commanded = [name for command in self.commands for name in command.actions]
        if sorted(commanded) != sorted(self.action_names):
            expected = f"each of {list(self.action_names)} once"
            raise BadFileError(source, f"the actions of commands are {commanded}, expected {expected}")
        kinds = dict(zip(self.action_names, self.action_kinds, strict=True))
        for index, command in enumerate(self.commands):
            got = tuple(kinds[name].value for name in command.actions)
            if got not in _command_kinds(command.interface, len(got)):
                problem = (
                    f"commands[{index}] ({command.interface}) takes actions of the kinds {list(got)}, which it cannot send"
                )
                raise BadFileError(source, problem)
            if len(command.joints) != len(command.actions):
                raise BadFileError(source, f"commands[{index}].joints must name as many joints as actions")

    def columns(self, command: CommandSpec) -> list[int]:
        """Which numbers of an action [A] go to a topic, in its order."""
        return [self.action_names.index(name) for name in command.actions]

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


def _milliseconds(value: float) -> int:
    return round(value * 1e6)


def _action(reader: SpecReader) -> ActionSpec:
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


def _command(reader: SpecReader) -> CommandSpec:
    interface = CommandInterface(reader.one_of("interface", [kind.value for kind in CommandInterface]))
    actions = reader.texts("actions")
    span = {"closed": reader.number("closed"), "open": reader.number("open")} if interface.is_gripper else {}
    spec = CommandSpec(interface, reader.text("topic"), actions, reader.texts("joints", default=actions), **span)
    reader.refuse_unknown()
    return spec


def _workspace(reader: SpecReader | None) -> Workspace | None:
    if reader is None:
        return None
    inside = reader.section("inside")
    workspace = Workspace(
        inside=None if inside is None else _box(inside, "inside"),
        keep_out=tuple(_box(entry, entry.text("name")) for entry in reader.sections("keep_out")),
        points=reader.texts("points"),
        margin_m=reader.positive("margin_m"),
    )
    if workspace.inside is None and not workspace.keep_out:
        raise reader.refuse("inside or keep_out is missing")
    reader.refuse_unknown()
    return workspace


def _box(reader: SpecReader, name: str) -> Box:
    box = Box(name, reader.vector("lower"), reader.vector("upper"))
    if not all(lower < upper for lower, upper in zip(box.lower, box.upper, strict=True)):
        raise reader.refuse("lower must be below upper on every axis")
    reader.refuse_unknown()
    return box


def _command_kinds(interface: CommandInterface, count: int) -> tuple[tuple[str, ...], ...]:
    """Kinds of actions that can go to a topic."""
    place, turn = ("position",) * 3, ("rotation",) * 3
    if interface is CommandInterface.TARGET_POSE:
        return place, place + turn
    return (("gripper" if interface.is_gripper else "joint",) * count,)


def _camera(reader: SpecReader) -> CameraSpec:
    spec = CameraSpec(
        name=reader.text("name"),
        width=int(reader.positive("width")),
        height=int(reader.positive("height")),
        rate_hz=reader.positive("rate_hz"),
        max_age_ns=_milliseconds(reader.positive("max_age_ms")),
        sensor_noise=reader.flag("sensor_noise"),
        compression=Compression(reader.one_of("compression", [kind.value for kind in Compression], Compression.NONE.value)),
        depth=reader.flag("depth", default=False),
    )
    if spec.max_age_ns < 2e9 / spec.rate_hz:
        raise reader.refuse(f"max_age_ms must be at least two periods of the stream ({2e3 / spec.rate_hz:.0f} ms)")
    reader.refuse_unknown()
    return spec
