"""Filtered behaviour cloning: the baseline that imitates the demonstrations and the policy's own successes.

It sees the same episodes as reinforcement learning in imagination, so what that gains beyond it is the gain of practising.
"""

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from learning.episode import Episode
from learning.episode_store import load_all
from learning.metrics_log import write_figures
from policy import checkpoint
from policy.train import fit
from robot_stack.core.errors import ProphRLError

DEMONSTRATORS = ("expert", "teleop")
POLICY = "policy"
_log = logging.getLogger(__name__)


def worth_imitating(episodes: Sequence[Episode]) -> list[Episode]:
    """Demonstrations that did not fail, and successful episodes of policies; random and noisy ones never."""
    demonstrations = [e for e in episodes if e.source in DEMONSTRATORS and e.success is not False]
    own = [e for e in episodes if e.source.split(":")[0] == POLICY and e.success]
    return demonstrations + own


def main(argv: Sequence[str]) -> int:
    """``prophrl filtered-bc``: continue ``checkpoint.policy`` on what in ``data`` is worth imitating; checkpoint in ``out``."""
    from learning.hydra_entry import build, compose, data_paths, robot_spec
    from rl.configuration import start_policy, trials

    config = compose(argv, "filtered-bc")
    policy, out = start_policy(config), Path(config.out)
    paths = data_paths(config)
    found = load_all(paths, robot_spec(config)) if paths else []
    chosen = worth_imitating(found)
    if not chosen:
        raise ProphRLError(f"none of {len(found)} episodes is a demonstration or a success of a policy: name more data=[...]")
    own = sum(episode.source not in DEMONSTRATORS for episode in chosen)
    settings = build(config.policy).train
    checks = build(config.rl).check_episodes
    with contextlib.closing(trials(config)) as truth:
        starts = truth.seeds("rl_selection", checks)
        result = fit(policy, chosen, settings, score=lambda p: truth.evaluate(p, starts).rate, folder=out, run=config.seed)
    facts = {
        "seed": config.seed,
        "demonstrations": len(chosen) - own,
        "own_successes": own,
        "best_step": result.best_step,
        "selection_success": result.best_score,
        "true_episodes": {"selection": settings.candidates * checks},
        "seconds": round(result.seconds, 1),
    }
    manifest = checkpoint.save(result.policy, out, {"filtered_bc": facts})
    write_figures(out / "figures.json", facts)
    _log.info(
        "policy %s from %d demonstrations and %d own successes in %s", manifest.policy_hash[:12], len(chosen) - own, own, out
    )
    return 0
