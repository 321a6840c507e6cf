"""The network that pictures get unless another is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chainrule.nn.affine import Dense
from chainrule.nn.containers import Sequential
from chainrule.nn.dropout import Dropout
from chainrule.nn.module import Module
from chainrule.nn.pooling import GlobalAveragePool, MaxPool
from chainrule.nn.zoo.parts import conv_norm, picture_shape

__all__ = ["cnn"]

_WIDEST = 128
_LARGE = 64  # pixels; pictures from here on are halved by the first convolution
_LAST = 8  # pixels that are about left for the last layers to look at


def cnn(
    in_shape: Sequence[int],
    num_outputs: int,
    *,
    activation: str = "relu",
    dropout: float = 0.0,
) -> Sequential:
    """A small network for pictures of any size: cheap to train, hard to get wrong.

    Stages of 3×3 convolutions with batch normalisation and ReLU, 32, 64, 128 ... of
    them, each at half the size of the one before, until about 8×8 pixels are left (4×4
    of pictures of 8×8); 128 more at that size; the mean of each channel over the
    picture, and a weighted sum for each class. Pictures of 64 pixels and more are
    halved by the first convolution already.

    Args:
        in_shape: height, width and channels of a picture.
        num_outputs: the number of outputs; they are scores, without an activation.
        activation: its name, see ``nn.activation``.
        dropout: the rate at which channels are dropped before the last layer.

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Raises:
        ShapeError: for what are no pictures; when run, for pictures below 2×2.

    Example:
        >>> cnn((28, 28, 1), 10).num_parameters(), cnn((32, 32, 3), 10).num_parameters()
        (241898, 242474)

    Source: the pieces are those of Simonyan & Zisserman, 2015 (3×3 stages), Ioffe &
    Szegedy, 2015 (normalisation) and Lin, Chen & Yan, 2014 (global average).
    """
    height, width, channels = picture_shape("cnn", in_shape)
    side = min(height, width)
    stride = 2 if side >= _LARGE else 1
    num_pools = max(1, math.ceil(math.log2(max(side / stride, 1) / _LAST)))
    layers: dict[str, Module] = {}
    for stage in range(num_pools + 1):
        wide = min(_WIDEST, 32 * 2**stage)
        layers[f"stage{stage + 1}"] = conv_norm(
            channels, wide, stride=1 if stage else stride, activation=activation
        )
        if stage < num_pools:
            layers[f"pool{stage + 1}"] = MaxPool(2)
        channels = wide
    layers["last"] = conv_norm(channels, _WIDEST, activation=activation)
    layers["average"] = GlobalAveragePool()
    if dropout:
        layers["dropout"] = Dropout(dropout)
    layers["output"] = Dense(_WIDEST, num_outputs)
    return Sequential(**layers)
