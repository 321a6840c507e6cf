"""Native code for loops: elementwise values, joined ones, running sums, scattering."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.emit import Module, i64
from chainrule.compiler.emit import number as literal
from chainrule.compiler.emitter import (
    ZERO,
    Chunks,
    Emitter,
    Position,
    Slots,
    is_flat,
    llvm_type,
)
from chainrule.compiler.fusion import Kernel, strides_of
from chainrule.compiler.host import Target
from chainrule.compiler.ir import (
    Access,
    Join,
    Map,
    Node,
    Scan,
    Scatter,
    Size,
    plus,
    product,
)
from chainrule.compiler.reductions import combine, emit_columns, emit_rows

__all__ = ["emit_loops"]

_FLAT_CHUNK = 1 << 14
"""Elements of one chunk of a walk along memory: a few microseconds."""


def emit_loops(
    module: Module,
    kernel: Kernel,
    target: Target,
    slots: Slots,
    stored: set[Node],
    images: int = 0,
) -> Chunks:
    """Add the kernel's function to the module; how many chunks it has.

    With ``images``, a chunk goes over so many of the first axis.
    """
    emitter = Emitter(module, f"cr_{kernel.name}", target, slots, kernel, stored)
    writer = {
        "map": _emit_map,
        "rows": emit_rows,
        "columns": emit_columns,
        "join": _emit_join,
        "scan": _emit_scan,
        "scatter": _emit_scatter,
    }[kernel.kind]
    emitter.images = images
    chunks = writer(emitter)
    emitter.f.ret()
    module.add_kernel(emitter.f)
    return chunks


# -------------------------------------------------------------------- elementwise


def _emit_map(e: Emitter) -> Chunks:
    f, shape = e.f, e.kernel.shape
    chunk = f.parameters[1]
    if not shape:
        e.store_all(e.kernel.roots, lambda r: ())
        return Chunks()
    if len(shape) == 1 or is_flat(e, e.kernel.roots, len(shape), 0):
        total = product(shape)
        each = e.share_of(_FLAT_CHUNK, *shape[1:])
        begin = f.binary("mul", chunk, i64(each))
        end = e.least(f.binary("add", begin, i64(each)), e.size(total))
        leading = [ZERO] * (len(shape) - 1)
        for root in e.kernel.roots:
            for access in root.operands:
                e.hoist(access, (), len(shape))

        def body(position: Position) -> None:
            e.store_all(e.kernel.roots, lambda r: [*leading, position])

        e.along(begin, end, body)
        return Chunks(((total, each),))
    rows, inner = product(shape[:-1]), shape[-1]
    each = max(1, _FLAT_CHUNK // max(inner if isinstance(inner, int) else 256, 1))
    each = e.share_of(each, *shape[1:-1])
    first = f.binary("mul", chunk, i64(each))
    last = e.least(f.binary("add", first, i64(each)), e.size(rows))
    if isinstance(inner, int) and inner <= e.lanes and _reads_across(e):

        def abreast(position: Position) -> None:
            for j in range(inner):
                where = [position, Position(i64(j))]
                e.store_all(e.kernel.roots, lambda r, where=where: where)  # type: ignore

        e.along(first, last, abreast)
        return Chunks(((rows, each),))
    with f.loop(first, last) as loop, e.scope():
        outer = e.decode(loop.index, shape[:-1])
        for root in e.kernel.roots:
            for access in root.operands:
                e.hoist(access, outer)

        def along_row(position: Position) -> None:
            e.store_all(e.kernel.roots, lambda r: [*outer, position])

        e.along(i64(0), e.size(inner), along_row)
    return Chunks(((rows, each),))


def _reads_across(e: Emitter) -> bool:
    """Whether a value of two axes is made of one that lies the other way round."""
    if len(e.kernel.shape) != 2 or e.lanes == 1:
        return False
    stack = [access for root in e.kernel.roots for access in root.operands]
    seen: set[Access] = set()
    while stack:
        access = stack.pop()
        if access in seen:
            continue
        seen.add(access)
        node = access.node
        if isinstance(node, Map) and (node not in e.stored or node in e.own):
            stack += [o.substitute(access.places) for o in node.operands]
        elif (strides_of(access, 2) or [0])[0] == 1:
            return True
    return False


# ------------------------------------------------------------ one after another


def _emit_join(e: Emitter) -> Chunks:
    """Parts of each row, one after another."""
    f = e.f
    (node,) = e.kernel.cores
    assert isinstance(node, Join)
    outer, inner = node.shape[: node.axis], node.shape[node.axis + 1 :]
    rows, row = product(outer), product(node.shape[node.axis :])
    each = max(1, _FLAT_CHUNK // max(row if isinstance(row, int) else 256, 1))
    first = f.binary("mul", f.parameters[1], i64(each))
    last = e.least(f.binary("add", first, i64(each)), e.size(rows))

    def part(where: list[Position], start: Size, size: Size, access: Access) -> None:
        def moved(p: Position) -> Position:
            if start == 0:
                return p
            return Position(f.binary("add", p.base, e.size(start)), p.step)

        def nest(sizes: Sequence[Size], prefix: list[Position]) -> None:
            if len(sizes) > 1:
                with f.loop(0, e.size(sizes[0])) as loop, e.scope():
                    nest(sizes[1:], [*prefix, Position(loop.index)])
                return

            def body(position: Position) -> None:
                own = [*prefix, position]
                x = e.read(access, [*where, *own])
                e.store(node, [*where, moved(own[0]), *own[1:]], x)

            e.along(i64(0), e.size(sizes[0]), body)

        nest([size, *inner], [])

    with f.loop(first, last) as loop, e.scope():
        where = e.decode(loop.index, outer)
        start: Size = 0
        for access, size in zip(node.accesses, node.sizes, strict=True):
            part(where, start, size, access)
            start = plus(start, size)
    return Chunks(((rows, each),))


def _emit_scan(e: Emitter) -> Chunks:
    """Running sums: along one axis one after another, other axes side by side."""
    f = e.f
    (node,) = e.kernel.cores
    assert isinstance(node, Scan)
    e.lanes = 1
    others = [s for a, s in enumerate(node.shape) if a != node.axis]
    rows = product(others)
    first = f.binary("mul", f.parameters[1], i64(16))
    last = e.least(f.binary("add", first, i64(16)), e.size(rows))
    # -0 leaves every number as it is, -0 too.
    start = literal(llvm_type(node.dtype), -0.0 if node.dtype.kind == "f" else 0)
    with f.loop(first, last) as outer, e.scope():
        fixed = e.decode(outer.index, others)
        length = e.size(node.shape[node.axis])
        with f.loop(0, length, carried=[start]) as loop, e.scope():
            where = list(fixed)
            where.insert(node.axis, Position(loop.index))
            x = e.read(node.access, where)
            total = combine(e, "add", loop.carried[0], x, node.dtype)
            e.store(node, where, total)
            loop.carry([total])
    return Chunks(((rows, 16),))


def _emit_scatter(e: Emitter) -> Chunks:
    """Zeros, then one addition after another, so that repeated places add up."""
    f = e.f
    (node,) = e.kernel.cores
    assert isinstance(node, Scatter)
    zero = literal(llvm_type(node.dtype), 0)
    flat = [ZERO] * max(len(node.shape) - 1, 0)
    if node.shape:
        e.along(
            i64(0), e.size(product(node.shape)),
            lambda p: e.store(node, [*flat, p], zero),
        )  # fmt: skip
    else:
        e.store(node, (), zero)
    e.lanes = 1
    shape = node.access.node.shape
    with f.loop(0, e.size(product(shape))) as loop, e.scope():
        where = e.decode(loop.index, shape)
        x = e.read(node.access, where)
        places = [e._at(p, where) for p in node.places]
        before = e.load(node, places)
        e.store(node, places, combine(e, "add", before, x, node.dtype))
    return Chunks()
