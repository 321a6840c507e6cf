"""Graphs drawn as circuits: everything is there, can be read, and is the lectures'."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.capture import capture
from chainrule.errors import GradientError, OptionError
from chainrule.explanation import run_program
from chainrule.explanation.drawing.scheme import scheme


def lecture_graph():
    def f(x, y, z):
        q = x + y
        q.name = "q"
        return q * z

    return cr.Graph(f, x=-2.0, y=5.0, z=-4.0)


@pytest.fixture(scope="module")
def resnet20():
    return cr.Graph(nn.resnet20((32, 32, 3), 10), np.ones((1, 32, 32, 3), "float32"))


def random_graph(seed, num_gates):
    rng = np.random.default_rng(seed)

    def f(*xs):
        made = [*xs]
        for _ in range(num_gates):
            a, b = (made[-1 - int(rng.integers(0, min(len(made), 6)))] for _ in "ab")
            gate = rng.integers(0, 4)
            made.append((a + b, a * 0.5 - b, cr.tanh(a), cr.sigmoid(a * b))[gate])
        total = made[0]
        for y in made[1:]:
            total = total + y
        return total

    graph = cr.Graph(f, *rng.normal(size=4))
    graph.backward()
    return graph


def test_the_lectures_first_graph_has_values_above_and_gradients_below(read):
    graph = lecture_graph()
    graph.backward()
    picture = read(cr.draw(graph).svg)
    picture.check_readable()
    above = {w.text for w in picture.words if w.colour == "#006b54"}
    below = [w.text for w in picture.words if w.colour == "#b83b00"]
    assert above == {"−2", "5", "−4", "q = 3", "f = −12", "above a wire: its value"}
    assert sorted(below) == sorted(
        ["−4", "−4", "3", "−4", "1", "below a wire: the gradient of f by it"]
    )
    inside = {w.text for w in picture.words if w.colour == "#1c1e21"}
    assert inside == {"x", "y", "z", "+", "×"}
    value = next(w for w in picture.words if w.text == "f = −12")
    gradient = next(w for w in picture.words if w.text == "1")
    assert value.bottom <= gradient.top


def test_before_backward_there_are_no_gradients(read):
    picture = read(cr.draw(lecture_graph()).svg)
    assert not [w for w in picture.words if w.colour == "#b83b00"]


@pytest.mark.parametrize("seed", range(6))
def test_every_node_and_wire_of_a_random_graph_is_drawn_and_readable(read, seed):
    graph = random_graph(seed, 20)
    picture = read(cr.draw(graph).svg)
    picture.check_readable()
    drawn = [n for n in graph if n.kind != "constant"]
    assert sorted(name.split()[-1] for name in picture.named()) == sorted(
        n.name for n in drawn
    )
    num_wires = sum(i.kind != "constant" for n in graph for i in n.inputs)
    paths = [e.attrib["d"] for e in picture.root.iter() if "d" in e.attrib]
    wires, heads = paths[:2]
    assert heads.count("z") == num_wires
    # Each piece has a stretch for its words, each wire a path.
    assert wires.count("M") == num_wires + len(drawn)


def test_200_nodes_stay_readable(read):
    graph = random_graph(7, 100)
    assert len(graph) >= 200
    read(cr.draw(graph).svg).check_readable()


def test_signs_stand_in_gates_and_plain_numbers_beside_them(read):
    def f(x, y):
        return (1 - cr.exp(-x * 3) / (x + 0.5)) ** 2 + cr.sigmoid(y - 2) @ x.T

    graph = cr.Graph(f, np.ones((2, 2)), np.ones((2, 2)))
    signs = [p.label for p in scheme(graph).pieces if p.kind == "gate"]
    assert sorted(signs) == sorted(
        [
            "−",
            "× 3",
            "exp",
            "+ 0.5",
            "÷",
            "1 −",
            "( )²",
            "− 2",
            "σ",
            "transpose",
            "@",
            "+",
        ]
    )
    read(cr.draw(graph).svg).check_readable()


def test_a_value_used_twice_by_one_gate_has_two_wires(read):
    x = cr.Tensor(3.0, requires_grad=True, name="x")
    picture = read(cr.draw(x * x).svg)
    heads = [e.attrib["d"] for e in picture.root.iter() if "d" in e.attrib][1]
    assert heads.count("z") == 2


def test_small_arrays_show_their_entries_and_large_ones_shape_and_norm(read):
    graph = cr.Graph(lambda w, x: w @ x, [[0.1, 0.5], [-0.3, 0.8]], np.ones((2, 9)))
    texts = read(cr.draw(graph).svg).texts
    assert "[[0.1, 0.5], [−0.3, 0.8]]" in texts
    assert "2×9, norm 4.24" in texts


def test_modules_are_boxes_and_equal_ones_in_a_row_are_counted(read, resnet20):
    drawing = cr.draw(resnet20, depth=1)
    picture = read(drawing.svg)
    picture.check_readable()
    assert "block1_1 … block1_3 ×3" in picture.texts
    assert "14,016 parameters" in picture.texts
    assert "6 layers each" in picture.texts
    total = sum(
        int(t.split()[0].replace(",", "")) for t in picture.texts if "parameter" in t
        and t[0].isdigit()
    )  # fmt: skip
    assert total == 272_474
    assert len(picture.named()) == 9
    whole = read(cr.draw(resnet20, depth=1, repeats=False).svg)
    assert len(whole.named()) == 13


def test_resnet_20_collapsed_fits_a_page(resnet20):
    # A4 is √2 as wide as high; at 9 points for letters of 11 pixels it has 1480 pixels.
    for drawing in (cr.draw(resnet20, depth=1), cr.draw(resnet20)):
        assert drawing.width <= 1480
        assert drawing.height <= 1046


def test_modules_are_opened_level_by_level(resnet20):
    counts = [len(scheme(resnet20, depth=d, repeats=False).pieces) for d in range(6)]
    assert counts[0] == 2
    assert counts == sorted(counts)
    assert sum(len(p.nodes) for p in scheme(resnet20, depth=1).pieces) > 250


def test_modules_named_by_a_pattern_stay_closed(resnet20):
    found = scheme(resnet20, depth=9, collapse="block*")
    closed = [p.label for p in found.pieces if p.kind == "module"]
    assert closed[0] == "block1_1 … block1_3"
    assert len(closed) == 5
    assert any(p.label == "stem.conv.weight" for p in found.pieces)


def test_pieces_come_before_those_that_use_them(resnet20):
    for depth in range(5):
        for repeats in (False, True):
            found = scheme(resnet20, depth=depth, repeats=repeats)
            assert all(w.start < w.end for w in found.wires)


def test_equal_modules_are_not_one_where_another_reads_between(read):
    layers = [nn.Dense(4, 4) for _ in range(3)]

    def f(x):
        a = layers[0](x)
        b = layers[1](a)
        return layers[2](b) + a

    found = scheme(cr.Graph(f, np.ones((2, 4), "float32")), depth=0)
    assert [p.times for p in found.pieces if p.kind == "module"] == [1, 2]
    assert len(found.pieces) == 4


def test_a_module_that_runs_twice_is_two_boxes_with_its_parameters_beside_them():
    layer = nn.Dense(4, 4)
    graph = cr.Graph(lambda x: layer(layer(x)), np.ones((2, 4), "float32"))
    found = scheme(graph, depth=0, repeats=False)
    kinds = sorted(p.kind for p in found.pieces)
    assert kinds == ["input", "module", "module", "variable", "variable"]


def test_a_captured_graph_is_drawn_with_shapes_instead_of_values(read):
    w = cr.Parameter([[1.0], [2.0]], name="w")
    graph = capture(lambda x: cr.relu(x @ w), (cr.Tensor([[1.0, 2.0]]),))
    picture = read(cr.draw(graph).svg)
    assert {"n×2", "2×1", "n×1", "@", "relu"} <= set(picture.texts)


def test_training_captured_as_a_graph_is_drawn_too(read):
    w = cr.Parameter([[1.0], [2.0]], name="w")

    def step(x):
        loss = (x @ w).mean()
        loss.backward()
        cr.assign(w, w - 0.1 * w.grad)
        w.grad = None
        return loss

    graph = capture(step, (cr.Tensor([[1.0, 2.0]]),))
    picture = read(cr.draw(graph).svg)
    assert len(picture.named()) == len(
        [n for n in graph.nodes if n.kind in ("input", "variable", "op")]
    )


def test_very_long_wires_are_cut_and_say_where_they_come_from(read):
    def f(x):
        made = [x]
        for _ in range(120):
            made.append(cr.sin(made[-1]))
        for y in reversed(made[:-1]):
            made.append(made[-1] + y)
        return made[-1]

    graph = cr.Graph(f, 1.0)
    picture = read(cr.draw(graph).svg)
    picture.check_readable()
    cut = [t for t in picture.texts if t.endswith(" ▸")]
    assert cut
    assert {t.removesuffix(" ▸") for t in cut} & {"x", "v₁", "v₂"}
    assert any("a long wire" in t for t in picture.texts)


def test_values_that_are_not_finite_are_drawn_as_they_are(read):
    with np.errstate(all="ignore"):
        graph = cr.Graph(lambda x: cr.log(x) * 0, 0.0)
    graph.backward()
    texts = read(cr.draw(graph).svg).texts
    assert "−inf" in texts
    assert "nan" in texts


def test_the_drawing_says_in_words_what_it_shows():
    names = run_program("f=w1*x; L=f**2", {"w1": 3.0, "x": 2.0})
    assert str(cr.draw(names["L"])) == (
        "Graph of 4 nodes\nw₁ = 3\nx = 2\nf = w₁·x = 6\nL = f^2 = 36"
    )


def test_something_else_than_a_graph_is_refused():
    with pytest.raises(OptionError, match="draw: not a graph") as raised:
        cr.draw(nn.ReLU())
    assert raised.value.got == "ReLU"
    assert "draw_network" in raised.value.hint
    with pytest.raises(GradientError, match="nothing was recorded"):
        cr.draw(cr.Tensor(1.0))


def test_depths_below_0_and_unknown_modules_are_refused(resnet20):
    with pytest.raises(OptionError, match="no such depth"):
        cr.draw(resnet20, depth=-1)
    with pytest.raises(OptionError, match="unknown module to collapse 'block9'") as e:
        cr.draw(resnet20, collapse=["block9"])
    assert "block1_1" in e.value.expected
