"""Ops that move elements without changing them: views, joins, indexing, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np

from chainrule.core.graph import (
    Op,
    Tensor,
    apply,
    as_tensor,
    function,
    mode,
    register,
)
from chainrule.core.spec import (
    FLOAT32,
    Spec,
    arithmetic_dtype,
    as_sizes,
    broadcast_shapes,
    integers,
    normalize_axes,
)
from chainrule.errors import OptionError, ShapeError
from chainrule.ops.indexing import index
from chainrule.ops.reduce import sum as sum_

__all__ = [
    "broadcast_to",
    "concatenate",
    "expand_dims",
    "flatten",
    "flip",
    "pad",
    "repeat",
    "reshape",
    "roll",
    "split",
    "squeeze",
    "stack",
    "sum_to",
    "swap_axes",
    "tile",
    "transpose",
]


# -------------------------------------------------------------------------- views


@register
@dataclass(frozen=True)
class Reshape(Op):
    """The same elements, in the same order, in another shape."""

    name = "reshape"
    pattern = "passes: dy in the input's shape"
    shape: tuple[int, ...]

    def spec(self, *inputs: Spec) -> Spec:
        (x,) = inputs
        shape = self.shape
        if shape.count(-1) == 1:
            rest = -math.prod(shape)
            guess = x.size // rest if rest else 0
            shape = tuple(guess if n == -1 else n for n in shape)
        if any(n < 0 for n in shape) or math.prod(shape) != x.size:
            raise ShapeError(
                f"reshape: {x.size} elements do not fill shape {self.shape}",
                got=x,
                expected=f"{math.prod(shape)} elements"
                if -1 not in shape
                else "at most one size of -1",
            )
        return Spec(shape, x.dtype)

    def compute(self, *arrays: Any) -> Any:
        return arrays[0].reshape(self.shape)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (reshape(dy, x.shape),)


@register
@dataclass(frozen=True)
class Transpose(Op):
    """The axes in another order."""

    name = "transpose"
    pattern = "passes: dy with its axes put back"
    axes: tuple[int, ...]

    def spec(self, *inputs: Spec) -> Spec:
        (x,) = inputs
        if sorted(self.axes) != list(range(x.ndim)):
            raise ShapeError(
                "transpose: axes do not name every axis once",
                got=f"axes {self.axes} for {x}",
                expected=f"an order of {tuple(range(x.ndim))}",
            )
        return Spec(tuple(x.shape[a] for a in self.axes), x.dtype)

    def compute(self, *arrays: Any) -> Any:
        return arrays[0].transpose(self.axes)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        back = tuple(sorted(range(len(self.axes)), key=self.axes.__getitem__))
        return (apply(Transpose.make(back), dy),)


@register
@dataclass(frozen=True)
class BroadcastTo(Op):
    """x repeated along new axes and axes of size 1."""

    name = "broadcast_to"
    pattern = "a branch adds up: dy summed over the copies"
    shape: tuple[int, ...]

    def spec(self, *inputs: Spec) -> Spec:
        (x,) = inputs
        wide = broadcast_shapes(self.name, x, Spec(self.shape, x.dtype))
        if wide != self.shape or any(n < 0 for n in wide):
            raise ShapeError(
                f"broadcast_to: cannot stretch to {self.shape}",
                got=x,
                expected="equal sizes, or 1, on every axis counted from the right",
            )
        return Spec(self.shape, x.dtype)

    def compute(self, *arrays: Any) -> Any:
        (x,) = arrays
        if x.size == 1:  # a loss's gradient: np.broadcast_to would take far longer
            y = np.ndarray(self.shape, x.dtype, x, strides=(0,) * len(self.shape))
            y.flags.writeable = False  # all its elements are one
            return y
        return np.broadcast_to(x, self.shape)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (sum_to(dy, x.shape),)


@register
@dataclass(frozen=True)
class Flip(Op):
    """The elements in reverse order along some axes."""

    name = "flip"
    pattern = "passes: dy flipped back"
    axes: tuple[int, ...]

    def spec(self, *inputs: Spec) -> Spec:
        return inputs[0]

    def compute(self, *arrays: Any) -> Any:
        (x,) = arrays
        backwards = slice(None, None, -1)
        return x[
            tuple(backwards if a in self.axes else slice(None) for a in range(x.ndim))
        ]

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (flip(dy, self.axes),)


# ----------------------------------------------------------------- joins, padding


@register
@dataclass(frozen=True)
class Concatenate(Op):
    """Tensors joined along an axis."""

    name = "concatenate"
    pattern = "passes: each input receives its part of dy"
    axis: int

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        if len(set(inputs)) == 1:
            return inputs
        return (arithmetic_dtype(self.name, *inputs),) * len(inputs)

    def spec(self, *inputs: Spec) -> Spec:
        first = inputs[0]
        others = [(*s.shape[: self.axis], *s.shape[self.axis + 1 :]) for s in inputs]
        if any(o != others[0] for o in others) or len({s.ndim for s in inputs}) > 1:
            raise ShapeError(
                f"concatenate: sizes differ beside axis {self.axis}",
                got=", ".join(map(str, inputs)),
                expected="equal sizes on every other axis",
            )
        size = sum(s.shape[self.axis] for s in inputs)
        before, after = first.shape[: self.axis], first.shape[self.axis + 1 :]
        return Spec((*before, size, *after), first.dtype)

    def compute(self, *arrays: Any) -> Any:
        return np.concatenate(arrays, axis=self.axis)

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        stops = list(accumulate(x.shape[self.axis] for x in inputs))
        leading = (slice(None),) * self.axis
        return tuple(
            # Bound as defaults: a closure would see only the loop's last values.
            lambda start=stop - x.shape[self.axis], stop=stop: index(
                dy, (*leading, slice(start, stop))
            )
            for x, stop in zip(inputs, stops, strict=True)
        )


@register
@dataclass(frozen=True)
class Pad(Op):
    """A border of constant elements; widths are (before, after) for each axis.

    Integers and bools that cannot hold the value become float32.
    """

    name = "pad"
    pattern = "passes: dy without the border"
    widths: tuple[tuple[int, ...], ...]
    value: float

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        return (inputs[0] if _holds(inputs[0], self.value) else FLOAT32,)

    def spec(self, *inputs: Spec) -> Spec:
        (x,) = inputs
        are_pairs = all(len(w) == 2 and min(w) >= 0 for w in self.widths)
        if len(self.widths) != x.ndim or not are_pairs:
            raise ShapeError(
                "pad: widths do not fit the tensor",
                got=f"{self.widths} for {x}",
                expected=f"{x.ndim} pairs (before, after) of numbers ≥ 0",
            )
        pairs = zip(x.shape, self.widths, strict=True)
        return Spec(tuple(n + sum(w) for n, w in pairs), x.dtype)

    def compute(self, *arrays: Any) -> Any:
        (x,) = arrays
        y = np.full(self.spec(Spec.of(x)).shape, self.value, x.dtype)
        y[self.inside(x.shape)] = x
        return y

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (index(dy, self.inside(x.shape)),)

    def inside(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        """Where the input of this shape lies in the result."""
        pairs = zip(shape, self.widths, strict=True)
        return tuple(slice(before, before + n) for n, (before, _) in pairs)


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether an element of this dtype can be this number, or near it."""
    if dtype.kind == "f":
        return True
    if not float(value).is_integer():
        return False
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    return value in (0, 1) if limits is None else limits.min <= value <= limits.max


# --------------------------------------------------------------- public functions


@function
def reshape(x: Any, shape: Sequence[int] | int) -> Tensor:
    """The same elements in another shape; one size may be -1.

    Raises ShapeError if the numbers of elements differ.
    """
    return apply(Reshape.make(as_sizes("reshape", shape)), as_tensor(x))


@function
def flatten(x: Any, start: int = 1) -> Tensor:
    """All axes from ``start`` on made one: (n, h, w, c) -> (n, h·w·c)."""
    t = as_tensor(x)
    return reshape(t, (*t.shape[:start], math.prod(t.shape[start:])))


@function
def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order; reversed when none is given."""
    t = as_tensor(x)
    order = range(t.ndim)[::-1] if axes is None else integers("transpose", axes)
    positive = tuple(a + t.ndim if a < 0 else a for a in order)
    return apply(Transpose.make(positive), t)


@function
def swap_axes(x: Any, first: int, second: int) -> Tensor:
    """Two axes exchanged."""
    t = as_tensor(x)
    return apply(_swap(*integers("swap_axes", (first, second)), t.ndim), t)


@lru_cache(maxsize=1024)
def _swap(first: int, second: int, ndim: int) -> Transpose:
    (a,), (b,) = (normalize_axes("swap_axes", i, ndim) for i in (first, second))
    order = list(range(ndim))
    order[a], order[b] = b, a
    return Transpose.make(tuple(order))


@function
def expand_dims(x: Any, axis: int) -> Tensor:
    """A new axis of size 1 before ``axis``."""
    t = as_tensor(x)
    (position,) = normalize_axes("expand_dims", axis, t.ndim + 1)
    return reshape(t, (*t.shape[:position], 1, *t.shape[position:]))


@function
def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """Axes of size 1 dropped: those named, or all of them."""
    t = as_tensor(x)
    axes = normalize_axes("squeeze", axis, t.ndim)
    if axis is not None and any(t.shape[a] != 1 for a in axes):
        raise ShapeError(
            "squeeze: a named axis is longer than 1", got=f"{t.spec}, axis={axis}",
            expected="axes of size 1",
        )  # fmt: skip
    kept = (n for a, n in enumerate(t.shape) if a not in axes or n != 1)
    return reshape(t, tuple(kept))


@function
def broadcast_to(x: Any, shape: Sequence[int] | int) -> Tensor:
    """x repeated along new axes and axes of size 1 until it has ``shape``."""
    return apply(BroadcastTo.make(as_sizes("broadcast_to", shape)), as_tensor(x))


@function
def sum_to(x: Any, shape: Sequence[int]) -> Tensor:
    """x summed over the axes along which ``shape`` was broadcast to x's shape."""
    t, wanted = as_tensor(x), tuple(shape)
    # A symbolic size equals the plain number: what is kept is not for it.
    is_captured = mode.capturing is not None
    stretched = _stretched_axes.__wrapped__ if is_captured else _stretched_axes
    axes = stretched(wanted, t.shape)
    total = sum_(t, axes) if axes else t
    return total if total.shape == wanted else reshape(total, wanted)


@lru_cache(maxsize=4096)
def _stretched_axes(shape: tuple[int, ...], into: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of ``into`` along which broadcasting repeats ``shape``."""
    extra = len(into) - len(shape)
    stretched = (i + extra for i, n in enumerate(shape) if n == 1 != into[i + extra])
    return (*range(extra), *stretched)


@function
def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements in reverse order along some axes, or along all."""
    t = as_tensor(x)
    return apply(Flip.make(normalize_axes("flip", axis, t.ndim)), t)


@function
def roll(x: Any, shift: int, axis: int) -> Tensor:
    """The elements moved along an axis; those that leave come in at the other end.

    Example:
        >>> import chainrule as cr
        >>> cr.roll(cr.Tensor([1, 2, 3]), 1, axis=0)
        Tensor([3, 1, 2], dtype=int64)
    """
    t = as_tensor(x)
    (a,) = normalize_axes("roll", axis, t.ndim)
    (forward,) = integers("roll", shift)
    cut = -forward % max(t.shape[a], 1)
    leading = (slice(None),) * a
    ends = (index(t, (*leading, slice(cut, None))), index(t, (*leading, slice(cut))))
    return concatenate(ends, a)


@function
def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors joined along an axis that they have.

    Raises ShapeError if their other sizes differ or there is none to join.
    """
    parts = [as_tensor(t) for t in tensors]
    if not parts:
        raise ShapeError("concatenate: nothing to join", got="[]", expected="tensors")
    (position,) = normalize_axes("concatenate", axis, parts[0].ndim)
    return apply(Concatenate.make(position), *parts)


@function
def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    return concatenate([expand_dims(t, axis) for t in tensors], axis)


@function
def split(x: Any, sizes: Sequence[int], axis: int = 0) -> list[Tensor]:
    """x cut into parts of the given sizes along an axis (Caffe's slice).

    Raises ShapeError if the sizes do not add up to the axis.
    """
    t = as_tensor(x)
    (position,) = normalize_axes("split", axis, t.ndim)
    sizes = as_sizes("split", sizes)
    if any(size < 0 for size in sizes) or sum(sizes) != t.shape[position]:
        raise ShapeError(
            "split: sizes do not add up",
            got=f"{list(sizes)} for axis {axis} of {t.spec}",
            expected=f"sizes of 0 or more that sum to {t.shape[position]}",
        )
    stops = list(accumulate(sizes))
    leading = (slice(None),) * position
    return [
        index(t, (*leading, slice(stop - size, stop)))
        for size, stop in zip(sizes, stops, strict=True)
    ]


@function
def tile(x: Any, repeats: Sequence[int] | int) -> Tensor:
    """x laid beside itself ``repeats[i]`` times along axis i, counted from the right.

    More numbers than axes make new axes on the left.
    """
    t = as_tensor(x)
    repeats = as_sizes("tile", repeats)
    count = max(len(repeats), t.ndim)
    repeats = (1,) * (count - len(repeats)) + repeats
    t = reshape(t, (1,) * (count - t.ndim) + t.shape)
    wide = reshape(t, tuple(n for size in t.shape for n in (1, size)))
    pairs = zip(repeats, t.shape, strict=True)
    full = broadcast_to(wide, tuple(n for pair in pairs for n in pair))
    return reshape(full, tuple(r * n for r, n in zip(repeats, t.shape, strict=True)))


@function
def repeat(x: Any, repeats: int, axis: int) -> Tensor:
    """Every element ``repeats`` times in a row along an axis."""
    t = as_tensor(x)
    (a,) = normalize_axes("repeat", axis, t.ndim)
    wide = reshape(t, (*t.shape[: a + 1], 1, *t.shape[a + 1 :]))
    full = broadcast_to(wide, (*t.shape[: a + 1], repeats, *t.shape[a + 1 :]))
    return reshape(full, (*t.shape[:a], t.shape[a] * repeats, *t.shape[a + 1 :]))


_PAD_MODES = ("circular", "constant", "reflect", "replicate")


@function
def pad(
    x: Any,
    widths: Sequence[Sequence[int]] | int,
    value: float = 0.0,
    mode: str = "constant",
) -> Tensor:
    """A border around x: (before, after) for each axis, or one number for all.

    Args:
        x: a tensor of any number of axes.
        widths: of the border.
        value: what a constant border is made of.
        mode: "constant", "replicate" (the last element again: a a|a b c|c c),
            "reflect" (mirrored at it: c b|a b c|b a) or "circular" (from the other
            end: b c|a b c|a b).

    Raises:
        ShapeError: for widths that do not fit, or that reach over the other end.
        OptionError: for an unknown mode.

    Example:
        >>> import chainrule as cr
        >>> cr.pad(cr.Tensor([1, 2, 3]), [(2, 1)], mode="reflect").tolist()
        [3, 2, 1, 2, 3, 2]
    """
    t = as_tensor(x)
    if isinstance(widths, (Sequence, np.ndarray)):
        pairs = tuple(integers("pad", pair) for pair in widths)
    else:
        pairs = (integers("pad", widths) * 2,) * t.ndim
    if mode == "constant":
        return apply(Pad.make(pairs, value), t)
    if mode not in _PAD_MODES:
        raise OptionError.unknown("mode", str(mode), _PAD_MODES)
    Pad.make(pairs, 0.0).spec(t.spec)  # refuses widths that do not fit
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            t = _joined_border(t, axis, before, after, mode)
    return t


def _joined_border(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """x between what continues it along one axis."""
    size = x.shape[axis]
    longest = {"circular": size, "reflect": size - 1}.get(mode, max(before, after))
    if max(before, after) > longest or not size:
        raise ShapeError(
            f"pad: nothing is left for a {mode} border",
            got=f"{(before, after)} on axis {axis} of {x.spec}",
            expected=f"at most {max(longest, 0)} on each side",
        )

    def part(start: int, stop: int) -> Tensor:
        return index(x, (*(slice(None),) * axis, slice(start, stop)))

    if mode == "circular":
        ends = part(size - before, size), part(0, after)
    elif mode == "reflect":
        ends = part(1, before + 1), part(size - 1 - after, size - 1)
        ends = flip(ends[0], axis), flip(ends[1], axis)
    else:
        ends = part(0, 1), part(size - 1, size)
        ends = repeat(ends[0], before, axis), repeat(ends[1], after, axis)
    return concatenate([e for e in (ends[0], x, ends[1]) if e.shape[axis]], axis)
