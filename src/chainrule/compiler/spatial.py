"""Ops that slide windows over images, as definitions: part of the first pass.

Convolutions become a ``Convolution`` each, and pooling an elementwise value of what
its window's taps see. Vectors run along channels, so all of it wants them last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from chainrule.compiler.ir import (
    Access,
    Convolution,
    Geometry,
    Index,
    Map,
    Place,
    Size,
    Spread,
    identity,
)
from chainrule.compiler.lowering import (
    Lowering,
    View,
    opaque,
    own_places,
    padded,
    rule,
)
from chainrule.core import scalar
from chainrule.ops import convolution, pooling
from chainrule.ops.window import Window

Sizes = tuple[Size, ...]
Dtype = np.dtype[Any]

_MOST_TAPS = 64
"""Of a window whose elements an expression names one by one."""

_PARTS_BYTES = 1 << 21
"""Of the sums over parts of the places, taken together."""


def _flat(view: View) -> View:
    """A row of pixels (n, w, c) as an image of one row."""
    n, *rest = view.shape
    return View((n, 1, *rest), view.access) if len(view.shape) == 3 else view


def _flat_window(window: Window) -> Window:
    if window.ndim == 2:
        return window
    return Window(
        (1, *window.size), (1, *window.stride), ((0, 0), *window.padding),
        (1, *window.dilation),
    )  # fmt: skip


def _otherwise(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View | None:
    """The value where there are no pixels, or no native code; else None."""
    shapes = (*(x.shape for x in operands), shape)
    is_known = all(isinstance(s, int) for given in shapes for s in given[1:])
    if op.window.ndim > 2 or dtype.kind != "f" or not is_known:
        return opaque(to, op, shape, dtype, operands)
    if any(s == 0 for given in shapes for s in given):
        return to.map(shape, dtype, scalar.constant(0.0))
    return None


def _otherwise_pooled(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View | None:
    if math.prod(op.window.size) > _MOST_TAPS:
        return opaque(to, op, shape, dtype, operands)
    return _otherwise(to, op, shape, dtype, operands)


def _geometry(images: Sizes, outputs: Sizes, window: Window, groups: int) -> Geometry:
    n, h, w, channels = images
    _, p, q, filters = (int(s) if isinstance(s, int) else 0 for s in outputs)
    assert isinstance(h, int)
    assert isinstance(w, int)
    assert isinstance(channels, int)
    return Geometry(n, (h, w), (p, q), channels, filters, window, groups)


def _whole(to: Lowering, view: View) -> Access:
    node = to.whole(view)
    return Access(node, identity(len(node.shape)))


def _kept(shape: Sequence[Size]) -> Sizes:
    return tuple(s for s in shape if s != 1)


# ------------------------------------------------------------------- convolution


@rule(convolution.Convolve)
def _convolve(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    x, w = operands
    other = _otherwise(to, op, shape, dtype, operands)
    if other is not None:
        return other
    flat = _flat(View(shape, x.access)).shape
    window = _flat_window(op.window)
    g = _geometry(_flat(x).shape, flat, window, op.groups)
    a, b = _whole(to, x), _whole(to, w)
    node = Convolution(to.name(), _kept(flat), dtype, "outputs", a, b, g)
    return View(shape, to.add(node).access)


@rule(convolution.ConvolveToData)
def _convolve_to_data(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    y, w = operands
    other = _otherwise(to, op, shape, dtype, operands)
    if other is not None:
        return other
    flat = _flat(View(shape, y.access)).shape
    window = _flat_window(op.window)
    g = _geometry(flat, _flat(y).shape, window, op.groups)
    a, b = _whole(to, y), _whole(to, w)
    node = Convolution(to.name(), _kept(flat), dtype, "data", a, b, g)
    return View(shape, to.add(node).access)


@rule(convolution.ConvolveToFilters)
def _convolve_to_filters(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    x, y = operands
    other = _otherwise(to, op, shape, dtype, operands)
    if other is not None:
        return other
    window = _flat_window(op.window)
    g = _geometry(_flat(x).shape, _flat(y).shape, window, op.groups)
    a, b = _whole(to, x), _whole(to, y)
    kh, kw, channels, filters = g.kernel
    size = kh * kw * channels * filters
    # As many parts as threads could want, but what they make is read once more.
    parts = min(16, max(1, _PARTS_BYTES // (size * dtype.itemsize)))
    swapped = filters < 16 and channels > filters and op.groups == 1
    order: tuple[int, ...] = (kh, kw, channels, filters)
    if swapped:
        order = (kh, filters, kw, channels)
    full = (parts, *order)
    node = Convolution(
        to.name(), _kept(full), dtype, "filters", a, b, g, parts, swapped
    )
    own = View(full, to.add(node).access)
    i, j, c, o = own_places((kh, kw, channels, filters))
    inner = [i, o, j, c] if swapped else [i, j, c, o]
    reads = tuple(own.read([Index(offset=p), *inner]) for p in range(parts))
    total = reduce(
        lambda s, k: s + scalar.symbol(f"x{k}"), range(1, parts), scalar.symbol("x0")
    )
    kept = _kept((kh, kw, channels, filters))
    sum_ = Map(to.name(), kept, dtype, "expression", total, reads)
    return View(shape, to.add(sum_).access)


# ----------------------------------------------------------------------- pooling


def _seen(
    to: Lowering, x: View, window: Window, outputs: Sizes, value: float
) -> list[Access]:
    """What each tap of a window sees at the reader's position among the outputs."""
    x, outputs = _flat(x), _flat(View(outputs, x.access)).shape
    window = _flat_window(window)
    if any(map(any, window.padding)):
        starts = [0, *(max(lo, 0) for lo, _ in window.padding), 0]
        sizes = [
            h + max(lo, 0) + max(hi, 0)  # type: ignore[operator]
            for h, (lo, hi) in zip(x.shape[1:-1], window.padding, strict=True)
        ]
        x = padded(to, x, (x.shape[0], *sizes, x.shape[-1]), starts, value)
    n, *places, c = own_places(outputs)
    found = []
    for tap in itertools.product(*map(range, window.size)):
        at: list[Place] = [n]
        for p, i, s, d, (lo, _), h in zip(
            places, tap, window.stride, window.dilation, window.padding,
            x.shape[1:-1], strict=True,
        ):  # fmt: skip
            assert isinstance(p, Index)
            terms = tuple((axis, s) for axis, _ in p.terms)
            place = Index(terms, i * d - min(lo, 0))
            at.append(Index() if h == 1 else place)
        found.append(x.read([*at, c]))
    return found


def _pooled(
    to: Lowering, x: View, op: Any, shape: Sizes, kind: str, value: float
) -> View:
    """The sum or maximum of what the window sees."""
    taps = _seen(to, x, op.window, shape, value)
    accesses = tuple(dict.fromkeys(taps))
    names = [scalar.symbol(f"x{accesses.index(a)}") for a in taps]
    join = scalar.maximum if kind == "maximum" else (lambda a, b: a + b)
    expression = reduce(join, names)
    node = Map(to.name(), _kept(shape), x.dtype, "expression", expression, accesses)
    return View(shape, to.add(node).access)


@rule(pooling.MaxPool, pooling.SumPool)
def _pool(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    (x,) = operands
    other = _otherwise_pooled(to, op, shape, dtype, operands)
    if other is not None:
        return other
    if isinstance(op, pooling.MaxPool):
        return _pooled(to, x, op, shape, "maximum", -math.inf)
    return _pooled(to, x, op, shape, "add", 0.0)


@rule(pooling.MaxPoolPick)
def _pick(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    z, x = operands
    other = _otherwise_pooled(to, op, shape, dtype, operands)
    if other is not None:
        return other
    values = _seen(to, x, op.window, shape, -math.inf)
    picks = _seen(to, z, op.window, shape, 0.0)
    accesses = tuple(dict.fromkeys([*values, *picks]))
    top, chosen = (scalar.symbol(f"x{accesses.index(a[0])}") for a in (values, picks))
    for v, p in zip(values[1:], picks[1:], strict=True):
        value, pick = (scalar.symbol(f"x{accesses.index(a)}") for a in (v, p))
        is_larger = exceeds(value, top)
        chosen = scalar.select(is_larger, pick, chosen)
        top = scalar.select(is_larger, value, top)
    node = Map(to.name(), _kept(shape), dtype, "expression", chosen, accesses)
    return View(shape, to.add(node).access)


def exceeds(value: scalar.Expr, top: scalar.Expr) -> scalar.Expr:
    """Whether a value replaces the largest so far: NaN counts as largest."""
    is_number = scalar.equal(top, top)
    is_not_less = scalar.logical_not(scalar.compare("less_equal", value, top))
    return scalar.logical_and(is_number, is_not_less)


@rule(pooling.MaxPoolRoute)
def _route(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    z, x = operands
    other = _otherwise_pooled(to, op, shape, dtype, operands)
    if other is not None:
        return other
    return _spread(to, op, z, x, shape)


@rule(pooling.SumPoolToData)
def _sum_pool_to_data(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    (y,) = operands
    other = _otherwise_pooled(to, op, shape, dtype, operands)
    if other is not None:
        return other
    return _spread(to, op, y, None, shape)


def _spread(to: Lowering, op: Any, y: View, x: View | None, shape: Sizes) -> View:
    y = _flat(y)
    full = _flat(View(shape, y.access)).shape
    g = _geometry(full, y.shape, _flat_window(op.window), 1)
    images = None
    if x is not None:
        images = x.read(own_places(x.shape))
    access = y.read(own_places(y.shape))
    node = Spread(to.name(), _kept(full), y.dtype, access, images, g)
    return View(shape, to.add(node).access)
