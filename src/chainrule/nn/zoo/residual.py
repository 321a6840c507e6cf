"""Residual networks: blocks that learn what to add to their input."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.nn.activations import ReLU
from chainrule.nn.affine import Dense
from chainrule.nn.containers import Residual, Sequential
from chainrule.nn.convolution import Conv
from chainrule.nn.module import Module
from chainrule.nn.normalization import BatchNorm
from chainrule.nn.pooling import GlobalAveragePool, MaxPool
from chainrule.nn.zoo.parts import conv_norm, picture_shape

__all__ = ["resnet", "resnet18", "resnet20", "resnet32"]

_SMALL = 64  # pixels; below, ResNet-18 begins without shrinking the picture


def resnet20(in_shape: Sequence[int], num_outputs: int) -> Sequential:
    """ResNet-20 for small pictures: three stages of three blocks, 16-32-64 filters.

    For CIFAR-10 it has 272,474 parameters. Where the shape changes, the shortcut is a
    1×1 convolution (the paper's option B); with the zeros of option A the paper counts
    0.27 million.

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Example:
        >>> resnet20((32, 32, 3), 10).num_parameters()
        272474

    Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2016,
    section 4.2.
    """
    return resnet(in_shape, num_outputs, widths=(16, 32, 64), blocks=3)


def resnet32(in_shape: Sequence[int], num_outputs: int) -> Sequential:
    """ResNet-32 for small pictures: three stages of five blocks, 16-32-64 filters.

    For CIFAR-10 it has 466,906 parameters (the paper: 0.46 million).

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2016,
    section 4.2.
    """
    return resnet(in_shape, num_outputs, widths=(16, 32, 64), blocks=5)


def resnet18(in_shape: Sequence[int], num_outputs: int) -> Sequential:
    """ResNet-18: four stages of two blocks, 64-128-256-512 filters.

    With 1000 classes it has 11,689,512 parameters. Pictures below 64 pixels begin with
    a 3×3 convolution, as in ``resnet20``, in the place of a 7×7 one and pooling, which
    would leave too little of them.

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2016,
    table 1.
    """
    height, width, channels = picture_shape("resnet18", in_shape)
    if min(height, width) < _SMALL:
        return resnet(in_shape, num_outputs, widths=(64, 128, 256, 512), blocks=2)
    stem = conv_norm(channels, 64, 7, stride=2)
    pool = MaxPool(3, stride=2, padding=1)
    return _resnet([stem, pool], (64, 128, 256, 512), 2, num_outputs)


def resnet(
    in_shape: Sequence[int],
    num_outputs: int,
    *,
    widths: Sequence[int] = (32, 64, 128),
    blocks: int = 2,
) -> Sequential:
    """A residual network for small pictures, as wide and as deep as one likes.

    A 3×3 convolution, stages of blocks of two 3×3 convolutions each, the mean of each
    channel, a weighted sum for each class. Every stage but the first begins by halving
    the picture. Convolutions have no bias, since batch normalisation follows each.

    Args:
        in_shape: height, width and channels of a picture.
        num_outputs: the number of outputs; they are scores, without an activation.
        widths: the filters of each stage.
        blocks: how many blocks a stage has; there are 2·blocks·stages + 2 layers.

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2016,
    section 4.2, with shortcuts of option B.
    """
    *_, channels = picture_shape("resnet", in_shape)
    return _resnet([conv_norm(channels, widths[0])], widths, blocks, num_outputs)


def _resnet(
    stem: Sequence[Module], widths: Sequence[int], blocks: int, num_outputs: int
) -> Sequential:
    layers: dict[str, Module] = {"stem": stem[0]}
    layers |= {f"pool{i}": layer for i, layer in enumerate(stem[1:], start=1)}
    channels = widths[0]
    for stage, wide in enumerate(widths, start=1):
        for number in range(1, blocks + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            layers[f"block{stage}_{number}"] = _block(channels, wide, stride)
            channels = wide
    layers["average"] = GlobalAveragePool()
    layers["output"] = Dense(channels, num_outputs)
    return Sequential(**layers)


def _block(in_channels: int, out_channels: int, stride: int) -> Sequential:
    """relu(body(x) + shortcut(x)), the shortcut projected where the shape changes."""
    body = Sequential(
        conv1=Conv(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        norm1=BatchNorm(out_channels),
        relu=ReLU(),
        conv2=Conv(out_channels, out_channels, 3, padding=1, bias=False),
        norm2=BatchNorm(out_channels),
    )
    shortcut = None
    if stride > 1 or in_channels != out_channels:
        shortcut = Sequential(
            conv=Conv(in_channels, out_channels, 1, stride=stride, bias=False),
            norm=BatchNorm(out_channels),
        )
    return Sequential(sum=Residual(body, shortcut), relu=ReLU())
