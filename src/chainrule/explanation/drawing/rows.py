"""Equal modules in a row, drawn as one with how many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from chainrule.explanation.drawing.pieces import Piece, Scheme, Wire, lines_of

__all__ = ["merged"]


def merged(found: Scheme) -> Scheme:
    """Equal modules in a row, each read by the next alone, as one."""
    before, after = defaultdict(list), defaultdict(list)
    for wire in found.wires:
        before[wire.end].append(wire.start)
        after[wire.start].append(wire.end)
    heads = list(range(len(found.pieces)))
    merged: dict[int, list[int]] = {}
    for i, piece in enumerate(found.pieces):
        sources = sorted(set(before[i]))
        if piece.kind != "module" or len(sources) != 1 or sources[0] in found.outputs:
            continue
        (source,) = sources
        if after[source] == [i] and found.pieces[source].signature == piece.signature:
            heads[i] = heads[source]
            merged.setdefault(heads[i], [heads[i]]).append(i)
    if not merged:
        return found
    kept = [i for i in range(len(found.pieces)) if heads[i] == i]
    place = {i: k for k, i in enumerate(kept)}
    pieces = [
        _row([found.pieces[j] for j in merged[i]]) if i in merged else found.pieces[i]
        for i in kept
    ]
    wires = [
        Wire(place[heads[w.start]], place[heads[w.end]], w.node)
        for w in found.wires
        if heads[w.start] != heads[w.end]
    ]
    # A row is made when its last module is: it may now stand before what it reads.
    outputs = tuple(place[heads[i]] for i in found.outputs)
    return _sorted(Scheme(tuple(pieces), tuple(wires), outputs))


def _row(row: Sequence[Piece]) -> Piece:
    first, last = row[0], row[-1]
    nodes = [n for piece in row for n in piece.nodes]
    label = f"{first.label} … {last.label.rpartition('.')[2]}"
    calls = tuple(call for piece in row for call in piece.calls)
    joined = Piece("module", label, nodes, calls=calls)
    joined.lines = lines_of(f"{first.lines[0]} each", joined)
    return joined


def _sorted(found: Scheme) -> Scheme:
    """The same with every piece before its users, otherwise in the order it had."""
    before: dict[int, set[int]] = defaultdict(set)
    for wire in found.wires:
        before[wire.end].add(wire.start)
    order: list[int] = []
    done: set[int] = set()
    for start in range(len(found.pieces)):
        stack = [start]
        while stack:
            i = stack[-1]
            waiting = sorted(before[i] - done, reverse=True)
            if waiting and i not in done:
                stack += waiting
                continue
            stack.pop()
            if i not in done:
                done.add(i)
                order.append(i)
    place = {i: k for k, i in enumerate(order)}
    wires = tuple(Wire(place[w.start], place[w.end], w.node) for w in found.wires)
    outputs = tuple(sorted(place[i] for i in found.outputs))
    return Scheme(tuple(found.pieces[i] for i in order), wires, outputs)
