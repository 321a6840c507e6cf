"""Weight penalties: what large weights cost on top of the loss.

Biases, scales and slopes are left out: a parameter's ``is_penalized`` says so.
"""

from __future__ import annotations

from chainrule import ops
from chainrule.core.graph import Parameter, Tensor
from chainrule.errors import OptionError
from chainrule.nn.module import Module

__all__ = ["elastic_net", "l1_penalty", "l2_penalty", "penalty"]


def _weights(model: Module) -> list[Parameter]:
    return [p for p in model.parameters() if p.is_penalized]


def _check_strength(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise OptionError(
            f"penalty: {name} out of range", got=value, expected="a number, 0 or more"
        )


def _total(terms: list[Tensor]) -> Tensor | float:
    return sum(terms[1:], start=terms[0]) if terms else 0.0


def l2_penalty(
    model: Module, strength: float, *, num_examples: int | None = None
) -> Tensor | float:
    """Weight decay: λ ΣW², gradient 2λW; or with n examples λ/2n ΣW², gradient λW/n.

    Args:
        model: whose penalized parameters are summed.
        strength: λ.
        num_examples: n, for the second scaling.

    Source: intellivision, regularisation; aarhus, L2 regularisation (whose slide prints
    the second gradient as λW).
    """
    _check_strength("l2", strength)
    if num_examples is not None and num_examples < 1:
        raise OptionError("l2: no examples", got=num_examples, expected="1 or more")
    scale = strength if num_examples is None else strength / (2 * num_examples)
    squares = [ops.sum(w * w) for w in _weights(model)]
    return _total(squares) * scale


def l1_penalty(model: Module, strength: float) -> Tensor | float:
    """λ Σ|W|, gradient λ·sign(W): drives small weights to 0.

    Source: intellivision, regularisation.
    """
    _check_strength("l1", strength)
    return _total([ops.sum(ops.abs(w)) for w in _weights(model)]) * strength


def elastic_net(model: Module, strength: float, beta: float) -> Tensor | float:
    """λ Σ(βW² + |W|): L2 and L1 together.

    Source: intellivision, regularisation.
    """
    return penalty(model, l2=strength * beta, l1=strength)


def penalty(model: Module, *, l2: float = 0.0, l1: float = 0.0) -> Tensor | float:
    """l2·ΣW² + l1·Σ|W|, what ``--l2`` and ``--l1`` add to the loss; 0 if both are 0.

    Raises:
        OptionError: for a negative strength.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> layer = nn.Dense(2, 1)
        >>> cr.assign(layer.weight, [[3.0], [-4.0]])
        >>> penalty(layer, l2=0.5, l1=1.0).item()
        19.5
    """
    _check_strength("l2", l2)
    _check_strength("l1", l1)
    total: Tensor | float = 0.0
    if l2:
        total = total + l2_penalty(model, l2)
    if l1:
        total = total + l1_penalty(model, l1)
    return total
