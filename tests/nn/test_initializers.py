from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import init

SHAPE = (3, 3, 40, 50)  # fan-in 360, fan-out 450


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_normal", 2 / 810),
        ("glorot_uniform", 2 / 810),
        ("xavier_normal", 2 / 810),
        ("xavier_uniform", 2 / 810),
        ("he_normal", 2 / 360),
        ("he_uniform", 2 / 360),
        ("kaiming_normal", 2 / 360),
        ("kaiming_uniform", 2 / 360),
        ("lecun_normal", 1 / 360),
        ("lecun_uniform", 1 / 360),
        ("normal", 1e-4),
        ("uniform", 1e-4 / 3),
    ],
)
def test_draws_have_the_variance_of_their_source(name: str, variance: float) -> None:
    draws = nn.initializer(name)(np.random.default_rng(0), SHAPE)
    assert draws.shape == SHAPE
    assert draws.mean() == pytest.approx(0, abs=0.02 * math.sqrt(variance))
    assert draws.var() == pytest.approx(variance, rel=0.03)
    if name.endswith("uniform"):
        assert abs(draws).max() <= math.sqrt(3 * variance)


def test_constants() -> None:
    rng = np.random.default_rng(0)
    assert nn.initializer("zeros")(rng, (2,)).tolist() == [0.0, 0.0]
    assert nn.initializer("ones")(rng, (2,)).tolist() == [1.0, 1.0]


def test_a_slope_makes_hes_weights_smaller() -> None:
    assert nn.he_normal(slope=1.0).scale == 1.0
    assert nn.he_uniform(slope=0.0).scale == 2.0


def test_scaling_by_fan_out() -> None:
    draws = nn.VarianceScaling(1.0, "out")(np.random.default_rng(0), SHAPE)
    assert draws.var() == pytest.approx(1 / 450, rel=0.03)


def test_signals_keep_their_size_through_ten_layers_of_relu() -> None:
    model = nn.mlp(200, (200,) * 10, 200).initialize(0)
    x = np.random.default_rng(0).normal(size=(100, 200)).astype(np.float32)
    body = nn.Sequential(*list(model)[:-1])
    assert 0.3 < np.sqrt((body(x).data ** 2).mean()) < 3


def test_vectors_have_no_fans() -> None:
    with pytest.raises(ShapeError) as caught:
        nn.DrawnParameter((3,), "he_normal")
    assert str(caught.value) == (
        "fans: a weight needs two axes or more\n"
        "  got:      (3,)\n"
        "  expected: (..., in, out)\n"
        "  try:      use Constant, Normal or Uniform for biases and scales"
    )


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(OptionError, match="did you mean 'he_normal'"):
        nn.Dense(2, 2, initializer="he_norml")
    with pytest.raises(OptionError, match="neither a name nor a rule"):
        nn.Dense(2, 2, initializer=0.5)


def test_any_function_of_generator_and_shape_is_a_rule() -> None:
    layer = nn.Dense(3, 3, initializer=lambda rng, shape: np.eye(*shape))
    np.testing.assert_array_equal(layer.weight.data, np.eye(3, dtype=np.float32))
    with pytest.raises(ShapeError, match="values of another shape"):
        nn.Dense(3, 3, initializer=lambda rng, shape: np.zeros(2))


def test_a_fresh_layer_works_and_two_differ() -> None:
    a, b = nn.Dense(4, 3), nn.Dense(4, 3)
    assert (a.weight.data != b.weight.data).any()
    nn.manual_seed(3)
    c = nn.Dense(4, 3)
    nn.manual_seed(3)
    np.testing.assert_array_equal(c.weight.data, nn.Dense(4, 3).weight.data)


def test_a_users_module_can_draw_its_parameters() -> None:
    class Line(nn.Module):
        def __init__(self) -> None:
            self.slope = nn.DrawnParameter((1, 1), nn.Normal(std=1.0))

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return x @ self.slope

    line = Line()
    before = line.slope.item()
    assert line.initialize(1).slope.item() != before
    assert line.initialize(1).slope.item() == Line().initialize(1).slope.item()


@pytest.mark.parametrize(
    "rule",
    [
        init.Normal(0.5, 1.0),
        init.Uniform(-2.0, 3.0),
        init.he_normal(),
        init.glorot_uniform(),
        init.WithFans(init.he_normal(), 7, 9),
        init.WithFans(init.Normal(), 7, 9),
        init.WithFans(lambda rng, shape: rng.random(shape), 7, 9),
    ],
)
def test_a_large_weight_is_filled_piece_by_piece_as_it_would_be_at_once(
    rule, monkeypatch
) -> None:
    whole = init.DrawnParameter((40, 30), rule)
    expected = whole.draw(np.random.default_rng(3))
    monkeypatch.setattr(init, "_PIECE", 100)
    np.testing.assert_array_equal(whole.draw(np.random.default_rng(3)), expected)
