"""The lectures' examples of derivatives and graphs, with their own numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff import (
    check_gradients,
    difference_table,
    grad,
    jacobian,
    numerical_gradient,
    vjp,
)
from chainrule.core.gate import Gate
from chainrule.core.graph import OPS
from chainrule.core.trace import Graph
from chainrule.errors import GradientError

Array = Any


# ---- f = (x + y)·z (aarhus, intellivision)


def product_of_sum(x: Any, y: Any, z: Any) -> Any:
    q = x + y
    q.name = "q"
    return q * z


def test_f_is_x_plus_y_times_z_with_gradients_minus_4_minus_4_3() -> None:
    x, y, z = (cr.Tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
    f = product_of_sum(x, y, z)
    f.backward()
    assert f.item() == -12.0
    assert (x.grad.item(), y.grad.item(), z.grad.item()) == (-4.0, -4.0, 3.0)


def test_f_is_x_plus_y_times_z_gate_by_gate() -> None:
    graph = Graph(product_of_sum, x=-2.0, y=5.0, z=-4.0)
    graph.backward()
    values = {n.name: (n.value.item(), graph.gradient(n).item()) for n in graph}
    assert values == {
        "x": (-2.0, -4.0),
        "y": (5.0, -4.0),
        "z": (-4.0, 3.0),
        "q": (3.0, -4.0),
        "product_of_sum": (-12.0, 1.0),
    }


# ---- the two-weight ReLU network (stanford, toronto)


def two_weight_loss(w1: Any, w2: Any, x: Any, y: Any) -> Any:
    f = w1 * x
    g = cr.relu(f)
    y_hat = w2 * g
    f.name, g.name, y_hat.name = "f", "g", "y_hat"
    return 0.5 * (y_hat - y) ** 2


def test_two_weight_relu_network_has_gradients_80_and_120() -> None:
    graph = Graph(two_weight_loss, w1=3.0, w2=2.0, x=5.0, y=22.0)
    found = graph.backward()
    assert (graph.value("y_hat") - graph.value("y")).item() == 8.0
    assert (found["w1"].item(), found["w2"].item()) == (80.0, 120.0)


def test_two_weight_relu_network_gradient_is_the_product_5_1_2_8() -> None:
    graph = Graph(two_weight_loss, w1=3.0, w2=2.0, x=5.0, y=22.0)
    graph.backward()
    chain = [graph.gradient(name).item() for name in ("y_hat", "g", "f", "w1")]
    local = [chain[0], *(b / a for a, b in itertools.pairwise(chain))]
    assert local == [8.0, 2.0, 1.0, 5.0]
    assert np.prod(local) == 80.0


def test_two_weight_relu_network_reuses_the_gradient_of_y_hat() -> None:
    graph = Graph(two_weight_loss, w1=3.0, w2=2.0, x=5.0, y=22.0)
    found = graph.backward()
    shared = graph.gradient("y_hat").item()
    assert found["w2"].item() == graph.value("g").item() * shared == 15 * 8


# ---- the sigmoid neuron (four lectures)

W, X = np.array([2.0, -3.0, -3.0]), np.array([-1.0, -2.0])


def neuron_of_six_gates(w: Any, x: Any) -> Any:
    score = w[0] * x[0] + w[1] * x[1] + w[2]
    return 1 / (cr.exp(score * -1) + 1)


def neuron_of_one_gate(w: Any, x: Any) -> Any:
    return cr.sigmoid(w[0] * x[0] + w[1] * x[1] + w[2])


@pytest.mark.parametrize("neuron", [neuron_of_six_gates, neuron_of_one_gate])
def test_sigmoid_neuron_is_07311_with_the_known_gradients(neuron: Any) -> None:
    assert abs(neuron(cr.Tensor(W), cr.Tensor(X)).item() - 0.7311) < 5e-5
    dw, dx = grad(neuron, (0, 1))(W, X)
    assert np.abs(dw.data - [-0.1966, -0.3932, 0.1966]).max() < 5e-5
    assert np.abs(dx.data - [0.3932, -0.5898]).max() < 5e-5


def test_sigmoid_neuron_by_six_gates_and_by_one_sigmoid_gate_agree() -> None:
    for argument in (0, 1):
        six = grad(neuron_of_six_gates, argument)(W, X)
        one = grad(neuron_of_one_gate, argument)(W, X)
        assert np.allclose(six.data, one.data, rtol=1e-14)


def test_sigmoid_neuron_shows_the_figures_numbers_along_its_gates() -> None:
    graph = Graph(neuron_of_six_gates, W, X)
    graph.backward()
    tail = [n for n in graph if n.kind == "op"][-5:]
    values = [round(n.value.item(), 2) for n in tail]
    slopes = [round(graph.gradient(n).item(), 2) for n in tail]
    assert values == [1.0, -1.0, 0.37, 1.37, 0.73]
    assert slopes == [0.2, -0.2, -0.53, -0.53, 1.0]


def test_sigmoid_neuron_with_the_bias_first() -> None:
    w = np.array([-3.0, 2.0, -3.0])
    neuron = lambda w, x: cr.sigmoid(w[0] + w[1] * x[0] + w[2] * x[1])  # noqa: E731
    dw = grad(neuron)(w, X)
    assert np.abs(dw.data - [0.1966, -0.1966, -0.3932]).max() < 5e-5


# ---- ‖Wx‖² (intellivision)

MATRIX, VECTOR = np.array([[0.1, 0.5], [-0.3, 0.8]]), np.array([0.2, 0.4])


def squared_norm(w: Any, x: Any) -> Any:
    q = w @ x
    q.name = "q"
    return (q * q).sum()


def test_squared_norm_of_w_x_has_the_lectures_numbers() -> None:
    graph = Graph(squared_norm, MATRIX, VECTOR)
    found = graph.backward()
    assert np.allclose(graph.value("q").data, [0.22, 0.26])
    assert np.allclose(graph.value("squared_norm").data, 0.116)
    assert np.allclose(graph.gradient("q").data, [0.44, 0.52])
    assert np.allclose(found["w"].data, [[0.088, 0.176], [0.104, 0.208]])
    assert np.allclose(found["x"].data, [-0.112, 0.636])


def test_squared_norm_of_w_x_has_gradients_2_q_x_t_and_2_w_t_q() -> None:
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(5, 3)), rng.normal(size=3)
    dw, dx = grad(squared_norm, (0, 1))(w, x)
    q = w @ x
    assert np.allclose(dw.data, 2 * np.outer(q, x))
    assert np.allclose(dx.data, 2 * w.T @ q)


def test_squared_norm_of_w_x_shape_of_a_gradient_is_the_shape_of_its_variable() -> None:
    graph = Graph(squared_norm, MATRIX, VECTOR)
    graph.backward()
    for node in graph:
        assert graph.gradient(node).shape == node.spec.shape


# ---- gate patterns (intellivision)


@pytest.mark.parametrize(
    ("op", "pattern"),
    [
        ("add", "distributes"),
        ("maximum", "routes"),
        ("max", "routes"),
        ("multiply", "switches"),
        ("broadcast_to", "a branch adds up"),
    ],
)
def test_gate_patterns_are_stated_by_the_ops(op: str, pattern: str) -> None:
    assert OPS[op].pattern.startswith(pattern)


def test_gate_patterns_every_op_says_how_it_treats_the_gradient() -> None:
    assert [name for name, cls in OPS.items() if not cls.pattern] == []


def test_gate_patterns_hold() -> None:
    def both(f: Callable[..., Any]) -> list[float]:
        return [g.item() for g in grad(f, (0, 1))(3.0, 5.0)]

    assert both(lambda x, y: 7 * (x + y)) == [7.0, 7.0]  # distributes
    assert both(lambda x, y: 7 * cr.maximum(x, y)) == [0.0, 7.0]  # routes
    assert both(lambda x, y: 7 * (x * y)) == [35.0, 21.0]  # switches
    assert both(lambda x, y: 7 * x + 2 * x + y) == [9.0, 1.0]  # a branch adds up


# ---- Jacobians (toronto, stanford, intellivision)


def test_jacobian_of_w_g_is_w_and_its_transpose_in_the_lectures_layout() -> None:
    rng = np.random.default_rng(0)
    w, g = rng.normal(size=(3, 4)), rng.normal(size=4)
    plain = jacobian(lambda g: cr.Tensor(w) @ g, g)
    lecture = jacobian(lambda g: cr.Tensor(w) @ g, g, layout="input_output")
    assert plain.shape == (3, 4), "output × input, as PyTorch and JAX"
    assert lecture.shape == (4, 3), "input × output, as the lectures"
    assert np.array_equal(plain.data, w)
    assert np.array_equal(lecture.data, w.T)


def test_jacobian_of_an_elementwise_product_is_diagonal() -> None:
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(2, 5))
    for layout in ("output_input", "input_output"):
        j = jacobian(lambda f: f * cr.Tensor(g), f, layout)
        assert np.array_equal(j.data, np.diag(g))


def test_jacobian_cases_scalar_and_vector_by_scalar_and_vector() -> None:
    x, s = np.array([1.0, 2.0, 3.0]), np.array(2.0)
    assert jacobian(lambda s: s * s, s).shape == ()
    assert jacobian(lambda x: (x * x).sum(), x).shape == (3,)
    assert jacobian(lambda s: s * cr.Tensor(x), s).shape == (3,)
    assert jacobian(lambda x: x[:2] * 2, x).shape == (2, 3)


def test_jacobian_chain_rule_in_the_lectures_layout_multiplies_left_to_right() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(2, 4))
    x = rng.normal(size=3)
    inner = lambda x: cr.tanh(cr.Tensor(a) @ x)  # noqa: E731
    outer = lambda h: cr.tanh(cr.Tensor(b) @ h)  # noqa: E731
    whole = jacobian(lambda x: outer(inner(x)), x, "input_output")
    parts = jacobian(inner, x, "input_output") @ jacobian(
        outer, inner(cr.Tensor(x)), "input_output"
    )
    assert whole.shape == (3, 2)
    assert np.allclose(whole.data, parts.data)


def test_jacobian_of_relu_on_4096_units_is_64_mib_and_never_formed() -> None:
    assert 4096**2 * 4 == 64 * 2**20, "one example, float32"
    size_bytes = (100 * 4096) ** 2 * 4
    assert 100 * 4096 == 409_600
    assert round(size_bytes / 1e9) == 671, "a minibatch of 100"
    # The pullback needs a vector where the Jacobian has 4096 of them.
    x = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    _, pullback = vjp(cr.relu, x)
    (dx,) = pullback(np.ones(4096, np.float32))
    assert np.array_equal(dx.data, (x > 0).astype(np.float32))
    assert dx.spec.size_bytes == 4096 * 4


def test_jacobian_of_relu_is_diagonal_with_ones_where_the_input_is_positive() -> None:
    x = np.random.default_rng(0).normal(size=16)
    j = jacobian(cr.relu, x)
    assert np.array_equal(j.data, np.diag((x > 0).astype(float)))


# ---- three ways to a derivative (toronto, stanford, aarhus)


def test_three_ways_to_a_derivative_side_by_side_with_error_and_time() -> None:
    pytest.importorskip("sympy")
    found = cr.derivatives(neuron_of_six_gates, at=(W, X), h=1e-6)
    rows = {way.method: way for way in found.ways}
    assert rows["symbolic"].error == 0.0
    assert rows["automatic"].error < 1e-15
    assert 1e-8 < rows["numerical (forward)"].error < 1e-5
    assert rows["numerical (central)"].error < 1e-8
    assert all(way.time_s > 0 for way in found.ways)
    wanted = [-0.196612, -0.393224, 0.196612, 0.393224, -0.589836]
    for way in found.ways:
        assert np.allclose(way.gradient, wanted, atol=1e-6)


@pytest.mark.parametrize(("h", "source"), [(1e-6, "stanford"), (1e-4, "intellivision")])
def test_three_ways_numerical_differences_with_both_lectures_steps(
    h: float, source: str
) -> None:
    exact = grad(squared_norm)(MATRIX, VECTOR).data
    for method, error in (("forward", 2 * h), ("central", 1e-8)):
        found = numerical_gradient(
            lambda w: squared_norm(w, cr.Tensor(VECTOR)), MATRIX, h, method
        )
        assert np.abs(found.data - exact).max() < error


@pytest.mark.parametrize("num_weights", [10, 100, 1000])
def test_three_ways_numerical_cost_grows_with_the_weights_automatic_does_not(
    num_weights: int,
) -> None:
    num_runs = 0

    def loss(w: Any) -> Any:
        nonlocal num_runs
        num_runs += 1
        return (cr.sin(w) ** 2).sum()

    w = np.linspace(0, 1, num_weights)
    numerical = numerical_gradient(loss, w, method="forward")
    assert num_runs == num_weights + 1
    num_runs = 0
    automatic = grad(loss)(w)
    assert num_runs == 1
    assert np.abs(numerical.data - automatic.data).max() < 1e-5


# ---- gradient check (intellivision)


class MultiplyGate(Gate):
    def forward(self, x: Any, y: Any) -> Any:
        self.x = x  # must keep these around
        self.y = y
        return x * y

    def backward(self, dz: Any) -> Any:
        dx = self.y * dz  # ∂z/∂x · ∂L/∂z
        dy = self.x * dz  # ∂z/∂y · ∂L/∂z
        return [dx, dy]


def test_gradient_check_catches_and_locates_a_wrong_backward() -> None:
    class ForgetfulGate(MultiplyGate):
        def backward(self, dz: Any) -> Any:
            return [self.y * dz, self.y * dz]

    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(3, 4))
    right = lambda x, y, z: cr.exp(MultiplyGate()(x + y, z)).sum()  # noqa: E731
    wrong = lambda x, y, z: cr.exp(ForgetfulGate()(x + y, z)).sum()  # noqa: E731
    assert check_gradients(right, x, y, z).passed
    with pytest.raises(GradientError) as caught:
        check_gradients(wrong, x, y, z)
    assert caught.value.what == "check_gradients: wrong gradient in ForgetfulGate"
    assert "= ForgetfulGate(v1, z), by z:" in caught.value.got
    report = check_gradients(wrong, x, y, z, raise_error=False)
    assert [c.name for c in report.wrong] == ["z"]


# ---- the "W + h" table (intellivision)


def test_w_plus_h_table_gives_minus_2_5_then_0_6_then_0() -> None:
    w = np.array([0.34, -1.11, 0.78, 0.12, 0.55, 2.81, -3.1, -1.5, 0.33])
    lecture = {0: 1.25322, 1: 1.25353, 2: 1.25347}

    def loss(moved: Any) -> float:  # the lecture shows only what its loss became
        changed = np.flatnonzero(moved.data != w)
        return lecture[int(changed[0])] if changed.size else 1.25347

    table = difference_table(loss, w, h=0.0001, max_entries=3)
    assert table.values == [0.34, -1.11, 0.78]
    assert np.allclose(table.slopes, [-2.5, 0.6, 0.0], atol=1e-9)
    assert str(table) == (
        "L(W) = 1.25347,  h = 0.0001\n"
        "     entry           W    L(W + h)       dL/dW\n"
        "      W[0]        0.34     1.25322        -2.5\n"
        "      W[1]       -1.11     1.25353         0.6\n"
        "      W[2]        0.78     1.25347           0"
    )


def test_w_plus_h_table_of_a_loss_of_ours_in_float64() -> None:
    w = np.array([0.34, -1.11, 0.78, 0.12])
    x, label = np.array([[1.0, 2.0, -1.0, 0.5]]), 1.0
    loss = lambda w: cr.softplus(-label * (cr.Tensor(x) @ w)).sum()  # noqa: E731
    table = difference_table(loss, w)
    assert np.abs(np.array(table.slopes) - grad(loss)(w).data).max() < 1e-4


# ---- custom gates (stanford, intellivision, aarhus)


def test_custom_gate_multiply_reproduces_the_first_example() -> None:
    found = grad(lambda x, y, z: MultiplyGate()(x + y, z), (0, 1, 2))(-2.0, 5.0, -4.0)
    assert [g.item() for g in found] == [-4.0, -4.0, 3.0]


class SigmoidLayer(Gate):
    """Caffe's: top_diff · σ · (1 - σ), from the output that forward kept."""

    def forward(self, bottom: Any) -> Any:
        self.top = 1 / (1 + np.exp(-bottom.data))
        return self.top

    def backward(self, top_diff: Any) -> Any:
        return top_diff * cr.Tensor(self.top * (1 - self.top))


def test_custom_gate_sigmoid_layer_uses_its_output_and_equals_the_built_in() -> None:
    x = np.linspace(-8, 8, 33)
    ours = grad(lambda x: SigmoidLayer()(x).sum())(x)
    built_in = grad(lambda x: cr.sigmoid(x).sum())(x)
    assert np.allclose(ours.data, built_in.data, rtol=1e-13)
    assert check_gradients(SigmoidLayer(), x).passed


def test_custom_gates_train_a_logistic_unit() -> None:
    rng = np.random.default_rng(0)
    x = cr.Tensor(rng.normal(size=(80, 2)))
    y = cr.Tensor((x.data @ [[1.0], [1.0]] > 0).astype(float))
    w = cr.Parameter(np.zeros((2, 1)))
    losses = []
    for _ in range(60):
        w.grad = None
        h = SigmoidLayer()(x @ w)
        loss = ((h - y) ** 2).mean()
        loss.backward()
        cr.assign(w, w.data - 5.0 * w.grad.data)
        losses.append(loss.item())
    assert losses[0] == 0.25
    assert losses[-1] < 0.04
    accuracy = ((SigmoidLayer()(x @ w).data > 0.5) == y.data).mean()
    assert accuracy > 0.97


def test_custom_gate_appears_in_a_graph_by_its_name() -> None:
    graph = Graph(lambda x, y, z: MultiplyGate()(x + y, z), x=-2.0, y=5.0, z=-4.0)
    graph.backward()
    assert [n.formula for n in graph][-1] == "MultiplyGate(v1, z)"
    assert graph.gradient("v1").item() == -4.0


# ---- the ComputationalGraph object (intellivision)


def test_computational_graph_has_sorted_nodes_forward_and_backward() -> None:
    graph = Graph(product_of_sum, x=-2.0, y=5.0, z=-4.0)
    seen: set[str] = set()
    for node in graph.nodes:
        assert {operand.name for operand in node.inputs} <= seen
        seen.add(node.name)
    assert graph.forward(x=1.0, y=2.0, z=3.0).item() == 9.0
    inputs_gradients = graph.backward()
    assert {k: g.item() for k, g in inputs_gradients.items()} == {
        "x": 3.0,
        "y": 3.0,
        "z": 3.0,
    }
    walked = [n for n in reversed(graph.nodes) if n.kind == "op"]
    assert [n.formula for n in walked] == ["q·z", "x + y"]


# ---- backpropagation by δ (aarhus)

SIZES = (3, 5, 5, 4)
ACTIVATIONS: dict[str, tuple[Any, Any, Any]] = {
    # chainrule's function, and f and f′ in NumPy
    "sigmoid": (
        cr.sigmoid,
        lambda z: 1 / (1 + np.exp(-z)),
        lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    ),
    "tanh": (cr.tanh, np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "softplus": (
        cr.softplus,
        lambda z: np.log1p(np.exp(z)),
        lambda z: 1 / (1 + np.exp(-z)),
    ),
    "relu": (cr.relu, lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
}


def network(seed: int = 0) -> tuple[list[Array], list[Array]]:
    """W[l] is s_{l+1} × s_l and b[l] a column, as the lecture writes them."""
    rng = np.random.default_rng(seed)
    pairs = list(zip(SIZES[1:], SIZES[:-1], strict=True))
    weights = [rng.normal(size=p) for p in pairs]
    return weights, [rng.normal(size=(n, 1)) for n, _ in pairs]


def examples(n: int = 7) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(SIZES[0], n)), rng.uniform(size=(SIZES[-1], n))


def quadratic_loss(parameters: Any, x: Any, y: Any, activation: Any) -> Any:
    """J = 1/(2n) Σ‖a - y‖², one column for each example."""
    a = x
    for w, b in zip(*parameters, strict=True):
        a = activation(w @ a + b)
    return ((a - y) ** 2).sum() / (2.0 * x.shape[1])


def deltas(
    weights: list[Array], biases: list[Array], x: Array, f: Any, slope: Any, last: Any
) -> tuple[list[Array], list[Array]]:
    """Activations a¹ … aᴸ and errors δ² … δᴸ; ``last`` gives δᴸ of (aᴸ, zᴸ)."""
    activations, sums = [x], []
    for w, b in zip(weights, biases, strict=True):
        sums.append(w @ activations[-1] + b)
        activations.append(f(sums[-1]))
    errors = [last(activations[-1], sums[-1])]
    for w, z in zip(weights[:0:-1], sums[-2::-1], strict=True):
        errors.insert(0, (w.T @ errors[0]) * slope(z))
    return activations, errors


def test_backpropagation_network_of_3_5_5_4_units_has_74_parameters() -> None:
    weights, biases = network()
    assert [w.shape for w in weights] == [(5, 3), (5, 5), (4, 5)]
    assert [b.size for b in biases] == [5, 5, 4]
    assert sum(p.size for p in (*weights, *biases)) == 74


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_backpropagation_by_delta_one_example_at_a_time(name: str) -> None:
    function, f, slope = ACTIVATIONS[name]
    weights, biases = network()
    x, y = examples()
    n = x.shape[1]
    sum_w = [np.zeros_like(w) for w in weights]
    sum_b = [np.zeros_like(b) for b in biases]
    for k in range(n):
        target = y[:, k : k + 1]
        last = lambda a, z, y=target: (a - y) * slope(z)  # noqa: E731
        a, d = deltas(weights, biases, x[:, k : k + 1], f, slope, last)
        for layer in range(3):
            sum_w[layer] += d[layer] @ a[layer].T
            sum_b[layer] += d[layer]
    dw, db = grad(quadratic_loss)((weights, biases), x, cr.Tensor(y), function)
    for layer in range(3):
        assert np.allclose(sum_w[layer] / n, dw[layer].data, rtol=1e-12, atol=1e-15)
        assert np.allclose(sum_b[layer] / n, db[layer].data, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_backpropagation_by_delta_vectorised(name: str) -> None:
    function, f, slope = ACTIVATIONS[name]
    weights, biases = network()
    x, y = examples()
    n = x.shape[1]
    a, d = deltas(weights, biases, x, f, slope, lambda a, z: (a - y) * slope(z))
    dw, db = grad(quadratic_loss)((weights, biases), x, cr.Tensor(y), function)
    for layer in range(3):
        assert np.allclose(d[layer] @ a[layer].T / n, dw[layer].data, rtol=1e-12)
        assert np.allclose(
            d[layer].sum(1, keepdims=True) / n, db[layer].data, rtol=1e-12
        )


def test_backpropagation_another_loss_changes_only_the_last_delta() -> None:
    function, f, slope = ACTIVATIONS["sigmoid"]
    weights, biases = network()
    x, y = examples()

    def cross_entropy(parameters: Any) -> Any:
        z = cr.Tensor(x)
        for i, (w, b) in enumerate(zip(*parameters, strict=True)):
            z = w @ (function(z) if i else z) + b
        return (cr.softplus(z) - cr.Tensor(y) * z).sum() / x.shape[1]

    a, d = deltas(weights, biases, x, f, slope, lambda a, z: a - y)
    dw, _ = grad(cross_entropy)((weights, biases))
    for layer in range(3):
        assert np.allclose(d[layer] @ a[layer].T / x.shape[1], dw[layer].data)


def traced_network() -> Graph:
    """The lecture's network on one example, its z and a named by layer."""
    weights, biases = network()
    x, y = (m[:, :1] for m in examples())

    def loss(W1: Any, b1: Any, W2: Any, b2: Any, W3: Any, b3: Any) -> Any:
        a = cr.Tensor(x, name="a1")
        for layer, (w, b) in enumerate(((W1, b1), (W2, b2), (W3, b3)), start=2):
            z = w @ a + b
            a = cr.sigmoid(z)
            z.name, a.name = f"z{layer}", f"a{layer}"
        return ((a - cr.Tensor(y)) ** 2).sum() * 0.5

    mixed = [p for pair in zip(weights, biases, strict=True) for p in pair]
    return Graph(loss, *mixed)


def test_backpropagation_deltas_are_the_graphs_gradients_of_z() -> None:
    graph = traced_network()
    found = graph.backward()
    _, f, slope = ACTIVATIONS["sigmoid"]
    x, y = (m[:, :1] for m in examples())
    a, d = deltas(*network(), x, f, slope, lambda a, z: (a - y) * slope(z))
    for layer in range(3):
        delta = graph.gradient(f"z{layer + 2}").data
        assert np.allclose(delta, d[layer], rtol=1e-12)
        assert np.allclose(found[f"W{layer + 1}"].data, delta @ a[layer].T, rtol=1e-12)
        assert np.allclose(found[f"b{layer + 1}"].data, delta, rtol=1e-12)
    assert [n.spec.shape for n in graph.inputs[::2]] == [(5, 3), (5, 5), (4, 5)]
    assert "z3    v" in str(graph)


# ---- the demon (aarhus)


@pytest.mark.parametrize("layer", [2, 3, 4])
def test_the_demons_change_of_one_unit_changes_the_loss_by_delta_times_it(
    layer: int,
) -> None:
    _, f, _ = ACTIVATIONS["sigmoid"]
    weights, biases = network()
    x, y = (m[:, :1] for m in examples())
    graph = traced_network()
    graph.backward()
    delta = graph.gradient(f"z{layer}").data

    def loss(unit: int, change: float) -> float:
        a = x
        for current, (w, b) in enumerate(zip(weights, biases, strict=True), start=2):
            z = w @ a + b
            if current == layer:
                z[unit] += change  # the demon sits here
            a = f(z)
        return float(((a - y) ** 2).sum() / 2)

    for unit in range(SIZES[layer - 1]):
        for change in (1e-3, -1e-3):
            measured = loss(unit, change) - loss(unit, 0.0)
            foretold = delta[unit, 0] * change
            assert abs(measured - foretold) < 1e-6, "an error of second order"
            assert measured * foretold > 0
