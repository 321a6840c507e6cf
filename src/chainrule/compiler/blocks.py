"""Gradients of small weights as sums over blocks of examples, added up.

A block then goes forward and back through a small network, down to the weights'
gradients, without leaving the caches of one processor (``schedule`` joins its kernels
to a chain). A batch of few examples is better cut along the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compiler.ir import (
    Access,
    Blocks,
    Contract,
    Definitions,
    Extent,
    Index,
    Node,
    Place,
    Reduce,
    Size,
    block_of,
    product,
)
from chainrule.compiler.simplify import rebuilt, with_operands

__all__ = ["added_by_blocks", "arrange_blocks", "is_by_blocks", "is_small_weight"]

# A gradient for each block of examples is written and read again, which a small one is
# quickly; and the batch has to have some blocks.
_SMALL_BYTES = 128 << 10
_BLOCK = 32
_MOST_WHOLE = 64
_LEAST_INPUTS = 512


def is_by_blocks(given: Definitions, batch: int | None) -> bool:
    """Whether ``arrange_blocks`` changes a function, for a batch of this size."""
    return (
        batch is not None
        and batch > _MOST_WHOLE
        and any(_is_small_sum(n) and n.shape[0] >= _LEAST_INPUTS for n in given.nodes)  # type: ignore[operator]
    )


def arrange_blocks(given: Definitions) -> Definitions:
    """Gradients of small weights as sums over blocks of examples, added up.

    A block then goes forward and back through a small network, down to the weights'
    gradients, without leaving the caches of one processor.
    """
    nodes: list[Node] = []
    renamed: dict[Node, Node] = {}
    each = max((block_of(n.shape) for n in given.nodes), default=0) or _BLOCK
    for node in given.nodes:
        current = with_operands(node, renamed)
        if isinstance(current, Contract) and _is_small_sum(current):
            current = added_by_blocks(current, each, nodes)
        nodes.append(current)
        renamed[node] = current
    return rebuilt(given, nodes, renamed)


def added_by_blocks(node: Contract, each: int, nodes: list[Node]) -> Reduce:
    """A sum over the examples as sums over blocks of so many, which join the nodes."""
    blocks: Size = Blocks(each)
    if isinstance(node.depth, int):
        blocks = -(-node.depth // each)
    example = Index(((0, each), (3, 1)))
    places: list[Place] = [Index.axis(1), Index.axis(2), example]
    sums = Contract(
        f"{node.name}_blocks", (blocks, *node.shape), node.dtype,
        node.a.substitute(places), node.b.substitute(places), each, node.depth,
    )  # fmt: skip
    nodes.append(sums)
    one = Access(sums, (Index.axis(2), Index.axis(0), Index.axis(1)))
    return Reduce(
        node.name, node.shape, node.dtype, kind="add", extents=(blocks,), access=one
    )


def is_small_weight(sizes: Sequence[Size], itemsize: int) -> bool:
    """Whether a gradient for each block of examples is not much to write and read."""
    size = product(sizes)
    return isinstance(size, int) and size * itemsize <= _SMALL_BYTES


def _is_small_sum(node: Node) -> bool:
    """Whether a value is the gradient of a small weight: xᵀ·dy over all examples."""
    return (
        isinstance(node, Contract)
        and len(node.shape) == 2
        and node.depth == Extent(1, 0)
        and is_small_weight(node.shape, node.dtype.itemsize)
        and node.a.places == (Index.axis(2), Index.axis(0))
        and node.b.places == (Index.axis(2), Index.axis(1))
    )
