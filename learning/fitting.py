"""The training loop that autoencoder, Prophet and judge share: resumable, averaged weights, one visible update, by accelerate.

Batches and noise of step n derive from (run, purpose, n) alone, so that an interrupted training continues on the same curve.
What does not require gradients when training begins stays as it is and is not kept in the state.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from learning.ema import Ema
from learning.metrics_log import MetricsLog
from learning.seeding import derive_seed, generator
from learning.state_file import load_optimiser, load_state, optimiser_tensors, save_state
from robot_stack.core.errors import SpecMismatchError

STATE_FILE = "training_state.safetensors"
PRECISIONS = ("no", "bf16")


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast.

    Attributes:
        steps: updates. The rate decays over the last ``decay`` of them, so a training can be cut short or made longer while
            it runs: change ``steps`` and start the same command again.
        batch_size: samples an update.
        lr: learning rate of AdamW after ``warmup`` steps.
        decay: share of the steps over which the rate falls linearly to a hundredth.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient.
        ema_decay: of the averaged weights, which are the result.
        log_every: steps between two rows of ``metrics.csv``.
        save_every_s: time between two saved states [s].
        precision: "no": float32; "bf16": mixed, for GPUs (several times slower on most CPUs).
    """

    steps: int
    batch_size: int
    lr: float
    warmup: int = 50
    decay: float = 0.5
    weight_decay: float = 1e-3
    gradient_clip: float = 1.0
    ema_decay: float = 0.995
    log_every: int = 20
    save_every_s: float = 60.0
    precision: str = "no"

    def __post_init__(self) -> None:
        if min(self.batch_size, self.log_every) < 1 or min(self.steps, self.warmup) < 0:
            raise ValueError("batch_size and log_every must be at least 1, steps and warmup at least 0")
        if not 0.0 <= self.decay <= 1.0 or self.lr <= 0.0 or self.gradient_clip <= 0.0:
            raise ValueError("decay must be in [0, 1], lr and gradient_clip positive")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")

    def lr_at(self, step: int) -> float:
        """Learning rate of update ``step`` (from 0)."""
        rising = min(1.0, (step + 1) / max(1, self.warmup))
        falling = min(1.0, (self.steps - step) / max(1.0, self.decay * self.steps))
        return self.lr * rising * max(0.01, falling)


@dataclass(frozen=True)
class StepSeeds:
    """Random numbers of one step.

    Attributes:
        draw: chooses the batch.
        noise: torch generator for noise and augmentation.
        step: number of the update, from 0.
    """

    draw: np.random.Generator
    noise: torch.Generator
    step: int


type LossOfStep[Module: nn.Module] = Callable[[Module, StepSeeds], Mapping[str, Tensor]]


def training_device() -> torch.device:
    """Where ``fit`` trains: a GPU where there is one (and ``ACCELERATE_USE_CPU`` does not forbid it)."""
    device: torch.device = Accelerator(mixed_precision="no").device
    return device


def fit[Module: nn.Module](
    network: Module,
    loss_of_step: LossOfStep[Module],
    settings: FitSettings,
    *,
    purpose: str,
    run: int,
    folder: Path | None = None,
    identity: str = "",
    progress: bool = True,
    averaged: Ema[Module] | None = None,
) -> Module:
    """Train ``network`` in place, on a GPU where there is one; returns the averaged copy.

    Args:
        loss_of_step: draws a batch and computes the losses of the network it is given; entry "loss" is minimised, the others
            are logged.
        purpose: names the training in seeds, files and the progress bar.
        run: seed of everything random.
        folder: gets ``<purpose>/metrics.csv`` and the state from which the same call continues; None keeps nothing.
        identity: what data and settings the state belongs to.
        averaged: the average to use, where the loss needs the averaged network as well.

    Raises:
        SpecMismatchError: ``folder`` holds the state of a training on other data or with other settings.
    """
    accelerator = Accelerator(mixed_precision="no")  # ours differs from network to network, accelerate's is one a process
    network = network.to(accelerator.device)
    taught = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(taught, lr=settings.lr, weight_decay=settings.weight_decay, betas=(0.9, 0.99))
    average = averaged if averaged is not None else Ema(network, settings.ema_decay)
    state_path = None if folder is None else folder / purpose / STATE_FILE
    start = _resume(state_path, identity, network, average, optimiser)
    wrapped, stepper = accelerator.prepare(network, optimiser)
    log = None if folder is None else MetricsLog(folder / purpose / "metrics.csv", start or None)
    network.train()
    saved_at = time.monotonic()
    bar = tqdm(
        range(start, settings.steps), initial=start, total=settings.steps, desc=purpose, unit="step", disable=not progress
    )
    for step in bar:
        noise = torch.Generator().manual_seed(derive_seed(run, purpose, "noise", step))
        with _precision(settings, accelerator.device):
            losses = loss_of_step(wrapped, StepSeeds(generator(run, purpose, "batch", step), noise, step))
        stepper.zero_grad(set_to_none=True)
        accelerator.backward(losses["loss"])
        gradient_norm = accelerator.clip_grad_norm_(taught, settings.gradient_clip)
        for group in optimiser.param_groups:
            group["lr"] = settings.lr_at(step)
        stepper.step()
        average.update(network)
        last = step + 1 == settings.steps
        if log is not None and ((step + 1) % settings.log_every == 0 or last):
            figures = {name: float(value.detach()) for name, value in losses.items()}
            log.add(step + 1, figures | {"gradient_norm": float(gradient_norm), "lr": settings.lr_at(step)})
            bar.set_postfix(loss=f"{figures['loss']:.4f}")
        if state_path is not None and (last or time.monotonic() - saved_at > settings.save_every_s):
            _save(state_path, identity, step + 1, network, average, optimiser)
            saved_at = time.monotonic()
    accelerator.free_memory()
    network.eval()
    return average.module


def _precision(settings: FitSettings, device: torch.device) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if settings.precision == "no" else torch.autocast(device.type, torch.bfloat16)


def _save[Module: nn.Module](
    path: Path, identity: str, step: int, network: Module, average: Ema[Module], optimiser: torch.optim.Optimizer
) -> None:
    names = _changing(network)
    groups = {
        "network": {name: value for name, value in network.state_dict().items() if name in names},
        "average": {name: value for name, value in average.module.state_dict().items() if name in names},
        "optimiser": optimiser_tensors(optimiser),
    }
    save_state(path, groups, {"identity": identity, "step": step, "updates": average.updates})


def _resume[Module: nn.Module](
    path: Path | None, identity: str, network: Module, average: Ema[Module], optimiser: torch.optim.Optimizer
) -> int:
    """Continue from the saved state; returns the number of updates it holds."""
    if path is None or not path.is_file():
        return 0
    groups, facts = load_state(path)
    if facts["identity"] != identity:
        raise SpecMismatchError(
            f"this training ({identity})", f"the state in {path}", [f"it is of {facts['identity']}; remove it to begin anew"]
        )
    if missing := _changing(network) - groups["network"].keys():
        raise SpecMismatchError(f"this training ({identity})", f"the state in {path}", [f"it lacks {min(missing)}"])
    network.load_state_dict(groups["network"], strict=False)
    average.module.load_state_dict(groups["average"], strict=False)
    load_optimiser(optimiser, groups["optimiser"])
    average.updates = int(facts["updates"])
    return int(facts["step"])


def _changing(network: nn.Module) -> set[str]:
    """What training changes: trainable weights and buffers."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return set(network.state_dict()) - frozen
