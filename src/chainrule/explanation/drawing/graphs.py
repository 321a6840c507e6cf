"""Any graph as a drawing."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.core.capture import CapturedGraph
from chainrule.core.graph import Tensor
from chainrule.core.trace import Graph
from chainrule.errors import OptionError
from chainrule.explanation.drawing.circuit import Circuit
from chainrule.explanation.drawing.pieces import AnyGraph
from chainrule.explanation.drawing.scheme import scheme
from chainrule.explanation.drawing.svg import Drawing

__all__ = ["as_graph", "draw"]


def draw(
    graph: Graph | CapturedGraph | Tensor,
    *,
    depth: int | None = None,
    collapse: str | Sequence[str] = (),
    repeats: bool = True,
) -> Drawing:
    """Draw a computational graph as the lectures do: a circuit, from left to right.

    Above each wire stands the value that it carries, below it the gradient, if
    ``backward`` has run. Modules of a network are opened as far as stays readable.

    Args:
        graph: a Graph, a captured graph, or a tensor, of which the graph that made it
            is drawn.
        depth: how many levels of modules to open; 0 draws each as one box.
        collapse: paths of modules to keep closed, ``*`` standing for any text.
        repeats: whether equal modules in a row are drawn once, with ×3 beside them.

    Raises:
        OptionError: for something else than a graph, a depth below 0, or a pattern that
            fits no module.
        GradientError: for a tensor of which nothing was recorded.

    Example:
        >>> import chainrule as cr
        >>> graph = cr.Graph(lambda x, y, z: (x + y) * z, x=-2.0, y=5.0, z=-4.0)
        >>> gradients = graph.backward()
        >>> drawing = draw(graph)
        >>> print(drawing)
        Graph of 5 nodes
        x = −2, gradient −4
        y = 5, gradient −4
        z = −4, gradient 3
        v₁ = x + y = 3, gradient −4
        v₂ = v₁·z = −12, gradient 1

    Source: stanford, computational graphs; intellivision, values and gradients.
    """
    found = scheme(as_graph(graph), depth=depth, collapse=collapse, repeats=repeats)
    return Circuit(found).drawing()


def as_graph(given: object) -> AnyGraph:
    """The graph of what a user wants drawn."""
    if isinstance(given, Tensor):
        return Graph.of(given)
    if not isinstance(given, (Graph, CapturedGraph)):
        raise OptionError(
            "draw: not a graph",
            got=type(given).__name__,
            expected="a Graph, a captured graph or a tensor with a history",
            hint="Graph(f, *inputs) for a function, draw_network for a model",
        )
    return given
