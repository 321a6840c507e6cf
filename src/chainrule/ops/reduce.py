"""Ops that reduce axes, and softmax, which divides by a reduction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
from chainrule.core.spec import (
    BOOL,
    FLOAT32,
    INT64,
    Spec,
    arithmetic_dtype,
    is_float,
    normalize_axes,
)
from chainrule.errors import ShapeError
from chainrule.ops.elementwise import equal, exp, where

__all__ = [
    "argmax",
    "argmin",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "softmax",
    "sum",
    "var",
]

Axes = int | Sequence[int] | None


@dataclass(frozen=True)
class Reduction(Op):
    """An op that folds some axes into one number each."""

    axes: tuple[int, ...]
    keepdims: bool

    needs_elements = False
    makes_float = False

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        dtype = arithmetic_dtype(self.name, *inputs)
        if dtype == BOOL:
            dtype = INT64
        return (dtype if is_float(dtype) or not self.makes_float else FLOAT32,)

    def spec(self, *inputs: Spec) -> Spec:
        (x,) = inputs
        if self.needs_elements and any(x.shape[a] == 0 for a in self.axes):
            raise ShapeError(
                f"{self.name}: no elements to choose from",
                got=x,
                expected=f"at least one element along axes {self.axes}",
            )
        return Spec(self.reduced_shape(x.shape), x.dtype)

    def reduced_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The result's shape."""
        if self.keepdims:
            return tuple(1 if a in self.axes else n for a, n in enumerate(shape))
        return tuple(n for a, n in enumerate(shape) if a not in self.axes)

    def spread(self, reduced: Tensor, x: Tensor) -> Tensor:
        """A result-shaped tensor with the reduced axes back, as size 1.

        One number needs no axes to be broadcast.
        """
        if self.keepdims or not reduced.ndim:
            return reduced
        kept = tuple(1 if a in self.axes else n for a, n in enumerate(x.shape))
        reshaped: Tensor = FUNCTIONS["reshape"](reduced, kept)
        return reshaped


@register
class Sum(Reduction):
    name = "sum"
    pattern = "distributes: every element receives dy"

    def compute(self, *arrays: Any) -> Any:
        return np.add.reduce(arrays[0], axis=self.axes, keepdims=self.keepdims)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (FUNCTIONS["broadcast_to"](self.spread(dy, x), x.shape),)


@register
class Mean(Reduction):
    name = "mean"
    pattern = "distributes: every element receives dy / n"
    makes_float = True

    def count(self, shape: tuple[int, ...]) -> int:
        """How many elements make one mean."""
        return math.prod(shape[a] for a in self.axes)

    def compute(self, *arrays: Any) -> Any:
        (x,) = arrays
        total = np.add.reduce(x, axis=self.axes, keepdims=self.keepdims)
        count = self.count(x.shape)
        return total / x.dtype.type(count) if count else total * np.nan

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        share = self.spread(dy, x) / float(self.count(x.shape))
        return (FUNCTIONS["broadcast_to"](share, x.shape),)


class Extremum(Reduction):
    """The largest or smallest element; elements that tie share the gradient evenly."""

    needs_elements = True

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        hits = equal(x, self.spread(y, x)).astype(x.dtype)
        share = hits / sum(hits, self.axes, keepdims=True)
        return (share * self.spread(dy, x),)


@register
class Max(Extremum):
    name = "max"
    pattern = "routes: dy to the largest element"

    def compute(self, *arrays: Any) -> Any:
        return np.maximum.reduce(arrays[0], axis=self.axes, keepdims=self.keepdims)


@register
class Min(Extremum):
    name = "min"
    pattern = "routes: dy to the smallest element"

    def compute(self, *arrays: Any) -> Any:
        return np.minimum.reduce(arrays[0], axis=self.axes, keepdims=self.keepdims)


@register
class LogSumExp(Reduction):
    """log Σ exp(x), with the largest element taken out so that nothing overflows."""

    name = "logsumexp"
    pattern = "distributes: dy in the proportions softmax(x)"
    needs_elements = True
    makes_float = True

    def compute(self, *arrays: Any) -> Any:
        (x,) = arrays
        top = np.maximum.reduce(x, axis=self.axes, keepdims=True)
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
        return (weight * self.spread(dy, x),)


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

    def shifted(self, x: Any) -> Any:
        """x minus its largest element along the axis."""
        return x - np.maximum.reduce(x, axis=self.axis, keepdims=True)


@register
class Softmax(AlongAxis):
    name = "softmax"
    pattern = "competes: y·(dy - Σ y·dy), the components sum to 0"

    def compute(self, *arrays: Any) -> Any:
        y = np.exp(self.shifted(arrays[0]))
        y /= np.add.reduce(y, axis=self.axis, keepdims=True)
        return y

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        weighted = dy * y
        return (weighted - y * sum(weighted, self.axis, keepdims=True),)


@register
class LogSoftmax(AlongAxis):
    name = "log_softmax"
    pattern = "competes: dy - softmax(x)·Σ dy"

    def compute(self, *arrays: Any) -> Any:
        y = self.shifted(arrays[0])
        y -= np.log(np.add.reduce(np.exp(y), axis=self.axis, keepdims=True))
        return y

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy - exp(y) * sum(dy, self.axis, keepdims=True),)


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
    name = "argmax"

    def compute(self, *arrays: Any) -> Any:
        return np.argmax(arrays[0], axis=self.axis)


@register
class ArgMin(ArgExtremum):
    name = "argmin"

    def compute(self, *arrays: Any) -> Any:
        return np.argmin(arrays[0], axis=self.axis)


# --------------------------------------------------------------- public functions


def _reduce(cls: type[Reduction], x: Any, axis: Axes, keepdims: bool) -> Tensor:
    t = as_tensor(x)
    axes = normalize_axes(cls.name, axis, t.ndim)
    return apply(cls.make(axes, bool(keepdims)), t)


def _along(cls: type[AlongAxis], x: Any, axis: int) -> Tensor:
    t = as_tensor(x)
    (position,) = normalize_axes(cls.name, axis, t.ndim)
    return apply(cls.make(position), t)


@function
def sum(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
    """Σ x over some axes, or over all; bools are counted."""
    return _reduce(Sum, x, axis, keepdims)


@function
def mean(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
    """The mean over some axes, or over all; of integers in float32, of nothing NaN."""
    return _reduce(Mean, x, axis, keepdims)


@function
def var(
    x: Any, axis: Axes = None, *, keepdims: bool = False, correction: int = 0
) -> Tensor:
    """The variance Σ(x - mean)² / (n - correction)."""
    t = as_tensor(x)
    deviation = t - mean(t, axis, keepdims=True)
    axes = normalize_axes("var", axis, t.ndim)
    count = math.prod(t.shape[a] for a in axes)
    return sum(deviation * deviation, axes, keepdims=keepdims) / float(
        count - correction
    )


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
def argmax(x: Any, axis: int | None = None) -> Tensor:
    """The position of the largest element (the first of equals): int64, no gradient."""
    t = as_tensor(x)
    return _along(ArgMax, t if axis is not None else t.reshape(-1), axis or 0)


@function
def argmin(x: Any, axis: int | None = None) -> Tensor:
    """The position of the smallest element (the first of equals): int64, no gradient."""
    t = as_tensor(x)
    return _along(ArgMin, t if axis is not None else t.reshape(-1), axis or 0)
