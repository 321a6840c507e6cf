"""Backpropagation by the four δ equations, beside automatic differentiation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.core.backward import gradients
from chainrule.core.graph import as_tensor, enable_grad
from chainrule.core.spec import FLOAT64
from chainrule.explanation.equations.batch_loss import BatchLoss, Loss
from chainrule.explanation.equations.delta_equations import Backpropagation, LayerErrors
from chainrule.explanation.equations.dense_network import DenseNetwork

__all__ = ["backpropagation"]

Array = np.ndarray[Any, Any]


def backpropagation(
    model: nn.Module, inputs: Any, targets: Any, loss: str | Loss | None = None
) -> Backpropagation:
    """Work out a dense network's gradients by the four δ equations.

    δ^L = ∂J/∂a^L ⊙ f′(z^L), δ^l = (W^l)ᵀ δ^(l+1) ⊙ f′(z^l), ∂J/∂W^l = δ^(l+1) (a^l)ᵀ,
    ∂J/∂b^l = δ^(l+1), for each example; where J is a mean, the gradients are 1/n of the
    sums. Once in a loop over the examples, once all together; compared with automatic
    differentiation. In float64; the model is left as it is.

    Args:
        model: a Sequential of ``nn.Dense`` and activations, such as ``nn.mlp``. Layers
            without parameters may precede; dropout must be off.
        inputs: a batch as the model takes it, one example in a row.
        targets: what the loss takes.
        loss: a name of ``nn.LOSSES``, or a function of (outputs, targets); unless
            given, J = 1/(2n) Σ‖a - y‖².

    Raises:
        OptionError: for another network, such as a convolutional or residual one.
        ShapeError: for what is no batch of its inputs.
        NonFiniteError: if J is NaN or infinite.

    Example:
        >>> from chainrule import nn
        >>> net = nn.mlp(3, (5, 5), 4, "sigmoid").initialize(0)
        >>> found = backpropagation(net, np.ones((2, 3)), np.zeros((2, 4)))
        >>> found.network.num_parameters, [layer.dw.shape for layer in found.layers]
        (74, [(5, 3), (5, 5), (4, 5)])
        >>> found.difference_to_automatic < 1e-14
        True

    Source: aarhus, backpropagation; Nielsen, 2015, chapter 2, equations BP1 to BP4.
    """
    network = DenseNetwork.of(model)
    a = network.inputs(inputs)
    judge = BatchLoss.of(loss, targets)
    *sums, outputs = network.forward(a)
    value, reduction = judge.whole(outputs), judge.reduction(outputs)
    n = a.shape[1]
    share = 1 / n if reduction == "mean" else 1.0
    da = judge.slope(outputs) / share  # of each example's own loss
    layers = _errors(network, a, sums, da, share)
    together = [(found.dw, found.db) for found in layers]
    y = judge.targets.data
    is_residual = y.shape == (n, len(outputs)) and bool(
        np.allclose(da, outputs - y.T, rtol=1e-12, atol=1e-15)
    )
    return Backpropagation(
        network,
        judge.name,
        value,
        reduction,
        a,
        da,
        layers,
        _difference(together, _loop(network, a, da, share)),
        _difference(together, _automatic(network, inputs, judge)),
        is_residual,
        judge,
    )


def _errors(
    network: DenseNetwork, a: Array, sums: list[Array], da: Array, share: float
) -> tuple[LayerErrors, ...]:
    """The four equations, for all examples at once."""
    values = [a, *(f.f(z) for f, z in zip(network.layers, sums, strict=True))]
    found: list[LayerErrors] = []
    for i in reversed(range(len(sums))):
        layer, z = network.layers[i], sums[i]
        slope = layer.slope(z) if layer.is_elementwise else None
        delta = layer.pulled(z, da) if slope is None else da * slope
        dw, db = delta @ values[i].T, delta.sum(axis=1, keepdims=True)
        found.insert(
            0,
            LayerErrors(
                i + 2, layer.path, layer.name, z, values[i + 1], slope, delta,
                share * dw, share * db,
            ),
        )  # fmt: skip
        da = layer.weight.T @ delta
    return tuple(found)


def _loop(
    network: DenseNetwork, a: Array, da: Array, share: float
) -> list[tuple[Array, Array]]:
    """The same gradients, one example after another, added up."""
    total: list[tuple[Array, Array]] = [
        (np.zeros_like(layer.weight), np.zeros_like(layer.bias))
        for layer in network.layers
    ]
    for k in range(a.shape[1]):
        column = a[:, k : k + 1]
        *sums, _ = network.forward(column)
        found = _errors(network, column, sums, da[:, k : k + 1], 1.0)
        for (dw, db), layer in zip(total, found, strict=True):
            dw += layer.dw
            db += layer.db
    return [(share * dw, share * db) for dw, db in total]


def _automatic(
    network: DenseNetwork, inputs: Any, judge: BatchLoss
) -> list[tuple[Array, Array | None]]:
    """The gradients that the graph of the model itself gives."""
    x = as_tensor(inputs, FLOAT64)
    dense = [m for _, m in network.model.named_modules() if isinstance(m, nn.Dense)]
    parameters = [p for m in dense for p in (m.weight, m.bias) if p is not None]
    for p in parameters:
        p.requires_grad = True  # a frozen layer has its equations too
    with enable_grad():
        loss = judge.measure(network.model(x), judge.targets)
    found = gradients(loss, parameters)
    by_id = {id(p): g.data for p, g in zip(parameters, found, strict=True)}
    return [
        (
            by_id[id(m.weight)].T,
            None if m.bias is None else by_id[id(m.bias)][:, None],
        )
        for m in dense
    ]


def _difference(
    ours: Sequence[tuple[Array, Array]], theirs: Sequence[tuple[Array, Array | None]]
) -> float:
    """The largest, relative to the largest gradient."""
    pairs = [
        (a, b)
        for mine, other in zip(ours, theirs, strict=True)
        for a, b in zip(mine, other, strict=True)
        if b is not None
    ]
    size = max(float(np.abs(b).max()) for _, b in pairs) or 1.0
    return max(float(np.abs(a - b).max()) for a, b in pairs) / size
