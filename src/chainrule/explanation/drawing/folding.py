"""Long drawings in several rows, as text is broken into lines."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.explanation.drawing.layout import Layout
from chainrule.explanation.drawing.shapes import trail

__all__ = ["Folded", "folded"]

PAGE = 1240.0
"""The length beyond which a drawing is broken: letters stay readable on paper."""

_MOST_WIRES = 3  # that a break may cut
_APART = 7.0  # wires that run back to the left, side by side

Point = tuple[float, float]


@dataclass(frozen=True)
class Folded:
    """A layout in rows.

    Attributes:
        starts: where each row begins in the layout, along it.
        tops: by how much each row is moved across.
        ends: where each row ends, as it is drawn.
        crossing: for each row but the first the wires that come from the row before.
        length, breadth: of the whole.
    """

    starts: tuple[float, ...]
    tops: tuple[float, ...]
    ends: tuple[float, ...]
    crossing: tuple[tuple[int, ...], ...]
    length: float
    breadth: float

    @property
    def side(self) -> float:
        """The room on both sides for wires that run back."""
        return _APART * max(map(len, self.crossing), default=0)

    def row(self, along: float) -> int:
        """The row of a place in the layout."""
        return max(k for k, start in enumerate(self.starts) if k == 0 or start <= along)

    def at(self, point: Point) -> Point:
        """Where a point of the layout is drawn."""
        row = self.row(point[0])
        return point[0] - self.starts[row], point[1] + self.tops[row]

    def path(self, wire: int, route: Sequence[Point], end: Point, corner: Point) -> str:
        """A wire along its route, drawn from a corner on, to an end as it is drawn."""
        parts: list[str] = []
        stretch: list[Point] = []
        row = self.row(route[0][0])
        for k, point in enumerate(route):
            is_last = k == len(route) - 1
            drawn = end if is_last else self.shifted(point, corner)
            if self.row(point[0]) != row:
                row = self.row(point[0])
                parts.append(trail(stretch))
                parts.append(self._back(wire, row, stretch[-1], drawn, corner))
                stretch = []
            stretch.append(drawn)
        parts.append(trail(stretch))
        return "".join(parts)

    def shifted(self, point: Point, corner: Point) -> Point:
        """Where a point of the layout is drawn, with the whole at a corner."""
        x, y = self.at(point)
        return x + corner[0], y + corner[1]

    def _back(
        self, wire: int, row: int, last: Point, first: Point, corner: Point
    ) -> str:
        """From the end of one row, between the rows, to the start of the next."""
        wires = self.crossing[row - 1]
        k = wires.index(wire)
        # The lowest turns back first and comes in last, so that none cross.
        right = corner[0] + self.length + _APART * (k + 1)
        left = corner[0] - _APART * (len(wires) - k)
        between = corner[1] + self.ends[row - 1] + _APART * (k + 1.5)
        return (
            f"M{last[0]:.1f} {last[1]:.1f}H{right:.1f}V{between:.1f}H{left:.1f}"
            f"V{first[1]:.1f}H{first[0]:.1f}"
        )


def folded(
    layout: Layout, sizes: Sequence[tuple[float, float]], page: float = PAGE
) -> Folded:
    """The layout in as few rows as the page allows; in one row where it must be.

    A break lies between layers, where few wires pass.
    """
    starts, crossing = [0.0], list[tuple[int, ...]]()
    while layout.length - starts[-1] > page:
        found = _break(layout, starts[-1], page)
        if found is None:
            starts, crossing = [0.0], []
            break
        starts.append(found[0])
        crossing.append(found[1])
    lowest = [layout.breadth] * len(starts)
    highest = [0.0] * len(starts)
    rows = Folded(tuple(starts), (), (), tuple(crossing), 0.0, 0.0)
    spans = [(x, y, y + h) for (x, y), (_, h) in zip(layout.boxes, sizes, strict=True)]
    spans += [(x, y, y) for route in layout.routes if route for x, y in route]
    for x, low, high in spans:
        row = rows.row(x)
        lowest[row], highest[row] = min(lowest[row], low), max(highest[row], high)
    tops, ends, y = [], [], 0.0
    for k, (low, high) in enumerate(zip(lowest, highest, strict=True)):
        tops.append(y - low)
        ends.append(y + high - low)
        y = ends[-1] + _APART * (3 + (len(crossing[k]) if k < len(crossing) else 0))
    along = [b - a for a, b in zip(starts, [*starts[1:], layout.length], strict=True)]
    return Folded(
        tuple(starts), tuple(tops), tuple(ends), tuple(crossing), max(along), ends[-1]
    )


def _break(
    layout: Layout, start: float, page: float
) -> tuple[float, tuple[int, ...]] | None:
    """Where the row from ``start`` on ends at the latest: (next start, its wires)."""
    best = None
    for (_, end), (following, _) in itertools.pairwise(layout.layers):
        if start < following and end <= start + page:
            wires = _crossing(layout, end, following)
            if len(wires) <= _MOST_WIRES:
                best = following, wires
    return best


def _crossing(layout: Layout, end: float, start: float) -> tuple[int, ...]:
    """The wires from one layer's end to the next one's start, the lowest first."""
    heights = {
        i: max(p for p in route if p[0] <= end)[1]
        for i, route in enumerate(layout.routes)
        if route is not None and route[0][0] <= end and route[-1][0] >= start
    }
    return tuple(sorted(heights, key=lambda i: -heights[i]))
