"""What vendors allow their arms, read from ``config/vendor``, and whether a robot file goes beyond."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

from robot_stack.core.errors import BadFileError
from robot_stack.core.robot_spec import ActionSpec, RobotSpec
from robot_stack.core.spec_reader import SpecReader

ROUNDING = 1e-4  # limits are stated with four decimals


@dataclass(frozen=True)
class JointLimits:
    """Of one joint.

    Attributes:
        position: its range [rad].
        velocity: largest speed anywhere [rad/s].
        acceleration: [rad/s2].
        ends, k, offset: the speed at a distance d from the nearer of ``ends`` is at most sqrt(k d) - offset; k infinite: no
            such rule.
    """

    position: tuple[float, float]
    velocity: float
    acceleration: float
    ends: tuple[float, float] = (-math.inf, math.inf)
    k: float = math.inf
    offset: float = 0.0

    @classmethod
    def read(cls, reader: SpecReader, shrinks: bool) -> Self:
        """From its entry; ``shrinks``: the speed does, towards the ends."""
        rule = {"ends": reader.limits("ends"), "k": reader.positive("k"), "offset": reader.number("offset")} if shrinks else {}
        numbers = reader.positive("velocity"), reader.positive("acceleration")
        limits = cls(reader.limits("position"), *numbers, **rule)  # type: ignore[arg-type]
        reader.refuse_unknown()
        return limits

    def broken_by(self, action: ActionSpec) -> Iterator[str]:
        """What of an action's limits goes beyond, in words."""
        if action.lower < self.position[0] - ROUNDING or action.upper > self.position[1] + ROUNDING:
            yield f"limits [{action.lower:g}, {action.upper:g}], the vendor's are {list(self.position)} rad"
        distance = min(action.lower - self.ends[0], self.ends[1] - action.upper)
        fastest = self.velocity
        if math.isfinite(self.k):
            fastest = min(fastest, math.sqrt(max(0.0, self.k * distance)) - self.offset)
        if action.max_velocity > fastest + ROUNDING:
            where = " at the ends of these limits" if fastest < self.velocity else ""
            yield f"max_velocity {action.max_velocity:g}, the vendor allows {max(fastest, 0.0):.2f} rad/s{where}"
        if action.max_acceleration > self.acceleration + ROUNDING:
            yield f"max_acceleration {action.max_acceleration:g}, the vendor allows {self.acceleration:g} rad/s2"


def limits_for(model: str, folder: Path) -> Mapping[str, JointLimits]:
    """Limits by joint for the arm of a model; empty where nobody has entered any.

    Raises:
        BadFileError: a file in ``folder`` cannot be read.
    """
    for path in sorted(folder.glob("*.yaml")):
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        reader = SpecReader(raw, path)
        if model not in reader.texts("models"):
            continue
        joints = raw.get("joints")
        if not isinstance(joints, dict):
            raise BadFileError(path, "joints must be a mapping from names to limits")
        return {
            name: JointLimits.read(SpecReader(entry, path, f"joints.{name}."), "ends" in entry)
            for name, entry in joints.items()
        }
    return {}


def beyond(spec: RobotSpec, folder: Path) -> list[str]:
    """What of a robot file goes beyond its vendor's limits, in words.

    Raises:
        BadFileError: see ``limits_for``.
    """
    limits = limits_for(spec.model, folder)
    return [
        f"{action.name}: {problem}"
        for action in spec.actions
        if action.name in limits
        for problem in limits[action.name].broken_by(action)
    ]
