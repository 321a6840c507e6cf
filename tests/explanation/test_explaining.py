"""What explain refuses, and what it says where there is nothing to write out."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import (
    DtypeError,
    GradientError,
    IndexingError,
    OptionError,
    ShapeError,
)
from chainrule.explanation import explain


def variable(values, name=None):
    return cr.Tensor(values, "float64", requires_grad=True, name=name)


def test_a_value_that_is_an_array_asks_for_an_entry():
    x = variable([[1.0, 2.0, 3.0]], "x")
    with pytest.raises(ShapeError) as error:
        explain(x * x, wrt=x)
    assert str(error.value) == (
        "explain: y is an array, and one number is explained at a time\n"
        "  got:      float64[1, 3]\n"
        "  expected: a single number, or of_entry= for one entry\n"
        "  try:      of_entry=(0, 2), one of 3; or explain y.sum()"
    )
    found = explain(x * x, wrt=x, of_entry=(0, 2))
    assert (found.of, found.wrt, found.value) == ("y[0,2]", "x[0,2]", 6.0)


@pytest.mark.parametrize("entry", [(0,), (1, 0), (0, 3), (0, -4), 0])
def test_an_entry_that_is_not_there_is_told(entry):
    x = variable([[1.0, 2.0, 3.0]], "x")
    with pytest.raises(IndexingError) as error:
        explain((x * x).sum(), wrt=x, entry=entry)
    assert str(error.value) == (
        "explain: entry is not there\n"
        f"  got:      entry={entry} of x float64[1, 3]\n"
        "  expected: 2 indices, as in (0, 2)"
    )
    with pytest.raises(IndexingError, match="of_entry is not there"):
        explain(x * x, wrt=x, of_entry=entry)


def test_integers_have_no_derivatives():
    x = variable([1.0, 2.0], "x")
    labels = cr.Tensor([0, 1], name="labels")
    with pytest.raises(DtypeError) as error:
        explain((x * labels).sum(), wrt=labels)
    assert str(error.value) == (
        "explain: only floats have derivatives, and wrt has none\n"
        "  got:      labels: int64[2]\n"
        "  expected: float32 or float64\n"
        "  try:      make it a float before computing with it: x.astype('float32')"
    )
    with pytest.raises(DtypeError, match="and y has none"):
        explain(cr.argmax(x), wrt=x)


def test_what_is_no_tensor_is_told():
    x = variable(1.0)
    with pytest.raises(DtypeError) as error:
        explain(x * x, wrt=3.0)
    assert str(error.value) == (
        "explain: wrt is not a tensor\n  got:      float\n  expected: a Tensor"
    )


def test_an_array_without_entries_is_told():
    x = variable(np.ones((0, 3)), "x")
    with pytest.raises(ShapeError) as error:
        explain((x * x).sum(), wrt=x)
    assert str(error.value) == (
        "explain: wrt has no entries\n"
        "  got:      float64[0, 3]\n"
        "  expected: at least one"
    )


@pytest.mark.parametrize("option", ["max_paths", "max_terms", "max_depth"])
def test_limits_start_at_one(option):
    x = variable(1.0)
    with pytest.raises(OptionError) as error:
        explain(x * x, wrt=x, **{option: 0})
    assert str(error.value) == (
        f"explain: {option}\n  got:      0\n  expected: 1 or more"
    )


@pytest.mark.parametrize("digits", [0, 18])
def test_numbers_have_one_to_seventeen_digits(digits):
    x = variable(1.0)
    with pytest.raises(OptionError) as error:
        explain(x * x, wrt=x, digits=digits)
    assert str(error.value) == (
        f"explain: digits\n  got:      {digits}\n  expected: 1 to 17"
    )


def test_a_value_without_history_names_both_reasons():
    x = variable(1.0)
    with cr.no_grad():
        y = x * 2
    with pytest.raises(GradientError) as error:
        explain(y, wrt=x)
    assert str(error.value) == (
        "explain: nothing was recorded of how this value was made\n"
        "  got:      float64[] without a history\n"
        "  expected: the result of ops on tensors with requires_grad=True\n"
        "  try:      compute it outside no_grad(), and not with a compiled function "
        "but with the function itself: f.function(...)"
    )


def test_a_compiled_function_is_explained_through_the_function_itself():
    w = cr.Parameter([2.0, 3.0], name="w")

    @cr.compile
    def loss(x):
        return ((x * w) ** 2).sum()

    x = cr.Tensor([1.0, 1.0], name="x")
    if loss(x).op is None:
        with pytest.raises(GradientError, match="compiled function"):
            explain(loss(x), wrt=w)
    assert explain(loss.function(x), wrt=w).value == 6.0
    # Where an argument requires a gradient, the function itself runs at once.
    watched = cr.Tensor([1.0, 1.0], requires_grad=True, name="x")
    assert explain(loss(watched), wrt=watched).value == 18.0
    # And so it does inside a graph that is being recorded.
    graph = cr.Graph(lambda x: loss(x) * 1.0, x=[1.0, 1.0])
    assert explain(graph.outputs[0].tensor, wrt=graph.node("x").tensor).value == 18.0


def test_an_overwritten_variable_is_found():
    w = cr.Parameter([1.0, 2.0], name="w")
    y = (w * w).sum()
    cr.assign(w, w * 0)
    with pytest.raises(GradientError, match="w was overwritten after it was used"):
        explain(y, wrt=w)
    v = cr.Parameter(2.0, name="v")
    y = v * v
    cr.assign(v, 3.0)
    with pytest.raises(GradientError, match="v was overwritten after it was used"):
        explain(y, wrt=v)


def test_a_value_by_itself_has_slope_one():
    x = variable([1.0, 2.0], "x")
    assert str(explain(x, wrt=x, entry=1, of_entry=1)) == "∂x[1]/∂x[1] = 1"
    assert str(explain(x, wrt=x, entry=0, of_entry=1)) == (
        "∂x[1]/∂x[0] = 0: x[1] does not depend on x[0]"
    )


def test_nodes_that_are_not_related_are_told():
    a, b = variable([1.0, 2.0], "a"), variable([3.0], "b")
    assert str(explain((b * 2).sum(), wrt=a)) == ("∂y/∂a = 0: y does not depend on a")
    c = cr.Tensor([1.0, 2.0], name="c")
    assert str(explain(((c * 2) * a).sum(), wrt=c)) == (
        "∂y/∂c = 0: y does not depend on c, or what was made of it alone was not "
        "recorded: requires_grad=False"
    )


def test_a_gate_without_derivative_is_the_reason():
    x = variable(1.5, "x")
    assert str(explain(cr.floor(x) * 2, wrt=x)).startswith(
        "∂y/∂x = 0: floor blocks, a step has derivative 0\n"
    )


@pytest.mark.parametrize(
    ("f", "line"),
    [
        (lambda x: cr.log(x) * 2, "not finite: log made the first, v₁ = log(x) = -inf"),
        (
            lambda x: cr.sqrt(x) * 2,
            "not finite: all values are, but a slope on the way",
        ),
        (lambda x: (x / x) + 1, "not finite: divide made the first, v₁ = x / x = nan"),
    ],
)
@pytest.mark.parametrize("shape", [(), (2,)])
def test_the_gate_that_made_the_first_infinity_is_named(f, line, shape):
    x = variable(np.zeros(shape), "x")
    y = f(x)
    found = explain(y.sum() if shape else y, wrt=x)
    assert not math.isfinite(found.value)
    line = line.replace("v₁ = ", "v₁[0] = ") if shape else line
    assert line in str(found)


def test_an_infinity_that_was_given_is_told():
    x = variable([1.0, math.inf], "x")
    assert "not finite: x[1] is inf" in str(explain((x * x).sum(), wrt=x))


def test_infinite_factors_are_pointed_out():
    x = variable(0.0, "x")
    text = str(explain(cr.sqrt(x) * 3, wrt=x))
    assert "= inf   [sqrt scales; not finite]" in text
