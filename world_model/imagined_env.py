"""Prophet and the judge as an environment: the learner cannot tell it from the simulator.

Shapes: N = environments, H = actions in a chunk, A = numbers in an action, T = frames so far, C, h, w = latent grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learning.images import resize_square
from robot_stack.core.actions import compose, decompose
from robot_stack.core.errors import ProphRLError, ShapeError
from robot_stack.core.ports import EnvironmentStep
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import Guard
from robot_stack.core.types import FloatArray
from world_model.checkpoint import Prophet
from world_model.imagination import Imagination, StartContext, encode_starts
from world_model.judge import Judge, running_scores
from world_model.sampler import SamplerSettings
from world_model.uncertainty import disagreement


@dataclass(frozen=True)
class DoubtSettings:
    """What the disagreement of a second draw with other noise does to a rollout; see ``world_model.uncertainty``.

    Attributes:
        limit: disagreement from which on a rollout is broken off: it stands still, and what it scored before is its score.
            None: never.
        penalty: the judge's probabilities are lowered by so much for each unit of disagreement.
    """

    limit: float | None = None
    penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.penalty < 0 or (self.limit is not None and not self.limit > 0):
            raise ValueError(f"penalty must be at least 0 and limit positive, got {self.penalty} and {self.limit}")


class ImaginedEnv:
    """Implements ``core.ports.VectorEnvironment``.

    Targets pass through the guard that the robot's executor uses. No rollout begins as a success, whatever the judge thinks of
    its start: nothing has been done yet, and a rollout that is over before it begins teaches nothing. A rollout that the judge
    has called a success stands still from then on, which saves imagining what nobody learns from. What a rollout shows
    depends on its start, its noise seed and its actions, not on its neighbours. Each step's ``info`` holds "scores", the
    judge's probability of success at each new frame [N, H] (at the start [N, 1]), "latents", the new frames [N, H, C, h, w],
    and with ``doubt`` "uncertainty" [N, H], see ``DoubtSettings``.

    Args:
        prophet: the world model.
        judge: made for this world model.
        starts: moments to begin from; ``reset`` takes indices into them.
        spec: the robot.
        sampler: how frames are drawn.
        doubt: measure how far imagination may be trusted; None: do not.

    Raises:
        SpecMismatchError: robot, world model and judge do not belong together.
        ProphRLError: no starts.
    """

    def __init__(
        self,
        prophet: Prophet,
        judge: Judge,
        starts: Sequence[StartContext],
        spec: RobotSpec,
        sampler: SamplerSettings | None = None,
        doubt: DoubtSettings | None = None,
    ) -> None:
        prophet.check_robot(spec)
        judge.check(prophet)
        if not starts:
            raise ProphRLError("imagination needs at least one start: record episodes first")
        self._prophet, self._judge, self._spec = prophet, judge, spec
        self._sampler = sampler or SamplerSettings()
        self._starts = tuple(starts)
        self._encoded = encode_starts(prophet, self._starts)
        self._doubt = doubt
        self._imagination: Imagination | None = None
        self._again: Imagination | None = None
        self._doubted: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self._commanded: FloatArray = np.zeros((0, len(spec.actions)))
        self._guards: list[Guard] = []
        self._scores: FloatArray = np.zeros((0, 0))
        self._tail = torch.zeros(0)
        self._success: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self._images: npt.NDArray[np.uint8] = np.zeros((0, 0, 0, 3), dtype=np.uint8)

    def __len__(self) -> int:
        """Starts to choose from."""
        return len(self._starts)

    def reset(self, starts: Sequence[int], noise_seeds: Sequence[int] | None = None) -> EnvironmentStep:
        """Begin N rollouts from recorded moments; ``starts`` are indices into them, ``noise_seeds`` [N] the starts by default.

        Raises:
            ProphRLError: an index outside the starts.
            ShapeError: seeds of another number.
        """
        bad = [start for start in starts if not 0 <= start < len(self._starts)]
        if bad or not len(starts):
            raise ProphRLError(f"start {bad[0] if bad else '(none)'} is not among the {len(self._starts)} recorded starts")
        seeds = list(starts) if noise_seeds is None else list(noise_seeds)
        if len(seeds) != len(starts):
            raise ShapeError("noise seeds", (len(seeds),), f"[{len(starts)}]")
        chosen = [self._starts[start] for start in starts]
        encoded = [self._encoded[start] for start in starts]
        self._imagination = Imagination(self._prophet, self._sampler, encoded, seeds)
        self._again = None
        if self._doubt is not None:
            self._again = Imagination(self._prophet, self._sampler, encoded, [f"{seed} again" for seed in seeds])
        self._doubted = np.zeros(len(chosen), dtype=bool)
        latents = torch.stack([start.frames for start in encoded])
        self._commanded = np.stack([start.commanded[-1] for start in chosen])
        self._guards = [Guard(self._spec) for _ in chosen]
        for guard, reference in zip(self._guards, self._commanded, strict=True):
            guard.start(reference)
        window = self._judge.settings.window
        self._scores = np.zeros((len(chosen), 0))
        first, self._tail = latents[:, -1:], latents[:, latents.shape[1] - window : -1]
        scores = self._judge.score_frames(first, self._tail)
        self._remember(first)
        self._success = np.zeros(len(chosen), dtype=bool)
        size = self._prophet.latent_shape.image_size
        self._images = np.stack([resize_square(start.images[-1], size) for start in chosen])
        return EnvironmentStep(
            images=self._images,
            commanded=self._commanded.copy(),
            success=self._success.copy(),
            info={"scores": scores, "latents": first.cpu().numpy()},
        )

    def step(self, deltas: FloatArray) -> EnvironmentStep:
        """Imagine one chunk of delta actions [N, H, A].

        Raises:
            ShapeError: another number of environments or actions.
            ProphRLError: before ``reset``.
        """
        if self._imagination is None:
            raise ProphRLError("reset the imagined environment before stepping it")
        if deltas.ndim != 3 or deltas.shape[::2] != self._commanded.shape:
            raise ShapeError("deltas", deltas.shape, f"[{len(self._commanded)}, H, {len(self._spec.actions)}]")
        targets = self._guarded(np.asarray(deltas, dtype=np.float64))
        alive = ~self._success & ~self._doubted
        relative = decompose(self._commanded, targets, self._spec.action_kinds)
        frames = self._imagination.step(relative, targets, alive)
        uncertainty = self._uncertainty(frames, relative, targets, alive)
        self._commanded = targets[:, -1]
        if alive.any():
            self._images = self._images.copy()  # the caller keeps what it was given
            self._images[alive] = self._prophet.decode(frames[torch.from_numpy(alive), -1])
        return self._outcome(frames, alive, uncertainty)

    def close(self) -> None:
        """Forget the rollouts."""
        self._imagination = self._again = None

    def _uncertainty(
        self, frames: Tensor, deltas: FloatArray, targets: FloatArray, alive: npt.NDArray[np.bool_]
    ) -> FloatArray | None:
        """How much a second draw differs [N, H]; rollouts beyond the limit are doubted from now on."""
        if self._again is None or self._doubt is None:
            return None
        other = self._again.step(deltas, targets, alive)
        uncertainty = disagreement(frames, other)
        uncertainty[~alive] = 0.0
        if self._doubt.limit is not None:
            self._doubted |= (uncertainty > self._doubt.limit).any(axis=1)
        return uncertainty

    def _guarded(self, deltas: FloatArray) -> FloatArray:
        """Absolute targets [N, H, A] as the executor would send them."""
        wanted = compose(self._commanded, deltas, self._spec.action_kinds)
        targets = np.empty_like(wanted)
        for n, guard in enumerate(self._guards):
            for h in range(wanted.shape[1]):
                targets[n, h] = guard.check(wanted[n, h]).target
        return targets

    def _outcome(self, frames: Tensor, alive: npt.NDArray[np.bool_], uncertainty: FloatArray | None) -> EnvironmentStep:
        scores = self._judge.score_frames(frames, self._tail)
        if uncertainty is not None and self._doubt is not None:
            scores = np.clip(scores - self._doubt.penalty * uncertainty, 0.0, 1.0)
        stopped = ~alive | self._doubted
        scores[stopped] = self._scores[stopped, -1:] if self._scores.shape[1] else 0.0
        self._remember(frames)
        seen, frames_of_a_verdict = np.concatenate([self._scores, scores], axis=1), self._judge.settings.verdict_frames
        best = running_scores(seen, frames_of_a_verdict)
        self._success = self._success | (best >= self._judge.threshold).any(axis=1)
        self._scores = seen[:, -max(1, frames_of_a_verdict - 1) :]  # what the next verdicts begin with
        return EnvironmentStep(
            images=self._images,
            commanded=self._commanded.copy(),
            success=self._success.copy(),
            info={
                "scores": scores,
                "latents": frames.cpu().numpy(),
                **({} if uncertainty is None else {"uncertainty": uncertainty, "doubted": self._doubted.copy()}),
            },
        )

    def _remember(self, frames: Tensor) -> None:
        """Keep what the judge's next window begins with."""
        before = self._judge.settings.window - 1
        self._tail = torch.cat([self._tail, frames], dim=1)[:, -before:] if before else self._tail
