"""Physical numbers to numbers of about unit size and back.

Numpy only, because the torch-free runtime uses it; the same methods take torch tensors, so that there is one formula.
Shapes: D = dimensions, the last axis of every array.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from robot_stack.core.errors import ShapeError
from robot_stack.core.types import FloatArray


@dataclass(frozen=True)
class Normaliser:
    """Shift and scale of each dimension: normalised = (physical - mean) / std.

    Attributes:
        mean: [D], physical units.
        std: [D], physical units, all positive.
    """

    mean: FloatArray
    std: FloatArray

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise ShapeError("normalisation", self.std.shape, f"[D], like its mean {list(self.mean.shape)}")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise ValueError(f"normalisation must be finite with positive std, got mean {self.mean}, std {self.std}")

    @classmethod
    def fit(cls, rows: FloatArray, smallest_std: FloatArray | float) -> Self:
        """Statistics of ``rows`` [N, D].

        Args:
            smallest_std: floor of the std [D]: a dimension that hardly varies in few demonstrations (a gripper that stays
                closed) must not turn the smallest error of the network into nothing or its noise into everything.
        """
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or len(rows) == 0:
            raise ShapeError("rows to normalise", rows.shape, "[N, D] with N >= 1")
        return cls(rows.mean(axis=0), np.maximum(rows.std(axis=0), smallest_std))

    def normalise[Array: Any](self, physical: Array) -> Array:
        """[..., D] to about unit size; numpy in, numpy out; tensor in, tensor out."""
        return (physical - _like(self.mean, physical)) / _like(self.std, physical)

    def denormalise[Array: Any](self, normalised: Array) -> Array:
        """Inverse of ``normalise``."""
        return normalised * _like(self.std, normalised) + _like(self.mean, normalised)

    def as_mapping(self) -> dict[str, list[float]]:
        """Plain data, for manifests."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_mapping(cls, mapping: dict[str, list[float]]) -> Self:
        """Inverse of ``as_mapping``."""
        return cls(np.asarray(mapping["mean"], dtype=np.float64), np.asarray(mapping["std"], dtype=np.float64))


def _like(values: FloatArray, array: Any) -> Any:
    """``values`` in the kind and precision of ``array``; ``new_tensor`` is a tensor's own, so torch is not imported here."""
    return values.astype(array.dtype) if isinstance(array, np.ndarray) else array.new_tensor(values)
