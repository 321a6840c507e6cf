"""Descents, the loss along lines and on planes, convexity."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import NonFiniteError, OptionError, ShapeError
from chainrule.explanation.behaviour import (
    Weights,
    convexity,
    descend,
    loss_along_line,
    loss_convexity,
    loss_on_plane,
    moons,
)


class Quadratic(nn.Module):
    """½ Σ aᵢwᵢ²."""

    def __init__(self, start: Any, curvature: Any) -> None:
        self.w = cr.Parameter(np.asarray(start, float))
        self.curvature = np.asarray(curvature, float)

    def forward(self) -> cr.Tensor:
        return 0.5 * (self.w * self.w * self.curvature).sum()


def small_net(seed: int = 0) -> tuple[nn.Module, Any]:
    x, y = moons(40, 0.2)
    model = nn.mlp(2, (5,), 1, activation="tanh").initialize(seed).astype("float64")
    return model, lambda: nn.sigmoid_cross_entropy(model(x).reshape(-1), y)


# --------------------------------------------------------------------------- descents


def test_a_descent_keeps_the_losses_and_the_way() -> None:
    model = Quadratic([1.0, -2.0], [1.0, 3.0])
    found = descend(model, model, 4, lr=0.1, keep_path=True)
    factors = np.array([0.9, 0.7])
    expected = np.array([[1.0, -2.0] * factors**k for k in range(5)])
    np.testing.assert_allclose(found.path, expected)
    np.testing.assert_allclose(
        found.losses, 0.5 * (expected**2 * [1.0, 3.0]).sum(axis=1)
    )
    assert not found.has_diverged
    assert found.steps_to(found.losses[2] * 1.001) == 2
    assert found.steps_to(0.0) is None


def test_a_hopeless_descent_is_given_up() -> None:
    model = Quadratic([1.0], [1.0])
    found = descend(model, model, 10_000, lr=3.0)
    assert found.has_diverged
    assert len(found.losses) < 1000
    assert np.isfinite(found.losses).all()


def test_gradients_are_cleared_and_steps_are_told() -> None:
    model = Quadratic([1.0], [1.0])
    seen: list[float] = []
    descend(model, model, 3, lr=0.5, after_step=lambda: seen.append(model.w.item()))
    assert seen == [0.5, 0.25, 0.125]
    assert model.w.grad is None


def test_steps_below_0_are_an_error() -> None:
    model = Quadratic([1.0], [1.0])
    with pytest.raises(OptionError, match="descend: steps"):
        descend(model, model, -1)


def test_weights_of_a_model_are_one_vector_in_order_of_definition() -> None:
    model, _ = small_net()
    weights = Weights(model)
    vector = weights.read()
    assert vector.size == weights.size == model.num_parameters()
    np.testing.assert_array_equal(vector[:10], model["hidden1"].weight.data.ravel())
    with weights.kept():
        weights.write(np.arange(weights.size))
        assert model["output"].bias.item() == weights.size - 1
    np.testing.assert_array_equal(weights.read(), vector)


def test_weights_are_put_back_after_an_error() -> None:
    model, _ = small_net()
    weights = Weights(model)
    before = weights.read()

    def fail() -> None:
        with weights.kept():
            weights.write(np.zeros(weights.size))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    np.testing.assert_array_equal(weights.read(), before)


def test_a_walk_around_a_network_leaves_its_running_statistics() -> None:
    model = nn.Sequential(nn.Dense(2, 3), nn.BatchNorm(3), nn.Dense(3, 1)).initialize(0)
    x, y = moons(20)
    loss = lambda: nn.sigmoid_cross_entropy(model(x).reshape(-1), y)  # noqa: E731
    before = model.state()
    loss_on_plane(model, loss, num=3)
    after = model.state()
    loss()
    assert any((before[path] != values).any() for path, values in model.state().items())
    for path, values in after.items():
        np.testing.assert_array_equal(values, before[path], err_msg=path)


def test_a_model_without_weights_and_a_vector_that_does_not_fit_are_errors() -> None:
    with pytest.raises(OptionError, match="has no weights"):
        Weights(nn.ReLU())
    with pytest.raises(ShapeError, match="a vector of another size"):
        Weights(nn.Dense(2, 1)).write([1.0])


# ------------------------------------------------------------------------------ lines


def test_the_loss_of_a_quadratic_along_a_line_is_a_parabola() -> None:
    model = Quadratic([2.0, 0.0], [1.0, 4.0])
    found = loss_along_line(model, model, [0.0, 1.0], num=31)
    w = np.array([2.0, 0.0]) + found.places[:, None] * np.array([-2.0, 1.0])
    np.testing.assert_allclose(found.losses, 0.5 * (w**2 * [1, 4]).sum(axis=1))
    assert found.length == pytest.approx(5**0.5)
    assert found.num_hills == 0
    np.testing.assert_array_equal(model.w.data, [2.0, 0.0])


def test_hills_between_two_valleys_are_counted() -> None:
    class Waves(nn.Module):
        def __init__(self) -> None:
            self.w = cr.Parameter(0.0)

        def forward(self) -> cr.Tensor:
            return cr.sin(self.w)

    model = Waves()
    # sin has a crest at π/2 and at 5π/2, and none at the ends of 0 to 3π.
    found = loss_along_line(model, model, [3 * np.pi], reach=(0.0, 1.0), num=201)
    assert found.num_hills == 2
    assert "2 hills on the way" in str(found)


def test_a_random_direction_is_filter_normalised_and_leaves_biases() -> None:
    model, loss = small_net()
    cr.assign(model["hidden1"].bias, np.ones(5))
    found = loss_along_line(model, loss, seed=1)
    # Each unit's part is as long as its weights: so is the whole, without biases.
    weights = [p.data for p in model.parameters() if p.is_penalized]
    expected = np.sqrt(sum((w**2).sum() for w in weights))
    assert found.length == pytest.approx(expected)
    assert found.at(0.0) == pytest.approx(loss().item())


# ----------------------------------------------------------------------------- planes


def test_the_middle_of_a_plane_has_the_models_own_loss() -> None:
    model, loss = small_net()
    found = loss_on_plane(model, loss, num=5)
    assert found.losses[2, 2] == pytest.approx(loss().item())
    assert found.losses.shape == (5, 5)


def test_a_plane_is_the_same_for_weights_of_another_scale_behind_relu() -> None:
    # Filter normalisation undoes what ReLU allows: W₁·10 and W₂/10 are one function.
    x, y = moons(40, 0.2)

    def plane(scale: float) -> Any:
        model = nn.mlp(2, (6,), 1).initialize(0).astype("float64")
        for path, factor in (("hidden1", scale), ("output", 1 / scale)):
            layer = model[path]
            cr.assign(layer.weight, layer.weight.data * factor)
        loss = lambda: nn.sigmoid_cross_entropy(model(x).reshape(-1), y)  # noqa: E731
        return loss_on_plane(model, loss, num=7).losses

    np.testing.assert_allclose(plane(10.0), plane(1.0), rtol=1e-9)


def test_principal_directions_hold_a_way_that_lies_in_a_plane() -> None:
    # Only two of four weights move, so two directions show all of it.
    model = Quadratic([3.0, 1.0, 0.0, 0.0], [1.0, 4.0, 1.0, 1.0])
    path = descend(model, model, 30, lr=0.1, keep_path=True).path
    found = loss_on_plane(model, model, path, directions="pca", num=21)
    assert sum(found.shares) == pytest.approx(1.0)
    assert found.shares[0] > found.shares[1]
    # On the plane, lengths and losses are the true ones.
    np.testing.assert_allclose(
        np.linalg.norm(found.path, axis=1), np.linalg.norm(path - path[-1], axis=1)
    )
    steps = 0.5 * (path**2 * model.curvature).sum(axis=1)
    np.testing.assert_allclose(found.path_losses, steps)
    assert found.a[0] < found.path[:, 0].min() < found.path[:, 0].max() < found.a[-1]


def test_random_directions_show_little_of_the_way() -> None:
    model, loss = small_net()
    path = descend(model, loss, 40, "adam", lr=0.05, keep_path=True).path
    own = Weights(model).read()
    random = loss_on_plane(model, loss, path, num=3)
    principal = loss_on_plane(model, loss, path, directions="pca", num=3)
    assert sum(random.shares) < 0.5 < 0.9 < sum(principal.shares) <= 1 + 1e-12
    np.testing.assert_array_equal(Weights(model).read(), own)


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"directions": "both"}, OptionError, "unknown choice of directions"),
        ({"directions": "pca"}, OptionError, "no way whose directions"),
        ({"num": 2}, OptionError, "nothing to look at"),
        ({"reach": 0.0}, OptionError, "nothing to look at"),
        ({"path": [[1.0, 2.0, 3.0]]}, ShapeError, "a path of another model"),
    ],
)
def test_a_plane_that_cannot_be_laid_is_an_error(
    options: Any, error: Any, what: str
) -> None:
    model = Quadratic([1.0, 2.0], [1.0, 1.0])
    with pytest.raises(error, match=what):
        loss_on_plane(model, model, **options)


def test_losses_that_overflow_are_left_out_and_flat_ones_drawn() -> None:
    class Steep(nn.Module):
        def __init__(self, power: float) -> None:
            self.w = cr.Parameter([[power], [1.0]])

        def forward(self) -> cr.Tensor:
            return cr.exp(self.w * self.w * 60).sum()

    steep = loss_on_plane(Steep(1.0), (model := Steep(1.0)), num=5)
    assert np.isfinite(steep.losses).all(), "another model's weights were moved"
    over = loss_on_plane(model, model, num=5)
    assert not np.isfinite(over.losses).all()
    for plane in (steep, over):
        assert "nan" not in str(plane)
        assert "inf" not in str(plane)
        plane.figure().savefig(io.BytesIO(), format="svg")
    with pytest.raises(NonFiniteError, match="no place where the loss is a number"):
        loss_on_plane(model, lambda: cr.Tensor(np.nan), num=3)


def test_a_line_without_length_of_reach_or_of_other_weights_is_an_error() -> None:
    model = Quadratic([1.0, 2.0], [1.0, 1.0])
    with pytest.raises(OptionError, match="nothing to look at"):
        loss_along_line(model, model, [0.0, 0.0], reach=(1.0, 0.0))
    with pytest.raises(ShapeError, match="a vector of another size"):
        loss_along_line(model, model, [0.0])


# -------------------------------------------------------------------------- convexity


def test_convex_functions_have_no_violation_and_others_do() -> None:
    assert convexity(lambda x: x * x, -6, 6).is_convex
    assert convexity(np.abs, -6, 6).is_convex
    assert convexity(lambda x: (x**2).sum(), [-1, -1], [1, 1]).is_convex
    assert not convexity(lambda x: x[0] * x[1], [-1, -1], [1, 1]).is_convex
    assert not convexity(lambda x: -(x * x), -6, 6).is_convex


def test_a_violation_is_measured_on_its_chord() -> None:
    found = convexity(np.cos, -6, 6)
    p, q = found.chord
    chord = np.linspace(found.values[p], found.values[q], q - p + 1)
    assert found.excess == pytest.approx((found.values[p : q + 1] - chord).max())
    # Between two troughs the crest is 2 above the chord; no chord is exceeded more.
    assert 1.9 < found.excess <= 2
    assert 0 < found.num_violating <= found.num_segments == 50


def test_a_function_that_is_convex_on_a_part_is_so_there_only() -> None:
    assert convexity(np.cos, np.pi / 2, 3 * np.pi / 2).is_convex
    assert not convexity(np.cos, 0, np.pi).is_convex


def test_a_linear_classifiers_loss_is_convex_and_a_networks_is_not() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)), rng.integers(0, 3, 30)

    def tested(model: nn.Module, loss: Any) -> Any:
        before = Weights(model).read()
        found = loss_convexity(model, lambda: loss(model(x), y), num_segments=20)
        np.testing.assert_array_equal(Weights(model).read(), before)
        return found

    for loss in (nn.softmax_cross_entropy, nn.multiclass_hinge):
        assert tested(nn.linear(4, 3).astype("float64"), loss).is_convex
    network = nn.mlp(4, (6,), 3).astype("float64")
    assert not tested(network, nn.softmax_cross_entropy).is_convex


def test_rounding_in_float32_is_no_violation() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)).astype(np.float32), rng.integers(0, 3, 30)
    model = nn.linear(4, 3)
    # The hinge is straight in pieces: there, rounding alone is above a chord.
    loss = lambda: nn.multiclass_hinge(model(x), y)  # noqa: E731
    assert loss_convexity(model, loss, num_segments=20).is_convex


def test_what_cannot_be_tested_is_an_error() -> None:
    with pytest.raises(OptionError, match="an empty box"):
        convexity(np.cos, 1, 1)
    with pytest.raises(OptionError, match="nothing to test"):
        convexity(np.cos, 0, 1, num_segments=0)
    with pytest.raises(OptionError, match="is not finite"):
        convexity(lambda x: 1 / 0.0 if x > 0.5 else float("inf"), 0, 0.4)
    with pytest.raises(ShapeError, match="functions to one number"):
        convexity(lambda x: x, [0, 0], [1, 1])
