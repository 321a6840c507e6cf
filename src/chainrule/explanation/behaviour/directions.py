"""Directions among a model's weights, and the loss in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor, no_grad
from chainrule.core.rng import generator
from chainrule.errors import OptionError
from chainrule.explanation.behaviour.descent import Weights

__all__ = ["check_places", "explained", "filter_normalised", "loss_at", "principal"]

Array = np.ndarray[Any, Any]


def check_places(what: str, num: int, reach: tuple[float, float]) -> None:
    """Raise OptionError unless there are places to look at, from left to right."""
    if num < 3 or not (np.isfinite(reach).all() and reach[0] < reach[1]):
        raise OptionError(
            f"{what}: nothing to look at",
            got=f"{num} places from {reach[0]:g} to {reach[1]:g}",
            expected="three places or more, from left to right",
        )


def loss_at(weights: Weights, vector: Array, loss: Callable[[], Tensor]) -> float:
    """The loss with these weights, which stay."""
    weights.write(vector)
    with no_grad():
        return loss().item()


def filter_normalised(weights: Weights, middle: Array, seed: int, name: str) -> Array:
    """A random direction, each unit's part of it as long as the unit's weights."""
    rng = generator(seed, f"direction {name}")
    parts = []
    for parameter, values in zip(
        weights.parameters, weights.split(middle), strict=True
    ):
        drawn = rng.normal(size=values.shape)
        if not parameter.is_penalized:
            parts.append(np.zeros(values.size))
            continue
        # Dense weights are (in, out), filters (h, w, in, out): a unit is a column.
        inner = tuple(range(values.ndim - 1))
        own, length = (
            np.sqrt(np.sum(np.square(a), axis=inner, keepdims=True))
            for a in (values, drawn)
        )
        drawn = drawn * own / length
        parts.append(drawn.ravel())
    return np.concatenate(parts)


def principal(moved: Array) -> Array:
    """The two orthogonal directions of length 1 along which the path moved most."""
    rows: Array = np.linalg.svd(moved, full_matrices=False)[2][:2]
    # A direction's sign says nothing: the start is put on the right and above.
    signs = np.where(rows @ moved[0] < 0, -1.0, 1.0)
    return rows * signs[:, None]


def explained(moved: Array, way: Array, basis: Array) -> tuple[float, float]:
    """The shares of a movement (steps, size) along the first and second direction.

    ``way`` is the movement within the plane that ``basis`` spans, (steps, 2).
    """
    total = float(np.square(moved).sum())
    if not total:
        return (0.0, 0.0)
    both = float(np.sum(np.square(way @ basis)))
    first = float(np.sum(np.square(moved @ basis[0])) / (basis[0] @ basis[0]))
    return (first / total, max(both - first, 0.0) / total)
