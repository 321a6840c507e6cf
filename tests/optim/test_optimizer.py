"""The optimizer around the rules: groups, state, names."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import CheckpointError, OptionError
from chainrule.optim import Group, Optimizer, optimizer


def parameters():
    return {
        "layers.0.weight": cr.Parameter([[1.0, 2.0]]),
        "layers.0.bias": cr.Parameter([1.0], is_penalized=False),
        "layers.10.weight": cr.Parameter([3.0]),
    }


def step_with_ones(chosen, of):
    for p in of.values():
        p.grad = cr.ones_like(p)
    chosen.step()
    return {k: p.tolist() for k, p in of.items()}


def test_the_first_group_that_matches_decides():
    ps = parameters()
    groups = [Group("layers.0.bias", lr_scale=0.0), Group("layers.0", lr_scale=0.5)]
    after = step_with_ones(Optimizer(ps.items(), lr=1.0, groups=groups), ps)
    assert after == {
        "layers.0.weight": [[0.5, 1.5]],
        "layers.0.bias": [1.0],
        "layers.10.weight": [2.0],
    }


def test_a_group_may_have_a_weight_decay_of_its_own():
    ps = parameters()
    groups = [Group("layers.10", weight_decay=0.5)]
    after = step_with_ones(optimizer("sgd", ps.items(), lr=1.0, groups=groups), ps)
    assert after["layers.10.weight"] == [3.0 - (1 + 0.5 * 3.0)]
    assert after["layers.0.weight"] == [[0.0, 1.0]]


def test_parameters_of_two_dtypes_are_trained_each_in_its_own():
    ps = {"a": cr.Parameter([1.0], "float32"), "b": cr.Parameter([1.0], "float64")}
    chosen = optimizer("adam", ps.items(), lr=0.1)
    step_with_ones(chosen, ps)
    assert (ps["a"].dtype, ps["b"].dtype) == ("float32", "float64")
    assert abs(ps["b"].item() - 0.9) < 1e-8
    assert abs(ps["a"].item() - 0.9) < 1e-6


def test_a_group_without_parameters_is_refused_with_the_nearest_path():
    with pytest.raises(OptionError) as raised:
        Optimizer(parameters().items(), groups=[Group("layer.0.weight")])
    assert str(raised.value) == (
        "optimizer: group 'layer.0.weight' has no parameters\n"
        "  got:      layer.0.weight\n"
        "  expected: a path, or the first part of one, of a parameter\n"
        "  try:      did you mean 'layers.0.weight'?"
    )


def test_an_unknown_optimizer_is_refused_with_the_nearest_name():
    with pytest.raises(OptionError) as raised:
        optimizer("adm", parameters().items())
    assert str(raised.value) == (
        "unknown optimizer 'adm'\n"
        "  got:      'adm'\n"
        "  expected: one of adagrad, adam, adamw, momentum, nesterov, rmsprop, sgd\n"
        "  try:      did you mean 'adam'?"
    )


def test_state_of_another_rule_is_refused_and_nothing_is_changed():
    chosen = optimizer("adam", parameters().items(), lr=0.5)
    before = chosen.state()
    other = optimizer("momentum", parameters().items(), lr=0.1).state()
    with pytest.raises(CheckpointError, match="of another optimizer or model"):
        chosen.load_state(other)
    assert chosen.lr.item() == 0.5
    assert before.keys() == chosen.state().keys()


def test_state_of_another_shape_or_dtype_is_refused_and_nothing_is_changed():
    chosen = optimizer("momentum", parameters().items(), lr=0.5)
    good = {**chosen.state(), "lr": np.array(0.25)}
    for bad in (np.ones(2, np.float32), np.ones(1, np.float64)):
        with pytest.raises(CheckpointError) as raised:
            chosen.load_state({**good, "velocity/layers.10.weight": bad})
        assert "optimizer: 'velocity/layers.10.weight' does not fit" in str(
            raised.value
        )
        assert chosen.lr.item() == 0.5
    chosen.load_state(good)
    assert chosen.lr.item() == 0.25


def test_a_state_once_taken_is_a_copy():
    ps = parameters()
    chosen = optimizer("momentum", ps.items(), lr=1.0)
    before = chosen.state()
    step_with_ones(chosen, ps)
    assert not before["velocity/layers.10.weight"].any()
    assert before["num_steps"] == 0


def test_a_gradient_of_another_shape_is_refused_before_anything_changes():
    p = cr.Parameter(np.ones((2, 3)))
    p.grad = cr.Tensor(np.ones((3, 2)))
    chosen = optimizer("momentum", [("w", p)])
    with pytest.raises(cr.errors.ShapeError, match="the gradient of w does not fit"):
        chosen.step()
    assert not chosen.state()["velocity/w"].any()


@pytest.mark.parametrize("name", ["momentum", "adam", "rmsprop"])
def test_state_that_only_decays_becomes_zero_and_never_denormal(name):
    w = cr.Parameter(np.ones(3, np.float32))
    descent = optimizer(name, [("w", w)], lr=1e-3)
    smallest = np.finfo(np.float32).tiny
    for step in range(2000):
        w.grad = cr.Tensor([1.0, 0.0, 1e-3] if step == 0 else [0.0, 0.0, 0.0])
        descent.step()
        for path, state in descent.state().items():
            values = np.abs(state[state != 0])
            assert (values >= smallest).all(), f"{path} after step {step + 1}"
    assert np.isfinite(w.data).all()
