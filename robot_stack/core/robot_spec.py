"""RobotSpec: the facts about a robot type, read from ``config/robot/<name>.yaml`` and checked on load.

This file is the one source of names, limits and rates. Datasets, policies and world models store ``RobotSpec.fingerprint``
and are refused on a robot whose fingerprint differs.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.robot_parts import (
    ActionKind,
    ActionSpec,
    CameraSpec,
    CommandInterface,
    CommandSpec,
    Compression,
    ToolSpec,
    Violation,
    milliseconds,
    read_workspace,
)
from robot_stack.core.spec_reader import SpecReader
from robot_stack.core.types import FloatArray
from robot_stack.core.workspace import Workspace

__all__ = ["ActionKind", "ActionSpec", "CameraSpec", "CommandInterface", "CommandSpec", "Compression", "RobotSpec", "Violation"]


@dataclass(frozen=True)
class RobotSpec:
    """A robot type.

    Attributes:
        name: also the file's name.
        description: for people.
        base_frame: name of the frame in which poses are given (REP 103).
        tools: see ``ToolSpec``; one for each arm.
        rate_hz: rate of actions and of the recorded data.
        command_rate_hz: rate of the executor's ticks and of commands to the arm; a multiple of ``rate_hz``.
        command_lead: periods of commands by which trajectories run ahead, see ``core.trajectory_stream``.
        trajectories_reach_back: see there, too.
        commands: topics on which the robot is commanded; each action goes to one of them.
        joint_names: as in ``joint_states``.
        state_names: numbers of ``Observation.state``.
        actions: see ``ActionSpec``; order of every action array of policies, teleoperation and episodes.
        joints: by which the arm is commanded, where actions are poses of its tool; see ``motion``.
        cameras: see ``CameraSpec``; order of every list of images.
        max_state_age_ns: oldest joint state or pose on which the arm may move [ns].
        max_chunk_age_ns: oldest observation from which a chunk may still be executed [ns].
        max_jump: largest distance between two successive targets of a chunk, as a multiple of one action at full speed.
        approach_speed: part of the largest speed with which a chunk's beginning is approached that is further away than that.
        on_violation: see ``Violation``.
        home: where the arm waits between episodes, one number for each of ``motion.actions``; empty: nowhere in particular.
        model: name of the arm's MJCF file in config/model, from which positions of its points are computed; "" for none.
        workspace: where points of the arm may be, None where only the limits of the actions count.
    """

    name: str
    description: str
    base_frame: str
    tools: tuple[ToolSpec, ...]
    rate_hz: float
    command_rate_hz: float
    command_lead: int
    trajectories_reach_back: bool
    commands: tuple[CommandSpec, ...]
    joint_names: tuple[str, ...]
    state_names: tuple[str, ...]
    actions: tuple[ActionSpec, ...]
    joints: tuple[ActionSpec, ...]
    cameras: tuple[CameraSpec, ...]
    max_state_age_ns: int
    max_chunk_age_ns: int
    max_jump: float
    approach_speed: float
    on_violation: Violation
    home: tuple[float, ...] = ()
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
            tools=_tools(reader),
            rate_hz=rate_hz,
            command_rate_hz=reader.positive("command_rate_hz"),
            command_lead=reader.count("command_lead", default=3),
            trajectories_reach_back=reader.flag("trajectories_reach_back", default=True),
            commands=tuple(CommandSpec.read(entry) for entry in reader.entries("commands")),
            joint_names=reader.texts("joint_names"),
            state_names=reader.texts("state_names"),
            actions=tuple(ActionSpec.read(entry) for entry in reader.entries("actions")),
            joints=tuple(ActionSpec.read(entry) for entry in reader.sections("joints")),
            cameras=tuple(CameraSpec.read(entry) for entry in reader.entries("cameras")),
            max_state_age_ns=milliseconds(reader.positive("max_state_age_ms")),
            max_chunk_age_ns=milliseconds(reader.positive("max_chunk_age_ms")),
            max_jump=reader.positive("max_jump"),
            approach_speed=reader.share("approach_speed", default=0.25),
            on_violation=Violation(reader.one_of("on_violation", [kind.value for kind in Violation])),
            home=reader.numbers("home"),
            model=reader.text("model", default=""),
            workspace=read_workspace(reader.section("workspace")),
        )
        reader.refuse_unknown()
        spec._check(source)
        return spec

    def _check(self, source: Path | str) -> None:
        named = {
            "action": self.action_names,
            "joint": [joint.name for joint in self.joints],
            "camera": self.camera_names,
            "state": self.state_names,
            "tool": [tool.name for tool in self.tools],
        }
        for kind, names in named.items():
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
        if self.workspace is not None and not self.model:
            raise BadFileError(
                source, "workspace needs a model of the arm, from which the positions of its points are computed"
            )
        self._check_joints(source)
        self.motion._check_commands(source)
        self._check_home(source)

    def _check_home(self, source: Path | str) -> None:
        moved = self.motion
        if self.home and len(self.home) != len(moved.actions):
            raise BadFileError(source, f"home must have a number for each of {list(moved.action_names)}, got {len(self.home)}")
        for value, action in zip(self.home, moved.actions, strict=False):
            if not action.lower <= value <= action.upper:
                raise BadFileError(source, f"home: {value:g} of {action.name} is outside [{action.lower:g}, {action.upper:g}]")

    def _check_joints(self, source: Path | str) -> None:
        """What it takes to move joints where actions are poses of tools."""
        if not self.joints:
            return
        if any(joint.kind is not ActionKind.JOINT for joint in self.joints):
            raise BadFileError(source, "joints must be of kind 'joint'")
        poses = [name for tool in self.tools for name in tool.pose_names]
        moved = [action.name for action in self.actions if action.kind is not ActionKind.GRIPPER]
        if moved != poses:
            raise BadFileError(
                source, f"with joints, the actions must be the poses of the tools {poses} and grippers, got {moved}"
            )
        if self.workspace is None or self.workspace.inside is None:
            raise BadFileError(source, "with joints, workspace.inside is needed: it bounds the tool, as no action does")
        box, actions = self.workspace.inside, {action.name: action for action in self.actions}
        for tool in self.tools:
            for name, lower, upper in zip(tool.pose_names, box.lower, box.upper, strict=False):
                if actions[name].lower > lower or actions[name].upper < upper:
                    problem = f"limits of action {name} must contain those of workspace.inside, {lower:g} to {upper:g}"
                    raise BadFileError(source, problem)
        names = [joint.name for joint in self.joints]
        carried = [name for tool in self.tools for name in tool.joints or names]
        if sorted(carried) != sorted(names):
            raise BadFileError(source, f"each of the joints {names} must move one tool, those of the tools are {carried}")

    def _check_commands(self, source: Path | str) -> None:
        commanded = [name for command in self.commands for name in command.actions]
        if sorted(commanded) != sorted(self.action_names):
            expected = f"each of {list(self.action_names)} once"
            raise BadFileError(source, f"the actions of commands are {commanded}, expected {expected}")
        kinds = dict(zip(self.action_names, self.action_kinds, strict=True))
        for index, command in enumerate(self.commands):
            got = [kinds[name] for name in command.actions]
            if not command.sends(got):
                listed = [kind.value for kind in got]
                problem = f"commands[{index}] ({command.interface}) takes actions of the kinds {listed}, which it cannot send"
                raise BadFileError(source, problem)
            if len(command.joints) != len(command.actions):
                raise BadFileError(source, f"commands[{index}].joints must name as many joints as actions")

    @property
    def motion(self) -> "RobotSpec":
        """The robot as its arm is moved: the same, or with joints instead of the tool's pose among its actions."""
        if not self.joints:
            return self
        grippers = tuple(action for action in self.actions if action.kind is ActionKind.GRIPPER)
        return dataclasses.replace(self, actions=(*self.joints, *grippers), joints=())

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


def _tools(reader: SpecReader) -> tuple[ToolSpec, ...]:
    """Those of several arms, or the only one, by its frame."""
    several = tuple(ToolSpec.read(entry) for entry in reader.sections("tools"))
    return several or (ToolSpec("", reader.text("tool_frame")),)
