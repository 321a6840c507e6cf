"""Space warping: a grid and points before and after each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.behaviour.lines import hyperplanes
from chainrule.explanation.behaviour.plane import (
    Window,
    as_points,
    draw_points,
    outputs,
)
from chainrule.explanation.picture import GRADIENT, INK, VALUE, Picture, chart
from chainrule.nn import Dense, Flatten, Module, Sequential

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SpaceWarping", "Stage", "space_warping"]

Array = np.ndarray[Any, Any]

_LINES, _ALONG = 13, 121


@dataclass(frozen=True)
class Stage:
    """The plane at one place of a network.

    Attributes:
        name: the formula or layer that led here.
        points: the examples here, (n, 2).
        lines: the grid's lines here, (lines, places, 2): first those of constant x₁,
            then as many of constant x₂.
        area: the share of the first stage's area that is left, by the grid's cells.
    """

    name: str
    points: Array
    lines: Array
    area: float


@dataclass(frozen=True)
class SpaceWarping(Picture):
    """How layers move the plane, and the line that separates the classes at the end.

    Attributes:
        stages: the plane at first and after each layer.
        labels: the examples' classes, (n).
        window: where the grid lies at first.
        weight, bias: of the line w·h + b = 0 after the last layer; None without one.
        scores: w·h + b of the window's points, (num²), and of the examples, (n).
    """

    stages: tuple[Stage, ...]
    labels: Array
    window: Window
    weight: Array | None = None
    bias: float = 0.0
    scores: tuple[Array, Array] = (np.empty(0), np.empty(0))

    def __str__(self) -> str:
        rows = []
        for stage in self.stages:
            area = f"the grid covers {stage.area:.0%} of the area that it had"
            if set(self.labels.tolist()) == {0, 1}:
                best = f"{_best_line(stage.points, self.labels)} of {len(self.labels)}"
                area = (
                    f"the best line found has {best} points on the right side; {area}"
                )
            rows.append(f"{stage.name}: {area}")
        if self.weight is not None:
            (equation,) = hyperplanes(self.weight, self.bias).equations
            equation = equation.replace("x", "h")
            right = int(((self.scores[1] > 0) == self.labels).sum())
            rows.append(
                f"the line {equation} after the last layer, a bent boundary at the "
                f"start: {right} of {len(self.labels)} points on the right side"
            )
        return "\n".join(rows)

    def figure(self) -> Figure:
        num = len(self.stages)
        columns = min(num, 3)
        figure, axes = chart(-(-num // columns), columns, size=(3.1, 3.4))
        for unused in axes.flat[num:]:
            unused.set_visible(False)
        for number, (stage, place) in enumerate(
            zip(self.stages, axes.flat, strict=False)
        ):
            _draw_grid(place, stage.lines)
            draw_points(place, stage.points, self.labels)
            _frame(place, stage)
            letter = "x" if number == 0 else "h"
            place.set_xlabel(f"{letter}₁")
            place.set_ylabel(f"{letter}₂")
            place.set_title(stage.name, size=11)
        if self.weight is not None:
            self._draw_boundary(axes.flat[0], axes.flat[num - 1])
        return figure

    def _draw_boundary(self, first: Axes, last: Axes) -> None:
        assert self.weight is not None
        x1, x2 = self.window.axes
        first.contour(
            x1, x2, self.window.surface(self.scores[0]), levels=[0], colors=[INK],
            linewidths=[2.2],
        )  # fmt: skip
        x_range, y_range = last.get_xlim(), last.get_ylim()
        w, reach = self.weight, 4 * max(np.ptp(x_range), np.ptp(y_range))
        centre = np.array([np.mean(x_range), np.mean(y_range)])
        foot = centre - (w @ centre + self.bias) / (w @ w) * w
        ends = foot + np.outer([-reach, reach], [-w[1], w[0]]) / np.linalg.norm(w)
        last.plot(ends[:, 0], ends[:, 1], color=INK, lw=2.2)
        last.set_xlim(x_range)
        last.set_ylim(y_range)


def space_warping(
    layers: Module | Callable[[Any], Any] | Sequence[Any],
    points: Any,
    labels: Any = None,
    *,
    names: Sequence[str] = (),
    window: Window | None = None,
) -> SpaceWarping:
    """What each layer of two units makes of the plane.

    Lines of constant x₁ are solid, those of constant x₂ dashed, at every stage.

    Args:
        layers: a network from two inputs through layers of two units, or a function of
            points, or a sequence of those. If the last is a ``Dense`` layer with one
            unit, it is the line that separates the classes: it is drawn after the
            layers before it and, bent, at the start.
        points, labels: examples, (n, 2), and their classes (n).
        names: of the stages, "h = Wx", say; the layers themselves unless given.
        window: where the grid lies; around the points unless given.

    Raises:
        ShapeError: for a layer that does not lead from the plane to the plane, or for
            labels of another number than points.
        OptionError: without a layer, or with names of another number than stages.

    Example:
        >>> from chainrule import nn
        >>> print(space_warping(nn.ReLU(), [[-1.0, 1.0], [1.0, 1.0]], [0, 1]))
        x: the best line found has 2 of 2 points on the right side; the grid covers
        100% of the area that it had
        ReLU(): the best line found has 2 of 2 points on the right side; the grid covers
        50% of the area that it had

    Source: yonsei, "Space warping", with h = Wx and h = ReLU(Wx).
    """
    steps = _steps(layers)
    x = as_points("space_warping", points)
    classes = np.zeros(len(x), int) if labels is None else np.asarray(labels, int)
    if len(classes) != len(x):
        raise ShapeError(
            "space_warping: points and labels differ in number",
            got=f"{len(x)} points, {len(classes)} labels",
            expected="one class for each point",
        )
    line = steps.pop() if len(steps) > 1 and _is_line(steps[-1]) else None
    letters = ["x", *"h" * len(steps)]
    titles = list(names) or ["x", *map(_named, steps, letters)]
    if len(titles) != len(steps) + 1:
        raise OptionError(
            "space_warping: a name for each stage",
            got=f"{len(titles)} names",
            expected=f"{len(steps) + 1}: the start and {len(steps)} layers",
        )
    window = window or Window.around(x)
    grid, dense = _grid(window), window.points
    first_area = _area(grid)
    stages = [Stage(titles[0], x, grid, 1.0)]
    for step, title in zip(steps, titles[1:], strict=True):
        x = _moved(step, x)
        grid = _moved(step, grid.reshape(-1, 2)).reshape(grid.shape)
        dense = _moved(step, dense)
        stages.append(Stage(title, x, grid, _area(grid) / first_area))
    if line is None:
        return SpaceWarping(tuple(stages), classes, window)
    weight = line.weight.data[:, 0].astype(float)
    bias = 0.0 if line.bias is None else float(line.bias.data[0])
    return SpaceWarping(
        tuple(stages), classes, window, weight, bias,
        (dense @ weight + bias, x @ weight + bias),
    )  # fmt: skip


def _steps(layers: Any) -> list[Any]:
    steps = list(layers) if isinstance(layers, (Sequential, list, tuple)) else [layers]
    steps = [step for step in steps if not isinstance(step, Flatten)]
    if not steps:
        raise OptionError(
            "space_warping: nothing moves the plane", got="no layers", expected="one"
        )
    return steps


def _is_line(step: Any) -> bool:
    return isinstance(step, Dense) and step.out_features == 1


def _named(step: Any, before: str = "x") -> str:
    """A layer in a few letters; ``before`` is what goes in."""
    if isinstance(step, Dense):
        return f"{before} @ W + b"
    return repr(step) if isinstance(step, Module) else getattr(step, "__name__", "h")


def _moved(step: Any, x: Array) -> Array:
    y = np.asarray(outputs(step, x), float)
    if y.shape != x.shape:
        raise ShapeError(
            f"space_warping: {_named(step)} leaves the plane",
            got=f"an output of shape {y.shape} for points of shape {x.shape}",
            expected="two outputs for two inputs",
            hint="use layers of two units; the last one may have one",
        )
    return y


def _grid(window: Window) -> Array:
    """Lines of constant x₁, then of constant x₂: (2·lines, places, 2)."""
    (a, b), (c, d) = window.x1, window.x2
    across, up = np.linspace(a, b, _LINES), np.linspace(c, d, _LINES)
    fine_across, fine_up = np.linspace(a, b, _ALONG), np.linspace(c, d, _ALONG)
    vertical = np.stack(np.meshgrid(across, fine_up, indexing="ij"), axis=-1)
    level = np.stack(np.meshgrid(up, fine_across, indexing="ij")[::-1], axis=-1)
    return np.concatenate([vertical, level])


def _area(lines: Array) -> float:
    """The sum of the sizes of the grid's cells, each by the shoelace formula."""
    step = (_ALONG - 1) // (_LINES - 1)
    corners = lines[:_LINES, ::step]
    a, b, c, d = corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:]
    one, two = c - a, d - b
    return float(abs(one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0]).sum() / 2)


def _best_line(points: Array, labels: Array) -> int:
    """How many of two classes the best of many lines has on the right side."""
    angles = np.linspace(0, np.pi, 360, endpoint=False)
    heights = points @ np.stack([np.cos(angles), np.sin(angles)])
    order = np.argsort(heights, axis=0, kind="stable")
    ordered = np.take_along_axis(heights, order, axis=0)
    is_one = (labels[order] == 1).astype(int)
    num = len(labels)
    # Cut after place k: class 0 below and class 1 above, or the other way round.
    ones_below = np.vstack([np.zeros((1, len(angles)), int), is_one.cumsum(axis=0)])
    zeros_below = np.arange(num + 1)[:, None] - ones_below
    right = zeros_below + is_one.sum(axis=0) - ones_below
    right = np.maximum(right, num - right)
    # Points at the same height cannot be cut apart.
    apart = np.diff(ordered, axis=0) > 1e-9 * max(abs(heights).max(), 1e-300)
    edge = np.ones((1, len(angles)), bool)
    return int(np.where(np.vstack([edge, apart, edge]), right, 0).max())


def _draw_grid(axes: Axes, lines: Array) -> None:
    longest = np.abs(np.diff(lines, axis=1)).max(axis=(0, 2), initial=0)
    leap = 20 * max(np.median(longest), 1e-12)
    for number, line in enumerate(lines):
        # A function that leaps, such as an angle at ±π, breaks its lines there.
        broken = np.where(
            (np.abs(np.diff(line, axis=0, prepend=line[:1])) > leap).any(axis=1)[
                :, None
            ],
            np.nan,
            line,
        )
        is_vertical = number < len(lines) // 2
        axes.plot(
            broken[:, 0], broken[:, 1], "-" if is_vertical else "--",
            color=VALUE if is_vertical else GRADIENT, lw=0.8, alpha=0.55,
        )  # fmt: skip


def _frame(axes: Axes, stage: Stage) -> None:
    low, high = stage.lines.min(axis=(0, 1)), stage.lines.max(axis=(0, 1))
    # One scale for both axes: turned is not stretched.
    centre, reach = (low + high) / 2, 0.56 * max((high - low).max(), 1e-6)
    axes.set_xlim(centre[0] - reach, centre[0] + reach)
    axes.set_ylim(centre[1] - reach, centre[1] + reach)
    axes.set_aspect("equal")
    axes.axhline(0, color=INK, lw=0.6)
    axes.axvline(0, color=INK, lw=0.6)
    axes.grid(False)
