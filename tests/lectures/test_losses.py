"""The lectures' rows about losses and penalties, with the lectures' own formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

N, K = 6, 3
RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(N, K))
LABELS = RNG.integers(0, K, N)
ONE_HOT = np.eye(K)[LABELS]
OUTPUTS, TARGETS = RNG.normal(size=(N, K)), RNG.normal(size=(N, K))


def value_and_gradient(loss: Any, outputs: Any, *args: Any, **options: Any) -> Any:
    x = cr.Tensor(outputs, requires_grad=True)
    y = loss(x, *args, **options)
    y.backward()
    return y.item(), x.grad.data


def softmax(s: Any) -> Any:
    e = np.exp(s)
    return e / e.sum(axis=1, keepdims=True)


def test_logistic_loss_is_a_sum_with_gradient_h_minus_y() -> None:
    s, y = SCORES[:, 0], np.array([0, 1, 1, 0, 1, 0])
    h = 1 / (1 + np.exp(-s))
    value, slope = value_and_gradient(nn.sigmoid_cross_entropy, s, y, reduction="sum")
    assert value == pytest.approx(-(y * np.log(h) + (1 - y) * np.log(1 - h)).sum())
    np.testing.assert_allclose(slope, h - y)


def test_softmax_cross_entropy_has_gradient_h_minus_y_over_n() -> None:
    h = softmax(SCORES)
    value, slope = value_and_gradient(nn.softmax_cross_entropy, SCORES, LABELS)
    assert value == pytest.approx(-np.log(h[np.arange(N), LABELS]).mean())
    np.testing.assert_allclose(slope, (h - ONE_HOT) / N)


def test_extended_cross_entropy_lets_all_terms_contribute() -> None:
    h = softmax(SCORES)
    terms = ONE_HOT * np.log(h) + (1 - ONE_HOT) * np.log(1 - h)
    value, slope = value_and_gradient(nn.extended_cross_entropy, SCORES, LABELS)
    assert value == pytest.approx(-terms.sum() / N)
    dh = -(ONE_HOT / h - (1 - ONE_HOT) / (1 - h)) / N
    np.testing.assert_allclose(
        slope, h * (dh - (dh * h).sum(axis=1, keepdims=True)), rtol=1e-10
    )


def test_sigmoid_cross_entropy_treats_every_label_by_itself() -> None:
    y = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]] * 2)
    h = 1 / (1 + np.exp(-SCORES))
    value, slope = value_and_gradient(nn.sigmoid_cross_entropy, SCORES, y)
    assert value == pytest.approx(-(y * np.log(h) + (1 - y) * np.log(1 - h)).sum() / N)
    np.testing.assert_allclose(slope, (h - y) / N)


def test_multiclass_hinge_counts_classes_inside_the_margin() -> None:
    s = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    labels = np.array([0, 1, 2])
    each = nn.multiclass_hinge(s, labels, reduction="none")
    np.testing.assert_allclose(each.data, [2.9, 0.0, 12.9])
    value, slope = value_and_gradient(nn.multiclass_hinge, s, labels)
    assert value == pytest.approx((2.9 + 12.9) / 3)
    np.testing.assert_allclose(slope * 3, [[-1, 1, 0], [0, 0, 0], [1, 1, -2]])


def test_small_random_weights_start_at_the_losses_one_expects() -> None:
    s = np.random.default_rng(1).normal(size=(1000, 10)) * 1e-4
    labels = np.arange(1000) % 10
    assert nn.multiclass_hinge(s, labels).item() == pytest.approx(9.0, abs=1e-3)
    assert nn.softmax_cross_entropy(s, labels).item() == pytest.approx(
        np.log(10), abs=1e-3
    )


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"half": True, "reduction": "sum"}, 0.5),  # ½‖y - ŷ‖²
        ({"reduction": "sum"}, 1.0),  # ‖y - ŷ‖² and summed squares
        ({"half": True}, 0.5 / N),  # mean squared with ½·1/n
        ({}, 1 / N),
    ],
    ids=["half", "summed", "half mean", "mean"],
)
def test_squared_error_in_the_lectures_forms(options: Any, factor: float) -> None:
    value, slope = value_and_gradient(nn.squared_error, OUTPUTS, TARGETS, **options)
    assert value == pytest.approx(factor * ((OUTPUTS - TARGETS) ** 2).sum())
    np.testing.assert_allclose(slope, 2 * factor * (OUTPUTS - TARGETS))


def model() -> nn.Module:
    return nn.mlp(4, (3,), 2).initialize(0).astype("float64")


def test_l2_regularisation_adds_lambda_w_squared_with_gradient_2_lambda_w() -> None:
    net = model()
    weights = [net["hidden1"].weight, net["output"].weight]
    penalty = nn.l2_penalty(net, 0.1)
    assert penalty.item() == pytest.approx(
        0.1 * sum((w.data**2).sum() for w in weights)
    )
    penalty.backward()
    for w in weights:
        np.testing.assert_allclose(w.grad.data, 2 * 0.1 * w.data)
    assert net["hidden1"].bias.grad is None


def test_l2_regularisation_over_2n_has_gradient_lambda_w_over_n() -> None:
    net = model()
    w = net["output"].weight
    nn.l2_penalty(net, 0.1, num_examples=50).backward()
    np.testing.assert_allclose(w.grad.data, 0.1 * w.data / 50)


def test_elastic_net_is_beta_w_squared_plus_the_size_of_w() -> None:
    net = model()
    w = net["output"].weight
    nn.elastic_net(net, 0.1, beta=0.3).backward()
    expected = 0.1 * (2 * 0.3 * w.data + np.sign(w.data))
    np.testing.assert_allclose(w.grad.data, expected)


def test_dropout_regularises_in_training_only() -> None:
    net = nn.mlp(4, (50,), 2, dropout=0.5).initialize(0)
    x = np.ones((1, 4), np.float32)
    assert (net(x).data != net(x).data).any()
    net.eval()
    assert (net(x).data == net(x).data).all()
