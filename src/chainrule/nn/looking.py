"""What the values of a captured graph look at: one rule for each kind of op.

Each value keeps, for each spatial axis of the input, what its positions look at: an
interval of input pixels for every position of one period, after which everything begins
anew some pixels further on. Windows widen the intervals, strides stretch them, and
branches that meet take the wider of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from chainrule.core.capture import Node
from chainrule.ops.convolution import Convolve, ConvolveToData
from chainrule.ops.elementwise import AsType, ElementwiseOp
from chainrule.ops.indexing import Index
from chainrule.ops.linalg import MatMul
from chainrule.ops.pooling import MaxPool, SumPool, SumPoolToData
from chainrule.ops.reduce import AlongAxis, ArgExtremum, Reduction
from chainrule.ops.shape import (
    BroadcastTo,
    Concatenate,
    Flip,
    Pad,
    Reshape,
    Transpose,
)
from chainrule.ops.window import Window

__all__ = ["LooksAtAll", "Seen", "View", "Walk"]


@dataclass(frozen=True)
class View:
    """What the positions along an axis of a value look at, along an axis of the input.

    Position r + q·period looks at input pixels first[r] + q·multiple to last[r] +
    q·multiple.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    multiple: int

    @property
    def period(self) -> int:
        return len(self.first)

    @property
    def stride(self) -> Fraction:
        return Fraction(self.multiple, self.period)

    def at(self, position: int) -> tuple[int, int]:
        q, r = divmod(position, self.period)
        return self.first[r] + q * self.multiple, self.last[r] + q * self.multiple

    def seen_by(self, reads: Reads) -> View:
        """The view of a value each of whose positions reads an interval of these."""
        repeats = self.period // math.gcd(self.period, reads.skip)
        first, last = [], []
        for place in range(reads.every * repeats):
            low, high = reads.interval(place)
            # Intervals of neighbours need not grow in order, so all are looked at.
            ends = [self.at(p) for p in range(low, high + 1)]
            first.append(min(a for a, _ in ends))
            last.append(max(b for _, b in ends))
        multiple = self.multiple * reads.skip * repeats // self.period
        return View(tuple(first), tuple(last), multiple)

    def reaching_out(self, size: int, whole: int) -> View:
        """The view where positions outside of 0 to size - 1 count as outside pixels.

        What is put there, zeros say, is no pixel of a larger picture. Only a crop makes
        a difference: it leaves out positions that look at pixels inside.
        """
        early = max(0, self.at(-1)[0] + 1)
        late = max(0, whole - self.at(size)[1])
        return View(
            tuple(a - early for a in self.first),
            tuple(b + late for b in self.last),
            self.multiple,
        )


@dataclass(frozen=True)
class Reads:
    """What positions of a result read of an operand, along one axis.

    ``interval`` says it for one position; ``every`` positions further on, it is
    ``skip`` positions further on.
    """

    interval: Callable[[int], tuple[int, int]]
    every: int = 1
    skip: int = 1


class LooksAtAll(Exception):
    """A place of the graph at which positions look at all there is."""


@dataclass(frozen=True)
class Seen:
    """Of a value: for each spatial axis of the input, its own axis and the view."""

    axes: tuple[int, ...]
    views: tuple[View, ...]


class Walk:
    """The views of all values of one graph, in the order of its nodes."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        self.sizes = in_shape[:-1]
        self.seen: dict[int, Seen] = {}

    def visit(self, node: Node) -> None:
        if node.kind == "input":
            axes = tuple(range(1, len(self.sizes) + 1))
            self.seen[id(node)] = Seen(axes, (View((0,), (0,), 1),) * len(axes))
        if any(id(operand) in self.seen for operand in node.inputs):
            for kind, rule in _RULES.items():
                if isinstance(node.op, kind):
                    self.seen[id(node)] = rule(self, node)
                    return
            raise LooksAtAll(f"no rule says what {node.formula} looks at")

    # What the rules are made of.

    def one(self, node: Node) -> Seen:
        """What is known of an op's only operand that depends on the input."""
        depending = [x for x in node.inputs if id(x) in self.seen]
        if len(depending) != 1:
            raise LooksAtAll(f"{node.formula} weighs the input by itself")
        return self.seen[id(depending[0])]

    def moved(
        self, node: Node, seen: Seen, axes: Sequence[int], reads: Sequence[Reads]
    ) -> Seen:
        """The views of a result, whose axes read those of its first operand."""
        views = []
        (operand,) = [x for x in node.inputs if id(x) in self.seen]
        shape, result = _sizes(operand), _sizes(node)
        for old, new, view, read, whole in zip(
            seen.axes, axes, seen.views, reads, self.sizes, strict=True
        ):
            low, high = read.interval(0)[0], read.interval(result[new] - 1)[1]
            if low < 0 or high >= shape[old]:
                view = view.reaching_out(shape[old], whole)
            views.append(view.seen_by(read))
        return Seen(tuple(axes), tuple(views))

    def passed(self, node: Node, axes: Callable[[Seen, Node], Sequence[int]]) -> Seen:
        """The views of a result, each position of which reads one of each operand.

        ``axes`` says where an operand's axes are in the result. An operand that does
        not depend on the input has to be the same at all positions.
        """
        met: Seen | None = None
        for operand in node.inputs:
            seen = self.seen.get(id(operand))
            if seen is None:
                continue
            here = Seen(tuple(axes(seen, operand)), seen.views)
            for old, new in zip(seen.axes, here.axes, strict=True):
                if _sizes(operand)[old] != _sizes(node)[new]:
                    raise LooksAtAll(
                        f"{node.formula} repeats what was seen at one place"
                    )
            met = here if met is None else _joined(met, here, node)
        assert met is not None  # visit asks for an operand that depends on the input
        for operand in node.inputs:
            if id(operand) not in self.seen:
                _check_uniform(operand, node, met.axes)
        return met


def _joined(a: Seen, b: Seen, node: Node) -> Seen:
    """The wider of two views, where branches of a network meet."""
    views = []
    for first, second in zip(a.views, b.views, strict=True):
        if first.stride != second.stride or a.axes != b.axes:
            raise LooksAtAll(f"{node.formula} joins places of different scales")
        multiple = math.lcm(first.multiple, second.multiple)
        period = multiple * first.period // first.multiple
        ends = [(first.at(p), second.at(p)) for p in range(period)]
        views.append(
            View(
                tuple(min(x[0], y[0]) for x, y in ends),
                tuple(max(x[1], y[1]) for x, y in ends),
                multiple,
            )
        )
    return Seen(a.axes, tuple(views))


def _check_uniform(constant: Node, node: Node, axes: Sequence[int]) -> None:
    """Raise LooksAtAll for numbers that differ from place to place."""
    sizes = _sizes(constant)
    for axis in axes:
        own = axis - (len(_sizes(node)) - len(sizes))
        if own < 0 or sizes[own] == 1:
            continue
        values = _values(constant)
        if values is None or (values != values.take([0], own)).any():
            raise LooksAtAll(f"{node.formula} has other numbers at every place")


def _values(node: Node) -> Any:
    """The values of a constant of the graph; None for what training may change."""
    is_fixed = node.kind == "constant" and node.tensor is not None
    return node.tensor.numpy() if is_fixed and node.tensor is not None else None


def _sizes(node: Node) -> tuple[int, ...]:
    return tuple(map(int, node.shape))


# ------------------------------------------------------------------ one rule for an op


def _same_place(walk: Walk, node: Node) -> Seen:
    """Operands are broadcast: axes are counted from the right."""
    return walk.passed(
        node, lambda seen, x: [a + len(node.shape) - len(x.shape) for a in seen.axes]
    )


def _windowed(
    walk: Walk, node: Node, reads_of: Callable[[int, int, int, int], Reads]
) -> Seen:
    """``reads_of`` tells it from an axis's stride, dilation, size, padding before."""
    op: Any = node.op
    view: Window = op.window
    seen = walk.one(node)
    reads = []
    for axis in seen.axes:
        s, d, k = view.stride[axis - 1], view.dilation[axis - 1], view.size[axis - 1]
        reads.append(reads_of(s, d, k, view.padding[axis - 1][0]))
    return walk.moved(node, seen, seen.axes, reads)


def _window_slides(walk: Walk, node: Node) -> Seen:
    return _windowed(
        walk, node, lambda s, d, k, low: Reads(_between(s, d * (k - 1), low), 1, s)
    )


def _between(stride: int, reach: int, low: int) -> Callable[[int], tuple[int, int]]:
    return lambda p: (stride * p - low, stride * p - low + reach)


def _window_paints(walk: Walk, node: Node) -> Seen:
    return _windowed(
        walk, node, lambda s, d, k, low: Reads(_painters(s, d, k, low), s, 1)
    )


def _painters(
    stride: int, dilation: int, taps: int, low: int
) -> Callable[[int], tuple[int, int]]:
    """The places p with stride·p + dilation·i - low = a, for some tap i."""

    def interval(a: int) -> tuple[int, int]:
        places = [
            (a + low - dilation * i) // stride
            for i in range(taps)
            if (a + low - dilation * i) % stride == 0
        ]
        # Where no window paints, it counts as painted by the one before.
        places = places or [(a + low) // stride]
        return min(places), max(places)

    return interval


def _axes_move(walk: Walk, node: Node) -> Seen:
    op: Any = node.op
    return walk.passed(node, lambda seen, x: [op.axes.index(a) for a in seen.axes])


def _flips(walk: Walk, node: Node) -> Seen:
    op: Any = node.op
    if set(op.axes) & set(walk.one(node).axes):
        raise LooksAtAll(f"{node.formula} turns the picture around")
    return _same_place(walk, node)


def _folds(walk: Walk, node: Node) -> Seen:
    op: Any = node.op
    seen = walk.one(node)
    if set(op.axes) & set(seen.axes):
        raise LooksAtAll(f"{node.formula} looks at all places")
    gone = () if op.keepdims else op.axes
    axes = [a - sum(b < a for b in gone) for a in seen.axes]
    return Seen(tuple(axes), seen.views)


def _along_axis(walk: Walk, node: Node) -> Seen:
    op: Any = node.op
    seen = walk.one(node)
    if op.axis in seen.axes:
        raise LooksAtAll(f"{node.formula} looks at all places")
    gone = isinstance(op, ArgExtremum)
    axes = [a - (gone and op.axis < a) for a in seen.axes]
    return Seen(tuple(axes), seen.views)


def _joins(walk: Walk, node: Node) -> Seen:
    op: Any = node.op
    if any(op.axis in walk.seen[id(x)].axes for x in node.inputs if id(x) in walk.seen):
        raise LooksAtAll(f"{node.formula} lays pictures beside each other")
    return walk.passed(node, lambda seen, x: seen.axes)


def _pads(walk: Walk, node: Node) -> Seen:
    op: Any = node.op
    seen = walk.one(node)
    shifts = [op.widths[axis][0] for axis in seen.axes]
    return walk.moved(
        node, seen, seen.axes, [Reads(_between(1, 0, low)) for low in shifts]
    )


def _reshapes(walk: Walk, node: Node) -> Seen:
    """Axes are merged and split; positions stay in order along the outermost of them.

    Position p of an axis with b elements in each position reads elements p·b to p·b + b
    - 1, of which an old position has a.
    """
    seen = walk.one(node)
    (x,) = node.inputs
    axes, reads = [], []
    for axis in seen.axes:
        found = _regrouped(_sizes(x), _sizes(node), axis)
        if found is None:
            raise LooksAtAll(f"{node.formula} writes the picture as one row")
        new, a, b = found
        common = math.gcd(a, b)
        axes.append(new)
        reads.append(Reads(_elements(a, b), a // common, b // common))
    return walk.moved(node, seen, axes, reads)


def _elements(a: int, b: int) -> Callable[[int], tuple[int, int]]:
    return lambda p: (p * b // a, (p * b + b - 1) // a)


def _regrouped(
    old: tuple[int, ...], new: tuple[int, ...], axis: int
) -> tuple[int, int, int] | None:
    """Where an axis is after a reshape, and how many elements a position has, both.

    None for an axis that is not the outermost of those it is merged with.
    """
    before = math.prod(old[:axis])
    if old[axis] == 1:
        return None
    for place, size in enumerate(new):
        if math.prod(new[:place]) == before and size != 1:
            group = _common_multiple(old[axis:], new[place:])
            return place, group // old[axis], group // size
    return None


def _common_multiple(old: tuple[int, ...], new: tuple[int, ...]) -> int:
    """The elements of the first axes of both, up to where axes of both end."""
    a, b = old[0], new[0]
    i = j = 1
    while a != b:
        if a < b:
            a *= old[i]
            i += 1
        else:
            b *= new[j]
            j += 1
    return a


def _indexes(walk: Walk, node: Node) -> Seen:
    """Slices, and positions that are constants: upsampling by the nearest pixel."""
    op: Any = node.op
    seen = walk.one(node)
    x, *arrays = node.inputs
    if id(x) not in walk.seen or len(arrays) > 1 or any(a.ndim != 1 for a in arrays):
        raise LooksAtAll(f"{node.formula} picks places")
    axes, reads, position, axis = [], [], 0, 0
    for kind, *bounds in op.template:
        if axis in seen.axes and kind != "new":
            size = _sizes(x)[axis]
            if kind == "slice":
                start, _, step = slice(*bounds).indices(size)
                if step < 0:
                    raise LooksAtAll(f"{node.formula} turns the picture around")
                read = Reads(_between(step, 0, -start), 1, step)
            elif kind == "array":
                picked = _values(arrays[0])
                if picked is None:
                    raise LooksAtAll(f"{node.formula} picks places")
                read = _rows_read(np.eye(size)[picked], node)
            else:
                raise LooksAtAll(f"{node.formula} picks one place")
            axes.append(position)
            reads.append(read)
        axis += kind != "new"
        position += kind != "integer"
    return walk.moved(node, seen, axes, reads)


def _multiplies(walk: Walk, node: Node) -> Seen:
    """A layer at every place, or interpolation: a constant matrix from the left."""
    op: Any = node.op
    seen = walk.one(node)
    a, b = node.inputs
    rank = len(node.shape)
    is_right = id(b) in walk.seen
    x = b if is_right else a
    transposed = op.transposes_b if is_right else op.transposes_a
    # The axis of x that the product sums over, and the one that stays.
    summed, kept = len(x.shape) - 2 + (not is_right), len(x.shape) - 1 - (not is_right)
    if transposed:
        summed, kept = kept, summed
    axes, reads = [], []
    for axis in seen.axes:
        if axis == summed:
            matrix = _values(a) if is_right else None
            if matrix is None or matrix.ndim != 2:
                raise LooksAtAll(f"{node.formula} looks at all places")
            matrix = matrix.T if op.transposes_a else matrix
            axes.append(rank - 2)
            reads.append(_rows_read(matrix, node))
        else:
            if axis == kept:
                axes.append(rank - 1 if is_right else rank - 2)
            else:
                axes.append(axis + rank - len(x.shape))
            reads.append(Reads(_between(1, 0, 0)))
    return walk.moved(node, seen, axes, reads)


def _rows_read(matrix: Any, node: Node) -> Reads:
    """What the rows of a matrix read, if they repeat as sizes do, but at the edges."""
    new, old = matrix.shape
    common = math.gcd(new, old)
    every, skip = new // common, old // common
    low, high = [old] * every, [-old] * every
    inner: dict[int, bytes] = {}
    for place, row in enumerate(matrix):
        q, r = divmod(place, every)
        (columns,) = np.nonzero(row)
        if not columns.size:
            continue
        first, last = int(columns[0]), int(columns[-1])
        low[r] = min(low[r], first - q * skip)
        high[r] = max(high[r], last - q * skip)
        if first > 0 and last < old - 1:
            weights = row[first : last + 1].astype(np.float32).round(5).tobytes()
            if inner.setdefault(r, weights) != weights:
                raise LooksAtAll(f"{node.formula} has other numbers at every place")

    def interval(place: int) -> tuple[int, int]:
        q, r = divmod(place, every)
        return low[r] + q * skip, high[r] + q * skip

    return Reads(interval, every, skip)


_RULES: dict[Any, Callable[[Walk, Node], Seen]] = {
    (ElementwiseOp, AsType, BroadcastTo): _same_place,
    (Convolve, MaxPool, SumPool): _window_slides,
    (ConvolveToData, SumPoolToData): _window_paints,
    Transpose: _axes_move,
    Flip: _flips,
    Reduction: _folds,
    AlongAxis: _along_axis,
    Concatenate: _joins,
    Pad: _pads,
    Reshape: _reshapes,
    Index: _indexes,
    MatMul: _multiplies,
}
