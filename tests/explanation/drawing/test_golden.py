"""The lectures' graphs as files: a change of how drawings look is seen in them.

Run this file to write them anew, then look at each.
"""

from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.explanation import run_program

FOLDER = Path(__file__).parents[1] / "golden"
ROOT = Path(__file__).parents[3]


def first():
    def f(x, y, z):
        q = x + y
        q.name = "q"
        return q * z

    return cr.Graph(f, x=-2.0, y=5.0, z=-4.0)


def two_weights():
    program = "f=w1*x; g=relu(f); yhat=w2*g; L=0.5*(yhat-y)**2"
    names = run_program(program, {"w1": 3.0, "x": 5.0, "w2": 2.0, "y": 22.0})
    return cr.Graph.of(names["L"])


def sigmoid_neuron():
    def f(w0, x0, w1, x1, w2):
        return 1 / (1 + cr.exp(-(w0 * x0 + w1 * x1 + w2)))

    return cr.Graph(f, 2.0, -1.0, -3.0, -2.0, -3.0)


def squared_norm():
    def f(W, x):
        q = W @ x
        q.name = "q"
        return (q**2).sum()

    return cr.Graph(
        f, W=np.array([[0.1, 0.5], [-0.3, 0.8]]), x=np.array([[0.2], [0.4]])
    )


def drawn(make):
    graph = make()
    graph.backward()
    return cr.draw(graph).svg + "\n"


GRAPHS = {
    "first": first,
    "two-weights": two_weights,
    "sigmoid-neuron": sigmoid_neuron,
    "squared-norm": squared_norm,
}
PICTURES = {
    FOLDER / f"{name}.svg": lambda m=make: drawn(m) for name, make in GRAPHS.items()
}
IMAGES = ROOT / "docs" / "images"
PICTURES[IMAGES / "draw-graph.svg"] = lambda: drawn(first)
PICTURES[IMAGES / "draw-step.svg"] = lambda: cr.draw_frames(first())[4].svg + "\n"
PICTURES[IMAGES / "draw-network.svg"] = lambda: (
    cr.draw_network(
        nn.resnet((32, 32, 3), 10, widths=(16, 32), blocks=3), (32, 32, 3)
    ).svg
    + "\n"
)
PICTURES[IMAGES / "draw-convolution.svg"] = lambda: (
    cr.draw_convolution(5, 3, stride=2, padding=1).playing().svg + "\n"
)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_drawing_is_the_one_that_was_looked_at(path, read):
    svg = PICTURES[path]()
    read(svg)
    assert svg == path.read_text(encoding="utf-8")


def test_the_lectures_gradients_stand_in_the_pictures(read):
    found = {
        name: read((FOLDER / f"{name}.svg").read_text(encoding="utf-8")).texts
        for name in GRAPHS
    }
    assert {"80", "48", "120", "16", "8", "0.5"} <= set(found["two-weights"])
    assert {"−0.196612", "0.393224", "−0.589836"} <= set(found["sigmoid-neuron"])
    assert "[[0.088, 0.176], [0.104, 0.208]]" in found["squared-norm"]
    assert "f = 0.116" in found["squared-norm"]


if __name__ == "__main__":
    for path, make in PICTURES.items():
        path.write_text(make(), encoding="utf-8")
