"""Graphs as text, and what notebooks show."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.capture import capture
from chainrule.errors import OptionError


def test_a_graph_is_a_tree_with_values_and_gradients():
    def f(x, y, z):
        q = x + y
        q.name = "q"
        return q * z

    graph = cr.Graph(f, x=-2.0, y=5.0, z=-4.0)
    graph.backward()
    assert cr.draw_text(graph) == (
        "f = q·z = −12   gradient 1\n"
        "├─ q = x + y = 3   gradient −4\n"
        "│  ├─ x = −2   gradient −4\n"
        "│  └─ y = 5   gradient −4\n"
        "└─ z = −4   gradient 3"
    )


def test_what_is_used_twice_is_written_out_once():
    graph = cr.Graph(lambda x: cr.sin(x * 2) + cr.cos(x * 2) * cr.sin(x), 1.0)
    double = cr.Graph(lambda x: (x + 1) * (x + 1), 1.0)
    assert "see above" not in cr.draw_text(graph)
    assert cr.draw_text(double).count("x + 1") == 2

    def shared(x):
        a = x + 1
        a.name = "a"
        return cr.sin(a) * cr.cos(a)

    assert cr.draw_text(cr.Graph(shared, 1.0)).splitlines()[-1] == "   └─ a, see above"


def test_a_deep_graph_ends_with_how_much_is_left_out():
    def f(x):
        for _ in range(5000):
            x = cr.sin(x)
        return x

    lines = cr.draw_text(cr.Graph(f, 1.0)).splitlines()
    assert len(lines) == 201
    assert lines[-1] == "… and 4801 more lines; draw(graph) draws them"


def test_a_captured_graph_has_shapes():
    graph = capture(lambda x: (x * 2).sum(), (cr.Tensor([1.0, 2.0]),))
    assert cr.draw_text(graph).splitlines() == [
        "v₂ = sum(v₁): a number",
        "└─ v₁ = x·2: n entries",
        "   └─ x: n entries",
    ]
    with pytest.raises(OptionError, match="not a graph"):
        cr.draw_text("graph")


def test_notebooks_draw_graphs_and_fall_back_to_words(read):
    graph = cr.Graph(lambda x: x * 2 + 1, 1.0)
    read(graph._repr_svg_()).check_readable()
    assert graph._repr_svg_() in graph._repr_html_()

    def f(x):
        for _ in range(300):
            x = cr.sin(x)
        return x

    long = cr.Graph(f, 1.0)
    assert long._repr_svg_() is None
    assert "A graph of 301 nodes" in long._repr_html_()


def test_notebooks_draw_a_network_collapsed(read):
    model = nn.resnet20((32, 32, 3), 10)
    graph = cr.Graph(model, np.zeros((1, 32, 32, 3), "float32"))
    assert "block1_1" in " ".join(read(graph._repr_svg_()).named())


def test_notebooks_show_a_model_as_a_table():
    model = nn.Sequential(a=nn.Dense(3, 2), b=nn.Function(abs))
    shown = model._repr_html_()
    assert "Sequential, 8 parameters" in shown
    assert "<td>a</td><td>Dense(in_features=3, out_features=2)</td>" in shown
    assert "<td>b</td>" in shown
    nameless = nn.Function(lambda x: x)
    assert "&lt;lambda&gt;" in nameless._repr_html_()


def test_importing_chainrule_loads_no_drawings():
    import subprocess
    import sys

    code = (
        "import sys, chainrule as cr; cr.Graph(lambda x: x * 2, 1.0); "
        "print([m for m in sys.modules if 'drawing' in m or 'explanation' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
