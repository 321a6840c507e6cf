"""grad, vjp, jvp, hvp, jacobian, hessian: values, structures, nesting."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.autodiff import (
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    numerical_gradient,
    value_and_grad,
    vjp,
)
from chainrule.errors import DtypeError, GradientError, OptionError, ShapeError

RNG = np.random.default_rng(0)


def cube(x: Any) -> Any:
    return (x**3).sum()


def test_grad_has_the_values_of_the_formula() -> None:
    x = np.array([1.0, -2.0, 3.0])
    assert grad(cube)(x).tolist() == [3.0, 12.0, 27.0]
    value, slope = value_and_grad(cube)(x)
    assert value.item() == 20.0
    assert slope.tolist() == [3.0, 12.0, 27.0]


def test_results_nobody_can_differentiate_further_carry_no_history() -> None:
    value, slope = value_and_grad(cube)(np.ones(2))
    assert not value.requires_grad
    assert not slope.requires_grad
    assert slope.op is None


def test_grad_leaves_the_grad_field_of_its_inputs_alone() -> None:
    x = cr.Tensor([1.0, 2.0], requires_grad=True)
    grad(cube)(x)
    assert x.grad is None


@pytest.mark.parametrize(("argument", "wanted"), [(0, 5.0), (1, 2.0), (-1, 2.0)])
def test_grad_takes_one_argument_by_number(argument: int, wanted: float) -> None:
    assert grad(lambda x, y: x * y, argument)(2.0, 5.0).item() == wanted


def test_grad_takes_several_arguments_at_once() -> None:
    found = grad(lambda x, y, z: x * y * z, (2, 0))(2.0, 3.0, 5.0)
    assert [g.item() for g in found] == [6.0, 15.0]


def test_the_gradient_has_the_structure_of_its_argument() -> None:
    Layer = namedtuple("Layer", "w b")
    parameters = {
        "layers": [Layer(2.0, 3.0), Layer(5.0, 7.0)],
        "scale": (np.array([1.0, 2.0]),),
    }

    def f(p: Any, x: float) -> Any:
        for layer in p["layers"]:
            x = layer.w * x + layer.b
        return (x * p["scale"][0]).sum()

    found = grad(f)(parameters, 1.0)
    assert list(found) == ["layers", "scale"]
    assert isinstance(found["layers"][0], Layer)
    assert [g.item() for layer in found["layers"] for g in layer] == [15, 15, 15, 3]
    assert found["scale"][0].tolist() == [32.0, 32.0]


def test_an_argument_that_does_not_matter_has_a_gradient_of_zeros() -> None:
    assert grad(lambda x, y: x.sum(), 1)(cr.Tensor(2.0), np.ones(3)).tolist() == [
        0.0,
        0.0,
        0.0,
    ]


def test_grad_nests_to_any_order() -> None:
    derivative: Any = lambda x: x**5  # noqa: E731
    for wanted in (80.0, 160.0, 240.0, 240.0, 120.0, 0.0):
        derivative = grad(derivative)
        assert derivative(np.array(2.0)).item() == wanted


def test_nested_derivatives_by_different_variables_are_not_confused() -> None:
    # d/dx [x · d/dy (x + y)] = 1: the inner derivative must not see x through y.
    assert grad(lambda x: x * grad(lambda y: x + y)(x))(1.0).item() == 1.0
    # d/dx [x · d/dy (x·y)] at y = x is d/dx x² = 2x.
    assert grad(lambda x: x * grad(lambda y: x * y)(x))(3.0).item() == 6.0


def test_one_tensor_given_twice_keeps_its_two_roles_apart() -> None:
    x = cr.Tensor(3.0, requires_grad=True)
    found = grad(lambda a, b: a * a * b, (0, 1))(x, x)
    assert [g.item() for g in found] == [18.0, 9.0]


def test_backward_reaches_through_grad_to_a_closure() -> None:
    w = cr.Parameter(3.0)
    slope = grad(lambda x: w * x * x)(2.0)  # 2·w·x
    (slope**2).backward()  # gradient penalty: (2wx)² by w = 8wx²
    assert w.grad.item() == 8 * 3 * 4


def test_backward_reaches_through_grad_to_its_argument() -> None:
    x = cr.Tensor(2.0, requires_grad=True)
    grad(lambda x: x**3)(x).backward()
    assert x.grad.item() == 12.0


def test_under_no_grad_the_derivative_is_found_and_not_recorded() -> None:
    x = cr.Tensor(2.0, requires_grad=True)
    with cr.no_grad():
        slope = grad(lambda x: x**3)(x)
        twice = grad(grad(lambda x: x**3))(x)
    assert (slope.item(), twice.item()) == (12.0, 12.0)
    assert not slope.requires_grad


def test_keyword_arguments_are_options_and_are_passed_on() -> None:
    def f(x: Any, *, power: int) -> Any:
        return x**power

    assert grad(f)(2.0, power=3).item() == 12.0


@pytest.mark.parametrize("f", [lambda x: x, lambda x: (x, x)])
def test_grad_of_something_larger_than_a_number_says_what_to_use(f: Any) -> None:
    with pytest.raises(GradientError, match="does not return one number") as caught:
        grad(f)(np.ones(2))
    assert "jacobian or vjp" in str(caught.value)


def test_integers_have_no_derivative() -> None:
    with pytest.raises(DtypeError) as caught:
        grad(lambda x: x * x)(3)
    assert str(caught.value) == (
        "grad: only floats have derivatives\n"
        "  got:      int64[]\n"
        "  expected: float32 or float64\n"
        "  try:      pass 3.0 instead of 3, or close over what is not differentiated"
    )


def test_functions_that_leave_the_tensors_are_named() -> None:
    with pytest.raises(DtypeError, match="did not return a tensor"):
        grad(lambda x: x.item())(3.0)
    with pytest.raises(OptionError, match="there is no argument 1"):
        grad(lambda x: x, 1)(3.0)


def test_vjp_multiplies_by_the_transposed_jacobian() -> None:
    w, x = RNG.normal(size=(3, 4)), RNG.normal(size=4)
    y, pullback = vjp(lambda w, x: w @ x, w, x)
    dy = RNG.normal(size=3)
    dw, dx = pullback(dy)
    assert np.allclose(y.data, w @ x)
    assert np.allclose(dw.data, np.outer(dy, x))
    assert np.allclose(dx.data, w.T @ dy)
    assert np.allclose(pullback(2 * dy)[1].data, 2 * dx.data), "may be called again"


def test_vjp_of_a_structured_result_takes_dy_of_the_same_structure() -> None:
    y, pullback = vjp(lambda x: {"double": x * 2, "square": (x * x,)}, 3.0)
    assert (y["double"].item(), y["square"][0].item()) == (6.0, 9.0)
    (dx,) = pullback({"double": 1.0, "square": (10.0,)})
    assert dx.item() == 62.0


def test_vjp_refuses_a_dy_of_another_shape() -> None:
    _, pullback = vjp(lambda x: x * 2, np.ones(3))
    with pytest.raises(ShapeError, match="dy has another shape"):
        pullback(np.ones(2))


def test_jvp_multiplies_by_the_jacobian() -> None:
    w, x = RNG.normal(size=(3, 4)), RNG.normal(size=4)
    dw, dx = RNG.normal(size=(3, 4)), RNG.normal(size=4)
    y, dy = jvp(lambda w, x: cr.tanh(w @ x), (w, x), (dw, dx))
    wanted = (1 - np.tanh(w @ x) ** 2) * (dw @ x + w @ dx)
    assert np.allclose(y.data, np.tanh(w @ x))
    assert np.allclose(dy.data, wanted, rtol=1e-12)
    with pytest.raises(ShapeError, match="the tangent has another shape"):
        jvp(cr.sin, (x,), (np.ones(3),))


def test_jvp_of_what_does_not_depend_on_the_input_is_zero() -> None:
    _, dy = jvp(lambda x: cr.Tensor([1.0, 2.0]), 3.0, 1.0)
    assert dy.tolist() == [0.0, 0.0]


def test_jvp_nests_with_grad() -> None:
    found = grad(lambda x: jvp(lambda y: x * y**2, 3.0, 1.0)[1])(2.0)  # d/dx 6x
    assert found.item() == 6.0
    second = jvp(lambda x: jvp(lambda x: x**3, x, 1.0)[1], np.array(2.0), 1.0)[1]
    assert second.item() == 12.0


def test_hvp_is_the_hessian_times_a_vector_without_the_hessian() -> None:
    x, v = RNG.normal(size=(2, 3, 2))
    f = lambda x: (cr.sin(x) * x[:1]).sum()  # noqa: E731
    h = hessian(f, x).data.reshape(6, 6)
    assert np.allclose(hvp(f, x, v).data.reshape(-1), h @ v.reshape(-1), rtol=1e-10)
    assert np.allclose(h, h.T)
    found = hvp(
        lambda p: p["a"] ** 2 * p["b"], {"a": 2.0, "b": 3.0}, {"a": 1.0, "b": 0.0}
    )
    assert {k: g.item() for k, g in found.items()} == {"a": 6.0, "b": 4.0}


@pytest.mark.parametrize("shape", [(2,), (7,)])
def test_a_jacobian_has_output_axes_first_by_rows_and_by_columns(shape: Any) -> None:
    # 2 inputs and 4 outputs go by columns, 7 inputs by rows: the answer is the same.
    w = RNG.normal(size=(2, 2, *shape))
    x = RNG.normal(size=shape)
    j = jacobian(lambda x: cr.sin((w * x).sum(-1)), x)
    wanted = np.cos((w * x).sum(-1))[..., None] * w
    assert j.shape == (2, 2, *shape)
    assert np.allclose(j.data, wanted)
    turned = jacobian(lambda x: cr.sin((w * x).sum(-1)), x, layout="input_output")
    assert turned.shape == (*shape, 2, 2)
    assert np.allclose(turned.data, np.moveaxis(wanted, -1, 0))


def test_an_input_output_jacobian_of_many_axes_keeps_their_order() -> None:
    x = RNG.normal(size=(2, 3))
    plain = jacobian(lambda x: cr.exp(x).transpose(), x).data
    turned = jacobian(lambda x: cr.exp(x).transpose(), x, layout="input_output").data
    assert turned.shape == (2, 3, 3, 2)
    assert np.array_equal(turned, plain.transpose(2, 3, 0, 1))


def test_jacobians_nest() -> None:
    x = np.array([1.0, 2.0])
    second = jacobian(lambda x: jacobian(lambda x: x**3, x), x)
    assert second.shape == (2, 2, 2)
    assert [second.data[0, 0, 0], second.data[1, 1, 1]] == [6.0, 12.0]
    assert np.count_nonzero(second.data) == 2


def test_jacobians_of_empty_and_of_scalar_tensors_have_the_right_shape() -> None:
    assert jacobian(lambda x: x * 2, cr.Tensor(1.0)).shape == ()
    assert jacobian(lambda x: x[:0], np.ones(3)).shape == (0, 3)


def test_an_unknown_layout_offers_the_two_there_are() -> None:
    with pytest.raises(OptionError, match="unknown Jacobian layout 'transposed'"):
        jacobian(cr.sin, np.ones(2), layout="transposed")


# ------------------------------------------------------------------ random functions

UNARY = [
    cr.sin,
    cr.cos,
    cr.tanh,
    cr.sigmoid,
    cr.softplus,
    lambda x: x * x,
    lambda x: -x,
]
BINARY = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: x / (y * y + 1),
]


def _function(program: list[tuple[int, int, int]]) -> Any:
    """A function of a vector: each step combines two earlier values."""

    def f(x: Any) -> Any:
        values = [x[0], x[1], x[2]]
        for kind, i, j in program:
            a, b = values[i % len(values)], values[j % len(values)]
            if kind < len(UNARY):
                values.append(UNARY[kind](a))
            else:
                values.append(cr.tanh(BINARY[kind - len(UNARY)](a, b)))
        return sum(values[1:], values[0])

    return f


steps = st.tuples(
    st.integers(0, len(UNARY) + len(BINARY) - 1), st.integers(0, 9), st.integers(0, 9)
)
points = st.lists(st.floats(-2, 2), min_size=3, max_size=3).map(np.array)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(program=st.lists(steps, min_size=1, max_size=8), x=points, v=points)
def test_gradients_of_random_expressions_equal_differences(
    program: Any, x: Any, v: Any
) -> None:
    f = _function(program)
    automatic = grad(f)(x).data
    numerical = numerical_gradient(f, x, h=1e-5).data
    scale = 1 + np.abs(automatic).max()
    assert np.abs(automatic - numerical).max() < 1e-6 * scale
    assert abs(jvp(f, x, v)[1].item() - automatic @ v) < 1e-9 * scale
    curvature = hvp(f, x, v).data
    differences = (grad(f)(x + 1e-5 * v).data - grad(f)(x - 1e-5 * v).data) / 2e-5
    assert np.abs(curvature - differences).max() < 1e-5 * (1 + np.abs(curvature).max())
