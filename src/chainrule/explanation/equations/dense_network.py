"""A network as the lectures draw it: layers of units, each a weighted sum and f."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.autodiff import vjp
from chainrule.core.graph import Tensor, as_tensor
from chainrule.core.spec import FLOAT64
from chainrule.core.trace import Graph
from chainrule.errors import OptionError, ShapeError
from chainrule.ops.elementwise import ElementwiseOp

__all__ = ["DenseLayer", "DenseNetwork"]

Array = np.ndarray[Any, Any]

_NAMES = {type(make()): name for name, make in nn.ACTIVATIONS.items()}
_COUPLED = (nn.Softmax, nn.LogSoftmax)
"""Activations in which every unit looks at all others."""


@dataclass(frozen=True)
class DenseLayer:
    """z = W·a + b and a = f(z), for columns of examples, in float64."""

    path: str
    weight: Array
    """(units, inputs), as the lectures have it: the transpose of the layer's own."""
    bias: Array
    """(units, 1); zeros where the layer has none."""
    activations: tuple[nn.Module, ...]
    has_bias: bool = True

    @property
    def name(self) -> str:
        """What f is called."""
        names = [_NAMES.get(type(m), repr(m)) for m in self.activations]
        return " of ".join(reversed(names)) or "identity"

    @property
    def num_parameters(self) -> int:
        return self.weight.size + self.bias.size * self.has_bias

    @property
    def is_elementwise(self) -> bool:
        """Whether every unit's f looks at that unit alone."""
        return not any(isinstance(m, _COUPLED) for m in self.activations)

    def f(self, z: Array) -> Array:
        """a = f(z)."""
        return self._f(Tensor(z.T)).data.T

    def pulled(self, z: Array, da: Array) -> Array:
        """∂J/∂z from ∂J/∂a: da ⊙ f′(z), or (∂a/∂z)ᵀ·da where units are coupled."""
        _, pullback = vjp(self._f, Tensor(z.T))
        return pullback(da.T)[0].data.T

    def slope(self, z: Array) -> Array:
        """f′(z), of every unit by itself."""
        return self.pulled(z, np.ones_like(z))

    def _f(self, rows: Tensor) -> Tensor:
        return reduce(lambda t, f: f(t), self.activations, rows)


@dataclass(frozen=True)
class DenseNetwork:
    """Dense layers one after another, and a copy of the model in float64."""

    model: nn.Module
    head: tuple[nn.Module, ...]
    """What lies before the first dense layer and learns nothing."""
    layers: tuple[DenseLayer, ...]

    @classmethod
    def of(cls, model: nn.Module) -> DenseNetwork:
        """Read a model; its own arrays are not touched.

        Raises OptionError for anything but dense layers and activations in a row.
        """
        if not isinstance(model, nn.Module):
            raise OptionError(
                "backpropagation: not a model",
                got=type(model).__name__,
                expected="an nn.Module",
                hint="of a trained model, its .model",
            )
        own = copy.deepcopy(model).astype("float64")
        head: list[nn.Module] = []
        found: list[tuple[str, nn.Dense, list[nn.Module]]] = []
        for path, module in _leaves("", own):
            if isinstance(module, nn.Dense):
                if any(module is dense for _, dense, _ in found):
                    raise _unread(path, module, "it is used twice")
                found.append((path, module, []))
            elif not found:
                if module.num_parameters():
                    raise _unread(path, module, "it learns, and is not dense")
                head.append(module)
            elif isinstance(module, nn.Dropout):
                if module.training and module.rate:
                    raise _unread(path, module, "it draws a mask", "model.eval()")
            elif not isinstance(module, nn.Flatten):
                _check_activation(path, module)
                found[-1][2].append(module)
        if not found:
            raise OptionError(
                "backpropagation: there is no dense layer",
                got=type(model).__name__,
                expected="a Sequential of nn.Dense and activations, such as nn.mlp",
            )
        layers = tuple(_layer(*parts) for parts in found)
        for layer in layers[:-1]:
            if not layer.is_elementwise:
                raise _unread(layer.path, layer.activations[-1],
                              "its units are coupled inside the network")  # fmt: skip
        return cls(own, tuple(head), layers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """s: the units of each layer, the inputs first."""
        first = self.layers[0].weight.shape[1]
        return (first, *(layer.weight.shape[0] for layer in self.layers))

    @property
    def num_parameters(self) -> int:
        return sum(layer.num_parameters for layer in self.layers)

    def inputs(self, x: Any) -> Array:
        """a of layer 1: a column for each example.

        Raises ShapeError for what is no batch of the network's inputs.
        """
        given = as_tensor(x, FLOAT64)
        rows = reduce(lambda t, f: f(t), self.head, given)
        if rows.ndim != 2 or rows.shape[1] != self.sizes[0]:
            raise ShapeError(
                "backpropagation: not a batch of the network's inputs",
                got=given.spec,
                expected=f"(examples, {self.sizes[0]})",
                hint="one example: x[None]",
            )
        return rows.data.T

    def forward(self, a: Array, moved: tuple[int, Array] | None = None) -> list[Array]:
        """z of every layer, a of the last behind them.

        ``moved`` adds something to the z of one layer: the demon.
        """
        sums = []
        for number, layer in enumerate(self.layers, start=2):
            z = layer.weight @ a + layer.bias
            if moved is not None and moved[0] == number:
                z = z + moved[1]
            sums.append(z)
            a = layer.f(z)
        return [*sums, a]


def _layer(path: str, dense: nn.Dense, activations: Sequence[nn.Module]) -> DenseLayer:
    weight = dense.weight.numpy().T
    has_bias = dense.bias is not None
    bias = np.zeros(len(weight)) if dense.bias is None else dense.bias.numpy()
    return DenseLayer(path, weight, bias[:, None], tuple(activations), has_bias)


def _leaves(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Sequences unrolled: (path, layer) in the order in which they run."""
    if not isinstance(module, nn.Sequential):
        yield path, module
        return
    for name in module.names:
        yield from _leaves(f"{path}.{name}" if path else name, module[name])


def _check_activation(path: str, module: nn.Module) -> None:
    """Raise OptionError for what is no function of each unit by itself."""
    if type(module) in _NAMES:
        return
    if isinstance(module, nn.Function) and _is_elementwise(module):
        return
    raise _unread(path, module, "it is neither dense nor an activation")


def _is_elementwise(function: Callable[[Tensor], Tensor]) -> bool:
    graph = Graph(lambda z: function(z), np.zeros((2, 3)))
    ops = [node.op for node in graph.nodes if node.op is not None]
    return all(isinstance(op, ElementwiseOp) for op in ops)


def _unread(
    path: str, module: nn.Module, why: str, hint: str | None = None
) -> OptionError:
    return OptionError(
        "backpropagation: the network is not dense layers and activations in a row",
        got=f"{path or 'the model'}: {type(module).__name__}; {why}",
        expected="a Sequential of nn.Dense and activations, such as nn.mlp",
        hint=hint or "automatic differentiation takes any network: model, .backward()",
    )
