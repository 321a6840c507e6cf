"""Matrix products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.graph import Op, Tensor, apply, as_tensor, function, register
from chainrule.core.spec import Spec, arithmetic_dtype, broadcast_shapes
from chainrule.errors import ShapeError
from chainrule.ops.shape import reshape

__all__ = ["matmul"]


@register
@dataclass(frozen=True)
class MatMul(Op):
    """y = a @ b over the last two axes; leading axes are batches and broadcast.

    Either operand may be read transposed, as the gradients read them.
    """

    name = "matmul"
    pattern = "switches: dy @ bᵀ to the left operand, aᵀ @ dy to the right"
    transposes_a: bool = False
    transposes_b: bool = False

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        return (arithmetic_dtype(self.name, *inputs),) * 2

    def spec(self, *inputs: Spec) -> Spec:
        a, b = inputs
        if self.transposes_a:
            a = Spec((*a.shape[:-2], *a.shape[:-3:-1]), a.dtype)
        if self.transposes_b:
            b = Spec((*b.shape[:-2], *b.shape[:-3:-1]), b.dtype)
        if min(a.ndim, b.ndim) < 2 or a.shape[-1] != b.shape[-2]:
            raise ShapeError(
                "matmul: inner sizes differ",
                got=f"{a} @ {b}",
                expected="(n, k) @ (k, m)",
                hint=f"make the layer's in_features {a.shape[-1] if a.ndim else 1}, or "
                "flatten images to (batch, features)",
            )
        batch = broadcast_shapes(
            self.name, Spec(a.shape[:-2], a.dtype), Spec(b.shape[:-2], b.dtype)
        )
        return Spec((*batch, a.shape[-2], b.shape[-1]), a.dtype)

    def compute(self, *arrays: Any) -> Any:
        a, b = arrays
        return np.matmul(
            a.swapaxes(-1, -2) if self.transposes_a else a,
            b.swapaxes(-1, -2) if self.transposes_b else b,
        )

    def gradient(self, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Any:
        def to_a() -> Tensor:
            if self.transposes_a:
                return apply(MatMul.make(self.transposes_b, True), b, dy)
            return apply(MatMul.make(False, not self.transposes_b), dy, b)

        def to_b() -> Tensor:
            if self.transposes_b:
                return apply(MatMul.make(True, self.transposes_a), dy, a)
            if self.transposes_a or b.ndim > 2 or a.ndim == 2:
                return apply(MatMul.make(not self.transposes_a, False), a, dy)
            # One product over all rows, rather than one for each batch and their sum.
            rows = math.prod(a.shape[:-1])
            left, right = (reshape(t, (rows, t.shape[-1])) for t in (a, dy))
            return apply(MatMul.make(True, False), left, right)

        return to_a, to_b

    def formula(self, *names: str) -> str:
        a, b = names
        return f"{a}{'ᵀ' * self.transposes_a} @ {b}{'ᵀ' * self.transposes_b}"

    def latex(self, *names: str) -> str:
        flags = (self.transposes_a, self.transposes_b)
        pairs = zip(names, flags, strict=True)
        # In braces: the name of an operand may have an exponent of its own.
        return r" \, ".join(rf"{{{n}}}^{{\top}}" if t else n for n, t in pairs)


_MATMUL = MatMul.make()


@function
def matmul(x: Any, y: Any) -> Tensor:
    """x @ y: matrix products over the last two axes, leading axes broadcast.

    A vector on the left counts as a row, on the right as a column; that axis is dropped
    from the result.

    Shapes: (..., n, k) @ (..., k, m) -> (..., n, m); (k,) @ (k,) -> ().

    Raises:
        ShapeError: if the inner sizes differ or an operand is a scalar.
    """
    a, b = as_tensor(x), as_tensor(y)
    if a.ndim >= 2 and b.ndim >= 2:
        return apply(_MATMUL, a, b)
    if not a.ndim or not b.ndim:
        raise ShapeError(
            "matmul: an operand is a scalar",
            got=f"{a.spec} @ {b.spec}",
            expected="(n, k) @ (k, m)",
            hint="multiply by a scalar with *",
        )
    rows = reshape(a, (1, *a.shape)) if a.ndim == 1 else a
    columns = reshape(b, (*b.shape, 1)) if b.ndim == 1 else b
    product = apply(_MATMUL, rows, columns)
    shape = product.shape[:-1] if b.ndim == 1 else product.shape
    if a.ndim == 1:
        shape = (*shape[:-2], shape[-1]) if b.ndim > 1 else shape[:-1]
    return reshape(product, shape)
