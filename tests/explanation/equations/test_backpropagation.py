"""The four δ equations against automatic differentiation and differences."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import NonFiniteError, OptionError, ShapeError
from chainrule.explanation.equations import backpropagation

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 3)), RNG.uniform(size=(7, 4))


def network(activation: str = "sigmoid", last: str | None = None) -> nn.Sequential:
    """The lecture's example: L = 4, s = (3, 5, 5, 4)."""
    f = partial(nn.activation, activation)
    end = nn.activation(last or activation)
    layers = (nn.Dense(3, 5), f(), nn.Dense(5, 5), f(), nn.Dense(5, 4), end)
    net = nn.Sequential(*layers).initialize(3)
    for _, p in net.named_parameters():
        p.data[...] = np.random.default_rng(p.size).normal(size=p.shape) * 0.7
    return net


def test_the_lectures_example_has_its_sizes_and_74_parameters() -> None:
    found = backpropagation(network(), X, Y)
    text = str(found)
    assert "L = 4 layers of 3, 5, 5, 4 units: 74 parameters" in text
    assert [layer.dw.shape for layer in found.layers] == [(5, 3), (5, 5), (4, 5)]
    for line in (
        "δ⁴ = (a⁴ - y) ⊙ f′(z⁴)",
        "δ³ = (W³ᵀ δ⁴) ⊙ f′(z³)",
        "δ² = (W²ᵀ δ³) ⊙ f′(z²)",
        "∂J/∂W³ = 1/n · δ⁴ a³ᵀ,  ∂J/∂b³ = 1/n · Σ δ⁴",
    ):
        assert line in text
    assert "the transpose of the layer's own weight" in text


@pytest.mark.parametrize("name", [n for n in nn.ACTIVATIONS if "softmax" not in n])
def test_every_activation_agrees_with_automatic_differentiation(name: str) -> None:
    net = network(name)
    found = backpropagation(net, X, Y)
    assert found.difference_to_automatic < 1e-13
    assert found.difference_by_loop < 1e-13
    # And with an automatic gradient of our own, in the layers' own convention.
    wide = network(name).astype("float64")
    loss = ((wide(X) - Y) ** 2).sum() / (2 * len(X))
    loss.backward()
    for layer, i in zip(found.layers, (0, 2, 4), strict=True):
        dense: Any = wide[i]
        np.testing.assert_allclose(layer.dw.T, dense.weight.grad.data, rtol=1e-9)
        np.testing.assert_allclose(layer.db[:, 0], dense.bias.grad.data, rtol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_agree_with_automatic_differentiation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, rng.integers(2, 7)).tolist()
    names = [n for n in nn.ACTIVATIONS if "softmax" not in n]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers.append(nn.Dense(before, after, bias=bool(rng.integers(2))))
        layers += [nn.activation(n) for n in rng.choice(names, rng.integers(3))]
    net = nn.Sequential(*layers).initialize(seed)
    n = int(rng.integers(1, 6))
    x, loss = rng.normal(size=(n, sizes[0])), ["svm", "softmax", None][seed % 3]
    y = rng.normal(size=(n, sizes[-1])) if loss is None else rng.integers(
        0, sizes[-1], n
    )  # fmt: skip
    found = backpropagation(net, x, y, loss)
    assert found.network.sizes == tuple(sizes)
    assert found.difference_to_automatic < 1e-12
    assert found.difference_by_loop < 1e-12
    assert str(found)
    assert found.latex()


def test_a_linear_classifier_has_two_layers() -> None:
    net = nn.linear((2, 2, 1), 3)
    found = backpropagation(net, RNG.normal(size=(4, 2, 2, 1)), [0, 1, 2, 0], "softmax")
    assert "L = 2 layers of 4, 3 units: 15 parameters" in str(found)
    softmax = np.full((3, 4), 1 / 3) - np.eye(3)[[0, 1, 2, 0]].T
    np.testing.assert_allclose(found.layers[0].delta, softmax, atol=1e-15)


def test_delta_is_what_differences_of_z_measure() -> None:
    found = backpropagation(network("tanh"), X, Y)
    for layer in found.layers:
        table = found.demon(layer.number, 2, example=5, changes=(1e-5, -1e-5))
        up, down = (row.measured for row in table.rows)
        slope = (up - down) / 2e-5
        assert slope == pytest.approx(layer.delta[2, 5], rel=1e-6)


def test_the_demons_error_falls_with_the_square_of_the_change() -> None:
    rows = backpropagation(network(), X, Y).demon(changes=(0.01, 0.001)).rows
    assert [row.layer for row in rows] == [2, 2, 3, 3, 4, 4]
    for large, small in zip(rows[::2], rows[1::2], strict=True):
        missed = abs(large.measured - large.foretold)
        assert 0 < missed < 0.2 * abs(large.foretold)
        assert abs(small.measured - small.foretold) < missed / 30
        assert large.foretold == pytest.approx(10 * small.foretold)


LOSSES: list[tuple[Any, Any, str]] = [
    ("softmax", np.arange(7) % 4, "mean"),
    ("svm", np.arange(7) % 4, "mean"),
    ("sigmoid", Y, "mean"),
    (partial(nn.squared_error, reduction="sum"), Y, "sum"),
    (lambda a, y: ((a - y) ** 2).sum() ** 2, Y, "joint"),
    (
        partial(nn.softmax_cross_entropy, class_weights=[1.0, 2.0, 3.0, 4.0]),
        np.arange(7) % 4,
        "joint",
    ),
]


@pytest.mark.parametrize(("loss", "targets", "reduction"), LOSSES)
def test_another_loss_changes_the_last_delta_only(
    loss: Any, targets: Any, reduction: str
) -> None:
    net = network("tanh", "identity")
    found, squared = backpropagation(net, X, targets, loss), backpropagation(net, X, Y)
    assert found.reduction == reduction
    assert found.difference_to_automatic < 1e-13
    assert found.difference_by_loop < 1e-13
    a, b = str(found), str(squared)
    assert "δ⁴ = ∂J/∂a⁴ ⊙ f′(z⁴)" in a
    assert "δ⁴ = (a⁴ - y) ⊙ f′(z⁴)" in b
    for line in ("δ³ = (W³ᵀ δ⁴) ⊙ f′(z³)", "δ² = (W²ᵀ δ³) ⊙ f′(z²)"):
        assert line in a
        assert line in b


def test_softmax_at_the_end_couples_the_units() -> None:
    net = network("tanh", "softmax")
    found = backpropagation(net, X, np.arange(7) % 4, nn.multinomial_logistic)
    assert found.layers[-1].slope is None
    assert "δ⁴ = (∂a⁴/∂z⁴)ᵀ ∂J/∂a⁴" in str(found)
    assert found.difference_to_automatic < 1e-12
    probabilities = found.layers[-1].a
    wanted = probabilities - np.eye(4)[np.arange(7) % 4].T
    np.testing.assert_allclose(found.layers[-1].delta, wanted, atol=1e-12)


def test_flattening_dropout_that_is_off_and_layers_without_bias_are_read() -> None:
    net = nn.Sequential(
        nn.Standardize(np.full(1, 0.5), np.full(1, 2.0)),
        nn.Sequential(nn.Flatten(), nn.Dense(6, 4, bias=False)),
        nn.Dropout(0.5),
        nn.Function(cr.tanh),
        nn.Dense(4, 2),
    )
    net.initialize(0).eval()
    x = RNG.integers(0, 255, (3, 2, 3, 1)).astype(np.uint8)
    found = backpropagation(net, x, np.zeros((3, 2)))
    assert found.network.sizes == (6, 4, 2)
    assert found.network.num_parameters == net.num_parameters() == 34
    assert found.difference_to_automatic < 1e-12
    assert found.a.max() <= (255 - 0.5) / 2


def test_large_arrays_are_told_by_their_range_and_small_ones_written_out() -> None:
    net = nn.mlp((28, 28, 1), (100,), 10).initialize(0)
    text = str(backpropagation(net, RNG.normal(size=(2, 28, 28, 1)), np.ones((2, 10))))
    assert "a¹ is 784×2, from " in text
    assert len(text) < 6000
    one = backpropagation(network(), X[:1], Y[:1])
    delta = one.layers[-1].delta[:, 0]
    for value in delta:
        assert f"{value:.4g}" in str(one)


def test_latex_has_the_lectures_equations() -> None:
    latex = backpropagation(network(), X, Y).latex()
    assert (
        r"\delta^{(3)} &= \left(W^{(3)}\right)^T \delta^{(4)} \odot f'(z^{(3)})"
        in latex
    )
    assert r"\delta^{(4)} &= \left(a^{(4)} - y\right) \odot f'(z^{(4)})" in latex
    assert latex.count("{") == latex.count("}")
    assert latex.count(r"\left") == latex.count(r"\right")


def test_the_model_is_left_as_it_is() -> None:
    net = network()
    net.freeze("0")
    before = {n: p.numpy().copy() for n, p in net.named_parameters()}
    found = backpropagation(net, X, Y)
    assert found.difference_to_automatic < 1e-13
    for name, p in net.named_parameters():
        assert p.dtype == np.float32
        assert np.array_equal(p.numpy(), before[name])
        assert p.grad is None
        assert p.requires_grad == (not name.startswith("0."))


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (nn.cnn((8, 8, 1), 10), "stage1.conv: Conv; it learns, and is not dense"),
        (
            nn.Sequential(nn.Dense(3, 3), nn.Residual(nn.Dense(3, 3))),
            "1: Residual; it is neither dense nor an activation",
        ),
        (
            nn.Sequential(nn.Dense(3, 3), nn.BatchNorm(3)),
            "1: BatchNorm; it is neither dense nor an activation",
        ),
        (nn.mlp(3, (4,), 2, dropout=0.5), "dropout1: Dropout; it draws a mask"),
        (
            nn.Sequential(nn.Dense(3, 3), nn.Softmax(), nn.Dense(3, 3)),
            "0: Softmax; its units are coupled inside the network",
        ),
        (
            nn.Sequential(nn.Dense(3, 3), nn.Function(lambda z: z - z.mean())),
            "1: Function; it is neither dense nor an activation",
        ),
    ],
    ids=["cnn", "residual", "batch norm", "dropout", "softmax inside", "mean"],
)
def test_other_networks_are_refused_by_the_layer(model: nn.Module, got: str) -> None:
    with pytest.raises(OptionError, match="not dense layers and activations") as caught:
        backpropagation(model, X, Y)
    assert caught.value.got == got


def test_a_layer_used_twice_and_no_layer_at_all_are_refused() -> None:
    shared = nn.Dense(3, 3)
    with pytest.raises(OptionError, match="in a row") as caught:
        backpropagation(nn.Sequential(shared, nn.Tanh(), shared), X, X)
    assert "it is used twice" in caught.value.got
    with pytest.raises(OptionError, match="backpropagation: not a model"):
        backpropagation(cr.tanh, X, X)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="there is no dense layer"):
        backpropagation(nn.Sequential(nn.Flatten()), X, X)


def test_inputs_losses_and_questions_that_do_not_fit_are_told() -> None:
    net = network()
    with pytest.raises(ShapeError, match="not a batch of the network's inputs"):
        backpropagation(net, X[0], Y[0])
    with pytest.raises(ShapeError, match="not a batch"):
        backpropagation(net, X[:, :2], Y)
    with pytest.raises(ShapeError, match="the loss is not one number"):
        backpropagation(net, X, Y, lambda a, y: a - y)
    with pytest.raises(NonFiniteError, match="the loss is not finite"):
        backpropagation(net, X * np.nan, Y)
    found = backpropagation(net, X, Y)
    with pytest.raises(OptionError, match="no such layer"):
        found.demon(1)
    with pytest.raises(OptionError, match="layer 2 has no unit 5"):
        found.demon(2, 5)
    with pytest.raises(OptionError, match="no such example"):
        found.demon(example=7)
