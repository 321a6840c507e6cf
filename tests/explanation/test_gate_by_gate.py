"""The forward and the backward pass of small programs, as text."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import GradientError, ShapeError
from chainrule.explanation import run_program, walk


def test_arrays_are_written_out_with_their_gradients():
    names = run_program(
        "q=W@x; f=sum(q**2)", {"W": [[0.1, 0.5], [-0.3, 0.8]], "x": [0.2, 0.4]}
    )
    text = str(walk(names["f"]))
    assert "  q = reshape(v₂) = [0.22, 0.26]\n" in text
    assert "  f = sum(v₃) = 0.116\n" in text
    assert "  ∂f/∂W = [[0.088, 0.176], [0.104, 0.208]]   [matmul switches]\n" in text
    assert "  ∂f/∂x = [-0.112, 0.636]" in text


def test_a_value_that_is_used_twice_adds_up():
    names = run_program("q=x*3; f=q*exp(q)", {"x": 0.5})
    (line,) = [s for s in str(walk(names["f"])).splitlines() if "∂f/∂q" in s]
    assert line.endswith("[exp scales, multiply switches; a branch adds up]")


def test_gradients_are_those_of_backward():
    x = cr.Tensor(np.linspace(-1, 1, 6).reshape(2, 3), requires_grad=True, name="x")
    found = walk(cr.softmax(x).max())
    rows = {row.name: row for row in found.rows}
    cr.softmax(x).max().backward()
    np.testing.assert_array_equal(rows["x"].gradient, x.grad.data)


def test_large_arrays_are_told_by_their_number():
    x = cr.Tensor(np.ones((20, 20)), requires_grad=True, name="x")
    assert "x = 400 numbers of shape [20, 20]" in str(walk((x * x).sum()))


def test_constants_that_are_arrays_are_listed_and_have_no_gradient():
    x = cr.Tensor([1.0, 2.0], requires_grad=True, name="x")
    found = walk((x * cr.Tensor([3.0, 4.0], name="c")).sum())
    assert "c = [3, 4]" in str(found)
    assert "∂v₂/∂c" not in str(found)
    assert found.as_dict()["rows"][1]["gradient"] is None


def test_an_array_or_a_value_without_history_is_refused():
    x = cr.Tensor([1.0, 2.0], requires_grad=True, name="x")
    with pytest.raises(ShapeError) as error:
        walk(x * 2)
    assert str(error.value) == (
        "explain: an array, and one number is explained at a time\n"
        "  got:      y: float32[2]\n"
        "  expected: a single number\n"
        "  try:      sum(y), or one of its 2 entries"
    )
    with pytest.raises(GradientError, match="nothing was recorded"):
        walk(cr.Tensor(1.0))


def test_it_can_be_written_as_a_page(tmp_path):
    found = walk(run_program("x*y", {"x": 2, "y": 3})["f"])
    found.save(tmp_path / "f.html")
    assert "∂f/∂x = 3" in (tmp_path / "f.html").read_text()
