"""Activations, gradients by depth, saturation, steps, capacity, single units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.behaviour import (
    Panels,
    Valley,
    activation_functions,
    capacity_grid,
    collapse,
    convexity,
    layer_gradients,
    overfitting,
    saturated_unit,
    saturation,
    step_sizes,
    unit_response,
    update_rules,
    vanishing_gradients,
)
from chainrule.nn.activations import ACTIVATIONS
from chainrule.optim.rules import RULES

# ------------------------------------------------------------------------- activations


def test_every_activation_is_shown_with_its_derivative() -> None:
    found = activation_functions(num=161)
    assert set(ACTIVATIONS) < set(found.values)
    step = found.x[1] - found.x[0]
    for name, value in found.values.items():
        differences = (value[2:] - value[:-2]) / (2 * step)
        away = abs(found.x[1:-1]) > 0.1  # from kinks
        np.testing.assert_allclose(
            found.slopes[name][1:-1][away], differences[away], atol=2e-3, err_msg=name
        )


def test_relu_has_slope_0_at_0_and_softmax_is_that_of_x_and_0() -> None:
    found = activation_functions(num=81)
    assert found.x[40] == 0
    assert found.slopes["relu"][40] == 0
    np.testing.assert_allclose(found.values["softmax"], 1 / (1 + np.exp(-found.x)))
    np.testing.assert_allclose(
        found.values["maxout"], np.maximum(found.x, -found.x / 2)
    )


def test_a_layer_that_changes_the_shape_is_no_activation() -> None:
    with pytest.raises(ShapeError, match="pool is not one"):
        activation_functions({"pool": nn.Function(lambda x: x.sum(axis=1))})
    with pytest.raises(OptionError, match="nothing to show"):
        activation_functions({})


# ---------------------------------------------------------------- gradients and depth


def test_layer_gradients_are_the_means_of_backwards_gradients() -> None:
    model = nn.mlp(3, (4, 5), 2).initialize(0)
    x, y = np.random.default_rng(0).normal(size=(6, 3)).astype("f"), [0, 1, 0, 1, 1, 0]
    found = layer_gradients(model, nn.softmax_cross_entropy(model(x), np.array(y)))
    nn.softmax_cross_entropy(model(x), np.array(y)).backward()
    weights = [p for p in model.parameters() if p.is_penalized]
    expected = [abs(w.grad.data).mean() for w in weights if w.grad is not None]
    np.testing.assert_allclose(found.sizes, expected, rtol=1e-6)
    assert found.ratio == pytest.approx(expected[0] / expected[-1])


def test_sigmoids_gradient_falls_by_a_factor_with_each_layer_and_cures_help() -> None:
    found = vanishing_gradients((2, 4, 8), seed=1)
    vanished, *cured = (found.by_layer[name][0] for name in found.by_layer)
    assert vanished < 1e-4 * found.by_layer["sigmoid"][-1]
    assert all(size > 1e3 * vanished for size in cured)
    by_depth = found.by_depth["sigmoid"]
    assert by_depth[0] > 10 * by_depth[1] > 100 * by_depth[2]
    assert by_depth[-1] == pytest.approx(vanished)


def test_networks_that_cannot_be_measured_are_errors() -> None:
    with pytest.raises(OptionError, match="unknown kind of network 'sigmoids'"):
        vanishing_gradients(kinds=["sigmoids"])
    with pytest.raises(OptionError, match="depths"):
        vanishing_gradients((0, 1))
    with pytest.raises(OptionError, match="layer_gradients: no weights"):
        layer_gradients(nn.ReLU(), cr.Tensor(1.0))


# -------------------------------------------------------------------------- saturation


def test_saturated_outputs_and_dead_units_are_counted() -> None:
    model = nn.Sequential(relu=nn.ReLU(), sigmoid=nn.Sigmoid())
    found = saturation(model, np.array([[-1.0, -2.0, 9.0], [-1.0, 3.0, 9.0]]))
    assert found.paths == ("relu", "sigmoid")
    # ReLU: 3 of 6 are 0, the first unit always. σ(9) is above 0.99, σ(0) = 0.5 is not.
    np.testing.assert_allclose(found.shares, [3 / 6, 2 / 6])
    np.testing.assert_allclose(found.dead, [1 / 3, 1 / 3])
    # Slopes 0.071, 0.0025, 0.0025, 1: two are below a hundredth of the largest.
    tanh = saturation(nn.Sequential(nn.Tanh()), np.array([[2.0, 3.7, -3.7, 0.0]]))
    assert tanh.shares[0] == 0.5


def test_a_model_without_activations_cannot_saturate() -> None:
    with pytest.raises(OptionError, match="nothing here can saturate"):
        saturation(nn.Dense(2, 2), [[1.0, 2.0]])


def test_a_saturated_unit_learns_by_cross_entropy_and_not_by_the_squared_error() -> (
    None
):
    found = saturated_unit(5.0)
    h = 1 / (1 + np.exp(-found.z))
    np.testing.assert_allclose(found.squared, h * h * (1 - h), atol=1e-12)
    np.testing.assert_allclose(found.entropy, h, atol=1e-12)
    slow, quick = (end[-1] for end in found.learning)
    assert quick < 0.1 < 0.9 < slow
    with pytest.raises(OptionError, match="out of sight"):
        saturated_unit(11.0)


# ------------------------------------------------------------------------------- steps


def test_the_four_regimes_of_step_size_are_told_apart() -> None:
    found = step_sizes()
    assert found.regimes == ("too low", "good", "high", "diverges")
    ends = [d.losses[-1] for d in found.descents]
    start = found.descents[0].losses[0]
    assert ends[1] < ends[2] < ends[0] < start < ends[3]
    # Closed form: the distance is multiplied by 1 − lr·curvature at each step.
    for lr, descent in zip(found.rates, found.descents, strict=True):
        x, y = 10 * (1 - lr) ** 50, (1 - 25 * lr) ** 50
        assert descent.losses[-1] == pytest.approx(0.5 * (x * x + 25 * y * y))


@pytest.mark.parametrize(
    ("lr", "regime"), [(0.001, "too low"), (0.04, "good"), (0.0795, "high")]
)
def test_a_valley_names_the_regime_of_a_step(lr: float, regime: str) -> None:
    assert Valley(25.0).regime(lr, 50) == regime
    assert Valley(25.0).regime(2.01 / 25, 50) == "diverges"


def test_every_rule_goes_through_the_valley() -> None:
    found = update_rules()
    assert set(found.descents) == set(RULES)
    steps = {name: d.steps_to(found.goal) for name, d in found.descents.items()}
    assert steps["sgd"] == max(s for s in steps.values() if s is not None)
    for name, descent in found.descents.items():
        assert np.linalg.norm(descent.path[-1]) < 0.1, name


def test_what_has_no_steps_or_walls_is_an_error() -> None:
    with pytest.raises(OptionError, match="nothing to compare"):
        step_sizes(())
    with pytest.raises(OptionError, match="valley: no walls"):
        Valley(0.0)
    with pytest.raises(OptionError, match="update_rules: no rule"):
        update_rules({})
    with pytest.raises(OptionError, match="unknown optimizer 'sdg'"):
        update_rules({"sdg": 0.1})


# ---------------------------------------------------------------------------- capacity


def test_more_units_bend_the_boundary_and_stronger_l2_straightens_it() -> None:
    found = capacity_grid((1, 20), (0.001, 1.0), num_steps=300)
    assert found.training[1, 0] > 0.97 > 0.9 > found.training[0, 0]
    assert found.training[1, 1] < found.training[1, 0] - 0.05
    gap = found.training - found.validation
    assert gap[1, 0] > gap[1, 1] + 0.05, "what is learned by heart does not carry over"
    with pytest.raises(OptionError, match="nothing to train"):
        capacity_grid((), (0.1,))


def test_overfitting_is_found_where_the_validation_loss_turns() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 10)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=120) > 0).astype(np.int64)
    model = nn.mlp(10, (32,), 2, dropout=0.1).initialize(0)
    found = overfitting(model, (x[:30], y[:30]), (x[30:], y[30:]), num_steps=120)
    assert len(found.training) == len(found.validation) == 121
    assert 0 < found.best < 60
    assert found.is_overfitting
    assert found.training[-1] < 0.1 < found.validation[-1]
    assert model.training
    model.eval()  # without dropout, as the validation loss was taken
    loss = nn.softmax_cross_entropy(model(x[30:]), y[30:]).item()
    assert found.validation[-1] == pytest.approx(loss)


# ------------------------------------------------------------------------ single units


def test_a_small_change_moves_the_logistic_unit_alone() -> None:
    found = unit_response((1.0, 1.0), -3.0, (1.0, 1.5), small=0.001)
    h = 1 / (1 + np.exp(0.5))
    assert found.effects[0] == 0
    assert found.slope == pytest.approx(h * (1 - h))
    assert found.effects[1] == pytest.approx(0.001 * h * (1 - h), rel=1e-3)
    assert found.step[0] == 0
    assert found.step[-1] == 1
    with pytest.raises(ShapeError, match="one weight for each input"):
        unit_response((1.0,), 0.0, (1.0, 2.0))
    with pytest.raises(OptionError, match="no change"):
        unit_response(small=0.0)


def test_layers_without_activation_are_one_matrix() -> None:
    found = collapse(5, (7, 3, 4), 2, seed=2)
    assert found.weight.shape == (5, 2)
    assert found.difference < 1e-12
    second = np.diff(found.flat, 2)
    assert abs(second).max() < 1e-12, "straight"
    assert abs(np.diff(found.bent, 2)).max() > 1e-3, "bent"
    assert found.num_layers == 4


def test_panels_need_something_to_show() -> None:
    with pytest.raises(OptionError, match="nothing to put side by side"):
        Panels([])
    one: Any = convexity(np.cos, 0, 1, name="cos")
    both = Panels([one, one], caption="twice")
    assert str(both).splitlines() == ["twice", str(one), str(one)]
    assert len(both.figure().axes) == 2
