"""What a policy folder says about itself: the contract between training, export, the runtime and the robot.

Torch-free: the robot PC reads it.
Shapes: A = numbers in an action, S = numbers in the state, E = numbers in an instruction's embedding.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from learning.normalisation import Normaliser
from robot_stack.core.errors import BadFileError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec

FILE = "manifest.json"
FORMAT = "prophrl-policy"
VERSION = 1


@dataclass(frozen=True)
class PolicyManifest:
    """Facts of a policy.

    Attributes:
        robot, robot_fingerprint: the robot type it was trained for (``RobotSpec``).
        rate_hz: rate of its actions [Hz].
        cameras: (name, width [px], height [px]) in the order of its input.
        state_names: numbers of its state input; empty where it acts from images alone.
        action_names, action_kinds: order and kinds (``ActionKind``) of its delta actions.
        image_size: side of the square pictures that the network sees [px].
        chunk_length: H, actions in a chunk.
        longest_prefix: committed actions from which it was trained to continue.
        flow_steps: K, Euler steps from noise to actions.
        actions: shift and scale of the delta actions [A].
        state: shift and scale of the state [S], or None.
        instructions: instruction -> embedding [E].
        dataset_hash: fingerprint of the demonstrations.
        policy_hash: sha256 over the weights.
        network: settings of the network, to build it again.
        files: name -> sha256 of the files beside the manifest.
        extra: figures and provenance (training run, parity, latency).
    """

    robot: str
    robot_fingerprint: str
    rate_hz: float
    cameras: tuple[tuple[str, int, int], ...]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    action_kinds: tuple[str, ...]
    image_size: int
    chunk_length: int
    longest_prefix: int
    flow_steps: int
    actions: Normaliser
    state: Normaliser | None
    instructions: Mapping[str, npt.NDArray[np.float32]]
    dataset_hash: str = ""
    policy_hash: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def embedding(self, instruction: str) -> npt.NDArray[np.float32]:
        """Embedding [E] of an instruction that the policy was trained with.

        Raises:
            UnknownNameError: any other instruction; lists the known ones.
        """
        if instruction not in self.instructions:
            raise UnknownNameError("instruction", instruction, self.instructions)
        return self.instructions[instruction]

    def check_robot(self, spec: RobotSpec, folder: Path | str) -> None:
        """Refuse a robot that this policy was not trained for.

        Raises:
            SpecMismatchError: one line for each difference, naming both sides.
        """
        ours: dict[str, Any] = {
            "robot": spec.name,
            "rate_hz": spec.rate_hz,
            "cameras": tuple((camera.name, camera.width, camera.height) for camera in spec.cameras),
            "state_names": spec.state_names if self.state_names else (),
            "action_names": spec.action_names,
            "action_kinds": tuple(kind.value for kind in spec.action_kinds),
        }
        lines = [
            f"{name}: policy {getattr(self, name)!r}, robot {value!r}"
            for name, value in ours.items()
            if getattr(self, name) != value
        ]
        if not lines and self.robot_fingerprint != spec.fingerprint:
            lines = [f"fingerprint: policy {self.robot_fingerprint}, robot {spec.fingerprint}"]
        if lines:
            raise SpecMismatchError(f"policy {folder}", f"robot {spec.name}", lines)

    def write(self, folder: Path) -> Path:
        """Write ``manifest.json``, last of a folder's files: a folder without it is unfinished."""
        mapping = dataclasses.asdict(self) | {
            "format": FORMAT,
            "version": VERSION,
            "actions": self.actions.as_mapping(),
            "state": None if self.state is None else self.state.as_mapping(),
            "instructions": {text: np.asarray(vector).tolist() for text, vector in self.instructions.items()},
        }
        path = folder / FILE
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(mapping, indent=1) + "\n", encoding="utf-8")
        return partial.replace(path)

    @classmethod
    def read(cls, folder: Path | str) -> Self:
        """Read ``manifest.json`` of a policy folder and check the files beside it.

        Raises:
            BadFileError: no such folder, not a policy's manifest, an entry is missing or of the wrong form, or a file is
                missing, truncated or edited.
        """
        path = Path(folder) / FILE
        try:
            mapping = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadFileError(
                path, f"cannot be read ({error.strerror}): give the folder of a trained or exported policy"
            ) from error
        except ValueError as error:
            raise BadFileError(path, f"is not JSON: {error}") from error
        if not isinstance(mapping, dict) or mapping.get("format") != FORMAT or mapping.get("version") != VERSION:
            raise BadFileError(path, f"is not a policy manifest: expected format {FORMAT!r}, version {VERSION}")
        names = {entry.name for entry in dataclasses.fields(cls)}
        missing, unknown = sorted(names - mapping.keys()), sorted(mapping.keys() - names - {"format", "version"})
        if missing or unknown:
            raise BadFileError(path, f"entries missing: {missing or 'none'}, unknown: {unknown or 'none'}")
        try:
            manifest = cls(**_from_json({name: mapping[name] for name in names}))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise BadFileError(path, f"has an entry of the wrong form: {error}") from error
        for name, expected in manifest.files.items():
            _check_file(path.parent / name, expected)
        return manifest


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise BadFileError(path, "is named by the manifest but missing")
    if file_hash(path) != expected:
        raise BadFileError(
            path, "is not the file that the manifest was written for (sha256 differs): copy or export the policy again"
        )


def _from_json(mapping: dict[str, Any]) -> dict[str, Any]:
    """Lists to tuples and arrays, as the dataclass has them."""

    def texts(values: Iterable[Any]) -> tuple[str, ...]:
        return tuple(str(value) for value in values)

    return mapping | {
        "cameras": tuple((str(name), int(width), int(height)) for name, width, height in mapping["cameras"]),
        "state_names": texts(mapping["state_names"]),
        "action_names": texts(mapping["action_names"]),
        "action_kinds": texts(mapping["action_kinds"]),
        "actions": Normaliser.from_mapping(mapping["actions"]),
        "state": None if mapping["state"] is None else Normaliser.from_mapping(mapping["state"]),
        "instructions": {str(text): np.asarray(vector, np.float32) for text, vector in mapping["instructions"].items()},
    }
