"""Dropout: noise in training, so that no unit can rely on another."""

from __future__ import annotations

import numpy as np

from chainrule import ops
from chainrule.core.graph import Tensor, assign
from chainrule.errors import OptionError
from chainrule.nn.init import DrawnBuffer, random_key
from chainrule.nn.module import Module
from chainrule.ops.window import as_images

__all__ = ["Dropout", "SpatialDropout"]


class Dropout(Module):
    """In training, each element is 0 with probability ``rate``, else x / (1 - rate).

    In evaluation it is the identity, with the same mean. Masks are a function of
    (key, step): the key comes from the seed and the path, the step counts calls in
    training; both are saved with the model, so a resumed run draws the same masks.

    Raises:
        OptionError: for a rate outside [0, 1).

    Source: Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, "Dropout", 2014,
    in the form that rescales in training.
    """

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = _checked_rate(rate)
        self.key = DrawnBuffer((2,), random_key, dtype=np.uint32)
        self.step = DrawnBuffer((), "zeros", dtype=np.int64)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        mask = ops.dropout_mask(x, self.key, self.step, self.rate)
        assign(self.step, self.step + 1)
        return x * mask


class SpatialDropout(Module):
    """Dropout of whole channels: in an image, neighbours would give a pixel away.

    In training, each channel of each example is 0 everywhere with probability ``rate``,
    else x / (1 - rate); in evaluation it is the identity. Masks are drawn as Dropout
    draws them.

    Shapes: (n, ..., c) -> (n, ..., c).

    Raises:
        OptionError: for a rate outside [0, 1).
        ShapeError: when run on what is no image.

    Source: Tompson, Goroshin, Jain, LeCun & Bregler, "Efficient object localization
    using convolutional networks", 2015, section 3.2.
    """

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = _checked_rate(rate)
        self.key = DrawnBuffer((2,), random_key, dtype=np.uint32)
        self.step = DrawnBuffer((), "zeros", dtype=np.int64)

    def forward(self, x: Tensor) -> Tensor:
        images = as_images("spatial_dropout", x)
        if not self.training or not self.rate:
            return images
        # The first pixel has the shape of one number for each example and channel.
        pixel = ops.index(images, (slice(None), *[slice(0, 1)] * (images.ndim - 2)))
        mask = ops.dropout_mask(pixel, self.key, self.step, self.rate)
        assign(self.step, self.step + 1)
        return images * mask


def _checked_rate(rate: float) -> float:
    if not 0 <= rate < 1:
        raise OptionError(
            "dropout: rate out of range", got=rate, expected="0 ≤ rate < 1"
        )
    return float(rate)
