"""A checkpoint as ONNX: ``encoder.onnx``, ``step.onnx`` and a manifest, gated by parity with torch on real observations.

Two graphs, because the encoder runs once and the step K times a chunk; the loop itself is numpy (``onnx_policy``).
Shapes: N = observations, H = actions in a chunk, A = numbers in an action.
"""

import dataclasses
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from learning.batching import ChunkSampler
from learning.episode import Episode
from learning.episode_store import load_all
from learning.metrics_log import write_figures
from policy import checkpoint
from policy.flow_policy import FlowPolicy, Prefix
from policy.inputs import chunk_noise, prepare_images
from policy.manifest import PolicyManifest, file_hash
from policy.onnx_policy import ENCODER, STEP, OnnxFlow, SessionSettings
from policy.sampling import plan
from robot_stack.core.errors import ProphRLError

if TYPE_CHECKING:
    from policy.config import PolicyConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportSettings:
    """What an export must reach.

    Attributes:
        opset: ONNX operator set.
        observations: frames of the dataset at which torch and ONNX are compared.
        max_error: largest allowed difference of an action, as a share of its std in the demonstrations; float32 gives 1e-6.
        latency_runs: chunks that are timed.
    """

    opset: int = 18
    observations: int = 64
    max_error: float = 1e-3
    latency_runs: int = 50

    def __post_init__(self) -> None:
        if min(self.observations, self.latency_runs) < 1 or self.max_error <= 0:
            raise ValueError("observations and latency_runs must be at least 1, max_error positive")


def export(policy: FlowPolicy, episodes: Sequence[Episode], folder: Path | str, settings: ExportSettings) -> PolicyManifest:
    """Write the ONNX folder of ``policy``.

    Args:
        episodes: recorded on this robot; parity is measured on their frames.

    Returns:
        The manifest as written; ``extra`` holds parity and latency.

    Raises:
        ProphRLError: ONNX and torch differ by more than ``settings.max_error``; the folder then has no manifest.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    policy = policy.cpu().eval()
    _write_graphs(policy, folder, settings.opset)
    parity = measure_parity(policy, OnnxFlow(folder, policy.manifest, SessionSettings()), episodes, settings.observations)
    largest = dict(zip(policy.manifest.action_names, parity["max_error"], strict=True))
    worst = float(np.max(np.array(parity["max_error"]) / policy.normaliser.std))
    if not worst <= settings.max_error:
        raise ProphRLError(
            f"the exported policy differs from the trained one by {worst:.2g} standard deviations of an action; allowed are "
            f"{settings.max_error:.2g}. Largest difference of each action, in its unit: {largest}"
        )
    latency = measure_latency(policy, OnnxFlow(folder, policy.manifest, SessionSettings()), settings.latency_runs)
    manifest = dataclasses.replace(
        policy.manifest,
        policy_hash=checkpoint.policy_hash(policy),
        files={name: file_hash(folder / name) for name in (ENCODER, STEP)},
        extra={**policy.manifest.extra, "opset": settings.opset, "parity": parity, "latency": latency},
    )
    manifest.write(folder)
    return manifest


def measure_parity(policy: FlowPolicy, flow: OnnxFlow, episodes: Sequence[Episode], observations: int) -> dict[str, Any]:
    """Difference of chunks, torch against ONNX, on frames spread over ``episodes``: [A] each, physical units."""
    sampler = ChunkSampler(episodes, policy.camera_names, policy.chunk_length, policy.settings.image_size)
    frames = np.unique(np.linspace(0, len(sampler) - 1, observations).astype(np.int64))
    batch = sampler.gather(frames)
    noise = chunk_noise(range(len(frames)), 0, policy.chunk_length, policy.action_dim)
    state = batch.state.astype(np.float64)
    ours = plan(policy, batch.images, batch.instructions, noise, state)
    images = prepare_images(batch.images, policy.settings.image_size)
    instructions = np.stack([policy.manifest.embedding(text) for text in batch.instructions])
    context = flow.encode(images, batch.state, instructions)
    theirs = flow.deltas(context, noise)
    difference = np.abs(ours - theirs)
    return {
        "observations": len(frames),
        "names": list(policy.manifest.action_names),
        "mean_error": difference.mean(axis=(0, 1)).tolist(),
        "max_error": difference.max(axis=(0, 1)).tolist(),
    }


def measure_latency(policy: FlowPolicy, flow: OnnxFlow, runs: int) -> dict[str, float]:
    """Time of one chunk for one observation, prepared picture to actions [ms]: torch (its current threads) and ONNX."""
    manifest, settings = policy.manifest, policy.settings
    images = np.zeros((1, len(manifest.cameras), settings.image_size, settings.image_size, 3), dtype=np.uint8)
    state = np.zeros((1, len(manifest.state_names)), dtype=np.float32)
    text = next(iter(manifest.instructions))
    instruction = manifest.embedding(text)[None]
    noise = chunk_noise([0], 0, policy.chunk_length, policy.action_dim)

    def onnx_chunk() -> object:
        return flow.deltas(flow.encode(prepare_images(images, settings.image_size), state, instruction), noise)

    def torch_chunk() -> object:
        return plan(policy, images, [text], noise, state.astype(np.float64))

    figures: dict[str, float] = {}
    for name, chunk in (("onnx", onnx_chunk), ("torch", torch_chunk)):
        times = _times_ms(chunk, runs)
        figures[f"{name}_p50_ms"] = round(float(np.percentile(times, 50)), 2)
        figures[f"{name}_p99_ms"] = round(float(np.percentile(times, 99)), 2)
    return figures


def _times_ms(call: Any, runs: int) -> npt.NDArray[np.float64]:
    for _ in range(3):  # warm-up
        call()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - begin))
    return np.array(times)


def main(argv: Sequence[str]) -> int:
    """``prophrl export``: from ``checkpoint.policy`` to the ONNX folder ``out``, compared on the episodes of ``data``."""
    from learning.hydra_entry import build, compose, data_paths, robot_spec

    config = compose(argv, "export")
    torch.set_num_threads(config.threads)
    settings: PolicyConfig = build(config.policy)
    spec, paths, out = robot_spec(config), data_paths(config), Path(config.out)
    if config.checkpoint.policy is None:
        raise ProphRLError("nothing to export: name the trained policy, checkpoint.policy=<folder>")
    if not paths:
        raise ProphRLError("no observations to compare on: name recorded episodes, data=<dataset folder>")
    policy = checkpoint.load(config.checkpoint.policy, spec)
    episodes = load_all(paths, spec)
    manifest = export(policy, episodes, out, settings.export)
    figures = {name: manifest.extra[name] for name in ("opset", "parity", "latency")}
    write_figures(out / "figures.json", figures)
    _log.info("policy %s exported to %s: %s", manifest.policy_hash[:12], out, figures)
    return 0


class _Encoder(nn.Module):
    """``FlowPolicy.encode`` with tensors in and out."""

    def __init__(self, policy: FlowPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, images: Tensor, instruction: Tensor, state: Tensor | None = None) -> Tensor:
        return self.policy.encode(images, state, instruction).context


class _Step(nn.Module):
    """``FlowPolicy.velocity`` with tensors in and out."""

    def __init__(self, policy: FlowPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, context: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.policy.velocity(Prefix(context), x_t, t)


@torch.no_grad()
def _write_graphs(policy: FlowPolicy, folder: Path, opset: int) -> None:
    manifest, size = policy.manifest, policy.settings.image_size
    rows = 2  # an example batch of one would be taken for a constant
    inputs: dict[str, Tensor] = {
        "images": torch.rand(rows, len(manifest.cameras), 3, size, size),
        "instruction": torch.stack([policy.instruction_embedding(next(iter(manifest.instructions)))] * rows),
    }
    if manifest.state is not None:
        inputs["state"] = torch.zeros(rows, len(manifest.state_names))
    context = policy.encode(inputs["images"], inputs.get("state"), inputs["instruction"]).context
    _write(_Encoder(policy), inputs, "context", folder / ENCODER, opset)
    flow = {
        "context": context,
        "x_t": torch.rand(rows, policy.chunk_length, policy.action_dim),
        "t": torch.rand(rows, policy.chunk_length),
    }
    _write(_Step(policy), flow, "velocity", folder / STEP, opset)


def _write(module: nn.Module, inputs: dict[str, Tensor], output: str, path: Path, opset: int) -> None:
    import onnx

    axes = {name: {0: "batch"} for name in (*inputs, output)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its retirement on each call
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,  # measured: seconds instead of minutes, and the same figures
        )
    onnx.checker.check_model(path)
