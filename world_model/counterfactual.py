"""The counterfactual test: does imagination fail where the simulator fails?

Perturbed actions are replayed in the simulator and in Prophet; the judge's verdict on the imagined video is held against what
truly happened. Success in imagination where the truth failed is what a policy would learn to exploit. The same judge on true
video of the same actions is the control: what it gets wrong there is not Prophet's fault. Shapes: N = starts.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.episode import Episode
from learning.seeding import derive_seed
from robot_stack.core.statistics import Interval, wilson_interval
from robot_stack.core.types import FloatArray
from world_model.checkpoint import Prophet
from world_model.judge import Judge
from world_model.judge_calibration import area_under_curve
from world_model.judge_train import real_videos, replayed_videos, scores_of
from world_model.sampler import SamplerSettings

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Confusion:
    """True outcomes against judged imagined ones.

    Attributes:
        hits: success in both.
        hallucinated: imagined success, true failure.
        missed: imagined failure, true success.
        failures: failure in both.
    """

    hits: int = 0
    hallucinated: int = 0
    missed: int = 0
    failures: int = 0

    @classmethod
    def of(cls, true: BoolArray, judged: BoolArray) -> "Confusion":
        """Counts of outcomes [N] against verdicts [N]."""
        pairs = ((true & judged), (~true & judged), (true & ~judged), (~true & ~judged))
        return cls(*(int(pair.sum()) for pair in pairs))

    @property
    def hallucinated_success(self) -> Interval | None:
        """Share of the true failures that look like successes in imagination, with Wilson's interval; None without failures."""
        failures = self.hallucinated + self.failures
        return wilson_interval(self.hallucinated, failures) if failures else None

    @property
    def missed_success(self) -> Interval | None:
        """Share of the true successes that look like failures in imagination; None without successes."""
        successes = self.hits + self.missed
        return wilson_interval(self.missed, successes) if successes else None


@dataclass(frozen=True)
class Verdicts:
    """What the judge says of the episodes of one perturbation.

    Attributes:
        outcomes: true success [N].
        imagined, real: scores of imagined video and of true video of the same actions [N].
        threshold: score from which on a video is a success.
    """

    outcomes: BoolArray
    imagined: FloatArray
    real: FloatArray
    threshold: float

    @property
    def confusion(self) -> Confusion:
        """True outcomes against judged imagined ones."""
        return Confusion.of(self.outcomes, self.imagined >= self.threshold)

    @property
    def control(self) -> Confusion:
        """True outcomes against the judge's verdict on true video."""
        return Confusion.of(self.outcomes, self.real >= self.threshold)

    @classmethod
    def joined(cls, parts: Iterable["Verdicts"]) -> "Verdicts":
        """All episodes of ``parts``, which share a threshold."""
        rows = list(parts)
        return cls(
            outcomes=np.concatenate([row.outcomes for row in rows]),
            imagined=np.concatenate([row.imagined for row in rows]),
            real=np.concatenate([row.real for row in rows]),
            threshold=rows[0].threshold,
        )


Found = Mapping[str, Mapping[str, Verdicts]]  # task -> perturbation -> verdicts


def judge_counterfactuals(
    prophet: Prophet, judge: Judge, starts: Sequence[Mapping[str, Episode]], sampler: SamplerSettings, *, run: int
) -> dict[str, Verdicts]:
    """Perturbation -> verdicts over all starts; the original, "unchanged", among them.

    An episode counts as a success if the task was done within the frames that are imagined: whole chunks only.

    Args:
        starts: for each start the episodes by perturbation.

    Raises:
        SpecMismatchError: the judge reads the latents of another autoencoder.
    """
    judge.check(prophet)
    found = {}
    for kind in starts[0] if starts else ():
        episodes = [start[kind] for start in starts]
        dreamt = replayed_videos(prophet, episodes, sampler, derive_seed(run, "counterfactual", kind))
        length = len(dreamt[0].latents)
        real = [dataclasses.replace(video, latents=video.latents[:length]) for video in real_videos(prophet, episodes)]
        outcomes = np.array([video.success for video in dreamt], dtype=bool)
        found[kind] = Verdicts(outcomes, scores_of(judge, dreamt), scores_of(judge, real), judge.threshold)
    return found


def counterfactual_table(found: Found) -> str:
    """The confusion of each task and perturbation and of all, and the judge's AUC over all actions of a task, as text."""
    true_success = f"{'true success:':>14}{'seen':>6}{'missed':>8}"
    true_failure = f"{'true failure:':>16}{'seen':>6}{'hallucinated':>14}"
    lines = [
        f"{'task':<28}{'actions':<16}{true_success}{true_failure}   hallucinated success [%]     (same judge on true video)"
    ]
    rows = [(task, kind, verdicts) for task, kinds in found.items() for kind, verdicts in kinds.items()]
    for task, kind, verdicts in [*rows, ("all", "", everything(found))]:
        row, rates = verdicts.confusion, (verdicts.confusion.hallucinated_success, verdicts.control.hallucinated_success)
        own, control = ("no true failure" if rate is None else str(rate) for rate in rates)
        lines.append(
            f"{task:<28}{kind:<16}{row.hits + row.missed:>14}{row.hits:>6}{row.missed:>8}"
            f"{row.hallucinated + row.failures:>16}{row.failures:>6}{row.hallucinated:>14}   {own:<29}({control})"
        )
    for task, kinds in found.items():
        auc = _areas(Verdicts.joined(kinds.values()))
        lines.append(f"{task}: AUC of the judge over all these actions, imagined {auc['imagined']:.3f}, true {auc['true']:.3f}")
    return "\n".join(lines)


def counterfactual_record(found: Found) -> dict[str, Any]:
    """The same as plain data, for JSON: task -> perturbation -> counts, rates and the control; "auc" by task; "all"."""
    return {
        "tasks": {task: {kind: _plain(row) for kind, row in kinds.items()} for task, kinds in found.items()},
        "auc": {task: _areas(Verdicts.joined(kinds.values())) for task, kinds in found.items()},
        "all": _plain(everything(found)),
    }


def everything(found: Found) -> Verdicts:
    """All tasks and perturbations together."""
    return Verdicts.joined(verdicts for kinds in found.values() for verdicts in kinds.values())


def _areas(verdicts: Verdicts) -> dict[str, float]:
    return {
        name: area_under_curve(scores, verdicts.outcomes)
        for name, scores in (("imagined", verdicts.imagined), ("true", verdicts.real))
    }


def _plain(verdicts: Verdicts) -> dict[str, Any]:
    return _counts(verdicts.confusion) | {"control": _counts(verdicts.control)}


def _counts(row: Confusion) -> dict[str, Any]:
    counts = {name: getattr(row, name) for name in ("hits", "hallucinated", "missed", "failures")}
    rates = {name: getattr(row, name) for name in ("hallucinated_success", "missed_success")}
    return counts | {
        name: None if rate is None else {"estimate": rate.estimate, "lower": rate.lower, "upper": rate.upper}
        for name, rate in rates.items()
    }
