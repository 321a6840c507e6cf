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

from collections.abc import Callable
from functools import partial

from chainrule.compiler.chunk import (
    Chunk,
    Columns,
    Epilogue,
    blocks_of,
    divide,
    least,
    value_of,
)
from chainrule.compiler.dot_products import DotProducts, StreamedDotProducts
from chainrule.compiler.emit import Function, Module, Value, i64
from chainrule.compiler.outer_products import (
    Ahead,
    DirectOuterProducts,
    FreshOuterProducts,
    OuterProducts,
    PackedOuterProducts,
    Rows,
    StreamedOuterProducts,
)
from chainrule.compiler.tiling import Operands, Plan, Size

__all__ = ["emit_contraction"]

Extents = Callable[[Function], tuple[Size, Size, Size]]


def emit_contraction(
    module: Module,
    name: str,
    plan: Plan,
    operands: Callable[[Function, Value], Operands],
    epilogue: Epilogue,
    *,
    extents: Extents | None = None,
    columns: Columns | None = None,
    fresh: Rows | None = None,
    ahead: Ahead | None = None,
    is_light: bool = False,
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
        fresh: how to make a chunk's rows of S, where they are not there yet; chunks
            of all columns share no rows.
        ahead: ``ahead(function, p, q)`` may ask for memory that the epilogue will read
            for one vector, while its sums are still being made; "outer" only.
        is_light: whether the epilogue is so short that it may be written out for
            every vector of a tile.
    """
    f = Function(module, name, [("ptr", "ctx"), ("i64", "chunk")])
    sizes = extents(f) if extents else (0, 0, 0)
    known = (plan.rows, plan.columns, plan.depth)
    rows, width, depth = (
        size if extent is None else extent
        for extent, size in zip(known, sizes, strict=True)
    )
    row_blocks = 1 if plan.all_rows else blocks_of(f, rows, plan.rows_per_chunk)
    column_blocks = blocks_of(f, width, plan.columns_per_chunk)
    rest, row_block = divide(f, f.parameters[1], row_blocks)
    batch, column_block = divide(f, rest, column_blocks)
    left = f.binary("mul", column_block, i64(plan.columns_per_chunk))
    right = least(f, f.binary("add", left, i64(plan.columns_per_chunk)), width)
    each = plan.rows_per_chunk
    begin = value_of(0) if plan.all_rows else f.binary("mul", row_block, i64(each))
    end = least(f, f.binary("add", begin, i64(each)), rows)
    kind = _kind(plan, is_light)
    if fresh and kind in (OuterProducts, DirectOuterProducts):
        kind = partial(FreshOuterProducts, fresh, batch, rows)
    elif fresh:
        fresh.make(f, batch, begin, end)
    kernel = kind(f, plan, operands(f, batch), depth, epilogue, columns)
    if isinstance(kernel, OuterProducts):
        kernel.ahead = ahead
    if plan.all_rows:
        with f.loop(0, value_of(rows), each) as blocks:
            end = least(f, f.binary("add", blocks.index, i64(each)), rows)
            kernel.emit(blocks.index, end, left, right)
    else:
        kernel.emit(begin, end, left, right)
    f.ret()
    module.add_kernel(f)


def _kind(plan: Plan, is_light: bool) -> Callable[..., Chunk]:
    """What emits a plan's tiles."""
    if plan.form == "dot":
        return StreamedDotProducts if plan.streamed else DotProducts
    if plan.streamed:
        return StreamedOuterProducts
    if plan.block:
        return PackedOuterProducts
    height = plan.heights[0]
    is_exact = plan.rows is not None and plan.rows % height == 0
    is_exact = is_exact and plan.rows_per_chunk % height == 0
    is_direct = is_light and is_exact and not plan.transposed
    return DirectOuterProducts if is_direct else OuterProducts
