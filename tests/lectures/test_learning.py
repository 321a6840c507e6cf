"""The lectures' rows about learning: what the step, the penalty and the depth do."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.backward import gradients
from chainrule.explanation.behaviour import (
    Convexity,
    Valley,
    convexity,
    descend,
    loss_convexity,
    moons,
    saturation,
    vanishing_gradients,
)

Array = Any


# ------------------------------------------------------------------------- losses


def test_the_norm_of_the_error_has_the_unit_vector_as_its_gradient() -> None:
    rng = np.random.default_rng(0)
    y, y_hat = rng.normal(size=(2, 5))
    norm = lambda p: cr.sqrt(((p - cr.Tensor(y)) ** 2).sum())  # noqa: E731
    value, slope = cr.value_and_grad(norm)(y_hat)
    assert value.item() == pytest.approx(np.linalg.norm(y_hat - y))
    np.testing.assert_allclose(slope.data, (y_hat - y) / np.linalg.norm(y_hat - y))


# ------------------------------------------------------------------ random search


@pytest.mark.skipif(
    "CHAINRULE_DATA_DIR" not in os.environ,
    reason="CHAINRULE_DATA_DIR is not set: no CIFAR-10 here",
)
def test_random_search_over_1000_draws_finds_little_on_cifar10() -> None:
    splits = cr.data.load("cifar10", validation=0.0, seed=0)
    # The lecture takes the loss of all 50,000 images, as examples/accuracy.py does;
    # 2,000 of them choose among the draws nearly as well in a twentieth of the time.
    rows = np.random.default_rng(0).permutation(len(splits.train))[:2000]
    images, y = splits.train.read(rows).astype(np.float32), splits.train.targets[rows]
    mean_image = images.mean(axis=0)

    def columns(images: Array) -> Array:
        """Units of 0 to 255, the mean image subtracted, and a 1 for the bias."""
        x = (images - mean_image).reshape(len(images), -1)
        return np.hstack([x, np.ones((len(x), 1), np.float32)])

    def draw(rng: np.random.Generator) -> Array:
        return rng.normal(size=(10, 3073)).astype(np.float32) * 1e-4

    x = columns(images)
    found = optim.random_search(
        lambda w: nn.multiclass_hinge(x @ w.T, y), draw, num_draws=1000
    )
    assert 8 < found.best_loss < np.median(found.losses) < 9.5
    test = splits.test
    scores = columns(test.read(np.arange(len(test)))) @ found.best.T
    accuracy = (scores.argmax(axis=1) == test.targets).mean()
    assert 0.14 < accuracy < 0.17  # the lecture's draw: 15.55 %


# ------------------------------------------------------- gradient descent, minibatches


def linear_problem() -> tuple[nn.Module, Array, Array]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 8))
    y = (x @ rng.normal(size=(8, 3)) + rng.normal(size=(512, 3))).argmax(axis=1)
    return nn.linear(8, 3).astype("float64"), x, y


def test_the_gradient_is_the_mean_of_the_gradients_of_its_minibatches() -> None:
    model, x, y = linear_problem()
    weights = model.parameters()

    def gradient(rows: slice) -> Array:
        loss = nn.softmax_cross_entropy(model(x[rows]), y[rows])
        return gradients(loss, weights)[0].data

    parts = [gradient(slice(i, i + 64)) for i in range(0, 512, 64)]
    np.testing.assert_allclose(
        np.mean(parts, axis=0), gradient(slice(None)), atol=1e-15
    )


def test_larger_minibatches_have_less_noise_in_their_gradients() -> None:
    model, x, y = linear_problem()
    weights = model.parameters()
    rng = np.random.default_rng(1)

    def noise(batch_size: int) -> float:
        draws = []
        for _ in range(200):
            rows = rng.integers(0, len(x), batch_size)
            loss = nn.softmax_cross_entropy(model(x[rows]), y[rows])
            draws.append(gradients(loss, weights)[0].data)
        return float(np.std(draws, axis=0).mean())

    found = [noise(size) for size in (32, 64, 128, 256)]
    for coarse, fine in pairwise(found):  # √2 less for twice the examples
        assert coarse / fine == pytest.approx(2**0.5, rel=0.1)


@pytest.mark.parametrize("batch_size", [32, 64, 128, 256])
def test_every_size_of_minibatch_learns_the_digits(batch_size: int) -> None:
    digits = cr.data.load("digits")
    epochs = batch_size // 4  # for as many updates of each size
    model = cr.fit(
        digits.train, hidden=(32,), epochs=epochs, batch_size=batch_size, seed=0
    )
    assert cr.evaluate(model, digits.test)["accuracy"] > 0.92


# -------------------------------------------------- effect of step size and of the rule


def test_effect_of_step_size_has_four_regimes() -> None:
    # On the steep axis a step multiplies the distance by 1 - 25·lr.
    def after_50_steps(lr: float) -> float:
        bowl = Valley()
        return float(descend(bowl, bowl, 50, lr=lr).losses[-1])

    start = Valley()().item()
    too_low, good, high, diverging = map(after_50_steps, (0.0005, 0.07, 0.0799, 0.09))
    assert 0.9 * start < too_low + 12.5 < start + 12.5  # x has hardly moved
    assert good < 1e-1
    assert good < high < start / 2  # it jumps from wall to wall and stays high
    assert diverging > 1e3 * start


def test_a_high_step_jumps_from_wall_to_wall() -> None:
    bowl, signs = Valley(), []
    optimizer = optim.optimizer("sgd", bowl.named_parameters(), lr=0.0799)
    for _ in range(6):
        optimizer.zero_grad()
        bowl().backward()
        optimizer.step()
        signs.append(np.sign(bowl.w.data[1]))
    assert signs == [-1, 1, -1, 1, -1, 1]


def test_momentum_is_v_rho_v_plus_dw_and_w_minus_lr_v() -> None:
    bowl = Valley()
    w, v = bowl.w.numpy(), np.zeros(2)
    descend(bowl, bowl, 20, rule="momentum", lr=0.02, momentum=0.9)
    for _ in range(20):
        v = 0.9 * v + w * [1.0, 25.0]
        w = w - 0.02 * v
    np.testing.assert_allclose(bowl.w.data, w, rtol=1e-12)


def test_effect_of_the_update_rule_in_a_valley() -> None:
    def steps_needed(rule: str, lr: float) -> int:
        bowl = Valley(kappa=200.0)
        found = descend(bowl, bowl, 1000, rule, lr=lr).steps_to(0.01)
        assert found is not None
        return found

    # Plain descent at the best step that the walls allow, against the rules that
    # build up speed along the valley or give each direction a step of its own.
    descent = steps_needed("sgd", 2 / 201)
    assert descent > 400
    others = {
        "momentum": 0.01, "nesterov": 0.005, "adagrad": 2.0, "rmsprop": 0.1, "adam": 0.5
    }  # fmt: skip
    for rule, lr in others.items():
        assert steps_needed(rule, lr) < descent / 2, rule


# --------------------------------------- the gap between training and validation


def few_noisy_digits() -> dict[str, tuple[Array, Array]]:
    """120 training digits, a quarter of them labelled at random, and 500 clean ones."""
    digits = cr.data.load("digits").train
    x = digits.read(np.arange(620)).astype(np.float32).reshape(620, -1) / 255
    y = digits.targets[:620].copy()
    rng = np.random.default_rng(0)
    y[:30] = rng.integers(0, 10, 30)
    return {"train": (x[:120], y[:120]), "validation": (x[120:], y[120:])}


def gap(l2: float = 0.0, l1: float = 0.0, dropout: float = 0.0) -> tuple[float, float]:
    """(training loss, by how much the validation loss is above it) after training."""
    parts = few_noisy_digits()
    x, y = parts["train"]
    model = nn.mlp(64, (64,), 10, dropout=dropout).initialize(0)

    def objective() -> cr.Tensor:
        loss = nn.softmax_cross_entropy(model(x), y)
        return loss + nn.penalty(model, l2=l2, l1=l1)

    descend(model, objective, 400, rule="adam", lr=0.005)
    model.eval()
    losses = [nn.softmax_cross_entropy(model(x), y).item() for x, y in parts.values()]
    return losses[0], losses[1] - losses[0]


def test_regularisation_narrows_the_gap_between_training_and_validation() -> None:
    training, plain = gap()
    assert training < 0.05, "the noisy labels are known by heart"
    assert plain > 1.5
    for options in ({"l2": 0.01}, {"l1": 0.002}, {"dropout": 0.6}):
        regularised_training, narrowed = gap(**options)
        assert regularised_training > training
        assert narrowed < 0.7 * plain, options


def test_stronger_l2_narrows_the_gap_further() -> None:
    gaps = [gap(l2=strength)[1] for strength in (0.001, 0.01, 0.1)]
    assert gaps[0] > gaps[1] > gaps[2]


def test_overfitting_shows_as_a_validation_loss_that_rises_while_training_falls() -> (
    None
):
    parts = few_noisy_digits()
    model = nn.mlp(64, (64,), 10).initialize(0)
    optimizer = optim.optimizer("adam", model.named_parameters(), lr=0.005)
    curves: dict[str, list[float]] = {"train": [], "validation": []}
    for _ in range(300):
        for part, (x, y) in parts.items():
            loss = nn.softmax_cross_entropy(model(x), y)
            curves[part].append(loss.item())
            if part == "train":
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    best = int(np.argmin(curves["validation"]))
    assert 5 < best < 150
    assert curves["validation"][-1] > 1.3 * curves["validation"][best]
    assert curves["train"][-1] < 0.1 * curves["train"][best]


def test_early_stopping_ends_in_time_and_keeps_the_best_weights() -> None:
    parts = few_noisy_digits()
    events: list[Any] = []
    options = {"hidden": (64,), "lr": 0.005, "batch_size": 120, "schedule": "constant"}
    model = cr.fit(
        *parts["train"],
        validation=parts["validation"],
        epochs=300,
        patience=20,
        label_smoothing=0.0,
        listeners=[events.append],
        seed=0,
        **options,
    )
    epochs = [e for e in events if isinstance(e, cr.training.EpochFinished)]
    assert events[-1].reason == "early stopping"
    best = events[-1].best_epoch
    assert len(epochs) == best + 20 < 300
    scores = cr.evaluate(model, *parts["validation"])
    assert scores["accuracy"] == max(e.validation["accuracy"] for e in epochs)
    assert scores["loss"] == pytest.approx(epochs[best - 1].validation["loss"])


# -------------------------------------------- saturation, and gradients with depth


def test_a_saturated_unit_passes_no_gradient_and_learns_slowly() -> None:
    slope = cr.grad(lambda z: cr.sigmoid(z).sum())
    z = np.array([0.0, 2.0, 5.0, 10.0])
    found = slope(z).data
    assert found[0] == 0.25
    assert found[3] < 5e-5
    # With the squared error a unit that is far wrong hardly moves; with the
    # cross-entropy, whose gradient is h - y, it moves fastest.
    target = np.array([0.0])
    squared = cr.grad(lambda z: nn.squared_error(cr.sigmoid(z), target))
    entropy = cr.grad(lambda z: nn.sigmoid_cross_entropy(z, target))
    assert abs(squared(np.array([5.0])).item()) < 0.015
    assert entropy(np.array([5.0])).item() > 0.99


def test_gradients_vanish_with_depth_behind_sigmoids_and_not_behind_relu() -> None:
    found = vanishing_gradients((10,)).by_layer
    sigmoid, relu = found["sigmoid"], found["relu"]
    assert all(early < late for early, late in pairwise(sigmoid))
    assert sigmoid[0] < 1e-4 * sigmoid[-1]
    assert 0.1 < relu[0] / relu[-1] < 10


def test_gradients_do_not_vanish_with_depth_around_shortcuts() -> None:
    found = vanishing_gradients((10,)).by_layer
    plain, residual = found["sigmoid"], found["sigmoid, shortcuts"]
    assert 0.05 < residual[0] / residual[-1] < 20
    assert residual[0] > 1e3 * plain[0]


def test_saturation_is_measured_layer_by_layer() -> None:
    x = np.random.default_rng(0).normal(size=(200, 32)).astype(np.float32)

    def saturated(scale: float) -> list[float]:
        layers: list[nn.Module] = []
        for _ in range(4):
            rule = nn.Normal(std=scale / 32**0.5)
            layers += [nn.Dense(32, 32, initializer=rule), nn.Tanh()]
        return list(saturation(nn.Sequential(*layers).initialize(0), x).shares)

    assert max(saturated(1.0)) < 0.02
    assert min(saturated(8.0)) > 0.6


# ---------------------------------------------------------------------- convexity


def test_convexity_by_definition_x_squared_is_and_cos_x_is_not() -> None:
    assert convexity(lambda x: (cr.Tensor(x) ** 2).item(), -6, 6).is_convex
    assert not convexity(lambda x: cr.cos(cr.Tensor(x)).item(), -6, 6).is_convex


def convexity_of(model: nn.Module, loss: Any) -> Convexity:
    """The loss in all weights, along 40 random segments."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)), rng.integers(0, 3, 40)
    return loss_convexity(model, lambda: loss(model(x), y), num_segments=40)


@pytest.mark.parametrize("loss", [nn.softmax_cross_entropy, nn.multiclass_hinge])
def test_convexity_a_linear_classifiers_loss_is_convex_in_its_weights(
    loss: Any,
) -> None:
    assert convexity_of(nn.linear(4, 3).astype("float64"), loss).is_convex


def test_convexity_slices_through_a_networks_loss_are_not_convex() -> None:
    model = nn.mlp(4, (6,), 3).astype("float64")
    found = convexity_of(model, nn.softmax_cross_entropy)
    assert 0 < found.num_violating <= found.num_segments


# --------------------------------------- what shapes the boundary between two classes


def boundary(num_hidden: int, l2: float = 0.0) -> tuple[float, float, float]:
    """(training accuracy, largest slope, Σ|w|²) of a trained 2-H-1 network."""
    x, y = moons(100, noise=0.2, seed=0)
    model = nn.mlp(2, (num_hidden,), 1, activation="tanh").initialize(0)
    score = lambda points: model(points).reshape(-1)  # noqa: E731

    def objective() -> cr.Tensor:
        return nn.sigmoid_cross_entropy(score(x), y) + nn.penalty(model, l2=l2)

    descend(model, objective, 1000, rule="adam", lr=0.03)
    line = np.linspace(-2, 3, 30, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    slopes = cr.grad(lambda p: score(p).sum())(grid).data
    accuracy = ((score(x).data > 0) == y).mean()
    squares = sum((p.data**2).sum() for p in model.parameters() if p.is_penalized)
    return float(accuracy), float(np.linalg.norm(slopes, axis=1).max()), float(squares)


def test_number_of_hidden_units_decides_how_the_boundary_can_bend() -> None:
    accuracies = [boundary(num_hidden)[0] for num_hidden in (1, 4, 20)]
    assert accuracies[0] < 0.92, "one unit draws one line"
    assert accuracies[0] < accuracies[1] <= accuracies[2]
    assert accuracies[2] > 0.97


def test_l2_strength_0_001_0_01_0_1_makes_the_boundary_smoother() -> None:
    found = [boundary(20, l2) for l2 in (0.001, 0.01, 0.1)]
    for weak, strong in pairwise(found):
        assert strong[1] < 0.7 * weak[1], "the largest slope of the score"
        assert strong[2] < weak[2], "the weights"
    assert found[0][0] > found[2][0], "of the training set, less is known by heart"
