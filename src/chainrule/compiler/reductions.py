"""Native code for reductions: of rows, and across them.

Long sums are sums of sums of blocks, which loses less to rounding. Short rows go side
by side, one in each lane, where there are enough of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from chainrule.compiler.emit import Value, element_of, i64, lanes_of, vector
from chainrule.compiler.emit import number as literal
from chainrule.compiler.emitter import (
    ZERO,
    Chunks,
    Emitter,
    Position,
    is_flat,
    llvm_type,
)
from chainrule.compiler.ir import (
    Access,
    Blocks,
    Dynamic,
    Map,
    Node,
    Reduce,
    Size,
    product,
    times,
)
from chainrule.compiler.vector_math import native_table

__all__ = ["combine", "emit_columns", "emit_rows"]

_ROW_CHUNK = 1 << 11
_SUM_BLOCK = 64
"""Vectors that are summed one after another before they join a sum of sums."""
_IDENTITY = {"add": 0.0, "maximum": -np.inf, "minimum": np.inf}


def _neutral(kind: str, dtype: np.dtype[Any], type: str) -> Value:
    if dtype.kind == "f" or kind == "add":
        return literal(type, _IDENTITY[kind])
    if dtype.name == "bool":
        return literal(type, kind == "minimum")
    limits = np.iinfo(dtype)
    return literal(type, limits.min if kind == "maximum" else limits.max)


def combine(e: Emitter, kind: str, x: Value, y: Value, dtype: np.dtype[Any]) -> Value:
    if dtype.name == "bool":
        return e.f.binary("or" if kind == "maximum" else "and", x, y)
    if dtype.kind == "u" and kind != "add":
        return e.f.intrinsic("umax" if kind == "maximum" else "umin", x, y)
    table = native_table(e.f, x.type)
    return table[kind](x, y)


def _across(e: Emitter, kind: str, x: Value, dtype: np.dtype[Any]) -> Value:
    """All lanes of a vector folded into one, by halves."""
    f = e.f
    lanes = lanes_of(x.type)
    element = element_of(x.type)
    while lanes > 1:
        half = lanes // 2
        low = ", ".join(f"i32 {i}" for i in range(half))
        high = ", ".join(f"i32 {i + half}" for i in range(half))
        wide, type = x.type, vector(element, half)
        if half == 1:
            a = f.value(element, f"extractelement {x}, i32 0")
            b = f.value(element, f"extractelement {x}, i32 1")
        else:
            pick = f"shufflevector {x}, {wide} poison, <{half} x i32>"
            a = f.value(type, f"{pick} <{low}>")
            b = f.value(type, f"{pick} <{high}>")
        x = combine(e, kind, a, b, dtype)
        lanes = half
    return x


def _levels(e: Emitter) -> tuple[list[list[Reduce]], dict[Node, int]]:
    """Reductions in the order in which they need one another; each root's level."""
    level: dict[Node, int] = {}

    @cache
    def needed(access: Access) -> int:
        node = access.node
        if node in level and isinstance(node, Reduce):
            return level[node]
        if not isinstance(node, Map) or (node in e.stored and node not in e.own):
            return 0
        inner = [needed(a) for a in node.accesses]
        inner += [needed(p.access) for p in access.places if isinstance(p, Dynamic)]
        return max(inner, default=0)

    stages: list[list[Reduce]] = []
    for core in e.kernel.cores:
        assert isinstance(core, Reduce)
        level[core] = needed(core.access) + 1
        while len(stages) < level[core]:
            stages.append([])
        stages[level[core] - 1].append(core)
    roots: dict[Node, int] = {}
    for root in e.kernel.roots:
        if isinstance(root, Reduce):
            roots[root] = level[root]
        else:
            roots[root] = max((needed(a) for a in root.operands), default=0)
    return stages, roots


def emit_rows(e: Emitter) -> Chunks:
    f, kernel = e.f, e.kernel
    rows, inner = product(kernel.shape), kernel.inner
    stages, level = _levels(e)
    ndim = len(kernel.shape) + len(inner)
    outer_ndim = len(kernel.shape)
    full = [
        r for r in kernel.roots if len(r.shape) == ndim and not isinstance(r, Reduce)
    ]
    row_roots = [r for r in kernel.roots if r not in full]
    if len(inner) > 1 and is_flat(e, [*kernel.cores, *full], ndim, outer_ndim):
        walk: list[Size] = [product(inner)]
        padding = [ZERO] * (len(inner) - 1)
    else:
        walk, padding = list(inner), []
    work = product(walk)
    each = max(1, _ROW_CHUNK // max(work if isinstance(work, int) else 256, 16))
    each = e.share_of(each, *kernel.shape[1:])
    first = f.binary("mul", f.parameters[1], i64(each))
    last = e.least(f.binary("add", first, i64(each)), e.size(rows))
    is_short = len(walk) == 1 and isinstance(walk[0], int) and 0 < walk[0] <= e.lanes
    if is_short and _are_abreast(e, kernel.shape):
        inside = [[*padding, Position(i64(j))] for j in range(int(walk[0]))]  # type: ignore[arg-type]
        # Masked throughout: written out once, it takes half as long to compile.
        with f.loop(first, last, e.lanes) as loop, e.scope():
            mask = f.first_lanes(f.binary("sub", last, loop.index), e.lanes)
            with e.masked(mask):
                _rows_abreast(e, Position(loop.index, 1), inside)
        return Chunks(((rows, each),))

    with f.loop(first, last) as loop, e.scope():
        outer = e.decode(loop.index, kernel.shape)
        for stage in range(len(stages) + 1):
            cores = stages[stage] if stage < len(stages) else []
            now = [r for r in full if level[r] == stage]
            if is_short:
                _short_row(e, outer, padding, cores, now, int(walk[0]))  # type: ignore
            elif cores or now:
                _row_stage(e, outer, padding, walk, cores, now)
        _store_rows(e, row_roots, outer)
    return Chunks(((rows, each),))


def _are_abreast(e: Emitter, shape: Sequence[Size]) -> bool:
    """Whether there are enough short rows to fill a vector with one element of each."""
    if len(shape) != 1 or e.lanes == 1:
        return False
    return not isinstance(shape[0], int) or shape[0] >= e.lanes


def _rows_abreast(e: Emitter, row: Position, inside: Sequence[list[Position]]) -> None:
    """As many short rows as a vector has lanes: nothing is summed across its lanes."""
    stages, level = _levels(e)
    ndim = len(e.kernel.shape) + len(e.kernel.inner)

    def places(root: Node) -> list[list[Position]]:
        is_full = len(root.shape) == ndim and not isinstance(root, Reduce)
        return [[row, *c] for c in inside] if is_full else [[row]]

    values: list[tuple[Node, list[Position], Value]] = []
    for stage in range(len(stages) + 1):
        for core in stages[stage] if stage < len(stages) else []:
            total: Value | None = None
            for column in inside:
                x = e.read(core.access, [row, *column])
                x = e.f.splat(x, e.lanes) if lanes_of(x.type) < e.lanes else x
                if total is not None:
                    x = combine(e, core.kind, total, x, core.dtype)
                total = x
            assert total is not None
            e.remember(core, [row], total)
        now = [r for r in e.kernel.roots if level[r] == stage]
        values += [(r, p, e.value(r, p)) for r in now for p in places(r)]
    for root, where, value in values:
        e.store(root, where, value)


def _store_rows(e: Emitter, roots: Sequence[Node], outer: list[Position]) -> None:
    with e.masked(None):
        e.store_all(roots, lambda r: outer)


def _short_row(
    e: Emitter,
    outer: list[Position],
    padding: list[Position],
    cores: Sequence[Reduce],
    roots: Sequence[Node],
    count: int,
) -> None:
    """A row that one vector holds: everything stays in registers."""
    f = e.f
    position = Position(i64(0), 1 if e.lanes > 1 else 0)
    if e.lanes == 1 and count > 1:
        _row_stage(e, outer, padding, [count], cores, roots)
        return
    mask = f.first_lanes(count, e.lanes) if count < e.lanes else None
    where = [*outer, *padding, position]
    with e.masked(mask):
        for core in cores:
            x = e.read(core.access, where)
            x = f.splat(x, e.lanes) if lanes_of(x.type) < e.lanes else x
            if mask is not None:
                neutral = _neutral(core.kind, core.dtype, x.type)
                x = f.select(mask, x, neutral)
            e.remember(core, outer, _across(e, core.kind, x, core.dtype))
        e.store_all(roots, lambda r: where)


def _row_stage(
    e: Emitter,
    outer: list[Position],
    padding: list[Position],
    walk: Sequence[Size],
    cores: Sequence[Reduce],
    roots: Sequence[Node],
) -> None:
    """One pass over a row: some reductions, and some values to store."""
    f = e.f
    if cores and cores[0].kind.startswith("arg"):
        for core in cores:
            _arg_extremum(e, outer, walk, core)
        if roots:
            _row_stage(e, outer, padding, walk, [], roots)
        return
    for node in (*cores, *roots):
        for access in node.operands:
            e.hoist(access, outer, len(padding) + len(walk))
    types = [vector(llvm_type(c.dtype), e.lanes) for c in cores]
    start = [_neutral(c.kind, c.dtype, t) for c, t in zip(cores, types, strict=True)]

    def step(where: list[Position], totals: Sequence[Value]) -> list[Value]:
        following = []
        with e.scope():
            for core, total in zip(cores, totals, strict=True):
                x = e.read(core.access, where)
                x = f.splat(x, e.lanes) if lanes_of(x.type) < e.lanes else x
                if e.mask is not None:
                    x = f.select(e.mask, x, _neutral(core.kind, core.dtype, x.type))
                following.append(combine(e, core.kind, total, x, core.dtype))
            e.store_all(roots, lambda r: where)
        return following

    def nest(
        sizes: Sequence[Size], prefix: list[Position], totals: list[Value]
    ) -> list[Value]:
        if len(sizes) > 1:
            with f.loop(0, e.size(sizes[0]), carried=totals) as loop:
                p = Position(loop.index)
                loop.carry(nest(sizes[1:], [*prefix, p], loop.carried))
            return loop.results
        return _blocked(e, sizes[0], totals, cores, start,
                        lambda p, t: step([*prefix, p], t))  # fmt: skip

    totals = nest(walk, [*outer, *padding], start)
    for core, total in zip(cores, totals, strict=True):
        e.remember(core, outer, _across(e, core.kind, total, core.dtype))


def _blocked(
    e: Emitter,
    size: Size,
    totals: list[Value],
    cores: Sequence[Reduce],
    start: list[Value],
    step: Callable[[Position, Sequence[Value]], list[Value]],
) -> list[Value]:
    """A walk along one axis in vectors; long sums are sums of sums of blocks."""
    f, lanes = e.f, e.lanes
    block = _SUM_BLOCK * lanes
    is_long = not isinstance(size, int) or size > 2 * block
    end = e.size(size)
    rest = f.binary("urem", end, i64(lanes)) if lanes > 1 else i64(0)
    whole = f.binary("sub", end, rest)
    if is_long and cores:
        with f.loop(0, whole, block, totals) as blocks:
            stop = e.least(f.binary("add", blocks.index, i64(block)), whole)
            with f.loop(blocks.index, stop, lanes, start) as loop:
                loop.carry(step(Position(loop.index, 1), loop.carried))
            joined = [
                combine(e, c.kind, total, part, c.dtype)
                for c, total, part in zip(
                    cores, blocks.carried, loop.results, strict=True
                )
            ]
            blocks.carry(joined)
        totals = blocks.results
    else:
        with f.loop(0, whole, lanes, totals) as loop:
            loop.carry(step(Position(loop.index, 1), loop.carried))
        totals = loop.results
    if lanes == 1 or (isinstance(size, int) and size % lanes == 0):
        return totals
    # The vector that is not whole is masked; where it is empty, it changes nothing.
    mask = f.first_lanes(rest, lanes)
    with e.masked(mask):
        return step(Position(whole, 1), totals)


def _arg_extremum(
    e: Emitter, outer: list[Position], walk: Sequence[Size], core: Reduce
) -> None:
    """The place of the first largest (or smallest) element; NaN counts as such."""
    f = e.f
    dtype = core.access.node.dtype
    (size,) = walk
    with e.scope():
        best = e.read(core.access, [*outer, Position(i64(0))])
    with f.loop(1, e.size(size), carried=[best, i64(0)]) as loop, e.scope():
        x = e.read(core.access, [*outer, Position(loop.index)])
        top, place = loop.carried
        is_largest = core.kind == "argmax"
        if dtype.kind == "f":
            # "not (x <= top)" holds for NaN as well; a NaN that leads stays.
            order = "fcmp ugt" if is_largest else "fcmp ult"
            better = f.compare(order, x, top)
            leads = f.compare("fcmp ord", top, top)
            better = f.binary("and", better, leads)
        else:
            sign = "s" if dtype.kind == "i" else "u"
            order = f"icmp {sign}gt" if is_largest else f"icmp {sign}lt"
            better = f.compare(order, x, top)
        loop.carry([f.select(better, x, top), f.select(better, loop.index, place)])
    e.remember(core, outer, loop.results[1])


_COLUMN_CHUNK = 1 << 15
_USUAL_DEPTH, _USUAL_BLOCKS = 128, 8  # of sums over a batch, or over blocks of it
_COLUMNS = 4  # vectors of columns that one walk sums up


def emit_columns(e: Emitter) -> Chunks:
    """Sums across rows: a few vectors of columns, summed from top to bottom."""
    f, kernel = e.f, e.kernel
    *outer_shape, width = kernel.shape
    stages, _ = _levels(e)
    count = _COLUMNS
    if isinstance(width, int):
        count = max(1, min(count, -(-width // e.lanes)))
    columns = count * e.lanes
    blocks = f.binary(
        "udiv", f.binary("add", e.size(width), i64(columns - 1)), i64(columns)
    )
    rows = product(outer_shape)
    if not e.images:
        # A few blocks of columns are one chunk, where the sums are short.
        inner = product(kernel.inner)
        depth = inner if isinstance(inner, int) else _USUAL_DEPTH
        depth = _USUAL_BLOCKS if isinstance(inner, Blocks) else depth
        each = max(1, _COLUMN_CHUNK // (columns * max(depth, 1)))
        each = each if isinstance(width, int) else 1
        count_all = f.binary("mul", blocks, e.size(rows))
        begin = f.binary("mul", f.parameters[1], i64(each))
        end = e.least(f.binary("add", begin, i64(each)), count_all)
        with f.loop(begin, end) as walk, e.scope():
            row = f.binary("udiv", walk.index, blocks)
            block = f.binary("urem", walk.index, blocks)
            _column_block(e, stages, outer_shape, width, count, row, block)
        if not isinstance(width, int):
            return Chunks(((width, columns), (rows, 1)))
        return Chunks(((times(rows, -(-width // columns)), each),))
    each = e.share_of(1, *outer_shape[1:])
    first = f.binary("mul", f.parameters[1], i64(each))
    last = e.least(f.binary("add", first, i64(each)), e.size(rows))
    with f.loop(first, last) as walk, f.loop(0, blocks) as part, e.scope():
        _column_block(e, stages, outer_shape, width, count, walk.index, part.index)
    return Chunks(((rows, each),))


def _column_block(
    e: Emitter,
    stages: list[list[Reduce]],
    outer_shape: Sequence[Size],
    width: Size,
    count: int,
    row: Value,
    block: Value,
) -> None:
    """So many vectors of columns, from top to bottom."""
    f, kernel = e.f, e.kernel
    columns = count * e.lanes
    begin = f.binary("mul", block, i64(columns))
    outer = e.decode(row, outer_shape)
    is_whole = isinstance(width, int) and width % columns == 0
    left = f.binary("sub", e.size(width), begin)
    strips: list[tuple[list[Position], Value | None]] = []
    for j in range(count):
        base = f.binary("add", begin, i64(j * e.lanes))
        rest = f.binary("sub", left, i64(j * e.lanes))
        mask = None if is_whole or e.lanes == 1 else f.first_lanes(rest, e.lanes)
        strips.append(([*outer, Position(base, 1)], mask))
    for cores in stages:
        for core in cores:
            for where, mask in strips:
                with e.masked(mask):
                    e.hoist(core.access, where, len(core.extents))
        types = [vector(llvm_type(c.dtype), e.lanes) for c in cores for _ in strips]
        kinds = [c for c in cores for _ in strips]
        start = [
            _neutral(c.kind, c.dtype, t) for c, t in zip(kinds, types, strict=True)
        ]
        totals = _summed(e, cores, strips, list(kernel.inner), [], start, start)
        each = iter(totals)
        for core in cores:
            for where, _ in strips:
                e.remember(core, where, next(each))
    for where, mask in strips:
        if e.lanes == 1 and not is_whole:  # masks are for vectors
            some = f.compare("icmp slt", where[-1].base, e.size(width))
            with f.when(some), e.scope():
                e.store_all(kernel.roots, lambda r, where=where: where)  # type: ignore
        else:
            with e.masked(mask):
                e.store_all(kernel.roots, lambda r, where=where: where)  # type: ignore


def _summed(
    e: Emitter,
    cores: Sequence[Reduce],
    strips: Sequence[tuple[list[Position], Value | None]],
    sizes: list[Size],
    inner: list[Position],
    totals: Sequence[Value],
    start: Sequence[Value],
) -> list[Value]:
    """Vectors of columns summed; long sums are sums of sums of blocks."""
    f = e.f
    kinds = [c for c in cores for _ in strips]
    if len(sizes) > 1:
        with f.loop(0, e.size(sizes[0]), carried=totals) as loop, e.scope():
            further = [*inner, Position(loop.index)]
            loop.carry(
                _summed(e, cores, strips, sizes[1:], further, loop.carried, start)
            )
        return loop.results
    end = e.size(sizes[0])
    is_short = isinstance(sizes[0], int) and sizes[0] <= _SUM_BLOCK

    def block(first: Value, stop: Value, sums: Sequence[Value]) -> list[Value]:
        with f.loop(first, stop, 1, start) as loop, e.scope():
            following = []
            values = iter(loop.carried)
            for core in cores:
                for where, mask in strips:
                    with e.masked(mask):
                        x = e.read(core.access, [*where, *inner, Position(loop.index)])
                    x = f.splat(x, e.lanes) if lanes_of(x.type) < e.lanes else x
                    following.append(combine(e, core.kind, next(values), x, core.dtype))
            loop.carry(following)
        return [
            combine(e, c.kind, total, part, c.dtype)
            for c, total, part in zip(kinds, sums, loop.results, strict=True)
        ]

    if is_short:
        return block(i64(0), end, totals)
    with f.loop(0, end, _SUM_BLOCK, totals) as blocks:
        stop = e.least(f.binary("add", blocks.index, i64(_SUM_BLOCK)), end)
        blocks.carry(block(blocks.index, stop, blocks.carried))
    return blocks.results
