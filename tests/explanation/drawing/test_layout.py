"""Layered layout: what holds for every graph, and what is known for some."""

import itertools
import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from chainrule.explanation.drawing.layout import layered
from chainrule.explanation.drawing.ordering import Grid

LENGTH, BREADTH = 50.0, 20.0


@st.composite
def graphs(draw):
    """(sizes, edges) of an acyclic graph, some edges twice."""
    count = draw(st.integers(1, 25))
    breadths = draw(st.lists(st.integers(5, 40), min_size=count, max_size=count))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    edges = [
        (min(p), max(p)) for p in draw(st.lists(pairs, max_size=50)) if p[0] != p[1]
    ]
    return [(LENGTH, float(b)) for b in breadths], edges


@settings(max_examples=150)
@given(graphs(), st.sampled_from([None, 0, 3]))
def test_no_boxes_overlap_and_wires_lead_forward_and_around_boxes(graph, passing):
    sizes, edges = graph
    found = layered(sizes, edges, between_boxes=6.0, max_passing=passing)
    boxes = [(x, y, x + w, y + h)
             for (x, y), (w, h) in zip(found.boxes, sizes, strict=True)]  # fmt: skip
    for a, b in itertools.combinations(boxes, 2):
        if a[0] == b[0]:
            assert a[3] + 5.9 <= b[1] or b[3] + 5.9 <= a[1]
        else:
            assert a[2] < b[0] or b[2] < a[0]
    for x, y, right, bottom in boxes:
        assert min(x, y) >= -1e-9
        assert right <= found.length + 1e-9
        assert bottom <= found.breadth + 1e-9
    for (a, b), route in zip(edges, found.routes, strict=True):
        assert boxes[a][2] < boxes[b][0]
        if route is None:
            assert passing is not None
            continue
        assert route[0] == pytest.approx((boxes[a][2], (boxes[a][1] + boxes[a][3]) / 2))
        assert route[-1] == pytest.approx(
            (boxes[b][0], (boxes[b][1] + boxes[b][3]) / 2)
        )
        assert all(p[0] <= q[0] for p, q in itertools.pairwise(route))
        for k in range(2, len(route) - 1, 2):  # the stretch through a layer
            (x, y), (right, same) = route[k], route[k + 1]
            assert y == same
            for i, box in enumerate(boxes):
                if i != b and box[0] == x:
                    assert not box[1] < y < box[3], "a wire runs through a box"
            assert right <= boxes[b][0] or x == boxes[b][0]


def test_the_same_graph_is_laid_out_the_same_way():
    sizes = [(LENGTH, BREADTH)] * 30
    edges = [(i * 7 % 13, 13 + i % 17) for i in range(40)]
    assert layered(sizes, edges) == layered(sizes, edges)


def test_a_tree_is_drawn_without_crossings_whatever_its_order():
    # Leaves in an order that would cross: 0 and 2 belong to 4, 1 and 3 to 5.
    edges = [(0, 4), (2, 4), (1, 5), (3, 5), (4, 6), (5, 6)]
    found = layered([(LENGTH, BREADTH)] * 7, edges)
    y = [y for _, y in found.boxes]
    assert (max(y[0], y[2]) < min(y[1], y[3])) or (max(y[1], y[3]) < min(y[0], y[2]))
    assert min(y[0], y[2]) < y[4] < max(y[0], y[2])


def test_a_chain_is_straight_and_a_long_wire_runs_beside_it():
    edges = [(i, i + 1) for i in range(9)] + [(0, 9)]
    found = layered([(LENGTH, BREADTH)] * 10, edges)
    assert len({round(y, 3) for _, y in found.boxes[1:9]}) == 1
    inside = {round(y, 3) for x, y in found.routes[-1][2:-1]}
    assert len(inside) == 1


def test_a_leaf_stands_beside_the_box_that_reads_it():
    edges = [(0, 2), (2, 3), (3, 4), (1, 4)]
    found = layered([(LENGTH, BREADTH)] * 5, edges)
    assert found.boxes[1][0] == found.boxes[3][0]


def test_nothing_is_laid_out_as_nothing():
    found = layered([], [])
    assert (found.boxes, found.routes, found.length, found.breadth) == (
        (),
        (),
        0.0,
        0.0,
    )


def test_only_the_longest_wires_are_cut():
    edges = [(i, i + 1) for i in range(9)] + [(0, 9), (3, 6)]
    found = layered([(LENGTH, BREADTH)] * 10, edges, max_passing=4)
    assert [route is None for route in found.routes] == [False] * 9 + [True, False]


def crossings(found):
    """How often wires cross between neighbouring layers, from their routes."""
    steps = [(r[k], r[k + 1]) for r in found.routes for k in range(1, len(r) - 1, 2)]
    return sum(
        a[0] == c[0] and (a[1] - c[1]) * (b[1] - d[1]) < -1e-9
        for (a, b), (c, d) in itertools.combinations(steps, 2)
    )


def fewest(edges, count):
    """The least number of crossings between two layers, of all orders."""
    return min(
        sum((p[a] - p[c]) * (q[b] - q[d]) < 0
            for (a, b), (c, d) in itertools.combinations(edges, 2))
        for p in itertools.permutations(range(count))
        for q in itertools.permutations(range(count))
    )  # fmt: skip


def test_few_more_wires_cross_than_must():
    found = least = 0
    for seed in range(20):
        rng = random.Random(seed)
        edges = sorted({(rng.randrange(4), rng.randrange(4)) for _ in range(8)})
        least += fewest(edges, 4)
        used = sorted({(0, a) for a, _ in edges} | {(1, b) for _, b in edges})
        place = {v: i for i, v in enumerate(used)}
        joined = [(place[0, a], place[1, b]) for a, b in edges]
        found += crossings(layered([(LENGTH, BREADTH)] * len(used), joined))
    assert least >= 8
    assert found <= 1.2 * least


def test_swapping_neighbours_removes_crossings(monkeypatch):
    def total():
        found = 0
        for seed in range(4):
            rng = random.Random(seed)
            back = [1 + int(rng.expovariate(1 / 6)) for _ in range(118)]
            edges = {(max(0, 1 + i // 2 - b), 1 + i // 2) for i, b in enumerate(back)}
            edges = sorted((a, b) for a, b in edges if a < b)
            found += crossings(layered([(LENGTH, BREADTH)] * 60, edges))
        return found

    swapped = total()
    monkeypatch.setattr(Grid, "_transpose", lambda *_: None)
    assert swapped < 0.95 * total()
