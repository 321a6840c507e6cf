"""Pooling to a size that is given, whatever the size of the images.

Place i of h' covers the elements from ⌊i·h / h'⌋ to ⌈(i + 1)·h / h'⌉. Where all of them
cover as many, this is pooling by one window; elsewhere the windows differ by one.

Source: K. He et al., Spatial pyramid pooling in deep convolutional networks for visual
recognition, 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor, function
from chainrule.ops.indexing import take
from chainrule.ops.pooling import average_pool, max_pool
from chainrule.ops.resizing import averages, regions, resample
from chainrule.ops.window import as_images, numbers

__all__ = ["adaptive_average_pool", "adaptive_max_pool"]


@function
def adaptive_average_pool(x: Any, sizes: Sequence[int] | int) -> Tensor:
    """The means of a grid of regions that cover the images: a fixed number of features.

    Args:
        x: images, channels last; one, two or three spatial axes.
        sizes: of the grid, one number or one for each axis; 1 is the global average.

    Shapes: (n, h, w, c) -> (n, h', w', c).

    Raises:
        ShapeError: for images without pixels.
        OptionError: for sizes below 1.

    Example:
        >>> import numpy as np
        >>> import chainrule as cr
        >>> cr.adaptive_average_pool(np.arange(5.0).reshape(1, 5, 1), 2).tolist()
        [[[1.0], [3.0]]]
    """
    name = "adaptive_average_pool"
    images = as_images(name, x, least=1)
    wanted = numbers(name, "sizes", sizes, images.ndim - 2, 1)
    windows = _one_window(images.shape[1:-1], wanted)
    if windows is not None:
        return average_pool(images, windows[0], stride=windows[1])
    pairs = zip(images.shape[1:-1], wanted, strict=True)
    return resample(images, [averages(old, new) for old, new in pairs])


@function
def adaptive_max_pool(x: Any, sizes: Sequence[int] | int) -> Tensor:
    """The largest elements of a grid of regions that cover the images.

    Args:
        x: images, channels last; one, two or three spatial axes.
        sizes: of the grid, one number or one for each axis; 1 is the global maximum.

    Shapes: (n, h, w, c) -> (n, h', w', c).

    Raises:
        ShapeError: for images without pixels.
        OptionError: for sizes below 1.

    Example:
        >>> import numpy as np
        >>> import chainrule as cr
        >>> cr.adaptive_max_pool(np.arange(5.0).reshape(1, 5, 1), 2).tolist()
        [[[2.0], [4.0]]]
    """
    name = "adaptive_max_pool"
    images = as_images(name, x, least=1)
    rank = images.ndim - 2
    wanted = numbers(name, "sizes", sizes, rank, 1)
    windows = _one_window(images.shape[1:-1], wanted)
    if windows is not None:
        return max_pool(images, windows[0], stride=windows[1])
    # From the last axis on, so that of equal elements the first in reading order wins.
    for axis in range(rank, 0, -1):
        starts, stops = regions(images.shape[axis], wanted[axis - 1])
        longest = int((stops - starts).max())
        # A shorter region repeats its last element, which changes no maximum.
        inside = np.minimum(starts[:, None] + np.arange(longest), stops[:, None] - 1)
        images = take(images, inside.ravel(), axis)
        images = max_pool(
            images, [longest if a == axis else 1 for a in range(1, rank + 1)]
        )
    return images


def _one_window(
    sizes: Sequence[int], wanted: Sequence[int]
) -> tuple[list[int], list[int]] | None:
    """Size and stride of the window that covers all regions, if there is one."""
    size, stride = [], []
    for old, new in zip(sizes, wanted, strict=True):
        starts, stops = regions(old, new)
        step = int(starts[1]) if new > 1 else old
        if not step or np.any(starts != step * np.arange(new)):
            return None
        if np.any(stops - starts != stops[0]):
            return None
        size.append(int(stops[0]))
        stride.append(step)
    return size, stride
