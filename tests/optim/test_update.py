"""Expressions carried out in place: the NumPy code that they become, and its traps."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.core import scalar
from chainrule.core.scalar import sqrt, symbol
from chainrule.core.trace import tracing
from chainrule.errors import GradientError
from chainrule.optim.update import Program, Update

w, dw, v, rate = map(symbol, ("w", "dw", "v", "rate"))


def test_the_code_in_place_writes_each_passing_value_over_one_that_is_used_up():
    steps = {"v": 0.9 * v + (dw + 0.5 * w), "w": w - rate * (v / (sqrt(v) + 1.0))}
    source = scalar.in_place_source("step", ("v", "w", "dw", "rate"), ("rate",), steps)
    assert source == (
        "def numpy_step(v, w, dw, rate):\n"
        "    t0 = empty_like(v)\n"
        "    multiply(0.9, v, out=v)\n"
        "    multiply(0.5, w, out=t0)\n"
        "    add(dw, t0, out=t0)\n"
        "    add(v, t0, out=v)\n"
        "    sqrt(v, out=t0)\n"
        "    add(t0, 1.0, out=t0)\n"
        "    divide(v, t0, out=t0)\n"
        "    multiply(rate, t0, out=t0)\n"
        "    subtract(w, t0, out=w)"
    )


def test_an_old_value_that_is_read_again_is_not_overwritten_before():
    made = Program({"w": (w * 2 + dw) * (w - dw) - w * dw}, ("dw",))
    parameter = cr.Parameter([1.0, -2.0, 3.0], "float64")
    gradient = cr.Tensor([0.5, 0.25, -1.0], "float64")
    a, b = parameter.numpy(), gradient.numpy()
    made.run([parameter], [gradient])
    np.testing.assert_array_equal(parameter.data, (a * 2 + b) * (a - b) - a * b)
    np.testing.assert_array_equal(gradient.data, b)


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_eager_and_captured_assignments_agree_for_every_shape(shape):
    program = Program(
        {"v": v * 0.5 + dw, "w": w - rate * v}, ("dw",), {"rate": symbol("lr") / 3}
    )
    results = []
    for captured in (False, True):
        variables = [cr.Buffer(np.full(shape, 2.0)), cr.Buffer(np.full(shape, 7.0))]
        with cr.no_grad():
            numbers = {"lr": cr.Buffer(0.3)}
            if captured:
                with tracing():
                    read = program.numbers(numbers, np.dtype("float64"))
                    program.run(variables, [cr.Tensor(np.ones(shape))], read)
            else:
                read = program.numbers(numbers, np.dtype("float64"))
                program.run(variables, [cr.Tensor(np.ones(shape))], read)
        results.append([t.data for t in variables])
    for eager, captured in zip(*results, strict=True):
        np.testing.assert_allclose(eager, captured, rtol=1e-7)
        assert eager.shape == shape


def test_overflow_and_division_by_zero_are_silent_as_in_every_op():
    parameter = cr.Parameter([1e30, 0.0])
    Program({"w": w * w / (w * 0)}).run([parameter])
    assert np.isinf(parameter.data[0])
    assert np.isnan(parameter.data[1])


def test_an_update_prints_as_its_formula_and_has_no_gradient():
    op = Update.make(w - 0.5 * dw)
    assert op.formula("a", "b") == "a - 0.5·b"
    x = cr.Tensor([1.0], requires_grad=True)
    y = cr.core.graph.apply(op, x, x)
    assert y.tolist() == [0.5]
    with pytest.raises(GradientError, match="an optimizer's step has no gradient"):
        y.backward()
