"""What every update rule promises, each against its published form in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.trace import tracing
from chainrule.errors import GradientError, OptionError
from chainrule.optim import RULES, Group, Optimizer, optimizer

LR = 0.1
NUM_STEPS = 12


def sgd(w, dw, s, t):
    return w - LR * dw


def momentum(w, dw, s, t):
    s["v"] = 0.9 * s.get("v", 0) + dw
    return w - LR * s["v"]


def nesterov(w, dw, s, t):
    # Bengio et al. 2013, eq. 7: step by -lr·dw, then move on by the new velocity.
    before = s.get("v", 0)
    s["v"] = 0.9 * before - LR * dw
    return w - 0.9 * before + (1 + 0.9) * s["v"]


def adagrad(w, dw, s, t):
    s["g"] = s.get("g", 0) + dw**2
    return w - LR * dw / (np.sqrt(s["g"]) + 1e-10)


def rmsprop(w, dw, s, t):
    s["g"] = 0.99 * s.get("g", 0) + (1 - 0.99) * dw**2
    return w - LR * dw / (np.sqrt(s["g"]) + 1e-8)


def adam(w, dw, s, t):
    s["m"] = 0.9 * s.get("m", 0) + (1 - 0.9) * dw
    s["v"] = 0.999 * s.get("v", 0) + (1 - 0.999) * dw**2
    m_hat = s["m"] / (1 - 0.9**t)
    v_hat = s["v"] / (1 - 0.999**t)
    return w - LR * m_hat / (np.sqrt(v_hat) + 1e-8)


def adamw(w, dw, s, t):
    return adam(w, dw, s, t) - LR * 0.01 * w


PUBLISHED = {f.__name__: f for f in (sgd, momentum, nesterov, adagrad, rmsprop)}
PUBLISHED |= {"adam": adam, "adamw": adamw}

every_rule = pytest.mark.parametrize("name", RULES)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def some_parameters(dtype="float64"):
    rng = np.random.default_rng(0)
    return {
        "weight": cr.Parameter(rng.normal(size=(4, 3)), dtype),
        "bias": cr.Parameter(rng.normal(size=3), dtype, is_penalized=False),
        "scale": cr.Parameter(rng.normal(), dtype),
    }


def backward(parameters, t):
    """A loss that differs from step to step, so that no rule can stand still."""
    weight, bias, scale = parameters.values()
    x = cr.Tensor(np.random.default_rng(t).normal(size=(5, 4)), weight.dtype)
    y = cr.sigmoid(x @ weight + bias) * scale
    ((y - 0.3) ** 2).sum().backward()


def run(chosen, parameters, steps=range(1, NUM_STEPS + 1)):
    for t in steps:
        backward(parameters, t)
        chosen.step()
        chosen.zero_grad()


def test_each_rule_has_a_published_form_to_be_compared_with():
    assert PUBLISHED.keys() == RULES.keys()


@every_rule
@every_dtype
def test_the_trajectory_is_that_of_the_published_rule(name, dtype):
    parameters = some_parameters(dtype)
    chosen = optimizer(name, parameters.items(), lr=LR)
    expected = {k: p.numpy().astype("float64") for k, p in parameters.items()}
    memory = {k: {} for k in parameters}
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    for t in range(1, NUM_STEPS + 1):
        backward(parameters, t)
        for k, p in parameters.items():
            gradient = p.grad.numpy().astype("float64")
            rule = PUBLISHED["adam" if name == "adamw" and k == "bias" else name]
            expected[k] = rule(expected[k], gradient, memory[k], t)
        chosen.step()
        chosen.zero_grad()
        if name == "nesterov":  # the published form keeps lr inside its velocity
            continue
        for k, p in parameters.items():
            np.testing.assert_allclose(p.data, expected[k], rtol=0, atol=tolerance)
    for k, p in parameters.items():
        assert p.dtype == dtype
        np.testing.assert_allclose(p.data, expected[k], rtol=0, atol=tolerance)


@every_rule
@every_dtype
def test_a_state_that_was_saved_and_loaded_goes_on_with_the_same_bits(name, dtype):
    whole = some_parameters(dtype)
    run(optimizer(name, whole.items(), lr=LR), whole)

    broken = some_parameters(dtype)
    first = optimizer(name, broken.items(), lr=LR)
    run(first, broken, range(1, 6))
    copies = {k: cr.Parameter(p.numpy()) for k, p in broken.items()}
    copies["bias"].is_penalized = False
    second = optimizer(name, copies.items())
    second.load_state(first.state())
    run(second, copies, range(6, NUM_STEPS + 1))

    for k, p in whole.items():
        assert p.data.tobytes() == copies[k].data.tobytes()
    assert second.num_steps.item() == NUM_STEPS
    assert second.lr.item() == LR


@every_rule
def test_state_names_are_stable_and_shapes_are_the_parameters(name):
    parameters = some_parameters()
    state = optimizer(name, parameters.items()).state()
    remembered = RULES[name]().state
    expected = {f"{n}/{k}" for n in remembered for k in parameters}
    assert state.keys() == expected | {"num_steps", "lr"}
    for n in remembered:
        for k, p in parameters.items():
            assert state[f"{n}/{k}"].shape == p.shape


@every_rule
def test_weight_decay_is_felt_by_penalized_parameters_only(name):
    plain, decayed = some_parameters(), some_parameters()
    run(optimizer(name, plain.items(), lr=LR, weight_decay=0.0), plain, [1])
    run(optimizer(name, decayed.items(), lr=LR, weight_decay=0.5), decayed, [1])
    assert (plain["weight"].data != decayed["weight"].data).any()
    np.testing.assert_array_equal(plain["bias"].data, decayed["bias"].data)


@every_rule
def test_weight_decay_is_the_gradient_of_half_the_squares(name):
    if name == "adamw":
        pytest.skip("decays the weights themselves; its trajectory is tested above")
    penalized, decayed = some_parameters(), some_parameters()
    chosen = optimizer(name, penalized.items(), lr=LR)
    for t in range(1, NUM_STEPS + 1):
        backward(penalized, t)
        for k in ("weight", "scale"):
            (penalized[k] * penalized[k]).sum().backward(np.array(0.25))
        chosen.step()
        chosen.zero_grad()
    run(optimizer(name, decayed.items(), lr=LR, weight_decay=0.5), decayed)
    for k in penalized:
        np.testing.assert_allclose(penalized[k].data, decayed[k].data, atol=1e-9)


@every_rule
def test_a_groups_learning_rate_is_the_optimizers_times_its_factor(name):
    slow, scaled = some_parameters(), some_parameters()
    run(optimizer(name, slow.items(), lr=LR / 4), slow, [1])
    groups = [Group("weight", lr_scale=0.25)]
    run(optimizer(name, scaled.items(), lr=LR, groups=groups), scaled, [1])
    np.testing.assert_array_equal(slow["weight"].data, scaled["weight"].data)
    assert (slow["bias"].data != scaled["bias"].data).any()


@every_rule
def test_frozen_parameters_and_those_without_a_gradient_stay_as_they_are(name):
    parameters = some_parameters()
    before = {k: p.numpy() for k, p in parameters.items()}
    chosen = optimizer(name, parameters.items(), lr=LR)
    backward(parameters, 1)
    parameters["weight"].requires_grad = False
    parameters["bias"].grad = None
    chosen.step()
    np.testing.assert_array_equal(parameters["weight"].data, before["weight"])
    np.testing.assert_array_equal(parameters["bias"].data, before["bias"])
    assert parameters["scale"].item() != before["scale"]
    for state, array in chosen.state().items():
        if state.endswith(("/weight", "/bias")):
            assert not array.any()


@every_rule
def test_a_step_changes_the_arrays_in_place_and_records_nothing(name):
    parameters = some_parameters()
    arrays = {k: p.data for k, p in parameters.items()}
    chosen = optimizer(name, parameters.items(), lr=LR)
    run(chosen, parameters, [1, 2])
    for k, p in parameters.items():
        assert p.data is arrays[k]
        assert p.op is None
    assert not any(b.requires_grad for _, b in chosen.named_state())


@every_rule
def test_a_gradient_pass_that_began_before_the_step_is_refused(name):
    parameters = some_parameters()
    chosen = optimizer(name, parameters.items(), lr=LR)
    loss = (parameters["weight"] ** 2).sum()
    backward(parameters, 1)
    chosen.step()
    with pytest.raises(GradientError, match="was overwritten after it was used"):
        loss.backward()


@every_rule
def test_the_learning_rate_is_an_input_and_not_built_in(name):
    once, later = some_parameters(), some_parameters()
    run(optimizer(name, once.items(), lr=0.01), once)
    chosen = optimizer(name, later.items(), lr=10.0)
    chosen.set_lr(0.01)
    run(chosen, later)
    np.testing.assert_array_equal(once["weight"].data, later["weight"].data)


@every_rule
def test_the_ops_that_a_captured_step_consists_of_do_what_the_step_in_place_does(name):
    eager, captured = some_parameters(), some_parameters()
    run(optimizer(name, eager.items(), lr=LR, weight_decay=0.3), eager)
    chosen = optimizer(name, captured.items(), lr=LR, weight_decay=0.3)
    for t in range(1, NUM_STEPS + 1):
        backward(captured, t)
        with tracing():
            chosen.step()
        chosen.zero_grad()
    for k, p in eager.items():
        np.testing.assert_allclose(p.data, captured[k].data, atol=1e-13)


def trained(name, dtype, compiles):
    """Losses of some steps, then parameters and the optimizer's state."""
    parameters = some_parameters(dtype)
    weight, bias, scale = parameters.values()
    groups = [Group("weight", lr_scale=0.5)]
    chosen = optimizer(
        name, parameters.items(), lr=LR, weight_decay=0.01, groups=groups
    )

    def step(x):
        loss = ((cr.sigmoid(x @ weight + bias) * scale - 0.3) ** 2).sum()
        loss.backward()
        chosen.step()
        chosen.zero_grad()
        return loss

    run = cr.compile(step) if compiles else step
    found = []
    for t, n in enumerate([5, 5, 17, 5, 1, 5]):
        chosen.set_lr(LR / (t + 1))
        x = np.random.default_rng(t).normal(size=(n, 4)).astype(dtype)
        found.append(run(cr.Tensor(x)).numpy())
    if compiles:
        assert run.report().through_compute == []
    values = [p.data for p in parameters.values()] + [*chosen.state().values()]
    return found + [np.array(v) for v in values]


@every_rule
@every_dtype
def test_native_steps_agree_in_parameters_and_state(name, dtype, agreement):
    eager, exact = (trained(name, d, False) for d in (dtype, "float64"))
    agreement.close(trained(name, dtype, True), eager, exact)


@every_rule
def test_every_rule_is_documented_with_its_source_and_printed_as_formulas(name):
    assert "Source:" in RULES[name].__doc__
    assert "w ← w - " in str(RULES[name]())


@every_rule
def test_settings_out_of_range_and_unknown_ones_are_refused(name):
    parameters = some_parameters().items()
    with pytest.raises(OptionError, match="weight_decay is out of range"):
        optimizer(name, parameters, weight_decay=-1)
    with pytest.raises(OptionError, match=f"unknown setting of {name} 'weight_decoy'"):
        optimizer(name, parameters, weight_decoy=1)
    with pytest.raises(OptionError, match="learning rate is out of range"):
        Optimizer(parameters, lr=float("nan"))
