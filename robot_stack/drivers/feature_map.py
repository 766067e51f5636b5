"""How the named numbers of another library's device become the numbers of our actions, and back.

Shapes: A = numbers in one action. ours = theirs * scale * unit + offset.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.types import FloatArray

UNITS = {"degrees": math.pi / 180.0, "percent": 0.01, "radians": 1.0, "one": 1.0}  # "one": as it is, times the scale


class FeatureMapError(ProphRLError):
    """A mapping of names that is incomplete, or values that do not fit it."""


@dataclass(frozen=True)
class Feature:
    """One number of theirs.

    Attributes:
        name: theirs.
        factor: scale times unit.
        offset: in our unit.
    """

    name: str
    factor: float
    offset: float


class FeatureMap:
    """One feature for each of our actions.

    Args:
        features: in the order of the actions [A].
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self._factors = np.array([feature.factor for feature in features])
        self._offsets = np.array([feature.offset for feature in features])

    @classmethod
    def read(cls, raw: Any, actions: Sequence[str]) -> "FeatureMap":
        """From plain data, feature -> {action, unit, scale, offset}; the last two may be left out.

        Args:
            raw: e.g. ``{"elbow_flex.pos": {"action": "elbow_flex", "unit": "degrees"}}``.
            actions: ours, each of which has to come once.

        Raises:
            FeatureMapError, UnknownNameError: what is missing, unknown or no number.
        """
        if not isinstance(raw, Mapping):
            raise FeatureMapError(f"names must be a mapping of features to actions, got {raw!r}")
        found: dict[str, Feature] = {}
        for name, entry in raw.items():
            action, feature = _entry(str(name), entry)
            if action not in actions:
                raise UnknownNameError(f"action to which feature {name} goes", action, actions)
            if action in found:
                raise FeatureMapError(f"action {action} comes from two features, {found[action].name} and {name}")
            found[action] = feature
        missing = [action for action in actions if action not in found]
        if missing:
            raise FeatureMapError(
                f"names has no feature for action {', '.join(missing)}; each of {', '.join(actions)} needs one"
            )
        return cls([found[action] for action in actions])

    def check(self, what: str, features: Iterable[str], all_of_them: bool = False) -> None:
        """Compare with the features that a device has.

        Args:
            what: the device, for messages.
            features: its features that are numbers.
            all_of_them: whether each of them has to be mapped.

        Raises:
            UnknownNameError: it lacks one that is mapped.
            FeatureMapError: it has one that is not, but should be.
        """
        valid = tuple(features)
        for feature in self.features:
            if feature.name not in valid:
                raise UnknownNameError(f"feature of {what}", feature.name, valid)
        unmapped = [name for name in valid if name not in {feature.name for feature in self.features}]
        if all_of_them and unmapped:
            raise FeatureMapError(f"{what} also wants {', '.join(unmapped)}; names maps no action to it")

    def ours(self, values: Mapping[str, Any]) -> FloatArray:
        """Our numbers [A] for theirs.

        Raises:
            FeatureMapError: one is missing or not finite.
        """
        try:
            theirs = np.array([float(values[feature.name]) for feature in self.features])
        except KeyError as error:
            raise FeatureMapError(f"feature {error} did not come; there were {', '.join(values)}") from error
        if not np.isfinite(theirs).all():
            names = [f.name for f, value in zip(self.features, theirs, strict=True) if not np.isfinite(value)]
            raise FeatureMapError(f"feature {', '.join(names)} is not finite")
        return theirs * self._factors + self._offsets

    def theirs(self, values: FloatArray) -> dict[str, float]:
        """Their numbers for ours [A]."""
        converted = (values - self._offsets) / self._factors
        return {feature.name: float(value) for feature, value in zip(self.features, converted, strict=True)}


def _entry(name: str, raw: Any) -> tuple[str, Feature]:
    if not isinstance(raw, Mapping) or not {"action", "unit"} <= set(raw) <= {"action", "unit", "scale", "offset"}:
        raise FeatureMapError(f"names: {name} must be {{action, unit}} with scale and offset as you like, got {raw!r}")
    if raw["unit"] not in UNITS:
        raise UnknownNameError(f"unit of feature {name}", str(raw["unit"]), UNITS)
    scale, offset = raw.get("scale", 1.0), raw.get("offset", 0.0)
    for key, value in (("scale", scale), ("offset", offset)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise FeatureMapError(f"names: {key} of {name} must be a finite number, got {value!r}")
    if scale == 0:
        raise FeatureMapError(f"names: scale of {name} must not be 0")
    return str(raw["action"]), Feature(name, scale * UNITS[raw["unit"]], float(offset))
