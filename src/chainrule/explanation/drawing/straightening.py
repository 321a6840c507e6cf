"""The places of boxes across layers: wires are to be nearly straight.

Each layer is moved so that the squares of its boxes' distances to their neighbours'
mean are least, in the order and as far apart as the boxes must be. With the distances
taken off, only the order is left to be kept: a regression that is solved by pooling
neighbours that violate it.

Source: Gansner, Koutsofios, North & Vo, "A technique for drawing directed graphs",
1993, for the weights of long wires; Barlow, Bartholomew, Bremner & Brunk, "Statistical
inference under order restrictions", 1972, for pooling.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from chainrule.explanation.drawing.ordering import Grid

__all__ = ["straightened"]

_SWEEPS = 16
_FEW_SWEEPS = 4


def straightened(grid: Grid) -> list[float]:
    """The middle of each box and passing wire."""
    y = [0.0] * len(grid.breadth)
    apart = [_offsets(grid, layer) for layer in grid.layers]
    for layer, offsets in zip(grid.layers, apart, strict=True):
        for v, offset in zip(layer, offsets, strict=True):
            y[v] = offset - offsets[-1] / 2
    for sweep in range(_SWEEPS if grid.is_small else _FEW_SWEEPS):
        forward = sweep % 2 == 0
        joined = grid.before if forward else grid.after
        order = range(len(grid.layers))
        for k in order if forward else reversed(order):
            _move(grid, k, apart[k], joined, y)
    both = [[*a, *b] for a, b in zip(grid.before, grid.after, strict=True)]
    for k in range(len(grid.layers)):
        _move(grid, k, apart[k], both, y)
    return y


def _offsets(grid: Grid, layer: Sequence[int]) -> list[float]:
    """How far each box of a layer is from the first, at least."""
    offsets = [0.0]
    for u, v in itertools.pairwise(layer):
        step = (grid.breadth[u] + grid.breadth[v]) / 2 + grid.gap
        offsets.append(offsets[-1] + step)
    return offsets


def _move(
    grid: Grid,
    k: int,
    offsets: Sequence[float],
    joined: Sequence[Sequence[int]],
    y: list[float],
) -> None:
    """Move a layer towards the neighbours that its boxes are joined to."""
    wanted: list[float] = []
    weights: list[float] = []
    for i, v in enumerate(grid.layers[k]):
        if i and not grid.before[v] and not grid.after[v]:
            # Joined to nothing: next to whatever stands before it.
            wanted.append(wanted[-1] + offsets[i] - offsets[i - 1])
            weights.append(0.01)
            continue
        pulls = [(_pull(grid, u, v), y[u]) for u in joined[v]] or [(0.1, y[v])]
        weights.append(sum(w for w, _ in pulls))
        wanted.append(sum(w * at for w, at in pulls) / weights[-1])
    found = _placed(wanted, weights, offsets)
    for v, at in zip(grid.layers[k], found, strict=True):
        y[v] = at


def _pull(grid: Grid, u: int, v: int) -> float:
    """How much a stretch of wire wants to be straight: most inside a long one."""
    return (1.0, 2.0, 8.0)[(u >= grid.num_boxes) + (v >= grid.num_boxes)]


def _placed(
    wanted: Sequence[float], weights: Sequence[float], offsets: Sequence[float]
) -> list[float]:
    """The places nearest to the wanted ones, in order and as far apart as offsets say.

    Least squares: with the offsets taken off, only the order is left to be kept, and
    neighbours that violate it are pooled at their mean.
    """
    pools: list[tuple[float, float, int]] = []  # (mean, weight, how many)
    for at, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, total, count = at - offset, weight, 1
        while pools and pools[-1][0] > mean:
            before, heavy, many = pools.pop()
            mean = (before * heavy + mean * total) / (heavy + total)
            total, count = total + heavy, count + many
        pools.append((mean, total, count))
    flat = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=True)]
