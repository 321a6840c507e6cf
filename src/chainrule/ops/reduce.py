"""Ops that reduce axes, and softmax, which divides by a reduction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.core.graph import (
    FUNCTIONS,
    Op,
    Tensor,
    apply,
    as_tensor,
    function,
    register,
)
from chainrule.core.scalar import quietly
from chainrule.core.size import square_root
from chainrule.core.spec import (
    FLOAT32,
    INT64,
    Spec,
    arithmetic_dtype,
    integers,
    is_float,
    normalize_axes,
)
from chainrule.errors import OptionError, ShapeError
from chainrule.ops.elementwise import abs, equal, exp, sqrt, where

__all__ = [
    "argmax",
    "argmin",
    "cumsum",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "softmax",
    "std",
    "sum",
    "var",
]

Axes = int | Sequence[int] | None


@dataclass(frozen=True)
class Reduction(Op):
    """An op that folds some axes into one number each."""

    axes: tuple[int, ...]
    keepdims: bool

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        dtype = arithmetic_dtype(self.name, *inputs)
        return (dtype if is_float(dtype) else FLOAT32,)

    def spec(self, *inputs: Spec) -> Spec:
        (x,) = inputs
        return Spec(self.reduced_shape(x.shape), x.dtype)

    def reduced_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The result's shape."""
        if self.keepdims:
            return tuple(1 if a in self.axes else n for a, n in enumerate(shape))
        return tuple(n for a, n in enumerate(shape) if a not in self.axes)

    def reduced(self, ufunc: Any, x: Any) -> Any:
        """The axes folded by a NumPy ufunc of two numbers."""
        return ufunc.reduce(x, axis=self.axes, keepdims=self.keepdims)

    def spread(self, reduced: Tensor, x: Tensor) -> Tensor:
        """A result-shaped tensor with the reduced axes back, as size 1.

        One number needs no axes to be broadcast.
        """
        if self.keepdims or not reduced.ndim:
            return reduced
        kept = tuple(1 if a in self.axes else n for a, n in enumerate(x.shape))
        reshaped: Tensor = FUNCTIONS["reshape"](reduced, kept)
        return reshaped


def _sum_dtypes(name: str, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
    """Floats are added as they are, integers and bools as int64."""
    dtype = arithmetic_dtype(name, *inputs)
    return (dtype if is_float(dtype) else INT64,)


@register
class Sum(Reduction):
    """Σ x; integers are added as int64."""

    name = "sum"
    pattern = "distributes: every element receives dy"

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        return _sum_dtypes(self.name, *inputs)

    def compute(self, *arrays: Any) -> Any:
        return self.reduced(np.add, arrays[0])

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (FUNCTIONS["broadcast_to"](self.spread(dy, x), x.shape),)


@register
class Mean(Reduction):
    """Σ x / n; the mean of nothing is NaN."""

    name = "mean"
    pattern = "distributes: every element receives dy / n"

    def count(self, shape: tuple[int, ...]) -> int:
        """How many elements make one mean."""
        return math.prod(shape[a] for a in self.axes)

    def compute(self, *arrays: Any) -> Any:
        (x,) = arrays
        total = self.reduced(np.add, x)
        count = self.count(x.shape)
        return total / x.dtype.type(count) if count else total * np.nan

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        share = self.spread(dy, x) / self.count(x.shape)
        return (FUNCTIONS["broadcast_to"](share, x.shape),)


class Extremum(Reduction):
    """The largest or smallest element; elements that tie share the gradient evenly."""

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        return inputs

    def spec(self, *inputs: Spec) -> Spec:
        (x,) = inputs
        if any(x.shape[a] == 0 for a in self.axes):
            raise ShapeError(
                f"{self.name}: no elements to choose from",
                got=x,
                expected=f"at least one element along axes {self.axes}",
            )
        return super().spec(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        hits = equal(x, self.spread(y, x)).astype(x.dtype)
        share = hits / sum(hits, self.axes, keepdims=True)
        return (share * self.spread(dy, x),)


@register
class Max(Extremum):
    """The largest element."""

    name = "max"
    pattern = "routes: dy to the largest element"

    def compute(self, *arrays: Any) -> Any:
        return self.reduced(np.maximum, arrays[0])


@register
class Min(Extremum):
    """The smallest element."""

    name = "min"
    pattern = "routes: dy to the smallest element"

    def compute(self, *arrays: Any) -> Any:
        return self.reduced(np.minimum, arrays[0])


@register
class LogSumExp(Reduction):
    """log Σ exp(x), with the largest element taken out so that nothing overflows.

    The sum over no elements is 0, its logarithm -inf.
    """

    name = "logsumexp"
    pattern = "distributes: dy in the proportions softmax(x)"

    def compute(self, *arrays: Any) -> Any:
        (x,) = arrays
        top = np.maximum.reduce(x, axis=self.axes, keepdims=True, initial=-np.inf)
        # An infinite maximum would make inf - inf; leave it in place then.
        shift = np.where(np.isfinite(top), top, x.dtype.type(0))
        with np.errstate(all="ignore"):
            total = np.add.reduce(np.exp(x - shift), axis=self.axes, keepdims=True)
            y = np.log(total) + shift
        return y if self.keepdims else y.reshape(self.reduced_shape(x.shape))

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        top = self.spread(y, x)
        # All -inf: no element carries any weight, rather than NaN.
        weight = exp(x - where(top == -math.inf, 0.0, top))
        # They sum to 1, but for y's rounding: 2e-4 at y = 1e4 in float32.
        total = sum(weight, self.axes, keepdims=True)
        share = self.spread(dy, x) / where(total == 0, 1.0, total)
        return (weight * share,)


@dataclass(frozen=True)
class AlongAxis(Op):
    """An op that treats every line along one axis as a vector."""

    axis: int

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        dtype = arithmetic_dtype(self.name, *inputs)
        return (dtype if is_float(dtype) else FLOAT32,)

    def spec(self, *inputs: Spec) -> Spec:
        if inputs[0].shape[self.axis] == 0:
            raise ShapeError(
                f"{self.name}: the axis is empty",
                got=inputs[0],
                expected=f"at least one element along axis {self.axis}",
            )
        return inputs[0]


def _shifted(x: Any, axis: int) -> Any:
    """x minus its largest element along the axis."""
    return x - np.maximum.reduce(x, axis=axis, keepdims=True)


@register
class Softmax(AlongAxis):
    """exp(x) / Σ exp(x), with the largest element taken out first."""

    name = "softmax"
    pattern = "competes: y·(dy - Σ y·dy), the components sum to 0"

    @quietly  # of an infinite element: inf - inf is NaN
    def compute(self, *arrays: Any) -> Any:
        y = np.exp(_shifted(arrays[0], self.axis))
        y /= np.add.reduce(y, axis=self.axis, keepdims=True)
        return y

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        weighted = dy * y
        return (weighted - y * sum(weighted, self.axis, keepdims=True),)


@register
class LogSoftmax(AlongAxis):
    """x - log Σ exp(x), with the largest element taken out first."""

    name = "log_softmax"
    pattern = "competes: dy - softmax(x)·Σ dy"

    @quietly  # of an infinite element: inf - inf is NaN
    def compute(self, *arrays: Any) -> Any:
        y = _shifted(arrays[0], self.axis)
        y -= np.log(np.add.reduce(np.exp(y), axis=self.axis, keepdims=True))
        return y

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy - exp(y) * sum(dy, self.axis, keepdims=True),)


@register
class CumSum(AlongAxis):
    """The sum of the elements up to and with each one, along an axis."""

    name = "cumsum"
    pattern = "distributes: every element receives the dy of itself and of those after"

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        return _sum_dtypes(self.name, *inputs)

    def spec(self, *inputs: Spec) -> Spec:
        return inputs[0]

    def compute(self, *arrays: Any) -> Any:
        return np.add.accumulate(arrays[0], axis=self.axis)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        flip = FUNCTIONS["flip"]
        return (flip(cumsum(flip(dy, self.axis), self.axis), self.axis),)


class ArgExtremum(AlongAxis):
    """The position of the first extremum along an axis."""

    pattern = "blocks: a position has no derivative"

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        return inputs

    def spec(self, *inputs: Spec) -> Spec:
        x = super().spec(*inputs)
        return Spec((*x.shape[: self.axis], *x.shape[self.axis + 1 :]), INT64)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (None,)


@register
class ArgMax(ArgExtremum):
    """The position of the first largest element."""

    name = "argmax"

    def compute(self, *arrays: Any) -> Any:
        return np.argmax(arrays[0], axis=self.axis)


@register
class ArgMin(ArgExtremum):
    """The position of the first smallest element."""

    name = "argmin"

    def compute(self, *arrays: Any) -> Any:
        return np.argmin(arrays[0], axis=self.axis)


# --------------------------------------------------------------- public functions


def _reduce(cls: type[Reduction], x: Any, axis: Axes, keepdims: bool) -> Tensor:
    t = as_tensor(x)
    # Only integers may meet the cache, to which 0.0 would be 0.
    chosen = axis if axis is None or type(axis) is int else integers(cls.name, axis)
    return apply(_reduction(cls, chosen, bool(keepdims), t.ndim), t)


@lru_cache(maxsize=1024)
def _reduction(
    cls: type[Reduction], axis: int | tuple[int, ...] | None, keepdims: bool, ndim: int
) -> Reduction:
    return cls.make(normalize_axes(cls.name, axis, ndim), keepdims)


def _along(cls: type[AlongAxis], x: Any, axis: int) -> Tensor:
    t = as_tensor(x)
    (position,) = normalize_axes(cls.name, axis, t.ndim)
    return apply(cls.make(position), t)


def _position(cls: type[ArgExtremum], x: Any, axis: int | None) -> Tensor:
    if axis is None:
        return _along(cls, as_tensor(x).reshape(-1), 0)
    return _along(cls, x, axis)


@function
def sum(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
    """Σ x over some axes, or over all; bools are counted, integers added as int64."""
    return _reduce(Sum, x, axis, keepdims)


@function
def mean(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
    """The mean over some axes, or over all; of integers in float32, of nothing NaN."""
    return _reduce(Mean, x, axis, keepdims)


@function
def var(
    x: Any, axis: Axes = None, *, keepdims: bool = False, correction: int = 0
) -> Tensor:
    """The variance Σ(x - mean)² / (n - correction); NaN if there are too few."""
    t = as_tensor(x)
    deviation = t - mean(t, axis, keepdims=True)
    squared = sum(deviation * deviation, axis, keepdims=keepdims)
    return squared / _degrees_of_freedom(t, axis, correction)


@function
def std(
    x: Any, axis: Axes = None, *, keepdims: bool = False, correction: int = 0
) -> Tensor:
    """The standard deviation √(Σ(x - mean)² / (n - correction)).

    Its derivative where all elements are equal is taken as 0.
    """
    t = as_tensor(x)
    deviation = t - mean(t, axis, keepdims=True)
    freedom = _degrees_of_freedom(t, axis, correction)
    return norm(deviation, axis, keepdims=keepdims) / square_root(freedom)


def _degrees_of_freedom(x: Tensor, axis: Axes, correction: int) -> int:
    axes = normalize_axes("var", axis, x.ndim)
    count = math.prod(x.shape[a] for a in axes)
    return count - correction if count > correction else 0


@function
def norm(
    x: Any, axis: Axes = None, *, order: float = 2, keepdims: bool = False
) -> Tensor:
    """The length of vectors: √Σx² (order 2), Σ|x| (1) or max|x| (math.inf).

    Taken over some axes, or over all. Its derivative at 0 is taken as 0.

    Raises OptionError for another order.

    Example:
        >>> import chainrule as cr
        >>> cr.norm(cr.Tensor([3.0, -4.0]))
        Tensor(5., dtype=float32)
    """
    if order == 1:
        return sum(abs(x), axis, keepdims=keepdims)
    if order == math.inf:
        return max(abs(x), axis, keepdims=keepdims)
    if order != 2:
        raise OptionError("norm: no such order", got=order, expected="1, 2 or math.inf")
    t = as_tensor(x)
    squared = sum(t * t, axis, keepdims=keepdims)
    is_zero = squared == 0
    # The root's slope is infinite at 0, so it is never taken there.
    return where(is_zero, 0.0, sqrt(where(is_zero, 1.0, squared)))


@function
def max(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
    """The largest element over some axes, or over all; ties share the gradient."""
    return _reduce(Max, x, axis, keepdims)


@function
def min(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
    """The smallest element over some axes, or over all; ties share the gradient."""
    return _reduce(Min, x, axis, keepdims)


@function
def logsumexp(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
    """log Σ exp(x) over some axes, without overflow.

    Example:
        >>> import chainrule as cr
        >>> cr.logsumexp(cr.Tensor([10000.0, 10000.0]))
        Tensor(10000.693, dtype=float32)
    """
    return _reduce(LogSumExp, x, axis, keepdims)


@function
def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / Σ exp(x) along an axis: positive numbers that sum to 1."""
    return _along(Softmax, x, axis)


@function
def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """log(softmax(x)) along an axis, finite for any finite x."""
    return _along(LogSoftmax, x, axis)


@function
def cumsum(x: Any, axis: int = 0) -> Tensor:
    """Running sums along an axis."""
    return _along(CumSum, x, axis)


@function
def argmax(x: Any, axis: int | None = None) -> Tensor:
    """The position of the largest element (the first of equals): int64, no gradient."""
    return _position(ArgMax, x, axis)


@function
def argmin(x: Any, axis: int | None = None) -> Tensor:
    """The position of the smallest element (the first of equals), as argmax."""
    return _position(ArgMin, x, axis)
