"""Small made data sets of the plane, on which behaviour can be seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.rng import generator

__all__ = ["corner", "moons", "rings"]

Array = np.ndarray[Any, Any]


def moons(num: int = 100, noise: float = 0.2, seed: int = 0) -> tuple[Array, Array]:
    """Two half circles that reach into each other: no line separates them.

    Shapes: points (num, 2) in float32, classes (num) 0 and 1, half of each.

    Example:
        >>> points, classes = moons(6)
        >>> points.shape, classes.tolist()
        ((6, 2), [0, 1, 0, 1, 0, 1])
    """
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi, num)
    classes = np.arange(num) % 2
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points[classes == 1] = [1.0, 0.5] - points[classes == 1]
    return (points + rng.normal(size=points.shape) * noise).astype(np.float32), classes


def rings(num: int = 200, noise: float = 0.08, seed: int = 0) -> tuple[Array, Array]:
    """A disc, class 0, and a ring around it, class 1: their radius tells them apart.

    Shapes: points (num, 2) in float32, classes (num), half of each.
    """
    rng = generator(seed, "rings")
    classes = np.arange(num) % 2
    radius = np.where(classes == 0, 0.6 * np.sqrt(rng.random(num)), 1.2)
    radius = radius + noise * rng.normal(size=num)
    angle = rng.uniform(-np.pi, np.pi, num)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points.astype(np.float32), classes


def corner(num: int = 160, gap: float = 0.16, seed: int = 0) -> tuple[Array, Array]:
    """Class 0 around the origin and below, class 1 above a roof with two slopes.

    No line separates them; max(0, Wx) with W = [[1, 1], [-1, 1]] does. Nothing lies
    within ``gap`` of the roof.

    Shapes: points (num, 2) in float32, classes (num).
    """
    rng = generator(seed, "corner")
    points = rng.uniform(-2, 2, (20 * num, 2))
    height = np.maximum(points @ [[1.0, -1.0], [1.0, 1.0]], 0).sum(axis=1) - 1.0
    clear = points[abs(height) > 2 * gap], height[abs(height) > 2 * gap]
    classes = clear[1] > 0
    # As many of one class as of the other.
    rows = np.sort(
        np.concatenate([np.flatnonzero(classes == k)[: num // 2] for k in (0, 1)])
    )
    return clear[0][rows].astype(np.float32), classes[rows].astype(np.int64)
