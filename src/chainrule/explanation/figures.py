"""The lectures' figures by name, each made from its numbers when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from chainrule import data, nn, ops
from chainrule.autodiff import difference_table
from chainrule.autodiff.numerical import DifferenceTable
from chainrule.core.graph import Tensor
from chainrule.core.trace import Graph
from chainrule.errors import OptionError
from chainrule.explanation import behaviour
from chainrule.explanation.picture import Picture, chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

__all__ = ["FIGURES", "Figure", "descriptions", "figure"]

Array = np.ndarray[Any, Any]


class Figure(Protocol):
    """What a figure can do: say what it shows, and be written as a picture."""

    def __str__(self) -> str: ...

    def save(self, path: str | os.PathLike[str], /) -> None: ...


FIGURES: dict[str, Callable[[], Figure]] = {}
"""Figures by name; the first line of each function's docstring says what it shows."""


def figure(name: str) -> Figure:
    """A figure of the lectures, computed now.

    Raises:
        OptionError: for an unknown name, with all there are.

    Example:
        >>> print(figure("hyperplane"))
        unit 1: x₂ = −x₁ + 3; above 0 on the side of w = (1, 1); 2.121 from the
        origin, which is below 0
    """
    if name not in FIGURES:
        raise OptionError.unknown("figure", name, FIGURES)
    return FIGURES[name]()


def descriptions() -> dict[str, str]:
    """What each figure shows, by name."""
    return {
        name: str(make.__doc__).splitlines()[0].rstrip(".")
        for name, make in FIGURES.items()
    }


@dataclass(frozen=True)
class _Printed(Picture):
    """A table as a picture of itself."""

    words: str

    def __str__(self) -> str:
        return self.words

    def figure(self) -> MatplotlibFigure:
        rows = self.words.splitlines()
        size = (0.105 * max(map(len, rows)), 0.22 * len(rows))
        figure, axes = chart(size=size)
        axes[0, 0].set_axis_off()
        axes[0, 0].text(0, 1, self.words, family="monospace", size=11, va="top")
        return figure


def _figure(name: str) -> Callable[[Callable[[], Figure]], Callable[[], Figure]]:
    def enter(make: Callable[[], Figure]) -> Callable[[], Figure]:
        FIGURES[name] = make
        return make

    return enter


# ------------------------------------------------------------- derivatives and graphs


def _circuit(f: Callable[..., Any], **inputs: Any) -> Figure:
    """A graph with its values and gradients, drawn."""
    from chainrule.explanation.drawing import draw

    graph = Graph(f, **inputs)
    graph.backward()
    return draw(graph)


@_figure("x-plus-y-times-z")
def _x_plus_y_times_z() -> Figure:
    """f = (x + y)·z, values forward and gradients backward."""
    return _circuit(lambda x, y, z: (x + y) * z, x=-2.0, y=5.0, z=-4.0)


@_figure("two-weights")
def _two_weights() -> Figure:
    """L = ½(w₂·relu(w₁x) − y)²: ∂L/∂w₁ = 5 · 1 · 2 · 8 = 80."""

    def loss(w1: Any, x: Any, w2: Any, y: Any) -> Any:
        return 0.5 * (w2 * ops.relu(w1 * x) - y) ** 2

    return _circuit(loss, w1=3.0, x=5.0, w2=2.0, y=22.0)


@_figure("sigmoid-neuron")
def _sigmoid_neuron() -> Figure:
    """1/(1 + e^−(w₀x₀ + w₁x₁ + w₂)) in small gates."""

    def neuron(w0: Any, x0: Any, w1: Any, x1: Any, w2: Any) -> Any:
        return 1.0 / (ops.exp(-(w0 * x0 + w1 * x1 + w2)) + 1.0)

    return _circuit(neuron, w0=2.0, x0=-1.0, w1=-3.0, x1=-2.0, w2=-3.0)


@_figure("squared-norm")
def _squared_norm() -> Figure:
    """‖Wx‖², whose gradients are 2q·xᵀ and 2Wᵀq."""
    w, x = np.array([[0.1, 0.5], [-0.3, 0.8]]), np.array([0.2, 0.4])
    return _circuit(lambda W, x: ((W @ x) ** 2).sum(), W=w, x=x)


@_figure("gate-by-gate")
def _gate_by_gate() -> Figure:
    """f = (x + y)·z, forward and backward one gate at a time."""
    from chainrule.explanation.drawing import draw_frames

    return draw_frames(Graph(lambda x, y, z: (x + y) * z, x=-2.0, y=5.0, z=-4.0))


@_figure("w-plus-h")
def _w_plus_h() -> Figure:
    """The lecture's W + h table, and a live one."""
    h, w = 0.0001, [0.34, -1.11, 0.78]
    names = [f"W[{k}]" for k in range(3)]
    printed = DifferenceTable(1.25347, h, names, w, [1.25322, 1.25353, 1.25347])
    x, target = Tensor([1.0, -0.5, 2.0]), np.array([0])

    def loss(w: Tensor) -> Tensor:
        return nn.sigmoid_cross_entropy(ops.sum(x * w, axis=0, keepdims=True), target)

    live = difference_table(loss, np.array(w), h)
    parts = ["The lecture's numbers", printed, "", "A logistic loss, live", live]
    return _Printed("\n".join(map(str, parts)))


@_figure("three-derivatives")
def _three_derivatives() -> Figure:
    """Three ways to a derivative, and the error by the step h."""
    from chainrule.explanation.equations import derivatives

    return derivatives(lambda x: ops.sin(x) * ops.exp(x), at=1.0)


# ----------------------------------------------------------------------------- models


@_figure("perceptron")
def _perceptron() -> Figure:
    """A perceptron and a logistic unit while a weight changes."""
    return behaviour.unit_response()


@_figure("hyperplane")
def _hyperplane() -> Figure:
    """The line of a unit with w = (1, 1), b = −3."""
    return behaviour.hyperplanes([1.0, 1.0], -3.0)


@_figure("logistic-units")
def _logistic_units() -> Figure:
    """Three logistic units, and how a fourth combines them."""
    return behaviour.combined_units()


@_figure("collapse")
def _collapse() -> Figure:
    """Layers without activation are one linear map."""
    return behaviour.collapse()


@_figure("activations")
def _activations() -> Figure:
    """Activation functions and their derivatives."""
    return behaviour.activation_functions()


@_figure("convolution")
def _convolution() -> Figure:
    """A 3×3 filter over 5×5 places, place by place."""
    from chainrule.explanation.drawing import draw_convolution

    return draw_convolution(5, 3, stride=2, padding=1)


@_figure("transposed-convolution")
def _transposed_convolution() -> Figure:
    """A transposed convolution, place by place."""
    from chainrule.explanation.drawing import draw_convolution

    return draw_convolution(3, 3, stride=2, transposed=True)


def _wave(x: Array) -> Any:
    return np.sin(2 * np.pi * x[:, 0]) + 0.5 * x[:, 0]


def _hills(x: Array) -> Any:
    return np.sin(2 * np.pi * x[:, 0]) * np.cos(np.pi * x[:, 1])


_SQUARE = ((0.0, 1.0), (0.0, 1.0))


@_figure("towers")
def _towers() -> Figure:
    """Towers of sigmoids, a trained net and a neighbour."""
    return behaviour.approximation(_wave, "towers", (2, 4, 8, 16))


@_figure("bumps")
def _bumps() -> Figure:
    """Bumps of four ReLUs, a trained net and a neighbour."""
    return behaviour.approximation(_wave, "bumps", (2, 4, 8, 16))


@_figure("towers-2d")
def _towers_2d() -> Figure:
    """Towers for a function of two numbers."""
    return behaviour.approximation(_hills, "towers", (2, 4, 8), _SQUARE)


@_figure("bumps-2d")
def _bumps_2d() -> Figure:
    """Bumps for a function of two numbers."""
    return behaviour.approximation(_hills, "bumps", (2, 4, 8), _SQUARE)


@_figure("space-warping")
def _space_warping() -> Figure:
    """h = Wx turns the plane, h = ReLU(Wx) folds it."""
    points, classes = behaviour.corner()
    network = nn.Sequential(
        behaviour.dense([[1.0, -1.0], [1.0, 1.0]], 0.0),
        nn.ReLU(),
        behaviour.dense([[1.0], [1.0]], -1.0),
    )
    names = ("x", "h = Wx", "h = max(0, Wx)")
    return behaviour.space_warping(network, points, classes, names=names)


@_figure("feature-transform")
def _feature_transform() -> Figure:
    """Radius and angle as features: a line there is a ring here."""
    points, classes = behaviour.rings()

    def polar(x: Array) -> Array:
        return np.stack([np.hypot(x[:, 0], x[:, 1]), np.arctan2(x[:, 1], x[:, 0])], 1)

    line = nn.Dense(2, 1, initializer="zeros").astype("float64")
    features = polar(points)

    def objective() -> Any:
        return nn.sigmoid_cross_entropy(line(features).reshape(-1), classes)

    behaviour.descend(line, objective, 300, "adam", lr=0.1)
    names = ("x", "h = (radius, angle)")
    return behaviour.space_warping([polar, line], points, classes, names=names)


# --------------------------------------------------------------------------- learning


@_figure("step-size")
def _step_size() -> Figure:
    """Steps that are too low, good, high, and too high."""
    return behaviour.step_sizes()


@_figure("update-rules")
def _update_rules() -> Figure:
    """Every update rule's way through the same valley."""
    return behaviour.update_rules()


@_figure("l2-width-grid")
def _l2_width_grid() -> Figure:
    """Decision boundaries by hidden units and strength of L2."""
    return behaviour.capacity_grid()


@_figure("overfitting")
def _overfitting() -> Figure:
    """Training and validation loss on few noisy digits."""
    digits = data.load("digits").train
    x = digits.read(np.arange(620)).astype(np.float32).reshape(620, -1) / 255
    y = digits.targets[:620].copy()
    y[:30] = np.random.default_rng(0).integers(0, 10, 30)
    model = nn.mlp(64, (64,), 10).initialize(0)
    return behaviour.overfitting(
        model, (x[:120], y[:120]), (x[120:], y[120:]), num_steps=150
    )


@_figure("saturation")
def _saturation() -> Figure:
    """A saturated unit learns slowly, unless the loss helps."""
    return behaviour.saturated_unit()


@_figure("saturated-layers")
def _saturated_layers() -> Figure:
    """What tanh layers put out if weights are too large."""
    rule = nn.Normal(std=6 / 32**0.5)
    layers = {
        f"{kind}{k}": layer
        for k in range(1, 5)
        for kind, layer in (
            ("dense", nn.Dense(32, 32, initializer=rule)),
            ("tanh", nn.Tanh()),
        )
    }
    x = np.random.default_rng(0).normal(size=(200, 32)).astype(np.float32)
    return behaviour.saturation(nn.Sequential(**layers).initialize(0), x)


@_figure("vanishing-gradients")
def _vanishing_gradients() -> Figure:
    """Gradients by layer and depth: sigmoids and their cures."""
    return behaviour.vanishing_gradients()


@_figure("convexity")
def _convexity() -> Figure:
    """x² and cos x; a linear classifier's loss and a network's."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)), rng.integers(0, 3, 40)

    def tested(model: nn.Module, name: str) -> behaviour.Convexity:
        model = model.astype("float64")
        return behaviour.loss_convexity(
            model, lambda: nn.softmax_cross_entropy(model(x), y), name=name
        )

    return behaviour.Panels(
        [
            behaviour.convexity(lambda t: t * t, -6, 6, name="x²"),
            behaviour.convexity(np.cos, -6, 6, name="cos x"),
            tested(nn.linear(4, 3), "linear classifier's loss"),
            tested(nn.mlp(4, (6,), 3), "network's loss"),
        ]
    )


def _on_moons(seed: int) -> tuple[nn.Module, Callable[[], Tensor], Array]:
    """A small network trained on two moons, its objective, and its way."""
    points, classes = behaviour.moons(80, 0.2)
    model = nn.mlp(2, (12,), 1, activation="tanh").initialize(seed)

    def objective() -> Tensor:
        return nn.sigmoid_cross_entropy(model(points).reshape(-1), classes)

    found = behaviour.descend(model, objective, 250, "momentum", lr=0.3, keep_path=True)
    return model, objective, found.path


@_figure("loss-line")
def _loss_line() -> Figure:
    """The loss straight from one trained network to another."""
    model, objective, path = _on_moons(0)
    end = _on_moons(1)[2][-1]
    names = ("one network", "another")
    return behaviour.loss_along_line(model, objective, end, path[-1], names=names)


@_figure("loss-surface")
def _loss_surface() -> Figure:
    """The loss around a trained network, and the way there."""
    model, objective, path = _on_moons(0)
    return behaviour.Panels(
        [
            behaviour.loss_on_plane(model, objective),
            behaviour.loss_on_plane(model, objective, path, directions="pca"),
        ]
    )
