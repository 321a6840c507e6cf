"""What drawings are made of: pieces, each a gate, a leaf or a module, and wires."""

from __future__ import annotations

from dataclasses import dataclass, field

from chainrule.core.capture import CapturedGraph
from chainrule.core.graph import Parameter
from chainrule.core.mode import Call
from chainrule.core.trace import Graph, Node
from chainrule.errors import counted
from chainrule.explanation.drawing.signs import AnyNode

__all__ = ["AnyGraph", "Piece", "Scheme", "Wire", "lines_of", "within"]

AnyGraph = Graph | CapturedGraph


@dataclass(eq=False)
class Piece:
    """One thing that is drawn.

    Attributes:
        kind: "input", "variable", "constant", "gate" or "module".
        label: a leaf's name, a gate's sign, a module's path.
        nodes: what it stands for, in order; one node unless it is a module.
        lines: what a module is, in a few words a line.
        calls: the runs of modules that it stands for: several where equal modules in a
            row are one.
    """

    kind: str
    label: str
    nodes: list[AnyNode]
    lines: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    signature: tuple[object, ...] = field(default=(), repr=False)

    @property
    def times(self) -> int:
        """How many equal modules in a row it stands for."""
        return max(len(self.calls), 1)

    @property
    def result(self) -> AnyNode:
        """The value that leaves it."""
        return self.nodes[-1]

    @property
    def num_parameters(self) -> int:
        found = {id(n.tensor): n.tensor for n in self.nodes}
        return sum(t.size for t in found.values() if isinstance(t, Parameter))


@dataclass(frozen=True)
class Wire:
    """From one piece to another, both by their places in the scheme."""

    start: int
    end: int
    node: AnyNode
    """The value that it carries."""


@dataclass(frozen=True)
class Scheme:
    """Pieces, each before those that use it, and the wires between them."""

    pieces: tuple[Piece, ...]
    wires: tuple[Wire, ...]
    outputs: tuple[int, ...]
    """The pieces whose results are the graph's."""


def lines_of(kind: str, piece: Piece) -> tuple[str, ...]:
    """What a module is and how much it holds, in lines."""
    count = piece.num_parameters
    return (kind, counted(count, "parameter")) if count else (kind,)


def within(node: AnyNode) -> tuple[Call, ...]:
    """The runs of modules in which a node was made, the outermost first."""
    return node.within if isinstance(node, Node) else ()
