"""Saturation: where an activation is flat, and units that have stopped learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import nn, ops
from chainrule.core.backward import gradients
from chainrule.core.graph import Parameter, Tensor, no_grad
from chainrule.errors import OptionError
from chainrule.explanation.behaviour.descent import descend
from chainrule.explanation.picture import GRADIENT, INK, VALUE, Picture, chart
from chainrule.explanation.saturation import is_flat, is_saturated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SaturatedUnit", "Saturation", "saturated_unit", "saturation"]

Array = np.ndarray[Any, Any]

# By layer: which outputs lie where it passes (almost) no gradient on, and in words.
_FLAT: dict[type[nn.Module], tuple[Callable[[Array], Array], str]] = {
    nn.Sigmoid: (partial(is_saturated, "sigmoid"), "saturated, near 0 or 1"),
    nn.Tanh: (partial(is_saturated, "tanh"), "saturated, near −1 or 1"),
    nn.ReLU: (lambda y: y <= 0, "0"),
}


@dataclass(frozen=True)
class Saturation(Picture):
    """What each activation layer puts out, and how much of it lies where it is flat.

    Attributes:
        paths: of the layers, from the input on.
        outputs: of each, for all examples and units, flat.
        shares: the share of them where the layer passes (almost) no gradient, (layers).
        dead: the share of units that are flat for every example, (layers).
        meanings: what counts as flat in each layer.
    """

    paths: tuple[str, ...]
    outputs: tuple[Array, ...]
    shares: Array
    dead: Array
    meanings: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            f"{path}: {share:.0%} of outputs are {meaning}; {dead:.0%} of units are "
            "so for every example"
            for path, share, dead, meaning in zip(
                self.paths, self.shares, self.dead, self.meanings, strict=True
            )
        )

    def figure(self) -> Figure:
        num = len(self.paths)
        columns = min(num, 4)
        figure, axes = chart(-(-num // columns), columns, size=(2.3, 2.3))
        for place, path, values, share in zip(
            axes.flat, self.paths, self.outputs, self.shares, strict=False
        ):
            place.hist(values, bins=30, color=VALUE, edgecolor="white", lw=0.3)
            place.set_title(f"{path}\n{share:.0%} where it is flat", size=9)
            place.set_yticks([])
            place.tick_params(labelsize=8)
        for unused in axes.flat[num:]:
            unused.set_visible(False)
        return figure


def saturation(model: nn.Module, inputs: Any) -> Saturation:
    """Look at every sigmoid, tanh and ReLU of a model: how much of it is saturated?

    Args:
        model: run as it is, in its present mode.
        inputs: examples.

    Raises:
        OptionError: for a model without such layers.

    Example:
        >>> from chainrule import nn
        >>> found = saturation(nn.Sequential(nn.Sigmoid()), [[0.0, 9.0], [1.0, -9.0]])
        >>> print(found)
        0: 50% of outputs are saturated, near 0 or 1; 50% of units are so for every
        example

    Source: aarhus, "Saturation".
    """
    names = {id(module): path for path, module in model.named_modules()}
    seen: list[tuple[str, type[nn.Module], Array]] = []

    def note(module: nn.Module, y: Tensor) -> None:
        if type(module) in _FLAT:
            path = names.get(id(module)) or type(module).__name__
            seen.append((path, type(module), y.numpy()))

    with no_grad(), nn.observe(note):
        model(inputs)
    if not seen:
        raise OptionError(
            "saturation: nothing here can saturate",
            got="a model without sigmoid, tanh or ReLU layers",
            expected="one of them, as a layer",
        )
    flat = [_FLAT[kind][0](y) for _, kind, y in seen]
    return Saturation(
        tuple(path for path, _, _ in seen),
        tuple(y.ravel() for _, _, y in seen),
        np.array([f.mean() for f in flat]),
        np.array([f.reshape(-1, f.shape[-1]).all(axis=0).mean() for f in flat]),
        tuple(_FLAT[kind][1] for _, kind, _ in seen),
    )


@dataclass(frozen=True)
class SaturatedUnit(Picture):
    """One logistic unit far on the wrong side, under two losses.

    Attributes:
        z: where σ and its slope were computed, (places).
        values, slopes: σ(z) and σ′(z).
        squared, entropy: the gradients ∂L/∂z of ½(σ(z) - 0)² and of the cross-entropy.
        start: the z at which learning began.
        learning: for each loss, σ(z) after each step, (steps + 1).
    """

    z: Array
    values: Array
    slopes: Array
    squared: Array
    entropy: Array
    start: float
    learning: tuple[Array, Array]

    def __str__(self) -> str:
        at = [
            float(np.interp(self.start, self.z, y))
            for y in (self.values, self.slopes, self.squared, self.entropy)
        ]
        ends = [float(h[-1]) for h in self.learning]
        return (
            f"at z = {self.start:g} the unit says {at[0]:.4f} and should say 0; its "
            f"slope is {at[1]:.4f}, at z = 0 it is 0.25\n"
            f"gradient of the squared error: {at[2]:.4f}, so after "
            f"{len(self.learning[0]) - 1} steps it still says {ends[0]:.4f}\n"
            f"gradient of the cross-entropy, h − y: {at[3]:.4f}, so it says "
            f"{ends[1]:.4f}"
        )

    def figure(self) -> Figure:
        figure, axes = chart(1, 3, size=(3.0, 3.1))
        flat = is_flat("sigmoid", self.slopes)
        for side in (self.z < 0, self.z > 0):
            z = self.z[flat & side]
            if len(z):
                axes[0, 0].axvspan(
                    z[0], z[-1], fc="#e6e7e9", hatch="//", ec="white", lw=0
                )
        axes[0, 0].plot(self.z, self.values, color=VALUE, lw=2, label="σ(z)")
        axes[0, 0].plot(
            self.z, self.slopes, "--", color=GRADIENT, lw=1.6, label="σ′(z)"
        )
        axes[0, 0].set_title("saturated where hatched", size=10)
        axes[0, 1].plot(self.z, self.squared, "--", color=GRADIENT, lw=1.6,
                        label="squared error")  # fmt: skip
        axes[0, 1].plot(self.z, self.entropy, color=VALUE, lw=2, label="cross-entropy")
        axes[0, 1].set_title("∂L/∂z, target 0", size=10)
        for place in axes[0, :2]:
            place.set_xlabel("z")
            place.axvline(self.start, color=INK, lw=0.9, ls=":")
        for h, line, colour, name in zip(
            self.learning, ("--", "-"), (GRADIENT, VALUE),
            ("squared error", "cross-entropy"), strict=True,
        ):  # fmt: skip
            axes[0, 2].plot(h, line, color=colour, lw=1.8, label=name)
        axes[0, 2].set_title(f"output, begun at z = {self.start:g}", size=10)
        axes[0, 2].set_xlabel("step")
        for place in axes.flat:
            place.legend(fontsize=8, frameon=False)
        return figure


class _Unit(nn.Module):
    """σ(z) of a z that is learned."""

    def __init__(self, z: float) -> None:
        self.z = Parameter([float(z)])

    def forward(self) -> Tensor:
        return ops.sigmoid(self.z)


def saturated_unit(
    start: float = 7.0, *, num_steps: int = 60, lr: float = 0.5, reach: float = 10.0
) -> SaturatedUnit:
    """A logistic unit that is far wrong: it hardly learns, unless the loss helps.

    The target is 0. With the squared error the gradient is (h - y)·σ′(z), which
    saturation makes small; with the cross-entropy it is h - y.

    Args:
        start: the z at which it begins; far above 0 it is saturated on the wrong side.
        num_steps, lr: of gradient descent.
        reach: σ is shown from -reach to reach.

    Raises:
        OptionError: for a start outside the reach.

    Example:
        >>> print(saturated_unit())
        at z = 7 the unit says 0.9991 and should say 0; its slope is 0.0009, at z = 0
        it is 0.25
        gradient of the squared error: 0.0009, so after 60 steps it still says 0.9991
        gradient of the cross-entropy, h − y: 0.9991, so it says 0.0460

    Source: aarhus, "Saturation": "the parameter has stopped learning (or is learning
    slowly)".
    """
    if not -reach < start < reach:
        raise OptionError(
            "saturated_unit: the start is out of sight",
            got=f"{start:g}",
            expected=f"between {-reach:g} and {reach:g}",
        )
    z = Tensor(np.linspace(-reach, reach, 321), requires_grad=True)
    h = ops.sigmoid(z)
    target = np.zeros(z.shape)
    squared = nn.squared_error(h, target, reduction="sum") * 0.5
    entropy = nn.sigmoid_cross_entropy(z, target, reduction="sum")
    slopes, by_square, by_entropy = (
        gradients(y, [z])[0].data for y in (ops.sum(h), squared, entropy)
    )

    def learned(loss: Callable[[_Unit], Tensor]) -> Array:
        unit = _Unit(start)
        seen = [unit().item()]
        descend(
            unit, lambda: loss(unit), num_steps, lr=lr,
            after_step=lambda: seen.append(unit().item()),
        )  # fmt: skip
        return np.array(seen)

    return SaturatedUnit(
        z.data, h.data, slopes, by_square, by_entropy, start,
        (
            learned(lambda unit: (unit() ** 2).sum() * 0.5),
            learned(lambda unit: nn.sigmoid_cross_entropy(unit.z, np.zeros(1))),
        ),
    )  # fmt: skip
