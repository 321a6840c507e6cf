"""The Graph object: nodes, names, replay, and gradients of every node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff import grad
from chainrule.core.trace import Graph
from chainrule.errors import (
    DtypeError,
    GradientError,
    IndexingError,
    OptionError,
    ShapeError,
)


def f(x: Any, y: Any, z: Any) -> Any:
    q = x + y
    q.name = "q"
    return q * z


def test_nodes_stand_in_topological_order_with_their_names() -> None:
    graph = Graph(f, x=-2.0, y=5.0, z=-4.0)
    assert [n.name for n in graph.nodes] == ["x", "y", "z", "q", "f"]
    assert [n.name for n in graph.inputs] == ["x", "y", "z"]
    assert [n.name for n in graph.outputs] == ["f"]
    assert [n.formula for n in graph] == ["input"] * 3 + ["x + y", "q·z"]
    position = {id(n): i for i, n in enumerate(graph)}
    assert all(position[id(i)] < position[id(n)] for n in graph for i in n.inputs)
    assert repr(graph) == "Graph(x, y, z -> f: 5 nodes)"


def test_a_graph_prints_as_a_table_of_values_and_gradients() -> None:
    graph = Graph(f, x=-2.0, y=5.0, z=-4.0)
    graph.backward()
    assert str(graph) == (
        "node  formula  value  gradient\n"
        "x     input       -2        -4\n"
        "y     input        5        -4\n"
        "z     input       -4         3\n"
        "q     x + y        3        -4\n"
        "f     q·z        -12         1"
    )


def test_arrays_print_as_specs_and_constants_inside_formulas() -> None:
    graph = Graph(lambda x: (x * 2 - 0.5).sum(), x=np.zeros((2, 3)))
    assert str(graph) == (
        "node  formula           value  gradient\n"
        "x     input     float64[2, 3]         -\n"
        "c1    constant              2         -\n"
        "c2    constant            0.5         -\n"
        "v1    x·2       float64[2, 3]         -\n"
        "v2    v1 - 0.5  float64[2, 3]         -\n"
        "v3    sum(v2)              -3         -"
    )


def test_inputs_by_position_take_their_names_from_the_function() -> None:
    assert [n.name for n in Graph(f, 1.0, 2.0, 3.0).inputs] == ["x", "y", "z"]
    assert [n.name for n in Graph(f, 1.0, z=3.0, y=2.0).inputs] == ["x", "z", "y"]
    names = [n.name for n in Graph(lambda *a: a[0] + a[1], 1.0, 2.0).inputs]
    assert names == ["x1", "x2"]


def test_forward_replays_the_ops_on_new_values_and_keeps_the_others() -> None:
    graph = Graph(f, x=-2.0, y=5.0, z=-4.0)
    assert graph.forward(x=1.0, z=2.0).item() == 12.0
    assert graph.value("q").item() == 6.0
    assert graph.forward(0.0).item() == 10.0, "by position: x"
    assert graph.forward().item() == 10.0
    assert graph.value("x").item() == 0.0


def test_backward_after_a_replay_uses_the_new_values() -> None:
    graph = Graph(f, x=-2.0, y=5.0, z=-4.0)
    graph.backward()
    graph.forward(z=10.0)
    with pytest.raises(GradientError, match="q has no gradient"):
        graph.gradient("q")
    assert graph.backward()["z"].item() == 3.0
    assert graph.gradient("q").item() == 10.0
    graph.backward(100.0)
    assert graph.gradient("f").item() == 100.0
    assert graph.gradient("q").item() == 1000.0


def test_nodes_are_found_by_node_by_name_and_by_tensor() -> None:
    x = cr.Tensor(2.0, requires_grad=True, name="x")
    q = x * 3
    y = q * q
    graph = Graph.of(y)
    graph.backward()
    assert graph.value(q).item() == 6.0
    assert graph.gradient(q).item() == 12.0
    assert graph.node(graph.nodes[0]) is graph.node("x")
    graph.forward(x=1.0)
    assert graph.value(q).item() == 3.0
    assert q.item() == 6.0, "the tensors of the caller stay as they are"
    with pytest.raises(OptionError, match="not one of its nodes"):
        graph.value(cr.Tensor(1.0))


def test_an_unknown_node_name_offers_the_nearest() -> None:
    graph = Graph(f, x=-2.0, y=5.0, z=-4.0)
    with pytest.raises(OptionError, match="unknown node 'qq'") as caught:
        graph.value("qq")
    assert "did you mean 'q'?" in str(caught.value)
    with pytest.raises(OptionError, match="unknown graph input 'q'"):
        graph.forward(q=1.0)
    with pytest.raises(OptionError, match="more values than inputs"):
        graph.forward(1.0, 2.0, 3.0, 4.0)


def test_a_new_value_has_the_shape_of_the_first() -> None:
    graph = Graph(lambda x: x.sum(), x=np.zeros(3))
    with pytest.raises(ShapeError, match="x has another shape than in the first run"):
        graph.forward(x=np.zeros(4))


def test_parameters_read_inside_are_leaves_with_their_current_values() -> None:
    w = cr.Parameter([2.0, 3.0], name="w")
    graph = Graph(lambda x: (w * x).sum(), x=np.float32([1.0, 10.0]))
    assert [n.kind for n in graph][:2] == ["input", "variable"]
    assert graph.value(graph.outputs[0]).item() == 32.0
    cr.assign(w, [0.0, 1.0])
    assert graph.forward().item() == 10.0
    assert graph.backward()["x"].tolist() == [0.0, 1.0]
    assert graph.gradient("w").tolist() == [1.0, 10.0]
    assert w.grad is None, "a Graph keeps its gradients to itself"


def test_integers_and_masks_are_nodes_without_gradient() -> None:
    graph = Graph(lambda x, i: (x * 1)[i].sum(), x=[1.0, 2.0, 3.0], i=[0, 0])
    assert graph.forward(i=[2, 1]).item() == 5.0
    assert graph.backward()["x"].tolist() == [0.0, 1.0, 1.0]
    with pytest.raises(GradientError, match="i has no gradient"):
        graph.gradient("i")
    with pytest.raises(IndexingError, match="reads outside its operand"):
        graph.forward(x=[0.0, 0.0, 0.0], i=[7, 0])
    assert graph.value("v1").tolist() == [1.0, 2.0, 3.0], "a failed run changes nothing"
    assert graph.forward().item() == 5.0


def test_comparisons_are_traced_so_that_a_replay_takes_the_other_branch() -> None:
    graph = Graph(lambda x: cr.where(x > 0, x * 2, x * 3), x=1.0)
    assert graph.forward(x=-1.0).item() == -3.0
    assert graph.backward()["x"].item() == 3.0


def test_several_outputs_are_seeded_one_by_one() -> None:
    graph = Graph(lambda x: (x * 2, x * x), x=3.0)
    assert [y.item() for y in graph.forward(x=5.0)] == [10.0, 25.0]
    assert graph.backward()["x"].item() == 12.0
    assert graph.backward((1.0, 0.0))["x"].item() == 2.0
    with pytest.raises(GradientError, match="wrong number of output gradients"):
        graph.backward((1.0,))


def test_a_graph_of_recorded_tensors_has_their_leaves_as_inputs() -> None:
    x = cr.Tensor([1.0, 2.0], requires_grad=True)
    w = cr.Parameter([3.0, 4.0], name="w")
    data = cr.Tensor([5.0, 6.0], name="data")
    loss = (w * x * data).sum()
    graph = Graph.of(loss)
    assert {n.name for n in graph.inputs} == {"c1", "data"}
    assert graph.backward()["c1"].tolist() == [15.0, 24.0]
    assert graph.forward(data=[1.0, 0.0]).item() == 3.0


def test_a_graph_of_nothing_recorded_is_an_error() -> None:
    with pytest.raises(GradientError, match="nothing was recorded"):
        Graph.of(cr.Tensor(1.0) * 2)


def test_a_function_that_returns_no_tensor_is_named() -> None:
    with pytest.raises(DtypeError, match="did not return a tensor"):
        Graph(lambda x: x.item(), x=1.0)


def test_repeated_names_are_told_apart() -> None:
    def twice(x: Any) -> Any:
        for _ in range(3):
            x = x * 2
            x.name = "h"
        return x

    assert [n.name for n in Graph(twice, 1.0)][-3:] == ["h", "h_2", "h_3"]


def test_a_derivative_can_be_traced_too() -> None:
    graph = Graph(grad(lambda x: x**3), 2.0)
    assert graph.value(graph.outputs[0]).item() == 12.0
    assert graph.forward(x=3.0).item() == 27.0
    assert graph.backward()["x"].item() == 18.0


def test_a_graph_of_100000_nodes_is_built_replayed_differentiated_and_freed() -> None:
    def deep(x: Any) -> Any:
        for _ in range(100_000):
            x = x + 1.0
        return x

    graph = Graph(deep, x=1.0)
    assert len(graph) == 100_002
    assert graph.forward(x=2.0).item() == 100_002.0
    assert graph.backward()["x"].item() == 1.0
    assert "99942 more" in str(graph)
    assert len(str(graph).splitlines()) == 62
    del graph


# ------------------------------------------------------------------ the parts of models


def test_nodes_know_the_layers_in_which_they_were_made():
    from chainrule import nn

    class Block(nn.Module):
        def __init__(self):
            self.layer = nn.Dense(2, 2)

        def forward(self, x):
            before = x * 2.0
            return self.layer(before) + before

    block = Block()
    graph = Graph(lambda x: block(x) - 1.0, np.ones((3, 2), "float32"))
    made = {
        n.op.name + n.name: [type(c.part).__name__ for c in n.within]
        for n in graph
        if n.op is not None
    }
    assert made == {
        "multiplyv1": ["Block"],
        "matmulv2": ["Block", "Dense"],
        "addv3": ["Block", "Dense"],
        "addv4": ["Block"],
        "subtractv5": [],
    }
    assert all(n.within == () for n in graph if n.op is None)


def test_parameters_and_buffers_have_the_paths_of_the_outermost_model():
    from chainrule import nn

    model = nn.Sequential(a=nn.Dense(2, 2), b=nn.Sequential(nn.BatchNorm(2)))
    graph = Graph(model.eval(), np.ones((3, 2), "float32"))
    names = {n.name for n in graph if n.kind == "variable"}
    assert {"a.weight", "a.bias", "b.0.scale", "b.0.mean"} <= names
    assert graph.node("a.weight").tensor is model["a"].weight


def test_runs_are_noted_only_while_tracing():
    from chainrule import nn
    from chainrule.core.mode import mode
    from chainrule.core.trace import tracing

    layer = nn.Dense(2, 2)
    layer(np.ones((1, 2), "float32"))
    assert mode.calls is None
    with tracing() as outer:
        layer(np.ones((1, 2), "float32"))
        with tracing() as inner:
            assert inner == []
        assert [call.part for call in outer] == [layer]
        assert outer[0].begin < outer[0].end
    assert mode.calls is None
