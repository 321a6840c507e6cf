"""Long drawings in rows."""

import itertools
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.explanation.drawing.folding import folded
from chainrule.explanation.drawing.layout import layered


def chain(count, *more):
    sizes = [(100.0, 20.0)] * count
    edges = [(i, i + 1) for i in range(count - 1)]
    return layered(sizes, [*edges, *more]), sizes


def test_a_short_layout_stays_as_it_is():
    layout, sizes = chain(5)
    found = folded(layout, sizes, page=1000.0)
    assert found.starts == (0.0,)
    assert (found.length, found.breadth) == (layout.length, layout.breadth)
    assert found.at((340.0, 3.0)) == (340.0, 3.0)


def test_rows_are_as_long_as_the_page_allows_and_lie_below_one_another():
    layout, sizes = chain(12, (2, 9))
    found = folded(layout, sizes, page=500.0)
    assert len(found.starts) == 4
    assert found.length <= 500.0
    drawn = [found.at(box) for box in layout.boxes]
    rows = [[y for (x, y), box in zip(drawn, layout.boxes, strict=True)
             if found.row(box[0]) == k] for k in range(4)]  # fmt: skip
    for above, below in itertools.pairwise(rows):
        assert max(above) + 20.0 < min(below)
    assert max(max(row) for row in rows) + 20.0 <= found.breadth + 1e-9


def test_where_many_wires_would_be_cut_there_is_one_row():
    layout, sizes = chain(
        12, *((i, 11) for i in range(8)), *((0, i) for i in range(4, 11))
    )
    assert len(folded(layout, sizes, page=500.0).starts) == 1


def test_wires_between_rows_join_what_they_joined():
    layout, sizes = chain(8, (1, 6))
    found = folded(layout, sizes, page=450.0)
    corner = (50.0, 50.0)
    for i, route in enumerate(layout.routes):
        end = found.shifted(route[-1], corner)
        path = found.path(i, route, end, corner)
        points = [float(v) for v in re.findall(r"-?[\d.]+", path)]
        start = found.shifted(route[0], corner)
        assert points[:2] == pytest.approx(start, abs=0.1)
        assert points[-2:] == pytest.approx(end, abs=0.1)
        num_breaks = found.row(route[-1][0]) - found.row(route[0][0])
        if num_breaks:
            sides = [float(v) - corner[0] for v in re.findall(r"H([\d.]+)", path)]
            assert min(sides) < 0 < found.length < max(sides)
        turns = [float(v) - corner[1] for v in re.findall(r"V([\d.]+)", path)]
        assert len(turns) == 2 * num_breaks
        for between, row in zip(
            turns[::2], range(found.row(route[0][0]), 9), strict=False
        ):
            below = [found.at(b)[1] for b in layout.boxes if found.row(b[0]) == row + 1]
            assert found.ends[row] < between < min(below)


def test_a_folded_graph_is_readable_and_narrow(read):
    def f(x):
        for _ in range(30):
            x = cr.tanh(x) + x
        return x

    drawing = cr.draw(cr.Graph(f, np.array(0.5)))
    picture = read(drawing.svg)
    picture.check_readable()
    assert drawing.width < 1400
    assert len(picture.named()) == 61
