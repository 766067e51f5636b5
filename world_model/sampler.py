"""Drawing the frames to come: a few deterministic steps from noise to data.

Shapes as in ``condition.py``. The noise of each sample derives from its own key, so a clip does not depend on what it is
batched with.
"""

import contextlib
import functools
import itertools
import os
import shutil
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from learning.seeding import Key, generator
from robot_stack.core.errors import ProphRLError
from world_model.condition import Condition
from world_model.denoiser import predict_clean
from world_model.precision import BFLOAT16, FLOAT32, PRECISIONS, halved
from world_model.prophet import ProphetTransformer
from world_model.sizes import ProphetSettings


@dataclass(frozen=True)
class SamplerSettings:
    """How frames are drawn.

    Attributes:
        steps: network evaluations a chunk; 1 is a regression from noise.
        batch_size: clips the network sees at once, at most.
        still: cells that differ by less from the present frame stay exactly as they are, see ``keep_still``; 0: none. None: as
            the domain's cameras need it. For tokenizers that encode each frame by itself.
        precision: of the products of matrices, "float32" or "bfloat16"; weights stay as they are. On processors that multiply
            16 bit numbers (AMX, AVX512-BF16, most GPUs) "bfloat16" is faster, on others slower.
        compiled: translate the network for this machine before it is first used (``torch.compile``), which takes a minute or
            two and on a CPU needs a C++ compiler and Python's headers. Batches are filled up to ``batch_size``, for one of
            another size would be translated again.
    """

    steps: int = 1
    batch_size: int = 16
    still: float | None = None
    precision: str = FLOAT32
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or (self.still is not None and self.still < 0):
            raise ValueError("steps and batch_size must be at least 1, still at least 0")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")


def sample_noise(keys: Sequence[tuple[Key, ...]], shape: Sequence[int]) -> Tensor:
    """Standard normal [len(keys), *shape]; row i depends on ``keys[i]`` alone."""
    rows = [generator(*key).standard_normal(tuple(shape), dtype=np.float32) for key in keys]
    return torch.from_numpy(np.stack(rows))


@torch.inference_mode()
def sample(
    network: ProphetTransformer,
    shape: ProphetSettings,
    noise: Tensor,
    context: Tensor,
    condition: Condition,
    settings: SamplerSettings,
) -> Tensor:
    """Frames to come [B, C, n, h, w].

    Steps t from 1 to 0 along x_t' = t' eps + (1 - t') x_0, with x_0 predicted at t and eps the noise that x_t and x_0 imply.
    What the steps share (terms of the actions, keys and values of past and text) is computed once.

    Args:
        shape: of the transformer.
        noise: x_1 [B, C, n, h, w].
        context: given frames [B, C, K, h, w].

    Raises:
        ProphRLError: the network cannot be compiled on this machine.
    """
    predict = _translated(noise.device.type) if settings.compiled else predict_clean
    parts = []
    for first in range(0, len(noise), settings.batch_size):
        rows = torch.arange(first, min(first + settings.batch_size, len(noise)))
        filled = F.pad(rows, (0, settings.batch_size - len(rows)), value=first) if settings.compiled else rows
        batch = noise[filled], context[filled], condition.rows(filled)
        with halved(noise) if settings.precision == BFLOAT16 else contextlib.nullcontext():
            parts.append(_sample_batch(network, shape, *batch, settings.steps, predict)[: len(rows)])
    drawn = torch.cat(parts)
    return keep_still(drawn, context[:, :, -1:], settings.still) if settings.still else drawn


def keep_still(drawn: Tensor, present: Tensor, least: float) -> Tensor:
    """``drawn`` [B, C, n, h, w], and ``present`` [B, C, 1, h, w] where both differ by less than ``least`` thereabouts.

    The difference is the root mean square over channels and frames (what moves late in a chunk moves from its beginning), and
    its mean over the cell and the eight around it (one cell alone does not move). So what rests does not flicker.
    """
    change = (drawn - present).square().mean(dim=(1, 2)).sqrt()[:, None]
    thereabouts = F.avg_pool2d(F.pad(change, (1, 1, 1, 1), mode="replicate"), 3, stride=1)[:, :, None]
    return torch.where(thereabouts < least, present, drawn)


def _sample_batch(
    network: ProphetTransformer,
    shape: ProphetSettings,
    noise: Tensor,
    context: Tensor,
    condition: Condition,
    steps: int,
    predict: Callable[..., Tensor],
) -> Tensor:
    x_t = noise
    prepared = network.prepare(condition, context)
    levels = torch.linspace(1.0, 0.0, steps + 1, device=noise.device)
    for t, next_t in itertools.pairwise(levels):
        x_0 = predict(network, shape, x_t, t.expand(len(x_t)), context, prepared)
        epsilon = (x_t - (1.0 - t) * x_0) / t
        x_t = next_t * epsilon + (1.0 - next_t) * x_0
    return x_t


def _translated(device: str) -> Callable[..., Tensor]:
    """``predict_clean`` for this machine."""
    compiler = os.environ.get("CXX", "g++")  # where torch looks as well
    header = Path(sysconfig.get_path("include")) / "Python.h"
    missing = [name for name, there in ((compiler, shutil.which(compiler)), (str(header), header.is_file())) if not there]
    if device == "cpu" and missing:
        raise ProphRLError(
            f"compiled=true needs a C++ compiler and Python's headers, but there is no {' and no '.join(missing)} here: "
            "install g++ and python3-dev, name another compiler in CXX, or leave compiled=false"
        )
    return _compiled()


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    """One for all networks: those of the same layers share what was translated."""
    predict: Callable[..., Tensor] = torch.compile(predict_clean, dynamic=False)
    return predict
