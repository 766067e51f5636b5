"""Reads the entries of a robot file, each with its type, and refuses what it does not know."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robot_stack.core.errors import BadFileError


class SpecReader:
    """Typed access to one mapping of a robot file; each refusal names the entry and what was expected.

    Args:
        raw: the mapping.
        source: the file, for messages.
        where: place of the mapping in it ("actions[0].").
    """

    def __init__(self, raw: Any, source: Path | str, where: str = "") -> None:
        if not isinstance(raw, Mapping):
            raise BadFileError(source, f"{where or 'the file'} must be a mapping, got {type(raw).__name__}")
        self._raw, self._source, self._where = raw, source, where
        self._seen: set[str] = set()

    def _get(self, key: str) -> Any:
        self._seen.add(key)
        if key not in self._raw:
            raise BadFileError(self._source, f"{self._where}{key} is missing")
        return self._raw[key]

    def _refuse(self, key: str, expected: str) -> BadFileError:
        return BadFileError(self._source, f"{self._where}{key} must be {expected}, got {self._raw[key]!r}")

    def text(self, key: str, default: str | None = None) -> str:
        if default is not None and key not in self._raw:
            self._seen.add(key)
            return default
        value = self._get(key)
        if not isinstance(value, str) or not value:
            raise self._refuse(key, "a non-empty text")
        return value

    def one_of(self, key: str, valid: Sequence[str], default: str | None = None) -> str:
        if default is not None and key not in self._raw:
            self._seen.add(key)
            return default
        value = self.text(key)
        if value not in valid:
            raise self._refuse(key, f"one of {', '.join(valid)}")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        if default is not None and key not in self._raw:
            self._seen.add(key)
            return default
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._refuse(key, "a list of texts")
        return tuple(value)

    def number(self, key: str) -> float:
        value = self._get(key)
        if not _is_finite(value):
            raise self._refuse(key, "a finite number")
        return float(value)

    def positive(self, key: str) -> float:
        value = self.number(key)
        if value <= 0:
            raise self._refuse(key, "a positive number")
        return value

    def share(self, key: str, default: float) -> float:
        """A part of a whole."""
        if key not in self._raw:
            self._seen.add(key)
            return default
        value = self.positive(key)
        if value > 1.0:
            raise self._refuse(key, "a number above 0, at most 1")
        return value

    def count(self, key: str, default: int) -> int:
        value = self._get(key) if key in self._raw else default
        self._seen.add(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._refuse(key, "a whole number, at least 1")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        if default is not None and key not in self._raw:
            self._seen.add(key)
            return default
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._refuse(key, "true or false")
        return value

    def limits(self, key: str) -> tuple[float, float]:
        value = self._get(key)
        if (
            not isinstance(value, list)
            or len(value) != 2
            or not all(_is_finite(number) for number in value)
            or value[0] >= value[1]
        ):
            raise self._refuse(key, "[lower, upper], two finite numbers with lower < upper")
        return float(value[0]), float(value[1])

    def entries(self, key: str) -> list["SpecReader"]:
        value = self._get(key)
        if not isinstance(value, list) or not value:
            raise self._refuse(key, "a non-empty list")
        return [SpecReader(item, self._source, f"{self._where}{key}[{i}].") for i, item in enumerate(value)]

    def section(self, key: str) -> "SpecReader | None":
        """A mapping that may be left out."""
        if key not in self._raw:
            self._seen.add(key)
            return None
        return SpecReader(self._get(key), self._source, f"{self._where}{key}.")

    def sections(self, key: str) -> list["SpecReader"]:
        """A list of mappings that may be left out."""
        if key not in self._raw:
            self._seen.add(key)
            return []
        return self.entries(key)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers that may be left out."""
        value = self._raw.get(key, [])
        self._seen.add(key)
        if not isinstance(value, list) or not all(_is_finite(number) for number in value):
            raise self._refuse(key, "a list of finite numbers")
        return tuple(map(float, value))

    def vector(self, key: str) -> tuple[float, float, float]:
        value = self._get(key)
        numbers = value if isinstance(value, list) else []
        if len(numbers) != 3 or not all(_is_finite(number) for number in numbers):
            raise self._refuse(key, "three finite numbers")
        return float(numbers[0]), float(numbers[1]), float(numbers[2])

    def refuse_unknown(self) -> None:
        unknown = [str(key) for key in self._raw if key not in self._seen]
        if unknown:
            raise BadFileError(self._source, f"unknown entry {self._where}{unknown[0]}; valid: {', '.join(sorted(self._seen))}")

    def refuse(self, problem: str) -> BadFileError:
        return BadFileError(self._source, f"{self._where}{problem}")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
