"""Ops that slide windows over images, as definitions: part of the first pass.

Convolutions become a ``Convolution`` each, and pooling an elementwise value of what
its window's taps see. Vectors run along channels, so all of it wants them last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
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
    Rule,
    View,
    opaque,
    own_places,
    rule,
)
from chainrule.core import scalar
from chainrule.core.spec import BOOL
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


def windowed(*classes: Any, most_taps: int = 1 << 30) -> Callable[[Rule], Rule]:
    """Enter a rule for ops with a window of up to so many taps.

    It is for images that have pixels, of known sizes and one or two axes of them.
    """

    def enter(function: Rule) -> Rule:
        def lowered(
            to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
        ) -> View:
            shapes = [*(x.shape for x in operands), shape]
            is_known = all(isinstance(s, int) for given in shapes for s in given[1:])
            is_small = op.window.ndim <= 2 and math.prod(op.window.size) <= most_taps
            if not (is_known and is_small and dtype.kind == "f"):
                return opaque(to, op, shape, dtype, operands)
            if any(0 in given for given in shapes):
                return to.map(shape, dtype, scalar.constant(0.0))
            return function(to, op, shape, dtype, operands)

        return rule(*classes)(lowered)

    return enter


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


@windowed(convolution.Convolve)
def _convolve(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    x, w = operands
    flat = _flat(View(shape, x.access)).shape
    window = _flat_window(op.window)
    g = _geometry(_flat(x).shape, flat, window, op.groups)
    if _is_depthwise(g):
        return _weighted(to, x, w, window, shape, dtype)
    a, b = _whole(to, x), _whole(to, w)
    node = Convolution(to.name(), _kept(flat), dtype, "outputs", a, b, g)
    return View(shape, to.add(node).access)


@windowed(convolution.ConvolveToData)
def _convolve_to_data(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    y, w = operands
    flat = _flat(View(shape, y.access)).shape
    window = _flat_window(op.window)
    g = _geometry(flat, _flat(y).shape, window, op.groups)
    if _is_depthwise(g) and window.stride == (1, 1):
        # Outputs see their pixels as a window would whose taps are in reverse.
        padding = [(r - 1 - lo, 0) for r, (lo, _) in
                   zip(window.reach, window.padding, strict=True)]  # fmt: skip
        back = Window(window.size, (1, 1), tuple(padding), window.dilation)
        return _weighted(to, y, w, back, shape, dtype, flips=True)
    a, b = _whole(to, y), _whole(to, w)
    node = Convolution(to.name(), _kept(flat), dtype, "data", a, b, g)
    return View(shape, to.add(node).access)


@windowed(convolution.ConvolveToFilters)
def _convolve_to_filters(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    x, y = operands
    window = _flat_window(op.window)
    g = _geometry(_flat(x).shape, _flat(y).shape, window, op.groups)
    if _is_depthwise(g):
        return _correlated(to, x, y, g, shape)
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


def _is_depthwise(g: Geometry) -> bool:
    """Whether every channel has one filter of its own."""
    taps = math.prod(g.window.size)
    return g.groups == g.channels == g.filters > 1 and taps <= _MOST_TAPS


def _weighted(
    to: Lowering,
    x: View,
    w: View,
    window: Window,
    shape: Sizes,
    dtype: Dtype,
    *,
    flips: bool = False,
) -> View:
    """Σ over taps of what each sees, times the tap's weight for the channel."""
    seen = _seen(to, x, window, shape, 0.0)
    kernel = _flat_kernel(w)
    channel = own_places(shape)[-1]
    weights = [
        kernel.read([Index(offset=i), Index(offset=j), Index(), channel])
        for i, j in itertools.product(*map(range, window.size))
    ]
    if flips:
        weights.reverse()
    accesses = tuple(dict.fromkeys([*seen, *weights]))
    name = {a: scalar.symbol(f"x{i}") for i, a in enumerate(accesses)}
    terms = [name[a] * name[b] for a, b in zip(seen, weights, strict=True)]
    total = reduce(lambda s, t: s + t, terms)
    node = Map(to.name(), _kept(shape), dtype, "expression", total, accesses)
    return View(shape, to.add(node).access)


def _correlated(to: Lowering, x: View, y: View, g: Geometry, shape: Sizes) -> View:
    """Each tap's weight by channel: Σ over places of what it sees times the output."""
    x, y, window = _flat(x), _flat(y), g.window
    framed = _framed(to, x, window, g.outputs, 0.0)
    full = (*window.size, g.channels, g.batch, *g.places)
    i, j, c, n, p, q = own_places(full)
    sees: list[Place] = [n]
    for place, tap, s, d, (lo, _) in zip(
        (p, q), (i, j), window.stride, window.dilation, window.padding, strict=True
    ):
        assert isinstance(place, Index)
        assert isinstance(tap, Index)
        terms = [(a, s) for a, _ in place.terms] + [(a, d) for a, _ in tap.terms]
        sees.append(Index(tuple(sorted(terms)), -lo))
    accesses = (framed.read([*sees, c]), y.read([n, p, q, c]))
    x0, x1 = scalar.symbol("x0"), scalar.symbol("x1")
    node = Map(to.name(), _kept(full), y.dtype, "expression", x0 * x1, accesses)
    total = to.fold("add", View(full, to.add(node).access), (3, 4, 5))
    return View(shape, total.access)


def _flat_kernel(w: View) -> View:
    """Filters of a row (kw, in, out) as filters of an image."""
    return View((1, *w.shape), w.access) if len(w.shape) == 3 else w


# ----------------------------------------------------------------------- pooling


def _seen(
    to: Lowering, x: View, window: Window, outputs: Sizes, value: float
) -> list[Access]:
    """What each tap of a window sees at the reader's position among the outputs."""
    x, outputs = _flat(x), _flat(View(outputs, x.access)).shape
    window = _flat_window(window)
    x = _framed(to, x, window, outputs, value)
    n, *places, c = own_places(outputs)
    found = []
    for tap in itertools.product(*map(range, window.size)):
        at: list[Place] = [n]
        for p, i, s, d, (lo, _) in zip(
            places, tap, window.stride, window.dilation, window.padding, strict=True
        ):
            assert isinstance(p, Index)
            terms = tuple((axis, s) for axis, _ in p.terms)
            at.append(Index(terms, i * d - lo))
        found.append(x.access.substitute([p for p, s in
                     zip([*at, c], x.shape, strict=True) if s != 1]))  # fmt: skip
    return found


def _framed(
    to: Lowering, x: View, window: Window, outputs: Sizes, value: float
) -> View:
    """Images with as much of a value around them as the window looks at."""
    margins = []
    for k, s, d, (lo, _), h, o in zip(
        window.size, window.stride, window.dilation, window.padding, x.shape[1:-1],
        outputs[1:-1], strict=True,
    ):  # fmt: skip
        assert isinstance(h, int)
        assert isinstance(o, int)
        last = s * (o - 1) + d * (k - 1) - lo
        margins.append((max(lo, 0), max(last - h + 1, 0)))
    if not any(map(any, margins)):
        return x
    pairs = ((0, 0), *margins, (0, 0))
    # An axis of size 1 counts if there is something beside it.
    kept = [s != 1 or any(p) for s, p in zip(x.shape, pairs, strict=True)]
    count = itertools.count()
    places = [Index.axis(next(count)) if k else Index() for k in kept]
    shape = tuple(s for s, k in zip(x.shape, kept, strict=True) if k)
    node = Map(
        to.name(), shape, x.dtype, "expression", scalar.symbol("x0"),
        (x.read(places),), fill=value,
        margins=tuple(p for p, k in zip(pairs, kept, strict=True) if k),
    )  # fmt: skip
    access = to.add(node).access
    # In the view's shape such an axis is not 1: its places are not dropped.
    sizes = tuple(2 if k and s == 1 else s for s, k in zip(x.shape, kept, strict=True))
    return View(sizes, access)


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


@windowed(pooling.MaxPool, pooling.SumPool, most_taps=_MOST_TAPS)
def _pool(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    (x,) = operands
    if isinstance(op, pooling.MaxPool):
        return _pooled(to, x, op, shape, "maximum", -math.inf)
    return _pooled(to, x, op, shape, "add", 0.0)


@windowed(pooling.MaxPoolPick, most_taps=_MOST_TAPS)
def _pick(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    z, x = operands
    values, picks = (
        [View(_kept(shape), a) for a in _seen(to, t, op.window, shape, fill)]
        for t, fill in ((x, -math.inf), (z, 0.0))
    )
    top, chosen = values[0], picks[0]
    x0, x1, x2 = (scalar.symbol(f"x{i}") for i in range(3))
    # The first largest: NaN counts as such, and what is equal comes too late.
    exceeds = scalar.logical_and(
        scalar.equal(x1, x1), scalar.logical_not(scalar.compare("less_equal", x0, x1))
    )
    for value, pick in zip(values[1:], picks[1:], strict=True):
        is_larger = to.map(top.shape, BOOL, exceeds, value, top)
        pair = (is_larger, pick, chosen), (is_larger, value, top)
        chosen, top = (to.map(top.shape, dtype, scalar.select(x0, x1, x2), *views)
                       for views in pair)  # fmt: skip
    return View(shape, chosen.access)


@windowed(pooling.MaxPoolRoute, most_taps=_MOST_TAPS)
def _route(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    z, x = operands
    return _spread(to, op, z, x, shape)


@windowed(pooling.SumPoolToData, most_taps=_MOST_TAPS)
def _sum_pool_to_data(
    to: Lowering, op: Any, shape: Sizes, dtype: Dtype, operands: Sequence[View]
) -> View:
    (y,) = operands
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
