"""The learning loop: practise, judge, compare within groups, follow the FA-GRPO loss, check the truth, keep the best."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from learning.metrics_log import MetricsLog, write_figures
from policy import checkpoint
from policy.flow_policy import FlowPolicy
from policy.sde_step import FlowGrpoStep, SdeStep
from rl.advantages import AdvantageSettings, group_advantages
from rl.evaluation import Evaluation, evaluate
from rl.flow_sde import SdeSampler
from rl.learner import Learner, LearnerSettings
from rl.practice import PracticeSettings
from rl.rollout import Episodes, RolloutSettings, by_group, practise
from rl.state import RlState
from rl.stopping import StopSettings
from robot_stack.core.errors import UnknownNameError
from robot_stack.core.ports import VectorEnvironment

_log = logging.getLogger(__name__)

BEST, LAST = "best", "last"

# Success of a policy on the selection seeds of the true environment.
Check = Callable[[FlowPolicy], Evaluation]


@dataclass(frozen=True)
class RlSettings:
    """FA-GRPO with FlowScale.

    Attributes:
        updates: at most so many.
        lr: learning rate of Adam.
        decay: share of the updates, the last ones, over which the rate falls linearly towards zero: one update's rollouts are
            few, and at the full rate the last policy depends on which they were.
        check_every: updates between two checks in the true environment; the start policy and the last are checked in any case.
        check_episodes: true episodes of a check.
        keep: which policy is returned: "best" of the checked ones, or "last": of a round that others follow, the
            policy that exploits the world model; its episodes show where that is wrong.
        imagined_checks: starts on which success, as practice counts it (``practice.certainty``), is checked in the imagination
            at the same time.
        step: the SDE step and its noise level.
        practice, rollout, advantages, learner, stop: settings of the parts.
    """

    updates: int = 20
    lr: float = 7e-5
    decay: float = 0.0
    check_every: int = 5
    check_episodes: int = 40
    imagined_checks: int = 40
    keep: str = BEST
    practice: PracticeSettings = field(default_factory=PracticeSettings)
    step: SdeStep = field(default_factory=FlowGrpoStep)
    rollout: RolloutSettings = field(default_factory=RolloutSettings)
    advantages: AdvantageSettings = field(default_factory=AdvantageSettings)
    learner: LearnerSettings = field(default_factory=LearnerSettings)
    stop: StopSettings = field(default_factory=StopSettings)

    def __post_init__(self) -> None:
        if min(self.updates, self.check_every, self.check_episodes, self.imagined_checks) < 1:
            raise ValueError("updates, check_every, check_episodes and imagined_checks must be at least 1")
        if self.keep not in (BEST, LAST):
            raise UnknownNameError("policy to keep", self.keep, (BEST, LAST))
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if not 0.0 <= self.decay <= 1.0:
            raise ValueError(f"decay must be in [0, 1], got {self.decay}")

    def lr_at(self, update: int) -> float:
        """Learning rate of update ``update`` (from 0)."""
        left = self.updates - update
        falling = self.decay * self.updates
        return self.lr * left / falling if left < falling else self.lr


@dataclass(frozen=True)
class RlResult:
    """Outcome of a run.

    Attributes:
        policy: the policy given, now with the weights to keep.
        state: how they were reached: best update, true success, ledger of true episodes, reason of an early stop.
    """

    policy: FlowPolicy
    state: RlState

    @property
    def facts(self) -> dict[str, object]:
        """For the manifest and the report."""
        state = self.state
        return {
            "updates": state.update,
            "best_update": state.best_update,
            "true_success": {
                **({} if state.reference_success is None else {"reference": state.reference_success}),
                "start": state.start_success,
                "best": state.best_success,
            },
            "true_episodes": state.true_episodes,
            "stopped": state.stopped,
            "seconds": round(state.seconds, 1),
        }


def train(
    policy: FlowPolicy,
    practice: VectorEnvironment,
    pool: Sequence[int],
    episodes: Episodes,
    check: Check | None,
    settings: RlSettings,
    folder: Path,
    *,
    reference: FlowPolicy | None = None,
    identity: dict[str, object] | None = None,
    practice_is_true: bool = False,
    progress: bool = True,
) -> RlResult:
    """Improve ``policy`` in place and return it with its best weights (``settings.keep``).

    Args:
        practice: where it practises: the imagination, or the true simulator as the upper bound.
        pool: starts of the practice to choose from.
        check: true success on the selection seeds; without one the last weights are returned.
        folder: gets ``metrics.csv`` and the state from which the same call continues after a kill.
        reference: KL is measured from it, and nothing worse is returned; the policy as given by default.
        identity: further facts that must be equal for a saved run to be continued.
        practice_is_true: rollouts count as true episodes.
    """
    sampler = SdeSampler(settings.step, policy.flow_steps)
    learner = Learner(policy, reference, sampler, episodes.instruction, settings.lr, settings.learner)
    imagine = None if practice_is_true else _imagined_check(practice, pool, episodes, settings)
    state = RlState.resume(folder, {"settings": settings, "episodes": episodes, **(identity or {})}, learner)
    log = MetricsLog(folder / "metrics.csv", state.update if state.begun else None)
    if check is not None and not state.begun:
        if reference is not None:
            _examine_reference(reference, check, state)
        log.add(0, _examine(policy, check, imagine, state))
        state.save(folder, learner)
    clock = _Clock(state.seconds)
    bar = tqdm(total=settings.updates, initial=state.update, desc="FA-GRPO", unit="update", disable=not progress)
    while state.update < settings.updates and not state.stopped:
        practised = practise(
            policy, practice, sampler, pool, episodes, state.update, settings.rollout, settings.advantages, state.memory
        )
        seconds = {"practice_seconds": clock.lap()}
        advantages = group_advantages(by_group(practised.rollouts.rewards, settings.rollout), settings.advantages)
        learner.set_lr(settings.lr_at(state.update))
        figures = learner.update(practised.rollouts, advantages.reshape(-1), episodes.run, state.update)
        seconds["learn_seconds"] = clock.lap()
        state.update += 1
        state.count_true("practice", practised.episodes if practice_is_true else 0)
        if check is not None and _is_due(state.update, settings):
            figures |= _examine(policy, check, imagine, state)
            seconds["check_seconds"] = clock.lap()
        state.record(practised, figures, settings.stop)
        state.seconds = clock.total
        log.add(state.update, practised.figures | figures | seconds)
        state.save(folder, learner)
        bar.update()
        bar.set_postfix(reward=f"{practised.reward:.2f}", kl=f"{figures['kl_last']:.3f}", true=f"{state.best_success or 0:.2f}")
    bar.close()
    if state.stopped:
        _log.warning("stopped after %d updates: %s", state.update, state.stopped)
    if check is not None and settings.keep == BEST:
        policy.load_state_dict(state.best)
    return RlResult(policy.eval(), state)


def main(argv: Sequence[str]) -> int:
    """``prophrl train-rl``: from ``checkpoint.policy`` to the better checkpoint ``out``, in ``checkpoint.world_model``."""
    from learning.hydra_entry import build, compose
    from rl.configuration import practice, reference_policy, start_policy, trials

    config = compose(argv, "train-rl")
    settings: RlSettings = build(config.rl)
    policy, reference, out = start_policy(config), reference_policy(config), Path(config.out)
    with (
        contextlib.closing(trials(config)) as truth,
        contextlib.closing(practice(config, settings.practice, truth)) as place,
    ):
        selection = truth.seeds("rl_selection", settings.check_episodes)
        result = train(
            policy,
            place.environment,
            place.pool,
            truth.episodes(policy),
            lambda candidate: truth.evaluate(candidate, selection),
            settings,
            out,
            reference=reference,
            identity={"start policy": policy.manifest.policy_hash, **place.identity},
            practice_is_true=place.is_true,
        )
    facts = result.facts | {"seed": config.seed, "practice": settings.practice.where, "kept": settings.keep}
    manifest = checkpoint.save(result.policy, out, {"rl": facts})
    write_figures(out / "figures.json", facts)
    _log.info(
        "%s policy %s (best: %s) in %s: %s",
        settings.keep,
        manifest.policy_hash[:12],
        "the reference" if result.state.best_update is None else f"update {result.state.best_update}",
        out,
        facts["true_success"],
    )
    return 0


def _is_due(update: int, settings: RlSettings) -> bool:
    return update % settings.check_every == 0 or update == settings.updates


def _imagined_check(practice: VectorEnvironment, pool: Sequence[int], episodes: Episodes, settings: RlSettings) -> Check:
    """The same deterministic evaluation as the true one, in the imagination: the gap between the two then means something."""
    starts = pool[: settings.imagined_checks]
    return lambda policy: evaluate(policy, practice, starts, episodes, settings.rollout.batch)


def _examine_reference(reference: FlowPolicy, check: Check, state: RlState) -> None:
    """Check the policy that must not be undercut."""
    true = check(reference)
    state.count_true("selection", len(true))
    state.offer_reference(reference, true.rate)


def _examine(policy: FlowPolicy, check: Check, imagine: Check | None, state: RlState) -> dict[str, float]:
    """Check against the truth and keep the best."""
    true = check(policy)
    imagined = None if imagine is None else imagine(policy).rate
    gap = None if imagined is None else imagined - true.rate
    state.count_true("selection", len(true))
    state.offer(policy, true.rate, gap)
    figures = {"true_success": true.rate, "imagined_success": imagined, "gap": gap}
    return {name: value for name, value in figures.items() if value is not None}


class _Clock:
    """Seconds of each part of an update and of the whole run, interruptions excluded."""

    def __init__(self, before: float) -> None:
        self._lap = time.monotonic()
        self._began = self._lap - before

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.monotonic()
        self._lap, seconds = now, now - self._lap
        return seconds

    @property
    def total(self) -> float:
        return time.monotonic() - self._began
