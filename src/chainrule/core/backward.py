"""The reverse walk: the chain rule from outputs back to everything they depend on.

Source: Linnainmaa, 1976; Griewank & Walther, "Evaluating Derivatives", 2008, ch. 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from chainrule.core.graph import (
    FUNCTIONS,
    Op,
    Tensor,
    as_tensor,
    check_not_overwritten,
    constant,
    enable_grad,
    function,
    mode,
    no_grad,
)
from chainrule.errors import GradientError, ShapeError

__all__ = ["backward", "gradients", "propagate", "reverse_walk", "topological_order"]


def topological_order(outputs: Iterable[Tensor]) -> list[Tensor]:
    """Every tensor that the outputs were made from, inputs before users."""
    seen: set[Tensor] = set()
    leaves: list[Tensor] = []
    made: list[Tensor] = []
    stack = list(outputs)
    while stack:
        t = stack.pop()
        if t in seen:
            continue
        seen.add(t)
        if t.op is None:
            leaves.append(t)
        else:
            made.append(t)
            stack += t.inputs
    # Tensors are numbered as they are made, so sorting is a topological order.
    made.sort(key=attrgetter("order"))
    return leaves + made


def _seed(y: Tensor, dy: Any) -> Tensor:
    if not y.requires_grad:
        raise GradientError(
            "backward: nothing here requires a gradient",
            got=f"{y.spec} that depends on no tensor with requires_grad",
            expected="an output of tensors made with requires_grad=True",
            hint="Tensor(..., requires_grad=True), and compute outside no_grad()",
        )
    if dy is None:
        if y.size != 1:
            raise GradientError(
                "backward: the output is not a scalar",
                got=y.spec,
                expected="one number, or dy of the output's shape",
                hint="loss.sum().backward(), or y.backward(dy)",
            )
        if not y.ndim:
            # Not the tensor that all uses of the number share: this one is handed out.
            return as_tensor(constant(1.0, y.dtype).data)
        dy = 1.0
    dy = as_tensor(dy).astype(y.dtype)
    if dy.shape != y.shape:
        if dy.size != 1:
            raise ShapeError(
                "backward: dy has another shape than the output",
                got=dy.spec,
                expected=y.spec,
            )
        dy = FUNCTIONS["broadcast_to"](dy.reshape(()), y.shape)
    return dy


# Infinite slopes, as of √x at 0, meet zeros: that is NaN, and no news for stderr.
@np.errstate(all="ignore")
def reverse_walk(
    outputs: Sequence[Tensor],
    output_gradients: Sequence[Tensor],
    order: Sequence[Tensor],
    *,
    create_graph: bool = False,
    keep: frozenset[int] | None = frozenset(),
) -> dict[int, Tensor]:
    """∂L/∂t by id, for leaves and for what is in ``keep`` (None: everything).

    The gradients of a value that is used several times add up; broadcasting is undone
    here, once, for every op. Nothing of the interior is left behind.
    """
    found: dict[int, Tensor] = {}
    add = FUNCTIONS["add"]
    for y, dy in zip(outputs, output_gradients, strict=True):
        found[id(y)] = add(found[id(y)], dy) if id(y) in found else dy
    with enable_grad() if create_graph else no_grad():
        for node in reversed(order):
            if node.op is None:
                break  # leaves stand first in the order
            is_kept = keep is None or id(node) in keep
            dy_or_none = found.get(id(node)) if is_kept else found.pop(id(node), None)
            if dy_or_none is None or not node.requires_grad:
                continue
            propagate(node, node.op, dy_or_none, found)
    return found


def propagate(node: Tensor, op: Op, dy: Tensor, found: dict[int, Tensor]) -> None:
    """One gate of the reverse walk: add its local gradients to its inputs'."""
    add = FUNCTIONS["add"]
    local = op.gradient(dy, node, *node.inputs)
    for t, g in zip(node.inputs, local, strict=True):
        # An operand without a gradient may be what the others' are computed from.
        if t.order > node.order and any(g is not None for g in local):
            check_not_overwritten(t, node)
        if g is None or not t.requires_grad:
            continue
        dx: Tensor = g() if callable(g) else g
        if dx._array.shape != t._array.shape:
            dx = FUNCTIONS["sum_to"](dx, t._array.shape)
        key = id(t)
        before = found.get(key)
        found[key] = dx if before is None else add(before, dx)


@function
def backward(y: Tensor, dy: Any = None, *, create_graph: bool = False) -> None:
    """Add ∂y/∂leaf to the ``grad`` of every leaf that requires it."""
    order = topological_order([y])
    seed = _seed(y, dy)
    found = reverse_walk([y], [seed], order, create_graph=create_graph)
    held = {id(t._array) for t in (seed, *order)}
    for leaf in order:
        if leaf.op is not None:
            break
        if leaf.requires_grad and id(leaf) in found:
            g = found[id(leaf)]
            if leaf.grad is not None:
                with enable_grad() if create_graph else no_grad():
                    g = leaf.grad + g
            elif (
                not create_graph
                and mode.capturing is None
                and (g.data.base is not None or id(g.data) in held)
            ):
                g = as_tensor(g.numpy())  # writing to it must not change others
            held.add(id(g._array))
            leaf.grad = g


def gradients(
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    output_gradients: Sequence[Any] | None = None,
    *,
    create_graph: bool = False,
) -> list[Tensor]:
    """∂(Σ outputs·output_gradients)/∂input for each input, interior ones too.

    An input that the outputs do not depend on has a gradient of zeros. ``grad`` fields
    are left alone.
    """
    ys = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    dys = [None] * len(ys) if output_gradients is None else list(output_gradients)
    pairs = [
        (y, _seed(y, dy)) for y, dy in zip(ys, dys, strict=True) if y.requires_grad
    ]
    if not pairs:
        return [_zeros_like(x) for x in inputs]
    roots = [y for y, _ in pairs]
    wanted = frozenset(map(id, inputs))
    found = reverse_walk(
        roots,
        [dy for _, dy in pairs],
        _users(topological_order(roots), wanted),
        create_graph=create_graph,
        keep=wanted,
    )
    return [found[id(x)] if id(x) in found else _zeros_like(x) for x in inputs]


def _users(order: list[Tensor], inputs: frozenset[int]) -> list[Tensor]:
    """Those of ``order`` that depend on the inputs: no other needs to be walked."""
    dependent = set(inputs)
    for t in order:
        for operand in t.inputs:
            if id(operand) in dependent:
                dependent.add(id(t))
                break
    return [t for t in order if id(t) in dependent]


def _zeros_like(x: Tensor) -> Tensor:
    zeros: Tensor = FUNCTIONS["zeros_like"](x)
    return zeros
