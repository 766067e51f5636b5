"""What a run left on disk, as the report reads it: manifests, outcomes of episodes, curves, pictures."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_stack.core.errors import BadFileError, ProphRLError
from robot_stack.core.statistics import Interval, PairedComparison, paired_comparison, wilson_interval
from robot_stack.run_dir import stage_dir
from robot_stack.stages import Manifest

OUTCOME_FILES = ("evaluation.json", "results.json")  # of `prophrl evaluate` and `prophrl deploy`
MEDIA = {".mp4": "video/mp4", ".webp": "image/webp", ".gif": "image/gif", ".png": "image/png"}  # films come first on the page


@dataclass(frozen=True)
class Outcome:
    """Episodes of one policy.

    Attributes:
        stage: the stage that ran them, e.g. "evaluate-rl".
        starts: start seed of each.
        success: whether each succeeded.
    """

    stage: str
    starts: tuple[int, ...]
    success: tuple[bool, ...]

    @property
    def interval(self) -> Interval:
        """Rate of success with Wilson's 95 % interval."""
        return wilson_interval(sum(self.success), len(self.success))

    def minus(self, other: "Outcome") -> PairedComparison:
        """This policy minus ``other`` on the starts that both were given."""
        ours, theirs = dict(zip(self.starts, self.success, strict=True)), dict(zip(other.starts, other.success, strict=True))
        common = [start for start in self.starts if start in theirs]
        return paired_comparison([theirs[start] for start in common], [ours[start] for start in common])


class RunFiles:
    """Read access to the folder of a run.

    Args:
        run: the folder.

    Raises:
        ProphRLError: no stage of the run has finished.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        manifests = [Manifest.load(path) for path in sorted(run.glob("round-*/*.manifest.json"))]
        if not manifests:
            raise ProphRLError(f"{run}: no finished stage to report on; begin with: prophrl demo")
        self.manifests = sorted(manifests, key=lambda manifest: manifest.finished)

    def last(self, stage: str) -> Manifest | None:
        """The manifest of ``stage`` in the latest round that has it."""
        found = [manifest for manifest in self.manifests if manifest.stage == stage]
        return max(found, key=lambda manifest: manifest.round_index, default=None)

    def all_of(self, stage: str) -> list[Manifest]:
        """The manifests of ``stage``, by round."""
        return sorted((m for m in self.manifests if m.stage == stage), key=lambda manifest: manifest.round_index)

    def folder(self, manifest: Manifest) -> Path:
        """Where that stage wrote."""
        return stage_dir(self.run, manifest.round_index, manifest.stage)

    def outcome(self, stage: str) -> Outcome | None:
        """Success of each episode that ``stage`` ran, None where it has not run.

        Raises:
            BadFileError: it has run, but left no list of outcomes.
        """
        manifest = self.last(stage)
        return None if manifest is None else read_outcome(stage, self.folder(manifest))

    def curves(self, manifest: Manifest) -> dict[str, list[tuple[float, float]]]:
        """Name -> (step, value) of every ``metrics.csv`` of the stage; those in a sub-folder are named "<folder>/<name>"."""
        folder = self.folder(manifest)
        curves: dict[str, list[tuple[float, float]]] = {}
        for path in sorted(folder.rglob("metrics.csv")):
            prefix = "".join(f"{part}/" for part in path.parent.relative_to(folder).parts)
            with path.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    value = float(row["value"])
                    if math.isfinite(value):
                        curves.setdefault(prefix + row["name"], []).append((float(row["step"]), value))
        return curves

    def media(self, manifest: Manifest) -> list[tuple[Path, str]]:
        """Pictures and animations that the stage wrote, with their MIME types."""
        order = list(MEDIA)
        found = (path for path in self.folder(manifest).rglob("*") if path.suffix in MEDIA)
        files = sorted(found, key=lambda path: (order.index(path.suffix), path))
        return [(path, MEDIA[path.suffix]) for path in files]

    def true_episodes(self, policy: str = "") -> dict[str, int]:
        """What each stage used of the true robot or simulator, by stage; reported evaluations are not learning and left out.

        Args:
            policy: only what this one needed ("sft", "filtered-bc", "filtered-bc-first", "rl"); by default everything.
        """
        used: dict[str, int] = {}
        last_round = max(manifest.round_index for manifest in self.manifests)
        for manifest in self.manifests:
            if policy and not _spent_on(policy, manifest.stage, manifest.round_index, last_round):
                continue
            count = _recorded(manifest) + _counted(manifest.figures.get("true_episodes"))
            if count:
                name = f"{manifest.stage} (round {manifest.round_index})"
                used[name] = used.get(name, 0) + count
        return used


def _spent_on(policy: str, stage: str, round_index: int, last_round: int) -> bool:
    if stage == "record-held-out":  # measures the world model only
        return False
    if policy == "sft":
        return stage in ("record-demonstrations", "train-policy")
    if stage.startswith("filtered-bc"):  # one of an earlier round was the last until the run got more rounds
        return stage == policy and round_index == last_round
    if policy == "filtered-bc-first":
        return round_index == 0 and stage != "train-rl"
    # What the last practice chose its policy by taught nobody else; what the ones before chose theirs by went into recordings.
    return policy == "rl" or stage != "train-rl" or round_index < last_round


def read_outcome(stage: str, folder: Path) -> Outcome:
    """What an evaluation or a deployment left in ``folder``.

    Raises:
        BadFileError: there is no list of outcomes.
    """
    for name in OUTCOME_FILES:
        if (folder / name).is_file():
            return _outcome(stage, folder / name)
    raise BadFileError(folder, f"holds none of {', '.join(OUTCOME_FILES)}")


def _outcome(stage: str, path: Path) -> Outcome:
    """Read either form: lists of starts and successes, or a list of episodes."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if "episodes" in raw and isinstance(raw["episodes"], list):
            pairs = [(int(episode["seed"]), bool(episode["success"])) for episode in raw["episodes"]]
        else:
            pairs = [(int(start), bool(success)) for start, success in zip(raw["starts"], raw["success"], strict=True)]
    except (ValueError, KeyError, TypeError) as error:
        raise BadFileError(path, f"does not hold the outcome of each episode: {error!r}") from error
    return Outcome(stage, tuple(start for start, _ in pairs), tuple(success for _, success in pairs))


def _recorded(manifest: Manifest) -> int:
    """Episodes that a recording stage was asked for."""
    if manifest.argv[0] != "record":
        return 0
    first, last = manifest.argv[manifest.argv.index("--seeds") + 1].split(":")
    return int(last) - int(first)


def _counted(figure: Any) -> int:
    """A stage's own count: a number, or a mapping purpose -> number."""
    if isinstance(figure, dict):
        return sum(int(value) for value in figure.values())
    return int(figure) if isinstance(figure, int | float) else 0
