"""What is known about an episode besides its messages: ``EpisodeMeta``, written when it begins, and its label."""

import dataclasses
import enum
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import yaml

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec

FINISHED_SUFFIX = ".mcap"
ACTIVE_SUFFIX = ".mcap.active"  # in flight, or cut by a crash
LABEL_SUFFIX = ".label.json"
VERSIONED = ("robot_stack", "mcap", "rosbags", "ros-jazzy-rclpy")


def current_versions() -> dict[str, str]:
    """Versions of what shapes a log."""
    found = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


class Label(enum.StrEnum):
    """Verdict on an episode."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNLABELLED = "unlabelled"
    DISCARD = "discard"  # kept on disk, never converted

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises: UnknownNameError: no such label."""
        if text not in [label.value for label in cls]:
            raise UnknownNameError("label", text, [label.value for label in cls])
        return cls(text)

    @property
    def success(self) -> bool | None:
        return {Label.SUCCESS: True, Label.FAILURE: False}.get(self)


@dataclass(frozen=True)
class EpisodeMeta:
    """Facts that hold for a whole episode.

    Attributes:
        name: wanted name of the log; a plain file name, see ``EpisodeLogWriter``.
        robot: ``RobotSpec.name``.
        fingerprint: ``RobotSpec.fingerprint``.
        robot_file: content of the robot file, so that the log can be read where that file has changed since.
        rate_hz: nominal rate of the ticks.
        task: task name ("" where unknown).
        instruction: the task in words.
        seed: start seed of a simulated robot.
        source: who acts: "expert", "noisy", "random", "teleop" or "policy:<hash>".
        policy_hash: hash of the policy that acts, "" where none does.
        versions: package -> version.
    """

    name: str
    robot: str
    fingerprint: str
    robot_file: str
    rate_hz: float
    task: str = ""
    instruction: str = ""
    seed: int | None = None
    source: str = ""
    policy_hash: str = ""
    versions: Mapping[str, str] = field(default_factory=current_versions)

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            raise BadFileError(self.name, "the name of an episode must be a plain file name")

    @classmethod
    def for_robot(cls, robot_file: Path | str, name: str, **facts: Any) -> Self:
        """Meta of an episode of the robot that ``robot_file`` describes; ``facts`` are the remaining attributes.

        Raises:
            BadFileError: not a robot file.
        """
        spec = RobotSpec.load(robot_file)
        text = Path(robot_file).read_text(encoding="utf-8")
        return cls(name, spec.name, spec.fingerprint, text, spec.rate_hz, **facts)

    @property
    def spec(self) -> RobotSpec:
        """The robot as it was when the episode was recorded.

        Raises:
            BadFileError: the stored robot file is not one of this version.
        """
        try:
            raw = yaml.safe_load(self.robot_file)
        except yaml.YAMLError as error:
            raise BadFileError(self.name, f"the stored robot file is not YAML: {error}") from error
        return RobotSpec.from_mapping(raw, f"robot file stored in episode {self.name}")

    def to_record(self) -> dict[str, str]:
        """Texts only, as an MCAP metadata record wants them."""
        values = dataclasses.asdict(self) | {"versions": dict(self.versions)}
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, str], source: Path | str) -> Self:
        """Inverse of ``to_record``; entries of later versions are ignored.

        Raises:
            BadFileError: an entry is missing or not of its type.
        """
        try:
            plain = {key: record[key] for key in ("name", "robot", "fingerprint", "robot_file")}
            plain |= {key: record.get(key, "") for key in ("task", "instruction", "source", "policy_hash")}
            seed, versions = json.loads(record.get("seed", "null")), json.loads(record.get("versions", "{}"))
            return cls(**plain, rate_hz=float(record["rate_hz"]), seed=seed, versions=versions)
        except (KeyError, ValueError) as error:
            raise BadFileError(source, f"its description of the episode is incomplete: {error!r}") from error


def label_path(log: Path) -> Path:
    """Sidecar that holds a label given later; it wins over the label in the log."""
    return log.with_name(episode_name(log) + LABEL_SUFFIX)


def episode_name(log: Path) -> str:
    """Name of the episode whose log this is, finished or not."""
    return log.name.removesuffix(ACTIVE_SUFFIX).removesuffix(FINISHED_SUFFIX)


def write_label(log: Path, label: Label) -> None:
    """Set the label of an episode, whole or not at all."""
    path = label_path(log)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump({"label": label.value}, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def read_label(log: Path) -> Label | None:
    """The label given later, or None where there is none.

    Raises:
        BadFileError: the sidecar cannot be read.
    """
    path = label_path(log)
    try:
        return Label(json.loads(path.read_text(encoding="utf-8"))["label"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFileError(path, f"not a label file ({error}); write it anew with: prophrl episodes label") from error


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
