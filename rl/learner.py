"""The learner: rollouts and advantages in, changed weights out.

Shapes: R = rollouts, B = valid chunks of all of them, S = random flow steps, K = flow steps, H = actions in a chunk,
A = numbers in an action.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from learning.seeding import generator
from policy.flow_policy import FlowPolicy
from policy.sampling import encode_batch
from rl.fa_grpo import FaGrpoLoss, FaGrpoSettings, fa_grpo_loss, step_kl
from rl.flow_sde import SdeSampler
from rl.rollout import Rollouts
from robot_stack.core.errors import ProphRLError
from robot_stack.core.types import FloatArray

# Sum over all learners of a count of valid numbers; one learner has nothing to add.
SumOverLearners = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LearnerSettings:
    """How weights follow the loss.

    Attributes:
        epochs: passes over the rollouts of an update.
        minibatches: optimiser steps in each pass.
        gradient_clip: largest norm of a gradient.
        probe: chunks on which the gradient of each flow step is measured once an update; 0 for none.
        loss: see ``FaGrpoSettings``.
    """

    epochs: int = 2
    minibatches: int = 4
    gradient_clip: float = 1.0
    probe: int = 24
    loss: FaGrpoSettings = field(default_factory=FaGrpoSettings)

    def __post_init__(self) -> None:
        if not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip must be positive, got {self.gradient_clip}")
        if min(self.epochs, self.minibatches) < 1 or self.probe < 0:
            raise ValueError("epochs and minibatches must be at least 1, probe at least 0")


class Learner:
    """FA-GRPO on a policy.

    Args:
        policy: trained in place; in evaluation mode, so that the first ratio is one.
        reference: KL is measured from it; a copy of the policy as given where None.
        sampler: the sampler with which the rollouts are drawn.
        instruction: the task in words.
        lr: learning rate of Adam.
        settings: see ``LearnerSettings``.
        sum_over_learners: adds up the count of valid numbers over processes, see ``fa_grpo_loss``.
    """

    def __init__(
        self,
        policy: FlowPolicy,
        reference: FlowPolicy | None,
        sampler: SdeSampler,
        instruction: str,
        lr: float,
        settings: LearnerSettings,
        sum_over_learners: SumOverLearners = lambda count: count,
    ) -> None:
        self.policy = policy.eval()
        self.reference = copy.deepcopy(policy if reference is None else reference).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(policy.parameters(), lr=lr)
        self._sampler = sampler
        self._instruction = instruction
        self._settings = settings
        self._weights = settings.loss.flow_scale.weights(sampler.stds).to(policy.device)
        self._sum_over_learners = sum_over_learners

    def set_lr(self, lr: float) -> None:
        """Learning rate of the updates to come."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr

    def update(self, rollouts: Rollouts, advantages: FloatArray, run: int, update: int) -> dict[str, float]:
        """Improve the policy by one update's rollouts.

        Args:
            advantages: of each rollout [R].
            run, update: seed of the order of minibatches.

        Returns:
            Figures to log, means over the update's optimiser steps unless their names say otherwise.
        """
        chunks = _Chunks(rollouts, advantages, self.policy.device)
        with torch.no_grad():
            reference = self._reference_means(chunks)
        figures = self._step_norms(chunks)
        losses, norms = [], []
        for rows in self._minibatches(len(chunks), run, update):
            loss = self._loss(chunks, reference, rows)
            self.optimiser.zero_grad(set_to_none=True)
            loss.total.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self._settings.gradient_clip).item())
            self.optimiser.step()
            losses.append(loss)
        names = ("policy", "kl", "clip_fraction", "drift")
        figures |= {name: float(np.mean([getattr(loss, name).item() for loss in losses])) for name in names}
        return figures | {
            "gradient_norm": float(np.mean(norms)),
            "kl_last": losses[-1].kl.item(),
            "valid_share": chunks.valid_share,
        }

    def _minibatches(self, count: int, run: int, update: int) -> Iterator[Tensor]:
        for epoch in range(self._settings.epochs):
            order = generator(run, "minibatches", update, epoch).permutation(count)
            for rows in np.array_split(order, min(self._settings.minibatches, count)):
                yield torch.from_numpy(rows)

    def _loss(self, chunks: "_Chunks", reference: Tensor, rows: Tensor) -> FaGrpoLoss:
        means = self._means(self.policy, chunks, rows)
        mask = chunks.mask[rows]
        return fa_grpo_loss(
            log_prob=self._sampler.log_prob(means, chunks.states[:, rows]),
            old_log_prob=chunks.log_prob[rows],
            kl=step_kl(means, reference[:, rows], self._sampler.step_std(means)),
            advantage=chunks.advantage[rows],
            mask=mask,
            weights=self._weights,
            settings=self._settings.loss,
            count=self._sum_over_learners(mask.sum() * chunks.log_prob.shape[-1]),
        )

    def _means(self, policy: FlowPolicy, chunks: "_Chunks", rows: Tensor) -> Tensor:
        """Step means [S, rows, H, A]: one encoding an observation, then all flow steps in one batch of velocities."""
        prefix = encode_batch(policy, chunks.images[rows.numpy()], [self._instruction] * len(rows))
        return self._sampler.means(partial(policy.velocity, prefix), chunks.states[:, rows])

    def _reference_means(self, chunks: "_Chunks") -> Tensor:
        parts = torch.arange(len(chunks)).split(max(1, len(chunks) // self._settings.minibatches))
        return torch.cat([self._means(self.reference, chunks, rows) for rows in parts], dim=1)

    def _step_norms(self, chunks: "_Chunks") -> dict[str, float]:
        """Gradient norm of each flow step alone, on a few chunks: what FlowScale is to even out."""
        if not self._settings.probe:
            return {}
        rows = torch.linspace(0, len(chunks) - 1, min(self._settings.probe, len(chunks))).long()
        parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        means = self._means(self.policy, chunks, rows)
        log_prob = self._sampler.log_prob(means, chunks.states[:, rows])
        norms = []
        for only in torch.eye(len(log_prob), device=log_prob.device):  # weight one for a step leaves its own gradient
            loss = fa_grpo_loss(
                log_prob, chunks.log_prob[rows], torch.zeros_like(log_prob), chunks.advantage[rows], chunks.mask[rows],
                only, self._settings.loss,
            )  # fmt: skip
            gradients = torch.autograd.grad(loss.total, parameters, retain_graph=True, allow_unused=True)
            norms.append(torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt().item())
        weighted = np.array(norms) * self._weights.cpu().numpy()
        return {f"step_norm_{k}": float(norm) for k, norm in enumerate(weighted)} | {
            "step_norm_spread": _spread(weighted),
            "step_norm_spread_unweighted": _spread(np.array(norms)),
        }


class _Chunks:
    """The chunks of all rollouts that hold at least one valid action, as tensors on the learner's device."""

    def __init__(self, rollouts: Rollouts, advantages: FloatArray, device: torch.device) -> None:
        count, episode_chunks = rollouts.mask.shape[:2]
        kept = rollouts.mask.any(dim=-1).reshape(-1)
        if not kept.any():
            raise ProphRLError("no valid chunk in the rollouts: every episode is judged a success before it begins")
        advantage = torch.as_tensor(advantages, dtype=torch.float32)[:, None].expand(count, episode_chunks).reshape(-1)
        self.images = rollouts.images.reshape(-1, *rollouts.images.shape[2:])[kept.numpy()]
        self.states = rollouts.states.flatten(0, 1)[kept].transpose(0, 1).contiguous().to(device)
        self.log_prob = rollouts.log_prob.flatten(0, 1)[kept].to(device)
        self.mask = rollouts.mask.flatten(0, 1)[kept].to(device)
        self.advantage = advantage[kept].to(device)
        self.valid_share = float(rollouts.mask.float().mean())

    def __len__(self) -> int:
        return len(self.advantage)


def _spread(norms: FloatArray) -> float:
    """Largest over smallest."""
    return float(norms.max() / max(norms.min(), 1e-12))
