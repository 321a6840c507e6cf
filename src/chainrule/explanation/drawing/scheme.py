"""What is drawn of a graph: its gates and leaves, or whole modules, and the wires."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from chainrule.core.mode import Call
from chainrule.core.paths import matches
from chainrule.core.trace import Graph
from chainrule.errors import OptionError, counted
from chainrule.explanation.drawing.pieces import (
    AnyGraph,
    Piece,
    Scheme,
    Wire,
    lines_of,
    within,
)
from chainrule.explanation.drawing.rows import merged
from chainrule.explanation.drawing.signs import AnyNode, is_number, sign_of
from chainrule.nn.module import Module

__all__ = ["scheme"]

_READABLE = 24
"""Pieces up to which modules are opened unless the user says how far."""

_LONGEST = 52
"""Letters of a layer's settings; beyond, its name alone."""


def scheme(
    graph: AnyGraph,
    *,
    depth: int | None = None,
    collapse: str | Sequence[str] = (),
    whole_layers: bool = False,
    repeats: bool = True,
) -> Scheme:
    """Gather a graph's nodes into the pieces that are drawn.

    Args:
        graph: one that was traced or captured.
        depth: how many levels of modules are opened, 0 for none; as many as stay
            readable unless given.
        collapse: paths of modules that are kept closed, ``*`` for any text.
        whole_layers: whether modules without modules inside stay closed at any depth.
        repeats: whether equal modules in a row become one, with how many there are.

    Raises:
        OptionError: for a depth below 0, and for a pattern of no module.
    """
    if depth is not None and depth < 0:
        raise OptionError("draw: no such depth", got=depth, expected="0 or more")
    patterns = (collapse,) if isinstance(collapse, str) else tuple(collapse)
    gathering = _Gathering(graph, patterns, whole_layers)
    if depth is not None:
        return gathering.scheme(depth, repeats)
    level = gathering.levels
    found = gathering.scheme(level, repeats)
    while len(found.pieces) > _READABLE and level > 1:
        level -= 1
        found = gathering.scheme(level, repeats)
    return found


class _Gathering:
    """A graph's nodes with the calls of modules around them."""

    def __init__(
        self, graph: AnyGraph, patterns: Sequence[str], whole_layers: bool
    ) -> None:
        self.graph = graph
        self.within = {id(n): within(n) for n in graph.nodes}
        roots = {id(w[0].part): w[0].part for w in self.within.values() if w}
        self.paths: dict[int, str] = {}
        for root in roots.values():
            prefix = f"{type(root).__name__}." if len(roots) > 1 else ""
            for path, module in _modules(root):
                self.paths[id(module)] = prefix + path if path else type(root).__name__
        self.levels = max((len(w) for w in self.within.values()), default=0)
        calls = {c for w in self.within.values() for c in w}
        containers = {c for w in self.within.values() for c in w[:-1]}
        self.closed = calls - containers if whole_layers else set()
        for pattern in patterns:
            found = {c for c in calls if matches(pattern, self.path(c))}
            if not found:
                raise OptionError.unknown(
                    "module to collapse", pattern, {self.path(c) for c in calls}
                )
            self.closed |= found

    def path(self, call: Call) -> str:
        return self.paths.get(id(call.part), type(call.part).__name__)

    def scheme(self, depth: int, repeats: bool) -> Scheme:
        nodes = self.graph.nodes
        users: dict[int, list[AnyNode]] = defaultdict(list)
        for n in nodes:
            for operand in n.inputs:
                users[id(operand)].append(n)
        piece_of: dict[int, Piece] = {}
        made: dict[Call, Piece] = {}
        for n in nodes:
            if n.op is None:
                continue
            call = self._closing(n, depth)
            if call is None:
                piece_of[id(n)] = Piece("gate", sign_of(n), [n])
                continue
            if call not in made:
                made[call] = Piece("module", self.path(call), [], calls=(call,))
            made[call].nodes.append(n)
            piece_of[id(n)] = made[call]
        results = {id(n) for n in _results(self.graph)}
        for n in nodes:
            if n.op is not None:
                continue
            # What only one module reads belongs to it, a number to its gates.
            owners = {id(piece_of[id(u)]): piece_of[id(u)] for u in users[id(n)]}
            owner = next(iter(owners.values())) if len(owners) == 1 else None
            if owner and owner.kind == "module" and n.kind != "input":
                piece_of[id(n)] = owner
                owner.nodes.insert(0, n)
            elif not is_number(n) or id(n) in results:
                piece_of[id(n)] = Piece(n.kind, n.name, [n])
        for piece in made.values():
            _describe(piece)
        order = self._order(piece_of, users)
        found = _wired(order, piece_of, results)
        return merged(found) if repeats else found

    def _closing(self, node: AnyNode, depth: int) -> Call | None:
        """The outermost closed module around a node."""
        for level, call in enumerate(self.within[id(node)]):
            if level >= depth or call in self.closed:
                return call
        return None

    def _order(
        self, piece_of: Mapping[int, Piece], users: Mapping[int, list[AnyNode]]
    ) -> list[Piece]:
        """Pieces with the last of their nodes; a leaf just before its first user."""
        last: dict[Piece, float] = {}
        nodes: list[AnyNode] = [*self.graph.nodes]
        for i, n in enumerate(nodes):
            piece = piece_of.get(id(n))
            if piece is not None and n.op is not None:
                last[piece] = float(i)
        for i, n in enumerate(nodes):
            piece = piece_of.get(id(n))
            if piece is not None and piece not in last:
                readers = [last[piece_of[id(u)]] for u in users[id(n)]]
                last[piece] = min(readers, default=0.0) - 1 + i / len(piece_of)
        inputs = [p for p in last if p.kind == "input"]
        rest = [p for p in last if p.kind != "input"]
        return [*inputs, *sorted(rest, key=last.__getitem__)]


def _modules(root: object) -> Iterator[tuple[str, object]]:
    return root.named_modules() if isinstance(root, Module) else iter(())


def _results(graph: AnyGraph) -> list[AnyNode]:
    if isinstance(graph, Graph):
        return [*graph.outputs]
    found = [*graph.outputs, *(node for _, node in graph.assignments)]
    return [*found, *(node for _, node in graph.gradients)]


def _describe(piece: Piece) -> None:
    """What a module is, how much it holds, and what makes two of them alike."""
    kind = _kind(piece.calls[0].part)
    piece.lines = lines_of(kind, piece)
    ops = tuple(repr(n.op or n.spec) for n in piece.nodes)
    piece.signature = (kind, *ops, piece.result.spec)


def _kind(part: object) -> str:
    """A layer as the call that makes it; of what holds layers, how many."""
    modules = [module for path, module in _modules(part) if path]
    leaves = [m for m in modules if not any(path for path, _ in _modules(m))]
    if leaves:
        return counted(len(leaves), "layer")
    words = repr(part)
    return words if len(words) <= _LONGEST else type(part).__name__


def _wired(
    order: Sequence[Piece], piece_of: Mapping[int, Piece], results: set[int]
) -> Scheme:
    place = {piece: i for i, piece in enumerate(order)}
    wires: list[Wire] = []
    leaving: dict[int, AnyNode] = {}
    for piece in order:
        seen = set()
        for n in piece.nodes:
            for operand in n.inputs:
                source = piece_of.get(id(operand))
                if source is None or source is piece:
                    continue
                leaving[place[source]] = operand
                # A gate has a wire for each operand, a module one for each value.
                if piece.kind == "gate" or id(operand) not in seen:
                    seen.add(id(operand))
                    wires.append(Wire(place[source], place[piece], operand))
    for i, n in leaving.items():  # the value that others read stands last
        order[i].nodes.remove(n)
        order[i].nodes.append(n)
    outputs = (i for i, p in enumerate(order) if any(id(n) in results for n in p.nodes))
    return Scheme(tuple(order), tuple(wires), tuple(outputs))
