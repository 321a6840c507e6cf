"""How a contraction is cut into tiles and chunks.

Work is split into chunks by shape only, and every sum is made by one chunk in the order
of its terms, so results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from chainrule.compiler.emit import Function, Value
from chainrule.compiler.host import Target

__all__ = [
    "LINE_BYTES",
    "Operands",
    "Plan",
    "Size",
    "plan_contraction",
    "transposable_rows",
]

LINE_BYTES = 64  # of the caches

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
        depth: K where batches differ; the plan then knows none.
        is_even: whether such a K is an even number.
        rows: ``rows(function, p)`` is where a row of S begins, in elements, if a list
            of indices says so instead of the stride.
        terms: ``terms(function, k)``, likewise for what V has along q.
    """

    scalars: Value
    vectors: Value
    row_stride: Size
    depth_stride: Size
    vector_stride: Size
    depth: Value | None = None
    is_even: bool = True
    rows: Callable[[Function, Value], Value] | None = None
    terms: Callable[[Function, Value], Value] | None = None


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
        unroll: how many terms a round has, if K is known at run time only.
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
    unroll: int = 4

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
    most_rows: int | None = None,
) -> Plan:
    """Choose tiles and chunks for a product of these extents (None: run time).

    A transposed hand-out needs ``rows`` of at most one tile and one vector. With whole
    rows, a chunk has all columns. The usual extents help where there are no fixed ones;
    they do not change in which order anything is summed. A tile has ``most_rows``, if
    that is given.
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
        most = _MOST_SUMS[target.num_registers] // width
        if typical[2] <= _SHALLOW_DEPTH and result_bytes >= _STREAMED_BYTES:
            width, height = _SHALLOW_TILES[target.num_registers]
            most = height
        if most_rows is not None:
            height, most = min(height, most_rows), min(most, most_rows)
        if columns is not None:
            width = min(width, -(-columns // lanes))
        fair = range(height, height * 2 // 3, -1)
        if rows is None:
            # One for the usual rows, where they are few, besides those for any rows.
            wanted = {height, 8, 4, 1, min(typical[0], height)}
            heights = tuple(sorted((h for h in wanted if h <= height), reverse=True))
        else:
            exact = range(most, height // 2, -1)
            heights = (rows if rows <= height else _height(rows, fair),)
            heights = next(((h,) for h in exact if rows % h == 0), heights)
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
        unroll=2 if typical[2] % 4 == 2 else 4,
    )


def transposable_rows(target: Target, element: str) -> int:
    """The most rows that a product with a transposed hand-out can have."""
    _, height = _TILES[target.num_registers]
    return min(height, target.lanes(element))


# How many sums fit beside their operands, by the number of vector registers; then
# width in vectors and height of the usual tile.
_MOST_SUMS = {32: 28, 16: 12}
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
