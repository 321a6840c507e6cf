"""Scores of restored pictures, added up batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.data.corruptions import Damaged
from chainrule.data.damaged import DamagedPictures

__all__ = ["Tally", "batches"]

Array = np.ndarray[Any, Any]

_BATCH = 256
_BATCH_NUMBERS = 1 << 20
"""Of the pictures of a batch, at most: a network makes many times as many of them."""


def _quality() -> Any:
    # It brings SciPy's filters along, a second, which help and other tasks never need.
    from chainrule.restoration import quality

    return quality


@dataclass
class Tally:
    """Scores of pictures, added up batch by batch."""

    count: int = 0
    errors: list[float] = field(default_factory=list)
    """The mean squared error of each picture."""
    _square_sum: float = 0.0
    _value_count: int = 0
    _hole_square_sum: float = 0.0
    _hole_value_count: int = 0
    _ssim_sum: float = 0.0
    _has_hole: bool = False
    _has_ssim: bool = False

    def add(
        self,
        truth: Array,
        restored: Array,
        hole: Array | None = None,
        *,
        with_ssim: bool = False,
    ) -> None:
        """Count pictures (n, h, w, c); ``hole`` is where something was lost of them."""
        squares = np.square(np.subtract(restored, truth, dtype=np.float64))
        self.count += len(truth)
        self.errors += squares.mean(axis=(1, 2, 3)).tolist()
        self._square_sum += float(squares.sum())
        self._value_count += squares.size
        if hole is not None:
            everywhere = np.broadcast_to(hole, squares.shape)
            self._has_hole = True
            self._hole_square_sum += float(squares[everywhere].sum())
            self._hole_value_count += int(everywhere.sum())
        if with_ssim:
            self._has_ssim = True
            self._ssim_sum += _quality().ssim(truth, restored) * len(truth)

    def scores(self) -> dict[str, float]:
        """PSNR of the pooled squared error, also in the holes, and the mean SSIM."""
        found = {"psnr": _quality().psnr_of(self._square_sum / self._value_count)}
        if self._has_ssim:
            found["ssim"] = self._ssim_sum / self.count
        if self._has_hole:
            mean = self._hole_square_sum / max(1, self._hole_value_count)
            found["psnr_hole"] = _quality().psnr_of(mean)
        return found


def batches(
    pictures: DamagedPictures, numbers: Array | None = None
) -> Iterator[tuple[Array, Damaged]]:
    """Whole pictures and what is left of them: many small ones at a time."""
    base = pictures.base
    chosen = np.arange(len(base)) if numbers is None else np.asarray(numbers)
    size = 1
    if base.has_one_size:
        fitting = _BATCH_NUMBERS // math.prod(base.example_shape)
        size = min(_BATCH, max(1, fitting))
    for start in range(0, len(chosen), size):
        yield pictures.damaged(chosen[start : start + size])
