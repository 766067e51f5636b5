"""Success of policies in a vector environment: deterministic sampling, the same noise for the same start.

Shapes: N = episodes, H = actions in a chunk, A = numbers in an action.
"""

import contextlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from learning.metrics_log import write_figures
from policy.flow_policy import FlowPolicy
from policy.inputs import chunk_noise
from policy.sampling import plan
from rl.rollout import Episodes
from robot_stack.core.errors import BadFileError, SpecMismatchError
from robot_stack.core.ports import VectorEnvironment
from robot_stack.core.statistics import Interval, PairedComparison, paired_comparison, wilson_interval

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Outcome of each episode.

    Attributes:
        starts: start seeds (or indices of start frames).
        success: whether each one succeeded.
        ticks: ticks until its success, or the horizon.
        seconds: the whole evaluation took.
    """

    starts: tuple[int, ...]
    success: tuple[bool, ...]
    ticks: tuple[int, ...]
    seconds: float

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def rate(self) -> float:
        """Share of successes."""
        return sum(self.success) / len(self)

    @property
    def interval(self) -> Interval:
        """Rate with Wilson's 95 % interval."""
        return wilson_interval(sum(self.success), len(self))

    def against(self, earlier: "Evaluation") -> PairedComparison:
        """This policy minus ``earlier``, start by start.

        Raises:
            SpecMismatchError: they were not evaluated on the same starts.
        """
        if self.starts != earlier.starts:
            ours, theirs = (f"{len(e)} starts from {e.starts[:1]}" for e in (self, earlier))
            raise SpecMismatchError("evaluation", "the one it is compared with", [f"other starts: {ours}, {theirs}"])
        return paired_comparison(earlier.success, self.success)

    @property
    def figures(self) -> dict[str, Any]:
        """Rate and interval, for reports."""
        interval = self.interval
        return {
            "success_rate": interval.estimate,
            "wilson_95": [interval.lower, interval.upper],
            "episodes": len(self),
            "mean_ticks": float(np.mean(self.ticks)),
            "seconds": round(self.seconds, 2),
        }

    def write(self, path: Path, **facts: Any) -> None:
        """Write outcomes, rate, interval and ``facts`` as JSON, at once or not at all."""
        mapping = {**self.figures, **facts, "starts": self.starts, "success": self.success, "ticks": self.ticks}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(mapping, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Inverse of ``write``.

        Raises:
            BadFileError: no evaluation.
        """
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            fields = (tuple(raw["starts"]), tuple(map(bool, raw["success"])), tuple(raw["ticks"]), float(raw["seconds"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadFileError(path, f"is not the result of `prophrl evaluate`: {error!r}") from error
        return cls(*fields)


def evaluate(
    policy: FlowPolicy,
    environment: VectorEnvironment,
    starts: Sequence[int],
    episodes: Episodes,
    batch: int,
    noise_seeds: Sequence[int] | None = None,
    progress: bool = False,
) -> Evaluation:
    """One episode from each of ``starts``, with the flow integrated as an ODE.

    Args:
        policy: acts from images.
        environment: the true simulator, or the imagination.
        starts: [N].
        episodes: horizon and instruction.
        batch: episodes side by side; at most what the environment takes. Changes no outcome.
        noise_seeds: seed of each episode's initial noise [N]; by default its start, as on the robot.
        progress: show a bar on stderr.
    """
    began = time.monotonic()
    seeds = list(starts if noise_seeds is None else noise_seeds)
    success: list[bool] = []
    ticks: list[int] = []
    with tqdm(total=len(starts), desc="evaluate", unit="episode", disable=not progress, leave=False) as bar:
        for first in range(0, len(starts), batch):
            part = slice(first, first + batch)
            done, taken = _evaluate_batch(policy, environment, starts[part], seeds[part], episodes)
            success += done.tolist()
            ticks += taken.tolist()
            bar.update(len(done))
            bar.set_postfix(success=f"{np.mean(success):.2f}")
    return Evaluation(tuple(starts), tuple(success), tuple(ticks), time.monotonic() - began)


def _evaluate_batch(
    policy: FlowPolicy, environment: VectorEnvironment, starts: Sequence[int], seeds: Sequence[int], episodes: Episodes
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Success and ticks of one batch; ends when all have succeeded."""
    seen = environment.reset(starts, noise_seeds=seeds)
    ticks: npt.NDArray[np.int64] = np.full(len(starts), episodes.horizon)
    for chunk in range(episodes.chunks(policy)):
        noise = chunk_noise(seeds, chunk, policy.chunk_length, policy.action_dim)
        before = seen.success
        seen = environment.step(plan(policy, seen.images, [episodes.instruction] * len(starts), noise))
        # Without a count of ticks from the environment, a success is known to the chunk.
        reached = seen.info.get("ticks", (chunk + 1) * policy.chunk_length)
        ticks = np.where(seen.success & ~before, reached, ticks)
        if seen.success.all():
            break
    return np.asarray(seen.success, dtype=bool), ticks


def compare(ours: Evaluation, theirs: Evaluation) -> dict[str, Any]:
    """Figures of ``ours`` minus ``theirs`` on the same starts, for reports."""
    comparison = ours.against(theirs)
    return {
        "difference": comparison.difference.estimate,
        "newcombe_95": [comparison.difference.lower, comparison.difference.upper],
        "gained": comparison.gained,
        "lost": comparison.lost,
        "mcnemar_p": comparison.p_value,
        "success_rate_against": theirs.rate,
    }


def main(argv: Sequence[str]) -> int:
    """``prophrl evaluate``: true success of ``checkpoint.policy``, outcome by outcome, in ``<out>/evaluation.json``."""
    from learning.hydra_entry import compose
    from rl.configuration import checkpoint_folder, start_policy, trials

    config = compose(argv, "evaluate")
    out, policy = Path(config.out), start_policy(config)
    with contextlib.closing(trials(config)) as truth:
        settings = truth.settings
        earlier = None if settings.against is None else Evaluation.read(Path(settings.against))
        starts = truth.seeds("evaluation", settings.episodes)
        result = truth.evaluate(policy, starts, progress=True)
    facts: dict[str, Any] = {"task": config.task.name, "policy": policy.manifest.policy_hash}
    if earlier is not None:
        facts["against"] = compare(result, earlier)
    result.write(out / "evaluation.json", **facts)
    write_figures(out / "figures.json", result.figures | facts)
    _log.info("%s on %s: %s %% of %d", checkpoint_folder(config, "policy"), config.task.name, result.interval, len(result))
    if earlier is not None:
        comparison = result.against(earlier)
        _log.info(
            "against %s: %s points, gained %d, lost %d",
            settings.against,
            comparison.difference,
            comparison.gained,
            comparison.lost,
        )
    return 0
