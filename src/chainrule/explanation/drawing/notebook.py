"""What a notebook shows of a graph: a drawing, as long as it can be read there."""

from __future__ import annotations

from chainrule.core.trace import Graph
from chainrule.errors import counted
from chainrule.explanation.drawing.circuit import Circuit
from chainrule.explanation.drawing.scheme import scheme

__all__ = ["graph_html", "graph_svg"]

_MAX_PIECES = 250


def graph_svg(graph: Graph) -> str | None:
    """The drawing of a graph; None where it would have too many pieces to read."""
    found = scheme(graph)
    return None if len(found.pieces) > _MAX_PIECES else Circuit(found).drawing().svg


def graph_html(graph: Graph) -> str:
    """The drawing of a graph, or how to get one that can be searched."""
    found = scheme(graph)
    if len(found.pieces) > _MAX_PIECES:
        return (
            f"<p>A graph of {counted(len(graph), 'node')}: "
            "<code>chainrule.draw(graph).save('graph.html')</code> draws it on a page "
            "to search and to move about in.</p>"
        )
    return Circuit(found).drawing()._repr_html_()
