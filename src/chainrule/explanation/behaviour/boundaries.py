"""Decision boundaries: which class a classifier gives to each point of the plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import NonFiniteError, OptionError, ShapeError
from chainrule.explanation.behaviour.panels import Panel
from chainrule.explanation.behaviour.plane import (
    Window,
    as_points,
    draw_points,
    draw_regions,
    margins,
    outputs,
)
from chainrule.nn import Module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DecisionBoundary", "decision_boundary"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class DecisionBoundary(Panel):
    """Which class a classifier gives to each point of the plane.

    Attributes:
        window: where it was looked at.
        margins: by how much each class leads there, (num², classes).
        points, labels: the examples, if there are any, (n, 2) and (n).
        predictions: the classes that the classifier gives to the examples.
        title: what is written above.
    """

    window: Window
    margins: Array
    points: Array = field(default_factory=lambda: np.empty((0, 2)))
    labels: Array = field(default_factory=lambda: np.empty(0, int))
    predictions: Array = field(default_factory=lambda: np.empty(0, int))
    title: str = ""

    @property
    def shares(self) -> Array:
        """The share of the window that each class has, (classes)."""
        num_classes = self.margins.shape[1]
        found = self.margins.argmax(axis=1)
        return np.bincount(found, minlength=num_classes) / len(found)

    @property
    def accuracy(self) -> float | None:
        """The share of examples on the right side; None without examples."""
        if not len(self.labels):
            return None
        return float((self.predictions == self.labels).mean())

    def __str__(self) -> str:
        shares = ", ".join(
            f"class {k} has {share:.0%} of the window"
            for k, share in enumerate(self.shares)
        )
        text = f"{self.title}: {shares}" if self.title else shares
        if self.accuracy is not None:
            right = round(self.accuracy * len(self.labels))
            text += f"; {right} of {len(self.labels)} examples on the right side"
        return text

    def draw(self, axes: Axes) -> None:
        draw_regions(axes, self.window, self.margins)
        if len(self.points):
            draw_points(axes, self.points, self.labels, size=3.6)
        axes.set_title(self.title, size=10)
        axes.set_xlabel("x₁")
        axes.set_ylabel("x₂")


def decision_boundary(
    classifier: Module | Callable[[Any], Any],
    points: Any = None,
    labels: Any = None,
    *,
    window: Window | None = None,
    threshold: float = 0.0,
    title: str = "",
) -> DecisionBoundary:
    """Where in the plane a classifier decides for which class.

    The class is the one with the largest score; with a single score, class 1 is where
    it is above ``threshold``.

    Args:
        classifier: a model, or any function, from points (n, 2) to scores (n, classes),
            (n, 1) or (n).
        points, labels: examples to show, (n, 2) and classes (n).
        window: where to look; around the points unless given.
        threshold: for single scores: 0, or 0.5 for a probability or a perceptron.
        title: what is written above.

    Raises:
        ShapeError: for points outside the plane, labels of another number, or a
            classifier with another output.
        OptionError: without both points and window.
        NonFiniteError: for a score that is NaN.

    Example:
        >>> line = decision_boundary(
        ...     lambda x: x[:, 0] + x[:, 1] - 3,
        ...     [[0.0, 0.0], [4.0, 4.0], [5.0, 1.0]], [0, 1, 1],
        ... )
        >>> line.accuracy
        1.0

    Source: aarhus, "Logistic unit: decision boundary"; yonsei, "Setting the number of
    layers and their sizes".
    """
    if points is None and window is None:
        raise OptionError(
            "decision_boundary: nowhere to look",
            got="neither points nor a window",
            expected="one of them",
            hint="window=Window((-10, 10), (-10, 10))",
        )
    shown = np.empty((0, 2)) if points is None else as_points("boundary", points)
    window = window or Window.around(shown)
    classes = np.asarray([] if labels is None else labels, int)
    if len(classes) != len(shown) and labels is not None:
        raise ShapeError(
            "decision_boundary: points and labels differ in number",
            got=f"{len(shown)} points, {len(classes)} labels",
            expected="one class for each point",
        )

    def leads(x: Array) -> Array:
        scores = outputs(classifier, x)
        if scores.ndim not in (1, 2) or len(scores) != len(x):
            raise ShapeError(
                "decision_boundary: not the scores of a classifier",
                got=f"an output of shape {scores.shape} for {len(x)} points",
                expected="(n), (n, 1) or (n, classes)",
            )
        if np.isnan(scores).any():
            raise NonFiniteError(
                "decision_boundary: a score is not a number",
                got=f"NaN for {int(np.isnan(scores).sum())} of {scores.size} scores",
                expected="numbers",
            )
        is_single = scores.ndim == 1 or scores.shape[1] == 1
        return margins(scores - threshold if is_single else scores)

    predictions = leads(shown).argmax(axis=1) if len(classes) else classes
    if labels is None:
        classes = np.zeros(len(shown), int)
    return DecisionBoundary(
        window, leads(window.points), shown, classes, predictions, title
    )
