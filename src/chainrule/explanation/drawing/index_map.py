"""What a convolution reads for each place of its output, as the engine walks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor
from chainrule.core.trace import Graph, tracing
from chainrule.errors import OptionError
from chainrule.ops.convolution import (
    Convolve,
    ConvolveToData,
    conv,
    conv_transpose,
)
from chainrule.ops.window import Window, numbers

__all__ = ["Pair", "Reading", "index_map"]

Pair = tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """Which elements of the input each output place is made of.

    Attributes:
        in_sizes, out_sizes: rows and columns.
        window: the engine's, as the op holds it.
        transposed: whether the op is the transposed convolution.
        seen: for each output place, (input place, tap) of every product in its sum.
        padded: for each output place the taps that stand on padding, with their places
            in the input's coordinates; none where convolution is transposed.
        more: the output padding of a transposed one.
    """

    in_sizes: Pair
    out_sizes: Pair
    window: Window
    transposed: bool
    seen: dict[Pair, tuple[tuple[Pair, Pair], ...]]
    padded: dict[Pair, tuple[tuple[Pair, Pair], ...]]
    more: Pair = (0, 0)


def index_map(
    in_size: int | Sequence[int],
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Any = "valid",
    dilation: int | Sequence[int] = 1,
    transposed: bool = False,
    output_padding: int | Sequence[int] = 0,
) -> Reading:
    """What ``conv`` reads for each place of its output, as the engine walks over it.

    Args: see ``draw_convolution``.

    Example:
        >>> index_map(4, 2, stride=2).seen[0, 1][:2]
        (((0, 2), (0, 0)), ((0, 3), (0, 1)))
    """
    h, w = numbers("draw_convolution", "in_size", in_size, 2, 1)
    taps = numbers("draw_convolution", "kernel", kernel, 2, 1)
    x = Tensor(np.zeros((1, h, w, 1)))
    filters = Tensor(np.zeros((*taps, 1, 1)))
    moves: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    with tracing():
        if transposed:
            y = conv_transpose(x, filters, output_padding=output_padding, **moves)
        elif np.any(np.asarray(output_padding)):
            raise OptionError(
                "draw_convolution: output_padding without transposed",
                got=f"output_padding={output_padding!r}",
                expected="0 for a convolution: only the transposed one has a choice",
            )
        else:
            y = conv(x, filters, **moves)
    op = Graph.of(y).outputs[0].op
    assert isinstance(op, (Convolve, ConvolveToData))
    _, rows, columns, _ = y.shape
    # The window walks over the larger image, which a transposed convolution makes.
    walked, places = (
        ((rows, columns), (h, w)) if transposed else ((h, w), (rows, columns))
    )
    seen, padded = _walk(op.window, walked, places)
    if transposed:
        seen, padded = _turned(seen, (rows, columns)), {}
    more = numbers("draw_convolution", "output_padding", output_padding, 2, 0)
    return Reading(
        (h, w), (rows, columns), op.window, transposed, seen, padded, (more[0], more[1])
    )


_Reads = dict[Pair, tuple[tuple[Pair, Pair], ...]]


def _walk(view: Window, sizes: Pair, places: Pair) -> tuple[_Reads, _Reads]:
    """What lies under each tap at each place: elements, and places in the padding.

    The window's own indices are applied to an image of the elements' coordinates.
    """
    rows, columns = np.indices(sizes)
    # Two channels of coordinates, and a third that is 0 in the padding.
    image = np.stack((rows, columns, np.ones_like(rows)), axis=-1)[None]
    under = view.padded(image)
    (top, _), (left, _) = view.padding
    seen: dict[Pair, list[tuple[Pair, Pair]]] = {p: [] for p in np.ndindex(*places)}
    padded: dict[Pair, list[tuple[Pair, Pair]]] = {p: [] for p in np.ndindex(*places)}
    where = np.moveaxis(np.indices(under.shape[1:3]), 0, -1)[None] - (top, left)
    for (i, j), index in view.taps(places):
        found, at = under[index][0], where[index][0]
        for p, q in np.ndindex(*places):
            row, column, is_inside = map(int, found[p, q])
            if is_inside:
                seen[p, q].append(((row, column), (i, j)))
            else:
                y, x = map(int, at[p, q])
                padded[p, q].append(((y, x), (i, j)))
    return _fixed(seen), _fixed(padded)


def _turned(seen: _Reads, sizes: Pair) -> _Reads:
    """Which places paint each element, from which elements each place sees."""
    painted: dict[Pair, list[tuple[Pair, Pair]]] = {p: [] for p in np.ndindex(*sizes)}
    for place, terms in seen.items():
        for element_, tap in terms:
            painted[element_].append((place, tap))
    return _fixed(painted)


def _fixed(reads: dict[Any, list[Any]]) -> _Reads:
    return {place: tuple(terms) for place, terms in reads.items()}
