"""Saying what a Jacobian looks like by multiplying with it, not by forming it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.autodiff import jacobian
from chainrule.core.graph import Tensor, as_tensor
from chainrule.core.rng import generator
from chainrule.core.spec import FLOAT64, is_float
from chainrule.core.trace import Graph
from chainrule.errors import DtypeError, GradientError, ShapeError
from chainrule.explanation.equations.jacobian_products import (
    Facts,
    Products,
    facts_from,
)
from chainrule.explanation.equations.jacobian_structure import JacobianStructure

__all__ = ["describe_jacobian"]

Array = np.ndarray[Any, Any]

_MAX_FORMED = 1 << 16  # elements up to which the answer is checked on the matrix itself


def describe_jacobian(
    f: Callable[[Tensor], Any], x: Any, *, seed: int = 0
) -> JacobianStructure:
    """Say what the Jacobian of a function is like, and how large, without forming it.

    A few products with random vectors tell: J·v = d ⊙ v for two random v means that it
    is diagonal; examples whose pixels are 0 in v and stay 0 in J·v do not see each
    other; J the same elsewhere means that f is linear. What two random numbers cannot
    tell apart has probability 0. Where J has at most 65,536 entries, it is formed as
    well, and the answer checked on it.

    Args:
        f: a function of one tensor that returns one tensor.
        x: where.
        seed: of the random vectors.

    Raises:
        DtypeError: for an x of integers.
        ShapeError: for an x or a result without elements.
        NonFiniteError: where a derivative is NaN or infinite.
        GradientError: if f does not return one tensor that depends on floats.

    Example:
        >>> import chainrule as cr
        >>> found = describe_jacobian(cr.relu, np.ones(4096, np.float32))
        >>> found.kind, found.size_bytes == 64 * 2**20, found.matrix is None
        ('identity', True, True)

    Source: toronto and stanford, Jacobians as input × output; intellivision, the
    4096-vector whose Jacobian nobody forms.
    """
    given = as_tensor(x)
    if not is_float(given.dtype):
        raise DtypeError(
            "describe_jacobian: only floats have derivatives",
            got=given.spec,
            expected="float32 or float64",
        )
    graph = Graph(f, given)
    if len(graph.outputs) != 1 or graph._is_tuple:
        raise GradientError(
            "describe_jacobian: the function returns several tensors",
            got=", ".join(str(n.spec) for n in graph.outputs),
            expected="one tensor",
        )
    output = graph.outputs[0]
    if not output.spec.size or not given.size:
        raise ShapeError(
            "describe_jacobian: there is nothing to differentiate",
            got=f"{given.spec} to {output.spec}",
            expected="at least one number in and one out",
        )
    y, x64 = output.spec, given.data.astype(FLOAT64)
    if not output.tensor.requires_grad:
        products = None
    else:
        products = Products(f, x64, y, generator(seed, "describe_jacobian"))
    facts = Facts("zero") if products is None else facts_from(products)
    ops = [n for n in graph.nodes if n.op is not None and n.tensor.requires_grad]
    matrix = None
    share = facts.share
    if y.size * given.size <= _MAX_FORMED:
        matrix = (
            np.zeros((y.size, given.size))
            if products is None
            else jacobian(f, x64).data.reshape(y.size, given.size)
        )
        _check(facts, matrix)
        share = float((matrix != 0).mean()) if matrix.size else 0.0
    return JacobianStructure(
        y,
        given.spec,
        ops[0].formula if len(ops) == 1 else "",
        facts.kind,
        facts.is_constant,
        facts.scale,
        facts.diagonal,
        facts.blocks,
        facts.has_equal_blocks,
        share,
        0 if products is None else products.count,
        matrix,
    )


def _check(facts: Facts, matrix: Array) -> None:
    """Hold what the products told against the matrix itself.

    Raises GradientError where they disagree: then f is no function.
    """
    wanted = _expected(facts, matrix)
    size = float(np.abs(matrix).max(initial=0.0))
    if np.abs(matrix - wanted).max(initial=0.0) > 1e-3 * size:
        raise GradientError(
            "describe_jacobian: products with it and the matrix itself disagree",
            got=f"{facts.kind} by products, another matrix",
            expected="equal derivatives for equal inputs",
            hint="model.eval(), or fix the seed of what the function draws",
        )


def _expected(facts: Facts, matrix: Array) -> Array:
    """The matrix with nothing but what the structure allows."""
    rows, columns = matrix.shape
    if facts.kind == "zero":
        return np.zeros_like(matrix)
    if facts.scale is not None:
        return facts.scale * np.eye(rows)
    if facts.diagonal is not None:
        return np.diag(facts.diagonal.reshape(-1))
    if facts.kind in ("permutation", "routing"):
        chosen = np.zeros_like(matrix)
        chosen[np.arange(rows), np.abs(matrix).argmax(axis=1)] = 1
        return chosen
    if facts.kind == "block diagonal":
        n = facts.blocks
        cut = matrix.reshape(n, rows // n, n, columns // n)
        return (cut * np.eye(n)[:, None, :, None]).reshape(matrix.shape)
    return matrix
