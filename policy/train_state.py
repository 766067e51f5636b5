"""Where a policy's training is: what a killed one continues from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from learning.ema import Ema
from learning.state_file import load_optimiser, load_state, optimiser_tensors, save_state
from policy.flow_policy import FlowPolicy
from robot_stack.core.errors import SpecMismatchError

FILE = "training_state.safetensors"


@dataclass
class TrainState:
    """Progress of a training and the best weights so far.

    Attributes:
        identity: what must be equal for a training to continue: settings, run, data, start weights.
        step: updates done.
        seconds: time spent.
        best_step, best_score, best: the weights to return.
        true_episodes: spent on scores.
    """

    identity: Mapping[str, str]
    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    true_episodes: int = 0

    @classmethod
    def resume(
        cls,
        folder: Path | None,
        identity: Mapping[str, object],
        policy: FlowPolicy,
        average: Ema[FlowPolicy],
        optimiser: torch.optim.Optimizer,
    ) -> Self:
        """The state saved in ``folder``, put into policy, average and optimiser; or a fresh one.

        Raises:
            SpecMismatchError: the saved state belongs to a training with other settings, run, data or start weights.
            BadFileError: the file is not such a state.
        """
        texts = {name: str(value) for name, value in identity.items()}
        if folder is None or not (folder / FILE).is_file():
            return cls(texts)
        groups, facts = load_state(folder / FILE)
        saved = facts["identity"]
        lines = [f"{name}: state {saved.get(name)}, now {value}" for name, value in texts.items() if saved.get(name) != value]
        if lines:
            lines.append("to begin anew, remove the state or choose another folder")
            raise SpecMismatchError(f"training state {folder / FILE}", "this training", lines)
        policy.load_state_dict(groups["policy"])
        average.module.load_state_dict(groups["average"])
        average.updates = facts["average_updates"]
        load_optimiser(optimiser, groups["optimiser"])
        return cls(
            identity=texts,
            step=facts["step"],
            seconds=facts["seconds"],
            best_step=facts["best_step"],
            best_score=facts["best_score"],
            best=groups["best"],
            true_episodes=facts["true_episodes"],
        )

    def offer(self, average: FlowPolicy, score: float | None) -> None:
        """Keep these weights where they are the best so far; later ones win among equals, and scored ones over unscored."""
        if self.best_score is None or (score is not None and score >= self.best_score):
            self.best = {name: tensor.detach().clone() for name, tensor in average.state_dict().items()}
            self.best_step, self.best_score = self.step, score

    def save(self, folder: Path, policy: FlowPolicy, average: Ema[FlowPolicy], optimiser: torch.optim.Optimizer) -> None:
        """Write everything to ``folder``."""
        groups = {
            "policy": policy.state_dict(),
            "average": average.module.state_dict(),
            "best": self.best,
            "optimiser": optimiser_tensors(optimiser),
        }
        facts = {
            "identity": dict(self.identity),
            "step": self.step,
            "seconds": self.seconds,
            "best_step": self.best_step,
            "best_score": self.best_score,
            "true_episodes": self.true_episodes,
            "average_updates": average.updates,
        }
        save_state(folder / FILE, groups, facts)
