"""What a network misses when a part of the picture is covered."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.features.attribution import Attribution, target_name
from chainrule.explanation.features.layers import (
    Output,
    OutputOf,
    as_example,
    chosen_output,
    in_batches,
)
from chainrule.nn.module import Module

__all__ = ["occlusion"]

Array = np.ndarray[Any, Any]


def occlusion(
    model: Module,
    picture: Any,
    *,
    output: Output = None,
    window: int | None = None,
    stride: int | None = None,
    fill: Any = None,
) -> Attribution:
    """By how much an output drops while a square that slides over the picture hides it.

    v[i, j] = the mean, over the squares that cover the pixel, of y(x) - y(x covered).
    Nothing is asked of the network but its outputs, so it may be of any kind.

    Args:
        model: from a picture to a row of numbers or a picture.
        picture: (h, w, c).
        output: which number; None for the largest.
        window: the side of the square; about a sixth of the picture's unless given.
        stride: from one square to the next; about half of it unless given.
        fill: what it hides with: a number, one for each channel or a picture; the mean
            of each channel unless given.

    Raises:
        IndexingError: for an output that is not there.
        OptionError: for a window larger than the picture, or a stride that leaves gaps.
        ShapeError: for what is no picture, or a fill that does not fit.

    Example:
        >>> from chainrule import nn
        >>> net = nn.Sequential(nn.Flatten(), nn.Dense(4, 1))
        >>> net.load_state({"1.weight": [[1.0], [0.0], [0.0], [5.0]], "1.bias": [0.0]})
        >>> picture = np.ones((2, 2, 1))
        >>> occlusion(net, picture, window=1, fill=0.0).values.tolist()
        [[1.0, 0.0], [0.0, 5.0]]

    Source: Zeiler & Fergus, "Visualizing and understanding convolutional networks",
    2014, section 4.2; the mean over covering squares is ours.
    """
    x = as_example("occlusion", model, picture)
    if x.ndim != 4:
        raise ShapeError(
            "occlusion: a square slides over pictures only",
            got=f"an example of shape {x.shape[1:]}",
            expected="(h, w, c)",
        )
    _, height, width, channels = x.shape
    if window is None:
        window = max(min(2, height, width), round(min(height, width) / 6))
    stride = stride if stride is not None else max(1, window // 2)
    if not 1 <= window <= min(height, width) or not 1 <= stride <= window:
        raise OptionError(
            "occlusion: squares do not cover the picture",
            got=f"window {window}, stride {stride}, a picture of {height}×{width}",
            expected=f"a window of 1 to {min(height, width)}, a stride of 1 to it",
        )
    try:
        cover = np.broadcast_to(
            x[0].mean(axis=(0, 1)) if fill is None else np.asarray(fill, x.dtype),
            x.shape[1:],
        )
    except ValueError:
        raise ShapeError(
            "occlusion: the fill does not fit the picture",
            got=f"shape {np.shape(fill)}",
            expected=f"a number, {channels} numbers, or shape {x.shape[1:]}",
        ) from None
    index, found = chosen_output("occlusion", model, x, output)
    scores = OutputOf(model, index)
    corners = _corners(height, width, window, stride)
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for _, some in in_batches(corners):
        covered = np.repeat(x, len(some), axis=0)
        for hidden, (i, j) in zip(covered, some, strict=True):
            square = (slice(i, i + window), slice(j, j + window))
            hidden[square] = cover[square]
        drops = float(found[index]) - scores.values(covered)
        for drop, (i, j) in zip(drops, some, strict=True):
            total[i : i + window, j : j + window] += drop
            count[i : i + window, j : j + window] += 1
    return Attribution(
        method=f"occlusion, {window}×{window}",
        example=np.asarray(picture),
        values=total / count,
        target=target_name(index),
        score=float(found[index]),
        note=_told(total / count, window),
    )


def _corners(height: int, width: int, window: int, stride: int) -> Array:
    """Upper left corners, the last ones where the square touches the edge."""
    sides = [
        np.minimum(
            np.arange(math.ceil((size - window) / stride) + 1) * stride, size - window
        )
        for size in (height, width)
    ]
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)


def _told(drops: Array, window: int) -> str:
    i, j = np.unravel_index(drops.argmax(), drops.shape)
    return (
        f"squares of {window}×{window} over row {i}, column {j} make it drop by "
        f"{drops.max():.3g}"
    )
