"""Rows of a data set that products read where they lie, block by block.

A minibatch is rows that a list of indices picks from a data set. What most networks
make of it costs so much that a copy of the rows costs little. A linear classifier makes
a few sums of each row, and a copy would take longer than they. Its two products, of the
rows with the weights and of the rows with a gradient, read them in place instead; and
so that a row comes from memory once, the second is made block by block of examples,
while the block is in the cache for the first (``schedule`` joins them to a chain). The
blocks' sums are added up afterwards, always in the same order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chainrule.compiler.blocks import added_by_blocks
from chainrule.compiler.fusion import strides_of
from chainrule.compiler.ir import (
    Access,
    Contract,
    Definitions,
    Dynamic,
    Index,
    Leaf,
    Map,
    Node,
    Size,
    at,
    pinned,
    sources,
)
from chainrule.compiler.simplify import rebuilt, with_operands
from chainrule.core import scalar

__all__ = ["arrange_picked", "is_picked", "picked_strides"]

_LEAST_WIDTH = 512
_MOST_SUMS = 12
_BLOCK_BYTES = 400 << 10  # a part of the second cache
_LEAST_ROWS = 16


def is_picked(access: Access) -> bool:
    """Whether rows of the node are read as a list of indices says."""
    return bool(access.places) and isinstance(access.places[0], Dynamic)


def picked_strides(access: Access, ndim: int) -> list[Size] | None:
    """As ``strides_of``; where rows are picked, without what picks them."""
    if not is_picked(access):
        return strides_of(access, ndim)
    return strides_of(replace(access, places=(Index(), *access.places[1:])), ndim)


def _rows_per_block(rows: set[Node]) -> int:
    """How many examples a block has, in the whole function: its kernels share chunks.

    A multiple of what a vector has lanes.
    """
    row_bytes = max((at(r.shape[1], 0) * r.dtype.itemsize for r in rows), default=1)
    return max(_LEAST_ROWS, _BLOCK_BYTES // row_bytes // _LEAST_ROWS * _LEAST_ROWS)


def arrange_picked(given: Definitions) -> Definitions:
    """The same function, whose linear classifiers read their rows in place."""
    rows = _read_in_place(given)
    each = _rows_per_block(rows)
    nodes: list[Node] = []
    renamed: dict[Node, Node] = {}
    lists: dict[Access, Node] = {}
    for node in given.nodes:
        current = with_operands(node, renamed)
        if node in rows:
            pass
        elif isinstance(current, Contract) and node.operands[0].node in rows:
            picked = _picked(current.a.node, lists, nodes)
            if current.a.places[0] == Index.axis(0):
                current = replace(current, a=picked.substitute(current.a.places))
            else:
                current = _by_blocks(current, picked, each, nodes)
            nodes.append(current)
        else:
            nodes.append(current)
        renamed[node] = current
    return rebuilt(given, nodes, renamed)


def _read_in_place(given: Definitions) -> set[Node]:
    """Rows of a data set all of whose readers find them there."""
    users: dict[Node, list[Node]] = {}
    for node in given.nodes:
        for source in sources(node):
            users.setdefault(source, []).append(node)
    kept = pinned(given)
    return {
        rows
        for rows in given.nodes
        if rows not in kept
        and _are_rows(rows)
        and all(_is_weighting(n, rows) for n in users.get(rows, ()))
    }


def _are_rows(node: Node) -> bool:
    """Whether a value is long rows of an array, picked by a list."""
    if not (isinstance(node, Map) and node.is_view and len(node.shape) == 2):
        return False
    (access,) = node.accesses
    first, *rest = access.places or (Index(),)
    width = node.shape[1]
    return (
        isinstance(access.node, Leaf)
        and access.node.dtype == node.dtype
        and isinstance(first, Dynamic)
        and first.access.places == (Index.axis(0),)
        and rest == [Index.axis(1)]
        and isinstance(width, int)
        and width >= _LEAST_WIDTH
    )


def _is_weighting(node: Node, rows: Node) -> bool:
    """Whether a value is a few sums along rows, or over all of them."""
    if not isinstance(node, Contract) or len(node.shape) != 2:
        return False
    width = node.shape[1]
    return (
        node.a.node is rows
        and node.b.node is not rows
        and isinstance(width, int)
        and width <= _MOST_SUMS
        and (
            node.a.places == (Index.axis(0), Index.axis(2))
            or node.a.places == (Index.axis(2), Index.axis(0))
        )
    )


def _picked(rows: Node, lists: dict[Access, Node], nodes: list[Node]) -> Access:
    """The rows where they lie; their indices are checked first, once."""
    (access,) = rows.operands
    first, *rest = access.places
    assert isinstance(first, Dynamic)
    if first.access not in lists:
        checked = Map(
            f"{first.access.node.name}_checked", rows.shape[:1], np.dtype(np.int64),
            "place", accesses=(first.access,), setting=(first.size, True),
        )  # fmt: skip
        nodes.append(checked)
        lists[first.access] = checked
    index = Access(lists[first.access], (Index.axis(0),))
    return Access(access.node, (Dynamic(index, first.size), *rest))


def _by_blocks(node: Contract, picked: Access, each: int, nodes: list[Node]) -> Map:
    """Σ over the examples of row·gradient, as sums over blocks of them, added up.

    Vectors run along the rows: it is made the other way round, and read so.
    """
    i, j, k = (Index.axis(a) for a in range(3))
    across = Contract(
        node.name, node.shape[::-1], node.dtype,
        node.b.substitute([j, i, k]), picked.substitute([k, j]), node.depth,
    )  # fmt: skip
    total = added_by_blocks(across, each, nodes)
    total.name = f"{node.name}_across"
    nodes.append(total)
    return Map(
        node.name, node.shape, node.dtype, "expression", scalar.symbol("x0"),
        (Access(total, (j, i)),),
    )  # fmt: skip
