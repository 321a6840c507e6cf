"""VGG: nothing but 3×3 convolutions, deeper and deeper."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chainrule.nn.activations import ReLU
from chainrule.nn.containers import Sequential
from chainrule.nn.convolution import Conv
from chainrule.nn.module import Module
from chainrule.nn.pooling import MaxPool
from chainrule.nn.shape import Flatten
from chainrule.nn.summary import output_shape
from chainrule.nn.zoo.parts import classifier, picture_shape

__all__ = ["vgg", "vgg16"]


def vgg16(
    in_shape: Sequence[int] = (224, 224, 3),
    num_outputs: int = 1000,
    *,
    dropout: float = 0.5,
) -> Sequential:
    """VGG-16 of the paper (configuration D): 13 convolutions and three dense layers.

    With 224×224 pictures and 1000 classes it has 138,357,544 parameters, most of them
    in the first dense layer. Weights start by He's rule, which the paper did not know:
    it trained a shallower network first.

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Raises:
        ShapeError: for pictures below 32×32, of which nothing would be left.

    Source: Simonyan & Zisserman, "Very deep convolutional networks for large-scale
    image recognition", 2015, table 1.
    """
    blocks = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
    return _vgg("vgg16", in_shape, blocks, (4096, 4096), num_outputs, dropout)


def vgg(
    in_shape: Sequence[int], num_outputs: int, *, dropout: float = 0.5
) -> Sequential:
    """VGG in small: blocks of two 3×3 convolutions, then one hidden layer of 256.

    As many blocks as leave about 4×4 pixels, five at most, of 32, 64, 128, 256 and 256
    filters: half of VGG-13's.

    Args:
        in_shape: height, width and channels of a picture.
        num_outputs: the number of outputs; they are scores, without an activation.
        dropout: the rate at which the hidden layer's inputs are dropped in training.

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Example:
        >>> vgg((32, 32, 3), 10).num_parameters()
        814122

    Source: Simonyan & Zisserman, "Very deep convolutional networks for large-scale
    image recognition", 2015.
    """
    height, width, _ = picture_shape("vgg", in_shape)
    num_blocks = min(5, max(1, math.ceil(math.log2(min(height, width) / 4))))
    blocks = [(min(256, 32 * 2**i), 2) for i in range(num_blocks)]
    return _vgg("vgg", in_shape, blocks, (256,), num_outputs, dropout)


def _vgg(
    model: str,
    in_shape: Sequence[int],
    blocks: Sequence[tuple[int, int]],
    hidden: Sequence[int],
    num_outputs: int,
    dropout: float,
) -> Sequential:
    """Blocks of (filters, convolutions) with pooling after each, then dense layers."""
    *_, channels = picture_shape(model, in_shape)
    features: dict[str, Module] = {}
    for block, (wide, depth) in enumerate(blocks, start=1):
        for number in range(1, depth + 1):
            features[f"conv{block}_{number}"] = Conv(channels, wide, 3, padding=1)
            features[f"relu{block}_{number}"] = ReLU()
            channels = wide
        features[f"pool{block}"] = MaxPool(2)
    seen = Sequential(**features)
    in_features = math.prod(output_shape(seen, in_shape))
    return Sequential(
        features=seen,
        flatten=Flatten(),
        classifier=classifier(in_features, hidden, num_outputs, dropout),
    )
