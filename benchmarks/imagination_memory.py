"""What training and imagination of Prophet need: each is measured in a process of its own, whose memory is nobody else's."""

import ctypes
import gc
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil
from torch import Tensor

from benchmarks.imagined_world import Subject, World, check_moving, make_world
from benchmarks.measuring import OtherWork, Repetition
from learning.fitting import FitSettings, StepSeeds, fit
from robot_stack.core.errors import ProphRLError
from world_model.denoiser import DenoiserSettings, denoising_loss
from world_model.latents import WindowSampler
from world_model.prophet import ProphetTransformer
from world_model.prophet_training import draw_windows

MIB = 2**20
WARM_UPDATES = 3  # of each kind, not counted


def training(subject: Subject, batch: int, updates: int) -> Repetition:
    """Seconds an update as ``fit_prophet`` makes it, by the chunks of own output before its window, in turns.

    Args:
        batch: windows an update.
        updates: of each kind.
    """
    others, world = OtherWork(), make_world(subject)
    prophet, denoiser = world.prophet, world.settings.denoiser
    encoded = [prophet.encode_episode(episode) for episode in world.episodes]
    windows = WindowSampler(encoded, prophet.settings, prophet.latent_shape.temporal_factor)
    network = prophet.transformer.requires_grad_(True)
    kinds = denoiser.self_forcing_chunks + 1
    begun: list[float] = []

    def loss_of_step(learner: ProphetTransformer, seeds: StepSeeds) -> Mapping[str, Tensor]:
        begun.append(time.perf_counter())
        drawn = draw_windows(network, windows, prophet.settings, prophet.frames_of, batch, seeds.step % kinds, seeds)
        return denoising_loss(learner, prophet.settings, drawn, denoiser, seeds.noise)

    before = resident()
    count = kinds * (WARM_UPDATES + updates) + 1  # the last one only ends the one before
    fit(network, loss_of_step, FitSettings(count, batch, lr=1e-4), purpose="benchmark", run=0, progress=False)
    seconds = by_kind(begun, kinds)
    return {"update_s": seconds, "before_mib": before, "peak_mib": peak_resident(), "others": others.share()}


def by_kind(begun: Sequence[float], kinds: int) -> list[float]:
    """Median seconds of each kind of update, where update i is of kind i modulo ``kinds``, from when each began."""
    seconds = np.diff(begun)[WARM_UPDATES * kinds :]
    return [float(np.median(seconds[kind::kinds])) for kind in range(kinds)]


def as_trained(update_s: Sequence[float], denoiser: DenoiserSettings) -> float:
    """Mean seconds of an update once self-forcing has begun: none of it, or with its probability 1, 2, ... chunks alike."""
    plain, *forced = update_s
    return (1.0 - denoiser.self_forcing) * plain + denoiser.self_forcing * float(np.mean(forced))


def imagining(subject: Subject, batch: int, chunks: int) -> Repetition:
    """Memory before the first chunk, and at most in ``chunks`` of them."""
    others, world = OtherWork(), make_world(subject)
    before = resident()
    rollout(world, batch, chunks, every=chunks)
    return {"before_mib": before, "peak_mib": peak_resident(), "others": others.share()}


def long_rollout(subject: Subject, batch: int, steps: int, every: int) -> Repetition:
    """Memory after every so many actions of one rollout that is not begun anew, see ``rollout``."""
    world = make_world(subject)
    length = world.prophet.settings.chunk_length
    if every % length or steps % every:
        raise ProphRLError(f"{steps} steps, sampled every {every}, are no whole chunks of {length}")
    return {"samples": rollout(world, batch, steps // length, every // length)}


def rollout(world: World, batch: int, chunks: int, every: int) -> list[tuple[int, float, float]]:
    """Actions, resident memory and memory in use [MiB] after every ``every``-th chunk."""
    environment = world.imagined(world.moments[:batch])
    environment.reset(range(batch))
    length, samples = world.prophet.settings.chunk_length, []
    for number in range(1, chunks + 1):
        [deltas] = world.chunks(1, batch, f"rollout {number}")
        check_moving(environment.step(deltas), number * length)
        if number % every == 0:
            gc.collect()
            samples.append((number * length, resident(), in_use()))
    return samples


def growth(samples: Sequence[tuple[int, float]], warm_steps: int) -> float:
    """Slope of (actions, MiB) after the warm-up by least squares [MiB in 1000 actions].

    Raises:
        ValueError: fewer than two samples after the warm-up.
    """
    settled = [sample for sample in samples if sample[0] >= warm_steps]
    if len(settled) < 2:
        raise ValueError(f"need two samples after {warm_steps} actions, got {list(samples)}")
    steps, sizes = np.array(settled, dtype=np.float64).T
    return float(1000.0 * np.polyfit(steps, sizes, 1)[0])


def in_use() -> float:
    """What this process has asked of the C library and not freed [MiB], without Python's small objects; NaN where unknown.

    Resident memory also has what the library keeps of what was freed, which comes and goes by some MiB.
    """
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return float("nan")
    mallinfo2.restype = _MallInfo
    found = mallinfo2()
    return float((found.uordblks + found.hblkhd) / MIB)


class _MallInfo(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    )


def resident() -> float:
    """Memory of this process now [MiB]."""
    return float(psutil.Process().memory_info().rss / MIB)


def peak_resident() -> float:
    """The most that it ever was [MiB]; that of a parent, which ``getrusage`` may tell, does not count."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM:")]
    return float(line.split()[1]) / 1024.0
