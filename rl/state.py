"""Where an RL run is: everything from which the same command continues after a kill."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from torch import Tensor

from learning.state_file import load_optimiser, load_state, optimiser_tensors, save_state
from policy.flow_policy import FlowPolicy
from rl.learner import Learner
from rl.rollout import PracticeResult
from rl.starts import StartMemory
from rl.stopping import StopSettings, UpdateRecord, reason_to_stop
from robot_stack.core.errors import SpecMismatchError

FILE = "rl_state.safetensors"


@dataclass
class RlState:
    """Progress of one run.

    Attributes:
        identity: what must be equal for a run to continue: settings, start policy, practice.
        update: updates done.
        seconds: time spent, interruptions excluded.
        true_episodes: purpose -> episodes in the true environment so far.
        reference_success: true success of the reference on the selection seeds, None where it is the start policy itself.
        start_success: true success of the start policy on the same seeds, None before or without a check.
        start_gap: its imagined minus its true success, None where there is no imagination.
        best_success, best_update, best: true success, update (None: the reference) and weights of the policy to return.
        memory: what the starts of the practice promise.
        records: what the stop rule looks at.
        stopped: why the run ended early, "" while it goes on.
    """

    identity: dict[str, str]
    update: int = 0
    seconds: float = 0.0
    true_episodes: dict[str, int] = field(default_factory=dict)
    reference_success: float | None = None
    start_success: float | None = None
    start_gap: float | None = None
    best_success: float | None = None
    best_update: int | None = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    memory: StartMemory = field(default_factory=StartMemory)
    records: list[UpdateRecord] = field(default_factory=list)
    stopped: str = ""

    @classmethod
    def resume(cls, folder: Path, identity: Mapping[str, object], learner: Learner) -> Self:
        """The state saved in ``folder``, its weights put into ``learner``; or a fresh one.

        Raises:
            SpecMismatchError: the saved run has other settings, another start policy or another practice.
            BadFileError: the file is not such a state.
        """
        ours = {name: str(value) for name, value in identity.items()}
        path = folder / FILE
        if not path.is_file():
            return cls(ours, best=_copy(learner.policy))
        groups, facts = load_state(path)
        theirs = facts["identity"]
        lines = [f"{name}: saved {theirs.get(name)}, now {value}" for name, value in ours.items() if theirs.get(name) != value]
        if lines:
            raise SpecMismatchError(f"saved run {folder}", "this run", [*lines, "remove it or choose another folder (out=...)"])
        learner.policy.load_state_dict(groups["policy"])
        load_optimiser(learner.optimiser, groups.get("optimiser", {}))
        records = [UpdateRecord(**record) for record in facts.pop("records")]
        memory = StartMemory.of_facts(facts.pop("memory"))
        return cls(**facts, memory=memory, records=records, best=groups["best"])

    def offer_reference(self, policy: FlowPolicy, success: float) -> None:
        """Begin with the reference as the best, where it is another policy than the one that training starts from."""
        self.reference_success = success
        self.best, self.best_success, self.best_update = _copy(policy), success, None

    def offer(self, policy: FlowPolicy, success: float, gap: float | None) -> None:
        """Keep the policy if it is better than the reference and no worse than all others before it: none worse is returned.

        Of equals the one that has practised longest: a few true episodes do not tell apart what practice does.
        """
        if self.start_success is None:
            self.start_success, self.start_gap = success, gap
        least = -1.0 if self.best_success is None else self.best_success
        if success > least or (success == least and self.best_update is not None):
            self.best, self.best_success, self.best_update = _copy(policy), success, self.update

    @property
    def begun(self) -> bool:
        """Whether there is anything to continue."""
        return self.update > 0 or self.start_success is not None

    def record(self, practised: PracticeResult, figures: Mapping[str, float], limits: StopSettings) -> None:
        """Enter what the stop rule looks at and apply it."""
        gap = figures.get("gap")
        self.records.append(UpdateRecord(practised.success, practised.signal_share, figures["kl_last"], gap))
        self.stopped = reason_to_stop(self.start_gap, self.records, limits) or ""

    def count_true(self, purpose: str, episodes: int) -> None:
        """Enter true episodes into the ledger."""
        if episodes:
            self.true_episodes[purpose] = self.true_episodes.get(purpose, 0) + episodes

    def save(self, folder: Path, learner: Learner) -> None:
        """Write everything to ``folder``, at once or not at all."""
        groups = {"policy": learner.policy.state_dict(), "optimiser": optimiser_tensors(learner.optimiser), "best": self.best}
        apart = {"records": [dataclasses.asdict(record) for record in self.records], "memory": self.memory.facts()}
        names = [entry.name for entry in dataclasses.fields(self) if entry.name != "best"]
        save_state(folder / FILE, groups, {name: getattr(self, name) for name in names} | apart)


def _copy(policy: FlowPolicy) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in policy.state_dict().items()}
