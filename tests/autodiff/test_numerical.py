"""Derivatives by differences, and the W + h table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff import difference_table, numerical_gradient
from chainrule.errors import DtypeError, GradientError, OptionError


def test_central_differences_err_by_h_squared_and_forward_ones_by_h() -> None:
    x = np.array([0.3, 1.2])
    exact = np.cos(x)
    f = lambda x: cr.sin(x).sum()  # noqa: E731
    for method, order in (("forward", 1), ("central", 2)):
        errors = [
            np.abs(numerical_gradient(f, x, h, method).data - exact).max()
            for h in (1e-2, 1e-3)
        ]
        assert abs(np.log10(errors[0] / errors[1]) - order) < 0.05


@pytest.mark.parametrize(("method", "runs"), [("forward", 7), ("central", 12)])
def test_the_cost_grows_with_the_number_of_weights(method: str, runs: int) -> None:
    count = 0

    def f(x: Any) -> Any:
        nonlocal count
        count += 1
        return (x * x).sum()

    numerical_gradient(f, np.ones((2, 3)), method=method)
    assert count == runs


def test_float32_inputs_are_differenced_in_float64() -> None:
    x = cr.Tensor([0.1, 0.2])
    g = numerical_gradient(lambda x: (x**3).sum(), x)
    assert g.dtype == np.float64
    assert np.allclose(g.data, 3 * x.data.astype(np.float64) ** 2, rtol=1e-8)


def test_the_input_is_left_as_it_was() -> None:
    x = np.array([1.0, 2.0])
    numerical_gradient(lambda x: (x * x).sum(), x)
    assert x.tolist() == [1.0, 2.0]


def test_wrong_uses_are_named() -> None:
    with pytest.raises(OptionError, match="unknown difference method 'centre'"):
        numerical_gradient(cr.sin, 1.0, method="centre")
    with pytest.raises(OptionError, match="no step"):
        numerical_gradient(cr.sin, 1.0, h=0)
    with pytest.raises(GradientError, match="does not return one number"):
        numerical_gradient(cr.sin, np.ones(2))
    with pytest.raises(DtypeError, match="only floats have derivatives"):
        numerical_gradient(cr.sin, 1)


def test_a_table_lists_the_first_entries_with_their_places() -> None:
    table = difference_table(lambda w: (w**2).sum(), np.ones((3, 5)), max_entries=7)
    assert table.entries[-1] == "W[1, 1]"
    assert len(table.losses) == 7
    assert np.allclose(table.slopes, 2.0001)
    assert "W[1, 1]           1    15.00020" in str(table)


def test_the_table_names_the_entries_of_several_arguments() -> None:
    table = difference_table(
        lambda w, b: (w * w).sum() + 3 * b, {"w": np.array([[1.0, 2.0]]), "b": 4}
    )
    assert table.entries == ["w[0, 0]", "w[0, 1]", "b"]
    assert np.allclose(table.slopes, [2, 4, 3], atol=1e-3)


def test_the_table_shows_changes_that_five_decimals_would_hide() -> None:
    table = difference_table(lambda w: 1e-3 * w, 1.0)
    assert "0.0010001" in str(table)


def test_a_step_of_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="difference_table: no step"):
        difference_table(lambda w: w, 1.0, h=0)
