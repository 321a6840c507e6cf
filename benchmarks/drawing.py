"""How long it takes to lay out and draw graphs of thousands of nodes.

    python benchmarks/drawing.py

Prints, for each graph, its nodes and wires, the processor's time for the layout alone
and for all of ``draw``, the size of the SVG and how many wires were too long to draw.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import chainrule as cr
from chainrule import nn
from chainrule.explanation.drawing.layout import layered
from chainrule.explanation.drawing.scheme import scheme


def random_graph(num_gates: int, reach: float) -> cr.Graph:
    """Gates that read values made shortly before, some of them long before."""
    rng = random.Random(0)

    def f(x: cr.Tensor) -> cr.Tensor:
        made = [x]

        def some() -> cr.Tensor:
            back = int(rng.expovariate(1 / reach))
            return made[max(0, len(made) - 1 - back)]

        for _ in range(num_gates):
            made.append(some() + some() if rng.random() < 0.5 else cr.tanh(some()))
        total = made[0]
        for t in made[-num_gates // 4 :]:
            total = total + t
        return total

    return cr.Graph(f, 0.1)


def chain(num_gates: int) -> cr.Graph:
    """One gate after another, each pair of them also reading the first value."""

    def f(x: cr.Tensor) -> cr.Tensor:
        y = x
        for _ in range(num_gates // 2):
            y = cr.sin(y) + x
        return y

    return cr.Graph(f, 0.1)


def unfolded(model: nn.Module, side: int) -> cr.Graph:
    """Every gate of a network."""
    import numpy as np

    return cr.Graph(model, np.zeros((1, side, side, 3), "float32"))


def measured(name: str, make: Callable[[], cr.Graph]) -> None:
    graph = make()
    found = scheme(graph, depth=99, repeats=False)
    edges = [(wire.start, wire.end) for wire in found.wires]
    began = time.process_time()
    layout = layered([(60.0, 30.0)] * len(found.pieces), edges)
    laid_out = time.process_time()
    drawing = cr.draw(graph, depth=99, repeats=False)
    size_bytes = len(drawing.svg)
    drawn = time.process_time()
    cut = sum(route is None for route in layout.routes)
    print(
        f"{name:<22}{len(found.pieces):>9,}{len(edges):>9,}{laid_out - began:>7.2f} s"
        f"{drawn - laid_out:>7.2f} s{size_bytes / 1e6:>6.1f} MB{cut:>9,}"
    )


if __name__ == "__main__":
    names = ("nodes", "wires", "layout", "draw", "svg", "cut")
    print(f"{'graph':<22}" + "".join(f"{name:>9}" for name in names))
    measured("random, 200", lambda: random_graph(210, 12.0))
    measured("random, 5,000", lambda: random_graph(5300, 30.0))
    measured("random, far, 5,000", lambda: random_graph(5200, 500.0))
    measured("chain, 5,000", lambda: chain(5000))
    measured("resnet32, every gate", lambda: unfolded(nn.resnet32((32, 32, 3), 10), 32))
    wired = nn.random_wired((32, 32, 3), 10)
    measured("random_wired", lambda: unfolded(wired, 32))
