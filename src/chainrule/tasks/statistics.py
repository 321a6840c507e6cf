"""Mean and deviation of what a network is given, by which it is standardised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from chainrule.data import Dataset

__all__ = ["input_statistics", "picture_statistics"]

Array = np.ndarray[Any, Any]

_CHUNK = 1024
_MOST_PICTURES = 1000


def input_statistics(dataset: Dataset) -> tuple[Array, Array]:
    """Mean and standard deviation of the last axis over all examples.

    One channel of pictures, or one feature of vectors, shares a number. A constant one
    keeps a deviation of 1. Read in chunks, summed in float64.
    """
    starts = range(0, len(dataset), _CHUNK)
    return _of(
        dataset.read(np.arange(start, min(start + _CHUNK, len(dataset))))
        for start in starts
    )


def picture_statistics(pictures: Dataset) -> tuple[Array, Array]:
    """The same of each channel of pictures of any sizes, evenly spaced ones of many."""
    step = -(-len(pictures) // _MOST_PICTURES)
    return _of(pictures.picture(i) for i in range(0, len(pictures), step))


def _of(parts: Iterable[Array]) -> tuple[Array, Array]:
    count, total, squares = 0, 0.0, 0.0
    for x in parts:
        rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
        count += len(rows)
        total = total + rows.sum(axis=0)
        squares = squares + (rows**2).sum(axis=0)
    mean = np.asarray(total / count)
    variance = np.maximum(np.asarray(squares / count) - mean**2, 0.0)
    deviation = np.sqrt(variance)
    deviation[deviation < 1e-6 * np.maximum(1.0, np.abs(mean))] = 1.0
    return mean.astype(np.float32), deviation.astype(np.float32)
