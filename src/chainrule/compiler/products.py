"""Native code for matrix products with whatever is computed from them on the way."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from chainrule.compiler.blocks import is_small_weight
from chainrule.compiler.contraction import emit_contraction
from chainrule.compiler.emit import Function, Module, Value
from chainrule.compiler.emitter import (
    ZERO,
    Chunks,
    Emitter,
    Position,
    Slots,
    llvm_type,
    memory_type,
)
from chainrule.compiler.fusion import Kernel, strides_of
from chainrule.compiler.host import Target
from chainrule.compiler.ir import (
    Access,
    Blocks,
    Contract,
    Definitions,
    Dynamic,
    Index,
    Leaf,
    Map,
    Node,
    Place,
    Size,
    at,
    pinned,
    product,
)
from chainrule.compiler.outer_products import Rows, Source
from chainrule.compiler.picked import is_picked, picked_strides
from chainrule.compiler.simplify import rebuilt, with_operands
from chainrule.compiler.tiling import (
    LINE_BYTES,
    Operands,
    plan_contraction,
    transposable_rows,
)
from chainrule.core import scalar

__all__ = ["arrange", "emit_product", "is_dot", "is_outer"]

_CACHE_WAY_BYTES = 4096
_SHORT_DEPTH = 48
"""Below this many terms, sums across a vector cost more than a transposed copy."""
_LONG_DEPTH = 512
_HALVED_BYTES = 1 << 23
_EVEN = 2  # products that are unrolled as if their number of terms were known
_MOST_STEPS = 6  # of arithmetic that are written out for each vector of a tile
_MOST_PICKED = 8  # rows of a tile that each need an address
_NARROW = 12
"""Up to so many columns, vectors run along the rows: they would not be filled."""


class Roles(NamedTuple):
    """Which operand is broadcast and which fills the vectors."""

    form: Any
    swapped: bool
    """Whether the vectors run along the left operand's rows: q is i, p is j."""
    transposed: bool = False
    """Whether results are nevertheless written in vectors along j."""


def roles(node: Contract, narrow: int = _NARROW) -> Roles | None:
    """How a product can be computed from its operands as they lie; None if it cannot.

    The access's axes are: batches, i, j, k. Up to ``narrow`` columns are few.
    """
    ndim = len(node.shape) + 1
    a, b = picked_strides(node.a, ndim), picked_strides(node.b, ndim)
    if a is None or b is None:
        return None
    i, j, k = ndim - 3, ndim - 2, ndim - 1
    height, width = node.shape[-2:]
    is_narrow = isinstance(width, int) and width <= narrow
    if is_narrow and a[i] == 1 and isinstance(height, int) and height >= 64:
        return Roles("outer", True, True)
    is_deep = not isinstance(node.depth, int) or node.depth >= _SHORT_DEPTH
    if b[j] == 1:
        return Roles("outer", False)
    if a[i] == 1:
        return Roles("outer", True)
    if a[k] == 1 and b[k] == 1 and is_deep:
        return Roles("dot", False)
    return None


def is_dot(node: Contract) -> bool:
    """Whether a product sums along rows of both operands, as they lie."""
    return roles(node) == Roles("dot", False)


def is_outer(node: Contract) -> bool:
    """Whether a product adds up rows of the right operand, as they lie."""
    return roles(node) == Roles("outer", False)


def arrange(given: Definitions, by_blocks: bool = False) -> Definitions:
    """Give products operands that lie as they need them, by transposed copies.

    Args:
        by_blocks: whether blocks of examples go through small weights as a whole.
    """
    nodes: list[Node] = []
    renamed: dict[Node, Node] = {}
    colliding = _colliding(given)
    for node in given.nodes:
        current = with_operands(node, renamed)
        if node in colliding:
            line = LINE_BYTES // node.dtype.itemsize
            current = replace(current, margins=((0, 0), (0, 2 * line)))
        if isinstance(current, Contract) and roles(current) is None:
            i = len(node.shape) - 2
            a, b = current.a, _copy(current.b, current, (i + 2, i + 1))
            nodes.append(b.node)
            if strides_of(a, len(node.shape) + 1) is None:
                a = _copy(a, current, (i, i + 2))
                nodes.append(a.node)
            current = replace(current, a=a, b=b)
        if isinstance(current, Contract) and _is_long(current, by_blocks):
            halves, current = _halved(current)
            nodes.append(halves)
        renamed[node] = current
        nodes.append(current)
    return rebuilt(given, nodes, renamed)


def _colliding(given: Definitions) -> set[Node]:
    """Left operands whose rows displace one another in the first cache.

    Rows a multiple of 4 KiB apart have all their lines in the same few places of it,
    fewer than a tile has rows. A margin behind each row sets them apart.
    """
    bound = pinned(given)
    return {
        node
        for product in given.nodes
        if isinstance(product, Contract)
        for node in (product.a.node,)
        if isinstance(node, Map)
        and node not in bound
        and len(node.shape) == 2
        and isinstance(width := node.shape[1], int)
        and width * node.dtype.itemsize % _CACHE_WAY_BYTES == 0
    }


def _is_long(node: Contract, by_blocks: bool) -> bool:
    """Whether a product is worth summing in two halves, each by a thread of its own.

    A thread then reads the same half of the inputs and of the weights that it
    overwrites when their gradient, too, is cut along the inputs: neither half moves
    from one processor's cache to another's. What is made twice are the results.
    """
    depth, width = node.depth, node.shape[-1]
    if len(node.shape) != 2 or not isinstance(depth, int) or depth % _EVEN:
        return False
    if is_picked(node.a):
        return False
    if by_blocks and is_small_weight((depth, width), node.dtype.itemsize):
        return False
    if not isinstance(width, int) or width > depth // 2:
        return False
    # Weights beyond the caches come from memory in any case.
    is_small = depth * width * node.dtype.itemsize <= _HALVED_BYTES
    return is_small and depth >= _LONG_DEPTH


def _halved(node: Contract) -> tuple[Contract, Map]:
    """Two products, each over half of the terms, and their sum."""
    assert isinstance(node.depth, int)
    # Where one half ends and the other begins, a line of the cache does as well.
    line = LINE_BYTES // node.dtype.itemsize
    half = -(-node.depth // (2 * line)) * line
    moved = (Index.axis(1), Index.axis(2), Index(((0, half), (3, 1))))
    halves = Contract(
        f"{node.name}_halves", (2, *node.shape), node.dtype,
        node.a.substitute(moved), node.b.substitute(moved), half, node.depth,
    )  # fmt: skip
    parts = tuple(
        Access(halves, (Index(offset=i), Index.axis(0), Index.axis(1))) for i in (0, 1)
    )
    x0, x1 = scalar.symbol("x0"), scalar.symbol("x1")
    total = Map(node.name, node.shape, node.dtype, "expression", x0 + x1, parts)
    return halves, total


def _copy(access: Access, node: Contract, axes: tuple[int, int]) -> Access:
    """The operand as an array of its own: batches, then two axes of the product."""
    ndim = len(node.shape) + 1
    sizes = (*node.shape, node.depth)
    used = {a for p in access.places if isinstance(p, Index) for a, _ in p.terms}
    order = [*(a for a in range(ndim - 3) if a in used), *axes]
    places: list[Place] = [Index()] * ndim
    for position, axis in enumerate(order):
        places[axis] = Index.axis(position)
    shape: tuple[Size, ...] = tuple(sizes[a] for a in order)
    copy = Map(
        f"{access.node.name}_packed", shape, access.node.dtype, "expression",
        scalar.symbol("x0"), (access.substitute(places),),
    )  # fmt: skip
    return Access(copy, tuple(Index.axis(a) for a in order))


def _picked(rows: Node) -> list[Access]:
    """What is read at rows that an index names, along the rows' own columns."""
    found: list[Access] = []
    stack = list(rows.operands)
    while stack:
        access = stack.pop()
        if len(access.places) == 2 and isinstance(access.places[0], Dynamic):
            if access.places[1] == Index.axis(1):
                found.append(access)
        elif isinstance(access.node, Map) and access.is_identity:
            stack += [o.substitute(access.places) for o in access.node.operands]
    return found


def _read_with(kernel: Kernel, stored: set[Node]) -> list[Node]:
    """Arrays of floats that the results read at their own position."""
    found: dict[Node, None] = {}
    own = {*kernel.roots, *kernel.cores}
    stack = [a for r in kernel.roots if isinstance(r, Map) for a in r.operands]
    seen: set[Access] = set()
    while stack:
        access = stack.pop()
        if access in seen or not access.is_identity:
            continue
        seen.add(access)
        node = access.node
        if isinstance(node, Leaf) or (node in stored and node not in own):
            if node.dtype.kind == "f":
                found[node] = None
        elif isinstance(node, Map):
            stack += [o.substitute(access.places) for o in node.operands]
    return list(found)


def _num_steps(kernel: Kernel, stored: set[Node]) -> int:
    """How many steps of arithmetic each vector of sums goes through."""
    own = {*kernel.roots, *kernel.cores}
    done: set[Node] = set()
    count = 0
    stack: list[Node] = list(kernel.roots)
    while stack:
        node = stack.pop()
        if node in done or not isinstance(node, Map):
            continue
        done.add(node)
        if node.shape and node.expression is not None:
            count += scalar.num_steps(node.expression)
        stack += [
            a.node for a in node.accesses if a.node in own or a.node not in stored
        ]
    return count


def emit_product(
    module: Module,
    kernel: Kernel,
    target: Target,
    slots: Slots,
    stored: set[Node],
    batch: int = 1,
    weight_rows: int = 0,
    examples: int = 0,
) -> Chunks:
    """Add a product's kernel to the module; how many chunks it has.

    Args:
        batch: a usual batch size.
        weight_rows: of the chunks of a chain that goes over the rows of a weight; 0
            for another kernel.
        examples: of the chunks of a chain that goes over the examples; 0 for others.
    """
    (node,) = kernel.cores
    assert isinstance(node, Contract)
    most = transposable_rows(target, llvm_type(node.dtype))
    found = roles(node, min(_NARROW, most))
    assert found is not None
    form, swapped, transposed = found
    *batches, height, width = node.shape
    rows, columns = (width, height) if swapped else (height, width)
    scalars, vectors = (node.b, node.a) if swapped else (node.a, node.b)
    ndim = len(node.shape) + 1
    p, q, k = (ndim - 2, ndim - 3, ndim - 1) if swapped else range(ndim - 3, ndim)
    sizes = (rows, columns, None if node.total else node.depth)
    static = [s if isinstance(s, int) else None for s in sizes]
    own_rows = [r for r in kernel.roots if r is node.a.node and not swapped]
    results = [r for r in kernel.roots if r not in own_rows]
    element = llvm_type(node.dtype)
    plan = plan_contraction(
        target,
        form,
        element,
        *static,
        transposed=transposed,
        whole_rows=bool(own_rows),
        usual=(at(rows, batch), at(columns, batch), at(node.depth, batch)),
        most_rows=_MOST_PICKED if is_picked(node.a) else None,
    )
    if weight_rows and form == "dot":
        plan = replace(plan, columns_per_chunk=weight_rows, all_rows=True)
    elif weight_rows:
        assert isinstance(width, int)
        whole = -(-width // plan.tile_columns) * plan.tile_columns
        plan = replace(plan, rows_per_chunk=weight_rows, columns_per_chunk=whole)
    emitters: dict[int, Emitter] = {}

    def emitter(f: Function) -> Emitter:
        if id(f) not in emitters:
            e = Emitter(module, "", target, slots, kernel, stored, f)
            e.lanes = plan.lanes
            emitters[id(f)] = e
        return emitters[id(f)]

    if examples:
        whole = -(-at(columns, batch) // plan.tile_columns) * plan.tile_columns
        each = rows if isinstance(node.shape[0], Blocks) else examples
        assert isinstance(each, int)
        plan = replace(plan, rows_per_chunk=each, columns_per_chunk=whole)
    sizes_of_sum = (node.total, node.depth)
    is_even = all(isinstance(s, int) and s % _EVEN == 0 for s in sizes_of_sum)
    where: list[Position] = []

    def extents(f: Function) -> tuple[Any, Any, Any]:
        e = emitter(f)
        return tuple(  # type: ignore[return-value]
            s if isinstance(s, int) else e.size(s) for s in (rows, columns, node.depth)
        )

    def depth_of(f: Function, part: Value) -> Value | None:
        """How many terms the sum has, where not all have as many."""
        if not node.total:
            return None
        e = emitter(f)
        gone = f.binary("mul", part, e.size(node.depth))
        return e.least(e.size(node.depth), f.binary("sub", e.size(node.total), gone))

    def operands(f: Function, batch: Value) -> Operands:
        e = emitter(f)
        where[:] = e.decode(batch, batches)

        def start(access: Access) -> Value:
            places = [
                ZERO if isinstance(x, Dynamic) else e._at(x, [*where, *[ZERO] * 3])
                for x in access.places
            ]
            address = e._address(access.node, places)
            return f.at(e.pointer(access.node), address.base, plan.element)

        def stride(access: Access, axis: int) -> int | Value:
            strides = picked_strides(access, ndim)
            assert strides is not None
            found = strides[axis]
            return found if isinstance(found, int) else e.size(found)

        def row(access: Access, axis: int, f: Function, number: Value) -> Value:
            """Where a picked row begins; whatever is read, it is one of the rows."""
            first = access.places[0]
            assert isinstance(first, Dynamic)
            positions = [*where, *[ZERO] * 3]
            positions[axis] = Position(number)
            where_listed = [e._at(x, positions) for x in first.access.places]
            index = e.load(first.access.node, where_listed)
            last = f.binary("sub", e.size(first.size), Value("i64", "1"))
            index = f.intrinsic("umin", index, last)
            return f.binary("mul", index, e.size(access.node.strides[0]))

        across = stride(vectors, k if form == "outer" else q)
        return Operands(
            start(scalars), start(vectors), stride(scalars, p), stride(scalars, k),
            across, depth_of(f, batch), is_even,
            rows=partial(row, node.a, ndim - 3) if is_picked(node.a) else None,
            terms=partial(row, node.b, ndim - 1) if is_picked(node.b) else None,
        )  # fmt: skip

    def epilogue(
        f: Function, sums: Value, p: Value, q: Value, mask: Value | None, extra: Any
    ) -> None:
        e = emitter(f)
        at_p, at_q = Position(p), Position(q, 1)
        if transposed:
            at_p, at_q = Position(p, 1), Position(q)
        positions = [*where, at_q, at_p] if swapped else [*where, at_p, at_q]
        with e.masked(mask), e.scope():
            e.remember(node, positions, sums)
            e.store_all(results, lambda r: positions)

    def make(f: Function, batch: Value, first: Value, last: Value) -> None:
        """Rows of the left operand, or one of its halves of them."""
        e = emitter(f)
        begin = f.binary("mul", batch, e.size(node.depth))
        end = f.binary("add", begin, depth_of(f, batch) or e.size(node.depth))
        with f.loop(first, last) as loop, e.scope():
            row = Position(loop.index)
            for root in own_rows:
                for access in root.operands:
                    e.hoist(access, [row])
            e.along(begin, end, lambda p: e.store_all(own_rows, lambda r: [row, p]))

    copied = [access for r in own_rows for access in _picked(r)]

    def origins(f: Function, batch: Value, row: Value) -> list[Source]:
        """Where rows that are picked from a large data set lie: not in any cache."""
        e = emitter(f)
        begin = Position(f.binary("mul", batch, e.size(node.depth)))
        found = []
        with e.scope():
            for access in copied:
                places = [e._at(p, [Position(row), begin]) for p in access.places]
                address = e._address(access.node, places)
                dtype = access.node.dtype
                place = f.at(e.pointer(access.node), address.base, memory_type(dtype))
                found.append(Source(place, dtype.itemsize))
        return found

    read = [n for n in _read_with(kernel, stored) if n.shape == node.shape]
    picked = [] if batches or swapped else [a for r in results for a in _picked(r)]

    def ahead(f: Function, p: Value, q: Value) -> None:
        e = emitter(f)
        at_p, at_q = Position(p), Position(q)
        positions = [*where, at_q, at_p] if swapped else [*where, at_p, at_q]
        found = [(other, positions) for other in read]
        for access in dict.fromkeys(picked):
            row = e._at(access.places[0], positions)
            found.append((access.node, [row, at_q]))
        for other, places in found:
            address = e._address(other, places)
            place = f.at(e.pointer(other), address.base, memory_type(other.dtype))
            f.prefetch(place)

    emit_contraction(
        module, f"cr_{kernel.name}", plan, operands, epilogue, extents=extents,
        fresh=Rows(make, origins) if own_rows else None,
        ahead=ahead if read or picked else None,
        is_light=_num_steps(kernel, stored) <= _MOST_STEPS,
    )  # fmt: skip
    return Chunks(
        (
            (1 if plan.all_rows else rows, plan.rows_per_chunk),
            (columns, plan.columns_per_chunk),
            (product(batches), 1),
        )
    )
