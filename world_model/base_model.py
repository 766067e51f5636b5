"""The pretrained model that a large Prophet stands on: a diffusers folder, here or on a hub, and whether it is still the same.

Only safetensors are read. Nothing is fetched that is not needed, and nothing at all where ``HF_HUB_OFFLINE`` is set.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from robot_stack.core.errors import BadFileError, SpecMismatchError

TRANSFORMER, VAE, TEXT = "transformer", "vae", "text_encoder"
WEIGHTS = "diffusion_pytorch_model.safetensors"
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?")
DIGITS = 16


@dataclass(frozen=True)
class BaseModel:
    """Which model it is.

    Attributes:
        place: local folder, or name on the hub, with ``@revision`` where one is wanted.
        transformer, vae: hashes of their configuration and weights.
    """

    place: str
    transformer: str
    vae: str

    @classmethod
    def of_place(cls, place: str) -> "BaseModel":
        """The model that lies there now."""
        folder = find_base(place)
        return cls(place, part_hash(folder / TRANSFORMER), part_hash(folder / VAE))

    def folder(self) -> Path:
        """Where it lies.

        Raises:
            BadFileError: nowhere.
            SpecMismatchError: it has become another model.
        """
        folder = find_base(self.place)
        found = {part: part_hash(folder / part) for part in (TRANSFORMER, VAE)}
        wanted = {TRANSFORMER: self.transformer, VAE: self.vae}
        differences = [
            f"{part} {wanted[part]} was trained on, {found[part]} is there now"
            for part in wanted
            if wanted[part] != found[part]
        ]
        if differences:
            raise SpecMismatchError("the world model's checkpoint", f"the base model {self.place}", differences)
        return folder


def find_base(place: str, parts: Sequence[str] = (TRANSFORMER, VAE)) -> Path:
    """Folder of the model at ``place``; a name on the hub is fetched on demand, ``parts`` of it only, with progress shown.

    Raises:
        BadFileError: there is no such folder and no such model, or it cannot be fetched; says what to do.
    """
    folder = Path(place)
    if folder.is_dir():
        return folder
    if not HUB_NAME.fullmatch(place):
        raise BadFileError(
            place, "no such folder; expected a diffusers folder with transformer/ and vae/, or a hub name (owner/name)"
        )
    return _fetched(place, parts)


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """Configuration of the model in ``folder``.

    Args:
        kind: the diffusers class that is expected.

    Raises:
        BadFileError: no configuration, or that of another class.
    """
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFileError(path, f"is not the configuration of a {kind}: {error}") from error
    if config.get("_class_name") != kind:
        raise BadFileError(path, f"describes a {config.get('_class_name')}, expected a {kind}")
    return config


def weight_files(folder: Path, name: str = WEIGHTS) -> list[Path]:
    """The files that hold the weights in ``folder``: one, or the shards that an index names.

    Raises:
        BadFileError: there are none, or the index names one that is missing.
    """
    index = folder / f"{name}.index.json"
    if (folder / name).is_file():
        return [folder / name]
    if not index.is_file():
        found = ", ".join(sorted(file.name for file in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise BadFileError(folder / name, f"no such weights and no index of shards; safetensors are read only. There: {found}")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (KeyError, ValueError, AttributeError) as error:
        raise BadFileError(index, f"is not an index of shards: {error}") from error
    for shard in names:
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise BadFileError(index, f"names {shard}, which is missing beside it")
    return [folder / shard for shard in names]


def read_weights(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """All weights in ``folder``, in ``dtype``.

    Raises:
        BadFileError: a file is damaged.
    """
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            weights |= {name: value.to(dtype) for name, value in load_file(file).items()}
        except (OSError, SafetensorError) as error:
            raise BadFileError(file, f"cannot be read as safetensors: {error}") from error
    return weights


def check_fit(
    path: Path, expected: Mapping[str, Sequence[int]], found: Mapping[str, Tensor], may_lack: Sequence[str] = ()
) -> None:
    """Refuse weights that are not, name for name and shape for shape, those of a network.

    Args:
        expected: shapes by name.
        may_lack: first parts of names that need not be there.

    Raises:
        BadFileError: names the first differences.
    """
    missing = [f"{name} is missing" for name in sorted(expected.keys() - found.keys()) if name.split(".")[0] not in may_lack]
    unknown = [f"{name} is unknown" for name in sorted(found.keys() - expected.keys())]
    other = [
        f"{name} has shape {list(found[name].shape)}, expected {list(expected[name])}"
        for name in sorted(found.keys() & expected.keys())
        if tuple(found[name].shape) != tuple(expected[name])
    ]
    if problems := [*missing, *unknown, *other]:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise BadFileError(path, f"does not hold the weights that its configuration describes: {'; '.join(problems[:3])}{more}")


def part_hash(folder: Path) -> str:
    """Hash of the configuration and the weights in ``folder``."""
    digest = hashlib.sha256()
    for file in (folder / "config.json", *weight_files(folder)):
        try:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            raise BadFileError(file, f"cannot be read: {error}") from error
    return digest.hexdigest()[:DIGITS]


def _fetched(place: str, parts: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = place.partition("@")
    wanted = [f"{part}/{pattern}" for part in parts for pattern in ("*.json", "*.safetensors", "*.model")]
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=wanted))
    except GatedRepoError as error:
        raise BadFileError(
            place, "its owner wants its licence accepted first: on the hub's page, then `hf auth login` here"
        ) from error
    except LocalEntryNotFoundError as error:
        raise BadFileError(
            place, "is neither a folder nor in the hub's cache, and the hub cannot be asked (HF_HUB_OFFLINE, or no network)"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise BadFileError(place, f"cannot be fetched from the hub: {str(error).strip().splitlines()[0]}") from error
