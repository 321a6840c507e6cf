"""One gate of a graph, differentiated by itself, whatever op it is.

A gate's rule takes ∂L/∂y to ∂L/∂x, and is linear in ∂L/∂y. So transposing the rule
gives the other direction, how y moves with x, and differentiating it once more tells
which number of which operand a local derivative is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.core.backward import gradients
from chainrule.core.graph import (
    FUNCTIONS,
    Tensor,
    as_tensor,
    check_not_overwritten,
    enable_grad,
    no_grad,
    record,
)
from chainrule.core.spec import is_float
from chainrule.errors import GradientError
from chainrule.explanation.saturation import is_flat

__all__ = ["Place", "operand_entry", "pull", "push", "remark", "unit", "verb"]

Array = np.ndarray[Any, Any]
Place = tuple[int, ...]

_MAX_PROBES = 4096  # entries of a gate that has to be asked for each by itself


def verb(t: Tensor) -> str:
    """What the gate does to a gradient: "multiply switches", "relu gates"."""
    assert t.op is not None
    return f"{t.op.name} {t.op.pattern.partition(':')[0]}"


def remark(op: str, value: float) -> str:
    """What is remarkable in a local derivative of this value."""
    if not np.isfinite(value):
        return "not finite"
    if value == 0:
        return "a dead unit" if op == "relu" else "a zero ends every path through here"
    return "saturated: almost no gradient passes" if is_flat(op, value) else ""


def unit(t: Tensor, place: Place) -> Array:
    """Zeros like t with 1 at one place."""
    array = np.zeros(t.shape, t.dtype)
    array[place] = 1
    return array


def pull(
    t: Tensor, dy: Tensor, wanted: Collection[int]
) -> Iterator[tuple[int, Tensor]]:
    """(position, ∂L/∂input) for each operand whose id is wanted, from dy = ∂L/∂t.

    Raises GradientError if a variable was overwritten after the gate read it.
    """
    assert t.op is not None
    rules = t.op.gradient(dy, t, *t.inputs)
    if any(rule is not None for rule in rules):
        for x in t.inputs:
            check_not_overwritten(x, t)
    for position, (x, rule) in enumerate(zip(t.inputs, rules, strict=True)):
        if rule is None or id(x) not in wanted:
            continue
        dx: Tensor = rule() if callable(rule) else rule
        yield position, FUNCTIONS["sum_to"](dx, x.shape)


def push(t: Tensor, moves: Mapping[int, Array]) -> Array:
    """How the gate's output moves as operands move: Σ ∂t/∂x·dx, by operands' ids.

    Raises GradientError for a large gate of the user's that is written in NumPy.

    Source: J. Townsend, "A new trick for calculating Jacobian vector products", 2017.
    """
    try:
        with enable_grad():
            dy = Tensor(np.zeros(t.shape, t.dtype), requires_grad=True)
            pulled = list(pull(t, dy, moves))
            dxs = [dx for _, dx in pulled]
            moved = [as_tensor(moves[id(t.inputs[i])]) for i, _ in pulled]
        (found,) = gradients(dxs, [dy], moved) if dxs else (dy,)
        return found.data
    except GradientError:
        # The rule cannot be differentiated: it is asked for one entry after another.
        return _probed(t, moves)


def _probed(t: Tensor, moves: Mapping[int, Array]) -> Array:
    if t.size > _MAX_PROBES:
        assert t.op is not None
        raise GradientError(
            f"explain: {t.op.name} is too large a gate to be taken apart",
            got=f"{t.spec}, its backward written in NumPy",
            expected=f"at most {_MAX_PROBES} entries",
            hint="write the gate with chainrule's functions in place of NumPy's",
        )
    found = np.zeros(t.shape, t.dtype)
    with no_grad():
        for place in np.ndindex(t.shape):
            for i, dx in pull(t, as_tensor(unit(t, place)), moves):
                found[place] += np.sum(dx.data * moves[id(t.inputs[i])])
    return found


def operand_entry(
    gates: Sequence[Tensor], place: Place, by: Tensor, entry: Place
) -> tuple[float, Tensor | None, Place] | None:
    """What ∂y[place]/∂by[entry] is: a number times one entry of one operand.

    Args:
        gates: all that lie between, in the order of their making; the last one is y.
        place, by, entry: of which derivative.

    Returns (number, operand, place in it); without an operand, the derivative is that
    number whatever the operands are. None where it is neither.
    """
    copies: dict[int, Tensor] = {}
    originals: list[Tensor] = []

    def copy(x: Tensor) -> Tensor:
        if id(x) not in copies:
            copies[id(x)] = Tensor(x.data, requires_grad=is_float(x.dtype))
            originals.append(x)
        return copies[id(x)]

    try:
        with enable_grad():
            for t in gates:
                assert t.op is not None
                inputs = tuple(map(copy, t.inputs))
                copies[id(t)] = record(t.op, inputs, t.data)
            seed = [as_tensor(unit(gates[-1], place))]
            ends = [copies[id(gates[-1])]], [copies[id(by)]]
            (slopes,) = gradients(*ends, seed, create_graph=True)
            slope = slopes[entry] if entry else slopes
        seconds = gradients(slope, [copies[id(x)] for x in originals])
    except GradientError:
        return None
    pairs = zip(originals, seconds, strict=True)
    found = [(x, g, at) for x, g in pairs for at in np.argwhere(g.data)[:2]]
    value = float(slope.item())
    if not found:
        return value, None, ()
    if len(found) > 1:
        return None
    x, g, index = found[0]
    at = tuple(map(int, index))
    product = float(g.data[at]) * float(x.data[at])
    is_product = np.isclose(product, value, rtol=1e-5, atol=0)
    return (float(g.data[at]), x, at) if is_product else None
