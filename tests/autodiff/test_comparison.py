"""The three ways to a derivative in one table."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff import compare_derivatives

pytest.importorskip("sympy")


def test_the_table_shows_error_runs_time_and_gradient_of_each_method() -> None:
    found = compare_derivatives(lambda x: cr.sin(x).sum(), np.array([0.5, 1.0, 2.0]))
    assert [r.method for r in found.rows] == [
        "numerical (forward)",
        "numerical (central)",
        "symbolic",
        "automatic",
    ]
    assert [r.num_runs for r in found.rows] == [4, 6, 1, 1]
    assert all(r.time_s > 0 for r in found.rows)
    assert found.formulas == ["cos(x_0)", "cos(x_1)", "cos(x_2)"]
    lines = str(found).splitlines()
    assert lines[0].split() == ["method", "error", "runs", "time", "gradient"]
    assert lines[4].startswith("automatic")
    assert lines[4].endswith("0.877583, 0.540302, -0.416147")


def test_errors_are_relative_to_the_largest_derivative() -> None:
    found = compare_derivatives(lambda x: (x**2).sum(), np.array([0.0, 1000.0]))
    assert found.rows[3].error == 0.0
    assert found.rows[1].error < 1e-6
