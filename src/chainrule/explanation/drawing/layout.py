"""Layered layout: where boxes stand and how the wires between them run.

Boxes are put into layers so that every wire leads to a later one; wires that pass
layers get a place in each, like a box; boxes are ordered within layers so that few
wires cross; then each layer is moved so that wires are as straight as its boxes allow.

Source: Sugiyama, Tagawa & Toda, "Methods for visual understanding of hierarchical
system structures", 1981; Gansner, Koutsofios, North & Vo, "A technique for drawing
directed graphs", 1993.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.explanation.drawing.ordering import Edge, Grid
from chainrule.explanation.drawing.straightening import straightened

__all__ = ["Layout", "layered"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Where everything is: x along the layers, y across them, from 0.

    Attributes:
        boxes: (x, y) of each box's corner nearest to 0.
        routes: for each edge the points where it enters and leaves each layer, from its
            box to its box; None for a wire that is cut, since it is very long.
        layers: where each layer begins and ends.
        length, breadth: of the whole.
    """

    boxes: tuple[Point, ...]
    routes: tuple[tuple[Point, ...] | None, ...]
    layers: tuple[Point, ...]
    length: float
    breadth: float


def layered(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[Edge],
    *,
    between_layers: float = 40.0,
    between_boxes: float = 14.0,
    stubs: Sequence[float] = (),
    max_passing: int | None = None,
) -> Layout:
    """Lay out an acyclic graph in layers, the same way for the same graph.

    Args:
        sizes: (length along the layers, breadth across them) of each box, in an order
            in which every edge leads to a later box.
        edges: (from, to) as positions in ``sizes``; several may join the same boxes.
        between_layers, between_boxes: free space.
        stubs: the room that each edge needs before its box if its wire is cut.
        max_passing: how many places wires that pass layers may take; longer wires
            beyond that are cut. Four for each box, and at least 2000, unless given.

    Example:
        >>> found = layered([(10.0, 10.0)] * 3, [(0, 2), (1, 2)])
        >>> found.boxes
        ((0.0, 0.0), (0.0, 24.0), (50.0, 12.0))
    """
    layer_of = _layers(len(sizes), edges)
    budget = max(2000, 4 * len(sizes)) if max_passing is None else max_passing
    grid = Grid(sizes, edges, layer_of, budget, between_boxes)
    grid.order()
    middles = straightened(grid)
    halves = [breadth / 2 for breadth in grid.breadth]
    top = min((y - h for y, h in zip(middles, halves, strict=True)), default=0.0)
    middles = [y - top for y in middles]
    room = [0.0] * len(grid.layers)
    for (_, end), chain, stub in zip(edges, grid.chains, stubs, strict=False):
        if chain is None:
            room[layer_of[end]] = max(room[layer_of[end]], stub)
    spans, along = [], 0.0
    for k, layer in enumerate(grid.layers):
        along += max(room[k] - between_layers, 0.0)
        thick = max((sizes[v][0] for v in layer if v < len(sizes)), default=0.0)
        spans.append((along, along + thick))
        along = spans[-1][1] + between_layers
    boxes = tuple(
        (spans[layer_of[v]][0], middles[v] - halves[v]) for v in range(len(sizes))
    )
    routes: list[tuple[Point, ...] | None] = []
    for (a, b), chain in zip(edges, grid.chains, strict=True):
        if chain is None:
            routes.append(None)
            continue
        points = [(boxes[a][0] + sizes[a][0], middles[a])]
        points.append((spans[layer_of[a]][1], middles[a]))
        for k, v in enumerate(chain, start=layer_of[a] + 1):
            points += [(x, middles[v]) for x in spans[k]]
        routes.append((*points, (boxes[b][0], middles[b])))
    breadth = max((y + h for y, h in zip(middles, halves, strict=True)), default=0.0)
    length = spans[-1][1] if spans else 0.0
    return Layout(boxes, tuple(routes), tuple(spans), length, breadth)


def _layers(count: int, edges: Sequence[Edge]) -> list[int]:
    """The layer of each box: as early as can be, then as near to its users as helps."""
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        before[b].append(a)
        after[a].append(b)
    layer = [0] * count
    for v in range(count):
        layer[v] = max((layer[u] + 1 for u in before[v]), default=0)
    for v in reversed(range(count)):
        # With more wires out than in, moving on makes wires shorter in sum.
        if len(after[v]) > len(before[v]):
            layer[v] = min(layer[u] for u in after[v]) - 1
    if count:
        least = min(layer)
        layer = [k - least for k in layer]
    return layer
