"""Encoded episodes on disk: encoding by a large tokenizer takes longer than reading.

A file is named by a hash of all that its content depends on (tokenizer, scale, domain, pictures, actions, calibration, chunk
length), so nothing is ever out of date. Latents are kept in 16 bits (half a thousandth of error, where Prophet's own is some
hundredths), and are so rounded the first time as well: a training that is taken up again sees the same. Files that nobody reads
any more are not removed.
"""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from learning.episode import Episode
from world_model.checkpoint import Prophet
from world_model.latents import LatentEpisode

PICTURES = ("frames", "clips", "drawn", "objects")  # kept in 16 bits
TENSORS = (*PICTURES, "deltas", "poses", "mask", "arcs")
FORMAT = 2
DIGITS = 32
_log = logging.getLogger(__name__)


class LatentCache:
    """Episodes encoded by one tokenizer.

    Args:
        folder: where the files are; made when the first is written.
        prophet: the tokenizer and the scale of its latents; ``encode`` takes the same with any domain.
    """

    def __init__(self, folder: Path, prophet: Prophet) -> None:
        self._folder = folder
        self._tokenizer = _hash_of(prophet)

    def encode(self, prophet: Prophet, episode: Episode, camera: str) -> LatentEpisode:
        """``prophet.encode_episode`` in 16 bits, read where it is known. A damaged file is made anew, with a warning."""
        path = self._folder / f"{self._key(prophet, episode, camera)}.safetensors"
        if path.is_file():
            try:
                return dataclasses.replace(_read(path), text=prophet.text_of(episode.instruction))
            except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
                _log.warning("cached latents of episode %s, %s: damaged (%s), encoded again", episode.name, path, error)
        encoded = _rounded(prophet.encode_episode(episode, camera))
        _write(path, encoded)
        return encoded

    def _key(self, prophet: Prophet, episode: Episode, camera: str) -> str:
        facts = {
            "format": FORMAT,
            "tokenizer": self._tokenizer,
            "domain": prophet.domain.as_mapping(),
            "chunk_length": prophet.settings.chunk_length,
            "draws": prophet.settings.draws,
            "image_size": prophet.latent_shape.image_size,
            "episode": episode.name,
            "rate_hz": episode.rate_hz,
            "camera": camera,
            "calibration": repr(episode.cameras.get(camera)),
            "positions": sorted(episode.positions),
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        tracks = [episode.positions[thing] for thing in sorted(episode.positions)]
        arrays: list[npt.NDArray[Any]] = [episode.images[camera], episode.deltas, episode.commanded, *tracks]
        for array in arrays:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:DIGITS]


def encode_all(
    prophet: Prophet, takes: Sequence[tuple[Episode, str]], cache: LatentCache | None, progress: bool = True
) -> Iterator[LatentEpisode]:
    """Episodes and their cameras, encoded one after another; by ``cache`` where there is one."""
    for episode, camera in tqdm(takes, desc="encoding", unit="episode", disable=not progress):
        yield prophet.encode_episode(episode, camera) if cache is None else cache.encode(prophet, episode, camera)


def _hash_of(prophet: Prophet) -> str:
    digest = hashlib.sha256(repr((prophet.scale, prophet.latent_shape)).encode())
    for name, value in sorted(prophet.tokenizer.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:DIGITS]


def _rounded(episode: LatentEpisode) -> LatentEpisode:
    latents = {name: getattr(episode, name) for name in PICTURES}
    return dataclasses.replace(episode, **{name: v.half().float() for name, v in latents.items() if v is not None})


def _write(path: Path, episode: LatentEpisode) -> None:
    """Whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for name in TENSORS:
        value: Tensor | None = getattr(episode, name)
        if value is not None:
            tensors[name] = (value.half() if name in PICTURES else value).contiguous()
    facts = {"name": episode.name, "rate_hz": episode.rate_hz}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")  # two trainings may encode the same episode
    partial.write_bytes(save(tensors, metadata={"facts": json.dumps(facts)}))
    partial.replace(path)


def _read(path: Path) -> LatentEpisode:
    with safe_open(path, framework="pt") as file:
        facts = json.loads((file.metadata() or {})["facts"])
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  (not a mapping)
    known = {field.name for field in dataclasses.fields(LatentEpisode)}
    if not tensors.keys() <= known or not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise ValueError("unknown entries, or numbers that are none")
    return LatentEpisode(**facts, **tensors)
