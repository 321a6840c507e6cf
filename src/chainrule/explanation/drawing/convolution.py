"""The arithmetic of convolution, place by place: what a filter sees, what it makes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.errors import OptionError
from chainrule.explanation.drawing.frames import Frames, Timed
from chainrule.explanation.drawing.index_map import Pair, Reading, index_map
from chainrule.explanation.drawing.shapes import FAINT, MARGIN, faint
from chainrule.explanation.drawing.svg import (
    Raw,
    element,
    group,
    text,
    text_width,
)
from chainrule.explanation.picture import GRADIENT, INK, VALUE
from chainrule.ops.window import Window

__all__ = ["draw_convolution"]

_CELL = 26.0
_BETWEEN = 60.0  # the two grids
_LEGEND = (
    "numbered: the filter's taps · dashed: padding, zeros · thick: the place they make",
    "numbered: through which tap an input paints the place with the thick border",
)
_MAX_PLACES = 1024
_MAX_TERMS = 6  # of a caption


def draw_convolution(
    in_size: int | Sequence[int],
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Any = "valid",
    dilation: int | Sequence[int] = 1,
    transposed: bool = False,
    output_padding: int | Sequence[int] = 0,
) -> Frames:
    """Show place by place what a convolution reads and which output that makes.

    One step for each place of the output. On the left the input, its padding dashed,
    with the taps of the filter where they stand; on the right the output. A transposed
    convolution is shown by the same sums: which inputs paint each place, through which
    taps. What is shown is read from the engine's own window.

    Args:
        in_size: rows and columns of the input, one number if equal.
        kernel: taps of the filter.
        stride, padding, dilation: as ``conv`` takes them.
        transposed: draw ``conv_transpose`` instead.
        output_padding: rows and columns more at the end of a transposed one.

    Raises:
        ShapeError: for a window that does not fit, with the arithmetic.
        OptionError: for options that are no convolution, and for an output of more than
            1024 places.

    Example:
        >>> frames = draw_convolution(5, 3, stride=2, padding=1)
        >>> len(frames)
        9
        >>> print(frames.title)
        Convolution of 5×5 by 3×3, stride 2, padding 1: 3×3

    Source: V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning,
    2016.
    """
    reading = index_map(
        in_size, kernel, stride=stride, padding=padding, dilation=dilation,
        transposed=transposed, output_padding=output_padding,
    )  # fmt: skip
    if len(reading.seen) > _MAX_PLACES:
        raise OptionError(
            "draw_convolution: too many places to step through",
            got=f"an output of {_by(reading.out_sizes)}",
            expected=f"at most {_MAX_PLACES} places",
            hint="a smaller image shows the same arithmetic",
        )
    return _drawn(reading)


def _drawn(reading: Reading) -> Frames:
    """Both grids, and at each step the taps and the place that they make."""
    (h, w), (rows, columns) = reading.in_sizes, reading.out_sizes
    outside = [at for terms in reading.padded.values() for at, _ in terms]
    (low_y, high_y), (low_x, high_x) = (
        (
            min([0, *(at[a] for at in outside)]),
            max([size - 1, *(at[a] for at in outside)]),
        )
        for a, size in enumerate((h, w))
    )
    left = (MARGIN - low_x * _CELL, MARGIN + 20 - low_y * _CELL)
    wide, tall = high_x - low_x + 1, high_y - low_y + 1
    right = (MARGIN + wide * _CELL + _BETWEEN, MARGIN + 20)
    ring = sorted(set(outside) - set(np.ndindex(h, w)))
    still = group(
        _named(MARGIN, f"input {_by(reading.in_sizes)}"),
        _named(right[0], f"output {_by(reading.out_sizes)}"),
        *(_cell(left, at, stroke_dasharray="3 3", stroke="#9aa0a6") for at in ring),
        *(_cell(left, at, stroke=FAINT) for at in np.ndindex(h, w)),
        *(_cell(right, at, stroke=FAINT) for at in np.ndindex(rows, columns)),
        _arrow(right[0] - _BETWEEN / 2, MARGIN + 20 + max(tall, rows) * _CELL / 2),
        fill="#ffffff",
    )
    changing, captions = [], []
    for step, place in enumerate(np.ndindex(rows, columns)):
        changing.append(Timed(_step(reading, place, left, right), step, step + 1))
        captions.append(_caption(reading, place))
    below = MARGIN + 20 + max(tall, rows) * _CELL + 18
    notes = [*_sizes(reading), _LEGEND[reading.transposed]]
    told = (faint(MARGIN, below + k * 16, note) for k, note in enumerate(notes))
    width = max(
        [right[0] + columns * _CELL, *(text_width(n, 11) + MARGIN for n in notes)]
    )
    height = below + 16 * (len(notes) - 1) + 6
    return Frames.told(
        _title(reading), captions, width + MARGIN, height, group(still, *told), changing
    )


def _step(
    reading: Reading, place: Pair, left: tuple[float, float], right: tuple[float, float]
) -> Raw:
    """The taps where they stand, numbered, and the place that they make."""
    shown = []
    for at, tap in reading.padded.get(place, ()):
        shown.append(
            _tap(left, at, tap, reading, fill="#ffffff", stroke_dasharray="3 3")
        )
    for at, tap in reading.seen[place]:
        shown.append(_tap(left, at, tap, reading, fill="#dff1ea"))
    y, x = place
    shown.append(_cell(right, (y, x), fill="#fbe9df", stroke=GRADIENT, stroke_width=3))
    return group(*shown)


def _tap(
    corner: tuple[float, float], at: Pair, tap: Pair, reading: Reading, **style: Any
) -> Raw:
    """A tap of the filter over an element: which of its weights it is."""
    x, y = corner[0] + at[1] * _CELL, corner[1] + at[0] * _CELL
    words = f"{tap[0]},{tap[1]}"
    return group(
        _cell(corner, at, stroke=VALUE, stroke_width=2.5, **style),
        text(x + _CELL / 2, y + _CELL / 2 + 4, words, text_anchor="middle",
             font_size=10, fill=VALUE),
    )  # fmt: skip


def _cell(corner: tuple[float, float], at: Pair, **style: Any) -> Raw:
    x, y = corner[0] + at[1] * _CELL, corner[1] + at[0] * _CELL
    return element("rect", x=x, y=y, width=_CELL, height=_CELL, **style)


def _named(x: float, words: str) -> Raw:
    return text(x, MARGIN + 10, words, font_size=12, fill=INK)


def _arrow(x: float, y: float) -> Raw:
    path = f"M{x - 14:.1f} {y:.1f}H{x + 14:.1f}m-6 -5l6 5l-6 5"
    return element("path", d=path, fill="none", stroke=INK, stroke_width=1.5)


def _title(reading: Reading) -> str:
    name = "Transposed convolution" if reading.transposed else "Convolution"
    view, more = reading.window, reading.more
    # As the user gave it: the op's own window leaves output padding out behind.
    pairs = zip(view.padding, more, strict=True)
    given = tuple((lo, hi + m) for (lo, hi), m in pairs)
    told = str(Window(view.size, view.stride, given, view.dilation))
    if any(more):
        told += f", output padding {_by(sorted(set(more)))}"
    return f"{name} of {_by(reading.in_sizes)} by {told}: {_by(reading.out_sizes)}"


def _sizes(reading: Reading) -> list[str]:
    """The arithmetic of the output's size: one line, or one for each axis."""
    rows, columns = (_arithmetic(reading, axis) for axis in range(2))
    if rows == columns:
        return [f"size of the output: {rows}"]
    return [f"rows of the output: {rows}", f"columns of the output: {columns}"]


def _arithmetic(reading: Reading, axis: int) -> str:
    view = reading.window
    i, o = reading.in_sizes[axis], reading.out_sizes[axis]
    k, s, d = view.size[axis], view.stride[axis], view.dilation[axis]
    lo, hi = view.padding[axis]
    if not reading.transposed:
        quotient = f"({i} + {_twice(lo, hi)} − {d}·({k} − 1) − 1)/{s}"
        is_whole = (i + lo + hi - d * (k - 1) - 1) % s == 0
        return f"{quotient if is_whole else f'⌊{quotient}⌋'} + 1 = {o}"
    hi += reading.more[axis]
    # With padding "same", the output is size·stride, beyond what the window reaches.
    rest = o - ((i - 1) * s + d * (k - 1) + 1 - lo - hi)
    told = f"({i} − 1)·{s} + {d}·({k} − 1) + 1 − {_twice(lo, hi)}"
    return f"{told} + {rest} = {o}" if rest else f"{told} = {o}"


def _twice(lo: int, hi: int) -> str:
    """The padding of both sides, as it is written into a sum."""
    if lo == hi:
        return f"2·{lo}"
    return f"({lo} + {hi})" if hi >= 0 else f"({lo} − {-hi})"


def _caption(reading: Reading, place: Pair) -> str:
    terms = [
        f"x[{y},{x}]·w[{i},{j}]"
        for (y, x), (i, j) in itertools.islice(reading.seen[place], _MAX_TERMS)
    ]
    left_out = len(reading.seen[place]) - len(terms)
    more = [f"{left_out} more"] if left_out else []
    padding = len(reading.padded.get(place, ()))
    told = f"y[{place[0]},{place[1]}] = {' + '.join([*terms, *more]) or '0'}"
    return told + (f"; {padding} taps on zeros" if padding else "")


def _by(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))
