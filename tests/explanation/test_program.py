"""Programs of formulas run as arithmetic, and as nothing else."""

import math

import pytest

from chainrule.errors import OptionError
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
        ("w*2", "a line is not a formula for a name"),
        ("import os", "a line is not a formula for a name"),
        ("f=__import__('os')", "unknown function in a formula '__import__'"),
        ("f=w.data", "a formula has something that is not arithmetic"),
        ("f=[w]", "a formula has something that is not arithmetic"),
        ("f='a'", "a formula has something that is not arithmetic"),
        ("f=relu(x=w)", "a formula has something that is not arithmetic"),
        ("f=v*2", "unknown name in a formula 'v'"),
        ("f=rleu(w)", "unknown function in a formula 'rleu'"),
    ],
)
def test_anything_else_is_refused(program, what):
    with pytest.raises(OptionError) as error:
        run_program(program, {"w": 1.0})
    assert str(error.value).splitlines()[0] == what


def test_the_nearest_function_is_offered():
    with pytest.raises(OptionError) as error:
        run_program("f=rleu(w)", {"w": 1.0})
    assert error.value.hint == "did you mean 'relu'?"
