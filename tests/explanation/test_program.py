"""Programs of formulas run as arithmetic, and as nothing else."""

import math

import pytest

from chainrule.errors import OptionError, ShapeError
from chainrule.explanation import run_program


def test_formulas_have_the_values_that_python_gives_them():
    names = run_program("f=-(w+2)*x**3/4\n g=exp(f)-1; h=g", {"w": 1.5, "x": -2.0})
    f = -(1.5 + 2) * (-2.0) ** 3 / 4
    assert names["f"].item() == f
    assert names["g"].item() == math.exp(f) - 1
    assert names["h"].item() == names["g"].item()


@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("f=w*", "not a program of formulas"),
        ("w*2; f=w", "a line is not a formula for a name"),
        ("f=g=w", "a line is not a formula for a name"),
        ("", "not a program of formulas"),
        ("f=w\0", "not a program of formulas"),
        ("f=w if w else 2", "a formula has something that is not arithmetic"),
        ("f=w[w]", "a formula has something that is not arithmetic"),
        ("f=True", "a formula has something that is not arithmetic"),
        ("f=leaky_relu(w, w)", "a formula has something that is not arithmetic"),
        ("f=relu(w, w)", "relu takes other operands"),
        ("f=gelu(w, 3)", "a formula has something that is not arithmetic"),
        ("f=" + "-" * 300 + "w", "a formula is nested too deeply"),
        ("f=" + "+".join(["w"] * 300), "a formula is nested too deeply"),
        ("f=" + "(" * 90 + "w" + "*w)" * 90 + "*" + "-" * 200 + "w",
         "a formula is nested too deeply"),
        ("f=" + "1" * 4000, "the program is too long"),
        ("f=w*" + "9" * 400, "a number is too large"),
        ("import os", "a line is not a formula for a name"),
        ("f=__import__('os')", "unknown function in a formula '__import__'"),
        ("f=w.data", "a formula has something that is not arithmetic"),
        ("f=[w]", "a formula has something that is not arithmetic"),
        ("f='a'", "a formula has something that is not arithmetic"),
        ("f=relu(x=w)", "a formula has something that is not arithmetic"),
        ("f=v*2", "unknown name in a formula 'v'"),
        ("f=rleu(w)", "unknown function in a formula 'rleu'"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(program, what):
    with pytest.raises(OptionError) as error:
        run_program(program, {"w": 1.0})
    assert str(error.value).splitlines()[0] == what


def test_the_nearest_function_is_offered():
    with pytest.raises(OptionError) as error:
        run_program("f=rleu(w)", {"w": 1.0})
    assert error.value.hint == "did you mean 'relu'?"


def test_a_formula_alone_is_called_f_or_the_next_letter_that_is_free():
    assert run_program("(x+y)*z", {"x": -2, "y": 5, "z": -4})["f"].item() == -12
    assert list(run_program("f*2", {"f": 1.0})) == ["f", "g"]


def test_arrays_take_products_sums_and_indices():
    values = {"W": [[0.1, 0.5], [-0.3, 0.8]], "x": [0.2, 0.4]}
    names = run_program("q=W@x; f=sum(q**2); g=W.T[1,0]+sum(W[:,1:]); h=W[-1]", values)
    assert names["q"].tolist() == pytest.approx([0.22, 0.26])
    assert names["f"].item() == pytest.approx(0.116)
    assert names["g"].item() == pytest.approx(1.8)
    assert names["h"].tolist() == [-0.3, 0.8]


def test_settings_of_functions_are_plain_numbers():
    names = run_program("f=leaky_relu(x, 0.5)+clip(x, -1, 1)+x**-2", {"x": -2.0})
    assert names["f"].item() == -1.75


def test_what_overflows_is_infinite_without_a_warning():
    names = run_program("f=x**1e300; g=f-f; h=x*f/0; k=1e200*f*x", {"x": 3.0})
    assert [str(names[n].item()) for n in "fghk"] == ["inf", "nan", "inf", "inf"]


def test_every_elementwise_op_can_be_called_by_its_name():
    from chainrule.core.graph import FUNCTIONS, OPS
    from chainrule.ops.elementwise import ElementwiseOp

    for name, op in OPS.items():
        if issubclass(op, ElementwiseOp) and name in FUNCTIONS:
            with pytest.raises(
                OptionError, match="unknown name in a formula 'nowhere'"
            ):
                run_program(f"f={name}(nowhere)", {})


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ([[1.0], [2.0, 3.0]], "x: not an array of numbers"),
        ("one", "x: not an array of numbers"),
        ([None], "x: not an array of numbers"),
        ([0.0] * 1001, "x: too large for a formula on the command line"),
    ],
)
def test_values_that_are_no_small_arrays_are_refused(value, what):
    with pytest.raises(OptionError) as error:
        run_program("f=x*2", {"x": value})
    assert str(error.value).splitlines()[0] == what


def test_a_formula_cannot_make_an_array_without_bounds():
    values = {"a": [[1.0] * 1000], "b": [[1.0]] * 1000}
    with pytest.raises(OptionError) as error:
        run_program("f=a*b", values)
    assert str(error.value) == (
        "a formula makes too large an array\n"
        "  got:      a * b: float64[1000, 1000]\n"
        "  expected: at most 100000 entries"
    )


def test_sizes_that_do_not_fit_are_told_as_everywhere():
    with pytest.raises(ShapeError, match="matmul: inner sizes differ"):
        run_program("x@y", {"x": [1.0, 2.0], "y": [1.0, 2.0, 3.0]})


def test_a_name_where_nothing_is_given_is_told_so():
    with pytest.raises(OptionError, match="one of none: there is no name"):
        run_program("x", {})
