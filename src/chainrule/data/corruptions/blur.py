"""Blur: every pixel becomes a weighted mean of those around it, y = k ∗ x.

A kernel k sums to 1. Beyond its border a picture is continued by its mirror image, so
that no dark frame comes in.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.data.corruptions.corruption import (
    Corruption,
    Damaged,
    check_range,
    value_text,
)
from chainrule.data.transforms import Keys
from chainrule.errors import OptionError

__all__ = ["Blur", "DefocusBlur", "GaussianBlur", "KernelBlur", "MotionBlur"]

Array = np.ndarray[Any, Any]

_FINENESS = 8  # samples of a pixel along each axis, for a disc's edge
_LONGEST = 201  # pixels; a longer kernel is a slip of the keyboard


@dataclass(frozen=True)
class Blur(Corruption):
    """y = k ∗ x with the kernel that ``kernel`` gives."""

    name = "blur"
    equation = "y = k ∗ x"
    baselines = ("wiener", "richardson_lucy")

    @property
    @abstractmethod
    def kernel(self) -> Array:
        """float64 (kh, kw) of odd sides, which sums to 1."""

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        return Damaged(convolved(pictures, self.kernel))


@dataclass(frozen=True)
class GaussianBlur(Blur):
    """k(i, j) ∝ exp(-(i² + j²) / 2σ²), σ in pixels, cut off at 4σ."""

    kind = "gaussian"

    sigma: float = 1.5

    def __post_init__(self) -> None:
        check_range(self, "sigma", 0, _LONGEST / 8, is_open=True)

    @property
    def kernel(self) -> Array:
        radius = math.ceil(4 * self.sigma)
        i = np.arange(-radius, radius + 1)
        row = np.exp(-(i**2) / (2 * self.sigma**2))
        return _normalised(np.outer(row, row))


@dataclass(frozen=True)
class MotionBlur(Blur):
    """The mean along a straight line of this length in pixels, as a moved camera makes.

    Args:
        length: of the line.
        angle: of the line against the horizontal, in degrees, counter-clockwise.
    """

    kind = "motion"

    length: float = 9.0
    angle: float = 0.0

    def __post_init__(self) -> None:
        check_range(self, "length", 1, _LONGEST)
        check_range(self, "angle", -360, 360)

    @property
    def kernel(self) -> Array:
        turn = math.radians(self.angle)
        half = (self.length - 1) / 2
        radius = math.ceil(half)
        along = np.linspace(-half, half, 16 * math.ceil(self.length) + 1)
        k = np.zeros((2 * radius + 3, 2 * radius + 3))
        # Each sample is shared out among the four pixels around it.
        y, x = (radius + 1 + along * step for step in (-math.sin(turn), math.cos(turn)))
        top, left = np.floor(y).astype(int), np.floor(x).astype(int)
        for i, share_y in ((top, 1 - (y - top)), (top + 1, y - top)):
            for j, share_x in ((left, 1 - (x - left)), (left + 1, x - left)):
                np.add.at(k, (i, j), share_y * share_x)
        return _trimmed(_normalised(k))


@dataclass(frozen=True)
class DefocusBlur(Blur):
    """The mean over a disc of this radius in pixels, as a lens out of focus makes."""

    kind = "defocus"

    radius: float = 3.0

    def __post_init__(self) -> None:
        check_range(self, "radius", 0, _LONGEST // 2, is_open=True)

    @property
    def kernel(self) -> Array:
        reach = math.ceil(self.radius)
        side = 2 * reach + 1
        fine = (np.arange(side * _FINENESS) + 0.5) / _FINENESS - side / 2
        inside = fine[:, None] ** 2 + fine**2 <= self.radius**2
        k = inside.reshape(side, _FINENESS, side, _FINENESS).mean(axis=(1, 3))
        if not k.any():  # smaller than any sample: a point
            k[reach, reach] = 1
        return _trimmed(_normalised(k))


@dataclass(frozen=True)
class KernelBlur(Blur):
    """Any kernel, as rows of weights; they are divided by their sum.

    Raises:
        OptionError: for rows that are no kernel: of unequal or even lengths, negative,
            or all 0.

    Example:
        >>> blur = KernelBlur(((1, 2, 1),))
        >>> str(blur), blur.kernel.tolist()
        ('blur:kernel:1,2,1', [[0.25, 0.5, 0.25]])
    """

    kind = "kernel"

    rows: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        lengths = {len(row) for row in self.rows}
        sizes = [len(self.rows), *lengths]
        weights = [w for row in self.rows for w in row]
        is_kernel = len(lengths) == 1 and all(s % 2 and s <= _LONGEST for s in sizes)
        is_kernel = is_kernel and all(0 <= w < math.inf for w in weights)
        if not (is_kernel and any(weights)):
            shape = "×".join(map(str, sizes)) if weights else "nothing"
            raise OptionError(
                "blur kernel: not a kernel",
                got=f"rows of {shape} weights, from {min(weights, default=0):g} "
                f"to {max(weights, default=0):g}",
                expected="rows of equal, odd length, an odd number of them, weights "
                "from 0 on and one above",
                hint="KernelBlur(((1, 2, 1), (2, 4, 2), (1, 2, 1)))",
            )

    @property
    def kernel(self) -> Array:
        return _normalised(np.array(self.rows, np.float64))

    def __str__(self) -> str:
        rows = (",".join(map(value_text, row)) for row in self.rows)
        return f"{self.name}:{self.kind}:{'/'.join(rows)}"


def convolved(pictures: Array, kernel: Array) -> Array:
    """k ∗ x for each channel, the border mirrored: (n, h, w, c) float32 -> the same.

    Shapes: kernel (kh, kw), both odd.
    """
    from scipy import ndimage, signal  # half a second, and only blur needs it

    left, values, right = np.linalg.svd(kernel)
    if len(values) < 2 or values[1] <= 1e-12 * values[0]:
        # One column times one row: two passes along a line do.
        column, row = left[:, 0] * values[0], right[0]
        y = ndimage.convolve1d(pictures, column, axis=1, mode="reflect")
        return np.asarray(ndimage.convolve1d(y, row, axis=2, mode="reflect"))
    kh, kw = kernel.shape
    margins = ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0))
    padded = np.pad(pictures, margins, mode="symmetric")
    k = kernel.astype(np.float32)[None, :, :, None]
    y = signal.oaconvolve(padded, k, mode="valid", axes=(1, 2))
    return np.asarray(y, np.float32)


def _normalised(kernel: Array) -> Array:
    scaled: Array = kernel / kernel.sum()
    return scaled


def _trimmed(kernel: Array) -> Array:
    """Without outer rows and columns that hold nothing; the middle stays the middle."""
    for axis in (0, 1):
        while kernel.shape[axis] > 1:
            ends = kernel.take([0, -1], axis)
            if ends.sum() > 1e-12:
                break
            kernel = kernel.take(np.arange(1, kernel.shape[axis] - 1), axis)
    return kernel
