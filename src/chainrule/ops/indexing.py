"""Ops that pick elements by their positions, and the ops that put them back."""

from __future__ import annotations

import operator
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
    known_values,
    register,
)
from chainrule.core.size import Size
from chainrule.core.spec import (
    INT64,
    Spec,
    as_dtype,
    broadcast_shapes,
    integers,
    normalize_axes,
)
from chainrule.errors import DtypeError, IndexingError, OptionError, ShapeError

__all__ = [
    "index",
    "one_hot",
    "positions",
    "scatter_add",
    "take",
    "take_along_axis",
]

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
    written = tuple(parts)
    position = dots[0] if dots else len(parts)
    parts[position : position + len(dots)] = [slice(None)] * (x.ndim - given)
    template: list[tuple[Any, ...]] = []
    axis = 0
    for part in parts:
        if part is None:
            template.append(("new",))
            continue
        if isinstance(part, slice):
            template.append(("slice", *_slice_numbers(x, written, part)))
        elif _is_plain_integer(part):
            template.append(("integer", _check_bounds(x.spec, axis, int(part))))
        else:
            for indices in _index_tensors(x, axis, part):
                template.append(("array",))
                arrays.append(indices)
        axis += _num_axes(part)
    return tuple(template), arrays


def _num_axes(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    mask: Any = _as_tensor(part) if isinstance(part, (list, tuple)) else part
    return mask.ndim if getattr(mask, "dtype", None) == np.bool_ else 1


def _as_tensor(part: Any) -> Tensor | None:
    try:
        return as_tensor(part)
    except (DtypeError, ShapeError):
        return None


def _is_plain_integer(part: Any) -> bool:
    return isinstance(part, (int, np.integer)) and not isinstance(part, bool)


def _slice_numbers(x: Tensor, key: Sequence[Any], part: slice) -> tuple[Any, Any, Any]:
    """Start, stop and step as Python integers, or as sizes of the batch."""
    try:
        start, stop, step = (
            b if b is None or isinstance(b, Size) else operator.index(b)
            for b in (part.start, part.stop, part.step)
        )
    except (TypeError, DtypeError):
        raise IndexingError(
            "index: a slice bound is not an integer",
            got=f"{x.spec}[{_describe(key)}]",
            expected="integers, or nothing, around the colon",
        ) from None
    if step == 0:
        raise IndexingError(
            "index: a slice with step 0",
            got=f"{x.spec}[{_describe(key)}]",
            expected="a step other than 0",
        )
    return start, stop, step


def _check_bounds(x: Spec, axis: int, i: int) -> int:
    if not -x.shape[axis] <= i < x.shape[axis]:
        raise IndexingError(
            f"index: {i} is outside axis {axis}",
            got=f"index {i} on {x}",
            expected=f"{-x.shape[axis]} to {x.shape[axis] - 1}",
        )
    return i


def _index_tensors(x: Tensor, axis: int, part: Any) -> list[Tensor]:
    """One index tensor, or for a mask one for each axis that it covers."""
    t = _as_tensor(part)
    if t is not None and t.dtype == np.bool_:
        if not t.ndim or t.shape != x.shape[axis : axis + t.ndim]:
            raise IndexingError(
                "index: the mask has another shape than what it selects from",
                got=f"{t.spec} on {x.spec}, axis {axis}",
                expected=f"bool{list(x.shape[axis : axis + max(t.ndim, 1)])}",
            )
        return [as_tensor(n) for n in np.nonzero(t.data)]
    if t is not None and t.size == 0:
        t = as_tensor(t, INT64)
    if t is None or t.dtype.kind not in "iu":
        raise IndexingError(
            "index: not an index",
            got=t.spec if t is not None else type(part).__name__,
            expected="integers, slices, None, ..., integer arrays or masks",
            hint="x.astype('int64')",
        )
    _check_indices(x.spec, axis, t)
    return [t]


def _check_indices(x: Spec, axis: int, t: Tensor) -> None:
    indices = known_values(t)
    if indices is not None and indices.size:
        _check_bounds(x, axis, int(indices.min()))
        _check_bounds(x, axis, int(indices.max()))


def _describe(parts: Sequence[Any]) -> str:
    """An index as text, its arrays as specs."""
    names = []
    for part in parts:
        if isinstance(part, slice):
            bounds = [part.start, part.stop]
            bounds += [] if part.step is None else [part.step]
            names.append(":".join("" if b is None else str(b) for b in bounds))
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
    """The shape of an index expression, by NumPy's rules.

    Where there are index arrays, single integers count among them. What they broadcast
    to takes their place if they stand side by side, else it comes first.
    """
    try:
        picked = broadcast_shapes("index", *arrays) if arrays else ()
    except ShapeError:
        raise ShapeError(
            "index: index arrays do not broadcast with one another",
            got=", ".join(map(str, arrays)),
            expected="equal sizes, or 1, on every axis counted from the right",
        ) from None
    shape: list[int] = []
    places: list[int] = []  # where in the template arrays and integers stand
    start = axis = 0
    for place, (kind, *values) in enumerate(template):
        if kind == "new":
            shape.append(1)
        elif kind == "slice":
            shape.append(_sliced(x.shape[axis], *values))
        else:
            start = start if places else len(shape)
            places.append(place)
        axis += kind != "new"
    if places and places[-1] - places[0] >= len(places):
        start = 0
    shape[start:start] = picked
    return (*shape, *x.shape[axis:])


def _sliced(size: int, start: Any, stop: Any, step: int | None) -> int:
    """How many of ``size`` elements a slice takes."""
    if all(type(n) is int or n is None for n in (size, start, stop)):
        return len(range(size)[start:stop:step])
    if step == -1 and start is None and stop is None:
        return size  # all of them, backwards
    if step not in (None, 1):
        return len(range(size)[slice(start, stop, step)])  # for this size alone
    low = 0 if start is None else _inside(size, start)
    high = size if stop is None else _inside(size, stop)
    return high - low if high > low else 0


def _inside(size: int, bound: int) -> int:
    """A slice's bound counted from the start, and not outside."""
    if bound < 0:
        bound = size + bound
    return 0 if bound < 0 else size if bound > size else bound


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


@register
@dataclass(frozen=True)
class Positions(Op):
    """The numbers of the slices along an axis, counted from 0."""

    name = "positions"
    pattern = "blocks: positions do not depend on the values"
    axis: int

    def spec(self, *inputs: Spec) -> Spec:
        return Spec((inputs[0].shape[self.axis],), INT64)

    def compute(self, *arrays: Any) -> Any:
        return np.arange(arrays[0].shape[self.axis], dtype=INT64)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (None,)


# --------------------------------------------------------------- public functions


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
    key = [i if a == position else _along(i, a) for a in range(t.ndim)]
    return index(t, tuple(key))


def _along(x: Tensor, axis: int) -> Tensor:
    """The positions along one axis of x, as an array that broadcasts with x."""
    shape = tuple(-1 if a == axis else 1 for a in range(x.ndim))
    row: Tensor = FUNCTIONS["reshape"](positions(x, axis), shape)
    return row


@function
def positions(x: Any, axis: int = 0) -> Tensor:
    """0, 1 ... n - 1 for the n slices of x along an axis: int64.

    Example:
        >>> import chainrule as cr
        >>> cr.positions(cr.Tensor([[5.0, 6.0], [7.0, 8.0]]))
        Tensor([0, 1], dtype=int64)
    """
    t = as_tensor(x)
    (a,) = normalize_axes("positions", axis, t.ndim)
    return apply(Positions.make(a), t)


@function
def scatter_add(x: Any, indices: Any, size: int, axis: int = 0) -> Tensor:
    """Zeros of ``size`` along an axis, with slices of x added at integer positions.

    The transpose of ``take``: positions that repeat add up.

    Raises IndexingError for a position outside 0 … size - 1.
    """
    t, i = as_tensor(x), as_tensor(indices)
    (position,) = normalize_axes("scatter_add", axis, t.ndim - i.ndim + 1)
    length = size if isinstance(size, Size) else int(size)
    shape = (*t.shape[:position], length, *t.shape[position + i.ndim :])
    _check_indices(Spec(shape, t.dtype), position, i)
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
    (num_classes,) = integers("one_hot", num_classes)
    if num_classes < 1:
        raise OptionError("one_hot: no classes", got=num_classes, expected="at least 1")
    labels = known_values(t)
    if t.dtype.kind in "iu" and labels is not None and labels.size:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= num_classes:
            raise IndexingError(
                "one_hot: a label is out of range",
                got=f"labels from {low} to {high}",
                expected=f"0 to {num_classes - 1}",
                hint="count classes from 0, or raise num_classes",
            )
    return apply(OneHot.make(num_classes, as_dtype(dtype)), t)
