"""Normalisation of an activation by its neighbours."""

from __future__ import annotations

from typing import Any

from chainrule.core.graph import Tensor, as_tensor, function
from chainrule.core.spec import integers
from chainrule.errors import OptionError, ShapeError
from chainrule.ops.indexing import index
from chainrule.ops.shape import pad

__all__ = ["local_response_norm"]


@function
def local_response_norm(
    x: Any,
    size: int = 5,
    *,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> Tensor:
    """Each activation divided by how strong its neighbouring channels are.

    y[c] = x[c] / (k + alpha / size · Σ x[j]²)^beta over the ``size`` channels j around
    c; where there are fewer, the missing ones are 0.

    Args:
        x: activations, channels last.
        size: the number of channels that inhibit each other.
        alpha, beta, k: the formula's numbers.

    Shapes: (..., c) -> (..., c).

    Raises:
        ShapeError: for a number without channels.
        OptionError: for a size below 1.

    Example:
        >>> import chainrule as cr
        >>> x = cr.Tensor([[3.0, 4.0, 0.0]])
        >>> cr.local_response_norm(x, 3, alpha=3.0, beta=0.5, k=0.0).tolist()
        [[0.6000000238418579, 0.800000011920929, 0.0]]

    Source: A. Krizhevsky et al., ImageNet classification with deep convolutional neural
    networks, 2012, section 3.3 (k = 2, size 5, beta 0.75, and 1e-4 for alpha / size,
    written so by Caffe).
    """
    t = as_tensor(x)
    if not t.ndim:
        raise ShapeError(
            "local_response_norm: no channels", got=t.spec, expected="(..., channels)"
        )
    if integers("local_response_norm", size) < (1,):
        raise OptionError(
            "local_response_norm: no neighbours", got=f"{size=}", expected="1 or more"
        )
    channels = t.shape[-1]
    squares = pad(t * t, (*((0, 0),) * (t.ndim - 1), (size // 2, (size - 1) // 2)))
    total = index(squares, (..., slice(channels)))
    for i in range(1, size):
        total = total + index(squares, (..., slice(i, i + channels)))
    return t / (k + total * (alpha / size)) ** beta
