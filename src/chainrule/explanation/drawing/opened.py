"""A model's layers as they run: which follow which, and which blocks are alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.capture import capture
from chainrule.core.graph import Parameter, Tensor
from chainrule.core.mode import Call
from chainrule.core.spec import as_dtype
from chainrule.core.trace import Graph, tracing
from chainrule.errors import CaptureError, GradientError
from chainrule.explanation.drawing.pieces import Piece, Scheme, Wire, within
from chainrule.explanation.drawing.scheme import scheme
from chainrule.nn.evaluating import evaluating
from chainrule.nn.module import Module
from chainrule.nn.observing import observe

__all__ = ["Alike", "in_cards", "opened", "parent", "traced_model"]


def traced_model(
    model: Module, input_shape: Sequence[int], dtype: Any = "float32"
) -> Graph:
    """The graph of a model for any number of examples, without values.

    Raises:
        ShapeError: where the example does not fit a layer.
        GradientError: for a model that does nothing to its input.
    """
    # Two of them: axes of size 1 would be broadcast.
    example = np.zeros((2, *input_shape), as_dtype(dtype))
    made: list[Tensor] = []
    with evaluating(model), tracing() as calls:
        try:
            with observe(lambda _, y: made.append(y)):
                capture(lambda x: model(x), (Tensor(example, name="input"),))
        except CaptureError:  # a layer that looks at values
            calls.clear()
            made.append(model(Tensor(example, name="input")))
        if made[-1].op is None:
            raise GradientError(
                "draw_network: the model returns its input as it is",
                got=type(model).__name__,
                expected="a model with at least one operation",
            )
        return Graph.of(made[-1])


@dataclass(frozen=True)
class Alike:
    """Pieces of a module that stands for several equal ones in a row."""

    label: str
    pieces: frozenset[int]


def opened(
    graph: Graph, depth: int, repeats: bool, how: dict[str, Any]
) -> tuple[Scheme, list[Alike]]:
    """The layers, of equal modules in a row only the first one's."""
    found = scheme(graph, depth=depth, repeats=repeats, **how)
    if not repeats:
        return found, []
    labels: dict[Call, str] = {}
    dropped: set[Call] = set()
    for level in range(1, depth):
        for piece in scheme(graph, depth=level, **how).pieces:
            if piece.times > 1 and not dropped & set(within(piece.nodes[-1])):
                first, *others = piece.calls
                labels[first] = f"{piece.label} ×{piece.times}"
                dropped |= set(others)
    around = [frozenset(c for n in p.nodes for c in within(n)) for p in found.pieces]
    kept = [i for i in range(len(around)) if not around[i] & dropped]
    place = {i: k for k, i in enumerate(kept)}
    leaves: dict[int, int] = {}
    for wire in found.wires:  # in order: the first row's end is known before its use
        if wire.end not in place:
            if wire.start in place:
                leaves[wire.end] = wire.start
            else:
                leaves.setdefault(wire.end, leaves[wire.start])
    wires = [
        Wire(place[leaves.get(w.start, w.start)], place[w.end], w.node)
        for w in found.wires
        if w.end in place
    ]
    alike = [
        Alike(label, frozenset(place[i] for i in kept if call in around[i]))
        for call, label in labels.items()
    ]
    outputs = tuple(place[i] for i in found.outputs if i in place)
    shown = Scheme(tuple(found.pieces[i] for i in kept), tuple(wires), outputs)
    return shown, [a for a in alike if len(a.pieces) > 1]


def in_cards(found: Scheme) -> list[list[int]]:
    """Layers that follow one another, as far as the next weights: one box each."""
    before, after = defaultdict(list), defaultdict(list)
    for wire in found.wires:
        before[wire.end].append(wire.start)
        after[wire.start].append(wire.end)
    cards: list[list[int]] = []
    card_of: dict[int, list[int]] = {}
    for i, piece in enumerate(found.pieces):
        source = before[i][0] if len(before[i]) == 1 else None
        joins = (
            source is not None
            and piece.kind == found.pieces[source].kind == "module"
            and len(after[source]) == 1
            and not _has_weights(piece)
            and parent(piece) == parent(found.pieces[source])
        )
        if joins and source is not None:
            card_of[i] = card_of[source]
            card_of[i].append(i)
        else:
            card_of[i] = [i]
            cards.append(card_of[i])
    return cards


def _has_weights(piece: Piece) -> bool:
    """Whether it computes weighted sums: biases and scales alone do not count."""
    return any(
        isinstance(n.tensor, Parameter) and n.tensor.ndim > 1 for n in piece.nodes
    )


def parent(piece: Piece) -> str:
    """The path of the module that holds a piece; "" for the model itself."""
    return piece.label.rpartition(".")[0]
