"""Functions of two numbers: where they are looked at, and how regions are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.core.graph import Tensor, no_grad
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.picture import GRADIENT, INK, VALUE
from chainrule.nn import Module, evaluating

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Window", "draw_points", "draw_regions", "margins", "outputs"]

Array = np.ndarray[Any, Any]

MARKERS = "os^DvPX<>p"
COLOURS = (
    GRADIENT, VALUE, "#2b5fa8", "#8a6100", "#7a3e9d",
    "#5c5f66", "#a3195b", "#3d7a1f", "#006d8f", "#6b4a2b",
)  # fmt: skip
_TINTS = (
    "#fbe3d8", "#d3ece4", "#dbe6f6", "#f4e9cc", "#ebdff3",
    "#e6e7e9", "#f6dbe7", "#e0efd8", "#d5ecf3", "#ece2d9",
)  # fmt: skip
_HATCHES = ("", "//", "..", "\\\\", "++", "xx", "--", "oo", "||", "**")


@dataclass(frozen=True)
class Window:
    """A rectangle of the plane with a grid of points in it.

    Args:
        x1, x2: its ends along both axes.
        num: points along each side.

    Raises:
        OptionError: where an end is not left of the other, or for a single point.

    Example:
        >>> Window((-1.0, 1.0), (0.0, 1.0), num=3).points[:4].tolist()
        [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [-1.0, 0.5]]
    """

    x1: tuple[float, float]
    x2: tuple[float, float]
    num: int = 160

    def __post_init__(self) -> None:
        for low, high in (self.x1, self.x2):
            if not (np.isfinite([low, high]).all() and low < high):
                raise OptionError(
                    "window: ends in the wrong order",
                    got=f"from {low:g} to {high:g}",
                    expected="two finite numbers, the smaller one first",
                )
        if self.num < 2:
            raise OptionError("window: no grid", got=self.num, expected="2 or more")

    @classmethod
    def around(cls, points: Any, margin: float = 0.15, num: int = 160) -> Window:
        """The window that holds all points (n, 2), with some room around them."""
        points = as_points("window", points)
        low, high = points.min(axis=0), points.max(axis=0)
        room = margin * np.maximum(high - low, 1e-3)
        low, high = low - room, high + room
        return cls(
            (float(low[0]), float(high[0])), (float(low[1]), float(high[1])), num
        )

    @property
    def axes(self) -> tuple[Array, Array]:
        """The grid's places along both axes."""
        return np.linspace(*self.x1, self.num), np.linspace(*self.x2, self.num)

    @property
    def points(self) -> Array:
        """All points of the grid, (num², 2), row by row from below."""
        return np.stack(np.meshgrid(*self.axes), axis=-1).reshape(-1, 2)

    def surface(self, values: Array) -> Array:
        """Values at ``points`` as a picture (num, num), the lowest row first."""
        return values.reshape(self.num, self.num)


def as_points(what: str, points: Any) -> Array:
    """Points of the plane as an array (n, 2); raises ShapeError for anything else."""
    array = np.asarray(points.data if isinstance(points, Tensor) else points, float)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise ShapeError(
            f"{what}: takes points of the plane",
            got=f"an array of shape {array.shape}",
            expected="(n, 2)",
        )
    return array


def outputs(f: Module | Callable[[Any], Any], points: Array) -> Array:
    """What a model or a function makes of points, as an array, without a graph.

    A model is run as in prediction, in the dtype of its weights, and left as it was.
    """
    with no_grad():
        if not isinstance(f, Module):
            y = f(points)
            return np.asarray(y.data if isinstance(y, Tensor) else y)
        dtype = next((p.dtype for p in f.parameters()), points.dtype)
        with evaluating(f):
            return f(points.astype(dtype)).data


def margins(scores: Array) -> Array:
    """By how much each class leads: its score less the best other one.

    Shapes: (n, classes) -> (n, classes); scores of one unit, (n) or (n, 1), give the
    margins of class 0 and of class 1, which is where the score is above 0.

    Example:
        >>> margins(np.array([[3.0, 1.0, 2.5]])).tolist()
        [[0.5, -2.0, -0.5]]
    """
    if scores.ndim == 1 or scores.shape[1] == 1:
        score = scores.reshape(-1)
        return np.stack([-score, score], axis=1)
    ordered = np.sort(scores, axis=1)
    best, second = ordered[:, -1:], ordered[:, -2:-1]
    return scores - np.where(scores == best, second, best)


def draw_regions(axes: Axes, window: Window, leads: Array) -> None:
    """The region of each class by tint, hatch and number, and the lines between.

    Args:
        leads: the margins (num², classes) at the window's points.
    """
    from scipy.ndimage import distance_transform_edt

    x1, x2 = window.axes
    for k in range(leads.shape[1]):
        lead = window.surface(leads[:, k])
        if not (lead > 0).any():
            continue
        style = k % len(_TINTS)
        filled = axes.contourf(
            x1, x2, lead, levels=[0, np.inf], colors=[_TINTS[style]],
            hatches=[_HATCHES[style]],
        )  # fmt: skip
        filled.set_edgecolor("#ffffff")
        filled.set_linewidth(0)
        if (lead < 0).any() and (k or leads.shape[1] > 2):
            axes.contour(x1, x2, lead, levels=[0], colors=[INK], linewidths=[1.4])
        # The number stands where the region's edge is farthest.
        depth = distance_transform_edt(np.pad(lead > 0, 1))[1:-1, 1:-1]
        row, column = divmod(int(depth.argmax()), window.num)
        axes.text(
            float(x1[column]), float(x2[row]), str(k), ha="center", va="center",
            size=12, weight="bold", color=COLOURS[style],
            bbox={"boxstyle": "circle,pad=0.25", "fc": "white", "ec": COLOURS[style]},
            zorder=5,
        )  # fmt: skip
    axes.set_xlim(*window.x1)
    axes.set_ylim(*window.x2)
    axes.grid(False)


def draw_points(axes: Axes, points: Array, labels: Array, size: float = 4.0) -> None:
    """Points by class: a marker and a colour for each."""
    for k in np.unique(labels):
        style = int(k) % len(COLOURS)
        own = points[labels == k]
        axes.plot(
            own[:, 0], own[:, 1], MARKERS[style], ms=size, mfc=COLOURS[style],
            mec="white", mew=0.5, ls="", label=f"class {k}", zorder=4,
        )  # fmt: skip
