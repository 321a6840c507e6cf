"""Single units: the perceptron, the logistic unit, three of them combined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import nn
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.behaviour.built import dense
from chainrule.explanation.behaviour.panels import Panel
from chainrule.explanation.behaviour.plane import Window, outputs
from chainrule.explanation.picture import GRADIENT, INK, VALUE, Picture, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "CombinedUnits",
    "UnitResponse",
    "combined_units",
    "unit_response",
]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class UnitResponse(Panel):
    """The outputs of a perceptron and of a logistic unit while one weight moves.

    Attributes:
        changes: Δw of the weight, (places).
        step, smooth: the outputs of the perceptron and of the logistic unit.
        small: a change that is called small.
        effects: by how much it moves the two outputs.
        slope: ∂h/∂w of the logistic unit at Δw = 0.
    """

    changes: Array
    step: Array
    smooth: Array
    small: float
    effects: tuple[float, float]
    slope: float

    def __str__(self) -> str:
        leaps = np.flatnonzero(np.diff(self.step))
        where = (
            f"it leaps near Δw = {self.changes[leaps[0]]:.2g}"
            if len(leaps)
            else "it does not leap in sight"
        )
        return (
            f"Δw = {self.small:g} moves the perceptron by {self.effects[0]:g}; "
            f"{where}\n"
            f"Δw = {self.small:g} moves the logistic unit by {self.effects[1]:.6f}, "
            f"which is ∂h/∂w · Δw = {self.slope:.4f} · {self.small:g} = "
            f"{self.slope * self.small:.6f} to first order"
        )

    def draw(self, axes: Axes) -> None:
        axes.plot(
            self.changes, self.step, "--", color=GRADIENT, lw=2, label="perceptron"
        )
        axes.plot(self.changes, self.smooth, color=VALUE, lw=2, label="logistic unit")
        centre = float(np.interp(0, self.changes, self.smooth))
        near = 0.25 * np.array([self.changes[0], self.changes[-1]])
        axes.plot(near, centre + self.slope * near, ":", color=INK, lw=1.6,
                  label="slope ∂h/∂w")  # fmt: skip
        axes.plot(0, centre, "o", ms=6, mfc="white", mec=INK)
        axes.set_xlabel("Δw₁")
        axes.set_ylabel("output")
        axes.legend(fontsize=9, frameon=False)


def unit_response(
    weights: Any = (1.0, 1.0),
    bias: float = -3.0,
    x: Any = (1.0, 1.5),
    *,
    small: float = 0.01,
    reach: float = 3.0,
) -> UnitResponse:
    """Move the first weight of a perceptron and of a logistic unit.

    A small Δw does not move the perceptron at all, until one makes it leap; it moves
    the logistic unit a little, by about ∂h/∂w·Δw. That is why the latter can learn by
    small steps.

    Args:
        weights, bias: of both units.
        x: the example that they see.
        small: the change that is measured.
        reach: Δw goes from -reach to reach.

    Raises:
        ShapeError: where weights and example differ in number.
        OptionError: for a reach or a change that is not above 0.

    Example:
        >>> print(unit_response())
        Δw = 0.01 moves the perceptron by 0; it leaps near Δw = 0.5
        Δw = 0.01 moves the logistic unit by 0.002353, which is
        ∂h/∂w · Δw = 0.2350 · 0.01 = 0.002350 to first order

    Source: aarhus, "Perceptron", "Logistic unit", "Saturation".
    """
    w, example = np.asarray(weights, float), np.asarray(x, float)
    if w.ndim != 1 or w.shape != example.shape:
        raise ShapeError(
            "unit_response: one weight for each input",
            got=f"weights of shape {w.shape}, an example of shape {example.shape}",
            expected="both (n,)",
        )
    if not (reach > 0 and small > 0):
        raise OptionError(
            "unit_response: no change",
            got=f"{small:g} of {reach:g}",
            expected="above 0",
        )
    changes = np.linspace(-reach, reach, 601)
    measured = np.array([0.0, small, *changes])
    # Moving w₁ by Δw moves the sum by Δw·x₁.
    sums = (w @ example + bias + measured * example[0])[:, None]
    steps, smooth = (
        outputs(layer, sums)[:, 0] for layer in (nn.Threshold(), nn.Sigmoid())
    )
    slope = float(smooth[0] * (1 - smooth[0]) * example[0])
    effects = (float(steps[1] - steps[0]), float(smooth[1] - smooth[0]))
    return UnitResponse(changes, steps[2:], smooth[2:], small, effects, slope)


@dataclass(frozen=True)
class CombinedUnits(Picture):
    """Three logistic units, their sum through σ, and a fourth unit that combines them.

    Attributes:
        window: the lecture's grid.
        panels: by title, the five surfaces (num²).
    """

    window: Window
    panels: dict[str, Array]

    def __str__(self) -> str:
        rows = [
            f"{name}: from {values.min():.4f} to {values.max():.4f}, "
            + (
                "at least 0.5 everywhere: it always says 1"
                if values.min() >= 0.5
                else f"at least 0.5 on {(values >= 0.5).mean():.1%} of the grid"
            )
            for name, values in self.panels.items()
        ]
        return "\n".join(rows)

    def figure(self) -> Figure:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        figure, axes = chart(2, 3, size=(2.9, 2.6))
        extent = (*self.window.x1, *self.window.x2)
        colours = ScalarMappable(Normalize(0, 1), "viridis")
        for place, (name, values) in zip(axes.flat, self.panels.items(), strict=False):
            surface = self.window.surface(values)
            place.imshow(
                surface, origin="lower", extent=extent, cmap=colours.cmap,
                norm=colours.norm,
            )  # fmt: skip
            if values.min() < 0.5 < values.max():
                place.contour(
                    *self.window.axes, surface, levels=[0.5], colors=["white"],
                    linewidths=1.4,
                )  # fmt: skip
            place.set_title(name, size=9)
            place.grid(False)
            place.tick_params(labelsize=8)
        last = axes.flat[-1]
        last.set_axis_off()
        place = last.inset_axes((0.05, 0.55, 0.9, 0.08))
        bar = figure.colorbar(colours, cax=place, orientation="horizontal")
        bar.set_label("output; the white line is 0.5", size=9)
        return figure


def combined_units() -> CombinedUnits:
    """The lecture's five panels: three logistic units, and how to combine them.

    h₁ = σ(10x₁ + 10x₂ - 30), h₂ = σ(10x₁ - 10x₂ - 30), h₃ = σ(-10x₁ + x₂ - 3) on
    100×100 points from -10 to 10. σ(h₁ + h₂ + h₃) is at least 0.5 everywhere, because
    its input is never below 0; σ(10(h₁ + h₂ + h₃) - 1), a logistic unit, is not.

    Example:
        >>> panels = combined_units().panels
        >>> [bool((values >= 0.5).all()) for values in panels.values()]
        [False, False, False, True, False]

    Source: aarhus, "Combining multiple logistic units".
    """
    window = Window((-10.0, 10.0), (-10.0, 10.0), num=100)
    hidden = nn.Sequential(
        dense([[10.0, 10.0, -10.0], [10.0, -10.0, 1.0]], [-30.0, -30.0, -3.0]),
        nn.Sigmoid(),
    )
    added = nn.Sequential(hidden, dense([[1.0]] * 3, 0.0), nn.Sigmoid())
    network = nn.Sequential(hidden, dense([[10.0]] * 3, -1.0), nn.Sigmoid())
    points = window.points
    h1, h2, h3 = outputs(hidden, points).T
    return CombinedUnits(
        window,
        {
            "h₁: w = (10, 10), b = −30": h1,
            "h₂: w = (10, −10), b = −30": h2,
            "h₃: w = (−10, 1), b = −3": h3,
            "σ(h₁ + h₂ + h₃)": outputs(added, points)[:, 0],
            "σ(10(h₁ + h₂ + h₃) − 1)": outputs(network, points)[:, 0],
        },
    )
