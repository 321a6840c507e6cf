"""Programs on disk: what names one, and what is kept of it beside its native code.

A later process makes the definitions anew, which is quick, and finds there what took
long: kernels, phases, chunks and code. Values have no names on disk; they are numbers
in the definitions' order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np

from chainrule.compiler.emitter import Chunks
from chainrule.compiler.fusion import Fused, Kernel
from chainrule.compiler.ir import Blocks, Definitions, Extent, Node, Size
from chainrule.compiler.program import Layout
from chainrule.core.scalar import Expr, postorder

__all__ = ["facts_of", "restored", "signature"]

_UNSIGNED = ("name", "source", "op")
"""Of a value, what its code does not depend on: what it is called, and what is looked
up when it runs."""


def signature(given: Definitions) -> str:
    """All that code depends on, as text; "" where something has no text.

    Equal texts are equal programs. The same program may have two texts, and is then
    made twice.
    """
    writer = _Writer({node: i for i, node in enumerate(given.nodes)})
    try:
        lines = [writer.node(node) for node in given.nodes]
        lines.append(writer.write(given.outputs))
        lines.append(writer.write(given.assignments))
    except (TypeError, KeyError):
        return ""
    return "\n".join(lines)


class _Writer:
    """Values as text that tells apart what is different."""

    def __init__(self, numbers: dict[Node, int]) -> None:
        self.numbers = numbers
        self.known: dict[int, str] = {}

    def node(self, node: Node) -> str:
        """How a value is made."""
        kind: Any = type(node)
        parts = [
            self.write(getattr(node, name))
            for name in _names(kind)
            if name not in _UNSIGNED
        ]
        return f"{kind.__name__}({','.join(parts)})"

    def write(self, value: Any) -> str:
        """Anything that stands in a value's fields."""
        if isinstance(value, Node):
            return f"#{self.numbers[value]}"
        if value is None or isinstance(value, (bool, int, str)):
            return repr(value)
        if isinstance(value, float):
            return value.hex()
        if isinstance(value, (tuple, list)):
            return f"[{','.join(map(self.write, value))}]"
        if isinstance(value, np.dtype):
            return value.str
        # What many share is written once; nothing goes away in the meantime.
        found = self.known.get(id(value))
        if found is None:
            found = self.known[id(value)] = self._written(value)
        return found

    def _written(self, value: Any) -> str:
        if isinstance(value, Expr):
            return self._expression(value)
        name = type(value).__name__
        if not is_dataclass(value):
            raise TypeError(f"no text of a {name}")
        kind: Any = type(value)
        parts = (self.write(getattr(value, field)) for field in _names(kind))
        return f"{name}({','.join(parts)})"

    @staticmethod
    def _expression(root: Expr) -> str:
        steps: list[str] = []
        number: dict[int, int] = {}
        for e in postorder(root):
            number[id(e)] = len(steps)
            arguments = ",".join(str(number[id(a)]) for a in e.args)
            steps.append(f"{e.kind}({arguments}){e.name!r}{float(e.value).hex()}")
        return f"<{';'.join(steps)}>"


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


# -------------------------------------------------------------------------- facts


def facts_of(fused: Fused, layout: Layout) -> dict[str, Any]:
    """A program but for its code and its definitions, as JSON can hold it."""
    number = {node: i for i, node in enumerate(fused.definitions.nodes)}
    place = {kernel: i for i, kernel in enumerate(fused.kernels)}

    def pairs(items: Any) -> list[list[int]]:
        return [[number[a], number[b]] for a, b in items]

    return {
        "kernels": [
            {
                "kind": k.kind,
                "shape": _sizes(k.shape),
                "inner": _sizes(k.inner),
                "cores": [number[n] for n in k.cores],
                "roots": [number[n] for n in k.roots],
                "needs": sorted(place[n] for n in fused.needs[k]),
                "chunks": _chunks(layout.chunks.get(k)),
                "scratch_bytes": layout.scratch_bytes(k),
            }
            for k in fused.kernels
        ],
        "names": [k.name for k in fused.kernels],
        "stored": sorted(number[n] for n in fused.stored),
        "in_place": pairs(fused.in_place.items()),
        "copies": pairs(fused.copies),
        "buffers": [[number[n], slot] for n, slot in layout.buffers.items()],
        "phases": [[[place[k] for k in c] for c in p] for p in layout.phases],
        "first_count": layout.first_count,
        "segments": [
            [name, None if kernel is None else place[kernel]]
            for name, kernel in layout.segments
        ],
    }


def restored(given: Definitions, facts: dict[str, Any]) -> tuple[Fused, Layout]:
    """The program of these definitions that has these facts."""
    nodes: Any = given.nodes  # of which some are known to be leaves
    kernels, chunks, needs = [], {}, {}
    for name, k in zip(facts["names"], facts["kernels"], strict=True):
        kernel = Kernel(
            k["kind"], _read_sizes(k["shape"]), _read_sizes(k["inner"]),
            [nodes[i] for i in k["cores"]], [nodes[i] for i in k["roots"]], name,
        )  # fmt: skip
        kernels.append(kernel)
        if k["chunks"] is not None:
            terms = ((_read_size(size), each) for size, each in k["chunks"])
            chunks[kernel] = Chunks(tuple(terms), k["scratch_bytes"])
    for kernel, k in zip(kernels, facts["kernels"], strict=True):
        needs[kernel] = {kernels[i] for i in k["needs"]}
    fused = Fused(
        kernels,
        given,
        {nodes[i] for i in facts["stored"]},
        {nodes[a]: nodes[b] for a, b in facts["in_place"]},
        [(nodes[a], nodes[b]) for a, b in facts["copies"]],
        needs,
    )
    layout = Layout(
        {nodes[i]: slot for i, slot in facts["buffers"]},
        [[tuple(kernels[i] for i in c) for c in p] for p in facts["phases"]],
        chunks,
        facts["first_count"],
        [(name, None if i is None else kernels[i]) for name, i in facts["segments"]],
    )
    return fused, layout


def _chunks(chunks: Chunks | None) -> list[Any] | None:
    if chunks is None:
        return None
    return [[*_sizes([size]), each] for size, each in chunks.terms]


def _sizes(sizes: Sequence[Size]) -> list[Any]:
    found: list[Any] = []
    for size in sizes:
        if isinstance(size, Extent):
            found.append(["extent", size.per_batch, size.fixed])
        elif isinstance(size, Blocks):
            found.append(["blocks", size.each, size.times])
        else:
            found.append(size)
    return found


def _read_sizes(given: Sequence[Any]) -> tuple[Size, ...]:
    return tuple(map(_read_size, given))


def _read_size(given: Any) -> Size:
    if isinstance(given, int):
        return given
    kind, a, b = given
    return Extent(a, b) if kind == "extent" else Blocks(a, b)
