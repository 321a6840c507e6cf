"""Random search: draw weights, keep the best. The lecture's strategy 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from chainrule.core.rng import generator
from chainrule.errors import NonFiniteError, OptionError

__all__ = ["SearchResult", "random_search"]

Weights = TypeVar("Weights")


@dataclass(frozen=True)
class SearchResult(Generic[Weights]):
    """The best of all draws, which draw that was, and the loss of each of them."""

    best: Weights
    best_draw: int
    losses: np.ndarray[Any, Any]

    @property
    def best_loss(self) -> float:
        """The smallest loss."""
        return float(self.losses[self.best_draw])


def random_search(
    loss: Callable[[Weights], Any],
    draw: Callable[[np.random.Generator], Weights],
    num_draws: int = 1000,
    seed: int = 0,
) -> SearchResult[Weights]:
    """Draw weights ``num_draws`` times and keep those of the smallest loss.

    A first idea, and a bad one: it learns nothing from one draw for the next. Each draw
    has a generator of its own, so more draws begin with the same ones.

    Args:
        loss: of some weights: a number, or a Tensor of one element.
        draw: weights from a generator.

    Raises:
        OptionError: for fewer than one draw.
        NonFiniteError: if no draw has a loss that is a number.

    Example:
        >>> found = random_search(
        ...     loss=lambda w: (w - 3.0) ** 2, draw=lambda rng: rng.uniform(0, 10)
        ... )
        >>> abs(found.best - 3) < 0.01
        True

    Source: intellivision, "Strategy #1: a first very bad idea solution: random search".
    """
    if num_draws < 1:
        raise OptionError(
            "random_search: no draws", got=num_draws, expected="at least 1"
        )
    best: Weights | None = None
    best_draw = -1
    losses = np.empty(num_draws)
    for i in range(num_draws):
        weights = draw(generator(seed, "random search", i))
        losses[i] = float(loss(weights))
        # NaN is below nothing, so that it never wins.
        if losses[i] < (losses[best_draw] if best_draw >= 0 else math.inf):
            best, best_draw = weights, i
    if best is None:
        raise NonFiniteError(
            "random_search: no draw has a finite loss",
            got=f"NaN or infinity from all {num_draws} draws",
            expected="a number from at least one",
            hint="draw smaller weights",
        )
    return SearchResult(best, best_draw, losses)
