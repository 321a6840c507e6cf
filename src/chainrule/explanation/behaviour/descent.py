"""Gradient descent on a whole objective, with the way that it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from chainrule.core.graph import Parameter, Tensor, assign
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import Module
from chainrule.optim import optimizer

__all__ = ["Descent", "Weights", "descend"]

Array = np.ndarray[Any, Any]

_HOPELESS = 1e100
"""A loss from which no descent comes back; overflow would be next."""


@dataclass(frozen=True)
class Weights:
    """All parameters of a model as one vector, in order of definition.

    Raises:
        OptionError: for a model that has none.

    Example:
        >>> from chainrule import nn
        >>> weights = Weights(nn.linear(2, 1))
        >>> weights.write([1.0, 2.0, 3.0])
        >>> weights.read().tolist()
        [1.0, 2.0, 3.0]
    """

    model: Module

    def __post_init__(self) -> None:
        if not self.parameters:
            raise OptionError(
                f"{type(self.model).__name__}: has no weights",
                got="0 parameters",
                expected="a model that can be trained",
            )

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters, in order of definition."""
        return tuple(self.model.parameters())

    @property
    def size(self) -> int:
        """How many numbers they are."""
        return sum(p.size for p in self.parameters)

    def read(self) -> Array:
        """A copy of them, (size), in float64."""
        return np.concatenate([p.data.ravel() for p in self.parameters], dtype=float)

    def split(self, vector: Any) -> list[Array]:
        """A vector (size) in the parameters' shapes; raises ShapeError for others."""
        vector = np.asarray(vector)
        if vector.shape != (self.size,):
            raise ShapeError(
                "weights: a vector of another size",
                got=f"an array of shape {vector.shape}",
                expected=f"({self.size},), one number for each weight",
            )
        ends = np.cumsum([p.size for p in self.parameters])[:-1]
        parts = np.split(vector, ends)
        return [a.reshape(p.shape) for a, p in zip(parts, self.parameters, strict=True)]

    def write(self, vector: Any) -> None:
        """Give the parameters these values."""
        for parameter, values in zip(self.parameters, self.split(vector), strict=True):
            assign(parameter, values)

    @contextmanager
    def kept(self) -> Iterator[Array]:
        """A block at whose end weights and buffers are what they were at its start."""
        before = self.model.state()
        try:
            yield self.read()
        finally:
            self.model.load_state(before)


@dataclass(frozen=True)
class Descent:
    """What happened on the way down.

    Attributes:
        losses: before each step, and after the last: (steps + 1).
        path: all weights at the same times, (steps + 1, weights), if they were kept.
    """

    losses: Array
    path: Array

    @property
    def has_diverged(self) -> bool:
        """Whether it ended, or was given up, above where it began."""
        return not self.losses[-1] <= self.losses[0]

    def steps_to(self, loss: float) -> int | None:
        """The first number of steps after which the loss was below; None if never."""
        below = np.flatnonzero(self.losses < loss)
        return int(below[0]) if len(below) else None


def descend(
    model: Module,
    objective: Callable[[], Tensor],
    num_steps: int,
    rule: str = "sgd",
    *,
    keep_path: bool = False,
    after_step: Callable[[], None] | None = None,
    **options: Any,
) -> Descent:
    """Train a model on a whole objective, and keep every loss on the way.

    For small problems that one wants to watch; ``fit`` trains on data sets. A loss
    that is beyond hope (over 10¹⁰⁰, or not a number) ends the descent.

    Args:
        model: what is changed.
        objective: the loss of the model as it is, made anew at each call.
        num_steps: how many steps are made.
        rule: the update rule's name; ``options`` are its settings and ``lr``.
        keep_path: whether the weights are kept as well.
        after_step: called after each step.

    Raises:
        OptionError: for an unknown rule or setting, or a number of steps below 0.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> class Square(nn.Module):
        ...     def __init__(self):
        ...         self.x = cr.Parameter(4.0)
        ...     def forward(self):
        ...         return self.x * self.x
        >>> square = Square()
        >>> descend(square, square, 3, lr=0.25).losses.tolist()
        [16.0, 4.0, 1.0, 0.25]
    """
    if num_steps < 0:
        raise OptionError("descend: steps", got=num_steps, expected="0 or more")
    stepper = optimizer(rule, model.named_parameters(), **options)
    weights = Weights(model) if keep_path else None
    losses: list[float] = []
    path: list[Array] = []

    def note(loss: Tensor) -> bool:
        losses.append(loss.item())
        if weights is not None:
            path.append(weights.read())
        return losses[-1] < _HOPELESS

    for _ in range(num_steps):
        loss = objective()
        if not note(loss):
            break
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        if after_step is not None:
            after_step()
    else:
        note(objective())
    stepper.zero_grad()
    return Descent(np.array(losses), _stacked(path))


def _stacked(rows: Sequence[Array]) -> Array:
    return np.stack(rows) if rows else np.empty((0, 0))
