"""How Prophet is measured; ``config/world_model/measure/*.yaml`` fills it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from world_model.measure import HORIZONS
from world_model.probe import ProbeSettings


@dataclass(frozen=True)
class MeasureSettings:
    """What ``evaluate-world-model`` does besides comparing videos.

    Attributes:
        horizons: frames ahead at which figures are told; the last frame of each clip always is.
        shown: episodes of which pictures are written.
        probe: folder of a trained object probe.
        probe_data: folders of episodes with positions, to teach one where ``probe`` is None.
        probe_settings: of that training.
        perturb: makes episodes under perturbed actions, perturb(spec, task, starts=..., out=...); see
            ``robot_stack.drivers.perturbations.perturbed_episodes``. None where there is no simulator.
        tasks: which tasks are perturbed; None: the configured one, if the episodes are of it.
        starts, first_start: how many starts of each, and the seed of the first.
        perturbed_data: folder that keeps the perturbed episodes; None: one in the output.
    """

    horizons: tuple[int, ...] = HORIZONS
    shown: int = 8
    probe: str | None = None
    probe_data: tuple[str, ...] | str | None = None
    probe_settings: ProbeSettings = field(default_factory=ProbeSettings)
    perturb: Callable[..., Any] | None = None
    tasks: tuple[str, ...] | None = None
    starts: int = 25
    first_start: int = 910_000
    perturbed_data: str | None = None

    def __post_init__(self) -> None:
        if not self.horizons or min(self.horizons) < 1 or self.shown < 0 or self.starts < 1:
            raise ValueError(f"horizons and starts must be at least 1, shown at least 0, got {self.horizons}, {self.starts}")
