"""U-Net: from an image to an image, by what it shows and by where that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chainrule import ops
from chainrule.core.graph import Tensor
from chainrule.nn.activations import ReLU
from chainrule.nn.containers import Residual, Sequential
from chainrule.nn.convolution import Conv, ConvTranspose
from chainrule.nn.module import Module, check_sizes
from chainrule.nn.pooling import GlobalAveragePool, MaxPool
from chainrule.nn.zoo.parts import at_multiples, conv_norm, picture_shape, shortcut_to
from chainrule.ops.window import as_images

__all__ = ["unet", "unet_classifier"]


def unet(
    in_shape: Sequence[int],
    num_outputs: int,
    *,
    width: int = 64,
    depth: int = 4,
    residual: bool = False,
    normalized: bool = False,
) -> Module:
    """U-Net: numbers for every pixel, for images of any size.

    On the way down, pairs of 3×3 convolutions with ReLU see more and more of the image
    at half the size each time, with twice the filters; on the way up, each size is
    doubled by a transposed convolution and joined with what was there on the way down.

    With one channel, two outputs and the widths of the paper, 64 to 1024, it has
    31,030,658 parameters. Convolutions keep the image's size, where the paper's lose
    their border: pixels at the edge are seen with zeros around them, and the output is
    as large as the input. An image whose sides are no multiples of 2^depth is padded
    with zeros, and the output cropped.

    Args:
        in_shape: height, width and channels of a picture; only channels count.
        num_outputs: numbers for each pixel; scores, without an activation.
        width: filters at full size.
        depth: how often the size is halved.
        residual: whether the outputs are added to the first ``num_outputs`` channels of
            the input, as pictures are restored; they then start at 0.
        normalized: whether batches are normalised after each convolution, which the
            paper's are not.

    Shapes: (n, h, w, channels) -> (n, h, w, num_outputs).

    Example:
        >>> import numpy as np
        >>> unet((64, 64, 3), 2, width=4)(np.ones((1, 45, 70, 3))).shape
        (1, 45, 70, 2)

    Source: Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical
    image segmentation", 2015, figure 1.
    """
    *_, channels = picture_shape("unet", in_shape)
    sizes = channels, num_outputs, width, depth
    pair = _normalized_pair if normalized else _pair
    if not residual:
        return UNet(*sizes, pair=pair)
    body = UNet(*sizes, pair=pair, last="zeros")
    return Residual(body, shortcut_to("unet", channels, num_outputs))


def unet_classifier(
    in_shape: Sequence[int], num_outputs: int, *, width: int = 16, depth: int = 4
) -> Sequential:
    """U-Net as a classifier: the mean over the picture of every pixel's scores.

    A quarter of the paper's width, which a processor can train.

    Shapes: (n, *in_shape) -> (n, num_outputs).
    """
    pixels = unet(in_shape, num_outputs, width=width, depth=depth)
    return Sequential(pixels=pixels, average=GlobalAveragePool())


class UNet(Module):
    """See ``unet``."""

    def __init__(
        self,
        channels: int,
        num_outputs: int,
        width: int,
        depth: int,
        *,
        pair: Callable[[int, int], Sequential],
        last: str = "glorot_uniform",
    ) -> None:
        check_sizes("unet", num_outputs=num_outputs, width=width, depth=depth)
        widths = [width * 2**i for i in range(depth + 1)]
        before = [channels, *widths]
        self.down = [pair(a, b) for a, b in zip(before, widths, strict=False)]
        self.pool = MaxPool(2)
        self.up = [
            ConvTranspose(2 * wide, wide, 2, stride=2) for wide in reversed(widths[:-1])
        ]
        self.joined = [pair(2 * wide, wide) for wide in reversed(widths[:-1])]
        self.output = Conv(width, num_outputs, 1, initializer=last)

    def forward(self, x: Tensor) -> Tensor:
        images = as_images("unet", x, least=1)
        return at_multiples(2 ** len(self.up), images, self._layers)

    def _layers(self, x: Tensor) -> Tensor:
        seen = []
        y = x
        for pair in self.down[:-1]:
            y = pair(y)
            seen.append(y)
            y = self.pool(y)
        y = self.down[-1](y)
        for up, pair in zip(self.up, self.joined, strict=True):
            y = pair(ops.concatenate([seen.pop(), up(y)], axis=-1))
        return self.output(y)


def _pair(in_channels: int, out_channels: int) -> Sequential:
    return Sequential(
        conv1=Conv(in_channels, out_channels, 3, padding=1),
        relu1=ReLU(),
        conv2=Conv(out_channels, out_channels, 3, padding=1),
        relu2=ReLU(),
    )


def _normalized_pair(in_channels: int, out_channels: int) -> Sequential:
    return Sequential(
        first=conv_norm(in_channels, out_channels),
        second=conv_norm(out_channels, out_channels),
    )
