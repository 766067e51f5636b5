"""The parts of a robot file: its actions, command topics, cameras and tools, each read and checked entry by entry."""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from robot_stack.core.spec_reader import SpecReader
from robot_stack.core.workspace import Box, Workspace

POSE_NAMES = ("x", "y", "z", "rx", "ry", "rz")  # tool in the base frame: position [m] and rotation vector [rad]


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

    @classmethod
    def read(cls, reader: SpecReader) -> Self:
        """Read one entry of ``cameras``; raises BadFileError."""
        spec = cls(
            name=reader.text("name"),
            width=int(reader.positive("width")),
            height=int(reader.positive("height")),
            rate_hz=reader.positive("rate_hz"),
            max_age_ns=milliseconds(reader.positive("max_age_ms")),
            sensor_noise=reader.flag("sensor_noise"),
            compression=Compression(reader.one_of("compression", [kind.value for kind in Compression], Compression.NONE.value)),
            depth=reader.flag("depth", default=False),
        )
        if spec.max_age_ns < 2e9 / spec.rate_hz:
            raise reader.refuse(f"max_age_ms must be at least two periods of the stream ({2e3 / spec.rate_hz:.0f} ms)")
        reader.refuse_unknown()
        return spec


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

    @classmethod
    def read(cls, reader: SpecReader) -> Self:
        """Read one entry of ``actions`` or ``joints``; raises BadFileError."""
        lower, upper = reader.limits("limits")
        kind = ActionKind(reader.one_of("kind", [kind.value for kind in ActionKind]))
        spec = cls(
            name=reader.text("name"),
            kind=kind,
            lower=lower,
            upper=upper,
            max_velocity=reader.positive("max_velocity"),
            max_acceleration=math.inf if kind is ActionKind.GRIPPER else reader.positive("max_acceleration"),
        )
        reader.refuse_unknown()
        return spec


@dataclass(frozen=True)
class CommandSpec:
    """One topic on which the robot is commanded.

    Attributes:
        interface: see ``CommandInterface``.
        topic: relative name; for a controller of ros2_control "<controller>/joint_trajectory" or "<controller>/commands".
        actions: names of the actions that go there.
        joints: their names on that topic; by default those of the actions. A gripper's opening is known from where the joint of
            this name is in ``joint_states``, see ``core.joint_states``.
        closed, open: grippers: what is commanded for an opening of 0 and of 1 [m or rad].
    """

    interface: CommandInterface
    topic: str
    actions: tuple[str, ...]
    joints: tuple[str, ...]
    closed: float = 0.0
    open: float = 1.0

    @classmethod
    def read(cls, reader: SpecReader) -> Self:
        """Read one entry of ``commands``; raises BadFileError."""
        interface = CommandInterface(reader.one_of("interface", [kind.value for kind in CommandInterface]))
        actions = reader.texts("actions")
        span = {"closed": reader.number("closed"), "open": reader.number("open")} if interface.is_gripper else {}
        spec = cls(interface, reader.text("topic"), actions, reader.texts("joints", default=actions), **span)
        reader.refuse_unknown()
        return spec

    def sends(self, kinds: Sequence[ActionKind]) -> bool:
        """Whether actions of these kinds can go to a topic of this interface."""
        place, turn = [ActionKind.POSITION] * 3, [ActionKind.ROTATION] * 3
        if self.interface is CommandInterface.TARGET_POSE:
            return list(kinds) in (place, place + turn)
        return set(kinds) == {ActionKind.GRIPPER if self.interface.is_gripper else ActionKind.JOINT}


@dataclass(frozen=True)
class ToolSpec:
    """The tool of one arm.

    Attributes:
        name: of the arm, "" where there is only one.
        frame: name of the tool's frame, in the model, too.
        joints: names of the joints that move it; empty: all.
    """

    name: str
    frame: str
    joints: tuple[str, ...] = ()

    @classmethod
    def read(cls, reader: SpecReader) -> Self:
        """Read one entry of ``tools``; raises BadFileError."""
        spec = cls(reader.text("name"), reader.text("frame"), reader.texts("joints", default=()))
        reader.refuse_unknown()
        return spec

    @property
    def pose_topic(self) -> str:
        """Relative topic of its pose in the robot's base frame."""
        return f"{self.name}/ee_pose" if self.name else "ee_pose"

    @property
    def pose_names(self) -> tuple[str, ...]:
        """Names of the six numbers of its pose in states and actions."""
        return tuple(f"{self.name}_{name}" if self.name else name for name in POSE_NAMES)


def read_workspace(reader: SpecReader | None) -> Workspace | None:
    """Read the entry ``workspace``; raises BadFileError."""
    if reader is None:
        return None
    inside = reader.section("inside")
    workspace = Workspace(
        inside=None if inside is None else _box(inside, "inside"),
        keep_out=tuple(_box(entry, entry.text("name")) for entry in reader.sections("keep_out")),
        points=reader.texts("points"),
        margin_m=reader.positive("margin_m"),
    )
    for box in workspace.keep_out:
        unknown = [name for name in box.points if name not in workspace.points]
        if unknown:
            raise reader.refuse(f"keep_out {box.name}: {unknown[0]} is not among the points {list(workspace.points)}")
    if workspace.inside is None and not workspace.keep_out:
        raise reader.refuse("inside or keep_out is missing")
    reader.refuse_unknown()
    return workspace


def milliseconds(value: float) -> int:
    """Nanoseconds of a time in ms."""
    return round(value * 1e6)


def _box(reader: SpecReader, name: str) -> Box:
    box = Box(name, reader.vector("lower"), reader.vector("upper"), reader.texts("points", default=()))
    if not all(lower < upper for lower, upper in zip(box.lower, box.upper, strict=True)):
        raise reader.refuse("lower must be below upper on every axis")
    reader.refuse_unknown()
    return box
