"""Which pixels an output hangs on, by gradients: saliency and integrated gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.rng import generator
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.features.attribution import Attribution, target_name
from chainrule.explanation.features.layers import (
    Output,
    OutputOf,
    as_example,
    chosen_output,
)
from chainrule.nn.module import Module

__all__ = ["integrated_gradients", "saliency"]

Array = np.ndarray[Any, Any]

_TOLERANCE = 0.008  # of the difference: less than the 1 % that is promised
_ROUGHNESS = 0.05
"""Of all ups and downs: a sum that is right because errors cancel is not enough."""
_FIRST_PARTS = 8
_MAX_PARTS = 4096
_MAX_NUMBERS = 1 << 24
"""In memory at a time: large pictures get fewer parts."""
# Gauss-Legendre's two points of [0, 1], where parabolas and cubics are integrated.
_NODES = np.array([0.5 - 0.5 / np.sqrt(3.0), 0.5 + 0.5 / np.sqrt(3.0)])


def saliency(
    model: Module,
    example: Any,
    *,
    output: Output = None,
    samples: int = 1,
    noise: float = 0.1,
    seed: int = 0,
) -> Attribution:
    """How fast an output changes with each pixel: |∂y/∂x|, the largest of its channels.

    Gradients of networks with ReLU jump from point to point. With ``samples`` above 1
    the mean of gradients at noisy copies of the example is taken instead (SmoothGrad).

    Args:
        model: from a picture or a row of numbers to a row of numbers or a picture.
        example: one input, (h, w, c) or (features,).
        output: which number; None for the largest.
        samples: how many copies.
        noise: their standard deviation, as a share of the example's range.

    Raises:
        IndexingError: for an output that is not there.
        OptionError: for fewer than 1 sample or noise below 0.

    Example:
        >>> from chainrule import nn
        >>> net = nn.mlp(3, (), 2)
        >>> net.load_state({"output.weight": [[1, 5], [0, -2], [0, 0]],
        ...                 "output.bias": [0, 0]})
        >>> saliency(net, [1.0, 1.0, 1.0], output=1).values.tolist()
        [5.0, 2.0, 0.0]

    Source: Simonyan, Vedaldi & Zisserman, "Deep inside convolutional networks", 2014,
    section 3; Smilkov et al., "SmoothGrad", 2017, section 3.
    """
    if samples < 1 or not noise >= 0:
        raise OptionError(
            "saliency: no copies to look at",
            got=f"samples={samples}, noise={noise}",
            expected="samples of at least 1, noise of at least 0",
        )
    x = as_example("saliency", model, example)
    index, found = chosen_output("saliency", model, x, output)
    copies = np.repeat(x, samples, axis=0)
    if samples > 1:
        rng = generator(seed, "smoothgrad")
        spread = noise * float(x.max() - x.min())
        copies = copies + (spread * rng.normal(size=copies.shape)).astype(x.dtype)
    _, slopes = OutputOf(model, index).gradients(copies)
    size = np.abs(slopes.mean(axis=0))
    return Attribution(
        method="saliency" if samples == 1 else f"SmoothGrad of {samples} copies",
        example=np.asarray(example),
        values=size.max(axis=-1) if size.ndim == 3 else size,
        target=target_name(index),
        score=float(found[index]),
        is_signed=False,
    )


def integrated_gradients(
    model: Module,
    example: Any,
    *,
    output: Output = None,
    baseline: Any = 0.0,
) -> Attribution:
    """What each pixel adds to an output on the way from a baseline to the example.

    a = (x - x₀) · ∫ ∂y/∂x (x₀ + t·(x - x₀)) dt, over t from 0 to 1; channels are
    summed. All a together are y(x) - y(x₀). Since that holds for every stretch of the
    way too, each says itself how wrong its integral is, and the worst are halved until
    the sum is right to 1 %, or 4,096 are reached. ``note`` says how far it is off.

    Args:
        model: from a picture or a row of numbers to a row of numbers or a picture.
        example: one input, (h, w, c) or (features,).
        output: which number; None for the largest.
        baseline: where nothing is to be seen: a number, or an array like the example.

    Raises:
        IndexingError: for an output that is not there.
        ShapeError: for a baseline that does not fit the example.

    Example:
        >>> from chainrule import nn
        >>> net = nn.mlp(2, (), 1)
        >>> net.load_state({"output.weight": [[3.0], [-1.0]], "output.bias": [7.0]})
        >>> print(integrated_gradients(net, [2.0, 4.0]))
        integrated gradients: output 0 is 9
        most of it comes from number 0 (+6), number 1 (-4)
        40 % of the attribution speaks against it
        the sum is 2, the output differs from the baseline's by 2 (off by 0 %)

    Source: Sundararajan, Taly & Yan, "Axiomatic attribution for deep networks", 2017,
    section 3; halving stretches by completeness is ours.
    """
    what = "integrated gradients"
    x = as_example(what, model, example)
    try:
        start = np.broadcast_to(np.asarray(baseline, x.dtype), x.shape[1:])
    except ValueError:
        raise ShapeError(
            f"{what}: the baseline does not fit the example",
            got=f"a baseline of shape {np.shape(baseline)}",
            expected=f"a number, or shape {x.shape[1:]}",
        ) from None
    index, found = chosen_output(what, model, x, output)
    sums, difference = _integral(OutputOf(model, index), start, x[0])
    total = float(sums.sum())
    share = abs(total - difference) / max(abs(difference), 1e-12)
    return Attribution(
        method=what,
        example=np.asarray(example),
        values=sums.sum(axis=-1) if sums.ndim == 3 else sums,
        target=target_name(index),
        score=float(found[index]),
        note=f"the sum is {total:.4g}, the output differs from the baseline's by "
        f"{difference:.4g} (off by {100 * share:.2g} %)",
    )


def _integral(output: OutputOf, start: Array, end: Array) -> tuple[Array, float]:
    """The attributions in float64, and the difference that they should sum to."""
    way = end.astype(np.float64) - start

    def at(places: Array) -> Array:
        points = start + places.reshape(-1, *[1] * way.ndim) * way
        return points.astype(end.dtype)

    def inside(edges: Array) -> Array:
        lengths = np.diff(edges, axis=1)
        _, slopes = output.gradients(at(edges[:, :1] + lengths * _NODES))
        means = (
            slopes.astype(np.float64).reshape(-1, len(_NODES), *way.shape).mean(axis=1)
        )
        return means * way * lengths.reshape(-1, *[1] * way.ndim)

    def scores(places: Array) -> Array:
        return output.values(at(places)).astype(np.float64)

    places = np.linspace(0.0, 1.0, _FIRST_PARTS + 1)
    parts, values = _pairs(places), _pairs(scores(places))
    found = inside(parts)
    most = min(_MAX_PARTS, max(_FIRST_PARTS, _MAX_NUMBERS // way.size))
    while True:
        gains = np.diff(values, axis=1)[:, 0]
        errors = found.reshape(len(parts), -1).sum(axis=1) - gains
        is_right = abs(errors.sum()) <= _TOLERANCE * abs(gains.sum())
        is_steady = np.abs(errors).sum() <= _ROUGHNESS * np.abs(gains).sum()
        if (is_right and is_steady) or len(parts) >= most:
            return found.sum(axis=0), float(gains.sum())
        worst = np.abs(errors) >= np.abs(errors).mean()
        middle = parts[worst].mean(axis=1)
        halves = _halved(parts[worst], middle)
        parts = np.concatenate([parts[~worst], halves])
        values = np.concatenate(
            [values[~worst], _halved(values[worst], scores(middle))]
        )
        found = np.concatenate([found[~worst], inside(halves)])


def _pairs(edges: Array) -> Array:
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _halved(pairs: Array, middle: Array) -> Array:
    """Each (first, last) as (first, middle), and then each as (middle, last)."""
    first, last = pairs.T
    rows = (first, middle), (middle, last)
    return np.concatenate([np.stack(row, axis=1) for row in rows])
