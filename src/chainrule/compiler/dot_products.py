"""Contractions as dot products: both operands have their terms next to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.compiler.chunk import Chunk, least, minus, times, value_of
from chainrule.compiler.emit import Value, i64
from chainrule.compiler.tile import sum_across
from chainrule.compiler.tiling import Size

__all__ = ["DotProducts", "StreamedDotProducts"]

_DOTS = 4
"""Columns of one tile."""


class DotProducts(Chunk):
    """Tiles whose sums are vectors of parts, added up across at the end."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.dots = min(_DOTS, self.plan.lanes)
        self.scratch = self.memory(self.tile_size)

    def strip(
        self, first: Value, q: Value, masks: Sequence[Value | None], count: Size
    ) -> None:
        def emit_tile(tile: Value, p: Value, height: int) -> Value:
            self._dot(p, q, height, count)
            return p

        self.rows(first, q, masks, count, self.scratch, emit_tile)

    def _dot(self, p: Value, q: Value, height: int, count: Size) -> None:
        """A tile of dot products: ``height`` rows times one vector of columns."""
        f = self.f
        zeros = [Value(self.type, "zeroinitializer")] * (height * self.dots)
        with f.loop(0, count, self.dots) as strip:
            scalars, vectors = self._dot_operands(p, q, strip.index, height)
            sums = self._dot_sums(scalars, vectors, i64(0), self._whole_depth, zeros)
            self._dot_finish(scalars, vectors, strip.index, sums)

    @property
    def _whole_depth(self) -> Size:
        """How many terms fill whole vectors."""
        if isinstance(self.depth, int):
            return self.depth - self.depth % self.plan.lanes
        return self.f.binary("and", self.depth, i64(-self.plan.lanes))

    def _dot_operands(
        self, p: Value, q: Value, strip: Value, height: int
    ) -> tuple[list[Value], list[Value]]:
        """Where rows of S and of V begin; the last ones stand in for those beyond."""
        f, at, element = self.f, self.at, self.plan.element
        last_row = minus(f, self.last_row, 1)
        scalars = []
        for i in range(height):
            row = least(f, f.binary("add", p, i64(i)), last_row)
            scalars.append(f.at(at.scalars, times(f, row, at.row_stride), element))
        last_column = minus(f, self.last_column, 1)
        vectors = []
        for j in range(self.dots):
            column = f.binary("add", q, f.binary("add", strip, i64(j)))
            column = least(f, column, last_column)
            offset = times(f, column, at.vector_stride)
            vectors.append(f.at(at.vectors, offset, element))
        return scalars, vectors

    def _dot_step(
        self,
        scalars: Sequence[Value],
        vectors: Sequence[Value],
        k: Value,
        mask: Value | None,
        sums: Sequence[Value],
    ) -> list[Value]:
        """One vector of terms for every pair of rows."""
        f, element = self.f, self.plan.element
        xs = [self.load(f.at(v, k, element), mask) for v in vectors]
        following = []
        for i, pointer in enumerate(scalars):
            y = self.load(f.at(pointer, k, element), mask)
            for j, x in enumerate(xs):
                following.append(f.fma(x, y, sums[i * self.dots + j]))
        return following

    def _dot_sums(
        self,
        scalars: Sequence[Value],
        vectors: Sequence[Value],
        k: Value,
        end: Size,
        sums: Sequence[Value],
    ) -> list[Value]:
        """The sums with the whole vectors of terms from k on."""
        f = self.f
        if end == 0:
            return list(sums)
        some = isinstance(end, int)
        with f.loop(k, end, self.plan.lanes, sums, nonempty=some) as loop:
            loop.carry(self._dot_step(scalars, vectors, loop.index, None, loop.carried))
        return list(loop.results)

    def _dot_finish(
        self,
        scalars: Sequence[Value],
        vectors: Sequence[Value],
        strip: Value,
        sums: Sequence[Value],
    ) -> None:
        """The terms that fill no vector; then each row's sums go into the tile."""
        f, lanes, element = self.f, self.plan.lanes, self.plan.element
        whole = self._whole_depth
        left = minus(f, self.depth, whole)
        if left != 0:
            mask = f.first_lanes(left, lanes)
            sums = self._dot_step(scalars, vectors, value_of(whole), mask, sums)
        for i in range(len(scalars)):
            row_sums = sum_across(f, list(sums[i * self.dots : (i + 1) * self.dots]))
            place = f.at(self.scratch, i * lanes, element)
            f.store(row_sums, f.at(place, strip, element))


class StreamedDotProducts(DotProducts):
    """The same, so many terms of all rows at a time as the first cache holds."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        tiles = self.plan.rows_per_chunk // self.plan.heights[0]
        self.partial = self.memory(tiles * self.tile_size * self.plan.lanes)

    def strip(
        self, first: Value, q: Value, masks: Sequence[Value | None], count: Size
    ) -> None:
        f, plan = self.f, self.plan
        height, lanes, element = plan.heights[0], plan.lanes, plan.element
        whole = self._whole_depth
        self.clear(self.partial, plan.rows_per_chunk * plan.lanes * lanes)

        def places(p: Value, strip: Value) -> list[Value]:
            tile = f.binary("sub", p, first)
            far = f.binary("mul", tile, i64(lanes * lanes))
            start = f.at(self.partial, far, element)
            start = f.at(start, f.binary("mul", strip, i64(height * lanes)), element)
            return [f.at(start, i * lanes, element) for i in range(height * self.dots)]

        with f.loop(0, whole, plan.block) as blocks:
            k = blocks.index
            end = least(f, f.binary("add", k, i64(plan.block)), whole)
            all_rows = f.loop(first, self.last_row, height)
            with all_rows as rows, f.loop(0, count, self.dots) as strip:
                p, column = rows.index, strip.index
                scalars, vectors = self._dot_operands(p, q, column, height)
                held = places(p, column)
                sums = [f.load(place, self.type) for place in held]
                sums = self._dot_sums(scalars, vectors, k, end, sums)
                for total, place in zip(sums, held, strict=True):
                    f.store(total, place)
        with f.loop(first, self.last_row, height) as rows:
            p = rows.index
            with f.loop(0, count, self.dots) as strip:
                scalars, vectors = self._dot_operands(p, q, strip.index, height)
                sums = [f.load(x, self.type) for x in places(p, strip.index)]
                self._dot_finish(scalars, vectors, strip.index, sums)
            f.store(p, self.start)
            end = f.binary("add", p, i64(height))
            f.store(least(f, end, self.last_row), self.row)
            self.hand_out(self.scratch, p, q, masks, count)
