"""What is left of a deep network without activation functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import nn
from chainrule.explanation.behaviour.panels import Panel
from chainrule.explanation.behaviour.plane import outputs
from chainrule.explanation.picture import GRADIENT, VALUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Collapse", "collapse"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Collapse(Panel):
    """A deep network without activation beside the one linear map that it is.

    Attributes:
        weight, bias: of that map, (in, out) and (out).
        difference: the largest difference of both, over random examples.
        line: places t on a random line of inputs.
        flat, bent: the first output there, without and with ReLU between the layers.
        num_layers: of the network.
    """

    weight: Array
    bias: Array
    difference: float
    line: Array
    flat: Array
    bent: Array
    num_layers: int

    def __str__(self) -> str:
        return (
            f"{self.num_layers} dense layers without activation are one, x @ W + b "
            f"with W of shape {self.weight.shape}: their outputs differ by at most "
            f"{self.difference:.1e}. With ReLU between them they bend: along a line "
            f"the output departs from a straight one by {self._bend(self.bent):.3g}, "
            f"without it by {self._bend(self.flat):.1e}"
        )

    def _bend(self, values: Array) -> float:
        """The largest distance from the best straight line."""
        line = np.polynomial.Polynomial.fit(self.line, values, 1)
        return float(np.abs(values - line(self.line)).max())

    def draw(self, axes: Axes) -> None:
        axes.plot(self.line, self.bent, color=VALUE, lw=2, label="with ReLU")
        axes.plot(self.line, self.flat, "--", color=GRADIENT, lw=2,
                  label="no activation")  # fmt: skip
        axes.set_xlabel("place on a line of inputs")
        axes.set_ylabel("output")
        axes.legend(fontsize=9, frameon=False)


def collapse(
    in_features: int = 6,
    hidden: tuple[int, ...] = (5, 4),
    out: int = 3,
    *,
    seed: int = 0,
) -> Collapse:
    """Show that layers without activation are one linear map.

    W = W₁W₂W₃ and b = (b₁W₂ + b₂)W₃ + b₃ for rows, as here; (W₂W₁)x + (W₂b₁ + b₂) for
    columns, where the lecture misprints (W₁W₂)x.

    Args:
        in_features, hidden, out: sizes of the network.
        seed: of its weights and biases.

    Raises:
        OptionError: for a size below 1.

    Example:
        >>> collapse().difference < 1e-12
        True

    Source: yonsei, "What happens if we build a neural network with no activation
    function?".
    """
    rng = np.random.default_rng(seed)
    sizes = (in_features, *hidden, out)
    linear, bent = (
        nn.mlp(in_features, hidden, out, activation=kind).astype("float64")
        for kind in ("identity", "relu")
    )
    weight, bias = np.eye(in_features), np.zeros(in_features)
    state: dict[str, Array] = {}
    names = [f"hidden{k}" for k in range(1, len(sizes) - 1)] + ["output"]
    for name, a, b in zip(names, sizes, sizes[1:], strict=False):
        w, c = rng.normal(size=(a, b)) / a**0.5, rng.normal(size=b)
        weight, bias = weight @ w, bias @ w + c
        state |= {f"{name}.weight": w, f"{name}.bias": c}
    linear.load_state(state)
    bent.load_state(state)
    x = rng.normal(size=(100, in_features))
    line = np.linspace(-4, 4, 201)
    places = line[:, None] * rng.normal(size=in_features)
    return Collapse(
        weight, bias,
        float(np.abs(outputs(linear, x) - (x @ weight + bias)).max()),
        line, outputs(linear, places)[:, 0], outputs(bent, places)[:, 0], len(names),
    )  # fmt: skip
