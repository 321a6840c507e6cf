"""A trained classifier slid over larger images: its dense layers as convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chainrule import ops
from chainrule.core.graph import Tensor
from chainrule.errors import OptionError
from chainrule.nn.affine import Dense
from chainrule.nn.containers import Sequential
from chainrule.nn.module import Module
from chainrule.nn.pooling import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    GlobalAveragePool,
    SpatialPyramidPool,
)
from chainrule.nn.shape import Flatten, Reshape
from chainrule.nn.summary import output_shape

__all__ = ["fully_convolutional"]

_OF_ONE_SIZE = (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    Flatten,
    GlobalAveragePool,
    Reshape,
    SpatialPyramidPool,
)


def fully_convolutional(model: Sequential, in_shape: Sequence[int]) -> Sequential:
    """A classifier for pictures of one size as a network for larger ones.

    The first dense layer after ``Flatten`` sees a whole map of features, so it is a
    convolution with filters of the map's size; later dense layers are 1×1 convolutions,
    and a global average is a mean over windows of that size. Slid over a larger image,
    each gives a map of outputs: one for each place at which the classifier could stand,
    as far apart as the product of the network's strides. On a picture of the old size
    the outputs are the classifier's.

    Where convolutions pad, the classifier would have seen zeros around its picture, and
    here sees the picture's surroundings: only without padding are the outputs the same
    as those for cut-out pictures.

    The layers are the model's own: weights are shared, and can be trained through
    either.

    Args:
        model: layers in a row, some of them perhaps rows themselves.
        in_shape: height, width and channels that the model was built for.

    Shapes: (n, h, w, c) -> (n, h', w', outputs), with h' = w' = 1 at the old size.

    Raises:
        OptionError: for a layer that has no meaning on larger images.

    Example:
        >>> import numpy as np
        >>> from chainrule import nn
        >>> net = nn.lenet5((32, 32, 1), 10)
        >>> fully_convolutional(net, (32, 32, 1))(np.ones((1, 64, 48, 1))).shape
        (1, 9, 5, 10)

    Source: Long, Shelhamer & Darrell, "Fully convolutional networks for semantic
    segmentation", 2015, section 3.1; toronto.
    """
    return _Conversion().of(model, tuple(in_shape))


class SlidingDense(Module):
    """A dense layer over windows of a map: a convolution with the layer's own weights.

    Args:
        dense: the layer, for flattened maps of ``size``.
        size: height and width of the maps that it was made for.

    Shapes: (n, h, w, c) -> (n, h - kh + 1, w - kw + 1, out).
    """

    def __init__(self, dense: Dense, size: tuple[int, int]) -> None:
        self.dense = dense
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        dense = self.dense
        filters = ops.reshape(dense.weight, (*self.size, -1, dense.out_features))
        y = ops.conv(x, filters)
        return y if dense.bias is None else y + dense.bias


class _Conversion:
    """A walk along the layers that remembers the map that was to be flattened."""

    flattened: tuple[int, ...] | None = None

    def of(self, model: Sequential, shape: tuple[int, ...]) -> Sequential:
        layers: dict[str, Module] = {}
        for name, layer in zip(model.names, model, strict=True):
            layers[name] = self._layer(name, layer, shape)
            shape = output_shape(layer, shape)
        return Sequential(**layers)

    def _layer(self, name: str, layer: Module, shape: tuple[int, ...]) -> Module:
        if isinstance(layer, Sequential):
            return self.of(layer, shape)
        if isinstance(layer, Flatten):
            self.flattened = shape
            return Sequential()
        if isinstance(layer, GlobalAveragePool):
            return AveragePool(shape[:-1], stride=1)
        if isinstance(layer, Dense) and self.flattened is not None:
            *size, channels = self.flattened
            if layer.in_features == math.prod(size) * channels and len(size) == 2:
                self.flattened = None
                return SlidingDense(layer, (size[0], size[1]))
        for inside in dict(layer.named_modules()).values():
            if isinstance(inside, _OF_ONE_SIZE):
                raise OptionError(
                    f"fully_convolutional: {name} is made for one size of images",
                    got=repr(inside),
                    expected="layers that slide over larger images",
                )
        return layer
