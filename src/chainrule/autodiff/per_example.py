"""The gradient that each example of a batch would give on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.autodiff.derivatives import grad
from chainrule.autodiff.structure import flatten
from chainrule.core.backward import gradients
from chainrule.core.graph import FUNCTIONS, Tensor, as_tensor, enable_grad
from chainrule.errors import DataError

__all__ = ["per_example_gradients"]


def per_example_gradients(
    loss: Callable[..., Tensor], model: Any, inputs: Any, targets: Any
) -> Any:
    """∂loss_i/∂w for every example i, one along a new first axis.

    Two forms. With a model (callable, with ``named_parameters()``), ``loss`` takes its
    prediction and the targets, and the result is a dict by parameter name. Otherwise
    ``model`` is the parameters themselves, a tensor or a structure of them, ``loss``
    takes (parameters, inputs, targets), and the result has the same structure.

    Each example passes forward and backward alone, as a batch of one: exact for every
    network, at the cost of n small passes and n copies of the gradient. Where the
    examples of a batch influence each other, as in batch normalisation, there is no
    gradient of one example; what is returned is that of a batch of one.

    Raises DataError if inputs and targets differ in number or are empty.

    Example:
        >>> import chainrule as cr
        >>> loss = lambda w, x, y: ((x * w - y) ** 2).sum()
        >>> x, y = cr.Tensor([1.0, 2.0]), cr.Tensor([0.0, 0.0])
        >>> per_example_gradients(loss, cr.Tensor(1.0), x, y)
        Tensor([2., 8.], dtype=float32)
    """
    xs, ys = as_tensor(inputs), as_tensor(targets)
    count = xs.shape[0] if xs.ndim else 0
    if not count or not ys.ndim or ys.shape[0] != count:
        raise DataError(
            "per_example_gradients: inputs and targets do not pair up",
            got=f"inputs {xs.spec}, targets {ys.spec}",
            expected="an equal number of each, along the first axis",
        )
    batches = [(xs[i : i + 1], ys[i : i + 1]) for i in range(count)]
    if not hasattr(model, "named_parameters"):
        found = [flatten(grad(loss)(model, x, y))[0] for x, y in batches]
        _, rebuild = flatten(model)
        return rebuild([FUNCTIONS["stack"](list(g)) for g in zip(*found, strict=True)])
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    rows = []
    for x, y in batches:
        with enable_grad():
            value = loss(model(x), y)
        rows.append(gradients(value, list(parameters.values())))
    columns = (FUNCTIONS["stack"](list(g)) for g in zip(*rows, strict=True))
    return dict(zip(parameters, columns, strict=True))
