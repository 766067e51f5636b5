"""When practice stops paying: reasons to end a training early, said in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StopSettings:
    """Limits.

    Attributes:
        max_gap_growth: imagined minus true success may grow by so much over that of the start policy.
        max_kl: divergence from the reference, per number of an action, summed over the flow steps.
        dull_updates: so many updates in a row in which no group tells its rollouts apart.
    """

    max_gap_growth: float = 0.3
    max_kl: float = 2.0
    dull_updates: int = 3


@dataclass(frozen=True)
class UpdateRecord:
    """What the rule looks at after each update.

    Attributes:
        success: share of the practised rollouts that succeeded.
        signal_share: share of the groups with a signal.
        kl: from the reference, after the update.
        gap: imagined minus true success of the deterministic policy, where it was checked.
    """

    success: float
    signal_share: float
    kl: float
    gap: float | None = None


def reason_to_stop(start_gap: float | None, records: Sequence[UpdateRecord], settings: StopSettings) -> str | None:
    """Why to stop after the last of ``records``, or None.

    Args:
        start_gap: imagined minus true success of the start policy, None where it is not known.
        records: all updates so far.
    """
    if not records:
        return None
    last = records[-1]
    if last.kl > settings.max_kl:
        return f"the policy has left its reference: KL {last.kl:.2f} is above {settings.max_kl}"
    recent = records[-settings.dull_updates :]
    if len(recent) == settings.dull_updates and all(record.signal_share == 0 for record in recent):
        share = 100 * np.mean([record.success for record in recent])
        return (
            f"no group told its rollouts apart in {settings.dull_updates} updates ({share:.0f} % of them count as successes): "
            "the judge always says the same, or the task is solved or out of reach"
        )
    if last.gap is not None and start_gap is not None and last.gap - start_gap > settings.max_gap_growth:
        return (
            f"imagined minus true success grew from {start_gap:+.2f} to {last.gap:+.2f}: the policy exploits the world model "
            "or the judge. Add its episodes to their data and practise again in a new round"
        )
    return None
