"""The contraction kernels: matrix products, with whatever follows them fused in.

T[p, q] = Σ_k S[p, k] · V[k, q]

S is the *scalar* operand, whose elements are broadcast, V the *vector* operand, whose
elements lie next to each other along q (form ``"outer"``) or along k (form ``"dot"``,
where S does too). A tile of T is summed in registers, put down in a small scratch, and
handed vector by vector to the caller's epilogue, which is therefore emitted once,
whatever the tile's height is. The scratch also lets the last tile of rows begin
earlier than the rows still missing: what it computes twice is simply not handed out.

Work is split into chunks by shape only, and every element of T is summed by one chunk
in the order of k, so results do not depend on the number of threads.

Source: K. Goto, R. van de Geijn, Anatomy of high-performance matrix multiplication,
ACM TOMS 34 (2008), for tiles of outer products. We pack V only where it is large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from chainrule.compiler.emit import Function, Module, Value, i64, vector
from chainrule.compiler.host import Target
from chainrule.compiler.tile import sum_across

__all__ = [
    "Operands",
    "Plan",
    "emit_contraction",
    "plan_contraction",
    "transposable_rows",
]

Size = int | Value
"""A count known when compiling, or a native i64."""

# A chunk should last about 10 µs at 200 GFLOP/s; a product below half of that is one
# chunk, as handing work to another thread takes about 1 µs.
_CHUNK_FLOP = 2_000_000
_SMALL_FLOP = 1_000_000
_UNKNOWN = 128  # what an extent known only at run time is taken to be when planning

# Rows of a large V are far apart, each on a page of its own, and those a power of two
# apart displace each other in the caches. If V does not fit the second cache and its
# columns are long, copying it panel by panel pays once four tiles of rows read a panel
# (measured: 64×784·784×1024 takes 0.75 ms instead of 1.25; below these limits the copy
# costs 10 %). A V that is read only once is waited for unless it is asked for earlier.
_LARGE_BYTES = 1_400_000
_LARGE_DEPTH = 700
_PANEL_BYTES = 32 * 1024
_AHEAD_BYTES = 600_000  # of a V that what comes between displaces from the caches

# A V that comes from memory for few rows is read in the order in which it lies: a few
# of its rows at a time, for which the sums of a chunk wait in the second cache. Dot
# products take so many terms at a time that all rows of S have of them in the first.
# (Measured with 16 rows and 9216×4096 weights: 14 ms instead of 30, and 15 of 21.)
_STREAMED_BYTES = 6 << 20
_STREAMED_ROWS = 64
_DOT_BLOCK = 128
_STREAMED_BLOCK = 16
_STREAMED_COLUMNS = 1024


@dataclass(frozen=True)
class Operands:
    """Where one product's operands are: native values, emitted by the caller.

    Strides are in elements.

    Args:
        scalars: the address of S[0, 0].
        vectors: the address of V[0, 0].
        row_stride: of S along p.
        depth_stride: of S along k; 1 in the form "dot".
        vector_stride: of V along k ("outer") or along q ("dot").
        depth: K, an even number, where batches differ; the plan then knows none.
    """

    scalars: Value
    vectors: Value
    row_stride: Size
    depth_stride: Size
    vector_stride: Size
    depth: Value | None = None


@dataclass(frozen=True)
class Plan:
    """How a product is cut into tiles and chunks; ``plan_contraction`` makes it.

    Args:
        form: "outer" (V contiguous along q) or "dot" (S and V contiguous along k).
        element: "float" or "double".
        rows: P, or None if it is known at run time only.
        columns: Q, likewise.
        depth: K, likewise.
        lanes: elements of one vector.
        heights: of the tiles, falling; the later ones serve the last rows.
        width: of a tile, in vectors.
        rows_per_chunk: a multiple of ``heights[0]``.
        columns_per_chunk: a multiple of ``tile_columns``.
        block: with this many rows of V at a time, a chunk first copies a tile's
            columns of V into one small piece of memory; 0 if it reads V in place.
        ahead: whether a tile asks for the next tile's columns of V.
        streamed: whether all tiles of a chunk take up a block of rows of V, in place,
            before the next block is read.
        transposed: whether the epilogue gets columns of T instead of rows: T[:, q] as
            one vector, with p = 0. For T of few rows, which a tile then holds whole.
        all_rows: whether a chunk has all rows of T, ``rows_per_chunk`` at a time.
    """

    form: Literal["outer", "dot"]
    element: str
    rows: int | None
    columns: int | None
    depth: int | None
    lanes: int
    heights: tuple[int, ...]
    width: int
    rows_per_chunk: int
    columns_per_chunk: int
    block: int = 0
    ahead: bool = False
    transposed: bool = False
    streamed: bool = False
    all_rows: bool = False

    @property
    def tile_columns(self) -> int:
        """The columns of T that one tile has."""
        return self.width * self.lanes

    def num_chunks(self, rows: int, columns: int, batches: int = 1) -> int:
        """How many chunks ``batches`` products of this size are."""
        row_blocks = 1 if self.all_rows else -(-rows // self.rows_per_chunk)
        column_blocks = -(-columns // self.columns_per_chunk)
        return batches * row_blocks * column_blocks


def plan_contraction(
    target: Target,
    form: Literal["outer", "dot"],
    element: str,
    rows: int | None,
    columns: int | None,
    depth: int | None,
    *,
    transposed: bool = False,
    whole_rows: bool = False,
    usual: tuple[int, int, int] | None = None,
) -> Plan:
    """Choose tiles and chunks for a product of these extents (None: run time).

    A transposed hand-out needs ``rows`` of at most one tile and one vector. With whole
    rows, a chunk has all columns. The usual extents help where there are no fixed ones;
    they do not change in which order anything is summed.
    """
    lanes = target.lanes(element)
    size = 8 if element == "double" else 4
    typical = tuple(
        known or (usual[i] if usual else _UNKNOWN)
        for i, known in enumerate((rows, columns, depth))
    )
    if form == "dot":
        width = 1
        tall = (6, 5, 4) if target.num_registers >= 32 else (3,)
        heights: tuple[int, ...] = (_height(typical[0], tall),)
    else:
        width, height = _TILES[target.num_registers]
        result_bytes = typical[0] * typical[1] * size
        if typical[2] <= _SHALLOW_DEPTH and result_bytes >= _STREAMED_BYTES:
            width, height = _SHALLOW_TILES[target.num_registers]
        if columns is not None:
            width = min(width, -(-columns // lanes))
        if rows is None:
            heights = tuple(dict.fromkeys(h for h in (height, 8, 4, 1) if h <= height))
        else:
            fair = range(height, height * 2 // 3, -1)
            heights = (rows if rows <= height else _height(rows, fair),)
    tile = 2 * heights[0] * width * lanes * typical[2]
    row_tiles = -(-typical[0] // heights[0])
    column_tiles = -(-typical[1] // (width * lanes))
    total = row_tiles * column_tiles
    tiles = max(1, _CHUNK_FLOP // tile)
    if total * tile <= _SMALL_FLOP:
        tiles = max(tiles, total)
    elif total // tiles < 4:
        tiles = max(1, total // 4)
    large = (depth or _UNKNOWN) * (columns or _UNKNOWN) * size >= _LARGE_BYTES
    large = large and form == "outer"
    block = 0
    if large and row_tiles >= 4 and depth is not None and depth >= _LARGE_DEPTH:
        block = _PANEL_BYTES // (width * lanes * size)
        tiles = max(tiles, min(row_tiles, 10))
    v_bytes = (depth or 0) * (columns or 0) * size
    is_streamed = (
        not (whole_rows or transposed)
        and (form == "dot" or typical[0] <= _STREAMED_ROWS)
        and v_bytes >= _STREAMED_BYTES
    )
    asks_ahead = form == "outer" and (
        v_bytes >= _AHEAD_BYTES or (large and row_tiles == 1)
    )
    if is_streamed and form == "dot":
        block = _DOT_BLOCK
        rows_each = min(row_tiles, -(-_STREAMED_ROWS // heights[0]))
        columns_each = 1
    elif is_streamed:
        block = _STREAMED_BLOCK
        rows_each = min(row_tiles, 2)
        # At least four chunks, so that there is something to share.
        most = min(_STREAMED_COLUMNS, -(-typical[1] // 4))
        columns_each = max(1, most // (width * lanes))
    elif whole_rows:
        columns_each = column_tiles
        rows_each = max(1, tiles // columns_each)
    elif block:
        rows_each = min(row_tiles, tiles)
        columns_each = max(1, tiles // rows_each)
    else:
        columns_each = _even_share(column_tiles, tiles)
        rows_each = max(1, tiles // columns_each)
    if rows is not None:
        # An even number of blocks, so that each half of the rows is one thread's.
        blocks = -(-row_tiles // min(row_tiles, rows_each))
        rows_each = -(-row_tiles // (blocks + (blocks > 1 and blocks % 2)))
    return Plan(
        form,
        element,
        rows,
        columns,
        depth,
        lanes,
        heights,
        width,
        rows_each * heights[0],
        columns_each * width * lanes,
        block,
        ahead=is_streamed or (asks_ahead and not block),
        transposed=transposed,
        streamed=is_streamed,
    )


def transposable_rows(target: Target, element: str) -> int:
    """The most rows that a product with a transposed hand-out can have."""
    _, height = _TILES[target.num_registers]
    return min(height, target.lanes(element))


# Width in vectors and height of the tile, by the number of vector registers.
_TILES = {32: (2, 13), 16: (2, 6)}

# A large result of few terms each is a stream to memory, which fetches few rows at a
# time well.
_SHALLOW_DEPTH = 64
_SHALLOW_TILES = {32: (8, 2), 16: (4, 2)}


def _height(rows: int, heights: Sequence[int]) -> int:
    """The height, of some that fall, with which tiles cover the rows best."""
    return min(heights, key=lambda h: -(-rows // h) * (h + 1))


def _even_share(count: int, most: int) -> int:
    """How many of ``count`` things each part gets if none may have over ``most``.

    Parts are even in number, so that each half of the things is one thread's.
    """
    parts = -(-count // min(count, most))
    return -(-count // (parts + (parts > 1 and parts % 2)))


Extents = Callable[[Function], tuple[Size, Size, Size]]
Epilogue = Callable[[Function, Value, Value, Value, Value | None, Any], None]
Columns = Callable[[Function, Value, Value | None], Any]


def emit_contraction(
    module: Module,
    name: str,
    plan: Plan,
    operands: Callable[[Function, Value], Operands],
    epilogue: Epilogue,
    *,
    extents: Extents | None = None,
    columns: Columns | None = None,
    prepare: Callable[[Function, Value, Value, Value], None] | None = None,
    ahead: Callable[[Function, Value, Value], None] | None = None,
) -> None:
    """Add ``void @name(ptr ctx, i64 chunk)``, which computes one chunk of a plan.

    The callables emit instructions into the function they are given, whose
    ``parameters[0]`` is ctx.

    Args:
        operands: ``operands(function, batch)`` says where product number ``batch``
            is; called once, before any loop.
        epilogue: ``epilogue(function, sums, p, q, mask, extra)`` says what happens to
            T[p, q : q + lanes]; with a mask, only its set lanes are results. It is
            called twice if there are both whole and ragged vectors.
        extents: ``extents(function)`` gives P, Q, K (those that the plan knows are
            ignored); called first, and not needed where the plan knows all.
        columns: ``columns(function, q, mask)`` emits what is the same for all rows of
            a vector of columns, a bias for instance; the epilogue gets its result.
        prepare: ``prepare(function, first, last)`` comes before ``operands`` and may
            make the chunk's rows of S; chunks of all columns share no rows.
        ahead: ``ahead(function, p, q)`` may ask for memory that the epilogue will read
            for one vector, while its sums are still being made; "outer" only.
    """
    f = Function(module, name, [("ptr", "ctx"), ("i64", "chunk")])
    sizes = extents(f) if extents else (0, 0, 0)
    known = (plan.rows, plan.columns, plan.depth)
    rows, width, depth = (
        size if extent is None else extent
        for extent, size in zip(known, sizes, strict=True)
    )
    row_blocks = 1 if plan.all_rows else _blocks(f, rows, plan.rows_per_chunk)
    column_blocks = _blocks(f, width, plan.columns_per_chunk)
    rest, row_block = _divide(f, f.parameters[1], row_blocks)
    batch, column_block = _divide(f, rest, column_blocks)
    left = f.binary("mul", column_block, i64(plan.columns_per_chunk))
    right = _least(f, f.binary("add", left, i64(plan.columns_per_chunk)), width)
    each = plan.rows_per_chunk
    begin = _value(0) if plan.all_rows else f.binary("mul", row_block, i64(each))
    end = _least(f, f.binary("add", begin, i64(each)), rows)
    if prepare:
        prepare(f, batch, begin, end)
    kernel = _Kernel(f, plan, operands(f, batch), depth, epilogue, columns)
    kernel.ahead = ahead
    if plan.all_rows:
        with f.loop(0, _value(rows), each) as blocks:
            end = _least(f, f.binary("add", blocks.index, i64(each)), rows)
            kernel.emit(blocks.index, end, left, right)
    else:
        kernel.emit(begin, end, left, right)
    f.ret()
    module.add_kernel(f)


class _Part(NamedTuple):
    """The operands of a tile for a range of k."""

    scalars: Value
    vectors: Value
    vector_stride: Size
    masks: Sequence[Value | None]
    depth: Size


class _Kernel:
    """The tiles of one chunk."""

    def __init__(
        self,
        f: Function,
        plan: Plan,
        operands: Operands,
        depth: Size,
        epilogue: Epilogue,
        columns: Columns | None,
    ) -> None:
        self.f = f
        self.plan = plan
        self.at = operands
        self.depth = depth if operands.depth is None else operands.depth
        self.epilogue = epilogue
        self.columns = columns
        self.ahead: Callable[[Function, Value, Value], None] | None = None
        self.type = vector(plan.element, plan.lanes)
        self.dots = min(_DOTS, plan.lanes)
        self.tile_size = plan.heights[0] * plan.tile_columns
        self.num_tiles = 1
        if plan.block:
            # The last rows may take a tile of every height.
            self.num_tiles = plan.rows_per_chunk // plan.heights[0]
            self.num_tiles += len(plan.heights) - 1
        self.strip_size = self.num_tiles * self.tile_size
        strips = 1
        if plan.form == "dot":
            if plan.streamed:
                tiles = plan.rows_per_chunk // plan.heights[0]
                self.partial = self._memory(tiles * self.tile_size * plan.lanes)
        elif plan.streamed:
            strips = plan.columns_per_chunk // plan.tile_columns
        elif plan.block:
            self.panel = self._memory(plan.block * plan.tile_columns)
        self.scratch = self._memory(strips * self.strip_size)
        # Variables: LLVM makes registers of them.
        self.tile = f.at_entry("ptr", "alloca ptr")
        self.row = f.at_entry("ptr", "alloca i64")
        self.start = f.at_entry("ptr", "alloca i64")

    def _memory(self, count: int) -> Value:
        """Memory of the kernel's own for so many elements."""
        type = f"[{count} x {self.plan.element}]"
        return self.f.at_entry("ptr", f"alloca {type}, align 64")

    def emit(self, first: Value, last: Value, left: Value, right: Value) -> None:
        """All tiles of rows ``first`` to ``last`` and columns ``left`` to ``right``."""
        f, plan = self.f, self.plan
        self.last_row, self.last_column = last, right
        if plan.streamed and plan.form == "outer":
            size = plan.columns_per_chunk // plan.tile_columns * self.strip_size
            self._clear(self.scratch, size)
            with f.loop(0, self.depth, plan.block) as blocks:
                self.block = blocks.index
                self._strips(first, left, right)
        else:
            self._strips(first, left, right)

    def _clear(self, sums: Value, size: int) -> None:
        f = self.f
        with f.loop(0, size, self.plan.lanes) as loop:
            zero = Value(self.type, "zeroinitializer")
            f.store(zero, f.at(sums, loop.index, self.plan.element))

    def _strips(self, first: Value, left: Value, right: Value) -> None:
        f, plan = self.f, self.plan
        tile, lanes = plan.tile_columns, plan.lanes
        self.left = left
        whole: list[Value | None] = [None] * plan.width
        if plan.columns is None:
            rest = f.binary("urem", f.binary("sub", right, left), i64(tile))
            middle = f.binary("sub", right, rest)
        else:
            middle = _least(f, right, plan.columns - plan.columns % tile)
        if plan.columns is None or plan.columns >= tile:
            with f.loop(left, middle, tile) as loop:
                self._strip(first, loop.index, whole, tile)
        if plan.columns is None or plan.columns % tile:
            with f.when(f.compare("icmp slt", middle, right)):
                count: Size = f.binary("sub", right, middle)
                if plan.columns is not None:
                    count = plan.columns % tile
                needed = -(-count // lanes) if isinstance(count, int) else plan.width
                masks = [self._mask(count, j * lanes) for j in range(needed)]
                self._strip(first, middle, masks, count)

    def _mask(self, count: Size, offset: int) -> Value | None:
        """Which lanes of the vector at this offset are among ``count`` columns."""
        left = _minus(self.f, count, offset)
        if isinstance(left, int) and left >= self.plan.lanes:
            return None
        return self.f.first_lanes(left, self.plan.lanes)

    def _strip(
        self, first: Value, q: Value, masks: Sequence[Value | None], count: Size
    ) -> None:
        """All rows of the chunk, for the ``count`` columns from q on."""
        f, plan, at = self.f, self.plan, self.at
        if plan.form == "dot" and plan.block:
            self._dot_blocks(first, q, masks, count)
            return
        if not plan.block:
            place = q if plan.form == "outer" else i64(0)
            v = f.at(at.vectors, place, plan.element)
            part = _Part(at.scalars, v, at.vector_stride, masks, self.depth)
            self._rows(first, q, part, masks, count, self.scratch)
            return
        if plan.streamed:
            s, v, rows, is_last = self._block(self.block)
            part = _Part(s, f.at(v, q, plan.element), at.vector_stride, masks, rows)
            strip = f.binary("sub", q, self.left)
            far = f.binary("mul", strip, i64(self.strip_size // plan.tile_columns))
            sums = f.at(self.scratch, far, plan.element)
            self._rows(first, q, part, masks, count, sums, is_last)
            return
        self._clear(self.scratch, self.strip_size)
        with f.loop(0, self.depth, plan.block) as loop:
            s, v, rows, is_last = self._block(loop.index)
            self._pack(f.at(v, q, plan.element), rows, masks)
            whole: list[Value | None] = [None] * len(masks)
            part = _Part(s, self.panel, plan.tile_columns, whole, rows)
            self._rows(first, q, part, masks, count, self.scratch, is_last)

    def _block(self, k: Value) -> tuple[Value, Value, Size, Value]:
        """Both operands from k on, how many terms, and whether they are the last."""
        f, at, plan = self.f, self.at, self.plan
        left = f.binary("sub", _value(self.depth), k)
        rows: Size = plan.block
        if not isinstance(self.depth, int) or self.depth % plan.block:
            rows = _least(f, left, plan.block)
        s = f.at(at.scalars, _times(f, k, at.depth_stride), plan.element)
        v = f.at(at.vectors, _times(f, k, at.vector_stride), plan.element)
        return s, v, rows, f.compare("icmp sle", left, i64(plan.block))

    def _pack(self, v: Value, rows: Size, masks: Sequence[Value | None]) -> None:
        """Copy these rows of V, one tile wide, into the panel."""
        f, element, lanes = self.f, self.plan.element, self.plan.lanes
        with f.loop(0, _value(rows)) as loop:
            source = f.at(v, _times(f, loop.index, self.at.vector_stride), element)
            place = f.binary("mul", loop.index, i64(self.plan.tile_columns))
            for j, mask in enumerate(masks):
                x = self._load(f.at(source, j * lanes, element), mask)
                target = f.at(self.panel, place, element)
                f.store(x, f.at(target, j * lanes, element))

    def _rows(
        self,
        first: Value,
        q: Value,
        part: _Part,
        masks: Sequence[Value | None],
        count: Size,
        sums: Value,
        is_last: Value | None = None,
    ) -> None:
        """One part of k for all rows of the chunk; the last part's are the results."""
        f = self.f
        name = f.fresh("strip")
        f.store(first, self.row)
        f.store(sums, self.tile)
        f.jump(name)
        f.label(name)
        p = f.load(self.row, "i64")
        tile = f.load(self.tile, "ptr")
        f.branch(f.compare("icmp slt", p, self.last_row), f"{name}.rows", f"{name}.end")
        f.label(f"{name}.rows")
        heights = self.plan.heights
        left = f.binary("sub", self.last_row, p)
        for height, lower in zip(heights, (*heights[1:], 0), strict=True):
            if lower:
                # This height is for more rows than the lower one has. It may begin
                # above them, and compute those again, but not above row 0.
                some = f.compare("icmp sgt", left, i64(lower))
                fits = f.compare("icmp sge", self.last_row, i64(height))
                usable = f.binary("and", some, fits)
                f.branch(usable, f"{name}.{height}", f"{name}.below{height}")
                f.label(f"{name}.{height}")
            if self.plan.form == "outer":
                start = _least(f, p, _minus(f, self.last_row, height))
                self._outer(tile, p, q, start, height, part)
            else:
                start = p
                self._dot(start, q, height, count)
            f.store(start, self.start)
            f.store(
                _least(f, f.binary("add", start, i64(height)), self.last_row), self.row
            )
            f.jump(f"{name}.done")
            if lower:
                f.label(f"{name}.below{height}")
        f.label(f"{name}.done")
        if is_last is None:
            self._hand_out(tile, p, q, masks, count)
        else:
            f.store(f.at(tile, self.tile_size, self.plan.element), self.tile)
            with f.when(is_last):
                self._hand_out(tile, p, q, masks, count)
        f.jump(name)
        f.label(f"{name}.end")

    def _ask_ahead(self, p: Value, q: Value, row: Value, width: int) -> None:
        """Ask for what the epilogue will read for one row of the tile at p and q."""
        f = self.f
        assert self.ahead
        row = _least(f, f.binary("add", p, row), _minus(f, self.last_row, 1))
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
        s = f.at(part.scalars, _times(f, start, at.row_stride), element)
        rows = [_times(f, i, at.row_stride) for i in range(height)]
        places = [
            f.at(tile, (i * self.plan.width + j) * lanes, element)
            for i in range(height)
            for j in range(width)
        ]
        zeros = [Value(self.type, "zeroinitializer")] * (height * width)
        if self.plan.transposed:
            self._ask_for_columns(q, width)
        is_asking = self.ahead and not (self.plan.block or self.plan.transposed)

        def step(values: Sequence[Value]) -> list[Value]:
            return self._outer_step(values, rows, part)

        def before() -> list[Value]:
            if not self.plan.block:
                return zeros
            return [f.load(place, self.type) for place in places]

        def store(sums: Sequence[Value]) -> None:
            for total, place in zip(sums, places, strict=True):
                f.store(total, place)

        def terms(
            first: Value | int, last: Size, unroll: int, values: Sequence[Value]
        ) -> list[Value]:
            with f.loop(first, last, unroll, values, nonempty=True) as loop:
                values = loop.carried
                for _ in range(unroll):
                    values = step(values)
                loop.carry(values)
            return list(loop.results)

        def many(whole: Size, unroll: int) -> list[Value]:
            """Some terms, of which there is at least one round."""
            values = [s, part.vectors, *before()]
            if not is_asking:
                return terms(0, whole, unroll, values)
            each, count = _shares(f, whole, unroll, height)
            with f.loop(0, count, 1, values, nonempty=True) as loop:
                self._ask_ahead(p, q, loop.index, width)
                first = f.binary("mul", loop.index, _value(each))
                last = _least(f, f.binary("add", first, _value(each)), whole)
                loop.carry(terms(first, last, unroll, loop.carried))
            return list(loop.results)

        depth = part.depth
        if isinstance(depth, int):
            unroll = min(_UNROLL, depth)
            values = many(depth - depth % unroll, unroll)
            for _ in range(depth % unroll):
                values = step(values)
            store(values[2:])
            return
        if at.depth is not None:  # which is even
            store(many(depth, _UNROLL)[2:])
            return
        unroll = _UNROLL if self.plan.transposed else _UNROLL_OPEN
        whole = f.binary("and", depth, i64(-unroll))
        is_some = f.compare("icmp sgt", whole, i64(0))
        with f.when(is_some):
            store(many(whole, unroll)[2:])
        if not self.plan.block:
            with f.when(f.compare("icmp eq", whole, i64(0))):
                store(zeros)
        with f.loop(whole, depth) as loop:
            at_s = f.at(s, _times(f, loop.index, at.depth_stride), element)
            at_v = _times(f, loop.index, part.vector_stride)
            sums = [f.load(place, self.type) for place in places]
            store(step([at_s, f.at(part.vectors, at_v, element), *sums])[2:])

    def _outer_step(
        self, values: Sequence[Value], rows: Sequence[Size], part: _Part
    ) -> list[Value]:
        """One term of every sum: (s, v, sums), and the same for the next term."""
        f, at, element = self.f, self.at, self.plan.element
        s, v, *sums = values
        lanes, width = self.plan.lanes, len(part.masks)
        vectors = [
            self._load(f.at(v, j * lanes, element), mask)
            for j, mask in enumerate(part.masks)
        ]
        following = []
        for i, row in enumerate(rows):
            scalar = f.splat(f.load(f.at(s, row, element), element), lanes)
            for x, y in zip(vectors, sums[i * width :], strict=False):
                following.append(f.fma(scalar, x, y))
        if self.plan.ahead:
            far: Size = self.plan.tile_columns
            if self.plan.streamed:
                far = _times(f, self.plan.block, part.vector_stride)
            for j in range(width):
                f.prefetch(f.at(f.at(v, far, element), j * lanes, element))
        s = f.at(s, at.depth_stride, element)
        return [s, f.at(v, part.vector_stride, element), *following]

    def _dot(self, p: Value, q: Value, height: int, count: Size) -> None:
        """A tile of dot products: ``height`` rows times one vector of columns."""
        f = self.f
        zeros = [Value(self.type, "zeroinitializer")] * (height * self.dots)
        with f.loop(0, count, self.dots) as strip:
            scalars, vectors = self._dot_operands(p, q, strip.index, height)
            sums = self._dot_sums(scalars, vectors, i64(0), self._whole_depth, zeros)
            self._dot_finish(scalars, vectors, strip.index, sums)

    def _dot_blocks(
        self, first: Value, q: Value, masks: Sequence[Value | None], count: Size
    ) -> None:
        """All rows of the chunk times one vector of columns, some terms at a time.

        So many that all rows of S have of them in the first cache; the sums wait.
        """
        f, plan = self.f, self.plan
        height, lanes, element = plan.heights[0], plan.lanes, plan.element
        whole = self._whole_depth
        self._clear(self.partial, plan.rows_per_chunk * plan.lanes * lanes)

        def places(p: Value, strip: Value) -> list[Value]:
            tile = f.binary("sub", p, first)
            far = f.binary("mul", tile, i64(lanes * lanes))
            start = f.at(self.partial, far, element)
            start = f.at(start, f.binary("mul", strip, i64(height * lanes)), element)
            return [f.at(start, i * lanes, element) for i in range(height * self.dots)]

        with f.loop(0, whole, plan.block) as blocks:
            k = blocks.index
            end = _least(f, f.binary("add", k, i64(plan.block)), whole)
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
            f.store(_least(f, end, self.last_row), self.row)
            self._hand_out(self.scratch, p, q, masks, count)

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
        last_row = _minus(f, self.last_row, 1)
        scalars = []
        for i in range(height):
            row = _least(f, f.binary("add", p, i64(i)), last_row)
            scalars.append(f.at(at.scalars, _times(f, row, at.row_stride), element))
        last_column = _minus(f, self.last_column, 1)
        vectors = []
        for j in range(self.dots):
            column = f.binary("add", q, f.binary("add", strip, i64(j)))
            column = _least(f, column, last_column)
            offset = _times(f, column, at.vector_stride)
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
        xs = [self._load(f.at(v, k, element), mask) for v in vectors]
        following = []
        for i, pointer in enumerate(scalars):
            y = self._load(f.at(pointer, k, element), mask)
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
        left = _minus(f, self.depth, whole)
        if left != 0:
            mask = f.first_lanes(left, lanes)
            sums = self._dot_step(scalars, vectors, _value(whole), mask, sums)
        for i in range(len(scalars)):
            row_sums = sum_across(f, list(sums[i * self.dots : (i + 1) * self.dots]))
            place = f.at(self.scratch, i * lanes, element)
            f.store(row_sums, f.at(place, strip, element))

    def _hand_out(
        self,
        tile: Value,
        p: Value,
        q: Value,
        masks: Sequence[Value | None],
        count: Size,
    ) -> None:
        """The rows of a tile from p on go to the epilogue."""
        f, lanes = self.f, self.plan.lanes
        if self.plan.transposed:
            self._hand_out_columns(tile, q, count)
            return
        start = f.load(self.start, "i64")
        after = f.load(self.row, "i64")
        with f.loop(0, count, lanes) as strip:
            column = f.binary("add", q, strip.index)
            mask = None
            if any(masks):
                mask = f.first_lanes(_minus(f, count, strip.index), lanes)
            extra = self.columns(f, column, mask) if self.columns else None
            with f.loop(p, after) as rows:
                row = f.binary("sub", rows.index, start)
                place = f.binary("mul", row, i64(self.plan.tile_columns))
                place = f.binary("add", place, strip.index)
                sums = f.load(f.at(tile, place, self.plan.element), self.type)
                self.epilogue(f, sums, rows.index, column, mask, extra)

    def _hand_out_columns(self, tile: Value, q: Value, count: Size) -> None:
        """The columns of a tile that has all rows go to the epilogue."""
        f, plan = self.f, self.plan
        assert plan.rows is not None
        mask = f.first_lanes(plan.rows, plan.lanes)
        far = ", ".join(f"i64 {i * plan.tile_columns}" for i in range(plan.lanes))
        offsets = Value(vector("i64", plan.lanes), f"<{far}>")
        with f.loop(0, count) as strip:
            first = f.at(tile, strip.index, plan.element)
            places = f.value(
                vector("ptr", plan.lanes),
                f"getelementptr {plan.element}, {first}, {offsets}",
            )
            sums = f.gather(places, mask, self.type)
            column = f.binary("add", q, strip.index)
            self.epilogue(f, sums, i64(0), column, mask, None)

    def _load(self, pointer: Value, mask: Value | None) -> Value:
        if mask is None:
            return self.f.load(pointer, self.type)
        return self.f.masked_load(pointer, mask, self.type)


# Steps of k in one round: counting takes ports that products need.
_UNROLL = 2
_UNROLL_OPEN = 4  # where their number is known at run time only

# Columns of one tile of dot products.
_DOTS = 4


def _value(x: Size) -> Value:
    return i64(x) if isinstance(x, int) else x


def _times(f: Function, x: Size, y: Size) -> Size:
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    return f.binary("mul", _value(x), _value(y))


def _minus(f: Function, x: Size, y: Size) -> Size:
    if isinstance(x, int) and isinstance(y, int):
        return x - y
    return f.binary("sub", _value(x), _value(y))


def _least(f: Function, x: Value, y: Size) -> Value:
    return f.call("llvm.smin.i64", "i64", x, _value(y))


def _blocks(f: Function, extent: Size, each: int) -> Size:
    """How many blocks of ``each`` cover an extent."""
    if isinstance(extent, int):
        return -(-extent // each)
    return f.binary("udiv", f.binary("add", extent, i64(each - 1)), i64(each))


def _shares(f: Function, count: Size, unit: int, parts: int) -> tuple[Size, Size]:
    """A count of units cut into at most so many parts: how large, and how many."""
    if isinstance(count, int):
        each = -(-count // (unit * parts)) * unit
        return each, -(-count // each)
    units = f.binary("udiv", f.binary("add", count, i64(unit * parts - 1)),
                     i64(unit * parts))  # fmt: skip
    size = f.binary("mul", units, i64(unit))
    more = f.binary("add", count, f.binary("sub", size, i64(1)))
    return size, f.binary("udiv", more, size)


def _divide(f: Function, x: Value, by: Size) -> tuple[Value, Value]:
    """Quotient and remainder."""
    return f.binary("udiv", x, _value(by)), f.binary("urem", x, _value(by))
