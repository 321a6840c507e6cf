"""Convolutions with fewer multiplications: where they pay, and what they multiply by.

m outputs in a row of a filter of r taps are coefficients of a product of polynomials,
which is known once its values at t = m + r - 1 points are. Along each axis

    y = Aᵀ [(G·w) ⊙ (Bᵀ·x)]

for t pixels x, r taps w and m outputs y, so t multiplications stand for m·r. Along two
axes and summed over channels, each of t² points is a matrix product. The gradient by
filters has the same form: there m outputs are the filter, and r taps the result.

Rounding errors grow with the powers of the points. Those here keep them, as a root mean
square over outputs, below a direct sum's for t = 4, and within 3 times it for t = 6.

Sources: S. Winograd, Arithmetic complexity of computations, SIAM, 1980; A. Lavin,
S. Gray, Fast algorithms for convolutional neural networks, CVPR 2016; B. Barabasz et
al., Error analysis and improving the accuracy of Winograd convolution for deep neural
networks, ACM TOMS 46 (2020), for the choice of points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from chainrule.compiler.ir import Geometry

__all__ = ["Matrix", "Winograd", "apart", "winograd_tile"]

_POINTS = {
    4: (Fraction(0), Fraction(1), Fraction(-1)),
    6: (Fraction(0), *(Fraction(sign * p, 8) for p in (5, 12) for sign in (1, -1))),
}
"""By t, the finite points; infinity is one more."""

_FEWEST_CHANNELS = 16
"""Each is transformed for all of the others: with few, that is most of the work."""

_LEAST_GAIN = 1.5
"""So many times fewer multiplications at least, for the time that transforms take."""

_LARGER_GAIN = 1.5
"""So many times fewer again for larger tiles, whose filters are larger, too."""

_LINE = 16
"""Elements of a line of cache."""

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Winograd:
    """The transforms for ``outputs`` results in a row, of ``taps`` each.

    For gradients by filters the two change places: what comes out is the taps.
    """

    outputs: int
    taps: int

    @property
    def size(self) -> int:
        """t: the pixels that a tile sees along an axis, and the number of points."""
        return self.outputs + self.taps - 1

    @cached_property
    def pixels(self) -> Matrix:
        """Bᵀ, t × t: row i has the coefficients of Π (x - q) over all points but i."""
        points = _POINTS[self.size]
        rows = [_product(points[:i] + points[i + 1 :]) for i in range(len(points))]
        return _matrix([*[[*row, Fraction(0)] for row in rows], _product(points)])

    @cached_property
    def filters(self) -> Matrix:
        """G, t × r: powers of each point, over Π (point - q) of all others."""
        points, r = _POINTS[self.size], self.taps
        rows: list[list[Fraction | int]] = []
        for i, p in enumerate(points):
            there = Fraction(1)
            for q in points[:i] + points[i + 1 :]:
                there *= p - q
            rows.append([p**j / there for j in range(r)])
        return _matrix([*rows, [int(j == r - 1) for j in range(r)]])

    @cached_property
    def results(self) -> Matrix:
        """Aᵀ, m × t: powers of the points."""
        points, m = _POINTS[self.size], self.outputs
        return _matrix([[*(p**i for p in points), int(i == m - 1)] for i in range(m)])


def _product(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of Π (x - q), that of x⁰ first."""
    found = [Fraction(1)]
    for q in roots:
        shifted, same = [Fraction(0), *found], [*found, Fraction(0)]
        found = [a - q * b for a, b in zip(shifted, same, strict=True)]
    return found


def _matrix(rows: Sequence[Sequence[Fraction | int]]) -> Matrix:
    return tuple(tuple(float(x) for x in row) for row in rows)


def apart(each: int) -> int:
    """How far from each other matrices of so many elements should lie.

    An odd number of lines: equal places of all points would otherwise meet in few sets
    of the cache.
    """
    lines = -(-each // _LINE)
    return (lines + 1 - lines % 2) * _LINE


def winograd_tile(
    by: str,
    g: Geometry,
    taps: Sequence[int],
    results: Sequence[int],
    dtype: np.dtype[Any],
) -> int:
    """How many places along an axis a tile should have; 0 where direct sums are better.

    Args:
        by: "outputs", "data" or "filters".
        taps: along both axes, of the filter.
        results: along both axes: outputs of an image, or its pixels by data.
        dtype: only float32. Whoever asks for float64 wants to see fewer errors.
    """
    window, r = g.window, taps[0]
    is_plain = window.stride == window.dilation == (1, 1) and g.groups == 1
    is_many = min(g.channels, g.filters) >= _FEWEST_CHANNELS
    if dtype != np.float32 or not (is_plain and is_many and taps[1] == r > 1):
        return 0
    best, most = 0, _LEAST_GAIN
    for t in sorted(_POINTS):
        m = t - r + 1
        if 2 <= m <= min(results):
            tiles = -(-results[0] // m) * -(-results[1] // m)
            gain = results[0] * results[1] * r * r / (tiles * t * t)
            if gain >= most:
                best, most = m, gain * (1 if by == "filters" else _LARGER_GAIN)
    return best
