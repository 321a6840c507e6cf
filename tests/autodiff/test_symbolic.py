"""SymPy as the referee of the elementwise ops' rules, and of small functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff import symbolic_derivative, symbolic_expression
from chainrule.autodiff.symbolic import symbolic_gradient
from chainrule.core.graph import OPS, as_tensor
from chainrule.errors import GradientError, OptionError
from chainrule.ops.elementwise import ElementwiseOp, Logic

sympy = pytest.importorskip("sympy")

SETTINGS: dict[str, list[tuple[Any, ...]]] = {
    "power_constant": [(2,), (3,), (-1,), (0.5,), (0,)],
    "clip": [(-0.5, 0.75)],
    "leaky_relu": [(0.1,)],
    "elu": [(1.0,), (0.5,)],
}
CASES = [
    (name, settings)
    for name, cls in OPS.items()
    if issubclass(cls, ElementwiseOp)
    for settings in SETTINGS.get(name, [()])
]
# Dyadic, so that NumPy and SymPy start from the same numbers; no kinks, no ties.
POINTS = [
    (0.375, 1.625, -0.25),
    (-0.875, 0.5, 2.5),
    (1.25, -1.75, 0.625),
    (3.5, 2.25, 1.0),
    # And at random.
    *map(tuple, np.random.default_rng(0).integers(-200, 200, (12, 3)) / 64 + 1 / 128),
]


def _operands(op: Any, point: tuple[float, ...]) -> tuple[dict[Any, Any], list[Any]]:
    """The operands at a point, as SymPy substitutions and as tensors."""
    exact: dict[Any, Any] = {}
    tensors = []
    for argument, value in zip(op.arguments, point, strict=False):
        symbol = sympy.Symbol(argument, real=True)
        is_condition = argument == "condition" or isinstance(op, Logic)
        exact[symbol] = (
            sympy.sympify(value > 0) if is_condition else sympy.Rational(value)
        )
        tensors.append(as_tensor(np.array(value > 0 if is_condition else value)))
    return exact, tensors


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_each_elementwise_rule_equals_the_symbolic_derivative(
    name: str, settings: tuple[Any, ...]
) -> None:
    op: Any = OPS[name].make(*settings)
    derivatives = symbolic_derivative(op)
    num_compared = 0
    for point in POINTS:
        exact, tensors = _operands(op, point)
        value = symbolic_expression(op).subs(exact)
        if value.is_Boolean or not value.is_real:
            continue  # a comparison, or outside the op's domain
        y = as_tensor(np.asarray(op.compute(*(t.data for t in tensors))))
        assert abs(y.item() - float(value.evalf(30))) < 1e-14 * (1 + abs(y.item()))
        local = op.gradient(as_tensor(np.array(1.0)), y, *tensors)
        for given, derivative, x in zip(local, derivatives, tensors, strict=True):
            if x.dtype == np.bool_:
                continue
            wanted = float(derivative.subs(exact).doit().evalf(30))
            ours = given() if callable(given) else given
            found = 0.0 if ours is None else ours.item()
            assert abs(found - wanted) < 2e-14 * (1 + abs(wanted)), (name, point)
        num_compared += 1
    assert op.is_boolean or num_compared >= 2


def test_derivatives_print_as_formulas() -> None:
    assert str(symbolic_derivative(OPS["multiply"])) == "(y, x)"
    assert str(symbolic_derivative(OPS["tanh"])[0]) == "1 - tanh(x)**2"
    assert str(symbolic_expression(OPS["power_constant"].make(3))) == "x**3"


def test_an_op_that_is_not_elementwise_is_refused() -> None:
    with pytest.raises(OptionError, match="matmul is not an elementwise op"):
        symbolic_derivative(OPS["matmul"])


def test_whole_functions_are_read_through_sums_products_and_reshapes() -> None:
    def f(w: Any, x: Any) -> Any:
        return (cr.tanh(w @ x.reshape(2, 1)) ** 2).mean()

    w, x = np.array([[0.5, -1.0], [2.0, 0.25]]), np.array([0.75, -0.5])
    found = symbolic_gradient(f, w, x)
    assert [str(s) for s in found.symbols][:3] == ["w_0_0", "w_0_1", "w_1_0"]
    ours = np.concatenate(
        [g.data.reshape(-1) for g in cr.autodiff.grad(f, (0, 1))(w, x)]
    )
    assert np.allclose(found.evaluate(w, x), ours, rtol=1e-13)


def test_indices_stay_numbers() -> None:
    found = symbolic_gradient(lambda x: x[np.array([1, 1])].sum(), np.ones(3))
    assert found.derivatives == [0, 2, 0]


def test_too_many_symbols_and_unreadable_ops_are_named() -> None:
    with pytest.raises(OptionError, match="too many symbols"):
        symbolic_gradient(lambda x: x.sum(), np.ones(65))
    with pytest.raises(GradientError, match="softmax has no symbolic reading"):
        symbolic_gradient(lambda x: cr.softmax(x)[0], np.ones(2))
    with pytest.raises(GradientError, match="does not return one number"):
        symbolic_gradient(lambda x: x * 2, np.ones(2))
