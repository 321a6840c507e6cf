"""Graphs step by step: what appears when, and the pages that show it."""

import json
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.capture import capture
from chainrule.errors import OptionError
from chainrule.explanation import run_program

VALUE, GRADIENT = "#006b54", "#b83b00"


def lecture_graph():
    def f(x, y, z):
        q = x + y
        q.name = "q"
        return q * z

    return cr.Graph(f, x=-2.0, y=5.0, z=-4.0)


def shown(picture, colour):
    return sorted(
        w.text for w in picture.words if w.colour == colour and ":" not in w.text
    )


def test_values_appear_forward_and_gradients_backward_one_gate_at_a_time(read):
    frames = cr.draw_frames(lecture_graph())
    pictures = [read(frame.svg) for frame in frames]
    for picture in pictures:
        picture.check_readable()
    leaves = ["5", "−2", "−4"]
    everything = sorted([*leaves, "q = 3", "f = −12"])
    values = [shown(p, VALUE) for p in pictures]
    assert values == [sorted(leaves), sorted([*leaves, "q = 3"]), *[everything] * 4]
    gradients = [shown(p, GRADIENT) for p in pictures]
    assert gradients == [
        [],
        [],
        [],
        ["1"],
        ["1", "3", "−4"],
        ["1", "3", "−4", "−4", "−4"],
    ]


def test_each_step_is_told_with_its_numbers():
    names = run_program(
        "f=w1*x; g=relu(f); yhat=w2*g; L=0.5*(yhat-y)**2",
        {"w1": 3.0, "x": 5.0, "w2": 2.0, "y": 22.0},
    )
    told = cr.draw_frames(names["L"]).captions
    assert told[1] == "forward: f = w₁·x = 3·5 = 15"
    assert told[-1].startswith("backward: w₁·x switches: each operand receives dy")
    assert told[-1].endswith("∂L/∂w₁ = 80, ∂L/∂x = 48")


def test_gradients_add_up_where_a_value_is_used_twice():
    a = cr.Tensor(3.0, requires_grad=True, name="a")
    b = a * 2.0
    b.name = "b"
    y = b * a
    y.name = "y"
    told = cr.draw_frames(y).captions
    assert "∂y/∂b = 3, ∂y/∂a = 6" in told[-2]
    assert "∂y/∂a = 12" in told[-1]


@pytest.mark.parametrize("seed", range(5))
def test_the_last_step_has_the_gradients_of_backward(read, seed):
    rng = np.random.default_rng(seed)

    def f(x, y):
        made = [x, y]
        for _ in range(12):
            a, b = (made[int(rng.integers(len(made)))] for _ in "ab")
            made.append((a * b, a + b, cr.tanh(a), a - b)[rng.integers(4)])
        return sum(made[2:], made[1])

    graph = cr.Graph(f, *rng.normal(size=(2, 3)))
    total = cr.Graph(lambda x, y: f(x, y).sum(), *rng.normal(size=(2, 3)))
    frames = cr.draw_frames(total)
    assert all(node.gradient is None for node in total)
    total.backward()
    last, whole = read(frames[-1].svg), read(cr.draw(total).svg)
    assert shown(last, GRADIENT) == shown(whole, GRADIENT)
    assert shown(last, VALUE) == shown(whole, VALUE)
    # An array has no gradient of itself: only the values are stepped through.
    assert not any("backward" in told for told in cr.draw_frames(graph).captions)


def test_of_two_outputs_the_sum_is_differentiated(read):
    graph = cr.Graph(lambda x: (x * 2, x + 1), 1.0)
    frames = cr.draw_frames(graph)
    assert frames.captions[3] == (
        "backward starts at v₁ and v₂, whose gradient by themselves is 1"
    )
    assert frames.captions[-1].endswith("gradient of x = 3")
    graph.backward()
    assert shown(read(frames[-1].svg), GRADIENT) == ["1", "1", "3"]
    picture = read(cr.draw(graph).svg)
    assert "below a wire: the gradient of the outputs' sum by it" in picture.texts


def test_a_closed_module_is_one_step(read):
    model = nn.mlp(4, (3,), 2)
    graph = cr.Graph(lambda x: model(x).sum(), np.ones((2, 4), "float32"))
    frames = cr.draw_frames(graph, depth=1)
    assert len(frames) == 1 + 5 + 1 + 5
    assert any(
        told.startswith("forward: hidden1 gives 2×3") for told in frames.captions
    )
    assert frames.captions[-1].startswith("backward through flatten")
    graph.backward()
    assert shown(read(frames[-1].svg), GRADIENT) == shown(
        read(cr.draw(graph, depth=1).svg), GRADIENT
    )


def test_frames_are_a_sequence_of_drawings():
    frames = cr.draw_frames(lecture_graph())
    assert len(frames) == 6
    assert frames[-1].svg == frames[5].svg
    assert [f.title for f in frames[4:]] == [
        "Graph of 5 nodes, gate by gate, step 5 of 6",
        "Graph of 5 nodes, gate by gate, step 6 of 6",
    ]
    with pytest.raises(IndexError, match="6 steps, no step 6"):
        frames[6]
    assert len({(f.width, f.height) for f in frames}) == 1


def test_the_page_has_every_step_and_needs_nothing_from_outside(tmp_path, read):
    frames = cr.draw_frames(lecture_graph())
    frames.save(tmp_path / "steps.html")
    page = (tmp_path / "steps.html").read_text(encoding="utf-8")
    found = re.search(r"const captions = (\[.*\]);", page)
    assert tuple(json.loads(found[1])) == frames.captions
    svg = re.search(r"<svg.*</svg>", page, re.DOTALL)[0]
    picture = read(svg)
    timed = [e for e in picture.root.iter() if "data-first" in e.attrib]
    for e in timed:
        first, end = int(e.attrib["data-first"]), int(e.attrib["data-end"])
        assert 0 <= first < end <= len(frames)
        assert (e.attrib.get("display") == "none") == (first > 0)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'\$\("([^"]*)"\)', page)) <= set(ids)
    assert not re.search(r"(src|href)=|url\(|@import", page)


def test_names_cannot_end_the_script_of_a_page():
    x = cr.Tensor(1.0, requires_grad=True, name="</script><b>{svg}")
    page = cr.draw_frames(x * 2).page()
    assert page.count("</script>") == 1
    assert "<b>" not in page


def test_the_picture_that_plays_shows_each_step_in_turn(tmp_path, read):
    frames = cr.draw_frames(lecture_graph())
    frames.save(tmp_path / "steps.svg")
    root = read((tmp_path / "steps.svg").read_text(encoding="utf-8")).root
    for parent in root.iter():
        for change in parent.findall("{http://www.w3.org/2000/svg}animate"):
            times = [float(t) for t in change.attrib["keyTimes"].split(";")]
            states = change.attrib["values"].split(";")
            assert times[0] == 0
            assert times == sorted(set(times))
            assert len(times) == len(states)
            assert parent.attrib["visibility"] == states[0]
            assert states.count("visible") == 1
    with pytest.raises(OptionError, match="unknown form of a drawing 'gif'"):
        frames.save(tmp_path / "steps.gif")


def test_notebooks_show_the_page_in_a_frame_of_its_own():
    shown_html = cr.draw_frames(lecture_graph())._repr_html_()
    assert shown_html.startswith("<iframe srcdoc=")
    assert "<script>" not in shown_html


def test_a_graph_without_values_cannot_be_stepped_through():
    graph = capture(lambda x: x * 2, (cr.Tensor([1.0]),))
    with pytest.raises(OptionError, match="a graph without values") as raised:
        cr.draw_frames(graph)
    assert raised.value.got == "CapturedGraph"
