"""Contractions as sums of outer products: a broadcast number times a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chainrule.compiler.chunk import Chunk, least, minus, shares, times, value_of
from chainrule.compiler.emit import Function, Value, i64
from chainrule.compiler.tiling import LINE_BYTES, Size

__all__ = [
    "Ahead",
    "DirectOuterProducts",
    "FreshOuterProducts",
    "OuterProducts",
    "PackedOuterProducts",
    "Rows",
    "Source",
    "StreamedOuterProducts",
]

_UNROLL = 2  # steps of k in one round: counting takes ports that products need

Ahead = Callable[[Function, Value, Value], None]

_FIRST_LINES = 8  # of a row; the processor sees by itself that more will follow


class Source(NamedTuple):
    """What lies in memory for a row of S: its address, and bytes for each term."""

    address: Value
    itemsize: int


class Rows(NamedTuple):
    """How a chunk comes by rows of S that are not in memory before."""

    make: Callable[[Function, Value, Value, Value], None]
    """``make(function, batch, first, last)`` makes rows of one product."""
    sources: Callable[[Function, Value, Value], Sequence[Source]]
    """``sources(function, batch, row)``: what a row is copied from."""


class _Part(NamedTuple):
    """The operands of a tile for a range of k."""

    scalars: Value
    vectors: Value
    vector_stride: Size
    masks: Sequence[Value | None]
    depth: Size


class OuterProducts(Chunk):
    """Tiles that add up number × vector products, for all of k at once.

    ``ahead(function, p, q)`` may ask for memory that the epilogue will read for one
    vector, while its sums are still being made.
    """

    ahead: Ahead | None = None
    is_summed_by_blocks = False

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.scratch = self.memory(self.num_sums)

    @property
    def num_sums(self) -> int:
        """For so many the scratch has room."""
        return self.tile_size

    def strip(
        self, first: Value, q: Value, masks: Sequence[Value | None], count: Size
    ) -> None:
        f, at = self.f, self.at
        v = f.at(at.vectors, q, self.plan.element)
        part = _Part(at.scalars, v, at.vector_stride, masks, self.depth)
        self.rows(first, q, masks, count, self.scratch, self._tiles(q, part))

    def _tiles(self, q: Value, part: _Part) -> Callable[[Value, Value, int], Value]:
        """What adds a part of the terms to a tile at column q."""

        def emit_tile(tile: Value, p: Value, height: int) -> Value:
            start = least(self.f, p, minus(self.f, self.last_row, height))
            self._outer(tile, p, q, start, height, part)
            return start

        return emit_tile

    def _ask_ahead(self, p: Value, q: Value, row: Value, width: int) -> None:
        """Ask for what the epilogue will read for one row of the tile at p and q."""
        f = self.f
        assert self.ahead
        row = least(f, f.binary("add", p, row), minus(f, self.last_row, 1))
        for j in range(width):
            self.ahead(f, row, f.binary("add", q, i64(j * self.plan.lanes)))

    def _ask_for_columns(self, q: Value, width: int) -> None:
        """The same where it reads columns, which lie one after another."""
        f = self.f
        if self.ahead:
            with f.loop(0, width * self.plan.lanes) as loop:
                self.ahead(f, i64(0), f.binary("add", q, loop.index))

    def _outer(
        self, tile: Value, p: Value, q: Value, start: Value, height: int, part: _Part
    ) -> None:
        """A tile of broadcast × vector products, from row ``start`` on.

        Rows from p on are handed out, and for them the epilogue's memory is asked for
        row by row between the terms: all at once there would be more to wait for than
        the processor can have under way.
        """
        f, at, element = self.f, self.at, self.plan.element
        width, lanes = len(part.masks), self.plan.lanes
        s = f.at(part.scalars, times(f, start, at.row_stride), element)
        rows = [times(f, i, at.row_stride) for i in range(height)]
        if at.rows:
            s = part.scalars
            rows = [at.rows(f, f.binary("add", start, i64(i))) for i in range(height)]
        places = [
            f.at(tile, (i * self.plan.width + j) * lanes, element)
            for i in range(height)
            for j in range(width)
        ]
        zeros = [Value(self.type, "zeroinitializer")] * (height * width)
        if self.plan.transposed:
            self._ask_for_columns(q, width)
        is_asking = self.ahead and not (
            self.is_summed_by_blocks or self.plan.transposed
        )
        after = f.binary("add", p, i64(height))

        def step(values: Sequence[Value], k: Value) -> list[Value]:
            return self._outer_step(values, rows, part, k)

        def before() -> list[Value]:
            if not self.is_summed_by_blocks:
                return zeros
            return [f.load(place, self.type) for place in places]

        def store(sums: Sequence[Value]) -> None:
            for total, place in zip(sums, places, strict=True):
                f.store(total, place)

        def done(sums: Sequence[Value]) -> None:
            if self.is_direct:
                self._pass_on(sums, p, q, part.masks)
            else:
                store(sums)

        def terms(
            first: Value | int,
            last: Size,
            unroll: int,
            values: Sequence[Value],
            sources: Sequence[Source] = (),
        ) -> list[Value]:
            with f.loop(first, last, unroll, values, nonempty=True) as loop:
                values = loop.carried
                for i in range(unroll):
                    k = f.binary("add", loop.index, i64(i))
                    if sources:
                        line = f.binary("sub", k, value_of(first))
                        self._ask_for(sources, line, part.depth)
                    values = step(values, k)
                loop.carry(values)
            return list(loop.results)

        def many(whole: Size, unroll: int) -> list[Value]:
            """Some terms, of which there is at least one round."""
            values = [s, part.vectors, *before()]
            if not (is_asking or self.is_ahead_of_rows):
                return terms(0, whole, unroll, values)
            each, count = shares(f, whole, unroll, height)
            with f.loop(0, count, 1, values, nonempty=True) as loop:
                if is_asking:
                    self._ask_ahead(p, q, loop.index, width)
                sources = self._sources(f.binary("add", loop.index, after))
                first = f.binary("mul", loop.index, value_of(each))
                last = least(f, f.binary("add", first, value_of(each)), whole)
                loop.carry(terms(first, last, unroll, loop.carried, sources))
            return list(loop.results)

        depth = part.depth
        if isinstance(depth, int):
            unroll = min(_UNROLL, depth)
            values = many(depth - depth % unroll, unroll)
            for i in range(depth - depth % unroll, depth):
                values = step(values, i64(i))
            done(values[2:])
            return
        if at.depth is not None and at.is_even:
            done(many(depth, _UNROLL)[2:])
            return
        unroll = _UNROLL if self.plan.transposed else self.plan.unroll
        whole = f.binary("and", depth, i64(-unroll))
        is_some = f.compare("icmp sgt", whole, i64(0))

        def in_memory() -> None:
            with f.when(is_some):
                store(many(whole, unroll)[2:])
            if not self.is_summed_by_blocks:
                with f.when(f.compare("icmp eq", whole, i64(0))):
                    store(zeros)
            with f.loop(whole, depth) as loop:
                k = loop.index
                at_s = f.at(s, times(f, k, at.depth_stride), element)
                at_v = f.at(part.vectors, times(f, k, part.vector_stride), element)
                at_v = part.vectors if at.terms else at_v
                sums = [f.load(place, self.type) for place in places]
                store(step([at_s, at_v, *sums], k)[2:])

        if not self.is_direct:
            in_memory()
            return
        is_all = f.compare("icmp eq", whole, value_of(depth))
        with f.when(f.binary("and", is_some, is_all)):
            done(many(whole, unroll)[2:])
        with f.when(f.compare("icmp slt", whole, value_of(depth))):
            in_memory()
            f.store(p, self.start)
            f.store(after, self.row)
            columns = minus(f, self.last_column, q)
            count = least(f, value_of(columns), width * lanes)
            self.hand_out(tile, p, q, part.masks, count)

    is_direct = False
    """Whether sums go to the epilogue as they are in registers."""

    def _pass_on(
        self, sums: Sequence[Value], p: Value, q: Value, masks: Sequence[Value | None]
    ) -> None:
        """A tile's sums go to the epilogue, which is written out for each vector."""
        f, width = self.f, len(masks)
        for j, mask in enumerate(masks):
            column = f.binary("add", q, i64(j * self.plan.lanes))
            extra = self.columns(f, column, mask) if self.columns else None
            for i, total in enumerate(sums[j::width]):
                row = f.binary("add", p, i64(i))
                self.epilogue(f, total, row, column, mask, extra)

    def _outer_step(
        self, values: Sequence[Value], rows: Sequence[Size], part: _Part, k: Value
    ) -> list[Value]:
        """Term k of every sum: (s, v, sums), and the same for the next term.

        Where terms are picked, v stays where none is.
        """
        f, at, element = self.f, self.at, self.plan.element
        s, v, *sums = values
        next_v = f.at(v, part.vector_stride, element)
        if at.terms:
            next_v, v = v, f.at(v, at.terms(f, k), element)
        lanes, width = self.plan.lanes, len(part.masks)
        vectors = [
            self.load(f.at(v, j * lanes, element), mask)
            for j, mask in enumerate(part.masks)
        ]
        following = []
        for i, row in enumerate(rows):
            scalar = f.splat(f.load(f.at(s, row, element), element), lanes)
            for x, y in zip(vectors, sums[i * width :], strict=False):
                following.append(f.fma(scalar, x, y))
        if self.plan.ahead:
            far = self.distance(part)
            for j in range(width):
                f.prefetch(f.at(f.at(v, far, element), j * lanes, element))
        return [f.at(s, at.depth_stride, element), next_v, *following]

    def distance(self, part: _Part) -> Size:
        """How far ahead of a term V is asked for: at the next tile's columns."""
        return self.plan.tile_columns

    is_ahead_of_rows = False
    """Whether a tile asks for what the next tile's rows of S come from."""

    def _sources(self, row: Value) -> Sequence[Source]:
        """What a row of S comes from."""
        return ()

    def _ask_for(self, sources: Sequence[Source], line: Value, depth: Size) -> None:
        """Ask for a line of each source; a row has at most as many lines as terms."""
        f = self.f
        for address, itemsize in sources:
            last = minus(f, times(f, depth, itemsize), 1)
            far = least(f, f.binary("mul", line, i64(LINE_BYTES)), last)
            f.prefetch(f.at(address, far, "i8"))


class DirectOuterProducts(OuterProducts):
    """Tiles of one height that fit the rows exactly.

    Nothing is computed twice, so sums go to the epilogue from the registers. Of few
    terms, a tile takes no longer than what is made of its sums, and the way through
    memory counts.
    """

    is_direct = True

    def strip(
        self, first: Value, q: Value, masks: Sequence[Value | None], count: Size
    ) -> None:
        f, at, height = self.f, self.at, self.plan.heights[0]
        v = f.at(at.vectors, q, self.plan.element)
        part = _Part(at.scalars, v, at.vector_stride, masks, self.depth)
        with f.loop(first, self.last_row, height) as tiles:
            p = tiles.index
            self._outer(self.scratch, p, q, p, height, part)


class FreshOuterProducts(OuterProducts):
    """Tiles whose rows of S are made just before, and then in the caches.

    While one tile is summed, what the next one's rows are copied from is asked for, a
    line at each term: memory and arithmetic work side by side.
    """

    is_ahead_of_rows = True

    def __init__(self, rows: Rows, batch: Value, num_rows: Size, *of: Any) -> None:
        super().__init__(*of)
        self.fresh, self.batch, self.num_rows = rows, batch, num_rows

    def emit(self, first: Value, last: Value, left: Value, right: Value) -> None:
        f, height = self.f, self.plan.heights[0]
        self._ask_for_first(first)
        with f.loop(first, last, height) as tiles:
            end = least(f, f.binary("add", tiles.index, i64(height)), last)
            self.fresh.make(f, self.batch, tiles.index, end)
            super().emit(tiles.index, end, left, right)

    def _ask_for_first(self, first: Value) -> None:
        """Ask for what the first tile's rows come from, all at once."""
        f = self.f
        some = i64(_FIRST_LINES)
        with f.loop(0, self.plan.heights[0]) as rows:
            sources = self._sources(f.binary("add", first, rows.index))
            with f.loop(0, some) as lines:
                self._ask_for(sources, lines.index, self.depth)

    def _sources(self, row: Value) -> Sequence[Source]:
        # Of those behind the last row, that of the last.
        row = least(self.f, row, minus(self.f, self.num_rows, 1))
        return self.fresh.sources(self.f, self.batch, row)


class _Blocked(OuterProducts):
    """Tiles that take up some rows of V at a time; between, their sums wait."""

    is_summed_by_blocks = True

    @property
    def strip_size(self) -> int:
        """The sums of a strip. The last rows may take a tile of every height."""
        num_tiles = self.plan.rows_per_chunk // self.plan.heights[0]
        return (num_tiles + len(self.plan.heights) - 1) * self.tile_size

    @property
    def num_sums(self) -> int:
        return self.strip_size

    def block(self, k: Value) -> tuple[Value, Value, Size, Value]:
        """Both operands from k on, how many terms, and whether they are the last."""
        f, at, plan = self.f, self.at, self.plan
        left = f.binary("sub", value_of(self.depth), k)
        rows: Size = plan.block
        if not isinstance(self.depth, int) or self.depth % plan.block:
            rows = least(f, left, plan.block)
        s = f.at(at.scalars, times(f, k, at.depth_stride), plan.element)
        v = f.at(at.vectors, times(f, k, at.vector_stride), plan.element)
        return s, v, rows, f.compare("icmp sle", left, i64(plan.block))


class PackedOuterProducts(_Blocked):
    """Tiles of a strip whose columns of V are copied into one small piece of memory."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.panel = self.memory(self.plan.block * self.plan.tile_columns)

    def strip(
        self, first: Value, q: Value, masks: Sequence[Value | None], count: Size
    ) -> None:
        f, plan = self.f, self.plan
        self.clear(self.scratch, self.strip_size)
        with f.loop(0, self.depth, plan.block) as loop:
            s, v, rows, is_last = self.block(loop.index)
            self._pack(f.at(v, q, plan.element), rows, masks)
            whole: list[Value | None] = [None] * len(masks)
            part = _Part(s, self.panel, plan.tile_columns, whole, rows)
            tiles = self._tiles(q, part)
            self.rows(first, q, masks, count, self.scratch, tiles, is_last)

    def _pack(self, v: Value, rows: Size, masks: Sequence[Value | None]) -> None:
        """Copy these rows of V, one tile wide, into the panel."""
        f, element, lanes = self.f, self.plan.element, self.plan.lanes
        with f.loop(0, value_of(rows)) as loop:
            source = f.at(v, times(f, loop.index, self.at.vector_stride), element)
            place = f.binary("mul", loop.index, i64(self.plan.tile_columns))
            for j, mask in enumerate(masks):
                x = self.load(f.at(source, j * lanes, element), mask)
                target = f.at(self.panel, place, element)
                f.store(x, f.at(target, j * lanes, element))


class StreamedOuterProducts(_Blocked):
    """Tiles that all take up some rows of V, in place, before others are read."""

    @property
    def num_sums(self) -> int:
        strips = self.plan.columns_per_chunk // self.plan.tile_columns
        return strips * self.strip_size

    def emit(self, first: Value, last: Value, left: Value, right: Value) -> None:
        self.left = left
        self.clear(self.scratch, self.num_sums)
        with self.f.loop(0, self.depth, self.plan.block) as blocks:
            self.first_term = blocks.index
            super().emit(first, last, left, right)

    def strip(
        self, first: Value, q: Value, masks: Sequence[Value | None], count: Size
    ) -> None:
        f, plan = self.f, self.plan
        s, v, rows, is_last = self.block(self.first_term)
        v = f.at(v, q, plan.element)
        part = _Part(s, v, self.at.vector_stride, masks, rows)
        strip = f.binary("sub", q, self.left)
        far = f.binary("mul", strip, i64(self.strip_size // plan.tile_columns))
        sums = f.at(self.scratch, far, plan.element)
        self.rows(first, q, masks, count, sums, self._tiles(q, part), is_last)

    def distance(self, part: _Part) -> Size:
        """At the next block's rows."""
        return times(self.f, self.plan.block, part.vector_stride)
