"""Supervised training of a flow policy: on demonstrations (SFT) or on its own successes (filtered behaviour cloning).

Shapes: B = batch, H = actions in a chunk, A = numbers in an action.
Batches and noise of step n derive from (run, n) alone, so that an interrupted training continues on the same curve.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from learning.batching import ChunkSampler
from learning.ema import Ema
from learning.episode import Episode
from learning.episode_store import load_all
from learning.metrics_log import MetricsLog, write_figures
from learning.seeding import derive_seed, generator
from policy import checkpoint
from policy.augmentation import AugmentationSettings
from policy.flow_policy import FlowPolicy
from policy.loss import chunk_loss
from policy.train_state import TrainState
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec

if TYPE_CHECKING:
    from policy.config import PolicyConfig

Score = Callable[[FlowPolicy], float]
_log = logging.getLogger(__name__)
FIXED_FRAMES = 256  # at which the loss curve is measured


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast.

    Attributes:
        steps: updates.
        batch_size: B, frames an update.
        lr: peak learning rate of AdamW; warmed up linearly over ``warmup`` steps, then a cosine to a hundredth.
        warmup: steps.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient.
        ema_decay: of the averaged weights, which are what is scored and kept.
        prefix_probability: share of the chunks that are trained to continue from committed actions.
        log_every, checkpoint_every: steps; at a checkpoint the averaged policy is scored and the training's state saved.
        candidates: the last so many checkpoints are scored; the best is kept (the later one of equals).
        validation_episodes: demonstrations held out for the validation loss; few demonstrations are better all trained on.
        augmentation: of the pictures.
    """

    steps: int = 800
    batch_size: int = 64
    lr: float = 1e-3
    warmup: int = 30
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    ema_decay: float = 0.99
    prefix_probability: float = 0.2
    log_every: int = 10
    checkpoint_every: int = 100
    candidates: int = 3
    validation_episodes: int = 0
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.log_every, self.checkpoint_every, self.candidates) < 1:
            raise ValueError("steps, batch_size, log_every, checkpoint_every and candidates must be at least 1")
        if not 0.0 <= self.prefix_probability <= 1.0:
            raise ValueError(f"prefix_probability must be in [0, 1], got {self.prefix_probability}")

    def lr_at(self, step: int) -> float:
        """Learning rate of update ``step`` (from 0)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class FitResult:
    """Outcome of a training.

    Attributes:
        policy: the policy given, now with the chosen weights.
        best_step: updates after which they were reached.
        best_score: their score, or None where no score was given.
        seconds: time spent, interruptions excluded.
        true_episodes: that the score has cost, as it says itself.
    """

    policy: FlowPolicy
    best_step: int
    best_score: float | None
    seconds: float
    true_episodes: int


def fit(
    policy: FlowPolicy,
    episodes: Sequence[Episode],
    settings: TrainSettings,
    *,
    weights: Sequence[float] | None = None,
    validation: Sequence[Episode] = (),
    score: Score | None = None,
    folder: Path | None = None,
    run: int = 0,
    progress: bool = True,
) -> FitResult:
    """Train ``policy`` in place on (frame, chunk that follows) pairs.

    Args:
        episodes: what to imitate; ``weights`` [len(episodes)] say how often each one's frames are drawn.
        validation: episodes for the validation loss alone.
        score: judges a policy, higher is better; the best-scored of the last checkpoints is kept, else the last one. What
            it counts as ``true_episodes``, if anything, is reported.
        folder: gets ``metrics.csv``, ``figures.json`` and the state from which the same call continues after a crash.
        run: seed of everything random.
        progress: show a bar on stderr.

    Raises:
        SpecMismatchError: ``folder`` holds the state of a training with other settings, data or start weights.
    """
    shape = (policy.camera_names, policy.chunk_length, policy.settings.image_size)
    sampler = ChunkSampler(episodes, *shape, weights)
    held_out = ChunkSampler(validation, *shape) if validation else None
    average = Ema(policy, settings.ema_decay)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    identity = {"settings": settings, "run": run, "data": sampler.fingerprint, "start": checkpoint.policy_hash(policy)}
    state = TrainState.resume(folder, identity, policy, average, optimiser)
    log = None if folder is None else MetricsLog(folder / "metrics.csv", state.step or None)
    started = time.monotonic() - state.seconds
    bar = tqdm(total=settings.steps, initial=state.step, desc="policy", unit="step", disable=not progress)
    while state.step < settings.steps:
        loss, gradient_norm = _update(policy, optimiser, sampler, settings, run, state.step)
        average.update(policy)
        state.step += 1
        bar.update()
        if log is not None and state.step % settings.log_every == 0:
            log.add(state.step, {"loss": loss, "gradient_norm": gradient_norm, "lr": settings.lr_at(state.step - 1)})
        if state.step % settings.checkpoint_every == 0 or state.step == settings.steps:
            figures = _checkpoint(average.module, sampler, held_out, score, settings, state)
            state.seconds = time.monotonic() - started
            bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()})
            if log is not None and folder is not None:
                log.add(state.step, figures)
                state.save(folder, policy, average, optimiser)
    bar.close()
    policy.load_state_dict(state.best)
    result = FitResult(policy.eval(), state.best_step, state.best_score, state.seconds, state.true_episodes)
    if folder is not None:
        write_figures(folder / "figures.json", _summary(result, settings, len(episodes), len(sampler)))
    return result


def _update(
    policy: FlowPolicy, optimiser: torch.optim.Optimizer, sampler: ChunkSampler, settings: TrainSettings, run: int, step: int
) -> tuple[float, float]:
    """One step of the optimiser; returns the loss and the gradient's norm before clipping."""
    policy.train()
    batch = sampler.draw(settings.batch_size, generator(run, "policy batch", step))
    random = torch.Generator().manual_seed(derive_seed(run, "policy noise", step))
    loss = chunk_loss(policy, batch, settings.prefix_probability, random, settings.augmentation)
    if not torch.isfinite(loss):
        raise ProphRLError(f"the loss is {loss.item()} at step {step}: lower the learning rate, and check the data for NaN")
    for group in optimiser.param_groups:
        group["lr"] = settings.lr_at(step)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.gradient_clip)
    optimiser.step()
    return loss.item(), norm.item()


def _checkpoint(
    average: FlowPolicy,
    sampler: ChunkSampler,
    held_out: ChunkSampler | None,
    score: Score | None,
    settings: TrainSettings,
    state: TrainState,
) -> dict[str, float]:
    """Judge the averaged policy, remember it where it is the best so far; returns the figures."""
    figures = {"average_loss": _fixed_loss(average, sampler)}
    if held_out is not None:
        figures["validation_loss"] = _fixed_loss(average, held_out)
    first_candidate = settings.steps - (settings.candidates - 1) * settings.checkpoint_every
    if score is not None and state.step >= first_candidate:
        before = getattr(score, "true_episodes", 0)
        figures["score"] = score(average)
        state.true_episodes += getattr(score, "true_episodes", 0) - before
    state.offer(average, figures.get("score"))
    return figures


@torch.no_grad()
def _fixed_loss(policy: FlowPolicy, sampler: ChunkSampler) -> float:
    """Loss with the same frames and noise at every checkpoint, without augmentation: a curve that shows the plateau."""
    frames = torch.linspace(0, len(sampler) - 1, min(len(sampler), FIXED_FRAMES)).long().numpy()
    return float(chunk_loss(policy, sampler.gather(frames), 0.0, torch.Generator().manual_seed(0)))


def _summary(result: FitResult, settings: TrainSettings, episodes: int, frames: int) -> dict[str, object]:
    return {
        "steps": settings.steps,
        "best_step": result.best_step,
        "best_score": result.best_score,
        "seconds": round(result.seconds, 1),
        "episodes": episodes,
        "frames": frames,
        "true_episodes": {"selection": result.true_episodes},
        "parameters": sum(parameter.numel() for parameter in result.policy.parameters()),
    }


def main(argv: Sequence[str]) -> int:
    """``prophrl train-policy``: imitate what did not fail in ``data``, from ``checkpoint.policy`` if given, into ``out``."""
    from learning.hydra_entry import build, compose, data_paths, robot_spec

    config = compose(argv, "train-policy")
    torch.set_num_threads(config.threads)
    settings: PolicyConfig = build(config.policy)
    spec, paths, out = robot_spec(config), data_paths(config), Path(config.out)
    if not paths:
        raise ProphRLError("nothing to imitate: name the recorded episodes, data=<dataset folder> or data=[<folder>,<folder>]")
    episodes = load_all(paths, spec)
    found = len(episodes)
    episodes = [episode for episode in episodes if episode.success is not False]
    held_out = settings.train.validation_episodes
    if held_out >= len(episodes):
        raise ProphRLError(
            f"{len(episodes)} of {found} episodes did not fail, and {held_out} of them are held out: none to imitate"
        )
    taught, validation = episodes[: len(episodes) - held_out], episodes[len(episodes) - held_out :]
    policy = _begin(config.checkpoint.policy, settings, spec, episodes, config.seed)
    result = fit(policy, taught, settings.train, validation=validation, score=settings.selection, folder=out, run=config.seed)
    facts = {"seed": config.seed, "episodes": len(taught), "best_step": result.best_step, "score": result.best_score}
    data_hash = ChunkSampler(taught, policy.camera_names, policy.chunk_length, policy.settings.image_size).fingerprint
    manifest = checkpoint.save(result.policy, out, {"dataset_hash": data_hash, "training": facts})
    _log.info("policy %s in %s", manifest.policy_hash[:12], out)
    return 0


def _begin(start: str | None, settings: "PolicyConfig", spec: RobotSpec, episodes: Sequence[Episode], seed: int) -> FlowPolicy:
    """The policy to train: a new one, or the checkpoint ``start`` (its network and normalisation stay)."""
    if start is None:
        return FlowPolicy.for_episodes(settings.network, spec, episodes, seed)
    policy = checkpoint.load(start, spec)
    policy.learn_instructions([episode.instruction for episode in episodes])
    return policy
