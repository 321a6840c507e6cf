"""A value that was computed, as the function of its leaves that it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.core.backward import topological_order
from chainrule.core.graph import Tensor, apply, as_tensor

__all__ = ["recorded_function"]


def recorded_function(y: Tensor) -> Callable[..., Tensor]:
    """The function, of arguments by name, whose value ``y`` was recorded as.

    It runs the same ops again, on other values of the leaves that have those names; a
    leaf that is not named in the call stays as it was, and a name that no leaf has
    changes nothing. Its result can be differentiated.

    Example:
        >>> import chainrule as cr
        >>> x = cr.Tensor(3.0, requires_grad=True, name="x")
        >>> f = recorded_function(x * x + 1)
        >>> f(x=5.0).item(), cr.grad(lambda x: f(x=x))(5.0).item()
        (26.0, 10.0)
    """
    order = topological_order([y])

    def function(**values: Any) -> Tensor:
        known: dict[int, Tensor] = {}
        for node in order:
            if node.op is not None:
                operands = (known[id(i)] for i in node.inputs)
                known[id(node)] = apply(node.op, *operands)
            elif node.name in values:
                known[id(node)] = as_tensor(values[node.name]).astype(node.dtype)
            else:
                known[id(node)] = node
        return known[id(y)]

    return function
