"""The lectures' rows about models, with the lectures' own numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import erf

import chainrule as cr
from chainrule import nn
from chainrule.core.backward import gradients
from chainrule.explanation import behaviour
from chainrule.explanation.behaviour import Weights, dense

# --------------------------------------------------------------- one unit, and three


def test_perceptron_and_logistic_unit_share_the_line_x2_is_3_minus_x1() -> None:
    unit = dense([[1.0], [1.0]], [-3.0])
    perceptron = nn.Sequential(unit, nn.Threshold())
    logistic = nn.Sequential(unit, nn.Sigmoid())
    x1 = np.linspace(-10, 10, 41)
    for above in (0.5, -0.5):
        points = np.stack([x1, -x1 + 3 + above], axis=1)
        expected = np.full((41, 1), above > 0)
        np.testing.assert_array_equal(perceptron(points).data == 1, expected)
        np.testing.assert_array_equal(logistic(points).data >= 0.5, expected)
    on_the_line = logistic(np.stack([x1, -x1 + 3], axis=1))
    np.testing.assert_allclose(on_the_line.data, 0.5)


def test_perceptron_does_not_move_under_a_small_change_of_w_a_logistic_unit_does() -> (
    None
):
    x = np.array([[1.0, 1.5]])

    def outputs(dw: float) -> tuple[float, float]:
        unit = dense([[1.0 + dw], [1.0]], [-3.0])
        step = nn.Sequential(unit, nn.Threshold())(x).item()
        return step, nn.Sequential(unit, nn.Sigmoid())(x).item()

    (step, smooth), (moved_step, moved_smooth) = outputs(0.0), outputs(0.01)
    assert moved_step == step == 0.0
    slope = smooth * (1 - smooth) * x[0, 0]
    assert moved_smooth - smooth == pytest.approx(0.01 * slope, rel=0.01)
    assert outputs(0.6)[0] == 1.0  # a larger change makes it jump


def test_three_logistic_units_combined_by_a_fourth() -> None:
    x_range = np.linspace(-10, 10, 100)
    x1, x2 = np.meshgrid(x_range, x_range)

    def sigmoid(z: Any) -> Any:
        return 1 / (1 + np.exp(-z))

    h1 = sigmoid(10 * x1 + 10 * x2 - 30)
    h2 = sigmoid(10 * x1 - 10 * x2 - 30)
    h3 = sigmoid(-10 * x1 + x2 - 3)
    panels = [h1, h2, h3, sigmoid(h1 + h2 + h3), sigmoid(10 * (h1 + h2 + h3) - 1)]
    found = list(behaviour.combined_units().panels.values())
    for panel, ours in zip(panels, found, strict=True):
        np.testing.assert_allclose(ours.reshape(100, 100), panel, atol=1e-14)
    added, network = found[3:]
    assert (added >= 0.5).all()
    assert not (network >= 0.5).all()


# -------------------------------------------------------------------------- networks


def test_forward_pass_of_the_3_4_4_1_network() -> None:
    rng = np.random.default_rng(0)
    w1, w2, w3 = (
        rng.normal(size=(4, 3)),
        rng.normal(size=(4, 4)),
        rng.normal(size=(1, 4)),
    )
    b1, b2, b3 = (
        rng.normal(size=(4, 1)),
        rng.normal(size=(4, 1)),
        rng.normal(size=(1, 1)),
    )
    x = rng.normal(size=(3, 1))

    def f(z: Any) -> Any:
        return 1.0 / (1.0 + np.exp(-z))

    expected = w3 @ f(w2 @ f(w1 @ x + b1) + b2) + b3  # columns, as the lecture has it
    model = nn.mlp(3, (4, 4), 1, activation="sigmoid").astype("float64")
    for layer, w, b in zip(list(model)[1::2], (w1, w2, w3), (b1, b2, b3), strict=True):
        cr.assign(layer.weight, w.T)
        cr.assign(layer.bias, b[:, 0])
    np.testing.assert_allclose(model(x.T).data, expected, rtol=1e-14)


def test_mnist_784_30_30_10_has_24790_parameters() -> None:
    assert nn.mlp(784, (30, 30), 10).num_parameters() == 24_790


def test_network_of_3_5_5_4_units_has_74_parameters() -> None:
    model = nn.mlp(3, (5, 5), 4)
    assert model.num_parameters() == 74
    shapes = [p.shape for p in model.parameters() if p.is_penalized]
    assert shapes == [(3, 5), (5, 5), (5, 4)]  # the lecture's W, transposed


def test_hidden_layer_of_784_100_10_is_100_templates_that_classes_share() -> None:
    model = nn.mlp((28, 28, 1), (100,), 10)
    templates = model["hidden1"].weight.data.T.reshape(100, 28, 28)
    assert templates.shape == (100, 28, 28)
    assert model["output"].weight.shape == (100, 10)


def test_layers_without_activation_collapse_to_one_linear_map() -> None:
    model = nn.mlp(6, (5, 4), 3, activation="identity").initialize(0).astype("float64")
    first, second, third = (layer for layer in model if isinstance(layer, nn.Dense))
    for layer in (first, second, third):
        cr.assign(layer.bias, np.random.default_rng(1).normal(size=layer.bias.shape))
    x = np.random.default_rng(0).normal(size=(20, 6))
    weight = first.weight.data @ second.weight.data @ third.weight.data
    bias = (
        first.bias.data @ second.weight.data + second.bias.data
    ) @ third.weight.data + third.bias.data
    np.testing.assert_allclose(model(x).data, x @ weight + bias, rtol=1e-12, atol=1e-12)
    bent = nn.mlp(6, (5, 4), 3).initialize(0).astype("float64")
    zero = bent(np.zeros((1, 6))).data
    assert not np.allclose(bent(x).data - zero, -(bent(-x).data - zero))


def test_twenty_line_network_has_the_lectures_losses() -> None:
    np.random.seed(0)  # noqa: NPY002  the lecture's generator
    num, d_in, width, d_out = 64, 1000, 100, 10
    x, y = np.random.randn(num, d_in), np.random.randn(num, d_out)  # noqa: NPY002
    w1 = cr.Parameter(np.random.randn(d_in, width))  # noqa: NPY002
    w2 = cr.Parameter(np.random.randn(width, d_out))  # noqa: NPY002
    inputs, targets = cr.Tensor(x), cr.Tensor(y)
    losses = []
    for _ in range(2000):
        predictions = cr.sigmoid(inputs @ w1) @ w2
        loss = nn.squared_error(predictions, targets, reduction="sum")
        losses.append(loss.item())
        for w, dw in zip((w1, w2), gradients(loss, (w1, w2)), strict=True):
            cr.assign(w, w.data - 1e-4 * dw.data)
    assert losses[0] == pytest.approx(24635.893, abs=5e-4)
    assert losses[499] == pytest.approx(211.8558, abs=5e-5)
    assert losses[1999] == pytest.approx(4.348503, abs=5e-7)


def test_residual_network_trains_where_plain_depth_stalls() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)

    def first_layers_gradient(is_residual: bool) -> float:
        blocks = [nn.Sequential(nn.Dense(8, 8), nn.Sigmoid()) for _ in range(20)]
        chain = [nn.Residual(b) if is_residual else b for b in blocks]
        model = nn.Sequential(*chain, nn.Dense(8, 2)).initialize(0)
        nn.softmax_cross_entropy(model(x), y).backward()
        return float(abs(blocks[0][0].weight.grad.data).max())

    assert first_layers_gradient(False) < 1e-9
    assert first_layers_gradient(True) > 1e-3


# ----------------------------------------------------------------------- activations

ACTIVATIONS = {
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 0.25),
    "tanh": (np.tanh, 1.0),
    "relu": (lambda x: np.maximum(x, 0), 0.0),
    "leaky_relu": (lambda x: np.maximum(0.1 * x, x), 0.1),
    "elu": (lambda x: np.where(x > 0, x, np.exp(x) - 1), 1.0),
    "gelu": (lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))), 0.5),
    "identity": (lambda x: x, 1.0),
    "softplus": (lambda x: np.log(1 + np.exp(x)), 0.5),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_the_lectures_values_and_derivatives(name: str) -> None:
    formula, slope_at_0 = ACTIVATIONS[name]
    points = np.array([-4.0, -1.5, -0.25, 0.0, 0.25, 1.5, 4.0])
    x = cr.Tensor(points, requires_grad=True)
    y = nn.activation(name)(x)
    np.testing.assert_allclose(y.data, formula(points), rtol=1e-13)
    y.sum().backward()
    h = 1e-6
    differences = (formula(points + h) - formula(points - h)) / (2 * h)
    away = points != 0  # at its kink a function has no derivative, we choose one
    np.testing.assert_allclose(x.grad.data[away], differences[away], rtol=1e-8)
    assert x.grad.data[3] == pytest.approx(slope_at_0)


def test_gelu_by_sigmoid_is_x_times_sigmoid_of_1_702_x() -> None:
    x = np.linspace(-3, 3, 13)
    y = nn.GELU("sigmoid")(x).data
    np.testing.assert_allclose(y, x / (1 + np.exp(-1.702 * x)), rtol=1e-13)
    assert abs(y - nn.GELU()(x).data).max() < 0.03


def test_maxout_of_two_sums_makes_relu_and_the_absolute_value() -> None:
    x = np.linspace(-2, 2, 9)[:, None]
    for pieces, formula in ([1.0, 0.0], cr.relu), ([1.0, -1.0], cr.abs):
        layer = nn.Maxout(1, 1).astype("float64")
        cr.assign(layer.weight, [pieces])
        np.testing.assert_array_equal(layer(x).data, formula(x).data)


def test_softmax_of_many_scores_sums_to_one() -> None:
    y = nn.Softmax()(np.random.default_rng(0).normal(size=(5, 10)) * 100).data
    np.testing.assert_allclose(y.sum(axis=1), 1)
    assert (y >= 0).all()


# ------------------------------------------------- agreement with scikit-learn's models


def fitted(model: nn.Module, objective: Any) -> nn.Module:
    """The model at the minimum of a smooth objective, by SciPy's L-BFGS."""
    weights = Weights(model)

    def value_and_gradient(flat: Any) -> tuple[float, Any]:
        weights.write(flat)
        loss = objective()
        slopes = gradients(loss, weights.parameters)
        return loss.item(), np.concatenate([g.data.ravel() for g in slopes])

    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(
        value_and_gradient, np.zeros(weights.size), jac=True, method="L-BFGS-B",
        options=options,
    )  # fmt: skip
    weights.write(found.x)
    return model


def data(num_classes: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = np.arange(120) % num_classes
    return rng.normal(size=(120, 4)) + rng.normal(size=(num_classes, 4))[y], y


def test_logistic_regression_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = data(2)
    model = nn.linear(4, 1).astype("float64")

    def objective() -> Any:
        scores = model(x).reshape(-1)
        return nn.sigmoid_cross_entropy(scores, y, reduction="sum") + nn.l2_penalty(
            model, 0.5
        )

    fitted(model, objective)
    peer = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(x, y)
    found = cr.sigmoid(model(x)).data[:, 0]
    np.testing.assert_allclose(found, peer.predict_proba(x)[:, 1], atol=1e-6)
    np.testing.assert_allclose(model["output"].weight.data.T, peer.coef_, atol=1e-5)


def test_softmax_regression_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = data(3)
    model = nn.linear(4, 3).astype("float64")

    def objective() -> Any:
        loss = nn.softmax_cross_entropy(model(x), y, reduction="sum")
        return loss + nn.l2_penalty(model, 0.5)

    fitted(model, objective)
    peer = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(x, y)
    np.testing.assert_allclose(
        cr.softmax(model(x)).data, peer.predict_proba(x), atol=1e-6
    )
    np.testing.assert_allclose(model["output"].weight.data.T, peer.coef_, atol=1e-5)


def test_softmax_gives_one_class_and_independent_sigmoids_any_number() -> None:
    scores = np.array([[3.0, 3.0, -3.0, -3.0]])
    exclusive, independent = cr.softmax(scores).data, cr.sigmoid(scores).data
    assert exclusive.sum() == pytest.approx(1)
    assert (exclusive > 0.5).sum() == 0
    assert (independent > 0.5).sum() == 2


# -------------------------------------------------------------- universal approximation


@pytest.mark.parametrize("build", [behaviour.bumps, behaviour.towers])
def test_universal_approximation_gets_closer_with_more_units(build: Any) -> None:
    def f(x: Any) -> Any:
        return np.sin(2 * np.pi * x) + 0.5 * x

    x = np.linspace(0.005, 0.995, 500)[:, None]
    errors = [float(abs(build(f, n)(x).data - f(x)).mean()) for n in (4, 16, 64)]
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[1] / 2
    assert errors[2] < 0.05


def test_one_tower_has_the_height_width_and_place_that_were_set() -> None:
    tower = behaviour.tower(height=2.5, left=0.3, right=0.55)
    x = np.array([[0.25], [0.35], [0.5], [0.6]])
    expected = [[0.0], [2.5], [2.5], [0.0]]
    np.testing.assert_allclose(tower(x).data, expected, atol=1e-12)
