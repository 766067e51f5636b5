"""Instructions as the base model reads them: its own T5 encoder, once for each instruction, kept on disk.

Shapes: L = 512 tokens, as the base was trained; those behind the instruction's end are zero, but are looked at as well.
"""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from robot_stack.core.errors import BadFileError, MissingDependencyError, ProphRLError
from world_model.base_model import TEXT, weight_files

TOKENIZER = "tokenizer"
WEIGHTS = "model.safetensors"
TEXT_PARTS = (TEXT, TOKENIZER)
LENGTH = 512
DIGITS = 32
_log = logging.getLogger(__name__)


class TextEncoder:
    """Instruction -> embedding [1, L, width], for ``Condition.text``.

    Args:
        folder: of the base model, with ``text_encoder/`` and ``tokenizer/``.
        width: what the transformer takes.
        kept: folder where embeddings are kept; None keeps them in memory only.

    Raises:
        BadFileError: the encoder is not whole, or of another width.
    """

    def __init__(self, folder: Path, width: int, kept: Path | None = None) -> None:
        self._folder, self._kept = folder, kept
        self.width = width
        path = folder / TEXT / "config.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["d_model"]
        except (OSError, KeyError, ValueError) as error:
            raise BadFileError(path, f"is not the configuration of a T5 encoder: {error}") from error
        if found != width:
            raise BadFileError(path, f"embeddings of {found} numbers, the transformer takes {width}")
        self._identity = _identity_of(folder)
        self._known: dict[str, Tensor] = {}
        self._loaded: tuple[Any, Any] | None = None

    def __call__(self, instruction: str) -> Tensor:
        """[1, L, width] float32; computed at most once.

        Raises:
            ProphRLError: an instruction of more than L tokens.
        """
        if instruction not in self._known:
            rows = self._read(instruction)
            if rows is None:
                rows = self._encode(instruction)
                self._write(instruction, rows)
            self._known[instruction] = torch.nn.functional.pad(rows, (0, 0, 0, LENGTH - len(rows)))[None]
        return self._known[instruction]

    @torch.inference_mode()
    def _encode(self, instruction: str) -> Tensor:
        """Tokens of the instruction alone [l, width]."""
        tokenizer, network = self._networks()
        tokens = tokenizer(instruction, return_tensors="pt")
        length = tokens.input_ids.shape[1]
        if length > LENGTH:
            raise ProphRLError(f"instruction of {length} tokens, at most {LENGTH}: {instruction[:80]!r}...")
        hidden: Tensor = network(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        return hidden[0].float().clone()

    def _networks(self) -> tuple[Any, Any]:
        if self._loaded is None:
            try:
                from transformers import AutoTokenizer, T5EncoderModel
            except ImportError as error:
                raise MissingDependencyError("transformers", "instructions", "pip install 'robot_stack[train]'") from error
            try:
                network = T5EncoderModel.from_pretrained(self._folder / TEXT, use_safetensors=True, local_files_only=True)
                tokenizer = AutoTokenizer.from_pretrained(self._folder / TOKENIZER, local_files_only=True)
            except (OSError, ValueError) as error:
                raise BadFileError(self._folder / TEXT, f"cannot be loaded: {str(error).strip().splitlines()[0]}") from error
            self._loaded = tokenizer, network.eval().requires_grad_(False)
        return self._loaded

    def _path(self, instruction: str) -> Path | None:
        key = hashlib.sha256(f"{self._identity} {instruction}".encode()).hexdigest()[:DIGITS]
        return None if self._kept is None else self._kept / f"text-{key}.safetensors"

    def _read(self, instruction: str) -> Tensor | None:
        path = self._path(instruction)
        if path is None or not path.is_file():
            return None
        try:
            rows = load_file(path)["rows"]
            if rows.ndim != 2 or rows.shape[1] != self.width or len(rows) > LENGTH:
                raise ValueError(f"shape {list(rows.shape)}")
            return rows
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            _log.warning("kept embedding %s of %r: damaged (%s), computed again", path, instruction, error)
            return None

    def _write(self, instruction: str, rows: Tensor) -> None:
        path = self._path(instruction)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(save({"rows": rows}))
        partial.replace(path)


def read_text_encoder(folder: Path, width: int, kept: Path | None = None) -> TextEncoder | None:
    """The text encoder of a base model; None where its folder has none: the learned constant stands for every instruction."""
    if not (folder / TEXT).is_dir():
        _log.warning("the base model in %s has no %s/: one learned constant stands for every instruction", folder, TEXT)
        return None
    return TextEncoder(folder, width, kept)


def _identity_of(folder: Path) -> str:
    """Tells one encoder from another without reading its many bytes: configuration, tokenizer, and the heads of its weights."""
    digest = hashlib.sha256()
    files = [folder / TEXT / "config.json", *sorted((folder / TOKENIZER).glob("*.json"))]
    try:
        for file in files:
            digest.update(file.name.encode() + file.read_bytes())
        for file in weight_files(folder / TEXT, WEIGHTS):
            with file.open("rb") as content:
                digest.update(f"{file.name} {file.stat().st_size}".encode() + content.read(2**20))
                content.seek(-min(2**20, file.stat().st_size), os.SEEK_END)
                digest.update(content.read())
    except OSError as error:
        raise BadFileError(folder / TEXT, f"cannot be read: {error}") from error
    return digest.hexdigest()[:DIGITS]
