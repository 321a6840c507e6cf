"""Windows of an image laid out as channels, and channels laid out as pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chainrule.core.graph import Tensor, function
from chainrule.errors import ShapeError
from chainrule.ops.indexing import index
from chainrule.ops.shape import concatenate, pad, reshape, transpose
from chainrule.ops.window import as_images, numbers, window

__all__ = ["patches", "pixel_shuffle", "pixel_unshuffle"]


@function
def patches(
    x: Any,
    size: Sequence[int] | int,
    *,
    stride: Sequence[int] | int = 1,
    padding: Any = "valid",
    dilation: Sequence[int] | int = 1,
) -> Tensor:
    """What a window sees at each of its places, as channels (Caffe's im2col).

    y[n, p, (i, c)] = x[n, stride·p + dilation·i - before, c], taps i in rows: a
    convolution is ``patches(x, (kh, kw)) @ w.reshape(kh * kw * c, f)``.

    Args:
        x: images, channels last; one, two or three spatial axes.
        size: the window's, one number or one for each axis.
        stride, padding, dilation: as of ``conv``.

    Shapes: (n, h, w, c) -> (n, h', w', kh·kw·c), with h' as of ``conv``.

    Raises:
        ShapeError: for a window larger than the image.
        OptionError: for options that are no window.

    Example:
        >>> import numpy as np
        >>> import chainrule as cr
        >>> x = np.arange(6.0).reshape(1, 2, 3, 1)
        >>> cr.patches(x, 2).tolist()
        [[[[0.0, 1.0, 3.0, 4.0], [1.0, 2.0, 4.0, 5.0]]]]
    """
    images = as_images("patches", x)
    view = window("patches", images.shape[1:-1], size, stride, padding, dilation)
    sizes = view.output_sizes("patches", images.shape[1:-1])
    crop = view.crop(images.shape[1:-1])  # by negative padding
    if any(p != (0, 0) for p in view.border):
        images = pad(images, ((0, 0), *view.border, (0, 0)))
    if any(p < 0 for pair in view.padding for p in pair):
        images = index(images, (slice(None), *crop))
    return concatenate([index(images, at) for _, at in view.taps(sizes)], axis=-1)


@function
def pixel_shuffle(x: Any, factor: Sequence[int] | int) -> Tensor:
    """Larger images with fewer channels: each pixel's channels become a block of them.

    y[n, r·p + i, c] = x[n, p, (i, c)] for factor r: how a convolution at low resolution
    paints an image at high resolution. The inverse is ``pixel_unshuffle``.

    Args:
        x: images, channels last; one, two or three spatial axes.
        factor: by how much images grow, one number or one for each axis.

    Shapes: (n, h, w, r·r·c) -> (n, r·h, r·w, c).

    Raises:
        ShapeError: if the channels do not divide into blocks.

    Example:
        >>> import numpy as np
        >>> import chainrule as cr
        >>> cr.pixel_shuffle(np.arange(4.0).reshape(1, 1, 1, 4), 2).tolist()
        [[[[0.0], [1.0]], [[2.0], [3.0]]]]

    Source: W. Shi et al., Real-time single image and video super-resolution using an
    efficient sub-pixel convolutional neural network, 2016, equation 4.
    """
    images = as_images("pixel_shuffle", x)
    n, *sizes, channels = images.shape
    rank = len(sizes)
    factors = numbers("pixel_shuffle", "factor", factor, rank, 1)
    count = math.prod(factors)
    if channels % count:
        raise ShapeError(
            "pixel_shuffle: the channels do not divide into blocks of pixels",
            got=f"{channels} channels, factor {factor}",
            expected=f"a multiple of {count} channels",
        )
    split = reshape(images, (n, *sizes, *factors, channels // count))
    # n, (h, rh), (w, rw), c
    pairs = (a for i in range(1, rank + 1) for a in (i, i + rank))
    mixed = transpose(split, (0, *pairs, 2 * rank + 1))
    grown = (h * r for h, r in zip(sizes, factors, strict=True))
    return reshape(mixed, (n, *grown, channels // count))


@function
def pixel_unshuffle(x: Any, factor: Sequence[int] | int) -> Tensor:
    """Smaller images with more channels: each block of pixels becomes one of them.

    y[n, p, (i, c)] = x[n, r·p + i, c] for factor r: the patches of windows that stand
    side by side.

    Args:
        x: images, channels last; one, two or three spatial axes.
        factor: by how much images shrink, one number or one for each axis.

    Shapes: (n, r·h, r·w, c) -> (n, h, w, r·r·c).

    Raises:
        ShapeError: if the sizes are no multiples of the factor.

    Example:
        >>> import numpy as np
        >>> import chainrule as cr
        >>> cr.pixel_unshuffle(np.ones((1, 6, 4, 3)), 2).shape
        (1, 3, 2, 12)
    """
    images = as_images("pixel_unshuffle", x)
    n, *sizes, channels = images.shape
    rank = len(sizes)
    factors = numbers("pixel_unshuffle", "factor", factor, rank, 1)
    if any(h % r for h, r in zip(sizes, factors, strict=True)):
        raise ShapeError(
            "pixel_unshuffle: the image does not divide into blocks of pixels",
            got=f"{images.spec}, factor {factor}",
            expected=f"sizes that are multiples of {factors}",
            hint="crop or pad the images",
        )
    shrunk = [h // r for h, r in zip(sizes, factors, strict=True)]
    pairs = zip(shrunk, factors, strict=True)
    split = reshape(images, (n, *(a for pair in pairs for a in pair), channels))
    places, taps = range(1, 2 * rank + 1, 2), range(2, 2 * rank + 1, 2)
    mixed = transpose(split, (0, *places, *taps, 2 * rank + 1))
    return reshape(mixed, (n, *shrunk, math.prod(factors) * channels))
