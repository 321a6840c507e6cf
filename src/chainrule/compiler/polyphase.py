"""Convolution as sums over contiguous memory: which taps meet which pixels.

By outputs, output p sees tap i at element s·p + d·i - lo of the image. By data, pixel
s·q + r is painted by tap i from output q + (r + lo - d·i) / s, where that is whole: one
sum for each remainder r, a *phase*, in which the taps that count lie t apart. So both
are sums over taps of a small filter, read at a constant distance from where the result
stands; what lies outside the image is read from its margins.

Source: V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning,
2016, sections 4 and 5, for the transposed convolution as several convolutions.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Literal

from chainrule.compiler.ir import (
    Access,
    Convolution,
    Definitions,
    Geometry,
    Index,
    Map,
    Node,
    Packed,
    Place,
    Reduce,
    Size,
    identity,
    pinned,
)
from chainrule.compiler.simplify import rebuilt, with_operands
from chainrule.compiler.winograd import apart, winograd_tile
from chainrule.core import scalar

__all__ = [
    "AxisPhase",
    "Phase",
    "arrange_windows",
    "channels_of",
    "columns_of",
    "polyphase",
]

Margins = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class AxisPhase:
    """Along one axis, results that are made alike.

    Result number q is element ``first`` + ``step``·q. Its term t, of ``count``, is
    filter tap ``tap`` + ``tap_step``·t and element ``pace``·q + ``offset`` +
    ``advance``·t of what is summed up.
    """

    first: int
    step: int
    size: int
    pace: int
    tap: int
    tap_step: int
    count: int
    offset: int
    advance: int

    @property
    def taps(self) -> range:
        """The filter's taps, in the order of the terms."""
        return range(
            self.tap, self.tap + self.tap_step * self.count, self.tap_step or 1
        )

    def margin(self, length: int) -> tuple[int, int]:
        """How far its terms reach beyond an axis of this length, before and behind."""
        if not self.count:
            return 0, 0
        last = self.pace * (self.size - 1) + self.offset
        last += self.advance * (self.count - 1)
        return max(0, -self.offset), max(0, last - length + 1)

    def trimmed(self, length: int) -> AxisPhase:
        """Without the taps that meet nothing but margin for all results."""
        phase = self
        reach = self.pace * (self.size - 1)
        while phase.count and phase.offset + reach < 0:
            phase = replace(
                phase,
                tap=phase.tap + phase.tap_step,
                count=phase.count - 1,
                offset=phase.offset + phase.advance,
            )
        while phase.count and (
            phase.offset + phase.advance * (phase.count - 1) >= length
        ):
            phase = replace(phase, count=phase.count - 1)
        return phase


@dataclass(frozen=True)
class Phase:
    """Results that are made alike, along both axes."""

    rows: AxisPhase
    columns: AxisPhase

    def depth(self, channels: int) -> int:
        """How many terms each result has."""
        return self.rows.count * self.columns.count * channels


def polyphase(by: Literal["outputs", "data"], g: Geometry) -> list[Phase]:
    """The phases of a convolution."""
    w = g.window
    axes = []
    for k, s, d, (lo, _), h, o in zip(
        w.size, w.stride, w.dilation, w.padding, g.image, g.places, strict=True
    ):
        if by == "outputs":
            whole = AxisPhase(0, 1, o, s, 0, 1, k, -lo, d)
            axes.append([whole.trimmed(h)])
            continue
        apart = s // math.gcd(s, d)
        found = []
        for r in range(min(s, h)):
            taps = [i for i in range(k) if (r + lo - d * i) % s == 0]
            size = len(range(r, h, s))
            if taps:
                offset = (r + lo - d * taps[-1]) // s
                phase = AxisPhase(
                    r, s, size, 1, taps[-1], -apart, len(taps), offset, d * apart // s
                )
                found.append(phase.trimmed(o))
            else:
                found.append(AxisPhase(r, s, size, 1, 0, 0, 0, 0, 0))
        axes.append(found)
    return [Phase(*pair) for pair in itertools.product(*axes)]


def columns_of(results: int, terms: int) -> int:
    """How many results of a pixel a panel of packed filters has.

    A vector of results would be nearly empty where they are few: then a panel is the
    filter of one result, and vectors run along the terms.
    """
    if results <= 4 and terms >= 16:
        return 1
    return 32 if results > 16 else 16


def packed_size(
    by: Literal["outputs", "data"], g: Geometry, columns: int, tile: int
) -> int:
    """How many elements the filters have once they are packed."""
    terms, results = channels_of(by, g)
    panels = -(-results // columns)
    if tile:
        (phase,) = polyphase(by, g)
        return panels * apart(columns * terms) * (tile + phase.rows.count - 1) ** 2
    depth = sum(phase.depth(terms) for phase in polyphase(by, g))
    return max(1, g.groups * panels * columns * depth)


def channels_of(by: Literal["outputs", "data"], g: Geometry) -> tuple[int, int]:
    """Channels summed over, and made, in one group."""
    pair = g.channels // g.groups, g.filters // g.groups
    return pair if by == "outputs" else pair[::-1]


def _margins(node: Convolution) -> Margins:
    """What the images that a convolution reads need around them: n, h, w, c."""
    g = node.geometry
    if node.by == "filters":
        # All taps have a result, even those that only see margin.
        w = g.window
        pairs = tuple(
            AxisPhase(0, 1, o, s, 0, 1, k, -lo, d).margin(h)
            for k, s, d, (lo, _), h, o in zip(
                w.size, w.stride, w.dilation, w.padding, g.image, g.places, strict=True
            )
        )
    else:
        sizes = g.image if node.by == "outputs" else g.places
        found = [
            (p.rows.margin(sizes[0]), p.columns.margin(sizes[1]))
            for p in polyphase(node.by, g)
            if p.depth(1)
        ]
        pairs = tuple(_union([f[a] for f in found]) for a in (0, 1))
    return ((0, 0), *pairs, (0, 0))


def _union(pairs: list[tuple[int, int]]) -> tuple[int, int]:
    return max((p[0] for p in pairs), default=0), max((p[1] for p in pairs), default=0)


def arrange_windows(given: Definitions) -> Definitions:
    """Give convolutions images with margins, and filters packed for their tiles."""
    wanted = _wanted(given)
    nodes: list[Node] = []
    renamed: dict[Node, Node] = {}
    copies: dict[tuple[Node, tuple[Size, ...]], Node] = {}
    for node in given.nodes:
        current = with_operands(node, renamed)
        if isinstance(current, Convolution) and isinstance(node, Convolution):
            current = _arranged(current, node, wanted, copies, nodes)
        elif node in wanted:
            current = replace(current, margins=wanted[node])
        if isinstance(current, Convolution) and node in wanted:
            current = replace(current, margins=wanted[node])
        renamed[node] = current
        nodes.append(current)
    return rebuilt(given, nodes, renamed)


def _image_shape(node: Convolution) -> tuple[Size, ...]:
    g = node.geometry
    return g.outputs if node.by == "data" else g.images


def _wanted(given: Definitions) -> dict[Node, Margins]:
    """Values that can have margins of their own, with what their readers need."""
    bound = pinned(given)
    found: dict[Node, Margins] = {}
    for node in given.nodes:
        if not isinstance(node, Convolution):
            continue
        source, margins = node.a.node, _margins(node)
        is_free = isinstance(source, (Map, Reduce)) or (
            isinstance(source, Convolution) and source.by != "filters"
        )
        if (
            is_free
            and source not in bound
            and source.shape == _image_shape(node)
            and any(map(any, margins))
        ):
            before = found.get(source, margins)
            found[source] = tuple(
                _union(list(pair)) for pair in zip(before, margins, strict=True)
            )
    return found


def _arranged(
    current: Convolution,
    given: Convolution,
    wanted: dict[Node, Margins],
    copies: dict[tuple[Node, tuple[Size, ...]], Node],
    nodes: list[Node],
) -> Convolution:
    """The convolution with operands as its kernel reads them."""
    margins, shape = _margins(current), _image_shape(current)
    a = current.a
    is_framed = given.a.node in wanted and given.a.node.shape == shape
    if any(map(any, margins)) and not is_framed:
        if shape[-1] == 1:
            shape, margins = shape[:-1], margins[:-1]
        copy = _copied(a.node, shape, margins, copies, nodes)
        a = Access(copy, identity(len(shape)))
    g = current.geometry
    if current.by == "filters":
        tile = winograd_tile("filters", g, g.window.size, g.places, current.dtype)
        return replace(current, a=a, tile=0 if current.swapped else tile)
    first = polyphase(current.by, g)[0]
    rows, across = first.rows, first.columns
    counts, sizes = (rows.count, across.count), (rows.size, across.size)
    tile = winograd_tile(current.by, g, counts, sizes, current.dtype)
    terms, results = channels_of(current.by, g)
    columns = columns_of(results, terms)
    packed = Packed(
        f"{current.b.node.name}_panels", (packed_size(current.by, g, columns, tile),),
        current.dtype, access=current.b, by=current.by, geometry=g, columns=columns,
        tile=tile,
    )  # fmt: skip
    nodes.append(packed)
    return replace(current, a=a, b=Access(packed, identity(1)), tile=tile)


def _copied(
    source: Node,
    shape: tuple[Size, ...],
    margins: Margins,
    copies: dict[tuple[Node, tuple[Size, ...]], Node],
    nodes: list[Node],
) -> Node:
    """A copy that has margins, with its axes of size 1 but for that of channels."""
    key = (source, shape)
    before = copies.get(key)
    if before is not None:
        # Its maker comes before all its readers, so it can still grow.
        before.margins = tuple(
            _union(list(p)) for p in zip(before.margins, margins, strict=True)
        )
        return before
    places: list[Place] = [Index.axis(a) for a, s in enumerate(shape) if s != 1]
    access = Access(source, tuple(places))
    copy = Map(
        f"{source.name}_framed", shape, source.dtype, "expression",
        scalar.symbol("x0"), (access,), margins=margins,
    )  # fmt: skip
    copies[key] = copy
    nodes.append(copy)
    return copy
