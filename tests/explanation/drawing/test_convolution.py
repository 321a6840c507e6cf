"""Convolution place by place: what is shown is what the engine does."""

import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.drawing.index_map import index_map

CASES = [
    {"in_size": 5, "kernel": 3},
    {"in_size": 5, "kernel": 3, "stride": 2, "padding": 1},
    {"in_size": 7, "kernel": 3, "dilation": 2},
    {
        "in_size": (4, 6),
        "kernel": (3, 2),
        "stride": (1, 2),
        "padding": ((1, 0), (0, 2)),
    },
    {"in_size": 6, "kernel": 3, "stride": 4},
    {"in_size": 5, "kernel": 4, "padding": "same"},
    {"in_size": 5, "kernel": 3, "padding": ((-1, 0), (0, -1))},
    {"in_size": 3, "kernel": 3, "padding": 2, "dilation": 3},
    {"in_size": 1, "kernel": 1},
]
TRANSPOSED = [
    {"in_size": 3, "kernel": 3},
    {"in_size": 3, "kernel": 3, "stride": 2, "padding": 1},
    {"in_size": 3, "kernel": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"in_size": (2, 4), "kernel": (4, 2), "stride": (2, 1), "dilation": (1, 2)},
    {"in_size": 3, "kernel": 2, "stride": 3},
    {"in_size": 3, "kernel": 2, "stride": 3, "padding": "same"},
    {"in_size": 4, "kernel": 5, "padding": ((2, 0), (1, 1))},
    {"in_size": 2, "kernel": 3, "stride": 3, "output_padding": (0, 2)},
]


def pair(size):
    return (size, size) if isinstance(size, int) else size


@pytest.mark.parametrize("case", CASES + [c | {"transposed": True} for c in TRANSPOSED])
def test_moving_a_single_one_finds_the_same_reads(case):
    options = dict(case)
    sizes, taps = pair(options.pop("in_size")), pair(options.pop("kernel"))
    run = cr.conv_transpose if options.pop("transposed", False) else cr.conv
    expected = {}
    for at, tap in itertools.product(np.ndindex(*sizes), np.ndindex(*taps)):
        x, w = np.zeros((1, *sizes, 1)), np.zeros((*taps, 1, 1))
        x[0, *at, 0] = w[*tap, 0, 0] = 1
        y = run(x, w, **options).numpy()[0, ..., 0]
        assert set(np.unique(y)) <= {0, 1}
        for place in zip(*np.nonzero(y), strict=True):
            expected.setdefault(tuple(map(int, place)), set()).add((at, tap))
    found = index_map(**case)
    assert found.out_sizes == y.shape
    assert {p: set(t) for p, t in found.seen.items() if t} == expected


@pytest.mark.parametrize("case", CASES)
def test_every_tap_is_over_an_element_or_over_padding(case):
    found = index_map(**case)
    taps = set(np.ndindex(*pair(case["kernel"])))
    for place, seen in found.seen.items():
        padded = found.padded[place]
        assert {tap for _, tap in seen} | {tap for _, tap in padded} == taps
        assert len(seen) + len(padded) == len(taps)
        for (y, x), _ in padded:
            assert not (0 <= y < found.in_sizes[0] and 0 <= x < found.in_sizes[1])
        # Taps stand at equal distances, whether over elements or padding.
        where = {tap: at for at, tap in (*seen, *padded)}
        for (i, j), (y, x) in where.items():
            y0, x0 = where[0, 0]
            d = found.window.dilation
            assert (y - y0, x - x0) == (i * d[0], j * d[1])


@pytest.mark.parametrize("case", CASES + [c | {"transposed": True} for c in TRANSPOSED])
def test_there_is_a_readable_step_for_each_place(case, read):
    frames = cr.draw_convolution(**case)
    found = index_map(**case)
    assert len(frames) == len(found.seen)
    for k in {0, len(frames) // 2, len(frames) - 1}:
        picture = read(frames[k].svg)
        picture.check_readable()
        place = [*found.seen][k]
        taps = [t for t in picture.texts if t.count(",") == 1 and len(t) == 3]
        shown = (*found.seen[place], *found.padded.get(place, ()))
        assert sorted(taps) == sorted(f"{i},{j}" for _, (i, j) in shown)
        assert frames.captions[k].startswith(f"y[{place[0]},{place[1]}] = ")


def test_the_arithmetic_stands_below_the_picture(read):
    texts = read(cr.draw_convolution(5, 3, stride=2, padding=1)[0].svg).texts
    assert "size of the output: (5 + 2·1 − 1·(3 − 1) − 1)/2 + 1 = 3" in texts
    texts = read(cr.draw_convolution((6, 5), 3, stride=2)[0].svg).texts
    assert "rows of the output: ⌊(6 + 2·0 − 1·(3 − 1) − 1)/2⌋ + 1 = 2" in texts
    assert "columns of the output: (5 + 2·0 − 1·(3 − 1) − 1)/2 + 1 = 2" in texts
    frames = cr.draw_convolution(
        3, 3, stride=2, padding=1, transposed=True, output_padding=1
    )
    told = "size of the output: (3 − 1)·2 + 1·(3 − 1) + 1 − 2·1 + 1 = 6"
    assert told in read(frames[0].svg).texts


@pytest.mark.parametrize("case", TRANSPOSED)
def test_the_arithmetic_of_a_transposed_one_is_true(case, read):
    frames = cr.draw_convolution(**case, transposed=True)
    told = [t for t in read(frames[0].svg).texts if "of the output: " in t]
    assert told
    for line in told:
        left, right = line.split(": ")[1].split(" = ")
        written = left.replace("−", "-").replace("·", "*")
        assert eval(written, {"__builtins__": {}}) == int(right)


@pytest.mark.parametrize("case", CASES)
def test_the_arithmetic_of_a_convolution_is_true(case, read):
    told = [
        t
        for t in read(cr.draw_convolution(**case)[0].svg).texts
        if "of the output: " in t
    ]
    assert told
    for line in told:
        left, right = line.split(": ")[1].split(" = ")
        written = left.replace("−", "-").replace("·", "*").replace("/", "//")
        for sign in "⌊⌋":
            written = written.replace(sign, "")
        assert eval(written, {"__builtins__": {}}) == int(right)


def test_titles_say_what_was_asked_for():
    frames = cr.draw_convolution(3, 3, stride=2, padding=1, transposed=True)
    assert (
        frames.title == "Transposed convolution of 3×3 by 3×3, stride 2, padding 1: 5×5"
    )
    frames = cr.draw_convolution(
        3, 3, stride=2, padding=1, transposed=True, output_padding=1
    )
    assert frames.title.endswith("stride 2, padding 1, output padding 1: 6×6")


def test_an_impossible_size_is_the_engines_error_with_its_arithmetic():
    with pytest.raises(ShapeError, match="window is larger than the image") as raised:
        cr.draw_convolution(3, 5)
    assert "≥ 1·(5 - 1) + 1 = 5" in raised.value.expected
    with pytest.raises(ShapeError, match="nothing is left"):
        cr.draw_convolution(1, 1, padding=1, transposed=True)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"in_size": 0, "kernel": 1}, "in_size does not fit"),
        ({"in_size": 5, "kernel": (1, 2, 3)}, "kernel does not fit"),
        ({"in_size": 5, "kernel": 3, "stride": 0}, "stride does not fit"),
        ({"in_size": 5, "kernel": 3, "padding": "some"}, "padding does not fit"),
        ({"in_size": 5, "kernel": 3, "output_padding": 1}, "without transposed"),
        ({"in_size": 40, "kernel": 1}, "too many places to step through"),
    ],
)
def test_options_that_are_no_convolution_are_refused(options, what):
    with pytest.raises(OptionError, match=what):
        cr.draw_convolution(**options)
