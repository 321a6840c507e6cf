"""The order of boxes within layers: few wires are to cross.

Source: Sugiyama, Tagawa & Toda, "Methods for visual understanding of hierarchical
system structures", 1981; Gansner, Koutsofios, North & Vo, "A technique for drawing
directed graphs", 1993, for medians and transposition; Barth, Jünger & Mutzel, "Simple
and efficient bilayer cross counting", 2002.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["Edge", "Grid"]

Edge = tuple[int, int]

_SWEEPS = 16
_FEW_SWEEPS = 4
_SMALL = 1500  # boxes and passing wires
_PASSING = 8.0  # breadth of a wire that passes a layer


class Grid:
    """Boxes and passing wires by layers; numbers from ``len(sizes)`` on are wires."""

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        edges: Sequence[Edge],
        layer_of: Sequence[int],
        budget: int,
        gap: float,
    ) -> None:
        self.breadth = [breadth for _, breadth in sizes]
        self.num_boxes, self.gap = len(sizes), gap
        self.layers: list[list[int]] = [
            [] for _ in range(max(layer_of, default=-1) + 1)
        ]
        for v, k in enumerate(layer_of):
            self.layers[k].append(v)
        self.before: list[list[int]] = [[] for _ in sizes]
        self.after: list[list[int]] = [[] for _ in sizes]
        self.chains: list[list[int] | None] = [None] * len(edges)
        spans = [layer_of[b] - layer_of[a] - 1 for a, b in edges]
        for i in sorted(range(len(edges)), key=lambda i: (spans[i], i)):
            budget -= spans[i]
            if budget < 0:
                break  # this wire and all longer ones are cut
            self.chains[i] = self._chain(*edges[i], layer_of)

    def _chain(self, a: int, b: int, layer_of: Sequence[int]) -> list[int]:
        """Places for a wire in the layers that it passes."""
        chain = []
        last = a
        for k in range(layer_of[a] + 1, layer_of[b]):
            v = len(self.breadth)
            self.breadth.append(_PASSING)
            self.before.append([])
            self.after.append([])
            self.layers[k].append(v)
            self._join(last, v)
            chain.append(v)
            last = v
        self._join(last, b)
        return chain

    def _join(self, a: int, b: int) -> None:
        self.after[a].append(b)
        self.before[b].append(a)

    @property
    def is_small(self) -> bool:
        """Whether more time is taken for it."""
        return len(self.breadth) <= _SMALL

    def order(self) -> None:
        """Sweep back and forth, each layer sorted by its neighbours; keep the best."""
        best, fewest = self.layers, math.inf
        # Sweeps lead to the nearest good order: small graphs begin from two.
        starts = [self._gathered()] + [self.layers] * self.is_small
        for start in starts:
            self.layers = [layer[:] for layer in start]
            for sweep in range(_SWEEPS if self.is_small else _FEW_SWEEPS):
                found = self._crossings(self._places())
                if found < fewest:
                    best, fewest = [layer[:] for layer in self.layers], found
                if not fewest:
                    break
                self._sweep(is_forward=sweep % 2 == 0)
        self.layers = best

    def _places(self) -> list[int]:
        """Each box's place in its layer."""
        place = [0] * len(self.breadth)
        for layer in self.layers:
            for i, v in enumerate(layer):
                place[v] = i
        return place

    def _sweep(self, is_forward: bool) -> None:
        """Sort every layer by where the one before it, or after it, has neighbours."""
        place = self._places()
        joined = self.before if is_forward else self.after
        for layer in self.layers if is_forward else reversed(self.layers):
            middle = {v: _median([place[u] for u in joined[v]]) for v in layer}
            _sort_movable(layer, middle)
            for i, v in enumerate(layer):
                place[v] = i
        if self.is_small:
            self._transpose(place)

    def _gathered(self) -> list[list[int]]:
        """What belongs together stands together: depth first from the last boxes."""
        seen = [False] * len(self.breadth)
        rank: list[int] = []
        for end in reversed([v for v, after in enumerate(self.after) if not after]):
            stack = [end]
            while stack:
                v = stack.pop()
                if not seen[v]:
                    seen[v] = True
                    rank.append(v)
                    stack += reversed(self.before[v])
        position = {v: i for i, v in enumerate(rank)}
        return [sorted(layer, key=position.__getitem__) for layer in self.layers]

    def _crossings(self, place: Sequence[int]) -> int:
        """How often wires cross between neighbouring layers."""
        total = 0
        for layer in self.layers[:-1]:
            ends: list[int] = []
            for v in layer:
                targets = sorted(place[u] for u in self.after[v])
                total += sum(len(ends) - bisect_right(ends, t) for t in targets)
                for t in targets:
                    ends.insert(bisect_right(ends, t), t)
        return total

    def _transpose(self, place: list[int]) -> None:
        """Swap neighbours as long as that removes a crossing."""
        has_gained = True
        while has_gained:
            has_gained = False
            for layer in self.layers:
                for i in range(len(layer) - 1):
                    v, w = layer[i], layer[i + 1]
                    if self._gain(v, w, place) > 0:
                        layer[i], layer[i + 1] = w, v
                        place[v], place[w] = i + 1, i
                        has_gained = True

    def _gain(self, v: int, w: int, place: Sequence[int]) -> int:
        """How many crossings there are less when two neighbours are swapped."""
        gain = 0
        for joined in (self.before, self.after):
            for a in (place[u] for u in joined[v]):
                for b in (place[u] for u in joined[w]):
                    gain += (a > b) - (a < b)
        return gain


def _median(places: list[int]) -> float:
    """The middle of the neighbours' places, -1 of none."""
    if not places:
        return -1.0
    places.sort()
    half = len(places) // 2
    if len(places) % 2:
        return float(places[half])
    if len(places) == 2:
        return (places[0] + places[1]) / 2
    left, right = places[half - 1] - places[0], places[-1] - places[half]
    if not left + right:
        return (places[half - 1] + places[half]) / 2
    return (places[half - 1] * right + places[half] * left) / (left + right)


def _sort_movable(layer: list[int], middle: dict[int, float]) -> None:
    """Sort by the neighbours' middle; what has no neighbours stays where it is."""
    movable = sorted((v for v in layer if middle[v] >= 0), key=middle.__getitem__)
    rest = iter(movable)
    layer[:] = [v if middle[v] < 0 else next(rest) for v in layer]
