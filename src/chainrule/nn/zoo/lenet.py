"""LeNet-5, the network that read cheques."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.nn.activations import activation as activation_layer
from chainrule.nn.affine import Bias, Dense, Scale
from chainrule.nn.containers import Sequential
from chainrule.nn.convolution import Conv
from chainrule.nn.module import Module
from chainrule.nn.pooling import AveragePool
from chainrule.nn.shape import Flatten
from chainrule.nn.summary import output_shape
from chainrule.nn.zoo.parts import picture_shape

__all__ = ["lenet5"]


def lenet5(
    in_shape: Sequence[int], num_outputs: int = 10, *, activation: str = "tanh"
) -> Sequential:
    """LeNet-5: two convolutions, each followed by subsampling, and three dense layers.

    For 28×28 or 32×32 grey pictures and 10 classes it has 61,750 parameters; the
    paper's has 60,000. Layers C1, S2, S4, C5 and F6 are the paper's: subsampling is a
    mean with a learned scale and offset for each map. Two things are not: every map of
    C3 sees all maps of S2, where the paper leaves out 900 weights, and the output is
    10 weighted sums (850 weights) for softmax, where the paper has the distances to
    fixed drawings of the characters. Squashing is plain tanh.

    Pictures smaller than 32×32 are padded by 2 on each side, as MNIST's 28×28 were.

    Args:
        in_shape: height, width and channels of a picture.
        num_outputs: the number of classes.
        activation: its name, see ``nn.activation``.

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Raises:
        ShapeError: for pictures below 12×12, of which nothing would be left.

    Example:
        >>> lenet5((28, 28, 1), 10).num_parameters()
        61750

    Source: LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to
    document recognition", 1998, section II.B.
    """
    height, width, channels = picture_shape("lenet5", in_shape)
    padding = 2 if min(height, width) < 32 else 0
    rule = "glorot_uniform"
    layers: dict[str, Module] = {
        "c1": Conv(channels, 6, 5, padding=padding, initializer=rule),
        "squash1": activation_layer(activation),
        "s2": _subsampling(6),
        "squash2": activation_layer(activation),
        "c3": Conv(6, 16, 5, initializer=rule),
        "squash3": activation_layer(activation),
        "s4": _subsampling(16),
        "squash4": activation_layer(activation),
        "flatten": Flatten(),
    }
    (in_features,) = output_shape(Sequential(**layers), in_shape)
    layers |= {
        "c5": Dense(in_features, 120),
        "squash5": activation_layer(activation),
        "f6": Dense(120, 84),
        "squash6": activation_layer(activation),
        "output": Dense(84, num_outputs),
    }
    return Sequential(**layers)


def _subsampling(channels: int) -> Sequential:
    return Sequential(mean=AveragePool(2), scale=Scale(channels), bias=Bias(channels))
