"""Overfitting: by hidden units, by the strength of L2, by the length of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import nn, ops
from chainrule.core.graph import Tensor, no_grad
from chainrule.errors import OptionError
from chainrule.explanation.behaviour.boundaries import (
    DecisionBoundary,
    decision_boundary,
)
from chainrule.explanation.behaviour.descent import descend
from chainrule.explanation.behaviour.panels import Panel
from chainrule.explanation.behaviour.plane import Window
from chainrule.explanation.behaviour.points import moons
from chainrule.explanation.picture import GRADIENT, INK, VALUE, Picture, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CapacityGrid", "Overfitting", "capacity_grid", "overfitting"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class CapacityGrid(Picture):
    """Decision boundaries by number of hidden units and strength of the penalty.

    Attributes:
        num_hidden: of each row.
        strengths: λ of each column, in λ/2n·ΣW².
        boundaries: row by row.
        training, validation: accuracies, (rows, columns).
    """

    num_hidden: tuple[int, ...]
    strengths: tuple[float, ...]
    boundaries: tuple[tuple[DecisionBoundary, ...], ...]
    training: Array
    validation: Array

    def __str__(self) -> str:
        head = "hidden units" + "".join(f"{f'λ = {s:g}':>18}" for s in self.strengths)
        rows = [head]
        for num, train, other in zip(
            self.num_hidden, self.training, self.validation, strict=True
        ):
            cells = "".join(
                f"{f'{a:.0%} / {b:.0%}':>18}" for a, b in zip(train, other, strict=True)
            )
            rows.append(f"{num:>12}{cells}")
        return "\n".join(
            [*rows, "accuracy on the training examples / on others of the same kind"]
        )

    def figure(self) -> Figure:
        rows, columns = self.training.shape
        figure, axes = chart(rows, columns, size=(2.25, 2.05))
        for places, boundaries in zip(axes, self.boundaries, strict=True):
            for place, boundary in zip(places, boundaries, strict=True):
                boundary.draw(place)
                place.set_title("")
                place.set_xlabel("")
                place.set_ylabel("")
                place.set_xticks([])
                place.set_yticks([])
        for place, strength in zip(axes[0], self.strengths, strict=True):
            place.set_title(f"λ = {strength:g}", size=10)
        for place, num in zip(axes[:, 0], self.num_hidden, strict=True):
            place.set_ylabel(f"{num} unit{'s' if num > 1 else ''}", size=10)
        return figure


def capacity_grid(
    num_hidden: Sequence[int] = (1, 4, 20),
    strengths: Sequence[float] = (0.001, 0.01, 0.1, 1.0),
    *,
    num_steps: int = 350,
    noise: float = 0.3,
    seed: int = 0,
) -> CapacityGrid:
    """Train the same network with more units or stronger L2, and look at its boundary.

    More units bend the boundary more. Rather than fewer units, the lecture advises a
    stronger penalty. The networks are 2-H-1 with tanh, on 80 points of two moons.

    Args:
        num_hidden: numbers of hidden units, the rows.
        strengths: λ in λ/2n·ΣW², the columns; n is the number of examples.
        num_steps: of Adam, for each network.
        noise: of the moons.
        seed: of points and weights.

    Raises:
        OptionError: without rows or columns, or for a negative λ.

    Source: yonsei, "Setting the number of layers and their sizes", "Don't regularize
    with size; instead use stronger L2", λ = 0.001, 0.01, 0.1; aarhus, which scales by
    λ/2n.
    """
    if not num_hidden or not strengths:
        raise OptionError(
            "capacity_grid: nothing to train",
            got=f"{len(num_hidden)} sizes, {len(strengths)} strengths",
            expected="one or more of each",
        )
    x, y = moons(80, noise, seed)
    others = moons(1000, noise, seed + 1)
    window = Window.around(x, num=90)

    def trained(num: int, strength: float) -> tuple[DecisionBoundary, float]:
        model = nn.mlp(2, (num,), 1, activation="tanh").initialize(seed)

        def objective() -> Tensor:
            score = ops.reshape(model(x), (-1,))
            loss = nn.sigmoid_cross_entropy(score, y)
            return loss + nn.l2_penalty(model, strength, num_examples=len(x))

        descend(model, objective, num_steps, "adam", lr=0.07)
        title = f"{num} hidden units, λ = {strength:g}"
        boundary = decision_boundary(model, x, y, window=window, title=title)
        with no_grad():
            right = (model(others[0]).data[:, 0] > 0) == others[1]
        return boundary, float(right.mean())

    found = [[trained(num, strength) for strength in strengths] for num in num_hidden]
    return CapacityGrid(
        tuple(num_hidden),
        tuple(strengths),
        tuple(tuple(boundary for boundary, _ in row) for row in found),
        np.array([[boundary.accuracy for boundary, _ in row] for row in found]),
        np.array([[accuracy for _, accuracy in row] for row in found]),
    )


@dataclass(frozen=True)
class Overfitting(Panel):
    """The loss on the training set and on the validation set while a model learns.

    Attributes:
        training, validation: after each step, (steps + 1).
    """

    training: Array
    validation: Array

    @property
    def best(self) -> int:
        """The step at which training should have ended."""
        return int(self.validation.argmin())

    @property
    def is_overfitting(self) -> bool:
        """Whether the validation loss has risen for good: over its best by a tenth."""
        return bool(self.validation[-1] > 1.1 * self.validation[self.best])

    def __str__(self) -> str:
        text = (
            f"after {len(self.training) - 1} steps the training loss is "
            f"{self.training[-1]:.3g}, the validation loss {self.validation[-1]:.3g}"
        )
        if not self.is_overfitting:
            return f"{text}; no overfitting yet"
        return (
            f"{text}; the latter was lowest, {self.validation[self.best]:.3g}, at step "
            f"{self.best}: from there on the model overfits, and training should end"
        )

    def draw(self, axes: Axes) -> None:
        axes.plot(self.training, "--", color=GRADIENT, lw=1.8, label="training")
        axes.plot(self.validation, color=VALUE, lw=2, label="validation")
        axes.axvline(self.best, color=INK, lw=0.9, ls=":")
        axes.plot(
            self.best, self.validation[self.best], "o", ms=8, mfc="white", mec=INK,
            mew=1.5, label=f"stop here: step {self.best}",
        )  # fmt: skip
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.legend(fontsize=9, frameon=False)


def overfitting(
    model: nn.Module,
    training: tuple[Any, Any],
    validation: tuple[Any, Any],
    loss: Callable[[Tensor, Any], Tensor] = nn.softmax_cross_entropy,
    *,
    num_steps: int = 300,
    rule: str = "adam",
    lr: float = 0.005,
) -> Overfitting:
    """Train on a few examples and watch both losses.

    Args:
        model: trained as a whole batch, and left as it is at the end.
        training, validation: (inputs, targets) of each.
        loss: of (outputs, targets).
        num_steps, rule, lr: of the descent.

    Raises:
        OptionError: for an unknown rule.

    Source: aarhus, "Detecting overfitting", "Early stopping"; toronto, training,
    validation and test sets.
    """
    seen: list[float] = []

    def look() -> None:
        with no_grad(), nn.evaluating(model):
            seen.append(loss(model(validation[0]), validation[1]).item())

    look()
    descent = descend(
        model,
        lambda: loss(model(training[0]), training[1]),
        num_steps,
        rule,
        lr=lr,
        after_step=look,
    )
    return Overfitting(descent.losses, np.array(seen))
