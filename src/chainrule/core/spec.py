"""Shape and dtype of a tensor, and the rules for combining them."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.core.size import Shape, Size
from chainrule.errors import DtypeError, ShapeError

__all__ = [
    "BOOL",
    "FLOAT32",
    "FLOAT64",
    "INT64",
    "Spec",
    "arithmetic_dtype",
    "as_dtype",
    "as_sizes",
    "broadcast_shapes",
    "integers",
    "is_float",
    "normalize_axes",
]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
INT64 = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)

_ARITHMETIC_KINDS = {"float32", "float64", "int32", "int64", "bool"}


@dataclass(frozen=True)
class Spec:
    """What is known of a tensor before its values: ``float32[64, 784]``."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"

    @staticmethod
    def of(array: np.ndarray[Any, Any]) -> Spec:
        """The spec of a NumPy array."""
        return Spec(array.shape, array.dtype)


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """The NumPy dtype of a name, type or dtype that chainrule can store.

    Raises DtypeError for complex, object, string and half-precision types.
    """
    if dtype is FLOAT32 or dtype is FLOAT64:  # by far the most frequent
        return dtype
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    else:
        found = found.newbyteorder("=")
    if found is None or not (found in (FLOAT32, FLOAT64) or found.kind in "iub"):
        raise DtypeError(
            f"tensor: cannot hold elements of type {dtype!s}",
            got=dtype,
            expected="float32, float64, an integer type or bool",
            hint="convert first, for example array.astype('float32')",
        )
    return found


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a tensor of this dtype can have a gradient."""
    return dtype.kind == "f"


@lru_cache(maxsize=1024)
def arithmetic_dtype(name: str, *dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which ``name`` computes on operands of these dtypes.

    Integer meets float: the float's dtype. Two floats: the wider. bool counts as int64.
    Raises DtypeError for unsigned and small integers, whose sums would wrap silently.
    """
    for dtype in dtypes:
        if dtype.name not in _ARITHMETIC_KINDS:
            raise DtypeError(
                f"{name}: arithmetic on {dtype.name} would wrap around",
                got=", ".join(d.name for d in dtypes),
                expected="float32, float64, int32 or int64",
                hint="convert first: x.astype('float32') (images: divide by 255 then)",
            )
    floats = [d for d in dtypes if is_float(d)]
    if floats:
        return FLOAT64 if FLOAT64 in floats else FLOAT32
    integers = [d for d in dtypes if d != BOOL] or [INT64]
    return np.result_type(*integers)


def broadcast_shapes(name: str, *specs: Spec) -> tuple[int, ...]:
    """The common shape of operands, size-1 axes stretched, aligned from the right.

    Raises ShapeError naming the axis at which they disagree.
    """
    shapes = [s.shape for s in specs]
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    ndim = max(map(len, shapes))
    padded = [(1,) * (ndim - len(s)) + s for s in shapes]
    result = []
    for axis, sizes in enumerate(zip(*padded, strict=True)):
        wide = {n for n in sizes if n != 1}
        if len(wide) > 1:
            raise ShapeError(
                f"{name}: sizes {' and '.join(map(str, sorted(wide)))} meet on axis "
                f"{axis - ndim}",
                got=" with ".join(map(str, specs)),
                expected="equal sizes, or 1, on every axis counted from the right",
                hint="reshape one operand, or insert an axis with x[:, None]",
            )
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def integers(name: str, given: Any) -> tuple[int, ...]:
    """One integer or several, as a tuple of Python integers: axes, sizes, repeats.

    Raises ShapeError for anything else.
    """
    if type(given) is int:
        return (given,)
    is_several = isinstance(given, (tuple, list)) or getattr(given, "ndim", 0) > 0
    try:
        if is_several or not hasattr(given, "__index__"):
            return tuple(map(operator.index, given))
        return (operator.index(given),)
    except TypeError:
        raise ShapeError(
            f"{name}: takes integers", got=given, expected="an integer, or several"
        ) from None


def as_sizes(name: str, given: Any) -> tuple[int, ...]:
    """The sizes of axes: ``integers`` that may depend on the batch size.

    Raises ShapeError for anything else.
    """
    if isinstance(given, Size):
        return Shape.of((given,))
    if isinstance(given, (tuple, list)) and any(isinstance(n, Size) for n in given):
        return Shape.of(
            n if isinstance(n, Size) else integers(name, n)[0] for n in given
        )
    return integers(name, given)


def normalize_axes(
    name: str, axis: int | Sequence[int] | None, ndim: int
) -> tuple[int, ...]:
    """Axes as sorted non-negative numbers; None means all of them.

    Raises ShapeError for an axis that does not exist or is named twice.
    """
    return _normalize_axes(name, None if axis is None else integers(name, axis), ndim)


@lru_cache(maxsize=1024)
def _normalize_axes(
    name: str, axis: tuple[int, ...] | None, ndim: int
) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(sorted(a + ndim if a < 0 else a for a in axis))
    shown = axis[0] if len(axis) == 1 else axis
    if any(not 0 <= a < ndim for a in axes) or len(set(axes)) != len(axes):
        raise ShapeError(
            f"{name}: no such axis, or one named twice",
            got=f"axis={shown} on a tensor of {ndim} axes",
            expected=f"distinct axes from {-ndim} to {ndim - 1}"
            if ndim
            else "axis=None: a scalar has no axes",
        )
    return axes
