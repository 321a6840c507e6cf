"""What a graph does, gate by gate: forward its values, backward its gradients."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.core.backward import propagate
from chainrule.core.graph import Tensor, as_tensor, no_grad
from chainrule.core.trace import Graph
from chainrule.errors import OptionError
from chainrule.explanation.drawing.amounts import amount, own_name, value_of
from chainrule.explanation.drawing.circuit import Circuit
from chainrule.explanation.drawing.frames import Frames, Timed
from chainrule.explanation.drawing.graphs import as_graph
from chainrule.explanation.drawing.pieces import Piece
from chainrule.explanation.drawing.scheme import scheme
from chainrule.explanation.drawing.shapes import Words
from chainrule.explanation.drawing.signs import AnyNode, formula_of
from chainrule.explanation.drawing.svg import group
from chainrule.explanation.notation import pretty_name

__all__ = ["draw_frames"]

_DOUBLED = re.compile(r"\((\([^()]*\))\)|^\(([^()]*)\)(?=[ ·])")


def draw_frames(
    graph: Graph | Tensor,
    *,
    depth: int | None = None,
    collapse: str | Sequence[str] = (),
    repeats: bool = True,
) -> Frames:
    """Step through a graph: forward one gate at a time, then backward.

    Forward, each gate's value appears; backward, each gate gives its inputs their
    gradients, which add up where a value is used several times. The graph is left as it
    is.

    Args:
        graph: a Graph, or a tensor whose history is drawn.
        depth, collapse, repeats: see ``draw``; a closed module is one step.

    Raises:
        OptionError: for a graph without values, and what ``draw`` raises.

    Example:
        >>> import chainrule as cr
        >>> graph = cr.Graph(lambda x, y, z: (x + y) * z, x=-2.0, y=5.0, z=-4.0)
        >>> print(draw_frames(graph))
        Graph of 5 nodes, gate by gate
        1. the inputs: x = −2, y = 5, z = −4
        2. forward: v₁ = x + y = −2 + 5 = 3
        3. forward: v₂ = v₁·z = 3·(−4) = −12
        4. backward starts at v₂, whose gradient by itself is 1
        5. backward: v₁·z switches: each operand receives dy times the other operand.
            ∂v₂/∂v₁ = −4, ∂v₂/∂z = 3
        6. backward: x + y distributes: every operand receives dy unchanged.
            ∂v₂/∂x = −4, ∂v₂/∂y = −4

    Source: stanford, backpropagation through (x + y)·z; intellivision.
    """
    drawn = as_graph(graph)
    if not isinstance(drawn, Graph):
        raise OptionError(
            "draw_frames: a graph without values",
            got=type(drawn).__name__,
            expected="a Graph or a tensor, which hold the numbers to step through",
        )
    found = scheme(drawn, depth=depth, collapse=collapse, repeats=repeats)
    story = _Story(drawn, found.pieces)
    circuit = Circuit(found, story.largest())
    steps = story.steps
    changing: list[Timed] = []
    for i in range(len(found.pieces)):
        begun = 0
        for k in range(1, len(steps) + 1):
            if k == len(steps) or steps[k].words[i] != steps[begun].words[i]:
                if any(steps[begun].words[i]):
                    shown = circuit.words_at(i, steps[begun].words[i])
                    changing.append(Timed(shown, begun, k))
                begun = k
    changing += [
        Timed(circuit.ring(step.active), k, k + 1)
        for k, step in enumerate(steps)
        if step.active is not None
    ]
    width, height, legend = circuit.frame()
    still = group(
        circuit.wires(), *map(circuit.shape, range(len(found.pieces))), legend
    )
    captions = [step.caption for step in steps]
    title = f"{circuit.title}, gate by gate"
    return Frames.told(title, captions, width, height, still, changing)


@dataclass(frozen=True)
class _Step:
    caption: str
    active: int | None
    words: tuple[Words, ...]
    """What each piece's wire carries at this step."""


class _Story:
    """What a graph does, step by step."""

    def __init__(self, graph: Graph, pieces: Sequence[Piece]) -> None:
        self.graph, self.pieces = graph, pieces
        self.above = [""] * len(pieces)
        self.below = [""] * len(pieces)
        self.steps: list[_Step] = []
        self._forward()
        self._backward()

    def largest(self) -> list[Words]:
        """The widest words that each piece ever has, for which room is made."""
        columns = zip(*(step.words for step in self.steps), strict=True)
        return [
            Words(
                max((w.above for w in c), key=len), max((w.below for w in c), key=len)
            )
            for c in columns
        ]

    def _note(self, caption: str, active: int | None) -> None:
        words = tuple(map(Words, self.above, self.below))
        self.steps.append(_Step(caption, active, words))

    def _forward(self) -> None:
        leaves = [i for i, p in enumerate(self.pieces) if p.result.op is None]
        for i in leaves:
            self.above[i] = _value(self.pieces[i].result)
        given = [f"{_name(self.pieces[i].result)} = {self.above[i]}" for i in leaves]
        more = ["…"] if len(given) > 8 else []
        self._note(f"the inputs: {', '.join([*given[:8], *more])}", None)
        for i, piece in enumerate(self.pieces):
            node = piece.result
            if node.op is None:
                continue
            value = _value(node)
            name = own_name(node) if piece.kind == "gate" else ""
            self.above[i] = f"{name} = {value}" if name else value
            if piece.kind == "module":
                self._note(f"forward: {piece.label} gives {value}", i)
            else:
                self._note(f"forward: {_worked_out(node, value)}", i)

    def _backward(self) -> None:
        tops = self.graph.outputs
        if any(top.spec.size != 1 for top in tops):
            return
        found: dict[int, Tensor] = {}
        for top in tops:
            if top.tensor.requires_grad:
                found[id(top.tensor)] = as_tensor(np.ones_like(top.tensor.data))
        starts = [i for i, p in enumerate(self.pieces) if found.keys() & _ids(p)]
        if not starts:
            return
        self._fill_in(found)
        names = " and ".join(_name(top) for top in tops if id(top.tensor) in found)
        by = "itself" if len(found) == 1 else "themselves"
        self._note(
            f"backward starts at {names}, whose gradient by {by} is 1", starts[-1]
        )
        for i, piece in reversed([*enumerate(self.pieces)]):
            touched = self._through(piece, found)
            if touched:
                self._fill_in(found)
                told = ", ".join(
                    f"∂{_name(tops[0])}/∂{_name(n)} = {_gradient(n, found)}"
                    if len(tops) == 1
                    else f"gradient of {_name(n)} = {_gradient(n, found)}"
                    for n in touched[:4]
                )
                self._note(f"{_lesson(piece)} {told}", i)

    def _fill_in(self, found: dict[int, Tensor]) -> None:
        """Write the gradients that are known below the wires."""
        for i, piece in enumerate(self.pieces):
            if id(_tensor(piece.result)) in found:
                self.below[i] = _gradient(piece.result, found)

    def _through(self, piece: Piece, found: dict[int, Tensor]) -> list[AnyNode]:
        """Walk back through a piece; which values outside it received a gradient."""
        inside = {id(n) for n in piece.nodes}
        touched: dict[int, AnyNode] = {}
        made = sorted(
            (n for n in piece.nodes if n.op is not None),
            key=lambda n: _tensor(n).order,
            reverse=True,
        )
        for n in made:
            t = _tensor(n)
            dy = found.get(id(t))
            if dy is None or t.op is None or not t.requires_grad:
                continue
            with no_grad(), np.errstate(all="ignore"):
                propagate(t, t.op, dy, found)
            for operand in n.inputs:
                if id(_tensor(operand)) in found and id(operand) not in inside:
                    touched[id(operand)] = operand
        return [*touched.values()]


def _tensor(node: AnyNode) -> Tensor:
    assert node.tensor is not None  # a Graph's nodes have one
    return node.tensor


def _ids(piece: Piece) -> set[int]:
    return {id(n.tensor) for n in piece.nodes}


def _gradient(node: AnyNode, found: dict[int, Tensor]) -> str:
    return amount(found[id(_tensor(node))].data)


def _name(node: AnyNode) -> str:
    return pretty_name(node.name)


def _value(node: AnyNode) -> str:
    values = value_of(node)
    return "" if values is None else amount(values)


def _worked_out(node: AnyNode, value: str) -> str:
    """``q = x + y = −2 + 5 = 3``; of arrays without the numbers."""
    told = f"{_name(node)} = {formula_of(node)}"
    if any(n.spec.size > 1 for n in node.inputs):
        return f"{told} = {value}"
    assert node.op is not None
    numbers = [_value(n) for n in node.inputs]
    filled = node.op.formula(*(f"({v})" if v[0] == "−" else v for v in numbers))
    filled = _DOUBLED.sub(r"\1\2", filled.replace("-", "−"))
    return f"{told} = {filled} = {value}" if filled != value else f"{told} = {value}"


def _lesson(piece: Piece) -> str:
    """What a gate does to the gradient."""
    node = piece.result
    if piece.kind == "module" or node.op is None:
        return f"backward through {piece.label}."
    return f"backward: {formula_of(node)} {node.op.pattern or 'gives its gradient'}."
