"""Derivatives where arrays lie on the way: terms, chains, shut gates, real networks."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.backward import gradients
from chainrule.explanation import explain


def variable(values, name=None, dtype="float64"):
    return cr.Tensor(np.asarray(values), dtype, requires_grad=True, name=name)


W = [[0.1, 0.5], [-0.3, 0.8]]
X = [0.2, 0.4]


def squared_norm():
    w, x = variable(W, "W"), variable(X, "x")
    q = w @ x
    q.name = "q"
    f = (q**2).sum()
    f.name = "f"
    return w, x, f


def test_an_entry_is_explained_by_what_reads_it_and_what_comes_back():
    _, x, f = squared_norm()
    assert str(explain(f, wrt=x, entry=0)) == (
        "∂f/∂x[0] = the sum over 2 terms: a branch adds up\n"
        "  term 1: ∂q[1]/∂x[0] · ∂f/∂q[1] = -0.3 · 0.52 = -0.156\n"
        "  term 2: ∂q[0]/∂x[0] · ∂f/∂q[0] = 0.1 · 0.44 = 0.044\n"
        "  sum: -0.156 + 0.044 = -0.112\n"
        "∂f/∂q[1] = 0.52\n"
        "forward\n"
        "  q[1] = (W @ x)[1] = 0.26\n"
        "  f = sum(q^2) = 0.116\n"
        "backward\n"
        "  ∂q[1]/∂x[0] = W[1,0] = -0.3   [matmul switches]\n"
        "  ∂q[0]/∂x[0] = W[0,0] = 0.1   [matmul switches]\n"
        "  ∂f/∂q[1] = 2·q[1] = 0.52   [power_constant scales, sum distributes]\n"
        "more\n"
        "  entry=(i,): another of the 2 entries of x"
    )


def test_the_entry_with_the_largest_derivative_is_taken_unless_one_is_chosen():
    w, _, f = squared_norm()
    (gradient,) = gradients(f, [w])
    found = explain(f, wrt=w)
    assert (found.wrt, round(found.value, 12)) == ("W[1,1]", 0.208)
    for entry in np.ndindex(2, 2):
        chosen = explain(f, wrt=w, entry=entry)
        assert chosen.value == pytest.approx(gradient.data[entry], rel=1e-12)
    assert explain(f, wrt=w, entry=(-1, -2)).wrt == "W[1,0]"


def test_terms_that_are_left_out_are_counted_and_summed():
    x = variable(np.linspace(-1, 1, 50).reshape(10, 5), "x")
    w = variable(np.linspace(0.1, 2, 15).reshape(5, 3), "w")
    y = cr.tanh(x @ w).sum()
    found = explain(y, wrt=w, entry=(4, 2), max_terms=3)
    whole = explain(y, wrt=w, entry=(4, 2), max_terms=10)
    assert (found.num_paths, len(found.paths)) == (10, 3)
    left_out = sum(p.value for p in whole.paths) - sum(p.value for p in found.paths)
    assert found.rest == pytest.approx(left_out, rel=1e-12)
    assert f"… and 7 more terms, together {found.rest:.6g}" in str(found)
    assert "max_terms=10: all terms of each sum" in str(found)
    sizes = [abs(p.value) for p in whole.paths]
    assert sizes == sorted(sizes, reverse=True)


def test_depth_is_bounded_and_the_text_says_how_to_see_more():
    h = x = variable(np.linspace(-1, 1, 4).reshape(2, 2), "x")
    for i in range(5):
        h = cr.tanh(h @ variable([[0.5, -1.0], [1.0, 0.25]], f"w{i}"))
    y = h.sum()
    short, long = explain(y, wrt=x, max_depth=2), explain(y, wrt=x, max_depth=20)
    assert len(short.blocks) == 2
    assert "max_depth=4: what ∂y/∂" in str(short)
    assert "max_depth" not in str(long)
    assert all(p.is_complete for p in long.blocks[-1].paths)
    # Each block explains the gradient that the one before ended with.
    for block, deeper in zip(long.blocks, long.blocks[1:], strict=False):
        assert str(block.paths[0].factors[-1]) == deeper.symbol
        assert block.paths[0].factors[-1].value == deeper.value


@pytest.mark.parametrize(
    ("f", "formula", "value"),
    [
        (lambda x: cr.sigmoid(x), "y[0,1]·(1 - y[0,1])", 0.235004),
        (lambda x: x * variable([[3.0, 4.0]], "a"), "a[0,1]", 4.0),
        (lambda x: x @ variable(W, "W"), "W[1,0]", -0.3),
        (lambda x: x**3, "3·x[0,1]^2", 0.75),
        (lambda x: cr.relu(x), "(x[0,1] > 0 ? 1 : 0)", 1.0),
        (lambda x: cr.sum(x, axis=0), "1", 1.0),
        (lambda x: cr.conv(x.reshape(1, 2, 1), variable([[[3.0]], [[4.0]]], "k")),
         "k[1,0,0]", 4.0),
        (lambda x: cr.concatenate([x, x * 2], axis=0), "1", 1.0),
        (lambda x: cr.transpose(x), "1", 1.0),
        (lambda x: -2 * cr.transpose(x), "-2", -2.0),
    ],
)  # fmt: skip
def test_a_local_derivative_has_a_formula_whatever_the_op(f, formula, value):
    y = f(variable([[-1.0, 0.5]], "x"))
    x = y
    while x.name != "x":
        x = next(t for t in x.inputs if t.requires_grad)
    y.name = "y"
    place = next(
        p for p in np.ndindex(y.shape)
        if gradients(y[p], [x])[0].data[0, 1]
    )  # fmt: skip
    (factor,) = explain(y, wrt=x, entry=(0, 1), of_entry=place).factors
    assert factor.formula == formula.replace(
        "y[0,1]", f"y[{','.join(map(str, place))}]"
    )
    assert factor.value == pytest.approx(value, rel=1e-5)


def test_a_dead_unit_is_named_as_the_reason():
    x = variable([[-1.0, 2.0]], "x")
    text = str(explain(cr.relu(x).sum(), wrt=x, entry=(0, 0)))
    assert "∂v₁[0,0]/∂x[0,0] · ∂y/∂v₁[0,0] = 0 · 1 = 0" in text
    assert "(x[0,0] > 0 ? 1 : 0) = 0   [relu gates; a dead unit]" in text


def test_a_gate_that_routes_elsewhere_is_named_as_the_reason():
    x = variable([[[[1.0], [2.0]], [[3.0], [4.0]]]], "x")
    assert str(explain(cr.max_pool(x, 2).sum(), wrt=x, entry=(0, 0, 1, 0))) == (
        "∂y/∂x[0,0,1,0] = 0: nothing comes back through max_pool (routes: dy to the "
        "first largest element of its window, 0 to the rest)\n"
        "more\n"
        "  entry=(i, j, k, l): another of the 4 entries of x"
    )


def test_where_all_that_arrives_is_zero_its_reason_is_found_further_up():
    x = variable([-1.0, -2.0], "x")
    text = str(explain(cr.relu(x * 3).sum(), wrt=x, entry=0))
    assert "∂v₁[0]/∂x[0]" in text
    assert "[relu gates; a dead unit]" in text


def test_a_saturated_sigmoid_is_pointed_out():
    x = variable([9.0, 0.0], "x")
    text = str(explain(cr.sigmoid(x).sum(), wrt=x, entry=0))
    assert "saturated: almost no gradient passes" in text


def test_a_direct_use_is_told_from_the_whole_gradient():
    x = variable([1.0, 2.0], "x")
    h = x * 2
    h.name = "h"
    g = cr.exp(-h)
    g.name = "g"
    y = (h * g).sum()
    text = str(explain(y, wrt=x, entry=0))
    (whole,) = gradients(y, [h])
    assert "term 2: ∂y/∂h[0] (direct) = 0.135335" in text
    assert f"∂x[0] · ∂y/∂h[0] = 2 · {whole.data[0]:.6g} = " in text
    a = variable(2.0, "a")
    b = cr.exp(a)
    b.name = "b"
    text = str(explain(a * b, wrt=a))
    assert "path 1: ∂y/∂a (direct) = 7.38906" in text
    assert "path 2: ∂b/∂a · ∂y/∂b = 7.38906 · 2 = 14.7781" in text


def test_gates_written_by_hand_are_taken_apart():
    class Twist(cr.Gate):
        """Written in NumPy, so its rule cannot be differentiated."""

        def forward(self, x, y):
            self.x, self.y = x.numpy(), y.numpy()
            return self.x[:, ::-1] * self.y

        def backward(self, dz):
            d = dz.numpy()
            return (d * self.y)[:, ::-1], d * self.x[:, ::-1]

    class Multiply(cr.Gate):
        def forward(self, x, y):
            self.x, self.y = x, y
            return x * y

        def backward(self, dz):
            return self.y * dz, self.x * dz

    x, y = variable([[1.0, 2.0], [3.0, 4.0]], "x"), variable([[5.0, 6.0]] * 2, "y")
    z = (Twist()(x, y) ** 2).sum()
    for entry in np.ndindex(2, 2):
        (gradient,) = gradients(z, [x])
        assert explain(z, wrt=x, entry=entry).value == gradient.data[entry]
    found = explain(Multiply()(x, y).sum(), wrt=x, entry=(1, 0))
    assert "∂v₁[1,0]/∂x[1,0] = y[1,0] = 5   [Multiply written by hand]" in str(found)


def test_a_large_gate_written_in_numpy_is_refused():
    class Twice(cr.Gate):
        def forward(self, x):
            self.two = np.full(x.shape, 2.0)
            return x.numpy() * self.two

        def backward(self, dz):
            return dz.numpy() * self.two

    x = variable(np.ones(5000), "x")
    with pytest.raises(cr.errors.GradientError) as error:
        explain(Twice()(x).sum(), wrt=x)
    assert str(error.value) == (
        "explain: Twice is too large a gate to be taken apart\n"
        "  got:      float64[5000], its backward written in NumPy\n"
        "  expected: at most 4096 entries\n"
        "  try:      write the gate with chainrule's functions in place of NumPy's"
    )


def test_pictures_that_require_no_gradient_are_explained_too():
    rng = np.random.default_rng(0)
    pictures = cr.Tensor(rng.normal(size=(4, 6, 6, 1)), "float32", name="x")
    cr.manual_seed(0)
    model = nn.Sequential(
        nn.Conv(1, 3, 3), nn.ReLU(), nn.MaxPool(2), nn.Flatten(), nn.Dense(12, 5)
    )
    loss = nn.softmax_cross_entropy(model(pictures), np.arange(4))
    watched = cr.Tensor(pictures.data, requires_grad=True)
    other = nn.softmax_cross_entropy(model(watched), np.arange(4))
    (gradient,) = gradients(other, [watched])
    found = explain(loss, wrt=pictures, names=dict(model.named_parameters()))
    entry = tuple(map(int, found.wrt[2:-1].split(",")))
    assert found.value == pytest.approx(np.abs(gradient.data).max(), rel=1e-5) or (
        found.value == pytest.approx(-np.abs(gradient.data).max(), rel=1e-5)
    )
    assert found.value == pytest.approx(float(gradient.data[entry]), rel=1e-5)
    assert "conv(x, 0.weight)" in str(found)


def test_normalised_and_dropped_out_activations_are_explained():
    cr.manual_seed(0)
    model = nn.Sequential(
        nn.Dense(6, 5), nn.BatchNorm(5), nn.ReLU(), nn.Dropout(0.5), nn.Dense(5, 3)
    )
    x = cr.Tensor(np.random.default_rng(1).normal(size=(8, 6)), "float32")
    loss = nn.softmax_cross_entropy(model(x), np.arange(8) % 3)
    loss.backward()
    for _, parameter in model.named_parameters():
        found = explain(loss, wrt=parameter, max_terms=1000)
        entry = tuple(map(int, found.wrt.partition("[")[2][:-1].split(",")))
        wanted = float(parameter.grad.data[entry])
        assert found.value == pytest.approx(wanted, rel=1e-4)
        total = math.fsum(p.value for p in found.paths)
        assert total == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def test_a_shared_number_far_down_does_not_make_formulas_explode():
    x = variable(0.5, "x")
    h = x * 1.0
    for _ in range(60):
        h = h + h * 0.01
    h.name = "h"
    assert len(str(explain(h * 2, wrt=x))) < 2000


def test_a_very_long_path_of_numbers_is_written_step_after_step():
    x = variable(0.5, "x")
    y = x
    for _ in range(500):
        y = cr.tanh(y * 1.01)
    found = explain(y, wrt=x)
    (gradient,) = gradients(y, [x])
    assert found.value == pytest.approx(gradient.item(), rel=1e-12)
    assert len(found.blocks) == 8
    assert len(str(found)) < 10_000
    assert "max_depth=16: what ∂y/∂v₄₈ is made of" in str(found)


def test_all_terms_of_a_long_sum_can_be_listed():
    x, w = variable(np.ones((30, 3))), variable(np.ones((3, 4)), "w")
    found = explain((x @ w).sum(), wrt=w, max_terms=100)
    assert [p.value for p in found.paths] == [1.0] * 30
    assert [bool(p.factors[0].gate) for p in found.paths] == [True] * 20 + [False] * 10


def test_a_term_that_is_not_a_number_is_listed_first():
    x, c = variable(1.0, "x"), variable([5.0, math.nan, -7.0], "c")
    found = explain((x * c).sum(), wrt=x, max_terms=1)
    assert math.isnan(found.paths[0].value)
    assert "c[1]" in found.paths[0].factors[0].formula


def test_a_way_through_a_product_beside_an_elementwise_one_is_not_forgotten():
    x = variable([[1.0, 2.0]], "x")
    h = cr.exp(x) + x @ variable([[0.5, 0.0], [0.0, 0.5]])
    h.name = "h"
    (factor, *_) = explain(h.sum(), wrt=x, entry=(0, 1)).factors
    assert factor.value == pytest.approx(math.exp(2) + 0.5)
    assert factor.formula == "7.88906"  # not exp(x[0,1])


def test_a_page_stands_alone_and_needs_no_script(tmp_path):
    _, x, f = squared_norm()
    explain(f, wrt=x).save(tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<details><summary" in page
    assert "<script" not in page
    assert "http" not in page
    with pytest.raises(cr.errors.OptionError, match="written as a page"):
        explain(f, wrt=x).save(tmp_path / "x.txt")


def test_names_are_escaped_on_a_page():
    x = variable([1.0, 2.0], "<b>x")
    html = explain((x * x).sum(), wrt=x)._repr_html_()
    assert "<b>x" not in html
    assert "&lt;b&gt;x" in html


def test_latex_of_each_line_compiles():
    from matplotlib.mathtext import MathTextParser

    _, x, f = squared_norm()
    h = cr.softmax(cr.relu(x * 3 - 1), axis=0)
    for y, wrt in ((f, x), (cr.log(h).sum() / f, x)):
        found = explain(y, wrt=wrt, max_terms=1)
        lines = found.latex(full=True).splitlines()
        assert len(lines) > 4
        for line in lines:
            MathTextParser("path").parse(f"${line}$")
        assert found._repr_latex_().startswith(r"$\displaystyle \frac{\partial")


def test_a_derivation_as_plain_data_holds_all_numbers():
    _, x, f = squared_norm()
    found = explain(f, wrt=x, entry=0).as_dict()
    assert (found["of"], found["wrt"], round(found["value"], 12)) == (
        "f",
        "x[0]",
        -0.112,
    )
    assert [round(p["value"], 12) for p in found["paths"]] == [-0.156, 0.044]
    assert found["paths"][0]["factors"][0]["formula"] == "W[1,0]"
    assert found["deeper"]["paths"][0]["factors"][0]["value"] == pytest.approx(0.52)


def test_an_entry_that_another_entry_of_the_value_is_made_of_counts_for_nothing():
    x = variable([1.0, 2.0], "x")
    assert str(explain(x * 2, wrt=x, entry=1, of_entry=0)).splitlines()[0] == (
        "∂y[0]/∂x[1] = 0: y[0] is made of other entries"
    )
    text = str(explain(cr.exp(x * 2), wrt=x, entry=1, of_entry=0))
    assert "∂y[0]/∂x[1] = ∂v₁[1]/∂x[1] · ∂y[0]/∂v₁[1] = 2 · 0 = 0\n" in text
    assert "∂y[0]/∂v₁[1] = 0: y[0] is made of other entries" in text
    dead = str(explain(cr.relu(x - 5), wrt=x, entry=1, of_entry=1))
    assert "∂y[1]/∂v₁[1] = (v₁[1] > 0 ? 1 : 0) = 0   [relu gates; a dead unit]" in dead


def test_it_works_inside_no_grad_and_leaves_gradients_and_modes_alone():
    from chainrule.core.mode import mode

    _, x, f = squared_norm()
    x.grad = None
    with cr.no_grad():
        inside = str(explain(f, wrt=x))
        assert not mode.recording
    assert inside == str(explain(f, wrt=x))
    assert x.grad is None
    assert (mode.recording, mode.tracing) == (True, False)
    with pytest.raises(cr.errors.IndexingError):
        explain(f, wrt=x, entry=7)
    assert (mode.recording, mode.tracing) == (True, False)


def test_an_interior_node_is_explained_like_a_leaf():
    x = variable([[0.5, -1.0]], "x")
    h = cr.tanh(x @ variable(W, "W"))
    y = cr.softmax(h * 3)[0, 1]
    for entry in np.ndindex(1, 2):
        (gradient,) = gradients(y, [h])
        found = explain(y, wrt=h, entry=entry)
        assert found.value == pytest.approx(gradient.data[entry], rel=1e-12)
        assert found.symbol == f"∂y/∂v₁[{entry[0]},{entry[1]}]"  # x is another


def test_values_of_one_element_with_axes_keep_their_entries():
    x = variable([[2.0]], "x")
    assert str(explain(x * x * cr.exp(x), wrt=x)).startswith("∂y/∂x = the sum over")
    assert explain(x * x, wrt=x, entry=(0, 0), of_entry=(0, 0)).value == 4.0


def test_a_gate_without_a_short_formula_tells_its_rule():
    x = variable([[0.5, 1.0, -1.0]], "x")
    text = str(explain(cr.log_softmax(x)[0, 1], wrt=x, entry=(0, 0)))
    assert "[log_softmax competes: dy - softmax(x)·Σ dy]" in text


def test_only_a_number_times_an_entry_is_written_as_such():
    class Cube(cr.Gate):
        def forward(self, x):
            self.x = x
            return x * x * x

        def backward(self, dy):
            return dy * 3 * self.x * self.x

    class Product(cr.Gate):
        def forward(self, x, a, b):
            self.x, self.a, self.b = x, a, b
            return x * a * b

        def backward(self, dy):
            return dy * self.a * self.b, dy * self.x * self.b, dy * self.x * self.a

    x, a, b = (variable([v, v + 1], n) for v, n in ((2.0, "x"), (3.0, "a"), (5.0, "b")))
    (factor, _) = explain(Cube()(x).sum(), wrt=x, entry=0).factors
    assert (factor.formula, factor.value) == ("12", 12.0)
    (factor, _) = explain(Product()(x, a, b).sum(), wrt=x, entry=0).factors
    assert (factor.formula, factor.value) == ("15", 15.0)


def test_an_entry_of_a_formula_stands_in_parentheses_unless_it_is_a_call():
    x, c = variable([[1.0, 2.0], [3.0, 4.0]], "x"), variable([0.5, 0.0], "c")
    h = x.sum(axis=0) + cr.exp(c)
    h.name = "h"
    r = h.reshape(1, 2)
    r.name = "r"
    lines = [s.line() for s in explain((r * 2).sum(), wrt=x, entry=(0, 1)).steps]
    assert lines[:2] == [
        "h[1] = (sum(x) + exp(c))[1] = 7",
        "r[0,1] = reshape(h)[0,1] = 7",
    ]


def test_what_stands_beside_a_product_keeps_its_parentheses():
    a, b, w = (variable(np.eye(2), n) for n in "abw")
    h = cr.relu((a + b) @ (w @ a) - 1)
    h.name = "h"
    (line,) = (str(s) for s in explain(h.sum(), wrt=a, entry=(0, 0)).steps[:1])
    assert line == "h[0,0] = (max(((a + b) @ (w @ a)) - 1, 0))[0,0] = 1"


def test_ways_that_cancel_are_pointed_out():
    x = variable(3.0, "x")
    h = x * 2 - x - x
    h.name = "h"
    text = str(explain(h * 5, wrt=x))
    assert "∂h/∂x = 0   [a zero ends every path through here]" in text


def test_entries_of_equal_value_are_told_apart():
    x = variable([[1.0, 1.0]], "x")
    w = variable([[2.0, 2.0, 3.0, 2.0], [2.0, 3.0, 3.0, 2.0]], "w")
    weights = variable([[4.0, 3.0, 2.0, 1.0]])
    found = explain((x @ w * weights).sum(), wrt=x, entry=(0, 0))
    named = {p.factors[0].of: p.factors[0].formula for p in found.paths}
    assert named == {f"v1[0,{j}]": f"w[0,{j}]" for j in range(4)}
