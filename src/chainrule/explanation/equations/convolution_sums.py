"""A convolution's two gradients as sums over places, apart from the engine's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.ops.window import Window

__all__ = ["in_groups", "spread_out", "to_filters", "to_images"]

Array = np.ndarray[Any, Any]


def spread_out(do: Array, view: Window) -> Array:
    """∂L/∂O with stride - 1 zeros between neighbours."""
    sizes = [(n - 1) * s + 1 for n, s in zip(do.shape[1:-1], view.stride, strict=True)]
    wide = np.zeros((do.shape[0], *sizes, do.shape[-1]))
    wide[(slice(None), *(slice(None, None, s) for s in view.stride))] = do
    return wide


def _slid(image: Array, size: Sequence[int]) -> Array:
    """(n, *places, c, *size): what a frame of this size sees at each place."""
    axes = tuple(range(1, 1 + len(size)))
    return np.lib.stride_tricks.sliding_window_view(image, tuple(size), axes)


def to_filters(padded: Array, spread: Array, filters: Array, view: Window) -> Array:
    """conv(X, ∂L/∂O), whose steps are the distances of the filter's taps."""
    seen = _slid(padded, spread.shape[1:-1])
    steps = (slice(None), *(slice(None, None, d) for d in view.dilation))
    taps = (slice(None), *(slice(0, k) for k in view.size))
    rank = view.ndim
    inner = tuple(range(-rank, 0))
    # Sums over the examples and over all places of ∂L/∂O.
    return np.tensordot(
        seen[steps][taps], spread, axes=((0, *inner), tuple(range(1 + rank)))
    )


def to_images(padded: Array, spread: Array, filters: Array, view: Window) -> Array:
    """The full convolution of ∂L/∂O with F turned by 180°, its taps as far apart."""
    rank = view.ndim
    margin = [(r - 1, r - 1) for r in view.reach]
    wide = np.pad(spread, [(0, 0), *margin, (0, 0)])
    seen = _slid(wide, view.reach)
    taps: tuple[Any, ...] = tuple(slice(None, None, d) for d in view.dilation)
    turned = np.flip(filters, tuple(range(rank)))
    inner = (rank + 1, *range(-rank, 0))  # filters, then taps
    full = np.tensordot(
        seen[(..., *taps)], turned, axes=(inner, (rank + 1, *range(rank)))
    )
    found = np.zeros((*padded.shape[:-1], filters.shape[-2]))
    # Where the stride leaves a rest, no filter reached the last pixels.
    found[(slice(None), *(slice(0, n) for n in full.shape[1:-1]))] = full
    return found


def in_groups(
    rule: Any, padded: Array, spread: Array, filters: Array, view: Window, groups: int
) -> Array:
    """A rule for each group of channels on its own."""
    if groups == 1:
        return rule(padded, spread, filters, view)
    c, o = padded.shape[-1] // groups, filters.shape[-1] // groups
    parts = [
        rule(
            padded[..., g * c : (g + 1) * c],
            spread[..., g * o : (g + 1) * o],
            filters[..., g * o : (g + 1) * o],
            view,
        )
        for g in range(groups)
    ]
    # Filters of a group follow one another, as the channels that they give back to do.
    return np.concatenate(parts, axis=-1)
