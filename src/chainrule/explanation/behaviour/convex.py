"""Whether a function is convex: its definition, tested on random segments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.core.graph import Tensor, no_grad
from chainrule.core.rng import generator
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.behaviour.descent import Weights
from chainrule.explanation.behaviour.panels import Panel
from chainrule.explanation.picture import GRADIENT, INK, VALUE
from chainrule.nn import Module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Convexity", "convexity", "loss_convexity"]

Array = np.ndarray[Any, Any]

_PLACES = 33


@dataclass(frozen=True)
class Convexity(Panel):
    """What random segments say about f(tp + (1-t)q) ≤ t·f(p) + (1-t)·f(q).

    Attributes:
        name: of the function.
        num_segments: how many were tested.
        num_violating: on how many of them the curve rises above a chord.
        values: f along the worst segment; if none violates, along the one on which the
            curve hangs lowest below its chord, (33).
        chord: the ends, as places 0 to 32, of the chord that is exceeded most; of the
            whole segment if none is.
        excess: by how much the curve is above that chord at most; 0 or below if convex.
    """

    name: str
    num_segments: int
    num_violating: int
    values: Array
    chord: tuple[int, int]
    excess: float

    @property
    def is_convex(self) -> bool:
        """Whether no segment violates the definition. A proof it is only of "not"."""
        return self.num_violating == 0

    def __str__(self) -> str:
        if self.is_convex:
            return (
                f"{self.name}: no violation on {self.num_segments} segments; "
                "it may be convex"
            )
        return (
            f"{self.name}: not convex; {self.num_violating} of {self.num_segments} "
            f"segments violate the definition, the worst by {self.excess:.3g}"
        )

    def draw(self, axes: Axes) -> None:
        t = np.linspace(0, 1, len(self.values))
        p, q = self.chord
        chord = np.linspace(self.values[p], self.values[q], q - p + 1)
        axes.plot(t, self.values, color=VALUE, lw=2, label="f on a segment")
        axes.plot(
            t[[p, q]], self.values[[p, q]], "s--", color=GRADIENT, lw=1.6, ms=5,
            label="chord",
        )  # fmt: skip
        gap = self.values[p : q + 1] - chord
        if not self.is_convex:
            axes.fill_between(
                t[p : q + 1], chord, self.values[p : q + 1], where=gap > 0,
                facecolor="#fbe3d8", hatch="//", edgecolor=GRADIENT, lw=0,
                label="above the chord",
            )  # fmt: skip
        verdict = "no violation" if self.is_convex else "not convex"
        count = f"{self.num_violating} of {self.num_segments} segments violate"
        axes.set_title(f"{self.name}: {verdict}\n{count}", size=10, color=INK)
        axes.set_xlabel("t")
        axes.legend(fontsize=8, frameon=False)


def convexity(
    f: Callable[[Array], Any],
    low: Any,
    high: Any,
    *,
    num_segments: int = 50,
    name: str = "f",
    seed: int = 0,
) -> Convexity:
    """Test the definition of convexity between random points of a box.

    On each segment f is computed at 33 places, and every chord between two of them is
    held against the curve below or above it.

    Args:
        f: a function of a number or a vector, to a number.
        low, high: the box's corners: numbers or vectors.
        num_segments: how many are drawn.
        name: of the function, for the text.
        seed: of the segments.

    Raises:
        OptionError: for an empty box, no segments, or values that are not finite.

    Example:
        >>> print(convexity(lambda x: x * x, -6, 6, name="x²"))
        x²: no violation on 50 segments; it may be convex
        >>> convexity(np.cos, -6, 6).is_convex
        False

    Source: yonsei, "Convex functions", whose examples these are.
    """
    low, high = np.broadcast_arrays(np.asarray(low, float), np.asarray(high, float))
    if not (np.isfinite([low, high]).all() and (low < high).all()):
        raise OptionError(
            "convexity: an empty box",
            got=f"corners {low} and {high}",
            expected="finite numbers, low below high",
        )
    rng = generator(seed, "segments")
    ends = rng.uniform(low, high, (_count(num_segments), 2, *low.shape))
    return _tested(f, ends, name)


def loss_convexity(
    model: Module,
    loss: Callable[[], Tensor],
    *,
    num_segments: int = 50,
    scale: float = 2.0,
    name: str = "loss",
    seed: int = 0,
) -> Convexity:
    """Test whether a model's loss is convex in all its weights.

    Args:
        model: whose weights are moved, and put back in the end. In float64 the test is
            sharp; in float32 the curve's own rounding is left out of account.
        loss: the loss of the model as it is, made anew at each call.
        num_segments: between weights drawn from a normal distribution.
        scale: its deviation.
        name, seed: as in ``convexity``.

    Raises:
        OptionError: for no segments, or a loss that is not finite.

    Source: yonsei, "Linear classifiers optimize a convex function", "Most neural
    networks need nonconvex optimization".
    """
    weights = Weights(model)
    rng = generator(seed, "segments")
    ends = scale * rng.normal(size=(_count(num_segments), 2, weights.size))
    is_single = any(p.dtype == np.float32 for p in weights.parameters)

    def f(vector: Array) -> float:
        weights.write(vector)
        with no_grad():
            return loss().item()

    with weights.kept():
        return _tested(f, ends, name, rounding=1e-5 if is_single else 1e-10)


def _count(num_segments: int) -> int:
    if num_segments < 1:
        raise OptionError(
            "convexity: nothing to test", got=num_segments, expected="1 or more"
        )
    return num_segments


def _tested(
    f: Callable[[Array], Any], ends: Array, name: str, rounding: float = 1e-10
) -> Convexity:
    places = np.linspace(0, 1, _PLACES).reshape(-1, *[1] * (ends.ndim - 2))
    curves, found = [], []
    for a, b in ends:
        values = np.array([_number(f(x)) for x in a + places * (b - a)])
        if not np.isfinite(values).all():
            raise OptionError(
                f"convexity: {name} is not finite",
                got="NaN or infinity on a segment",
                expected="finite values",
                hint="test a smaller box",
            )
        curves.append(values)
        found.append(_worst_chord(values))
    slack = [rounding * np.abs(values).max() for values in curves]
    violates = [e > s for (e, _, _), s in zip(found, slack, strict=True)]
    worst = int(np.argmax([e - s for (e, _, _), s in zip(found, slack, strict=True)]))
    if not any(violates):
        line = np.linspace(0, 1, _PLACES)
        sags = [np.max(v[0] + line * (v[-1] - v[0]) - v) for v in curves]
        lowest = int(np.argmax(sags))
        return Convexity(
            name, len(ends), 0, curves[lowest], (0, _PLACES - 1), found[lowest][0]
        )
    excess, p, q = found[worst]
    return Convexity(name, len(ends), int(sum(violates)), curves[worst], (p, q), excess)


def _number(y: Any) -> float:
    array = np.asarray(y.data if isinstance(y, Tensor) else y, float)
    if array.size != 1:
        raise ShapeError(
            "convexity: takes functions to one number",
            got=f"a value of shape {array.shape}",
            expected="a number",
        )
    return float(array.reshape(()))


def _worst_chord(values: Array) -> tuple[float, int, int]:
    """(excess, p, q): by how much the curve is above which chord, at most."""
    worst = (-np.inf, 0, len(values) - 1)
    for p in range(len(values)):
        for q in range(p + 2, len(values)):
            inside = np.arange(1, q - p) / (q - p)
            chord = values[p] + inside * (values[q] - values[p])
            excess = float((values[p + 1 : q] - chord).max())
            if excess > worst[0]:
                worst = (excess, p, q)
    return worst
