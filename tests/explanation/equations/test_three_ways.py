"""The three ways to a derivative in one table and one picture."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff import step_errors
from chainrule.errors import DtypeError, GradientError, NonFiniteError, OptionError

sympy = pytest.importorskip("sympy")


def test_the_table_shows_error_runs_time_and_gradient_of_each_way() -> None:
    found = cr.derivatives(lambda x: cr.sin(x).sum(), at=np.array([0.5, 1.0, 2.0]))
    assert [w.method for w in found.ways] == [
        "numerical (forward)",
        "numerical (central)",
        "symbolic",
        "automatic",
    ]
    assert [w.num_runs for w in found.ways] == [4, 6, 1, 1]
    assert all(w.time_s > 0 for w in found.ways)
    assert found.formulas == ["cos(x_0)", "cos(x_1)", "cos(x_2)"]
    lines = str(found).splitlines()
    assert lines[1].split() == ["method", "error", "runs", "time", "gradient"]
    assert lines[5].startswith("automatic")
    assert lines[5].endswith("0.877583, 0.540302, -0.416147")
    assert lines[6] == "∂f/∂x_0 = cos(x_0)"


def test_errors_are_relative_to_the_largest_derivative() -> None:
    found = cr.derivatives(lambda x: (x**2).sum(), at=np.array([0.0, 1000.0]))
    assert found.way("automatic").error == 0.0
    assert found.way("numerical (central)").error < 1e-6
    assert found.entry == "x[1]"


@pytest.mark.parametrize(
    ("at", "f"),
    [
        ((2.0, np.array([3.0, 5.0])), lambda a, b: a * b[0] + b[1] ** 2),
        ({"a": 2, "b": [3.0, 5.0]}, lambda b, a: a * b[0] + b[1] ** 2),
    ],
    ids=["by position", "by name"],
)
def test_several_arguments_have_their_own_names(at: Any, f: Any) -> None:
    found = cr.derivatives(f, at=at)
    assert found.labels == ("a", "b[0]", "b[1]")
    assert found.formulas == ["b_0", "a", "2*b_1"]
    for way in found.ways:
        assert way.gradient is not None
        np.testing.assert_allclose(way.gradient, [3, 2, 10], rtol=1e-5)


def test_more_than_64_numbers_leave_the_formula_out_and_say_why() -> None:
    found = cr.derivatives(lambda x: cr.tanh(x).sum(), at=np.linspace(0, 1, 65))
    assert found.reference == "automatic"
    assert "left out: symbolic: too many symbols: 65 numbers" in str(found)
    np.testing.assert_allclose(
        found.gradient, 1 - np.tanh(np.linspace(0, 1, 65)) ** 2, rtol=1e-12
    )
    assert found.way("numerical (central)").error < 1e-8
    with pytest.raises(GradientError, match="there are no formulas"):
        found.latex()


def test_an_op_without_a_symbolic_reading_is_named() -> None:
    found = cr.derivatives(lambda x: cr.softmax(x)[0], at=np.zeros(2))
    assert "symbolic: softmax has no symbolic reading" in found.way("symbolic").note
    assert found.gradient.tolist() == [0.25, -0.25]


def test_without_sympy_there_is_no_formula_and_the_rest_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sympy", None)
    found = cr.derivatives(cr.sin, at=1.0)
    assert "symbolic derivatives need SymPy" in found.way("symbolic").note
    assert found.reference == "automatic"
    assert found.way("numerical (central)").error < 1e-9


def test_of_very_many_numbers_none_is_moved_one_at_a_time() -> None:
    found = cr.derivatives(lambda x: (x * x).sum(), at=np.ones(10_001))
    assert found.ways[0].gradient is None
    assert "10,001 numbers would each be moved" in str(found)


def test_the_formula_is_sympys_own_and_agrees_as_latex() -> None:
    found = cr.derivatives(lambda x, y: cr.exp(x * y), at=(0.5, 2.0))
    x, y = sympy.symbols("x y", real=True)
    assert found.symbolic is not None
    assert found.symbolic.derivatives == [y * sympy.exp(x * y), x * sympy.exp(x * y)]
    assert r"\frac{\partial f}{\partial x} = y e^{x y}" in found.latex()


def test_the_error_falls_as_h_and_as_h_squared_down_to_the_rounding() -> None:
    found = cr.derivatives(lambda x: cr.exp(cr.sin(x)), at=0.7)
    steps, forward, central = found.curve
    for errors, power in ((forward, 1), (central, 2)):
        large = (steps > 3e-4) & (steps < 2e-2)
        fit = np.polyfit(np.log(steps[large]), np.log(errors[large]), 1)
        assert fit[0] == pytest.approx(power, abs=0.05)
    small = steps < 1e-10
    for errors in (forward, central):  # rounding: at most about ε/h
        assert (errors[small] < 4 * found.rounding / steps[small]).all()
        assert errors[small].max() > 1e-4
    assert 1e-10 < found.curve.best("forward")[0] < 1e-6
    assert 1e-7 < found.curve.best("central")[0] < 1e-3


def test_step_errors_are_those_of_the_two_formulas() -> None:
    errors = step_errors(lambda t: (2 + t) ** 3, 12.0, steps=[0.5])
    assert errors.forward[0] == pytest.approx(((2.5**3 - 8) / 0.5 - 12) / 12)
    assert errors.central[0] == pytest.approx((2.5**3 - 1.5**3 - 12) / 12)


def test_the_picture_names_the_best_steps_the_slopes_and_the_rounding(
    tmp_path: Path,
) -> None:
    found = cr.derivatives(lambda x: cr.exp(x), at=1.0)
    found.save(tmp_path / "errors.svg")
    svg = (tmp_path / "errors.svg").read_text()
    words = re.findall(r">([^<>]+)</text>", svg)
    assert any(w.startswith("forward, best at h =") for w in words)
    assert any(w.startswith("central, best at h =") for w in words)
    assert {"~h", "~h²", "rounding, ε/h", "step h", "relative error"} <= set(words)
    assert found._repr_svg_() == svg


def test_the_picture_of_a_straight_line_has_rounding_alone() -> None:
    words = re.findall(
        r">([^<>]+)</text>", cr.derivatives(lambda x: 3 * x + 1, at=2.0)._repr_svg_()
    )
    assert "rounding, ε/h" in words
    assert "~h" not in words


def test_a_kink_and_an_infinite_slope_are_told() -> None:
    kink = cr.derivatives(cr.relu, at=0.0)
    assert kink.has_kink
    assert "there is a kink" in str(kink)
    assert kink.gradient.tolist() == [0.0]
    root = cr.derivatives(cr.sqrt, at=0.0)
    assert "at x the derivative is not finite" in str(root)
    assert root.reference == "automatic"
    assert root._repr_svg_()
    assert not cr.derivatives(cr.relu, at=0.5).has_kink


def test_what_leaves_the_graph_is_told() -> None:
    found = cr.derivatives(lambda x: x * x.detach(), at=3.0)
    assert "the ways disagree: part of the function leaves the graph" in str(found)


def test_what_cannot_be_differentiated_is_told_before_anything_runs() -> None:
    with pytest.raises(GradientError, match="does not return one number"):
        cr.derivatives(cr.sin, at=np.ones(2))
    with pytest.raises(NonFiniteError, match="not finite here"):
        cr.derivatives(cr.log, at=-1.0)
    with pytest.raises(OptionError, match="nothing to differentiate by"):
        cr.derivatives(lambda: 1.0, at=())
    for at in ("a", {"x": object()}):
        with pytest.raises(DtypeError, match="cannot hold elements"):
            cr.derivatives(lambda x: x, at=at)
    for h in (0, -1e-3, np.nan, np.inf):
        with pytest.raises(OptionError, match="no step"):
            cr.derivatives(cr.sin, at=1.0, h=h)
