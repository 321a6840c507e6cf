"""The loss on a plane through trained weights, with the way that led there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.core.graph import Tensor
from chainrule.errors import NonFiniteError, OptionError, ShapeError
from chainrule.explanation.behaviour.descent import Weights
from chainrule.explanation.behaviour.directions import (
    check_places,
    explained,
    filter_normalised,
    loss_at,
    principal,
)
from chainrule.explanation.behaviour.panels import Panel
from chainrule.explanation.picture import GRADIENT, VALUE
from chainrule.nn import Module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LossPlane", "loss_on_plane"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LossPlane(Panel):
    """The loss on a plane through trained weights, and the optimiser's way on it.

    Attributes:
        a, b: steps along the two directions, (num) each.
        losses: (num, num); row i is at b[i].
        path: the optimiser's way, projected, (steps, 2); empty without one.
        path_losses: the true losses on that way, (steps).
        shares: of the way's movement, how much each direction explains.
        directions: what they are, in words.
    """

    a: Array
    b: Array
    losses: Array
    path: Array = field(default_factory=lambda: np.empty((0, 2)))
    path_losses: Array = field(default_factory=lambda: np.empty(0))
    shares: tuple[float, float] = (0.0, 0.0)
    directions: str = ""

    @property
    def _finite(self) -> Array:
        """The losses, NaN where one overflowed."""
        return np.where(np.isfinite(self.losses), self.losses, np.nan)

    def __str__(self) -> str:
        row, column = divmod(int(np.nanargmin(self._finite)), len(self.a))
        centre = self.losses[abs(self.b).argmin(), abs(self.a).argmin()]
        text = (
            f"loss on a plane ({self.directions}): {centre:.4g} in its middle, "
            f"{np.nanmin(self._finite):.4g} to {np.nanmax(self._finite):.4g} around, "
            "lowest at "
            f"({self.a[column]:.2g}, {self.b[row]:.2g})"
        )
        if len(self.path):
            text += (
                f"; the optimiser's {len(self.path) - 1} steps lead from "
                f"{self.path_losses[0]:.4g} to {self.path_losses[-1]:.4g}, and the "
                f"plane shows {sum(self.shares):.0%} of their movement"
            )
        return text

    def draw(self, axes: Axes) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        losses = np.ma.masked_invalid(self._finite)
        low, high = (float(np.nanpercentile(self._finite, p)) for p in (0, 97))
        spaced = np.geomspace if low > 0 and high > 8 * low else np.linspace
        tints = LinearSegmentedColormap.from_list("loss", ["#d3ece4", "#ffffff"])
        if high > low:
            levels = spaced(low, high, 13)
            axes.contourf(
                self.a, self.b, losses, levels=levels, cmap=tints, extend="max"
            )
            lines = axes.contour(
                self.a, self.b, losses, levels=levels[1:], colors=[VALUE],
                linewidths=0.9,
            )  # fmt: skip
            axes.clabel(lines, levels[1::2], fmt="%.2g", fontsize=8)
        if len(self.path):
            axes.plot(*self.path.T, "-", color=GRADIENT, lw=1.6, label="way")
            axes.plot(*self.path[0], "o", ms=8, mfc="white", mec=GRADIENT, mew=1.6,
                      label="start")  # fmt: skip
            axes.plot(*self.path[-1], "*", ms=13, mfc=GRADIENT, mec="white",
                      label="end")  # fmt: skip
            axes.legend(fontsize=9, framealpha=0.9)
        axes.grid(False)
        axes.locator_params(nbins=5)
        axes.set_xlabel("first direction", size=10)
        axes.set_ylabel("second direction", size=10)


def loss_on_plane(
    model: Module,
    loss: Callable[[], Tensor],
    path: Any = None,
    *,
    directions: str = "random",
    reach: float = 1.0,
    num: int = 31,
    seed: int = 0,
) -> LossPlane:
    """The loss on a plane through a model's weights w: L(w + a·d₁ + b·d₂).

    Random directions are filter-normalised: the part of a direction that moves one
    unit's or one filter's weights is as long as those weights, and parameters that are
    not weights (biases, a normalisation's scales) stay. So one step means the same for
    large weights and for small ones. "pca" takes the two directions along which the
    optimiser moved most instead.

    Args:
        model: whose weights are moved, and put back in the end.
        loss: the loss of the model as it is, made anew at each call.
        path: weights after each step, (steps + 1, size), as ``descend`` keeps them.
        directions: "random" or "pca", which needs a path.
        reach: how far the plane goes at least, in lengths of a direction; it is made
            wide enough for the whole path.
        num: places along each side; the loss is computed num² times.
        seed: of random directions.

    Raises:
        ShapeError: for a path of another size.
        OptionError: for other directions, "pca" without a path of three places, fewer
            than three places, or a reach that is not above 0.
        NonFiniteError: where the loss is finite nowhere.

    Source: Li, Xu, Taylor, Studer & Goldstein, "Visualizing the loss landscape of
    neural nets", 2018, sections 4 and 7; stanford, "Loss landscape". They make the
    last weights of a path the middle, as we do if there is a path.
    """
    check_places("loss_on_plane", num, (0.0, reach))
    if directions not in ("random", "pca"):
        raise OptionError.unknown("choice of directions", directions, ("random", "pca"))
    weights = Weights(model)
    steps = np.empty((0, weights.size)) if path is None else np.asarray(path, float)
    if steps.ndim != 2 or steps.shape[1] != weights.size:
        raise ShapeError(
            "loss_on_plane: a path of another model",
            got=f"an array of shape {steps.shape}",
            expected=f"(steps, {weights.size})",
            hint="descend(model, objective, ..., keep_path=True).path",
        )
    if directions == "pca" and len(steps) < 3:
        raise OptionError(
            "loss_on_plane: no way whose directions could be found",
            got=f"a path of {len(steps)} places",
            expected="three or more",
            hint="directions='random'",
        )
    with weights.kept() as own:
        middle = steps[-1] if len(steps) else own
        if directions == "pca":
            basis, words = principal(steps - middle), "along which it moved most"
        else:
            drawn = [filter_normalised(weights, middle, seed, n) for n in "ab"]
            basis, words = np.stack(drawn), "random, filter-normalised directions"
        moved = steps - middle
        # The nearest point of the plane, whether or not its directions are orthogonal.
        way = np.linalg.lstsq(basis.T, moved.T, rcond=None)[0].T
        shares = explained(moved, way, basis)
        a, b = (_places(way[:, k], reach, num, directions == "pca") for k in (0, 1))
        losses = np.array(
            [
                [
                    loss_at(weights, middle + s * basis[0] + t * basis[1], loss)
                    for s in a
                ]
                for t in b
            ]
        )
        path_losses = np.array([loss_at(weights, w, loss) for w in steps])
    if not np.isfinite(losses).any():
        raise NonFiniteError(
            "loss_on_plane: no place where the loss is a number",
            got="NaN or infinity everywhere",
            expected="finite losses around the weights",
        )
    return LossPlane(a, b, losses, way, path_losses, shares, words)


def _places(way: Array, reach: float, num: int, is_path: bool) -> Array:
    """Places along a side of the plane, with room for the path."""
    low, high = (way.min(), way.max()) if len(way) else (0.0, 0.0)
    room = 0.2 * (high - low) if is_path else 0.0
    if is_path:
        return np.linspace(low - max(room, 1e-6), high + max(room, 1e-6), num)
    return np.linspace(min(-reach, 1.1 * low), max(reach, 1.1 * high), num)
