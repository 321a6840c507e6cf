"""The register tile: sums of outer products, with static addresses.

Rows of the tile are broadcast numbers, columns are vectors. Both operands advance by
constant strides along each of the axes that are summed over, so that one piece of code
serves matrix products, convolutions and their gradients.

Source: K. Goto, R. van de Geijn, Anatomy of high-performance matrix multiplication,
ACM TOMS 34 (2008), for tiles of outer products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from chainrule.compiler.emit import Function, Value, element_of, lanes_of, vector

__all__ = ["Term", "Tile", "sum_across"]

_UNROLL = 4
_FLAT = 28  # so many terms are written out one by one


class Term(NamedTuple):
    """An axis summed over: its length, and how far the operands move along it."""

    length: int | Value
    scalars: int
    vectors: int


class Tile(NamedTuple):
    """What one register tile multiplies.

    Args:
        element: "float" or "double".
        lanes: of one vector.
        rows: for each row, how far from the first its scalar lies.
        width: in vectors, which lie next to each other.
        masks: for each vector, which of its lanes are there; None for all.
    """

    element: str
    lanes: int
    rows: tuple[int, ...]
    width: int
    masks: tuple[Value | None, ...]

    @property
    def type(self) -> str:
        """Of a vector."""
        return vector(self.element, self.lanes)

    def zeros(self) -> list[Value]:
        """Sums before the first term."""
        return [Value(self.type, "zeroinitializer")] * (len(self.rows) * self.width)

    def accumulate(
        self,
        f: Function,
        sums: Sequence[Value],
        scalars: Value,
        vectors: Value,
        terms: Sequence[Term],
    ) -> list[Value]:
        """The sums, row by row, with all terms added: the last axis moves fastest."""
        if any(t.length == 0 for t in terms):
            return list(sums)
        terms = [t for t in terms if t.length != 1]
        return self._nest(f, list(sums), scalars, vectors, terms)

    def _nest(
        self,
        f: Function,
        sums: list[Value],
        s: Value,
        v: Value,
        terms: Sequence[Term],
    ) -> list[Value]:
        counts = [t.length if isinstance(t.length, int) else _FLAT + 1 for t in terms]
        if math.prod(counts) <= _FLAT:
            return self._flat(f, sums, s, v, terms)
        (count, by_s, by_v), *inner = terms
        is_inner = not inner
        unroll = 1
        if isinstance(count, int) and is_inner:
            unroll = next(u for u in (_UNROLL, 3, 2, 1) if count % u == 0 or u == 1)
            if unroll == 1 and count > 2 * _UNROLL:
                unroll = 2
        whole = count - count % unroll if isinstance(count, int) else count
        with f.loop(0, whole, unroll, [s, v, *sums], nonempty=True) as loop:
            s, v, *sums = loop.carried
            for u in range(unroll):
                at_s = f.at(s, u * by_s, self.element)
                at_v = f.at(v, u * by_v, self.element)
                if is_inner:
                    sums = self._step(f, sums, at_s, at_v)
                else:
                    sums = self._nest(f, sums, at_s, at_v, inner)
            s = f.at(s, unroll * by_s, self.element)
            v = f.at(v, unroll * by_v, self.element)
            loop.carry([s, v, *sums])
        s, v, *sums = loop.results
        if isinstance(count, int):
            for u in range(count % unroll):
                at_s = f.at(s, u * by_s, self.element)
                at_v = f.at(v, u * by_v, self.element)
                sums = self._step(f, sums, at_s, at_v)
        return sums

    def _flat(
        self,
        f: Function,
        sums: list[Value],
        s: Value,
        v: Value,
        terms: Sequence[Term],
    ) -> list[Value]:
        if not terms:
            return self._step(f, sums, s, v)
        (count, by_s, by_v), *inner = terms
        assert isinstance(count, int)
        for i in range(count):
            at_s = f.at(s, i * by_s, self.element)
            at_v = f.at(v, i * by_v, self.element)
            sums = self._flat(f, sums, at_s, at_v, inner)
        return sums

    def _step(self, f: Function, sums: list[Value], s: Value, v: Value) -> list[Value]:
        """One term of every sum."""
        xs = []
        for j, mask in enumerate(self.masks):
            place = f.at(v, j * self.lanes, self.element)
            if mask is None:
                xs.append(f.load(place, self.type))
            else:
                xs.append(f.masked_load(place, mask, self.type))
        following = []
        for i, row in enumerate(self.rows):
            number = f.load(f.at(s, row, self.element), self.element)
            scalar = f.splat(number, self.lanes)
            for j, x in enumerate(xs):
                following.append(f.fma(scalar, x, sums[i * self.width + j]))
        return following


def sum_across(f: Function, vectors: Sequence[Value]) -> Value:
    """The sum of each vector's lanes: as many sums, in one short vector."""
    lanes, found = lanes_of(vectors[0].type), list(vectors)
    # Interleave two vectors so that one addition halves both, until one is left.
    step = 1
    while len(found) > 1:
        halves = []
        for x, y in zip(found[::2], found[1::2], strict=True):
            low = [i for i in range(lanes) if i // step % 2 == 0]
            parts = []
            for half in (0, step):
                order = []
                for g in range(0, len(low), step):
                    mine = [i + half for i in low[g : g + step]]
                    order += mine + [i + lanes for i in mine]
                parts.append(_shuffle(f, x, y, order))
            halves.append(f.binary("fadd", *parts))
        found, step = halves, step * 2
    (total,) = found
    while lanes > len(vectors):
        lanes //= 2
        low_half = _shuffle(f, total, total, list(range(lanes)))
        high_half = _shuffle(f, total, total, list(range(lanes, 2 * lanes)))
        total = f.binary("fadd", low_half, high_half)
    return total


def _shuffle(f: Function, x: Value, y: Value, order: Sequence[int]) -> Value:
    """The lanes of x and y (numbered after those of x) in this order."""
    listed = ", ".join(f"i32 {i}" for i in order)
    type = vector(element_of(x.type), len(order))
    return f.value(type, f"shufflevector {x}, {y}, <{len(order)} x i32> <{listed}>")
