"""What happens at every layer for one example: zeros, saturation, gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.core.backward import gradients
from chainrule.core.graph import Tensor
from chainrule.errors import OptionError
from chainrule.explanation.features.attribution import target_name
from chainrule.explanation.features.layers import (
    Output,
    as_example,
    chosen_output,
    layer_at,
    layer_outputs,
)
from chainrule.explanation.picture import GRADIENT, VALUE, Picture, chart
from chainrule.explanation.saturation import is_saturated
from chainrule.nn.module import Module
from chainrule.nn.summary import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Inside", "LayerState", "look_inside"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LayerState:
    """One layer with one example: what it puts out, and what hangs on that.

    Shapes: output, loss_gradient and output_gradient, each (...,) without batch axis.
    """

    path: str
    layer: str
    output: Array
    loss_gradient: Array
    """∂loss/∂output."""
    output_gradient: Array
    """∂y/∂output of the network's output that is explained."""
    saturated_share: float | None
    """Of a sigmoid's or tanh's units: almost no gradient passes; None for others."""

    @property
    def zero_share(self) -> float:
        return float((self.output == 0).mean())

    @property
    def gradient_norm(self) -> float:
        return float(np.linalg.norm(self.loss_gradient.astype(np.float64)))

    @property
    def contributions(self) -> Array:
        """Gradient × value of each unit, or of all units of a channel: (units,)."""
        each = self.output_gradient.astype(np.float64) * self.output
        found: Array = each.reshape(-1, each.shape[-1]).sum(axis=0)
        return found

    @property
    def units(self) -> list[int]:
        """The units, those that matter most first."""
        found: list[int] = np.argsort(
            -np.abs(self.contributions), kind="stable"
        ).tolist()
        return found

    @property
    def largest_gradient(self) -> tuple[int, ...]:
        """Where ∂loss/∂output is largest."""
        at = np.abs(self.loss_gradient).argmax()
        return tuple(map(int, np.unravel_index(at, self.loss_gradient.shape)))

    def told(self) -> str:
        """Zeros, saturation and gradient in words."""
        told = f"{100 * self.zero_share:.0f} % zero"
        if self.saturated_share is not None:
            told += f", {100 * self.saturated_share:.0f} % saturated"
        return f"{told}, gradient {self.gradient_norm:.3g}"


@dataclass(frozen=True)
class Inside(Picture):
    """Every layer of a network with one example, in the order in which they ran."""

    loss: Tensor
    """With its history, so that it can be explained further."""
    outputs: dict[str, Tensor]
    """Of every layer, blocks of layers included, by path: nodes of that history."""
    layers: tuple[LayerState, ...]
    target: str
    """The output that is explained, in words."""
    index: tuple[int, ...]
    score: float

    def at(self, path: str) -> LayerState:
        """The layer of a path; raises OptionError for one that is not listed."""
        for layer in self.layers:
            if layer.path == path:
                return layer
        raise OptionError.unknown("layer", path, [row.path for row in self.layers])

    def __str__(self) -> str:
        rows = [("path", "output", "zero", "saturated", "gradient")]
        for row in self.layers:
            shape = "×".join(map(str, row.output.shape))
            saturated = row.saturated_share
            rows.append(
                (
                    row.path,
                    shape,
                    f"{100 * row.zero_share:.0f} %",
                    "" if saturated is None else f"{100 * saturated:.0f} %",
                    f"{row.gradient_norm:.3g}",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [f"{row[0]:<{widths[0]}}"]
                + [f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True)]
            ).rstrip()
            for row in rows
        ]
        return "\n".join(
            [f"{self.target} is {self.score:.4g}, the loss {self._loss:.4g}", *lines]
        )

    @property
    def _loss(self) -> float:
        return float(self.loss.data)

    def figure(self) -> Figure:
        """The gradient's norm and the share of zeros, layer by layer."""
        names = [row.path.removeprefix("network.") for row in self.layers]
        figure, axes = chart(1, 2, size=(3.6, 1.2 + 0.22 * len(names)))
        left, right = axes.flat
        norms = [row.gradient_norm for row in self.layers]
        places = np.arange(len(names))[::-1]
        left.barh(places, norms, color=GRADIENT, height=0.6)
        if min(norms) > 0 and max(norms) > 30 * min(norms):
            left.set_xscale("log")
        left.set_yticks(places, names, fontsize=8)
        left.set_title("‖∂loss/∂output‖", fontsize=11)
        shares = [100 * row.zero_share for row in self.layers]
        right.barh(places, shares, color=VALUE, height=0.6)
        right.set_yticks(places, [""] * len(names))
        right.set_xlim(0, 100)
        right.set_title("zeros of its output, %", fontsize=11)
        return figure


def look_inside(
    model: Module,
    example: Any,
    loss: Callable[[Tensor], Tensor],
    *,
    output: Output = None,
    layer: str | None = None,
) -> Inside:
    """What every layer puts out for an example, and what the loss and an output owe it.

    Args:
        model: any network.
        example: one input, (h, w, c) or (features,).
        loss: from the network's output, a batch of one, to a number.
        output: which number of the output is explained; None for the largest.
        layer: the path of one layer that is to be told of too, such as a block.

    Raises:
        IndexingError: for an output that is not there.
        OptionError: for a path without a layer, or a layer that does not run.

    Example:
        >>> from chainrule import nn
        >>> net = nn.mlp(3, (4,), 2).initialize(0)
        >>> half_square = lambda y: 0.5 * (y**2).sum()
        >>> print(look_inside(net, [1.0, 2.0, 3.0], half_square))
        output 0 is 0.3779, the loss 1.224
        path         output  zero  saturated  gradient
        flatten           3   0 %                  1.9
        hidden1           4   0 %                 1.67
        activation1       4  50 %                 2.38
        output            2   0 %                 1.56
    """
    x = as_example("look_inside", model, example)
    index, found = chosen_output("look_inside", model, x, output)
    y, outputs = layer_outputs(model, Tensor(x, requires_grad=True))
    listed = {
        row.path: row.layer
        for row in count(model, x.shape[1:], dtype=x.dtype).layers
        if row.path in outputs
    }
    if layer is not None and layer not in listed:
        listed[layer] = type(layer_at(model, layer)).__name__
        if layer not in outputs:
            raise OptionError(
                f"layer {layer} does not run",
                got="no output",
                expected="one of " + ", ".join(outputs),
            )
    paths = list(listed)
    nodes = [outputs[path] for path in paths]
    total = loss(y)
    with np.errstate(all="ignore"):
        by_loss = gradients(total, nodes)
        by_score = gradients(y[(0, *index)], nodes)
    return Inside(
        loss=total,
        outputs=outputs,
        layers=tuple(
            LayerState(
                path=path,
                layer=listed[path],
                output=node.data[0],
                loss_gradient=of_loss.data[0],
                output_gradient=of_score.data[0],
                saturated_share=_saturated(node),
            )
            for path, node, of_loss, of_score in zip(
                paths, nodes, by_loss, by_score, strict=True
            )
        ),
        target=target_name(index),
        index=index,
        score=float(found[index]),
    )


def _saturated(y: Tensor) -> float | None:
    """The share of a sigmoid's or tanh's values where it is flat."""
    name = y.op.name if y.op is not None else ""
    if name not in ("sigmoid", "tanh"):
        return None
    return float(is_saturated(name, y.data).mean())
