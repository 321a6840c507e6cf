"""Scalar expressions: their readings as NumPy code and as formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.core import scalar
from chainrule.core.scalar import (
    PRIMITIVES,
    constant,
    fold,
    formula,
    in_place_function,
    numpy_function,
    numpy_source,
    substitute,
    symbol,
    symbols,
)

X, Y = symbol("x"), symbol("y")

# How many operands each primitive takes, counted in its NumPy source.
ARITY = {kind: p.source.count("{}") for kind, p in PRIMITIVES.items()}
TOTAL = ["add", "subtract", "multiply", "negative", "absolute", "sign", "floor"]
TOTAL += ["tanh", "minimum", "maximum"]
MEANING = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "negative": lambda x: -x,
    "absolute": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "floor": math.floor,
    "tanh": math.tanh,
    "minimum": min,
    "maximum": max,
}
NUMBERS = st.floats(-4, 4, width=32)
LEAVES = st.sampled_from([X, Y]) | NUMBERS.map(constant)


def compose(children):
    """An expression of one more primitive."""
    return st.sampled_from(TOTAL).flatmap(
        lambda kind: st.tuples(*[children] * ARITY[kind]).map(
            lambda args: scalar.Expr(kind, args)
        )
    )


EXPRESSIONS = st.recursive(LEAVES, compose, max_leaves=8)


@given(EXPRESSIONS, NUMBERS, NUMBERS)
def test_numpy_code_means_what_the_expression_says(expression, x, y):
    expected = fold(expression, MEANING, {"x": x, "y": y}, lambda v: v)
    run = numpy_function("f", ("x", "y"), expression)
    found = run(np.array([x, 0.0]), np.array([y, 0.0]))
    assert np.broadcast_to(found, 2)[0] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(EXPRESSIONS, NUMBERS, NUMBERS)
def test_numpy_code_in_place_means_the_same(expression, x, y):
    if not expression.args or not symbols(expression):
        return
    second = expression - 2 * X  # of the new x: assignments follow one another
    x_after = fold(expression, MEANING, {"x": x, "y": y}, lambda v: v)
    y_after = fold(second, MEANING, {"x": x_after, "y": y}, lambda v: v)
    run = in_place_function("f", ("x", "y"), (), {"x": expression, "y": second})
    a, b = np.array([x, 0.0]), np.array([y, 0.0])
    run(a, b)
    assert a[0] == pytest.approx(x_after, rel=1e-12, abs=1e-12)
    assert b[0] == pytest.approx(y_after, rel=1e-12, abs=1e-12)


@given(EXPRESSIONS, NUMBERS, NUMBERS)
def test_substitution_and_evaluation_commute(expression, x, y):
    swapped = substitute(expression, {"x": Y, "y": X * 1})
    a = fold(expression, MEANING, {"x": y, "y": x}, lambda v: v)
    b = fold(swapped, MEANING, {"x": x, "y": y}, lambda v: v)
    assert a == pytest.approx(b)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (X - (Y - 1), "x - (y - 1)"),
        ((X - Y) - 1, "x - y - 1"),
        (X * (Y + 1), "x·(y + 1)"),
        (-(X + Y), "-(x + y)"),
        (-X * Y, "-x·y"),
        (scalar.power(X + 1, 2), "(x + 1)^2"),
        (scalar.power(X, Y), "x^y"),
        (1 / (1 + scalar.exp(-X)), "1 / (1 + exp(-x))"),
        (scalar.maximum(X, 0), "max(x, 0)"),
        (scalar.select(scalar.greater(X, 0), X, 0.1 * X), "(x > 0 ? x : 0.1·x)"),
        (scalar.absolute(X - Y), "|x - y|"),
        (X / (Y / 2), "x / (y / 2)"),
        (
            scalar.logical_or(
                scalar.logical_and(scalar.less(X, Y), scalar.logical_not(Y)), X
            ),
            "x < y ∧ ¬y ∨ x",
        ),
        (
            scalar.logical_not(scalar.logical_and(X, scalar.logical_or(X, Y))),
            "¬(x ∧ (x ∨ y))",
        ),
    ],
)
def test_an_expression_prints_as_a_person_writes_it(expression, text):
    assert formula(expression) == text


def test_shared_parts_are_computed_once():
    e = scalar.exp(X)
    assert numpy_source("f", ("x",), e / (1 + e)) == (
        "def numpy_f(x):\n    t0 = exp(x)\n    return (t0 / (1 + t0))"
    )


def test_a_single_primitive_is_the_numpy_function_itself():
    assert numpy_function("add", ("x", "y"), X + Y) is np.add
    assert numpy_function("swapped", ("x", "y"), Y - X) is not np.subtract


def test_infinite_and_missing_numbers_can_be_constants():
    run = numpy_function("f", ("x",), scalar.minimum(X, math.inf))
    assert run(np.array([1.0]))[0] == 1.0
    run = numpy_function("g", ("x",), X + math.nan)
    assert np.isnan(run(np.array([1.0]))).all()


def test_overflow_and_division_by_zero_come_without_a_warning():
    run = numpy_function("f", ("x",), scalar.log(X) + 1 / X + scalar.exp(X))
    with np.errstate(all="raise"):
        assert np.isnan(run(np.array([0.0, -1e4]))).any()


def test_a_deep_expression_does_not_exhaust_the_stack():
    e = X
    for _ in range(5000):
        e = e + 1
    assert fold(e, MEANING, {"x": 0}, lambda v: v) == 5000


def test_symbols_come_in_the_order_of_their_first_use():
    assert symbols((Y - X) * Y) == ("y", "x")


def test_numpys_numbers_become_pythons_in_the_source():
    power = scalar.power(np.float64(0.5), X)
    assert "np." not in numpy_source("f", ("x",), power + np.float32(2))
    assert numpy_function("f", ("x",), power)(np.float32(2)) == 0.25
    x = np.array([1.0])
    in_place_function("g", ("x",), (), {"x": scalar.minimum(X, math.inf) + power})(x)
    assert x[0] == 1.5
