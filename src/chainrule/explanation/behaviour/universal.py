"""How near hand-built networks come to a function, beside trained ones and kNN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import nn
from chainrule.core.graph import assign
from chainrule.errors import OptionError
from chainrule.explanation.behaviour.built import (
    Box,
    bumps,
    cell_edges,
    towers,
    values_of,
)
from chainrule.explanation.behaviour.descent import descend
from chainrule.explanation.behaviour.plane import outputs
from chainrule.explanation.picture import GRADIENT, INK, VALUE, Picture, bare, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Approximation", "approximation"]

Array = np.ndarray[Any, Any]
BUILDERS: dict[str, Callable[..., nn.Sequential]] = {"towers": towers, "bumps": bumps}

_STYLES = {
    "towers": (VALUE, "-", "s"),
    "bumps": (VALUE, "-", "s"),
    "trained": (GRADIENT, "--", "^"),
    "nearest neighbour": (INK, ":", "o"),
}


@dataclass(frozen=True)
class Approximation(Picture):
    """A function, and what built, trained and remembering models make of it.

    Attributes:
        built: "towers" or "bumps".
        points: where all are compared, (n, axes).
        target: the function there, (n).
        models: by name, the values there of the models with the most units, (n).
        num_units: hidden units of the built networks.
        errors: by name, the mean of |model - f| for each of those numbers.
        kinks: where the trained network bends, or the middles of its units' slopes;
            on an interval only.
    """

    built: str
    points: Array
    target: Array
    models: Mapping[str, Array]
    num_units: tuple[int, ...]
    errors: Mapping[str, tuple[float, ...]]
    kinks: Array

    def __str__(self) -> str:
        table = {"hidden units": [str(n) for n in self.num_units]} | {
            f"error, {name}": [f"{e:.4f}" for e in errors]
            for name, errors in self.errors.items()
        }
        width = max(map(len, table))
        rows = [
            f"{name:<{width}}" + "".join(f"{cell:>9}" for cell in cells)
            for name, cells in table.items()
        ]
        if len(self.kinks):
            inside = (self.kinks > self.points.min()) & (self.kinks < self.points.max())
            rows.append(
                f"the trained network learns no {self.built}: {int(inside.sum())} of "
                f"its {self.num_units[-1]} units change inside, each at a place of its "
                "own, not at the cells' edges"
            )
        return "\n".join(rows)

    def figure(self) -> Figure:
        if self.points.shape[1] == 1:
            figure, axes = chart(1, 3, size=(3.2, 3.3))
            self._draw_curve(axes[0, 0], self.built)
            self._draw_curve(axes[0, 1], "trained")
            self._draw_errors(axes[0, 2])
            return figure
        figure, axes = chart(1, 4, size=(2.4, 2.7))
        limits = {"vmin": self.target.min(), "vmax": self.target.max()}
        shown = {"f": self.target, **self.models}
        for place, name in zip(axes.flat, ("f", self.built, "trained"), strict=False):
            side = round(len(self.points) ** 0.5)
            place.imshow(
                shown[name].reshape(side, side), origin="lower", cmap="Greys", **limits
            )
            bare(place)
            place.set_title(self._title(name), size=10)
        self._draw_errors(axes[0, 3])
        return figure

    def _title(self, name: str) -> str:
        if name == "f":
            return "f"
        return f"{name}: error {self.errors[name][-1]:.3f}"

    def _draw_curve(self, axes: Axes, name: str) -> None:
        x = self.points[:, 0]
        colour, line, _ = _STYLES[name]
        axes.plot(x, self.target, color=INK, lw=1.2, ls=":", label="f")
        axes.plot(x, self.models[name], line, color=colour, lw=1.6, label=name)
        axes.set_title(f"{self._title(name)}, {self.num_units[-1]} units", size=10)
        axes.set_xlabel("x")
        if name == "trained" and len(self.kinks):
            low, high = axes.get_ylim()
            axes.set_ylim(low - 0.12 * (high - low), high)
            axes.plot(
                self.kinks, np.full(len(self.kinks), low - 0.05 * (high - low)), "|",
                color=GRADIENT, ms=9, label="units' places",
            )  # fmt: skip
        axes.set_xlim(x[0], x[-1])
        axes.legend(fontsize=8, frameon=False)

    def _draw_errors(self, axes: Axes) -> None:
        from matplotlib.ticker import LogLocator

        for name, errors in self.errors.items():
            colour, line, marker = _STYLES[name]
            axes.loglog(
                self.num_units, errors, line, marker=marker, color=colour, ms=4.5,
                lw=1.6, label=name,
            )  # fmt: skip
        axes.set_title("mean error", size=10)
        axes.set_xlabel("hidden units")
        axes.set_xticks(self.num_units, [str(n) for n in self.num_units])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(fontsize=8, frameon=False)


def approximation(
    f: Callable[[Array], Any],
    built: str = "bumps",
    cells: Sequence[int] = (2, 4, 8, 16),
    box: Box = ((0.0, 1.0),),
    *,
    num_steps: int = 400,
    seed: int = 0,
) -> Approximation:
    """Hold networks built for a function against trained ones and a neighbour.

    For each number of cells: the network that is built with so many along each axis; a
    network with one hidden layer of as many units, of ReLUs beside bumps and of tanh
    beside towers, trained on the function in 64 places along an interval, or 24×24 of a
    rectangle; and the value at the nearest of the cells' middles, which is all that the
    built network was told.

    Args:
        f: the function, from points (n, axes) to numbers (n) or (n, 1).
        built: "towers" or "bumps".
        cells: numbers of cells along each axis, the largest last.
        box: the ends of each axis; one or two axes.
        num_steps: of Adam, for each trained network.
        seed: of its first weights.

    Raises:
        OptionError: for another construction, no cells, or an empty box.
        ShapeError: for a function with another output.

    Source: yonsei, "Networks don't really learn bumps" and "kNN is also a universal
    approximator"; aarhus, "Universal approximation theorem".
    """
    if built not in BUILDERS:
        raise OptionError.unknown("construction", built, BUILDERS)
    if not cells:
        raise OptionError(
            "approximation: no network",
            got="no numbers of cells",
            expected="one or more",
        )
    for num in cells:
        cell_edges("approximation", num, box)
    points = _lattice(box, 512 if len(box) == 1 else 64)
    target = values_of("approximation", f, points)
    units: list[int] = []
    errors: dict[str, list[float]] = {
        n: [] for n in (built, "trained", "nearest neighbour")
    }
    for num in cells:
        network = BUILDERS[built](f, num, box)
        units.append(_num_units(network))
        trained = _trained(f, units[-1], built, box, num_steps, seed)
        models = {
            built: outputs(network, points)[:, 0],
            "trained": outputs(trained, _scaled(points, box))[:, 0].astype(float),
            "nearest neighbour": _nearest(f, num, box, points),
        }
        for name, values in models.items():
            errors[name].append(float(np.abs(values - target).mean()))
    return Approximation(
        built, points, target, models, tuple(units),
        {name: tuple(row) for name, row in errors.items()},
        _kinks(trained, box) if len(box) == 1 else np.empty(0),
    )  # fmt: skip


def _lattice(box: Box, num: int) -> Array:
    """The middles of num cells along each axis, (numᵃ, axes), x₁ the quickest."""
    sides = [a + (b - a) * (np.arange(num) + 0.5) / num for a, b in box]
    return np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, len(box))


def _num_units(network: nn.Sequential) -> int:
    """All units but the output."""
    layers = [layer for layer in network if isinstance(layer, nn.Dense)]
    return sum(layer.out_features for layer in layers[:-1])


def _scaled(points: Array, box: Box) -> Array:
    """The box moved to -2 to 2 along each axis, where a network likes to begin."""
    low, high = np.asarray(box, float).T
    return 4 * (points - low) / (high - low) - 2


def _trained(
    f: Callable[[Array], Any],
    num_units: int,
    built: str,
    box: Box,
    steps: int,
    seed: int,
) -> nn.Sequential:
    places = _lattice(box, 64 if len(box) == 1 else 24)
    x = _scaled(places, box).astype(np.float32)
    y = values_of("approximation", f, places)[:, None].astype(np.float32)
    kind = "relu" if built == "bumps" else "tanh"
    model = nn.mlp(len(box), (num_units,), 1, activation=kind).initialize(seed)
    hidden = _hidden(model)
    # With biases of 0 every unit would begin to change in the middle.
    places = np.random.default_rng(seed).uniform(-2, 2, num_units)
    assign(hidden.bias, -places * np.linalg.norm(hidden.weight.data, axis=0))
    for lr in (0.02, 0.002):
        descend(model, lambda: nn.squared_error(model(x), y), steps // 2, "adam", lr=lr)
    return model


def _hidden(model: nn.Sequential) -> Any:
    return model["hidden1"]


def _kinks(model: nn.Sequential, box: Box) -> Array:
    """Where w·x + b = 0 for each hidden unit, in the box's own units."""
    hidden = _hidden(model)
    w, b = hidden.weight.data[0].astype(float), hidden.bias.data.astype(float)
    ((low, high),) = box
    places = -b[w != 0] / w[w != 0]
    inside = places[np.abs(places) <= 2]
    return low + (inside + 2) / 4 * (high - low)


def _nearest(f: Callable[[Array], Any], num: int, box: Box, points: Array) -> Array:
    """The function at the nearest of the cells' middles."""
    middles = _lattice(box, num)
    values = values_of("approximation", f, middles)
    distance = ((points[:, None] - middles) ** 2).sum(axis=-1)
    return values[distance.argmin(axis=1)]
