"""A small graph as text: a tree from the output down to the inputs."""

from __future__ import annotations

from chainrule.core.capture import CapturedGraph
from chainrule.core.graph import Tensor
from chainrule.core.trace import Graph
from chainrule.explanation.drawing.amounts import amount, gradient_of, value_of
from chainrule.explanation.drawing.graphs import as_graph
from chainrule.explanation.drawing.signs import (
    AnyNode,
    formula_of,
    is_number,
    operands,
    shape_text,
)
from chainrule.explanation.notation import pretty_name

__all__ = ["draw_text"]

_MAX_ROWS = 200


def draw_text(graph: Graph | CapturedGraph | Tensor) -> str:
    """Draw a graph as a tree of text: each value above what it is made of.

    A value that is used several times is written out once and then referred to. Of more
    than 200 lines the rest is counted.

    Raises:
        OptionError: for something else than a graph.
        GradientError: for a tensor of which nothing was recorded.

    Example:
        >>> import chainrule as cr
        >>> graph = cr.Graph(lambda x, y, z: (x + y) * z, x=-2.0, y=5.0, z=-4.0)
        >>> gradients = graph.backward()
        >>> print(draw_text(graph))
        v₂ = v₁·z = −12   gradient 1
        ├─ v₁ = x + y = 3   gradient −4
        │  ├─ x = −2   gradient −4
        │  └─ y = 5   gradient −4
        └─ z = −4   gradient 3
    """
    drawn = as_graph(graph)
    rows: list[str] = []
    seen: set[int] = set()
    # (node, what stands before it, what stands before what it is made of)
    outputs: list[AnyNode] = [*drawn.outputs]
    stack = [(node, "", "") for node in reversed(outputs)]
    while stack:
        node, before, below = stack.pop()
        if id(node) in seen and node.op is not None:
            rows.append(f"{before}{pretty_name(node.name)}, see above")
            continue
        seen.add(id(node))
        rows.append(before + _told(node))
        made_of = [n for n in dict.fromkeys(operands(node)) if not is_number(n)]
        for n in reversed(made_of):
            is_last = n is made_of[-1]
            stem = "└─ " if is_last else "├─ "
            stack.append((n, below + stem, below + ("   " if is_last else "│  ")))
    if len(rows) > _MAX_ROWS:
        left_out = len(rows) - _MAX_ROWS
        rows[_MAX_ROWS:] = [f"… and {left_out} more lines; draw(graph) draws them"]
    return "\n".join(rows)


def _told(node: AnyNode) -> str:
    """A value with its formula, its number and its gradient."""
    told = pretty_name(node.name)
    if node.op is not None:
        told += f" = {formula_of(node)}"
    value, gradient = value_of(node), gradient_of(node)
    shown = shape_text(node.spec.shape) if value is None else amount(value)
    told += f" = {shown}" if value is not None else f": {shown}"
    return told if gradient is None else f"{told}   gradient {amount(gradient)}"
