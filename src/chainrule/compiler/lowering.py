"""Ops as definitions, element by element: the first pass.

Views (reshape, transpose, slices, broadcasts) become arithmetic on the places that
their readers read; composite ops (softmax, mean) become maps and reductions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.compiler.ir import (
    Access,
    Alias,
    Contract,
    Definitions,
    Dynamic,
    Extent,
    Index,
    Join,
    Leaf,
    Map,
    Node,
    Opaque,
    Place,
    Reduce,
    Scan,
    Scatter,
    Size,
    at,
    identity,
    plus,
    product,
    row_major,
)
from chainrule.core import scalar
from chainrule.core.capture import CapturedGraph, op_at
from chainrule.core.op import Op
from chainrule.core.scalar import Expr
from chainrule.core.size import Number
from chainrule.core.size import Size as CapturedSize
from chainrule.core.spec import BOOL, INT64
from chainrule.ops import elementwise, indexing, linalg, random, reduce, shape

__all__ = [
    "Lowering",
    "Rule",
    "View",
    "lower",
    "opaque",
    "own_places",
    "padded",
    "rule",
]


class View(NamedTuple):
    """A tensor while it is lowered: its shape, and what its elements are.

    The access's places count the axes of ``shape`` that are not of size 1.
    """

    shape: tuple[Size, ...]
    access: Access

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.access.node.dtype

    @property
    def kept(self) -> tuple[Size, ...]:
        """The sizes of the axes that count."""
        return tuple(s for s in self.shape if s != 1)

    def read(self, places: Sequence[Place]) -> Access:
        """The element at one place for each axis of ``shape``."""
        kept = [p for p, s in zip(places, self.shape, strict=True) if s != 1]
        return self.access.substitute(kept)


def own_places(sizes: Sequence[Size]) -> list[Place]:
    """A place for each axis: the reader's own position; 0 where the size is 1."""
    count = itertools.count()
    return [Index() if s == 1 else Index.axis(next(count)) for s in sizes]


class Lowering:
    """The walk over a captured graph that collects definitions."""

    def __init__(self, n: int | None = None, batch: int | None = None) -> None:
        self.n = n
        self.batch = batch or 0
        """The captured batch size."""
        self.definitions = Definitions()
        self._numbers: dict[Any, Leaf] = {}
        self._count = itertools.count(1)

    # Sizes and numbers.

    def extent(self, size: Any) -> Size:
        """A size of a captured tensor."""
        if not isinstance(size, CapturedSize):
            return int(size)
        whole = Extent(size.per_batch, size.fixed)
        return whole if self.n is None else at(whole, self.n)

    def known(self, number: Number) -> Any:
        """A number of the capture, as far as it is known."""
        if self.n is not None:
            return number.at(self.n)
        return self.extent(number) if isinstance(number, CapturedSize) else number

    # Making nodes.

    def name(self) -> str:
        """A name for the next value."""
        return f"v{next(self._count)}"

    def add(self, node: Node) -> View:
        """Take up a definition; its shape has no axes of size 1."""
        self.definitions.nodes.append(node)
        return View(node.shape, Access(node, identity(len(node.shape))))

    def whole(self, view: View) -> Node:
        """The node whose elements, in order, are the view's."""
        access = view.access
        if access.is_identity and access.node.shape == view.kept:
            return access.node
        copy = Map(
            self.name(), view.kept, view.dtype, "expression", scalar.symbol("x0"),
            (access,),
        )  # fmt: skip
        self.add(copy)
        return copy

    def map(
        self,
        shape: Sequence[Size],
        dtype: np.dtype[Any],
        expression: Expr,
        *views: View,
    ) -> View:
        """An elementwise value of this shape; operands broadcast, aligned right."""
        places = own_places(shape)
        accesses: list[Access] = []
        symbols: dict[str, Expr] = {}
        for i, view in enumerate(views):
            literal = _literal(view)
            if literal is not None:
                symbols[f"x{i}"] = scalar.constant(literal)
                continue
            access = view.read(places[len(places) - len(view.shape) :])
            if access not in accesses:
                accesses.append(access)
            symbols[f"x{i}"] = scalar.symbol(f"x{accesses.index(access)}")
        kept = tuple(s for s in shape if s != 1)
        node = Map(
            self.name(), kept, dtype, "expression",
            scalar.substitute(expression, symbols), tuple(accesses),
        )  # fmt: skip
        return View(tuple(shape), self.add(node).access)

    def cast(self, view: View, dtype: np.dtype[Any]) -> View:
        """The values in another dtype."""
        if view.dtype == dtype:
            return view
        access = view.read(own_places(view.shape))
        node = Map(self.name(), view.kept, dtype, "cast", None, (access,))
        return View(view.shape, self.add(node).access)

    def fold(
        self, kind: str, view: View, axes: Sequence[int], *, keepdims: bool = False
    ) -> View:
        """A reduction of some axes."""
        kept = [a for a in range(len(view.shape)) if a not in axes]
        order = itertools.count()
        places: dict[int, Place] = {}
        for a in (*kept, *sorted(axes)):
            size = view.shape[a]
            places[a] = Index() if size == 1 else Index.axis(next(order))
        access = view.read([places[a] for a in range(len(view.shape))])
        extents = tuple(view.shape[a] for a in sorted(axes) if view.shape[a] != 1)
        shape = tuple(view.shape[a] for a in kept if view.shape[a] != 1)
        dtype = INT64 if kind in ("argmax", "argmin") else view.dtype
        if keepdims:
            full = tuple(1 if a in axes else s for a, s in enumerate(view.shape))
        else:
            full = tuple(view.shape[a] for a in kept)
        if not extents:  # nothing to fold
            is_place = kind in ("argmax", "argmin")
            return (
                self.map(full, INT64, scalar.constant(0))
                if is_place
                else (View(full, access))
            )
        node = Reduce(self.name(), shape, dtype, kind, extents, access)
        return View(full, self.add(node).access)

    def number(self, value: Any, dtype: np.dtype[Any]) -> View:
        """A number that may depend on the batch size."""
        key = (str(value), dtype)
        if key not in self._numbers:
            leaf = Leaf(f"n{len(self._numbers)}", (), dtype, "number", value)
            self.definitions.nodes.append(leaf)
            self._numbers[key] = leaf
        return View((), Access(self._numbers[key], ()))

    def count(self, sizes: Sequence[Size], dtype: np.dtype[Any]) -> View:
        """How many elements there are, as a number."""
        return self.number(product(sizes), dtype)

    def place(self, view: View, size: Size, *, wraps: bool = True) -> View:
        """Indices along an axis of a size: out of range they are a fault."""
        access = view.read(own_places(view.shape))
        node = Map(
            self.name(), view.kept, INT64, "place", None, (access,), (size, wraps)
        )
        return View(view.shape, self.add(node).access)

    def iota(self, size: Size) -> View:
        """0, 1, 2 ... along one axis."""
        kept = () if size == 1 else (size,)
        return View((size,), self.add(Map(self.name(), kept, INT64, "iota")).access)


def _literal(view: View) -> float | None:
    """The value of a constant number, which an expression can hold itself."""
    leaf = view.access.node
    if not isinstance(leaf, Leaf) or leaf.shape:
        return None
    if leaf.kind == "number" and isinstance(leaf.source, (int, float)):
        return leaf.source
    if leaf.kind == "constant" and leaf.source.size == 1:
        array = leaf.source._array
        if not array.flags.writeable:  # a number shared by all its uses
            value: float = array.item()
            return value
    return None


Rule = Callable[[Lowering, Any, tuple[Size, ...], np.dtype[Any], Sequence[View]], View]
RULES: dict[type[Op], Rule] = {}
"""How each op class is lowered; subclasses follow their base."""


def rule(*classes: Any) -> Callable[[Rule], Rule]:
    """Enter a rule for op classes."""

    def enter(function: Rule) -> Rule:
        for cls in classes:
            RULES[cls] = function
        return function

    return enter


def _rule_of(op: Op) -> Rule | None:
    return next((RULES[c] for c in type(op).__mro__ if c in RULES), None)


# -------------------------------------------------------------------- elementwise


@rule(elementwise.ElementwiseOp)
def _elementwise(
    to: Lowering,
    op: Any,
    shape: tuple[Size, ...],
    dtype: np.dtype[Any],
    operands: Sequence[View],
) -> View:
    names = {n: scalar.symbol(f"x{i}") for i, n in enumerate(op.arguments)}
    expression = scalar.substitute(op.expression, names)
    return to.map(shape, dtype, expression, *operands)


@rule(elementwise.AsType)
def _astype(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    return to.cast(operands[0], dtype)


@rule(random.DropoutMask)
def _dropout_mask(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    _, key, step = operands
    words = [key.read([Index(offset=i)]) for i in (0, 1)]
    threshold = min(round(op.rate * 2**32), 2**32 - 1)
    scale = float(dtype.type(1 / (1 - op.rate)))
    kept = tuple(s for s in shape if s != 1)
    node = Map(
        to.name(), kept, dtype, "dropout", None, (*words, step.read([])),
        (threshold, scale),
    )  # fmt: skip
    return View(shape, to.add(node).access)


# --------------------------------------------------------------------- reductions

_FOLDS: dict[Any, str] = {
    reduce.Sum: "add",
    reduce.Max: "maximum",
    reduce.Min: "minimum",
    reduce.ArgMax: "argmax",
    reduce.ArgMin: "argmin",
}


@rule(reduce.Sum, reduce.Max, reduce.Min)
def _reduction(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    return to.fold(_FOLDS[type(op)], operands[0], op.axes, keepdims=op.keepdims)


@rule(reduce.ArgMax, reduce.ArgMin)
def _position(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    return to.fold(_FOLDS[type(op)], operands[0], (op.axis,))


x0, x1, x2 = (scalar.symbol(f"x{i}") for i in range(3))


@rule(reduce.Mean)
def _mean(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    (x,) = operands
    total = to.fold("add", x, op.axes, keepdims=op.keepdims)
    count = to.count([x.shape[a] for a in op.axes], dtype)
    return to.map(shape, dtype, x0 / x1, total, count)


@rule(reduce.LogSumExp)
def _logsumexp(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    (x,) = operands
    top = to.fold("maximum", x, op.axes, keepdims=True)
    # An infinite maximum would make inf - inf; leave it in place then.
    is_finite = scalar.less(scalar.absolute(x0), math.inf)
    finite = scalar.select(is_finite, x0, 0)
    shift = to.map(top.shape, dtype, finite, top)
    powers = to.map(x.shape, dtype, scalar.exp(x0 - x1), x, shift)
    total = to.fold("add", powers, op.axes, keepdims=True)
    y = to.map(top.shape, dtype, scalar.log(x0) + x1, total, shift)
    return View(shape, y.access)


def _powers(
    to: Lowering, x: View, axis: int, dtype: np.dtype[Any]
) -> tuple[View, View, View]:
    """The largest element along an axis, exp(x - largest), and the sum of those."""
    top = to.fold("maximum", x, (axis,), keepdims=True)
    powers = to.map(x.shape, dtype, scalar.exp(x0 - x1), x, top)
    return top, powers, to.fold("add", powers, (axis,), keepdims=True)


@rule(reduce.Softmax)
def _softmax(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    (x,) = operands
    _, powers, total = _powers(to, x, op.axis, dtype)
    return to.map(shape, dtype, x0 / x1, powers, total)


@rule(reduce.LogSoftmax)
def _log_softmax(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    (x,) = operands
    top, _, total = _powers(to, x, op.axis, dtype)
    return to.map(shape, dtype, (x0 - x1) - scalar.log(x2), x, top, total)


@rule(reduce.CumSum)
def _cumsum(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    (x,) = operands
    if x.shape[op.axis] == 1:
        return x
    axis = sum(s != 1 for s in x.shape[: op.axis])
    node = Scan(to.name(), x.kept, dtype, x.read(own_places(x.shape)), axis)
    return View(x.shape, to.add(node).access)


# -------------------------------------------------------------------------- views


@rule(shape.Transpose)
def _transpose(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    (x,) = operands
    places = own_places(shape)
    back = [places[op.axes.index(a)] for a in range(len(shape))]
    return View(shape, x.read(back))


@rule(shape.BroadcastTo)
def _broadcast_to(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    (x,) = operands
    places = own_places(shape)[len(shape) - len(x.shape) :]
    return View(shape, x.read(places))


@rule(shape.Flip)
def _flip(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    places: list[Place] = []
    for a, place in enumerate(own_places(shape)):
        if a in op.axes and isinstance(place, Index) and place.terms:
            ((axis, _),) = place.terms
            place = Index(((axis, -1),), plus(shape[a], -1))
        places.append(place)
    return View(shape, operands[0].read(places))


@rule(shape.Reshape)
def _reshape(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    (x,) = operands
    before = [s for s in x.shape if s != 1]
    after = [s for s in shape if s != 1]
    if before == after:
        return View(shape, x.access)
    places = _split_places(before, after)
    if places is not None:
        return View(shape, x.access.substitute(places))
    node = to.whole(x)
    alias = Alias(
        to.name(), tuple(after), dtype, Access(node, identity(len(node.shape)))
    )
    return View(shape, to.add(alias).access)


def _split_places(before: Sequence[Size], after: Sequence[Size]) -> list[Place] | None:
    """Where to read if axes are only split, not joined; None otherwise."""
    places: list[Place] = []
    axis = 0
    for size in before:
        inner: list[Size] = []
        while product(inner) != size or not inner:
            if axis == len(after):
                return None
            inner.append(after[axis])
            axis += 1
            if isinstance(size, int) and isinstance(product(inner), Extent):
                return None
        strides = row_major(inner)
        terms = []
        for i, stride in enumerate(strides):
            if not isinstance(stride, int):
                return None
            terms.append((axis - len(inner) + i, stride))
        places.append(Index(tuple(terms)))
    return places if axis == len(after) else None


@rule(shape.Concatenate)
def _concatenate(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    parts = [x for x in operands if x.shape[op.axis] != 0]
    if not parts:
        return operands[0]
    axis = sum(size != 1 for size in shape[: op.axis])
    accesses = []
    for x in parts:
        accesses.append(x.read(own_places(shape)))
    sizes = tuple(x.shape[op.axis] for x in parts)
    if shape[op.axis] == 1:
        return View(shape, accesses[0])
    kept = tuple(s for s in shape if s != 1)
    node = Join(to.name(), kept, dtype, tuple(accesses), axis, sizes)
    return View(shape, to.add(node).access)


def _gather_axis(
    to: Lowering, x: View, axis: int, shape: Sequence[Size], positions: View
) -> View:
    """x of this shape, read along one axis at the positions given for that axis."""
    places = own_places(shape)
    source = to.whole(x)
    full = View(x.shape, Access(source, identity(len(source.shape))))
    own = positions.read(places[axis:])
    places[axis] = Dynamic(own, x.shape[axis])
    access = full.read(places)
    kept = tuple(s for s in shape if s != 1)
    node = Map(to.name(), kept, x.dtype, "expression", x0, (access,))
    return View(tuple(shape), to.add(node).access)


@rule(shape.Pad)
def _pad(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    starts = [to.extent(before) for before, _ in op.widths]
    return padded(to, operands[0], shape, starts, op.value)


def padded(
    to: Lowering, y: View, shape: Sequence[Size], starts: Sequence[Size], value: float
) -> View:
    """y as a part of something larger: where it starts there, and what is around it."""
    dtype = y.dtype
    for axis, start in enumerate(starts):
        size = y.shape[axis]
        if size == shape[axis]:
            continue
        before = to.number(start, INT64)
        wide = (*y.shape[:axis], shape[axis], *y.shape[axis + 1 :])
        position = to.iota(wide[axis])
        where = View((*position.shape, *(1,) * (len(wide) - axis - 1)), position.access)
        last = to.number(plus(size, -1), INT64)
        inside = to.map(
            where.shape, INT64,
            scalar.minimum(scalar.maximum(x0 - x1, 0), x2), where, before, last,
        )  # fmt: skip
        end = to.number(plus(size, start), INT64)
        is_inside = to.map(
            where.shape,
            BOOL,
            scalar.logical_and(
                scalar.compare("greater_equal", x0, x1), scalar.less(x0, x2)
            ),
            where,
            before,
            end,
        )
        border = scalar.constant(value)
        if size == 0:
            y = to.map(wide, dtype, border)
            continue
        part = _gather_axis(to, y, axis, wide, inside)
        y = to.map(wide, dtype, scalar.select(x0, x1, border), is_inside, part)
    return y


# ----------------------------------------------------------------------- products


@rule(linalg.MatMul)
def _matmul(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    a, b = operands
    places = own_places(shape)
    row, column = places[-2:]
    depth = a.shape[-2 if op.transposes_a else -1]
    if 0 in (*shape, depth):
        return to.map(shape, dtype, scalar.constant(0.0))
    ndim = sum(s != 1 for s in shape)
    k: Place = Index() if depth == 1 else Index.axis(ndim)
    left = [k, row] if op.transposes_a else [row, k]
    right = [column, k] if op.transposes_b else [k, column]
    batch = places[:-2]
    kept = tuple(s for s in shape if s != 1)
    left_access = a.read([*batch[len(batch) - len(a.shape) + 2 :], *left])
    right_access = b.read([*batch[len(batch) - len(b.shape) + 2 :], *right])
    if 1 not in (shape[-2], shape[-1], depth) and dtype.kind == "f":
        node: Node = Contract(to.name(), kept, dtype, left_access, right_access, depth)
        return View(shape, to.add(node).access)
    # A vector times a matrix is a reduction, a column times a row an outer product.
    wide = kept if depth == 1 else (*kept, depth)
    terms = Map(
        to.name(), wide, dtype, "expression", x0 * x1, (left_access, right_access)
    )
    view = to.add(terms)
    if depth != 1:
        view = to.fold("add", view, (len(kept),))
    return View(shape, view.access)


# ----------------------------------------------------------------------- indexing


@rule(indexing.Positions)
def _positions(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    places = own_places(shape)
    iota = to.iota(shape[0])
    return View(shape, iota.read(places[:1]))


def _index_places(
    to: Lowering,
    template: indexing.Template,
    sizes: Sequence[Size],
    arrays: Sequence[View],
    result: Sequence[Size],
) -> list[Place]:
    """For each axis of the indexed tensor, where the element of the result lies."""
    named = sum(kind != "new" for kind, *_ in template)
    template = (*template, *[("slice", None, None, None)] * (len(sizes) - named))
    advanced = [i for i, (kind, *_) in enumerate(template) if kind == "array"]
    joined = [
        i for i, (kind, *_) in enumerate(template) if kind in ("array", "integer")
    ]
    width = max((len(a.shape) for a in arrays), default=0)
    places = own_places(result)
    is_together = bool(advanced) and joined == list(range(joined[0], joined[-1] + 1))
    plain = [i for i, (kind, *_) in enumerate(template) if kind in ("slice", "new")]
    first = sum(1 for i in plain if i < joined[0]) if is_together else 0
    block = places[first : first + width]
    others = iter([*places[:first], *places[first + width :]])
    remaining = iter(arrays)
    found: list[Place] = []
    axis = 0
    for kind, *values in template:
        if kind == "new":
            next(others)
            continue
        size = sizes[axis]
        axis += 1
        if kind == "slice":
            found.append(_slice_place(to, next(others), size, *values))
        elif kind == "integer":
            found.append(Index(offset=_begin(to, size, *values)))
        else:
            view = next(remaining)
            access = view.read(block[width - len(view.shape) :])
            is_iota = isinstance(access.node, Map) and access.node.kind == "iota"
            if size == 1:
                found.append(Index())
            elif is_iota:
                found.append(access.places[0] if access.places else Index())
            else:
                found.append(Dynamic(access, size))
    return found


def _begin(
    to: Lowering, size: Size, start: Any, stop: Any = None, step: int | None = None
) -> Size:
    """Where a slice begins; guards see to it that for other n it is there as well."""
    n = to.batch
    if step not in (None, 1):
        if start is None and step == -1:
            return plus(size, -1)
        bounds = [b if b is None else at(to.extent(b), n) for b in (start, stop)]
        return slice(bounds[0], bounds[1], step).indices(at(size, n))[0]
    begin = 0 if start is None else to.extent(start)
    if at(begin, n) < 0:
        begin = plus(size, begin)
    if at(begin, n) > at(size, n):
        return size
    return begin if at(begin, n) > 0 else 0


def _slice_place(
    to: Lowering, place: Place, size: Size, start: Any, stop: Any, step: int | None
) -> Place:
    begin = _begin(to, size, start, stop, step)
    step = 1 if step is None else step
    assert isinstance(place, Index)
    if not place.terms:
        return Index(offset=begin)
    ((axis, _),) = place.terms
    return Index(((axis, step),), begin)


def _picks_rows(places: Sequence[Place]) -> bool:
    """Whether an index is one element of each row: own row, column as a tensor says."""
    return (
        len(places) == 2
        and places[0] == Index.axis(0)
        and isinstance(places[1], Dynamic)
    )


def _is_column(to: Lowering, place: Dynamic, rows: Size) -> View:
    """For each row and column, whether the column is the row's own."""
    columns = to.iota(place.size)
    own = to.place(View((rows, 1), place.access), place.size)
    return to.map((rows, place.size), BOOL, scalar.equal(x0, x1), columns, own)


@rule(indexing.Index)
def _index(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    x, *arrays = operands
    places = _index_places(to, op.template, x.shape, arrays, shape)
    if not any(isinstance(p, Dynamic) for p in places):
        return View(shape, x.read(places))
    if len(shape) == 1 and shape[0] != 1 and _picks_rows(places):
        column = places[1]
        assert isinstance(column, Dynamic)
        full = (shape[0], x.shape[1])
        mine = _is_column(to, column, shape[0])
        rows = View(full, x.read(own_places(full)))
        own = to.map(full, dtype, scalar.select(x0, x1, 0), mine, rows)
        return to.fold("add", own, (1,))
    source = to.whole(x)
    stored = View(x.shape, Access(source, identity(len(source.shape))))
    access = stored.read(places)
    kept = tuple(s for s in shape if s != 1)
    node = Map(to.name(), kept, dtype, "expression", x0, (access,))
    return View(shape, to.add(node).access)


@rule(indexing.IndexAdd)
def _index_add(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    x, *arrays = operands
    if not arrays and all(k != "slice" or v[2] in (None, 1) for k, *v in op.template):
        return _placed(to, op.template, x, shape)
    places = _index_places(to, op.template, shape, arrays, x.shape)
    if len(x.shape) == 1 and x.shape[0] != 1 and _picks_rows(places):
        column = places[1]
        assert isinstance(column, Dynamic)
        mine = _is_column(to, column, x.shape[0])
        rows = View((x.shape[0], 1), x.access)
        return to.map(shape, dtype, scalar.select(x0, x1, 0), mine, rows)
    kept = tuple(p for p, s in zip(places, shape, strict=True) if s != 1)
    node = Scatter(
        to.name(), tuple(s for s in shape if s != 1), dtype,
        Access(to.whole(x), identity(len(x.kept))), kept,
    )  # fmt: skip
    return View(shape, to.add(node).access)


def _placed(
    to: Lowering, template: indexing.Template, x: View, shape: Sequence[Size]
) -> View:
    """Zeros with x in the place of slices and single indices."""
    sizes: list[Size] = []
    starts: list[Size] = []
    given = iter(x.shape)
    remaining = iter(shape)
    for kind, *values in template:
        if kind == "new":
            next(given)
            continue
        sizes.append(next(given) if kind == "slice" else 1)
        starts.append(_begin(to, next(remaining), *values))
    part = View((*sizes, *given), x.access)
    starts += [0] * (len(shape) - len(starts))
    return padded(to, part, shape, starts, 0.0)


@rule(indexing.OneHot)
def _one_hot(
    to: Lowering, op: Any, shape: Any, dtype: np.dtype[Any], operands: Sequence[View]
) -> View:
    (labels,) = operands
    columns = to.iota(shape[-1])
    own = View((*labels.shape, 1), labels.access)
    own = to.place(own, shape[-1], wraps=False)
    is_mine = to.map(shape, BOOL, scalar.equal(x0, x1), columns, own)
    return to.map(shape, dtype, scalar.select(x0, 1, 0), is_mine)


# ------------------------------------------------------------------- the whole walk


def lower(graph: CapturedGraph, n: int | None = None) -> Definitions:
    """The definitions of a captured graph: for the batch size n, or for all."""
    to = Lowering(n, graph.batch)
    views: dict[Any, View] = {}
    for number, node in enumerate(graph.inputs):
        views[node] = _leaf(to, node, "input", number)
    for node in graph.nodes:
        if node in views:
            continue
        sizes = tuple(map(to.extent, node.spec.shape))
        dtype = node.spec.dtype
        if node.op is not None:
            op = node.op if n is None else op_at(node.op, n)
            operands = [views[i] for i in node.inputs]
            found = _rule_of(op)
            if found is None:
                views[node] = opaque(to, op, sizes, dtype, operands)
            else:
                views[node] = found(to, op, sizes, dtype, operands)
        elif node.kind == "number":
            assert node.number is not None
            views[node] = to.number(to.known(node.number), dtype)
        else:
            views[node] = _leaf(to, node, node.kind, node.tensor)
    _finish(to, graph, views)
    return to.definitions


def _leaf(to: Lowering, node: Any, kind: str, source: Any) -> View:
    sizes = tuple(map(to.extent, node.spec.shape))
    kept = tuple(s for s in sizes if s != 1)
    leaf = Leaf(node.name or to.name(), kept, node.spec.dtype, kind, source)
    return View(sizes, to.add(leaf).access)


def opaque(
    to: Lowering,
    op: Op,
    sizes: tuple[Size, ...],
    dtype: np.dtype[Any],
    operands: Sequence[View],
) -> View:
    """The value as NumPy computes it."""
    wholes = [to.whole(x) for x in operands]
    accesses = tuple(Access(w, identity(len(w.shape))) for w in wholes)
    kept = tuple(s for s in sizes if s != 1)
    shapes = (*(x.shape for x in operands), sizes)
    node = Opaque(to.name(), kept, dtype, op, accesses, shapes)
    return View(sizes, to.add(node).access)


def _finish(to: Lowering, graph: CapturedGraph, views: dict[Any, View]) -> None:
    """Name what the function returns and writes."""
    definitions = to.definitions
    leaves = {  # by identity: tensors compare element by element
        id(leaf.source): leaf
        for leaf in definitions.nodes
        if isinstance(leaf, Leaf) and leaf.kind == "variable"
    }
    for variable, node in graph.assignments:
        if id(variable) not in leaves:
            shape = tuple(s for s in variable.shape if s != 1)
            leaf = Leaf(to.name(), shape, variable.dtype, "variable", variable)
            to.add(leaf)
            leaves[id(variable)] = leaf
        view = to.cast(views[node], variable.dtype)
        definitions.assignments.append((leaves[id(variable)], to.whole(view)))
    results = [*graph.outputs, *(node for _, node in graph.gradients)]
    results += [node for _, node in graph.input_gradients]
    definitions.outputs = [to.whole(views[node]) for node in results]
