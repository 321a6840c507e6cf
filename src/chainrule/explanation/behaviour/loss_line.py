"""The loss along a straight line among the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.core.graph import Tensor
from chainrule.explanation.behaviour.descent import Weights
from chainrule.explanation.behaviour.directions import (
    check_places,
    filter_normalised,
    loss_at,
)
from chainrule.explanation.behaviour.panels import Panel
from chainrule.explanation.picture import INK, VALUE
from chainrule.nn import Module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LossLine", "loss_along_line"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LossLine(Panel):
    """The loss between and beyond two points among the weights.

    Attributes:
        places: t, (num); the weights are start + t·(end - start).
        losses: there, (num).
        names: what stands at t = 0 and at t = 1.
        length: the distance from start to end.
    """

    places: Array
    losses: Array
    names: tuple[str, str]
    length: float

    @property
    def num_hills(self) -> int:
        """Places inside where the loss is above both neighbours."""
        rising = np.diff(self.losses) > 0
        return int((rising[:-1] & ~rising[1:]).sum())

    def at(self, t: float) -> float:
        """The loss at t, between the places that were computed by a straight line."""
        return float(np.interp(t, self.places, self.losses))

    def __str__(self) -> str:
        low = int(self.losses.argmin())
        hills = {0: "no hill", 1: "one hill"}.get(
            self.num_hills, f"{self.num_hills} hills"
        )
        return (
            f"loss along a line of length {self.length:.4g}: "
            f"{self.at(0):.4g} at {self.names[0]} (t = 0), "
            f"{self.at(1):.4g} at {self.names[1]} (t = 1), "
            f"lowest {self.losses[low]:.4g} at t = {self.places[low]:.2g}, "
            f"{hills} on the way"
        )

    def draw(self, axes: Axes) -> None:
        axes.plot(self.places, self.losses, color=VALUE, lw=2)
        for t, name, marker in zip((0, 1), self.names, "os", strict=True):
            if self.places[0] <= t <= self.places[-1]:
                axes.plot(
                    t, self.at(t), marker, ms=8, mfc="white", mec=INK, mew=1.5,
                    label=f"{name} (t = {t})",
                )  # fmt: skip
        axes.set_xlabel("t: weights = start + t · (end − start)", size=10)
        axes.set_ylabel("loss")
        axes.legend(fontsize=9, frameon=False)


def loss_along_line(
    model: Module,
    loss: Callable[[], Tensor],
    end: Any = None,
    start: Any = None,
    *,
    reach: tuple[float, float] = (-0.25, 1.25),
    num: int = 61,
    names: tuple[str, str] = ("start", "end"),
    seed: int = 0,
) -> LossLine:
    """The loss of a model along a straight line among its weights.

    Args:
        model: whose weights are moved, and put back in the end.
        loss: the loss of the model as it is, made anew at each call.
        end: weights (size) in the order of ``model.parameters()``; without them, the
            line goes in a random filter-normalised direction.
        start: likewise; the model's own weights unless given.
        reach: the first and the last t.
        num: how many places.
        names: what the two are.
        seed: of a random direction.

    Raises:
        ShapeError: for weights of another size.
        OptionError: for fewer than three places, or a reach that is empty.

    Example:
        >>> from chainrule import nn
        >>> line = nn.linear(1, 1)
        >>> x, y = [[1.0], [2.0]], [[2.0], [4.0]]
        >>> loss = lambda: nn.squared_error(line(x), y)
        >>> print(loss_along_line(line, loss, [2.0, 0.0], names=("zero", "answer")))
        loss along a line of length 2: 10 at zero (t = 0), 0 at answer (t = 1),
        lowest 0 at t = 1, no hill on the way

    Source: yonsei, slices through a network's loss; Goodfellow, Vinyals & Saxe,
    "Qualitatively characterizing neural network optimization problems", 2015.
    """
    check_places("loss_along_line", num, reach)
    weights = Weights(model)
    with weights.kept() as own:
        begin = own if start is None else _vector(weights, start)
        if end is None:
            direction = filter_normalised(weights, begin, seed, "line")
            names = (names[0], "a random step")
        else:
            direction = _vector(weights, end) - begin
        places = np.linspace(*reach, num)
        losses = [loss_at(weights, begin + t * direction, loss) for t in places]
    return LossLine(places, np.array(losses), names, float(np.linalg.norm(direction)))


def _vector(weights: Weights, vector: Any) -> Array:
    """A vector of weights in float64; raises ShapeError for one of another size."""
    values = np.asarray(vector, float)
    weights.split(values)
    return values
