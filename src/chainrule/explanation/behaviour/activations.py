"""Activation functions and their derivatives, one chart each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import ops
from chainrule.core.backward import gradients
from chainrule.core.graph import Tensor, assign
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.picture import GRADIENT, INK, VALUE, Picture, chart
from chainrule.nn import GELU, Maxout, Module
from chainrule.nn.activations import ACTIVATIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ActivationFunctions", "activation_functions"]

Array = np.ndarray[Any, Any]

_FLAT = 0.02
"""A slope that passes next to nothing on."""


@dataclass(frozen=True)
class ActivationFunctions(Picture):
    """Values and derivatives of activation functions.

    Attributes:
        x: where, (places).
        values, slopes: by name, f(x) and f′(x), (places).
    """

    x: Array
    values: Mapping[str, Array]
    slopes: Mapping[str, Array]

    def __str__(self) -> str:
        width = max(map(len, self.values))
        ends = (self.x[0], 0.0, self.x[-1])
        head = "".join(f"{f'slope at {_short(x)}':>13}" for x in ends)
        rows = [f"{'':<{width}}{head}  largest  where it is flat"]
        for name, slope in self.slopes.items():
            cells = "".join(
                f"{_short(float(np.interp(x, self.x, slope))):>13}" for x in ends
            )
            rows.append(
                f"{name:<{width}}{cells}{_short(float(slope.max())):>9}  "
                + self._flat(slope)
            )
        return "\n".join(rows)

    def _flat(self, slope: Array) -> str:
        """On which side the function has (almost) no slope."""
        left, right = abs(slope[0]) < _FLAT, abs(slope[-1]) < _FLAT
        return {
            (True, True): "on both sides",
            (True, False): "on the left",
            (False, True): "on the right",
            (False, False): "nowhere",
        }[bool(left), bool(right)]

    def figure(self) -> Figure:
        num = len(self.values)
        columns = min(num + 1, 5)
        figure, axes = chart(-(-(num + 1) // columns), columns, size=(1.85, 1.75))
        for place, (name, value) in zip(axes.flat, self.values.items(), strict=False):
            slope = self.slopes[name].copy()
            # A kink's slope leaps: no line joins its two sides.
            slope[1:][np.abs(np.diff(slope)) > 0.2] = np.nan
            place.plot(self.x, value, color=VALUE, lw=2)
            place.plot(self.x, slope, "--", color=GRADIENT, lw=1.6)
            place.axhline(0, color=INK, lw=0.6)
            place.axvline(0, color=INK, lw=0.6)
            place.set_ylim(-1.6, 2.6)
            place.set_title(name, size=9)
            place.tick_params(labelsize=8)
        rest = list(axes.flat[num:])
        for unused in rest:
            unused.set_axis_off()
        rest[0].plot([], [], color=VALUE, lw=2, label="f(x)")
        rest[0].plot([], [], "--", color=GRADIENT, lw=1.6, label="f′(x)")
        rest[0].legend(loc="center", fontsize=10, frameon=False)
        return figure


def activation_functions(
    functions: Mapping[str, Module] | None = None,
    *,
    reach: float = 4.0,
    num: int = 201,
) -> ActivationFunctions:
    """Activation functions with their derivatives by automatic differentiation.

    Functions of a whole vector are shown in its first component, the others 0: softmax
    is that of (x, 0). Maxout is max(x, -x/2).

    Args:
        functions: layers by name; all of ``nn.activation``, maxout and both forms of
            GELU unless given.
        reach: from -reach to reach.
        num: places; an odd number has 0 among them.

    Raises:
        OptionError: for no functions, a reach not above 0 or fewer than three places.
        ShapeError: for a layer that changes the number of components.

    Example:
        >>> from chainrule import nn
        >>> print(activation_functions({"relu": nn.ReLU()}))
              slope at −4   slope at 0   slope at 4  largest  where it is flat
        relu            0            0            1        1  on the left

    Source: aarhus, "Examples of activation functions"; yonsei, "Activation functions".
    ReLU′(0) is 0 here; stanford says 1.
    """
    layers = _all() if functions is None else dict(functions)
    if not layers or not reach > 0 or num < 3:
        raise OptionError(
            "activation_functions: nothing to show",
            got=f"{len(layers)} functions, reach {reach:g}, {num} places",
            expected="one function, a reach above 0, three places or more",
        )
    places = np.linspace(-reach, reach, num)
    values, slopes = {}, {}
    for name, layer in layers.items():
        x = Tensor(np.stack([places, np.zeros(num)], axis=1), requires_grad=True)
        y = layer(x)
        if y.shape != x.shape:
            raise ShapeError(
                f"activation_functions: {name} is not one",
                got=f"{x.shape} became {y.shape}",
                expected="a layer that keeps the shape",
            )
        first = ops.index(y, (slice(None), 0))
        values[name] = first.data
        slopes[name] = gradients(ops.sum(first), [x])[0].data[:, 0]
    return ActivationFunctions(places, values, slopes)


def _all() -> dict[str, Module]:
    """Every activation by its name, and the lectures' further ones."""
    layers = {name: make() for name, make in ACTIVATIONS.items()}
    pieces = Maxout(2, 2).astype("float64")
    assign(pieces.weight, [[1.0, 0.0, -0.5, 0.0], [0.0, 1.0, 0.0, -0.5]])
    for layer in layers.values():
        if list(layer.parameters()):
            layer.astype("float64")
    return {**layers, "gelu ≈ x·σ(1.702x)": GELU("sigmoid"), "maxout": pieces}


def _short(value: float) -> str:
    return f"{value + 0.0:.3g}".replace("-", "−")
