"""Ops that move elements without changing them: views, joins, indexing, padding."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.core.graph import Op, Tensor, apply, as_tensor, function, register
from chainrule.core.spec import (
    FLOAT32,
    INT64,
    Spec,
    arithmetic_dtype,
    as_dtype,
    broadcast_shapes,
    normalize_axes,
)
from chainrule.errors import DtypeError, IndexingError, OptionError, ShapeError
from chainrule.ops.reduce import sum as sum_

__all__ = [
    "broadcast_to",
    "concatenate",
    "expand_dims",
    "flatten",
    "flip",
    "index",
    "one_hot",
    "pad",
    "repeat",
    "reshape",
    "roll",
    "scatter_add",
    "split",
    "squeeze",
    "stack",
    "sum_to",
    "swap_axes",
    "take",
    "take_along_axis",
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
        if min(shape, default=0) < 0 or math.prod(shape) != x.size:
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
        if broadcast_shapes(self.name, x, Spec(self.shape, x.dtype)) != self.shape:
            raise ShapeError(
                f"broadcast_to: cannot stretch to {self.shape}",
                got=x,
                expected="equal sizes, or 1, on every axis counted from the right",
            )
        return Spec(self.shape, x.dtype)

    def compute(self, *arrays: Any) -> Any:
        (x,) = arrays
        if x.size == 1:  # a loss's gradient: np.broadcast_to would take far longer
            return np.ndarray(self.shape, x.dtype, x, strides=(0,) * len(self.shape))
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
        stops = np.cumsum([x.shape[self.axis] for x in inputs]).tolist()
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
    """A border of constant elements; widths are (before, after) for each axis."""

    name = "pad"
    pattern = "passes: dy without the border"
    widths: tuple[tuple[int, int], ...]
    value: float

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        keeps = inputs[0].kind == "f" or float(self.value).is_integer()
        return (inputs[0] if keeps else FLOAT32,)

    def spec(self, *inputs: Spec) -> Spec:
        (x,) = inputs
        if len(self.widths) != x.ndim or any(min(w) < 0 for w in self.widths):
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


# ----------------------------------------------------------------------- indexing

Template = tuple[tuple[Any, ...], ...]
"""An index as hashable data, one entry for each part, arrays left out:
("slice", start, stop, step), ("integer", i), ("new",) or ("array",)."""


def _read_key(template: Template, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """The NumPy index that a template stands for, its arrays filled in."""
    remaining = iter(arrays)
    parts: list[Any] = []
    for kind, *values in template:
        if kind == "slice":
            parts.append(slice(*values))
        elif kind == "integer":
            parts.append(values[0])
        else:
            parts.append(None if kind == "new" else next(remaining))
    return tuple(parts)


def _write_key(x: Tensor, key: Any) -> tuple[Template, list[Tensor]]:
    """A Python index as template and index tensors; raises IndexingError."""
    parts = list(key) if isinstance(key, tuple) else [key]
    arrays: list[Tensor] = []
    given = sum(_num_axes(p) for p in parts)
    dots = [i for i, p in enumerate(parts) if p is Ellipsis]
    if given > x.ndim or len(dots) > 1:
        raise IndexingError(
            f"index: {given} indices for {x.ndim} axes",
            got=f"{x.spec}[{_describe(parts)}]",
            expected=f"at most {x.ndim} indices and one ...",
        )
    position = dots[0] if dots else len(parts)
    parts[position : position + len(dots)] = [slice(None)] * (x.ndim - given)
    template: list[tuple[Any, ...]] = []
    axis = 0
    for part in parts:
        if part is None:
            template.append(("new",))
            continue
        if isinstance(part, slice):
            bounds = (part.start, part.stop, part.step)
            template.append(
                (
                    "slice",
                    *(None if b is None else _as_int(x, parts, b) for b in bounds),
                )
            )
        elif _is_plain_integer(part):
            template.append(("integer", _check_bounds(x, axis, int(part))))
        else:
            for indices in _index_tensors(x, axis, part):
                template.append(("array",))
                arrays.append(indices)
        axis += _num_axes(part)
    return tuple(template), arrays


def _num_axes(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    dtype = getattr(part, "dtype", None)
    if dtype is None and isinstance(part, (list, tuple)):
        part = np.asarray(part)
        dtype = part.dtype
    return int(part.ndim) if dtype == np.bool_ else 1


def _is_plain_integer(part: Any) -> bool:
    return isinstance(part, (int, np.integer)) and not isinstance(part, bool)


def _as_int(x: Tensor, parts: list[Any], bound: Any) -> int:
    try:
        return int(bound.__index__())
    except (AttributeError, TypeError, DtypeError):
        raise IndexingError(
            "index: a slice bound is not an integer",
            got=f"{x.spec}[{_describe(parts)}]",
            expected="integers, or nothing, around the colon",
        ) from None


def _check_bounds(x: Tensor, axis: int, i: int) -> int:
    if not -x.shape[axis] <= i < x.shape[axis]:
        raise IndexingError(
            f"index: {i} is outside axis {axis}",
            got=f"index {i} on {x.spec}",
            expected=f"{-x.shape[axis]} to {x.shape[axis] - 1}",
        )
    return i


def _index_tensors(x: Tensor, axis: int, part: Any) -> list[Tensor]:
    """One index tensor, or for a mask one for each axis that it covers."""
    try:
        t = as_tensor(part)
    except (DtypeError, ShapeError):
        t = None
    if t is not None and t.dtype == np.bool_:
        if t.shape != x.shape[axis : axis + t.ndim]:
            raise IndexingError(
                "index: the mask has another shape than what it selects from",
                got=f"{t.spec} on {x.spec}, axis {axis}",
                expected=f"bool{list(x.shape[axis : axis + t.ndim])}",
            )
        return [as_tensor(n) for n in np.nonzero(t.data)]
    if t is not None and t.size == 0:
        t = as_tensor(t.data, INT64)
    if t is None or t.dtype.kind not in "iu":
        raise IndexingError(
            "index: not an index",
            got=t.spec if t is not None else type(part).__name__,
            expected="integers, slices, None, ..., integer arrays or masks",
            hint="x.astype('int64')",
        )
    _check_indices(x, axis, t.data)
    return [t]


def _check_indices(x: Tensor, axis: int, indices: Any) -> None:
    if indices.size:
        _check_bounds(x, axis, int(indices.min()))
        _check_bounds(x, axis, int(indices.max()))


def _describe(parts: list[Any]) -> str:
    """An index as text, its arrays as specs."""
    names = []
    for part in parts:
        if isinstance(part, slice):
            bounds = ["" if b is None else str(b) for b in (part.start, part.stop)]
            names.append(":".join(bounds))
        elif part is Ellipsis:
            names.append("...")
        elif isinstance(part, (int, np.integer)) or part is None:
            names.append(str(part))
        else:
            names.append(type(part).__name__)
    return ", ".join(names)


def _indexed_shape(
    x: Spec, template: Template, arrays: Sequence[Spec]
) -> tuple[int, ...]:
    """The shape of an index expression, found by NumPy on an array without memory."""
    empty = np.broadcast_to(np.empty((), np.bool_), x.shape)
    stand_ins = [np.broadcast_to(np.zeros((), INT64), a.shape) for a in arrays]
    try:
        return empty[_read_key(template, stand_ins)].shape
    except IndexError:
        raise ShapeError(
            "index: index arrays do not broadcast with one another",
            got=", ".join(map(str, arrays)),
            expected="equal sizes, or 1, on every axis counted from the right",
        ) from None


@register
@dataclass(frozen=True)
class Index(Op):
    """Part of a tensor by slices, integers and integer arrays, as NumPy indexes."""

    name = "index"
    pattern = "routes: dy to the elements that were read, repeated reads add up"
    template: Template

    def spec(self, *inputs: Spec) -> Spec:
        x, *arrays = inputs
        return Spec(_indexed_shape(x, self.template, arrays), x.dtype)

    def compute(self, *arrays: Any) -> Any:
        return arrays[0][_read_key(self.template, arrays[1:])]

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor, *indices: Tensor) -> Any:
        return (
            lambda: apply(IndexAdd.make(self.template, x.shape), dy, *indices),
            *(None for _ in indices),
        )


@register
@dataclass(frozen=True)
class IndexAdd(Op):
    """Zeros with elements added at the places of an index: the transpose of Index."""

    name = "index_add"
    pattern = "routes: each element receives dy from the place it was added to"
    template: Template
    shape: tuple[int, ...]

    def spec(self, *inputs: Spec) -> Spec:
        x, *arrays = inputs
        wanted = _indexed_shape(Spec(self.shape, x.dtype), self.template, arrays)
        if x.shape != wanted:
            raise ShapeError(
                "index_add: what is added does not have the index's shape",
                got=x,
                expected=Spec(wanted, x.dtype),
            )
        return Spec(self.shape, x.dtype)

    def compute(self, *arrays: Any) -> Any:
        x, *indices = arrays
        total = np.zeros(self.shape, x.dtype)
        key = _read_key(self.template, indices)
        if indices:
            np.add.at(total, key, x)
        else:
            total[key] = x  # slices never meet the same element twice
        return total

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor, *indices: Tensor) -> Any:
        back = apply(Index.make(self.template), dy, *indices)
        return (back, *(None for _ in indices))


@register
@dataclass(frozen=True)
class OneHot(Op):
    """1 at the label's place and 0 elsewhere, along a new last axis."""

    name = "one_hot"
    pattern = "blocks: labels have no derivative"
    num_classes: int
    dtype: np.dtype[Any]

    def spec(self, *inputs: Spec) -> Spec:
        (labels,) = inputs
        if labels.dtype.kind not in "iu":
            raise DtypeError(
                "one_hot: labels are not integers", got=labels, expected="int64"
            )
        return Spec((*labels.shape, self.num_classes), self.dtype)

    def compute(self, *arrays: Any) -> Any:
        return (arrays[0][..., None] == np.arange(self.num_classes)).astype(self.dtype)

    def gradient(self, dy: Tensor, y: Tensor, labels: Tensor) -> Any:
        return (None,)


# --------------------------------------------------------------- public functions


@function
def reshape(x: Any, shape: Sequence[int] | int) -> Tensor:
    """The same elements in another shape; one size may be -1.

    Raises ShapeError if the numbers of elements differ.
    """
    return apply(Reshape.make(_sizes("reshape", shape)), as_tensor(x))


def _sizes(name: str, shape: Sequence[int] | int) -> tuple[int, ...]:
    """A shape as a tuple of integers; raises ShapeError for anything else."""
    try:
        return tuple(map(operator.index, shape))  # type: ignore[arg-type]
    except TypeError:
        if isinstance(shape, (int, np.integer)):
            return (int(shape),)
        raise ShapeError(
            f"{name}: sizes are not integers", got=shape, expected="integers"
        ) from None


@function
def flatten(x: Any, start: int = 1) -> Tensor:
    """All axes from ``start`` on made one: (n, h, w, c) -> (n, h·w·c)."""
    t = as_tensor(x)
    return reshape(t, (*t.shape[:start], math.prod(t.shape[start:])))


@function
def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order; reversed when none is given."""
    t = as_tensor(x)
    order = range(t.ndim)[::-1] if axes is None else axes
    positive = tuple(int(a) + t.ndim if a < 0 else int(a) for a in order)
    return apply(Transpose.make(positive), t)


@function
def swap_axes(x: Any, first: int, second: int) -> Tensor:
    """Two axes exchanged."""
    t = as_tensor(x)
    return apply(_swap(first, second, t.ndim), t)


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
    return apply(BroadcastTo.make(_sizes("broadcast_to", shape)), as_tensor(x))


@function
def sum_to(x: Any, shape: Sequence[int]) -> Tensor:
    """x summed over the axes along which ``shape`` was broadcast to x's shape."""
    t, wanted = as_tensor(x), tuple(shape)
    axes = _stretched_axes(wanted, t.shape)
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
    cut = -int(shift) % max(t.shape[a], 1)
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
    if sum(sizes) != t.shape[position]:
        raise ShapeError(
            "split: sizes do not add up",
            got=f"{list(sizes)} for axis {axis} of {t.spec}",
            expected=f"sizes that sum to {t.shape[position]}",
        )
    stops = np.cumsum(sizes).tolist()
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
    repeats = _sizes("tile", repeats)
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


@function
def pad(x: Any, widths: Sequence[Sequence[int]] | int, value: float = 0.0) -> Tensor:
    """A border of ``value``: (before, after) for each axis, or one number for all."""
    t = as_tensor(x)
    pairs = ((widths, widths),) * t.ndim if isinstance(widths, int) else widths
    return apply(Pad.make(tuple((int(b), int(a)) for b, a in pairs), value), t)


@function
def index(x: Any, key: Any) -> Tensor:
    """x[key]: integers, slices, None, ``...``, integer arrays and masks, as in NumPy.

    Raises IndexingError for an index outside its axis or of another kind.
    """
    t = as_tensor(x)
    template, arrays = _write_key(t, key)
    return apply(Index.make(template), t, *arrays)


@function
def take(x: Any, indices: Any, axis: int = 0) -> Tensor:
    """The slices of x at integer positions along an axis: rows of a table, classes.

    Shapes: x (..., n, ...), indices of any shape, which takes the place of axis n.
    """
    t = as_tensor(x)
    (position,) = normalize_axes("take", axis, t.ndim)
    return index(t, (*(slice(None),) * position, as_tensor(indices)))


@function
def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Tensor:
    """For every place of ``indices``, the element of x at that index along an axis.

    Shapes: x and indices have equal sizes beside the axis; the result is indices'.
    """
    t, i = as_tensor(x), as_tensor(indices)
    (position,) = normalize_axes("take_along_axis", axis, t.ndim)
    if i.ndim != t.ndim:
        raise ShapeError(
            "take_along_axis: numbers of axes differ",
            got=f"{t.spec} by {i.spec}",
            expected=f"indices of {t.ndim} axes",
        )
    grid = np.ogrid[tuple(slice(n) for n in i.shape)]
    return index(t, tuple(i if a == position else grid[a] for a in range(t.ndim)))


@function
def scatter_add(x: Any, indices: Any, size: int, axis: int = 0) -> Tensor:
    """Zeros of ``size`` along an axis, with slices of x added at integer positions.

    The transpose of ``take``: positions that repeat add up.

    Raises IndexingError for a position outside 0 … size - 1.
    """
    t, i = as_tensor(x), as_tensor(indices)
    (position,) = normalize_axes("scatter_add", axis, t.ndim - i.ndim + 1)
    shape = (*t.shape[:position], int(size), *t.shape[position + i.ndim :])
    target = as_tensor(np.broadcast_to(np.zeros((), t.dtype), shape))
    _check_indices(target, position, i.data)
    whole = ("slice", None, None, None)
    template = tuple(("array",) if a == position else whole for a in range(len(shape)))
    return apply(IndexAdd.make(template, shape), t, i)


@function
def one_hot(labels: Any, num_classes: int, dtype: Any = "float32") -> Tensor:
    """1 at the label's place and 0 elsewhere, along a new last axis.

    Raises:
        IndexingError: for a label outside 0 … num_classes - 1.
        OptionError: if num_classes is below 1.
    """
    t = as_tensor(labels)
    if num_classes < 1:
        raise OptionError("one_hot: no classes", got=num_classes, expected="at least 1")
    if t.dtype.kind in "iu" and t.size:
        low, high = int(t.data.min()), int(t.data.max())
        if low < 0 or high >= num_classes:
            raise IndexingError(
                "one_hot: a label is out of range",
                got=f"labels from {low} to {high}",
                expected=f"0 to {num_classes - 1}",
                hint="count classes from 0, or raise num_classes",
            )
    return apply(OneHot.make(int(num_classes), as_dtype(dtype)), t)
