"""Down to a small map of what the picture shows, and up again to a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from chainrule.core.graph import Tensor
from chainrule.errors import OptionError
from chainrule.nn.activations import ReLU
from chainrule.nn.containers import Sequential
from chainrule.nn.convolution import Conv, ConvTranspose
from chainrule.nn.module import Module, check_sizes
from chainrule.nn.normalization import BatchNorm
from chainrule.nn.zoo.parts import at_multiples, picture_shape
from chainrule.ops.window import as_images

__all__ = ["encoder_decoder"]


def encoder_decoder(
    in_shape: Sequence[int],
    num_outputs: int,
    *,
    widths: Sequence[int] = (32, 64),
    normalized: bool = False,
) -> Module:
    """Convolutions that halve the picture, transposed ones that double it again.

    For each width a 3×3 convolution of stride 2, then as many transposed 4×4
    convolutions of stride 2, with ReLU between all. Nothing goes around the small map
    in the middle, so the network has to know what pictures look like. With one channel
    and the default widths it has four layers and 52,129 parameters.

    A picture whose sides are no multiples of 2^(number of widths) is padded with zeros,
    and the output cropped.

    Args:
        in_shape: height, width and channels of a picture; only channels count.
        num_outputs: numbers for each pixel, without an activation.
        widths: filters of the convolutions on the way down; on the way up they are
            the same backwards.
        normalized: whether batches are normalised after each layer but the last.

    Shapes: (n, h, w, channels) -> (n, h, w, num_outputs).

    Raises:
        OptionError: without any width.

    Example:
        >>> import numpy as np
        >>> encoder_decoder((28, 28, 1), 1)(np.ones((1, 45, 70, 1))).shape
        (1, 45, 70, 1)

    Source: Pathak, Krähenbühl, Donahue, Darrell & Efros, "Context encoders: feature
    learning by inpainting", 2016, section 3.1, without its layer that connects all
    places.
    """
    *_, channels = picture_shape("encoder_decoder", in_shape)
    return EncoderDecoder(channels, num_outputs, tuple(widths), normalized)


class EncoderDecoder(Module):
    """See ``encoder_decoder``."""

    def __init__(
        self,
        channels: int,
        num_outputs: int,
        widths: tuple[int, ...],
        normalized: bool,
    ) -> None:
        check_sizes("encoder_decoder", num_outputs=num_outputs)
        if not widths:
            raise OptionError(
                "encoder_decoder: no layers",
                got="widths=()",
                expected="the filters of each layer on the way down: (32, 64)",
            )
        down: dict[str, Module] = {}
        for number, (a, b) in enumerate(pairwise((channels, *widths)), start=1):
            down[f"conv{number}"] = Conv(
                a, b, 3, stride=2, padding=1, bias=not normalized
            )
            if normalized:
                down[f"norm{number}"] = BatchNorm(b)
            down[f"relu{number}"] = ReLU()
        up: dict[str, Module] = {}
        for number, (a, b) in enumerate(pairwise(reversed(widths)), start=1):
            up[f"conv{number}"] = ConvTranspose(
                a, b, 4, stride=2, padding=1, bias=not normalized
            )
            if normalized:
                up[f"norm{number}"] = BatchNorm(b)
            up[f"relu{number}"] = ReLU()
        up["output"] = ConvTranspose(
            widths[0], num_outputs, 4,
            stride=2, padding=1, initializer="glorot_uniform",
        )  # fmt: skip
        self.down = Sequential(**down)
        self.up = Sequential(**up)
        self.multiple = 2 ** len(widths)

    def forward(self, x: Tensor) -> Tensor:
        images = as_images("encoder_decoder", x, least=1)
        return at_multiples(self.multiple, images, lambda y: self.up(self.down(y)))
