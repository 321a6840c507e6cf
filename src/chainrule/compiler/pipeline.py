"""The passes in their order: from a captured graph to a program that runs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import chainrule.compiler.spatial  # noqa: F401  its rules join those of lowering
from chainrule.compiler import cache, native
from chainrule.compiler.blocks import arrange_blocks, is_by_blocks
from chainrule.compiler.fusion import Fused, copy_outputs, fuse
from chainrule.compiler.host import Target, host_target
from chainrule.compiler.ir import Definitions, SquaredBatch
from chainrule.compiler.kept import facts_of, restored, signature
from chainrule.compiler.lowering import lower
from chainrule.compiler.picked import arrange_picked
from chainrule.compiler.polyphase import arrange_windows
from chainrule.compiler.products import arrange
from chainrule.compiler.program import Machine, assemble
from chainrule.compiler.simplify import simplify
from chainrule.compiler.sums import arrange_sums
from chainrule.core.capture import CapturedGraph
from chainrule.core.size import at

__all__ = ["PASSES", "Build", "build"]

PASSES = (
    "capture",
    "lower",
    "simplify",
    "arrange",
    "fuse",
    "memory",
    "llvm",
    "assembly",
)
"""What ``text`` can show, in the order in which it is made."""


@dataclass
class Build:
    """A captured graph made into a program, and how that went."""

    graph: CapturedGraph
    target: Target
    machine: Machine
    fused: Fused
    times_s: dict[str, float]
    is_cached: bool
    batch: int | None
    """The batch size that it was made for."""
    is_general: bool = True
    """Whether it serves other batch sizes than the captured one."""
    by_blocks: Callable[[int | None], bool] = lambda n: False
    """Whether sums over the examples are made block by block, for a batch size."""
    texts: dict[str, Callable[[], str]] = field(default_factory=dict)
    _admitted: dict[int | None, bool] = field(default_factory=dict)
    _shapes: dict[int | None, list[tuple[int, ...]]] = field(default_factory=dict)

    def admits(self, n: int | None) -> bool:
        """Whether the code is right for a batch size. Nothing is a case of its own."""
        known = self._admitted.get(n)
        if known is None:
            # The same examples give the same bits, whatever was captured first.
            is_alike = self.by_blocks(n) == self.by_blocks(self.batch)
            known = n == self.batch or (is_alike and self._is_meant_for(n))
            self._admitted[n] = known
        return known

    def for_batch(self, n: int | None) -> Build | None:
        """Code of the same graph for another batch size, if the graph serves it."""
        if not self._is_meant_for(n):
            return None
        return _build(self.graph, self.target, None, n)

    def _is_meant_for(self, n: int | None) -> bool:
        """Whether the captured function does for a batch size what it did."""
        return self.is_general and bool(n) and self.graph.admits(n)

    def output_shapes(self, n: int | None) -> list[tuple[int, ...]]:
        """The shapes of what is returned, then of the gradients that are left."""
        if n not in self._shapes:
            graph = self.graph
            nodes = [*graph.outputs, *(node for _, node in graph.gradients)]
            self._shapes[n] = [at(tuple(node.shape), n or 0) for node in nodes]
        return self._shapes[n]

    def text(self, name: str) -> str:
        """What a pass made, to read."""
        return self.texts[name]()

    def report(self) -> Report:
        """What was made of the graph."""
        kernels = self.fused.kernels
        return Report(
            target=self.target.name,
            num_ops=sum(node.op is not None for node in self.graph.nodes),
            kernels=[k.text() for k in kernels],
            through_compute=[
                k.cores[0].op.name  # type: ignore[attr-defined]
                for k in kernels
                if k.kind == "numpy"
            ],
            num_phases=len(self.machine.layout.phases),
            arena_bytes=self.machine.memory(self.batch or 0).size_bytes,
            times_s=dict(self.times_s),
            cache=cache.status(),
            is_cached=self.is_cached,
        )


@dataclass
class Report:
    """How a function was compiled.

    Attributes:
        kernels: what each loop or product computes; one that stores several values, or
            stores what is made of a product, is a fused group.
        through_compute: ops that have no native code and run in NumPy in between.
        num_phases: sets of kernels that run side by side, one after another.
        arena_bytes: memory for values in between, at the captured batch size.
        times_s: what each pass took, "llvm" for the native code.
        is_cached: whether the native code came from the disk.
    """

    target: str
    num_ops: int
    kernels: list[str]
    through_compute: list[str]
    num_phases: int
    arena_bytes: int
    times_s: dict[str, float]
    cache: str
    is_cached: bool

    def __str__(self) -> str:
        total_s = sum(self.times_s.values())
        parts = ", ".join(f"{k} {1e3 * v:.1f}" for k, v in self.times_s.items())
        origin = "read from the cache" if self.is_cached else "compiled"
        lines = [
            f"{self.num_ops} ops in {len(self.kernels)} kernels and "
            f"{self.num_phases} phases for {self.target}, {origin}",
            f"arena: {self.arena_bytes:,} bytes",
            f"time: {1e3 * total_s:.1f} ms ({parts})",
            self.cache,
        ]
        if self.through_compute:
            lines.append(f"in NumPy: {', '.join(self.through_compute)}")
        return "\n".join([*lines, *self.kernels])


def build(graph: CapturedGraph, target: Target | None = None) -> Build:
    """All passes over a captured graph.

    The program serves all batch sizes that the graph does, if there is at least one
    example and no number of elements grows with the square of the batch size.
    """
    target = target or host_target()
    is_pinned = any(guard.comparison == "equal" for guard in graph.guards)
    with _uncollected():
        if graph.batch != 0 and not is_pinned:
            try:
                return _build(graph, target, None, graph.batch)
            except SquaredBatch:
                pass
        return _build(graph, target, graph.batch, graph.batch)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for garbage among all that the passes make, and keep."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _arranged(given: Definitions, by_blocks: bool) -> Definitions:
    """Values in the forms in which kernels make them with least effort."""
    if by_blocks:
        given = arrange_blocks(given)
    return copy_outputs(arrange_windows(arrange(given, by_blocks)))


def _build(
    graph: CapturedGraph, target: Target, n: int | None, batch: int | None
) -> Build:
    """The program for batches of n examples, or for any; ``batch`` is a usual size."""
    times_s: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = step()
        times_s[name] = time.perf_counter() - began
        return result

    lowered = timed("lower", lambda: lower(graph, n))
    simple = timed("simplify", lambda: simplify(lowered))
    picked = timed("pick", lambda: arrange_picked(arrange_sums(simple)))

    def by_blocks(size: int | None) -> bool:
        return n is None and is_by_blocks(picked, size)

    arranged = timed("arrange", lambda: _arranged(picked, by_blocks(batch)))
    key = timed("sign", lambda: _key(arranged, target, batch))
    found = cache.load(key) if key else None
    if found:
        code, facts = found
        fused, layout = timed("restore", lambda: restored(arranged, facts))
    else:
        fused = timed("fuse", lambda: fuse(arranged))
        module, layout = timed("kernels", lambda: assemble(fused, target, batch))
        code = timed("llvm", lambda: native.object_code(module.text(), target))
        if key:
            cache.store(key, cache.Entry(code, facts_of(fused, layout)))
    library = timed("load", lambda: native.Library(code, target))
    machine = Machine(fused, layout, library)

    def llvm() -> str:
        return assemble(fused, target, batch)[0].text()

    texts: dict[str, Callable[[], str]] = {
        "capture": lambda: str(graph),
        "lower": lowered.text,
        "simplify": simple.text,
        "arrange": arranged.text,
        "fuse": fused.text,
        "memory": lambda: machine.text(batch or 0),
        "llvm": llvm,
        "assembly": lambda: native.assembly(llvm(), target),
    }
    return Build(
        graph, target, machine, fused, times_s, bool(found), batch, n is None,
        by_blocks, texts,
    )  # fmt: skip


def _key(given: Definitions, target: Target, batch: int | None) -> str:
    """Where the disk has the program of these definitions; "" for nowhere."""
    text = signature(given) if cache.is_used() else ""
    return cache.key(target, "program", text, str(batch)) if text else ""
