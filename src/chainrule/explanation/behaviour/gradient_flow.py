"""How much of the gradient arrives at each layer, and how it vanishes with depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import nn
from chainrule.core.backward import gradients
from chainrule.core.graph import Tensor
from chainrule.core.rng import generator
from chainrule.errors import OptionError
from chainrule.explanation.behaviour.panels import Panel
from chainrule.explanation.picture import GRADIENT, INK, VALUE, Picture, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "LayerGradients",
    "VanishingGradients",
    "layer_gradients",
    "vanishing_gradients",
]

Array = np.ndarray[Any, Any]

# sigmoid and tanh saturate, the others are the lecture's cures.
_KINDS = {
    "sigmoid": (GRADIENT, "-", "o"),
    "tanh": (GRADIENT, "--", "s"),
    "relu": (VALUE, "-", "^"),
    "sigmoid, shortcuts": (VALUE, "--", "D"),
    "sigmoid, batch norm": (VALUE, "-.", "v"),
}


@dataclass(frozen=True)
class LayerGradients(Panel):
    """The mean size of ∂L/∂W in each layer of a model.

    Attributes:
        paths: of the weights, from the input on.
        sizes: the mean of abs(∂L/∂W) of each, (layers).
    """

    paths: tuple[str, ...]
    sizes: Array

    @property
    def ratio(self) -> float:
        """The first layer's gradient over the last one's."""
        return float(self.sizes[0] / self.sizes[-1])

    def __str__(self) -> str:
        width = max(map(len, self.paths))
        rows = [
            f"{path:<{width}}  {size:.2e}"
            for path, size in zip(self.paths, self.sizes, strict=True)
        ]
        return "\n".join([f"{'mean |∂L/∂W| of':<{width}}", *rows])

    def draw(self, axes: Axes) -> None:
        axes.semilogy(
            range(1, len(self.sizes) + 1), self.sizes, "o-", color=GRADIENT, lw=1.8
        )
        axes.set_xlabel("layer, from the input")
        axes.set_ylabel("mean |∂L/∂W|")


def layer_gradients(model: nn.Module, loss: Tensor) -> LayerGradients:
    """How large the gradient of a loss is in each layer's weights.

    Args:
        model: whose weights are looked at: parameters that are penalised, which leaves
            out biases and a normalisation's scales.
        loss: made by the model.

    Raises:
        OptionError: for a model without weights.

    Example:
        >>> from chainrule import nn
        >>> model = nn.mlp(4, (8, 8), 3, activation="sigmoid").initialize(0)
        >>> x = [[1.0, 2.0, 3.0, 4.0]]
        >>> found = layer_gradients(model, nn.softmax_cross_entropy(model(x), [0]))
        >>> found.paths
        ('hidden1.weight', 'hidden2.weight', 'output.weight')

    Source: aarhus, "Vanishing gradient problem".
    """
    weights = [(p, w) for p, w in model.named_parameters() if w.is_penalized]
    if not weights:
        raise OptionError(
            "layer_gradients: no weights",
            got=f"{model.num_parameters()} parameters, none of them a weight",
            expected="a model with layers that multiply",
        )
    found = gradients(loss, [w for _, w in weights])
    sizes = np.array([np.abs(g.data).mean() for g in found], float)
    return LayerGradients(tuple(path for path, _ in weights), sizes)


@dataclass(frozen=True)
class VanishingGradients(Picture):
    """Gradients by layer in a deep net, and in the first layer by depth.

    Attributes:
        by_layer: by kind of network, the mean size of ∂L/∂W in each hidden layer of
            the deepest one, (layers).
        depths: numbers of hidden layers.
        by_depth: by kind, the first layer's at each depth, (depths).
    """

    by_layer: Mapping[str, Array]
    depths: tuple[int, ...]
    by_depth: Mapping[str, Array]

    def __str__(self) -> str:
        width = max(map(len, self.by_layer))
        rows = [
            f"{'mean |∂L/∂W|':<{width}}  {'first layer':>11}  {'last hidden':>11}  "
            "each layer back multiplies by"
        ]
        for name, sizes in self.by_layer.items():
            factor = (sizes[0] / sizes[-1]) ** (1 / max(len(sizes) - 1, 1))
            rows.append(
                f"{name:<{width}}  {sizes[0]:>11.1e}  {sizes[-1]:>11.1e}  {factor:.2f}"
            )
        return "\n".join(rows)

    def figure(self) -> Figure:
        figure, axes = chart(1, 2, size=(4.4, 3.7))
        deepest = len(next(iter(self.by_layer.values())))
        for place, series, x in (
            (axes[0, 0], self.by_layer, range(1, deepest + 1)),
            (axes[0, 1], self.by_depth, self.depths),
        ):
            for name, sizes in series.items():
                colour, line, marker = _KINDS[name]
                place.semilogy(
                    x, sizes, line, marker=marker, color=colour, lw=1.6, ms=4.5,
                    label=name,
                )  # fmt: skip
            place.set_ylabel("mean |∂L/∂W|")
        axes[0, 0].set_title(f"by layer, {deepest} hidden layers", size=10)
        axes[0, 0].set_xlabel("layer, from the input")
        axes[0, 1].set_title("first layer, by depth", size=10)
        axes[0, 1].set_xlabel("hidden layers")
        axes[0, 1].axhline(0, color=INK, lw=0)
        axes[0, 0].legend(fontsize=8, frameon=False)
        return figure


def vanishing_gradients(
    depths: Sequence[int] = (1, 2, 4, 6, 8, 10),
    *,
    width: int = 32,
    kinds: Sequence[str] = tuple(_KINDS),
    seed: int = 0,
) -> VanishingGradients:
    """Measure how the gradient shrinks on its way back, and what cures it.

    Networks of equal layers at their first weights see 64 random examples of 10
    classes. Dense layers begin by Glorot's rule, before ReLU by He's. "shortcuts" adds
    each layer's input to its output, "batch norm" normalises before the activation.

    Args:
        depths: numbers of hidden layers; the largest is also shown layer by layer.
        width: units of each.
        kinds: which networks: sigmoid, tanh, relu, "sigmoid, shortcuts" and "sigmoid,
            batch norm".
        seed: of examples and weights.

    Raises:
        OptionError: for an unknown kind, or without depths of 1 or more.

    Source: aarhus, "Vanishing gradient problem" and "Solutions to vanishing gradient
    problem".
    """
    if not depths or min(depths) < 1:
        raise OptionError(
            "vanishing_gradients: depths", got=list(depths), expected="1 or more each"
        )
    for kind in kinds:
        if kind not in _KINDS:
            raise OptionError.unknown("kind of network", kind, _KINDS)
    rng = generator(seed, "vanishing gradients")
    x = rng.normal(size=(64, width)).astype(np.float32)
    labels = rng.integers(0, 10, 64)

    def sizes(kind: str, depth: int) -> Array:
        model = _deep(kind, depth, width).initialize(seed)
        loss = nn.softmax_cross_entropy(model(x), labels)
        return layer_gradients(model, loss).sizes[:-1]

    return VanishingGradients(
        {kind: sizes(kind, max(depths)) for kind in kinds},
        tuple(depths),
        {kind: np.array([sizes(kind, d)[0] for d in depths]) for kind in kinds},
    )


def _deep(kind: str, depth: int, width: int) -> nn.Sequential:
    name, _, cure = kind.partition(", ")
    rule = "he_normal" if name == "relu" else "glorot_uniform"

    def layer() -> nn.Module:
        parts: list[nn.Module] = [nn.Dense(width, width, initializer=rule)]
        if cure == "batch norm":
            parts.append(nn.BatchNorm(width))
        parts.append(nn.activation(name))
        body = nn.Sequential(*parts)
        return nn.Residual(body) if cure == "shortcuts" else body

    return nn.Sequential(*(layer() for _ in range(depth)), nn.Dense(width, 10))
