"""In which order kernels run, and which of them run image by image.

A *phase* is a set of kernels that do not need one another: their chunks are one job for
the threads. A *chain* is a row of kernels of one phase of which each reads, of what the
others make, only the images that it works on itself. It is cut into chunks by images: a
thread takes some images through the whole chain while they are in its caches, where
phases would send every value of the batch through memory.

Rows of examples form such chains as well: what a small network makes of some rows, and
the sums over them that ``picked`` makes, while the rows are in the caches.

Another chain has two products: the one that sends a gradient back through a large
weight, and the one that makes the weight's own gradient and with it overwrites the
weight. It is cut into chunks by the weight's rows, which so come from memory once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from chainrule.compiler.fusion import Fused, Kernel
from chainrule.compiler.ir import (
    Access,
    Alias,
    Contract,
    Convolution,
    Dynamic,
    Extent,
    Index,
    Leaf,
    Node,
    at,
    block_of,
    product,
)
from chainrule.compiler.products import is_dot, is_outer

__all__ = [
    "Chain",
    "estimated_ns",
    "images_each",
    "kernels_of",
    "phases_of",
    "weight_rows",
]

Chain = tuple[Kernel, ...]
"""Kernels of one phase that share chunks; mostly a single one."""

_CHUNK_NS = 30_000
_LEAST_IMAGES = 8
"""In a batch of fewer images, threads have to share an image."""

_LARGE_WEIGHT_BYTES = 6 << 20  # beyond the caches
_WEIGHT_CHUNK_BYTES = 256 << 10  # a part of the second cache
_FEW_EXAMPLES = 64
_WEIGHT_ROWS = 16  # or a multiple: as many as any vector has lanes

_BY_IMAGE = ("convolution", "spread", "columns", "map", "rows")
_BATCH = Extent(1, 0)
_MOST_ROUNDS = 8
_EXAMPLES = 32
"""Rows of a chunk, unless sums over blocks of them say how many."""
_SMALL_WEIGHT_BYTES = 256 << 10

_WINOGRAD_TILES = 32
_WINOGRAD_CHUNKS = 16


def phases_of(fused: Fused, batch: int | None) -> list[list[Chain]]:
    """Kernels by how long a chain of others they have to wait for.

    Args:
        batch: a usual batch size, if there is one.
    """
    makers = {root: k for k in fused.kernels for root in k.roots}
    joins = {k: _joins(k, fused, makers, batch) for k in fused.kernels}
    level = _levels(fused, joins, {})
    floors: dict[Kernel, int] = {}
    for _ in range(_MOST_ROUNDS):
        # What some examples go through is not cut where it waits for something small:
        # it begins when that is there.
        late = {
            other: level[kernel]
            for kernel, others in joins.items()
            for other in others
            if _is_by_example(kernel) and level[other] < level[kernel]
        }
        if not late:
            break
        floors |= late
        level = _levels(fused, joins, floors)
    else:
        level = _levels(fused, joins, {})
    links = {k: [o for o in joins[k] if level[o] == level[k]] for k in fused.kernels}
    return _grouped(fused.kernels, level, links)


def _levels(
    fused: Fused, joins: dict[Kernel, list[Kernel]], floors: dict[Kernel, int]
) -> dict[Kernel, int]:
    """The number of each kernel's phase: after those of all that it does not join."""
    level: dict[Kernel, int] = {}
    for kernel in fused.kernels:
        mine = joins[kernel]
        waits = [level[o] + (o not in mine) for o in fused.needs[kernel]]
        level[kernel] = max([floors.get(kernel, 0), *waits])
    return level


def _joins(
    kernel: Kernel, fused: Fused, makers: dict[Node, Kernel], batch: int | None
) -> list[Kernel]:
    """The kernels that one can follow part by part, in the same phase."""
    if not batch:
        return []
    needs = fused.needs[kernel]
    by_weight = [o for o in needs if weight_rows((o, kernel), fused.in_place, batch)]
    found = by_weight if len(by_weight) == 1 else []
    for is_fit in (_is_by_image, _is_by_example):
        if batch >= _LEAST_IMAGES and is_fit(kernel):
            reads = _reads(kernel, fused.stored)
            found += [
                o for o in needs
                if is_fit(o) and _is_aligned(kernel, o, reads, makers)
            ]  # fmt: skip
    return found


def _is_by_image(kernel: Kernel) -> bool:
    """Whether a kernel can be cut into images: it goes over a batch of them."""
    first, *rest = (*kernel.shape, *kernel.inner) or (0,)
    return (
        kernel.kind in _BY_IMAGE
        and bool(kernel.shape)
        and first == _BATCH
        and len(rest) >= 2
        and all(isinstance(s, int) for s in rest)
    )


def _is_by_example(kernel: Kernel) -> bool:
    """Whether a kernel goes over rows, one for each example, or over blocks of them."""
    if kernel.kind == "product":
        (core,) = kernel.cores
        assert isinstance(core, Contract)
        if block_of(kernel.shape):
            return True
        depth, width = core.depth, core.shape[-1]
        if not (isinstance(depth, int) and isinstance(width, int)):
            return False
        is_small = depth * width * core.dtype.itemsize <= _SMALL_WEIGHT_BYTES
        return is_small and len(core.shape) == 2 and core.shape[0] == _BATCH
    return (
        kernel.kind in ("map", "rows")
        and kernel.shape[:1] == (_BATCH,)
        and len(kernel.shape) + len(kernel.inner) <= 2
        and all(isinstance(s, int) for s in (*kernel.shape[1:], *kernel.inner))
    )


def _reads(kernel: Kernel, stored: set[Node]) -> list[Access]:
    """Everything that a kernel reads from memory, by its own positions."""
    own = {*kernel.cores, *kernel.roots}
    found: list[Access] = []
    seen: set[Access] = set()
    stack = [a for node in own for a in node.operands]
    while stack:
        access = stack.pop()
        if access in seen:
            continue
        seen.add(access)
        stack += [p.access for p in access.places if isinstance(p, Dynamic)]
        if access.node in stored and access.node not in own:
            found.append(access)
        elif access.node not in kernel.cores:
            stack += [o.substitute(access.places) for o in access.node.operands]
    return found


def _is_aligned(
    kernel: Kernel, other: Kernel, reads: Sequence[Access], makers: dict[Node, Kernel]
) -> bool:
    """Whether all that a kernel takes from another are the images it stands at."""
    mine = []
    for access in reads:
        node = access.node
        if isinstance(node, Alias) and makers.get(node.access.node) is other:
            return False  # its first axis may be another
        if makers.get(node) is other:
            mine.append(access)
    own = Index.axis(0)
    if each := block_of(kernel.shape):
        own = Index(((0, each), (len(kernel.shape), 1)))
    return bool(mine) and all(
        a.places and a.places[0] == own and a.node.shape[0] == _BATCH for a in mine
    )


def _grouped(
    kernels: Sequence[Kernel],
    level: dict[Kernel, int],
    links: dict[Kernel, list[Kernel]],
) -> list[list[Chain]]:
    """The phases, with what is linked joined into chains."""
    chain_of: dict[Kernel, list[Kernel]] = {}
    for kernel in kernels:
        chain_of[kernel] = [kernel]
        for other in links[kernel]:
            if chain_of[other] is not chain_of[kernel]:
                joined = chain_of[other] + chain_of[kernel]
                chain_of.update(dict.fromkeys(joined, joined))
    order = {k: i for i, k in enumerate(kernels)}
    phases: list[list[Chain]] = []
    for number in range(max(level.values(), default=-1) + 1):
        members = [k for k in kernels if level[k] == number]
        chains: dict[Chain, None] = {}
        for k in members:
            chains[tuple(sorted(chain_of[k], key=order.__getitem__))] = None
        native = [c for c in chains if c[0].kind != "numpy"]
        phases += [[c] for c in chains if c[0].kind == "numpy"]
        phases += [native] if native else []
    return phases


def weight_rows(chain: Chain, in_place: dict[Node, Leaf], batch: int) -> int:
    """How many rows of a weight a chunk of a chain has; 0 for another chain.

    The first kernel is dy·Wᵀ, where vectors run along W's rows; the second makes xᵀ·dy,
    and of it what W becomes.
    """
    if len(chain) != 2 or any(k.kind != "product" for k in chain):
        return 0
    (back,), (own,) = (k.cores for k in chain)
    assert isinstance(back, Contract)
    assert isinstance(own, Contract)
    weight = back.b.node
    shape = own.shape
    if (
        weight not in [in_place.get(root) for root in chain[1].roots]
        or weight.shape != shape
        or back.b.places != (Index.axis(1), Index.axis(2))
        or back.shape[1:] != shape[:1]
        or back.total
        or own.total
        or not (is_dot(back) and is_outer(own))
        or any(
            operand.node in k.roots for k in chain for operand in k.cores[0].operands
        )
    ):
        return 0
    rows, columns = shape
    if not (isinstance(rows, int) and isinstance(columns, int)):
        return 0
    row_bytes = columns * weight.dtype.itemsize
    few = max(at(back.shape[0], batch), at(own.depth, batch)) <= _FEW_EXAMPLES
    if not few or rows * row_bytes < _LARGE_WEIGHT_BYTES:
        return 0
    return max(1, _WEIGHT_CHUNK_BYTES // (row_bytes * _WEIGHT_ROWS)) * _WEIGHT_ROWS


def images_each(chain: Chain, batch: int) -> int:
    """How many images, or examples, a chunk of a chain has; 0 for single kernels."""
    if len(chain) == 1:
        return 0
    blocks = max(block_of(k.shape) for k in chain)
    if blocks or any(k.kind == "product" for k in chain):
        return blocks or _EXAMPLES
    per_image = sum(estimated_ns(k, 17) - estimated_ns(k, 1) for k in chain) / 16
    wanted = math.ceil(_CHUNK_NS / max(per_image, 1.0))
    for core in (core for k in chain for core in k.cores):
        if isinstance(core, Convolution) and core.tile:
            # Filters at all points are large: so many tiles share one stream of them.
            tiles = math.prod(-(-s // core.tile) for s in core.geometry.places)
            wanted = max(
                wanted, min(_WINOGRAD_TILES // tiles, batch // _WINOGRAD_CHUNKS)
            )
    return max(1, min(16, wanted))


def estimated_ns(kernel: Kernel, n: int) -> float:
    """About how long one thread works on a kernel: enough to tell 1 µs from 10."""
    positions = at(product(kernel.shape), n)
    inner = at(product(kernel.inner), n)
    results = max(len(kernel.roots), 1)
    if kernel.kind == "product":
        return float(positions * (inner / 60 + 0.12 * results))
    for core in kernel.cores:
        if isinstance(core, Convolution):
            g = core.geometry
            speed = 80 if g.channels // g.groups >= 4 else 36
            return float(at(product(g.outputs), n) * math.prod(g.kernel[:3]) / speed)
    if kernel.kind == "rows":
        cores = max(len(kernel.cores), 1)
        return float(positions * (20 + 0.3 * inner) * cores**0.5)
    if kernel.kind == "columns":
        return float(0.1 * positions * (inner + results))
    return float(0.2 * positions * results)


def kernels_of(phase: Sequence[Chain]) -> Iterator[Kernel]:
    """All kernels of a phase."""
    for chain in phase:
        yield from chain
