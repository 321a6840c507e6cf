"""The lines at which units of the plane change sign, with their equations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.core.graph import Tensor
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.behaviour.panels import Panel
from chainrule.explanation.behaviour.plane import COLOURS, Window
from chainrule.explanation.picture import INK
from chainrule.nn import Dense

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Hyperplanes", "hyperplanes"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Hyperplanes(Panel):
    """The lines w·x + b = 0 of units that see the plane.

    Attributes:
        weight: (2, units), a column for each unit.
        bias: (units).
        window: where they are drawn.
    """

    weight: Array
    bias: Array
    window: Window

    @property
    def equations(self) -> tuple[str, ...]:
        """Each line as a lecture writes it: x₂ = −x₁ + 3."""
        return tuple(
            _equation(w1, w2, b)
            for (w1, w2), b in zip(self.weight.T, self.bias, strict=True)
        )

    @property
    def distances(self) -> Array:
        """How far each line is from the origin, (units)."""
        return np.abs(self.bias) / np.linalg.norm(self.weight, axis=0)

    def __str__(self) -> str:
        rows = []
        for number, (equation, (w1, w2), b, distance) in enumerate(
            zip(self.equations, self.weight.T, self.bias, self.distances, strict=True),
            start=1,
        ):
            rows.append(
                f"unit {number}: {equation}; above 0 on the side of "
                f"w = ({signed(w1)}, {signed(w2)}); "
                f"{distance:.4g} from the origin, which is "
                + ("on the line" if b == 0 else "above 0" if b > 0 else "below 0")
            )
        return "\n".join(rows)

    def draw(self, axes: Axes) -> None:
        from matplotlib.patheffects import withStroke

        styles = ("-", "--", "-.", ":")
        span = min(b - a for a, b in (self.window.x1, self.window.x2))
        centre = np.array([sum(self.window.x1), sum(self.window.x2)]) / 2
        columns = zip(self.weight.T, self.bias, self.equations, strict=True)
        for k, (w, b, equation) in enumerate(columns):
            colour = COLOURS[(k + 1) % len(COLOURS)]
            normal = w / np.linalg.norm(w)
            along = np.array([-normal[1], normal[0]])
            # The point of the line that is nearest to the window's middle.
            foot = centre - (w @ centre + b) / (w @ w) * w
            ends = foot + np.outer([-3 * span, 3 * span], along)
            axes.plot(
                ends[:, 0], ends[:, 1], styles[k % 4], color=colour, lw=1.8,
                label=f"{equation}",
            )  # fmt: skip
            tip, beyond = (foot + share * span * normal for share in (0.12, 0.17))
            arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.5}
            axes.annotate("", tip, foot, arrowprops=arrow)
            axes.text(
                beyond[0], beyond[1], "> 0", color=colour, size=9, ha="center",
                va="center",
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip
        axes.axhline(0, color=INK, lw=0.6)
        axes.axvline(0, color=INK, lw=0.6)
        axes.set_xlim(*self.window.x1)
        axes.set_ylim(*self.window.x2)
        axes.set_aspect("equal")
        axes.set_xlabel("x₁")
        axes.set_ylabel("x₂")
        axes.legend(fontsize=9, framealpha=0.9, loc="best")


def hyperplanes(
    weight: Any, bias: Any = 0.0, *, window: Window | None = None
) -> Hyperplanes:
    """The lines at which units w·x + b change sign, with their equations.

    Args:
        weight: a ``Dense`` layer with two inputs, or weights (2), (2, units) with a
            column for each unit.
        bias: of each unit.
        window: where to draw them; around the origin, so that all are seen, if not
            given.

    Raises:
        ShapeError: for units that do not have two inputs, or another number of biases.
        OptionError: for a unit with weights of 0: it draws no line.

    Example:
        >>> hyperplanes([1.0, 1.0], -3.0).equations
        ('x₂ = −x₁ + 3',)

    Source: aarhus, "Logistic unit: decision boundary", whose example this is;
    intellivision, "Each row of W is a hyperplane".
    """
    if isinstance(weight, Dense):
        bias = 0.0 if weight.bias is None else weight.bias.data
        weight = weight.weight.data
    w = np.asarray(weight.data if isinstance(weight, Tensor) else weight, float)
    w = w[:, None] if w.ndim == 1 else w
    if w.ndim != 2 or len(w) != 2:
        raise ShapeError(
            "hyperplanes: units of the plane have two inputs",
            got=f"weights of shape {w.shape}",
            expected="(2) or (2, units)",
        )
    b = np.asarray(bias.data if isinstance(bias, Tensor) else bias, float)
    if b.shape not in ((), (1,), (w.shape[1],)):
        raise ShapeError(
            "hyperplanes: one bias for each unit",
            got=f"{b.size} biases",
            expected=f"{w.shape[1]}",
        )
    b = np.broadcast_to(b, w.shape[1])
    norms = np.linalg.norm(w, axis=0)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise OptionError(
            "hyperplanes: a unit draws no line",
            got="weights that are 0 or not finite",
            expected="a finite w other than (0, 0)",
        )
    reach = float(1.6 * max((np.abs(b) / norms).max(), 1.0))
    return Hyperplanes(w, b, window or Window((-reach, reach), (-reach, reach)))


def signed(value: float) -> str:
    """A short number with the sign of mathematics: −0.25."""
    return f"{value + 0.0:.4g}".replace("-", "−")


def _equation(w1: float, w2: float, b: float) -> str:
    """The line solved for x₂, or for x₁ where it is steep."""
    if abs(w2) < 0.05 * abs(w1):
        return f"x₁ = {_sum(-w2 / w1, 'x₂', -b / w1)}"
    return f"x₂ = {_sum(-w1 / w2, 'x₁', -b / w2)}"


def _sum(slope: float, name: str, offset: float) -> str:
    """slope·name + offset without what is 0 or 1."""
    if not slope:
        return signed(offset)
    factor = {1.0: "", -1.0: "−"}.get(slope, f"{signed(slope)}·")
    if not offset:
        return f"{factor}{name}"
    return f"{factor}{name} {'+' if offset > 0 else '−'} {signed(abs(offset))}"
