"""Kernels joined into one native function, and the memory that it runs in.

The chunks of a phase (see ``schedule``) are one job for the threads. The context that
native code receives is an array of 8-byte slots:

    0  the batch size n        2  cr_parallel        4, 5  stacked values
    1  the thread pool         3  the fault flag     8 ... buffers, then counts
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.compiler.convolving import (
    emit_convolution,
    emit_filters,
    emit_pack,
)
from chainrule.compiler.emit import Function, Module, Value, i64
from chainrule.compiler.emitter import (
    FIRST_SLOT,
    SLOT_FAULT,
    SLOT_SCRATCH,
    SLOT_SCRATCH_BYTES,
    Chunks,
    Slots,
)
from chainrule.compiler.fusion import Fused, Kernel
from chainrule.compiler.host import Target
from chainrule.compiler.ir import (
    Alias,
    Leaf,
    Node,
    Opaque,
    at,
    product,
    sources,
)
from chainrule.compiler.loops import emit_loops
from chainrule.compiler.native import Library, attributes
from chainrule.compiler.pooling import emit_spread
from chainrule.compiler.products import emit_product
from chainrule.compiler.schedule import (
    Chain,
    estimated_ns,
    images_each,
    kernels_of,
    phases_of,
    weight_rows,
)
from chainrule.compiler.threads import emit_flush_denormals, emit_restore, pool

__all__ = ["Layout", "Machine", "assemble"]

EMITTERS: dict[str, Callable[..., Chunks]] = {
    "product": emit_product,
    "convolution": emit_convolution,
    "filters": emit_filters,
    "pack": emit_pack,
    "spread": emit_spread,
}
"""What writes a kernel of each kind; loops are the rest."""

SLOT_POOL, SLOT_PARALLEL, SLOT_STACKED, SLOT_NUM_STACKED = 1, 2, 4, 5

_SERIAL_NS = 12000
"""A phase that takes less on one thread is not worth handing out."""


@dataclass
class Layout:
    """What must be known, beside the code, to run it."""

    buffers: dict[Node, int]
    """The slot of each value that has memory."""
    phases: list[list[Chain]]
    chunks: dict[Kernel, Chunks]
    first_count: int
    """The slot of the first phase's number of chunks; see ``_emit_phase``."""
    segments: list[tuple[str, Any]]
    """Native functions by name, and kernels that run in NumPy."""

    def scratch_bytes(self, kernel: Kernel) -> int:
        """What a chunk of a kernel takes of the machine's scratch."""
        return self.chunks[kernel].scratch_bytes if kernel in self.chunks else 0


def storage_of(fused: Fused) -> Any:
    """What holds a value: itself, what it is another shape of, or its variable."""

    def storage(node: Node) -> Node:
        while True:
            if isinstance(node, Alias):
                node = node.access.node
            elif node in fused.in_place:
                return fused.in_place[node]
            else:
                return node

    return storage


def assemble(
    fused: Fused, target: Target, batch: int | None = None
) -> tuple[Module, Layout]:
    """The LLVM module of a fused program, and its layout, for a usual batch size."""
    module = Module(attributes=attributes(target))
    slots = Slots(storage_of(fused))
    phases = phases_of(fused, batch)
    chain_of = {k: c for phase in phases for c in phase for k in c}
    chunks: dict[Kernel, Chunks] = {}
    for kernel in fused.kernels:
        if kernel.kind != "numpy":
            emit = EMITTERS.get(kernel.kind, emit_loops)
            given: dict[str, Any] = {}
            chain = chain_of[kernel]
            by_weight = weight_rows(chain, fused.in_place, batch or 1)
            each = 0 if by_weight else images_each(chain, batch or 1)
            if kernel.kind == "product":
                given |= {
                    "batch": batch or 1,
                    "weight_rows": by_weight,
                    "examples": each,
                }
            elif each:
                given["images"] = each
            if kernel.kind == "convolution":
                given["batch"] = batch or 1
            chunks[kernel] = emit(module, kernel, target, slots, fused.stored, **given)
    for node in fused.stored:
        if not isinstance(node, Alias):
            slots.of(node)
    first_count = FIRST_SLOT + len(slots.buffers)
    segments: list[tuple[str, Any]] = []
    slot = first_count
    waiting: list[tuple[list[Chain], int]] = []
    for phase in phases:
        if phase[0][0].kind == "numpy":
            if waiting:
                segments.append(_emit_segment(module, len(segments), waiting))
                waiting = []
            segments.append(("", phase[0][0]))
            continue
        waiting.append((phase, slot))
        slot += 1 + len(phase)
    if waiting or not segments:
        segments.append(_emit_segment(module, len(segments), waiting))
    layout = Layout(dict(slots.buffers), phases, chunks, first_count, segments)
    return module, layout


def _slot(f: Function, slot: int, type: str = "i64") -> Value:
    return f.load(f.at(Value("ptr", "%ctx"), slot, "i64"), type)


def _emit_segment(
    module: Module, number: int, phases: Sequence[tuple[list[Chain], int]]
) -> tuple[str, Any]:
    """``void cr_segment(ctx, steps)``: phases in order, as often as there are steps."""
    for chains, slot in phases:
        _emit_phase(module, chains, slot)
    name = f"cr_segment{number}"
    f = Function(module, name, [("ptr", "ctx"), ("i64", "steps")])
    saved = emit_flush_denormals(f)
    ctx = Value("ptr", "%ctx")
    function = "void (ptr, ptr, ptr, i64)"
    thread_pool, parallel = _slot(f, SLOT_POOL, "ptr"), _slot(f, SLOT_PARALLEL, "ptr")
    stacked, num_stacked = _slot(f, SLOT_STACKED, "ptr"), _slot(f, SLOT_NUM_STACKED)
    with f.loop(0, f.parameters[1]) as _:
        for _chains, slot in phases:
            total = _slot(f, slot)
            phase = Value("ptr", f"@cr_phase{slot}")
            # A negative count says: not worth handing out.
            is_small = f.compare("icmp slt", total, Value("i64", "0"))
            count = f.call("llvm.abs.i64", "i64", total, Value("i1", "false"))
            nobody = Value("ptr", "null")
            helpers = f.select(is_small, nobody, thread_pool)
            f.line(
                f"call {function} {parallel.name}({helpers}, {phase}, {ctx}, {count})"
            )
        # Each stacked value moves on: (slot, bytes) pairs.
        with f.loop(0, num_stacked) as each:
            pair = f.at(stacked, f.binary("mul", each.index, Value("i64", "2")), "i64")
            target = f.at(ctx, f.load(pair, "i64"), "i64")
            far = f.load(f.at(pair, 1, "i64"), "i64")
            f.store(f.binary("add", f.load(target, "i64"), far), target)
    emit_restore(f, saved)
    f.ret()
    module.add(f)
    return name, None


def _emit_phase(module: Module, chains: Sequence[Chain], slot: int) -> None:
    """``void cr_phase(ctx, chunk)``: find the chain that a chunk belongs to.

    The slots from ``slot`` + 1 on hold the number of chunks of each chain. Of every
    chain the first half comes first, then the second halves: threads begin with equal
    ranges of chunks, and so each with the same part of every value, phase after phase.
    """
    f = Function(module, f"cr_phase{slot}", [("ptr", "ctx"), ("i64", "chunk")],
                 linkage="internal")  # fmt: skip
    ctx, chunk = f.parameters

    def run(chain: Chain, chunk: Value) -> None:
        for kernel in chain:
            f.call(f"cr_{kernel.name}", "void", ctx, chunk)
        f.ret()

    if len(chains) == 1:
        run(chains[0], chunk)
        module.add(f)
        return
    counts = [_slot(f, slot + 1 + i) for i in range(len(chains))]
    halves = []
    total = i64(0)
    for count in counts:
        # Of odd counts, the larger half comes first and second by turns: all first
        # halves are then the first thread's range.
        turn = f.binary("and", f.binary("xor", total, i64(1)), i64(1))
        halves.append(f.binary("lshr", f.binary("add", count, turn), i64(1)))
        total = f.binary("add", total, count)
    before = halves[0]
    for half in halves[1:]:
        before = f.binary("add", before, half)
    is_second = f.compare("icmp sge", chunk, before)
    chunk = f.select(is_second, f.binary("sub", chunk, before), chunk)
    for i, (chain, count, half) in enumerate(zip(chains, counts, halves, strict=True)):
        mine = f.select(is_second, f.binary("sub", count, half), half)
        first = f.select(is_second, half, i64(0))
        name = f.fresh("chain")
        if i + 1 < len(chains):
            here = f.compare("icmp slt", chunk, mine)
            f.branch(here, name, f"{name}.else")
            f.label(name)
        run(chain, f.binary("add", first, chunk))
        if i + 1 < len(chains):
            f.label(f"{name}.else")
            chunk = f.binary("sub", chunk, mine)
    module.add(f)


# --------------------------------------------------------------------------- running


@dataclass
class Memory:
    """Buffers for one batch size: where each lies in the arena."""

    n: int
    size_bytes: int
    offsets: dict[int, int]
    counts: list[int]
    pairs: list[int] = field(default_factory=list)


class Machine:
    """A program ready to run: its code, its context and its arena.

    One call runs at a time; others wait.
    """

    def __init__(self, fused: Fused, layout: Layout, library: Library) -> None:
        self.fused = fused
        self.layout = layout
        self.library = library
        self.lock = threading.Lock()
        self._memories: dict[int, Memory] = {}
        self._arena = np.empty(0, np.uint8)
        self._scratch = np.empty(0, np.uint8)
        storage = storage_of(fused)
        num_counts = sum(1 + len(p) for p in layout.phases if p[0][0].kind != "numpy")
        self._context = np.zeros(layout.first_count + num_counts, np.int64)
        self._address = self._context.ctypes.data
        self._variables: dict[int, np.ndarray[Any, Any] | None] = {}
        """The arrays of variables whose addresses stand in the context, by slot."""
        types = (ctypes.c_void_p, ctypes.c_int64)
        self._segments = [
            (library.function(name, *types) if name else None, kernel)
            for name, kernel in layout.segments
        ]
        outputs = fused.definitions.outputs
        self._outputs = [(node, layout.buffers[storage(node)]) for node in outputs]
        self._leaves = [
            (node, slot) for node, slot in layout.buffers.items()
            if isinstance(node, Leaf)
        ]  # fmt: skip
        taken = {node for node, _ in self._outputs}
        self._arena_nodes = [
            node for node in layout.buffers
            if not isinstance(node, Leaf) and node not in taken
        ]  # fmt: skip
        self._numbers = {
            node: np.zeros(1, node.dtype) for node, _ in self._leaves
            if node.kind == "number"
        }  # fmt: skip
        self._storage = storage
        self._lives = self._live_ranges()
        self._prepared: Any = None

    def _live_ranges(self) -> dict[Node, tuple[int, int]]:
        """The first and the last phase at which a value must be in memory."""
        ranges: dict[Node, tuple[int, int]] = {}

        def touch(node: Node, phase: int) -> None:
            node = self._storage(node)
            first, last = ranges.get(node, (phase, phase))
            ranges[node] = (min(first, phase), max(last, phase))

        last = len(self.layout.phases)
        for i, phase in enumerate(self.layout.phases):
            for kernel in kernels_of(phase):
                seen: set[Node] = set()
                stack: list[Node] = [*kernel.cores, *kernel.roots]
                while stack:
                    node = stack.pop()
                    if node in seen:
                        continue
                    seen.add(node)
                    mine = node in kernel.cores or node in kernel.roots
                    if node in self.fused.stored:
                        touch(node, i)
                    if mine or node not in self.fused.stored:
                        stack += sources(node)
        for _, node in self.fused.copies:
            touch(node, last)
        return ranges

    def text(self, n: int) -> str:
        """Phases, and where values lie in the arena for a batch size."""
        memory = self.memory(n)
        lines = [
            f"phase {i}: "
            + ", ".join(" → ".join(f"{k.name} ({k.kind})" for k in c) for c in phase)
            for i, phase in enumerate(self.layout.phases)
        ]
        lines.append(f"arena: {memory.size_bytes} bytes for n = {n}")
        for node in self._arena_nodes:
            offset = memory.offsets[self.layout.buffers[node]]
            first, last = self._lives[node]
            lines.append(f"  {offset}: {node.name}, {node.spec}, phases {first}-{last}")
        return "\n".join(lines)

    def memory(self, n: int) -> Memory:
        """Where everything lies for a batch size."""
        found = self._memories.get(n)
        if found is None:
            if len(self._memories) > 64:
                self._memories.clear()
            found = self._memories[n] = self._plan(n)
        return found

    def _plan(self, n: int) -> Memory:
        """Values share memory if none is needed as long as the other is.

        The largest are placed first, each at the lowest place that is free for it.
        What has margins shares only with what has the same: they are written once.
        """
        sizes = {
            node: -(-max(at(product(node.held), n) * node.dtype.itemsize, 1) // 128)
            * 128
            for node in self._arena_nodes
        }
        placed: list[tuple[int, int, int, int]] = []
        offsets: dict[int, int] = {}
        total = 0
        always = 0, len(self.layout.phases)
        sharing = self._sharing()
        for node in sorted(sizes, key=lambda k: -sizes[k]):
            slot = self.layout.buffers[node]
            if sharing.get(node, node) is not node:
                continue
            first, last = self._lives.get(node, always)
            if node in sharing:
                first, last = always
            size = sizes[node]
            offset = 0
            others = sorted(p for p in placed if p[2] <= last and first <= p[3])
            for begin, end, _, _ in others:
                if offset + size <= begin:
                    break
                offset = max(offset, end)
            placed.append((offset, offset + size, first, last))
            offsets[slot] = offset
            total = max(total, offset + size)
        for node, holder in sharing.items():
            offsets[self.layout.buffers[node]] = offsets[self.layout.buffers[holder]]
        counts: list[int] = []
        for phase in self.layout.phases:
            if phase[0][0].kind == "numpy":
                continue
            each = [self.layout.chunks[chain[0]].count(n) for chain in phase]
            is_small = sum(estimated_ns(k, n) for k in kernels_of(phase)) < _SERIAL_NS
            counts += [-sum(each) if is_small else sum(each), *each]
        return Memory(n, total, offsets, counts)

    def _sharing(self) -> dict[Node, Node]:
        """For each value with margins, the one in whose memory it lies."""
        found: dict[Node, Node] = {}
        free_from: dict[Node, int] = {}
        with_margins = [n for n in self._arena_nodes if any(map(any, n.margins))]
        always = 0, len(self.layout.phases)
        for node in sorted(with_margins, key=lambda k: self._lives.get(k, always)[0]):
            first, last = self._lives.get(node, always)
            like = (node.held, node.margins, node.fill, node.dtype)
            found[node] = next(
                (
                    h
                    for h, end in free_from.items()
                    if end < first and (h.held, h.margins, h.fill, h.dtype) == like
                ),
                node,
            )
            free_from[found[node]] = last
        return found

    def run(
        self,
        arrays: Sequence[np.ndarray[Any, Any]],
        n: int,
        steps: int | None = None,
        stacked: Sequence[int] = (),
    ) -> list[np.ndarray[Any, Any]]:
        """Run once on input arrays, or as often as ``steps`` says.

        Inputs whose numbers are in ``stacked`` have a leading axis of steps; so have
        all outputs, if steps are given.
        """
        with self.lock:
            return self._run(arrays, n, steps, stacked)

    def _run(
        self,
        arrays: Sequence[np.ndarray[Any, Any]],
        n: int,
        steps: int | None,
        stacked: Sequence[int],
    ) -> list[np.ndarray[Any, Any]]:
        context = self._context
        memory = self.memory(n)
        kept: list[Any] = []
        if self._prepared != n:
            if len(self._arena) < memory.size_bytes + 128:
                self._arena = np.empty(memory.size_bytes + 128, np.uint8)
            start = -(-self._arena.ctypes.data // 128) * 128
            for slot, offset in memory.offsets.items():
                context[slot] = start + offset
            for node in self._arena_nodes:
                if any(map(any, node.margins)):
                    self._raw(node, n).view(node.dtype)[:] = node.fill
            first = self.layout.first_count
            context[first : first + len(memory.counts)] = memory.counts
            context[0] = n
            for node, value in self._numbers.items():
                value[0] = _number_at(node.source, n)
                context[self.layout.buffers[node]] = value.ctypes.data
            threads = pool()
            context[SLOT_POOL] = threads.pointer
            context[SLOT_PARALLEL] = threads.parallel_address
            self._prepare_scratch(threads.num_threads)
            self._prepared = n
        else:
            pool()  # in the child of a fork this starts its workers
        context[SLOT_FAULT] = 0
        pairs: list[int] = []
        for node, slot in self._leaves:
            if node.kind == "number":
                continue
            if node.kind == "input":
                array = arrays[node.source]
                if node.source in stacked:
                    array = np.ascontiguousarray(array)
                    pairs += [slot, array.strides[0] if steps else 0]
            else:
                array = node.source._array
                if array is self._variables.get(slot):
                    continue  # its address stands there already
            is_plain = array.flags.c_contiguous
            if not is_plain:
                array = np.ascontiguousarray(array)
            if node.kind != "input":
                self._variables[slot] = array if is_plain else None
            kept.append(array)
            context[slot] = array.__array_interface__["data"][0]
        results = []
        lead = () if steps is None else (steps,)
        for output, slot in self._outputs:
            shape = (*lead, *(at(s, n) for s in output.shape))
            result = np.empty(shape, output.dtype)
            results.append(result)
            context[slot] = result.__array_interface__["data"][0]
            if steps is not None:
                pairs += [slot, result.strides[0] if steps else 0]
        if pairs:
            pair_array = np.array(pairs, np.int64)
            context[SLOT_STACKED] = pair_array.__array_interface__["data"][0]
        context[SLOT_NUM_STACKED] = len(pairs) // 2
        address = self._address
        if len(self._segments) == 1 and not self.fused.copies:
            function, _ = self._segments[0]
            if function is not None:
                function(address, 1 if steps is None else steps)
                return results
        context[SLOT_NUM_STACKED] = 0
        for _ in range(1 if steps is None else steps):
            for function, kernel in self._segments:
                if function is not None:
                    function(address, 1)
                else:
                    self._compute(kernel, n)
            for variable, new in self.fused.copies:
                held = variable.source._array
                np.copyto(held, self.view(new, n).reshape(held.shape))
            for slot, far in zip(pairs[::2], pairs[1::2], strict=True):
                context[slot] += far
        return results

    def _prepare_scratch(self, count: int) -> None:
        """A block of scratch for each thread: their number, marks, and the blocks."""
        most = max(map(self.layout.scratch_bytes, self.fused.kernels), default=0)
        size = 64 * (2 + count) + count * most
        if not most or len(self._scratch) >= size:
            return
        self._scratch = np.empty(size, np.uint8)
        begin = -self._scratch.ctypes.data % 64
        head = self._scratch[begin : begin + 64 * (1 + count)].view(np.int64)
        head[:] = 0
        head[0] = count
        self._context[SLOT_SCRATCH] = head.ctypes.data
        self._context[SLOT_SCRATCH_BYTES] = most

    @property
    def has_fault(self) -> bool:
        """Whether the last run met an index out of range."""
        return bool(self._context[SLOT_FAULT])

    def view(self, node: Node, n: int) -> np.ndarray[Any, Any]:
        """The memory of a value as an array, without axes of size 1."""
        shape, held = (tuple(at(s, n) for s in sizes)
                       for sizes in (node.shape, node.held))  # fmt: skip
        whole: np.ndarray[Any, Any] = np.ndarray(held, node.dtype, self._raw(node, n))
        margins = node.margins or ((0, 0),) * len(shape)
        return whole[tuple(slice(lo, lo + size) for (lo, _), size in
                           zip(margins, shape, strict=True))]  # fmt: skip

    def _raw(self, node: Node, n: int) -> np.ndarray[Any, Any]:
        """The bytes in which a value is held."""
        slot = self.layout.buffers[self._storage(node)]
        size = at(product(node.held), n) * node.dtype.itemsize
        raw = (ctypes.c_uint8 * size).from_address(int(self._context[slot]))
        return np.ndarray((size,), np.uint8, memoryview(raw))

    def _compute(self, kernel: Kernel, n: int) -> None:
        """One op that only NumPy can compute."""
        from chainrule.core.capture import op_at

        (node,) = kernel.cores
        assert isinstance(node, Opaque)
        *shapes, own = (tuple(at(s, n) for s in shape) for shape in node.shapes)
        operands = [
            self.view(a.node, n).reshape(shape)
            for a, shape in zip(node.accesses, shapes, strict=True)
        ]
        value = op_at(node.op, n).compute(*operands)
        self.view(node, n)[...] = np.asarray(value).reshape(
            tuple(s for s in own if s != 1)
        )


def _number_at(source: Any, n: int) -> Any:
    if isinstance(source, (int, float)):
        return source
    return source.at(n) if hasattr(source, "at") else at(source, n)
