"""Networks built by hand for a given function: towers of sigmoids, bumps of ReLUs.

Nothing is trained here. An interval, or a rectangle, is cut into cells. Each cell gets
a few units that are switched on inside it and off outside, as high as the function in
the cell's middle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from chainrule.core.graph import assign
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import Dense, ReLU, Sequential, Sigmoid

__all__ = ["bumps", "dense", "tower", "towers"]

Array = np.ndarray[Any, Any]
Box = Sequence[tuple[float, float]]


def dense(weight: Any, bias: Any) -> Dense:
    """A dense layer with given weights (in, out) and biases (out), in float64.

    Example:
        >>> dense([[1.0], [1.0]], [-3.0])([[1.0, 4.0]]).tolist()
        [[2.0]]
    """
    w = np.asarray(weight, float)
    if w.ndim != 2:
        raise ShapeError(
            "dense: weights of a layer", got=f"shape {w.shape}", expected="(in, out)"
        )
    layer = Dense(*w.shape, initializer="zeros").astype("float64")
    assert layer.bias is not None
    assign(layer.weight, w)
    assign(layer.bias, np.broadcast_to(np.asarray(bias, float), w.shape[1:]))
    return layer


def tower(
    height: float, left: float, right: float, steepness: float = 1000.0
) -> Sequential:
    """A triplet of units: two sigmoids and the unit that adds them to one tower.

    height·σ(steepness·(x - left)) - height·σ(steepness·(x - right)): its height, width
    (right - left) and displacement (left) are its weights.

    Shapes: (n, 1) -> (n, 1).

    Raises:
        OptionError: where left is not below right, or for a steepness that is not
            above 0.

    Example:
        >>> tower(2.5, 0.3, 0.55)([[0.25], [0.4], [0.6]]).numpy().round(6).tolist()
        [[0.0], [2.5], [0.0]]

    Source: aarhus, "Universal approximation theorem": triplets of neurons with
    controllable height, width and displacement; Nielsen, "Neural networks and deep
    learning", chapter 4.
    """
    if not (left < right and steepness > 0):
        raise OptionError(
            "tower: no width",
            got=f"from {left:g} to {right:g}, steepness {steepness:g}",
            expected="left below right, and a steepness above 0",
        )
    places = np.array([left, right])
    return Sequential(
        steps=dense([[steepness, steepness]], -steepness * places),
        sigmoid=Sigmoid(),
        sum=dense([[height], [-height]], [0.0]),
    )


def towers(
    f: Callable[[Array], Any],
    num: int,
    box: Box = ((0.0, 1.0),),
    *,
    steepness: float = 200.0,
) -> Sequential:
    """Towers side by side, as high as f in the middle of each cell.

    On an interval, each tower is two sigmoids of one hidden layer. On a rectangle, the
    first layer has the steps along both axes, and a unit of a second layer is switched
    on only where the steps of its cell's two axes agree.

    Args:
        f: the function, from points (n, axes) to numbers (n) or (n, 1).
        num: cells along each axis.
        box: the ends of each axis; one or two axes.
        steepness: of the sigmoids, in cells: a step is about 4/steepness cells wide.

    Shapes: (n, axes) -> (n, 1), in float64.

    Raises:
        OptionError: for no cells, another number of axes, or an empty box.
        ShapeError: for a function with another output.

    Example:
        >>> net = towers(lambda x: x**2, 20)
        >>> abs(net([[0.525]]).item() - 0.525**2) < 1e-6
        True

    Source: aarhus, "Universal approximation theorem"; Nielsen, chapter 4, which gives
    the two-dimensional construction.
    """
    edges = cell_edges("towers", num, box)
    heights = _heights("towers", f, edges)
    slopes = [steepness / (e[1] - e[0]) for e in edges]
    if len(edges) == 1:
        (places,), (slope,) = edges, slopes
        pairs = np.stack([places[:-1], places[1:]], axis=1).ravel()
        return Sequential(
            steps=dense(np.full((1, pairs.size), slope), -slope * pairs),
            sigmoid=Sigmoid(),
            sum=dense(np.stack([heights, -heights], axis=1).reshape(-1, 1), [0.0]),
        )
    # A step at each edge of each axis: neighbours share the one between them.
    steps = [dense_block(e, s) for e, s in zip(edges, slopes, strict=True)]
    first_weight, first_bias = _side_by_side(steps)
    gates = np.zeros((len(first_bias), num**2))
    for cell, (i, j) in enumerate(product(range(num), repeat=2)):
        gates[[i, num + 1 + j], cell] = 1.0
        gates[[i + 1, num + 2 + j], cell] = -1.0
    # Inside its cell a unit sees 2, beside it 1, elsewhere 0.
    return Sequential(
        steps=dense(first_weight, first_bias),
        sigmoid=Sigmoid(),
        gates=dense(steepness * gates, np.full(num**2, -1.5 * steepness)),
        sigmoid2=Sigmoid(),
        sum=dense(heights[:, None], [0.0]),
    )


def dense_block(places: Array, slope: float) -> tuple[Array, Array]:
    """Weights (1, units) and biases (units) of units slope·(x - place)."""
    return np.full((1, places.size), slope), -slope * places


def bumps(
    f: Callable[[Array], Any],
    num: int,
    box: Box = ((0.0, 1.0),),
    *,
    slope_width: float = 0.1,
) -> Sequential:
    """Bumps side by side, each of four ReLUs, as high as f in each cell's middle.

    A bump rises from one edge of its cell over ``slope_width`` of it, is flat, and
    falls beyond the other edge, where the next bump rises. On a rectangle, four ReLUs
    for each cell of each axis make such bumps of height 1, and a unit of a second layer
    for each cell, max(0, bump + bump - 1), is above 0 only where both are.

    Args:
        f: the function, from points (n, axes) to numbers (n) or (n, 1).
        num: cells along each axis.
        box: the ends of each axis; one or two axes.
        slope_width: of a slope, in cells; above 0, at most 1.

    Shapes: (n, axes) -> (n, 1), in float64.

    Raises:
        OptionError: for no cells, another number of axes, an empty box, or another
            slope.
        ShapeError: for a function with another output.

    Example:
        >>> net = bumps(np.sin, 10, [(0.0, 3.0)])
        >>> net.num_parameters()  # 40 hidden units: 40·(1 + 1) + 40 + 1
        121
        >>> print(f"{net([[1.65]]).item():.6f} {np.sin(1.65):.6f}")
        0.996865 0.996865

    Source: yonsei, "Universal approximation": bumps of four hidden units of a two-layer
    ReLU network.
    """
    edges = cell_edges("bumps", num, box)
    if not 0 < slope_width <= 1:
        raise OptionError(
            "bumps: slopes of no use", got=slope_width, expected="above 0, at most 1"
        )
    heights = _heights("bumps", f, edges)
    starts, slopes = [], []
    for places in edges:
        width = slope_width * (places[1] - places[0])
        sides = np.stack(
            [places[:-1], places[:-1] + width, places[1:], places[1:] + width]
        )
        starts.append(sides.T.ravel())
        slopes.append(1 / width)
    signs = np.array([1.0, -1.0, -1.0, 1.0])
    if len(edges) == 1:
        return Sequential(
            hinges=dense(np.ones((1, 4 * num)), -starts[0]),
            relu=ReLU(),
            sum=dense(np.kron(heights, slopes[0] * signs)[:, None], [0.0]),
        )
    first_weight, first_bias = _side_by_side([dense_block(s, 1.0) for s in starts])
    gates = np.zeros((8 * num, num**2))
    for cell, (i, j) in enumerate(product(range(num), repeat=2)):
        gates[4 * i : 4 * i + 4, cell] = slopes[0] * signs
        gates[4 * (num + j) : 4 * (num + j) + 4, cell] = slopes[1] * signs
    return Sequential(
        hinges=dense(first_weight, first_bias),
        relu=ReLU(),
        gates=dense(gates, np.full(num**2, -1.0)),
        relu2=ReLU(),
        sum=dense(heights[:, None], [0.0]),
    )


def _side_by_side(blocks: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Units that each look at one axis, as one layer: weights (axes, units), biases."""
    weight = np.zeros((len(blocks), sum(b.size for _, b in blocks)))
    start = 0
    for axis, (w, b) in enumerate(blocks):
        weight[axis, start : start + b.size] = w[0]
        start += b.size
    return weight, np.concatenate([b for _, b in blocks])


def cell_edges(what: str, num: int, box: Box) -> list[Array]:
    """Where cells end along each axis, (num + 1) each."""
    ends = np.asarray(box, float)
    if num < 1 or ends.ndim != 2 or ends.shape[1] != 2 or len(ends) not in (1, 2):
        raise OptionError(
            f"{what}: no cells",
            got=f"{num} cells along each of {len(ends)} axes",
            expected="one cell or more, along one or two axes given as (low, high)",
        )
    if not (np.isfinite(ends).all() and (ends[:, 0] < ends[:, 1]).all()):
        raise OptionError(
            f"{what}: an empty box",
            got=", ".join(f"{a:g} to {b:g}" for a, b in ends),
            expected="finite ends, the lower one first",
        )
    return [np.linspace(a, b, num + 1) for a, b in ends]


def _heights(what: str, f: Callable[[Array], Any], edges: Sequence[Array]) -> Array:
    """f in the middle of each cell, (cells)."""
    middles = [(e[:-1] + e[1:]) / 2 for e in edges]
    points = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1)
    return values_of(what, f, points.reshape(-1, len(edges)))


def values_of(what: str, f: Callable[[Array], Any], points: Array) -> Array:
    """f at points, (n); raises ShapeError if it gives another number of values."""
    values = np.asarray(f(points), float)
    if values.shape not in ((len(points),), (len(points), 1)):
        raise ShapeError(
            f"{what}: the function gives another number of values",
            got=f"shape {values.shape} for points of shape {points.shape}",
            expected=f"({len(points)},) or ({len(points)}, 1)",
        )
    return values.reshape(-1)
