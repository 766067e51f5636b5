"""Weights on disk, in files whose names tell their content. safetensors only.

A checkpoint is its manifest, which names them and is replaced at once: an interrupted save leaves the one before as it was.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from robot_stack.core.errors import BadFileError

DIGITS = 12


def save_weights(network: nn.Module, folder: Path, stem: str) -> str:
    """Write ``<stem>.<hash>.safetensors``, whole or not at all; returns its name."""
    content = save({name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()})
    path = folder / f"{stem}.{hashlib.sha256(content).hexdigest()[:DIGITS]}.safetensors"
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path.name


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill ``network`` from ``path``; afterwards it is in evaluation mode and not trainable.

    Raises:
        BadFileError: not the weights of such a network.
    """
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadFileError(path, f"does not hold the weights that its manifest describes: {error}") from error
    network.eval().requires_grad_(False)


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def remove_others(folder: Path, stems: Iterable[str], kept: Iterable[str]) -> None:
    """Remove weights of ``stems`` that no manifest names any more, and halves of interrupted saves."""
    names = set(kept)
    for stem in stems:
        for file in [*folder.glob(f"{stem}.*.safetensors"), *folder.glob(f"{stem}.*.partial")]:
            if file.name not in names:
                file.unlink()
