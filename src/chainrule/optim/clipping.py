"""Limits on gradients, for losses whose slopes are sometimes cliffs."""

from __future__ import annotations

import math
from collections.abc import Iterable

from chainrule.core.graph import Parameter, Tensor, as_tensor, no_grad
from chainrule.core.spec import FLOAT64
from chainrule.errors import OptionError
from chainrule.ops import clip, maximum, sqrt, square

__all__ = ["clip_by_norm", "clip_by_value", "global_norm"]


def global_norm(parameters: Iterable[Parameter]) -> Tensor:
    """√Σ dw² over all gradients: the length of the step that plain descent would take.

    Finite exactly when every float32 gradient is: the squares are added in float64.

    Dtype: float64, 0-d; 0 where there are no gradients.
    """
    with no_grad():
        total = as_tensor(0.0, FLOAT64)
        for p in parameters:
            if p.grad is not None:
                total = total + square(p.grad.astype(FLOAT64)).sum()
        return sqrt(total)


def clip_by_norm(parameters: Iterable[Parameter], max_norm: float) -> Tensor:
    """Shorten all gradients together to the length ``max_norm``, if they are longer.

    dw ← dw · max_norm / max(‖dw‖, max_norm). Returns ‖dw‖, the norm before.

    Raises OptionError if max_norm is not positive.

    Example:
        >>> import chainrule as cr
        >>> w = cr.Parameter([0.0, 0.0])
        >>> w.grad = cr.Tensor([3.0, 4.0])
        >>> clip_by_norm([w], 1.0).item(), w.grad.numpy().round(6).tolist()
        (5.0, [0.6000000238418579, 0.800000011920929])

    Source: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural
    networks", 2013, algorithm 1.
    """
    _check_positive("clip_by_norm", max_norm)
    clipped = [p for p in parameters if p.grad is not None]
    norm = global_norm(clipped)
    with no_grad():
        scale = float(max_norm) / maximum(norm, float(max_norm))
        for p in clipped:
            assert p.grad is not None  # chosen so above
            p.grad = p.grad * scale.astype(p.grad.dtype)
    return norm


def clip_by_value(parameters: Iterable[Parameter], limit: float) -> None:
    """Limit every entry of every gradient to [-limit, limit].

    Raises OptionError if the limit is not positive.
    """
    _check_positive("clip_by_value", limit)
    with no_grad():
        for p in parameters:
            if p.grad is not None:
                p.grad = clip(p.grad, -limit, limit)


def _check_positive(name: str, limit: float) -> None:
    if not (math.isfinite(limit) and limit > 0):
        raise OptionError(
            f"{name}: the limit is out of range", got=limit, expected="a number above 0"
        )
