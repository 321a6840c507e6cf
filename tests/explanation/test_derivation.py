"""Derivatives written out: the lectures' products, and remarks on special gates."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

import chainrule as cr
from chainrule.errors import GradientError
from chainrule.explanation import explain, run_program

TWO_WEIGHTS = "f=w1*x; g=relu(f); yhat=w2*g; L=0.5*(yhat-y)**2"
GIVEN = {"w1": 3.0, "x": 5.0, "w2": 2.0, "y": 22.0}


def variable(value, name=None):
    return cr.Tensor(value, "float64", requires_grad=True, name=name)


def test_the_two_weight_network_is_written_as_the_lecture_writes_it():
    names = run_program(TWO_WEIGHTS, GIVEN)
    assert str(explain(names["L"], wrt=names["w1"])) == (
        "∂L/∂w₁ = ∂f/∂w₁ · ∂g/∂f · ∂ŷ/∂g · ∂L/∂ŷ = 5 · 1 · 2 · 8 = 80\n"
        "forward\n"
        "  f = w₁·x = 15\n"
        "  g = max(f, 0) = 15\n"
        "  ŷ = w₂·g = 30\n"
        "  L = 0.5·(ŷ - y)^2 = 32\n"
        "backward\n"
        "  ∂f/∂w₁ = x = 5   [multiply switches]\n"
        "  ∂g/∂f = (f > 0 ? 1 : 0) = 1   [relu gates]\n"
        "  ∂ŷ/∂g = w₂ = 2   [multiply switches]\n"
        "  ∂L/∂ŷ = ŷ - y = 8"
    )
    second = explain(names["L"], wrt=names["w2"])
    assert second.paths[0].product() == "∂ŷ/∂w₂ · ∂L/∂ŷ = 15 · 8 = 120"


def test_the_product_is_written_in_latex_too():
    names = run_program("f=w1*x; yhat=f*2", {"w1": 3.0, "x": 5.0})
    assert explain(names["yhat"], wrt=names["w1"]).latex() == (
        r"\frac{\partial \hat{y}}{\partial w_{1}} = "
        r"\frac{\partial f}{\partial w_{1}} \cdot "
        r"\frac{\partial \hat{y}}{\partial f} = 5 \cdot 2 = 10"
    )


def test_a_branch_adds_up_over_its_paths():
    a = variable(2.0, "a")
    y = (a * a + a * 3) * a
    found = explain(y, wrt=a)
    assert [p.value for p in found.paths] == [10.0, 8.0, 6.0]
    assert found.num_paths == 3
    assert found.value == 24.0
    assert "sum: 10 + 8 + 6 = 24" in str(found)


def test_paths_beyond_the_limit_are_counted_and_summed_all_the_same():
    a = variable(1.0, "a")
    y = a
    for _ in range(40):  # 2⁴⁰ paths
        y = y + y * 1.0
    found = explain(y, wrt=a, max_paths=2)
    assert found.num_paths == 2**40
    assert found.value == 2.0**40
    assert len(found.paths) == 2
    assert f"… and {2**40 - 2} more paths" in str(found)


def test_the_sigmoid_neuron_gate_by_gate_and_as_one_gate_agree():
    w = [variable(v, f"w{i}") for i, v in enumerate((2.0, -3.0, -3.0))]
    x = [variable(v, f"x{i}") for i, v in enumerate((-1.0, -2.0))]
    score = w[0] * x[0] + w[1] * x[1] + w[2]
    gates = explain(1 / (1 + cr.exp(-score)), wrt=w[0])
    whole = explain(cr.sigmoid(score), wrt=w[0])
    assert round(gates.value, 4) == round(whole.value, 4) == -0.1966
    assert len(gates.paths[0].factors) == 7
    assert whole.paths[0].factors[-1].formula == "y·(1 - y)"


@pytest.mark.parametrize(
    ("program", "note"),
    [
        ("y=relu(x)*5", "a dead unit"),
        ("y=sigmoid(20*x)", "saturated: almost no gradient passes"),
        ("y=tanh(9*x)", "saturated: almost no gradient passes"),
        ("z=0*x; y=exp(z)", "a zero ends every path through here"),
    ],
)
def test_the_reason_for_a_vanishing_product_is_pointed_out(program, note):
    names = run_program(program, {"x": -1.0})
    assert note in str(explain(names["y"], wrt=names["x"]))


def test_a_value_that_does_not_depend_on_the_other_is_said_to():
    names = run_program("f=2*a; y=3*b", {"a": 1.0, "b": 1.0})
    assert str(explain(names["y"], wrt=names["a"])) == (
        "∂y/∂a = 0: y does not depend on a"
    )


@given(
    st.lists(
        st.sampled_from(
            ["a*b", "a+b", "a-b", "tanh(a)", "sigmoid(b)", "a*a", "exp(-a*a)"]
        ),
        min_size=1,
        max_size=5,
    ),
    st.floats(-1.5, 1.5),
    st.floats(-1.5, 1.5),
)
def test_the_sum_over_paths_is_the_gradient_and_factors_multiply_to_it(steps, a, b):
    program = (
        "; ".join(f"v{i}={step}; a{i}=v{i}" for i, step in enumerate(steps))
        + "; y="
        + "+".join(f"v{i}*v{max(i - 1, 0)}" for i in range(len(steps)))
    )
    names = run_program(program, {"a": a, "b": b})
    found = explain(names["y"], wrt=names["a"], max_paths=1000)
    (expected,) = cr.core.backward.gradients(names["y"], [names["a"]])
    assert found.value == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    assert sum(p.value for p in found.paths) == pytest.approx(
        expected.item(), rel=1e-9, abs=1e-12
    )


def test_a_vanishing_product_of_several_gates_names_the_gate_to_blame():
    names = run_program("h=relu(w*x-1); y=3*h", {"w": 0.5, "x": 1.0})
    text = str(explain(names["y"], wrt=names["w"]))
    assert "∂h/∂w = (w·x - 1 > 0 ? 1 : 0)·x = 0   [relu gates; a dead unit]" in text


def test_paths_that_are_left_out_are_summed():
    a = variable(2.0, "a")
    b, c, d = a * 3, cr.exp(a * 0), a**2
    text = str(explain(b + c + d, wrt=a, max_paths=2))
    assert "… and 1 more path, together 0" in text
    assert "  sum: 4 + 3 + 0 = 7" in text
    assert "max_paths=4: more paths" in text


def test_sums_over_paths_say_that_a_branch_adds_up():
    a = variable(2.0, "a")
    text = str(explain(a * cr.exp(a), wrt=a))
    assert "∂y/∂a = the sum over 2 paths: a branch adds up" in text


def test_the_result_of_an_op_that_mixes_entries_is_not_taken_for_its_operand():
    w, v = variable([[2.0]], "w"), variable([[3.0]], "v")
    text = str(explain(w @ v, wrt=w))
    assert "  y = w @ v = 6" in text
    assert "  ∂y/∂w = v = 3   [matmul switches]" in text
    text = str(explain(cr.softmax(w), wrt=w))
    assert "  y = softmax(w) = 1" in text


def test_a_number_made_of_an_array_beside_the_way_is_written_as_such():
    w, c = variable(2.0, "w"), variable([1.0, 2.0, 3.0], "c")
    text = str(explain(w * c.sum(), wrt=w))
    assert "  y = w·sum(c) = 12" in text
    assert "  ∂y/∂w = sum(c) = 6   [multiply switches]" in text


def test_a_gate_written_in_numpy_tells_its_numbers():
    class Cube(cr.Gate):
        def forward(self, x):
            self.x = x.numpy()
            return self.x**3

        def backward(self, dz):
            return dz.numpy() * 3 * self.x**2

    x = variable(2.0, "x")
    text = str(explain(Cube()(x) * 5, wrt=x))
    assert "∂y/∂x = ∂v₁/∂x · ∂y/∂v₁ = 12 · 5 = 60" in text
    assert "∂v₁/∂x = 12   [Cube written by hand]" in text


def test_a_value_without_history_cannot_be_explained():
    x = variable(1.0, "x")
    with cr.no_grad():
        y = x * 2
    with pytest.raises(GradientError, match="nothing was recorded"):
        explain(y, wrt=x)
